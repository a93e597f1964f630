package provision

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/teebroker/teebroker/vtpm"
)

// ReadPCR returns the value of p, as package proof wants it.
func (t *TPM) ReadPCR(p vtpm.PCR) ([]byte, error) {
	if p.Bank != vtpm.SHA256 || p.Index < 0 || p.Index >= pcrs {
		return nil, fmt.Errorf("%w: not a PCR of SHA-256", ErrConfig)
	}
	got, err := tpm2.PCRRead{PCRSelectionIn: selection([]int{p.Index})}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("provision: TPM: %w", err)
	}
	if len(got.PCRValues.Digests) != 1 || len(got.PCRValues.Digests[0].Buffer) != sha256.Size {
		return nil, errors.New("provision: TPM: it does not have the PCR")
	}
	return got.PCRValues.Digests[0].Buffer, nil
}

// ExtendPCR extends p, of SHA-256, with a digest, as package proof wants it.
func (t *TPM) ExtendPCR(p vtpm.PCR, digest []byte) error {
	if p.Bank != vtpm.SHA256 || p.Index < 0 || p.Index >= pcrs || len(digest) != sha256.Size {
		return fmt.Errorf("%w: not a PCR of SHA-256", ErrConfig)
	}
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(p.Index), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest}}},
	}.Execute(t)
	if err != nil {
		return fmt.Errorf("provision: TPM: %w", err)
	}
	return nil
}
