package proof

import (
	"crypto/subtle"
	"fmt"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/vtpm"
)

// TPM is what [Extend] needs of a TPM.
type TPM interface {
	// ReadPCR returns the value of p: TPM2_PCR_Read.
	ReadPCR(p vtpm.PCR) ([]byte, error)

	// ExtendPCR extends p, in its bank and no other, with a digest as long as those of
	// the bank: TPM2_PCR_Extend. It writes no log.
	ExtendPCR(p vtpm.PCR, digest []byte) error
}

// Extend extends p with d, which is guest.Opened.PCR, and erases d, also if it
// fails: nobody can do it a second time. It is the first thing that a guest does
// once the broker acknowledged its state, before anything runs that could be
// somebody else's: p has to be zero, and is Extended if it is not. p is one that
// vtpm.PCR.CanProve, reserved for this in the image, and every start of the guest
// extends the same. Errors wrap a [Reason] or what t failed with.
//
// A guest that can't extend does not go on: it could not be told from a clone.
func Extend(t TPM, p vtpm.PCR, d *[32]byte) error {
	defer clear(d[:])
	if !p.CanProve() {
		return fmt.Errorf("%w: %v", BadPCR, p)
	}
	before, err := t.ReadPCR(p)
	if err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	if subtle.ConstantTimeCompare(before, make([]byte, len(d))) != 1 {
		return Extended
	}
	if err := t.ExtendPCR(p, d[:]); err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	want := teebroker.PCRValue(*d)
	after, err := t.ReadPCR(p)
	if err != nil {
		return fmt.Errorf("proof: %w", err)
	}
	if subtle.ConstantTimeCompare(after, want[:]) != 1 {
		return OtherRelease
	}
	return nil
}
