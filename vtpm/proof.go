package vtpm

import (
	"bytes"
	"context"
	"errors"

	"github.com/teebroker/teebroker/evidence"
)

// Proof says what the PCR of Config.ProofPCR shows of the release that the guest
// started with: section 7 of the release protocol.
type Proof string

// The Proofs. Of all but ProofLive a Relying Party that asks for a proof has none.
const (
	ProofLive        Proof = "live"         // of the last release that was confirmed, and none came after
	ProofPending     Proof = "pending"      // of the last release, whose guest did not confirm yet
	ProofSuperseded  Proof = "superseded"   // of a release that another one followed: an older start, or a clone of it
	ProofHeld        Proof = "held"         // of a purpose that is held, or retired
	ProofUnknown     Proof = "unknown"      // of no release that is known: another value, or extended twice
	ProofNotExtended Proof = "not-extended" // the PCR is as it was when the TPM started
	ProofNotQuoted   Proof = "not-quoted"   // the quote is not over the PCR
)

// Shown is the release that a PCR shows. The zero Shown is none.
type Shown struct {
	Proof    Proof // ProofLive, ProofPending, ProofSuperseded or ProofHeld
	Release  [16]byte
	Tenant   string
	Instance [16]byte
	Purpose  string
}

// Releases says of which release a value is. It is safe for concurrent use. A
// broker implements it with what it released; package proof has an adapter.
type Releases interface {
	// Shown returns the release whose guest makes value, 32 bytes, of a SHA-256 PCR
	// that was zero, or the zero Shown. An error means that it is not known now.
	Shown(ctx context.Context, value [32]byte) (Shown, error)
}

// CanProve reports whether p can be a Config.ProofPCR: PCR 0 to 15 of SHA-256.
// Others are not zero when a TPM starts, or can be reset while it runs.
func (p PCR) CanProve() bool { return p.Bank == SHA256 && p.Index >= 0 && p.Index < firstResettable }

const firstResettable = 16 // TCG PC Client Platform Firmware Profile, section 3.3.4

// prove finds out what the PCR shows.
func (v *Verifier) prove(ctx context.Context, c *Claims) error {
	if v.cfg.Releases == nil {
		return nil
	}
	value, quoted := c.PCR(v.cfg.ProofPCR)
	switch {
	case !quoted:
		c.Proof = ProofNotQuoted
		return nil
	case bytes.Equal([]byte(value), make([]byte, len(value))):
		c.Proof = ProofNotExtended
		return nil
	}
	shown, err := v.cfg.Releases.Shown(ctx, [32]byte([]byte(value)))
	switch {
	case err != nil:
		return fail(checkProof, evidence.Unavailable, PCRs, err)
	case shown == Shown{}:
		c.Proof = ProofUnknown
	case shown.Proof != ProofLive && shown.Proof != ProofPending && shown.Proof != ProofSuperseded && shown.Proof != ProofHeld:
		return fail(checkProof, evidence.Unavailable, PCRs, errors.New("an answer that is none"))
	default:
		c.Proof, c.Shown = shown.Proof, shown
	}
	return nil
}

// proofClaims are what the PCR shows, if anybody asked.
func (c *Claims) proofClaims() []claim {
	if c.Proof == "" {
		return nil
	}
	cs := []claim{text("vtpm.proof", c.Proof)}
	if s := c.Shown; s != (Shown{}) {
		cs = append(
			cs, octets("vtpm.proof.release", s.Release[:]), text("vtpm.proof.tenant", s.Tenant),
			octets("vtpm.proof.instance", s.Instance[:]), text("vtpm.proof.purpose", s.Purpose),
		)
	}
	return cs
}
