package collateral

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// bundleType is the type of the statement in front of a bundle: kind and version.
const bundleType = "teebroker-bundle-1+jws"

// Limits of a bundle.
const (
	MaxBundle    = 64 << 20 // bytes
	maxStatement = 4 << 10  // bytes
	maxRecords   = 1 << 16
	maxBundled   = 256     // files
	maxOfFiles   = 4 << 20 // bytes of one
)

// Errors of [OpenBundle]. A Bundle that is not signed by a key given is never
// looked into.
var (
	ErrUnsigned = errors.New("collateral: bundle not signed by a given key")
	ErrRollback = errors.New("collateral: bundle of an earlier sequence than required")
)

// Names of files in bundles, by which the programs of this module know them.
const (
	CCAAnchorsFile = "cca-anchors.json" // JWK list, as cca.ParseAnchors reads it
	TCBFloorsFile  = "tcb-floors.json"  // as snp.DecodeTCBFloors reads it
)

// Contents are what is in a bundle.
type Contents struct {
	// Sequence counts the bundles of a site, from 1. A newer one has a higher
	// Sequence, so that who opens it can refuse to go back.
	Sequence uint64
	Created  time.Time // to the second

	Collateral Fixed
	Files      map[string][]byte // opaque documents by name, such as trust anchors of CCA
}

// statement is what the signature in front of a bundle is over.
type statement struct {
	Sequence uint64            `json:"sequence"`
	Created  time.Time         `json:"created"`
	Size     uint64            `json:"size"`
	SHA384   strictjson.Base64 `json:"sha384"`
}

type (
	wireBundle struct {
		Collateral []record   `json:"collateral"`
		Files      []wireFile `json:"files"`
	}
	wireFile struct {
		Name string            `json:"name"`
		Data strictjson.Base64 `json:"data"`
	}
)

// MakeBundle returns a bundle of c, signed by signer, an ECDSA key on P-384 that
// may be in a token. It is an error if c is beyond the limits that OpenBundle has.
//
// A bundle is one line, a compact JWS (RFC 7515, ES384) of type
// "teebroker-bundle-1+jws" over sequence, creation, size and SHA-384 of what
// follows; and then one JSON object. docs/collateral.md has all of it.
func MakeBundle(signer crypto.Signer, c Contents) ([]byte, error) {
	if c.Sequence == 0 || c.Created.IsZero() {
		return nil, errors.New("collateral: bundle without sequence or creation")
	}
	w := wireBundle{Collateral: []record{}, Files: []wireFile{}}
	for _, name := range slices.Sorted(maps.Keys(c.Collateral)) {
		for _, x := range c.Collateral[name] {
			w.Collateral = append(w.Collateral, record{Name: name, Data: x.Data, Issuer: x.Issuer})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		w.Files = append(w.Files, wireFile{name, c.Files[name]})
	}
	if err := w.check(); err != nil {
		return nil, fmt.Errorf("collateral: bundle: %w", err)
	}
	body, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	sum := sha512.Sum384(body)
	said, err := json.Marshal(statement{c.Sequence, c.Created.UTC().Truncate(time.Second), uint64(len(body)), sum[:]})
	if err != nil {
		return nil, err
	}
	token, err := jws.Sign(signer, bundleType, said)
	if err != nil {
		return nil, err
	}
	b := slices.Concat(token, []byte("\n"), body)
	if len(b) > MaxBundle {
		return nil, fmt.Errorf("collateral: bundle of more than %d bytes", MaxBundle)
	}
	return b, nil
}

func (w wireBundle) check() error {
	if len(w.Collateral) > maxRecords || len(w.Files) > maxBundled {
		return fmt.Errorf("more than %d pieces of collateral or %d files", maxRecords, maxBundled)
	}
	for _, r := range w.Collateral {
		if r.Kind != "" {
			return errors.New("record of a cache")
		}
		if err := r.check(); err != nil {
			return fmt.Errorf("%.80q: %w", r.Name, err)
		}
	}
	seen := map[string]bool{}
	for _, f := range w.Files {
		if !isName(f.Name) || len(f.Data) > maxOfFiles || seen[f.Name] {
			return fmt.Errorf("%.80q: not the name of one file of at most %d bytes", f.Name, maxOfFiles)
		}
		seen[f.Name] = true
	}
	return nil
}

// Bundle is a signed file with everything that a site needs to verify without a
// network. It is an evidence.Source, immutable and safe for concurrent use. The
// zero Bundle has nothing.
//
// That it is signed says who put it together. What is in it is unverified as that
// of any Source: Verifiers look for the vendor's signatures, and for what has ended.
type Bundle struct {
	said  statement
	found Fixed
	files map[string][]byte
}

// OpenBundle parses b, which must be signed by one of keys: *ecdsa.PublicKey on
// P-384. An error wraps [ErrUnsigned] if it is not, and so with no keys. It does
// not keep b.
func OpenBundle(b []byte, keys ...crypto.PublicKey) (*Bundle, error) {
	return OpenBundleSince(b, 0, keys...)
}

// OpenBundleSince is OpenBundle for a site that has seen a bundle: an error wraps
// [ErrRollback] if that of b has a lower sequence. The caller keeps the highest
// [Bundle.Sequence] that it was given.
func OpenBundleSince(b []byte, sequence uint64, keys ...crypto.PublicKey) (*Bundle, error) {
	if len(b) > MaxBundle {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrUnsigned, MaxBundle)
	}
	token, body, ok := bytes.Cut(b, []byte("\n"))
	if !ok || len(token) > maxStatement {
		return nil, fmt.Errorf("%w: no line with a signature", ErrUnsigned)
	}
	said, err := stated(token, keys)
	if err != nil {
		return nil, err
	}
	sum := sha512.Sum384(body)
	if said.Size != uint64(len(body)) || !bytes.Equal(said.SHA384, sum[:]) {
		return nil, fmt.Errorf("%w: signed for another content", ErrUnsigned)
	}
	if said.Sequence < sequence {
		return nil, fmt.Errorf("%w: %d, not %d", ErrRollback, said.Sequence, sequence)
	}
	var w wireBundle
	if err := strictjson.Unmarshal(body, &w); err != nil {
		return nil, fmt.Errorf("collateral: bundle: %w", err)
	}
	if err := w.check(); err != nil {
		return nil, fmt.Errorf("collateral: bundle: %w", err)
	}
	return w.open(said), nil
}

// stated returns what one of keys signed.
func stated(token []byte, keys []crypto.PublicKey) (statement, error) {
	for i, key := range keys {
		pub, ok := key.(*ecdsa.PublicKey)
		if !ok || pub == nil {
			return statement{}, fmt.Errorf("%w: key %d is not one of ECDSA", ErrUnsigned, i+1)
		}
		id, err := jws.Thumbprint(pub)
		if err != nil {
			return statement{}, fmt.Errorf("%w: key %d: %w", ErrUnsigned, i+1, err)
		}
		payload, err := jws.Verify(token, bundleType, id)
		if err != nil {
			continue
		}
		var said statement
		if err := strictjson.Unmarshal(payload, &said); err != nil {
			return statement{}, fmt.Errorf("collateral: bundle: %w", err)
		}
		if said.Sequence == 0 || said.Created.IsZero() {
			return statement{}, errors.New("collateral: bundle without sequence or creation")
		}
		return said, nil
	}
	return statement{}, ErrUnsigned
}

func (w wireBundle) open(said statement) *Bundle {
	b := &Bundle{said: said, found: Fixed{}, files: map[string][]byte{}}
	for _, r := range w.Collateral {
		b.found[r.Name] = append(b.found[r.Name], r.collateral())
	}
	for _, f := range w.Files {
		b.files[f.Name] = f.Data
	}
	return b
}

// Get implements [evidence.Source]. What it returns shares memory with b and must
// not be modified.
func (b *Bundle) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	return b.found.Get(ctx, name)
}

// File returns a copy of a file that b carries beside collateral, such as the
// trust anchors of a CCA site, or false. Format packages parse it.
func (b *Bundle) File(name string) ([]byte, bool) {
	f, ok := b.files[name]
	return slices.Clone(f), ok
}

// Files yields the names of all files, sorted, and their sizes in bytes.
func (b *Bundle) Files() iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		for _, name := range slices.Sorted(maps.Keys(b.files)) {
			if !yield(name, len(b.files[name])) {
				return
			}
		}
	}
}

// Sequence returns which of a site's bundles b is.
func (b *Bundle) Sequence() uint64 { return b.said.Sequence }

// Created returns when b was made, as its maker says.
func (b *Bundle) Created() time.Time { return b.said.Created }

// Forecast returns what of b expires when.
func (b *Bundle) Forecast() Forecast { return b.found.Forecast() }
