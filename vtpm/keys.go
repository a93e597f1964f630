package vtpm

import (
	"bytes"
	"errors"

	"github.com/teebroker/teebroker/evidence"
)

// ParseEK parses the TPM2B_PUBLIC of an endorsement key, which has to be of EK
// template L-1 or L-2. Nothing vouches for it yet. Errors wrap an
// [*evidence.Error].
func ParseEK(b []byte) (Public, error) {
	ek, err := ParsePublic(b)
	if err == nil {
		err = ek.checkEK()
	}
	if err != nil {
		return Public{}, err
	}
	return ek, nil
}

// ParseAK parses the TPM2B_PUBLIC of an attestation key: a restricted signing key of
// RSASSA or ECDSA that was made in its TPM and stays in it, as far as its attributes
// say so. They are true of a key whose Name was in an answered [MakeCredential].
// Errors wrap an [*evidence.Error].
func ParseAK(b []byte) (Public, error) {
	ak, err := ParsePublic(b)
	if err == nil {
		err = ak.checkAK()
	}
	if err != nil {
		return Public{}, err
	}
	return ak, nil
}

// VerifyQuote returns the quote in raw, see [ParseQuote], if the attestation key p
// signed it for want, which it has in the forms that a [Verifier] takes. What the
// PCRs are, and what p is linked to, is left open. Errors wrap an
// [*evidence.Error].
func (p Public) VerifyQuote(raw []byte, want evidence.Binding) (Quote, error) {
	if err := p.checkAK(); err != nil {
		return Quote{}, err
	}
	q, err := ParseQuote(bytes.Clone(raw[:min(len(raw), maxRaw)]))
	if err != nil {
		return Quote{}, err
	}
	if err := q.checkBinding(want); err != nil {
		return Quote{}, err
	}
	if !p.signs(q) || !q.signedBy(p.Key) {
		return Quote{}, fail(checkSignature, evidence.BadSignature, "signature", errors.New("not of this AK"))
	}
	return q, nil
}
