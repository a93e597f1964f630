// Package proof is the proof in a PCR, section 7 of the release protocol: a guest
// that was given the key of an epoch shows in its TPM for which release it started,
// so that a later quote tells the last start of a state from an older one, and from
// a clone.
//
// The guest extends a digest that only it has, once, and forgets it: [Extend]. The
// broker's receipt names the value that the PCR then has, so that whoever has a
// quote, the receipt and the broker's word on which release is live can compare
// them: [Check]. A verifier that can ask the broker by value has the same as a
// claim, which policies can require: [Releases].
//
// What it does not show: that the guest is still the one that was measured, which
// the other PCRs are for, and that a superseded guest has stopped: it goes on, and
// can't show the live release. docs/pcr-proof.md says more.
package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/vtpm"
)

// A Reason is a constant error that every failure of this package wraps.
type Reason string

// The Reasons. Of all of them a Relying Party has no proof.
const (
	BadPCR       Reason = "bad-pcr"       // not one that vtpm.PCR.CanProve
	NoQuote      Reason = "no-quote"      // not a verified quote that was bound and had all checks, linked to a TEE
	NotQuoted    Reason = "not-quoted"    // the quote is not over the PCR
	NotExtended  Reason = "not-extended"  // the PCR is as it was when the TPM started
	NoReceipt    Reason = "no-receipt"    // not a receipt of this broker, for this instance and purpose, of a purpose with epochs
	OtherRelease Reason = "other-release" // the PCR has another value: of another release, or extended more than once
	NotLive      Reason = "not-live"      // of a release that is pending, superseded, held or gone
	Unavailable  Reason = "unavailable"   // it is not known now which release is live
	Extended     Reason = "extended"      // the PCR is not zero, and a guest can extend it only once
)

// Error implements error.
func (r Reason) Error() string { return "proof: " + string(r) }

// Live returns the release of a purpose that is live, zero if none is: the broker's
// word, which protocol/v1.Client.Live asks for.
type Live func(ctx context.Context, tenant string, instance [16]byte, purpose string) (release [16]byte, err error)

// Want says whose proof is asked for. All fields are required.
type Want struct {
	PCR      vtpm.PCR // reserved for the proof in this image
	Broker   [32]byte // broker id, whose receipts are believed
	Tenant   string
	Instance [16]byte
	Purpose  string // with epochs, whose release the guest started with
	Live     Live
}

// Check returns the receipt of the live release that a quote proves its guest
// to be of. got is a result of vtpm.Verifier: a quote that the caller's challenge
// bound. receipt is that of the release or of its confirm, a compact JWS, from
// wherever: nothing of it is believed until its signature is. It compares the value
// of the PCR with the one that the receipt names, which one extension of zeros with
// the digest of that release gives and nothing else. Errors wrap a [Reason].
//
// A release can be superseded as soon as it was compared: Check again when it
// matters again.
func Check(ctx context.Context, got *evidence.Verified, receipt []byte, want Want) (teebroker.Receipt, error) {
	none := teebroker.Receipt{}
	if !want.PCR.CanProve() || want.Live == nil {
		return none, fmt.Errorf("%w: %v", BadPCR, want.PCR)
	}
	value, err := quoted(got, want.PCR)
	if err != nil {
		return none, err
	}
	r, err := teebroker.VerifyReceipt(receipt, want.Broker)
	switch {
	case err != nil:
		return none, fmt.Errorf("%w: %w", NoReceipt, err)
	case r.Tenant != want.Tenant || r.Instance != want.Instance || r.Purpose != want.Purpose:
		return none, fmt.Errorf("%w: of another tenant, instance or purpose", NoReceipt)
	case r.PCR == [32]byte{}:
		return none, fmt.Errorf("%w: of a purpose without epochs", NoReceipt)
	case r.PCR != value:
		return none, OtherRelease
	}
	live, err := want.Live(ctx, want.Tenant, want.Instance, want.Purpose)
	switch {
	case err != nil:
		return none, fmt.Errorf("%w: %w", Unavailable, err)
	case live == [16]byte{} || live != r.Release:
		return none, NotLive
	}
	return r, nil
}

// quoted returns the value of p in a quote that is good for something.
func quoted(got *evidence.Verified, p vtpm.PCR) ([32]byte, error) {
	c, ok := vtpm.ClaimsOf(got)
	switch {
	case !ok || got.Format != vtpm.Format || !got.Bound || len(got.Skipped) > 0:
		return [32]byte{}, NoQuote
	case c.Link != vtpm.LinkAK && c.Link != vtpm.LinkEK:
		return [32]byte{}, fmt.Errorf("%w: linked to no TEE", NoQuote)
	}
	value, ok := c.PCR(p)
	switch {
	case !ok || len(value) != 32:
		return [32]byte{}, NotQuoted
	case bytes.Equal([]byte(value), make([]byte, 32)):
		return [32]byte{}, NotExtended
	}
	return [32]byte([]byte(value)), nil
}

// Releases returns what lets a vtpm.Verifier say what a PCR shows, from the state
// of a broker.
func Releases(r teebroker.Releases) vtpm.Releases { return releases{r} }

type releases struct{ from teebroker.Releases }

// Shown implements [vtpm.Releases].
func (r releases) Shown(ctx context.Context, value [32]byte) (vtpm.Shown, error) {
	s, err := r.from.Shown(ctx, value)
	switch {
	case errors.Is(err, teebroker.NotAuthorized):
		return vtpm.Shown{}, nil
	case err != nil:
		return vtpm.Shown{}, err
	}
	return vtpm.Shown{Proof: vtpm.Proof(s.State), Release: s.Release, Tenant: s.Tenant, Instance: s.Instance, Purpose: s.Purpose}, nil
}
