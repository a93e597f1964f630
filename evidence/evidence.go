// Package evidence defines the words every TEE format shares: Evidence as it
// arrives, Evidence once authenticated, and why authentication failed. Terms
// follow RFC 9334. Nothing here is specific to one TEE, and nothing does I/O.
package evidence

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"iter"
	"time"
)

// A Format names one wire encoding of Evidence, such as "snp-report".
type Format string

// Evidence is what an Attester sent. Nothing in it may be believed until a
// [Verifier] returns a [Verified] for it.
type Evidence struct {
	Format Format
	Raw    []byte // exactly as signed; never re-encoded

	// Items are what came along: certificates, event logs, manifests, runtime
	// data, init-data. Each is believed only as far as a signature or a signed
	// digest reaches it. An Item of a type the Verifier does not know, or two
	// of one type where one is allowed, is Malformed.
	Items []Item

	// Layers are the Evidence this Evidence rests on, nearest first: for a
	// vTPM quote, the report of the TEE that runs the vTPM.
	Layers []Evidence
}

// An Item is one unsigned companion of Evidence. Types are constants of the
// format packages, such as snp.CertTable and tdx.CCEL; they are stable on the wire.
type Item struct {
	Type string
	Data []byte
}

// Binding is the value the Attester must have had signed: the digest that ties
// Evidence to a challenge and a key. It keeps its length, 1 to 64 bytes, because
// formats differ: SNP, TDX and CCA sign it zero-padded to 64 bytes, a TPM quote
// signs it as it is. The zero Binding matches nothing.
type Binding struct {
	b         [64]byte
	n         uint8
	unchecked bool
}

// NewBinding returns the Binding for sum, which must be 1 to 64 bytes and not
// all zero. It never truncates.
func NewBinding(sum []byte) (Binding, error) {
	var b Binding
	if len(sum) == 0 || len(sum) > len(b.b) || len(bytes.Trim(sum, "\x00")) == 0 {
		return Binding{}, fmt.Errorf("evidence: no binding of %d bytes", len(sum))
	}
	b.n = uint8(copy(b.b[:], sum))
	return b, nil
}

// UncheckedBindingUnsafe returns a Binding that everything matches, for tools
// that read stored Evidence. The result says nothing about freshness or about
// who sent it: [Verified.Bound] is false and an appraisal refuses it.
func UncheckedBindingUnsafe() Binding { return Binding{unchecked: true} }

// Checked reports whether b is a value to be compared, not unchecked or zero.
func (b Binding) Checked() bool { return b.n > 0 && !b.unchecked }

// Bytes returns a copy of the bytes given to [NewBinding], or nil.
func (b Binding) Bytes() []byte { return append([]byte(nil), b.b[:b.n]...) }

// MatchPadded reports, in constant time, whether field holds b and then zeros.
func (b Binding) MatchPadded(field *[64]byte) bool {
	return b.unchecked || b.n > 0 && subtle.ConstantTimeCompare(b.b[:], field[:]) == 1
}

// MatchExact reports, in constant time, whether field is b and nothing else.
func (b Binding) MatchExact(field []byte) bool {
	return b.unchecked || b.n > 0 && subtle.ConstantTimeCompare(b.b[:b.n], field) == 1
}

// A Verifier authenticates Evidence.
type Verifier interface {
	// Verify checks that ev was produced by genuine hardware, that every
	// certificate and piece of collateral it relied on is valid now, and that
	// want was signed. It returns a non-nil Verified if and only if the error
	// is nil; errors wrap an [*Error]. Evidence of a Format the Verifier does
	// not handle is Unsupported.
	//
	// Verify neither modifies nor keeps ev: a Verified shares no memory with
	// it. It is safe for concurrent use. It does not appraise: a Verified may
	// still describe a debuggable or outdated Attester.
	Verify(ctx context.Context, ev Evidence, want Binding) (*Verified, error)
}

// Verifiers is a Verifier that passes Evidence to the one for its Format. It
// must not be modified while in use.
type Verifiers map[Format]Verifier

// Verify implements [Verifier].
func (vs Verifiers) Verify(ctx context.Context, ev Evidence, want Binding) (*Verified, error) {
	v := vs[ev.Format]
	if v == nil {
		return nil, &Error{Format: ev.Format, Reason: Unsupported, Field: "format"}
	}
	got, err := v.Verify(ctx, ev, want)
	switch {
	case err != nil:
		return nil, err
	case got == nil || got.Format != ev.Format:
		return nil, &Error{Format: ev.Format, Reason: Unsupported, Field: "format", Err: errors.New("verifier answered for another format")}
	}
	return got, nil
}

// Verified is authenticated Evidence: input to appraisal, not an Attestation
// Result. It is made by Verifiers; the broker takes Evidence, never a Verified.
type Verified struct {
	Format Format
	Claims Claims

	// Bound is true if the signed value was compared and matched. Signed is
	// that value as found in the Evidence, never as it was asked for.
	Bound  bool
	Signed []byte

	// Root is SHA-256 of the trust anchor the signature chains to: of the DER
	// certificate, or of the SubjectPublicKeyInfo where the anchor is a bare
	// key. Receipts name it, and by it a broker knows a simulated platform.
	Root [32]byte

	// Layers are the results for Evidence.Layers, in order. Their Binding was
	// derived from this layer's Evidence, so freshness is judged here, not there.
	Layers []*Verified

	// Skipped names the checks the Verifier's Config left out, such as
	// "revocation". An appraisal refuses what its policy does not expressly
	// allow, and a broker refuses them whatever a policy says.
	Skipped []string

	// CheckedAt is when validity was evaluated. NotAfter is the earliest
	// expiry of any certificate, CRL or collateral relied on, Layers included.
	CheckedAt, NotAfter time.Time
}

// Claims are what the hardware asserted and what its endorsements say of it.
// Each format package has one implementation, reached with its ClaimsOf.
type Claims interface {
	// All yields every claim once, in a fixed order, under its stable name.
	All() iter.Seq2[string, Value]
}
