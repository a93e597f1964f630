package keywrap

import (
	"crypto/hpke"
	"fmt"
)

// sealHPKE implements Seal in base mode (RFC 9180 section 5.1.1) with empty AAD.
func (r Recipient) sealHPKE(secret, info []byte) (Sealed, error) {
	p, _ := r.suite.hpke()
	enc, sender, err := hpke.NewSender(r.kem, p.kdf, hpke.AES256GCM(), info)
	if err != nil {
		return Sealed{}, fmt.Errorf("keywrap: %w", err)
	}
	ct, err := sender.Seal(nil, secret)
	if err != nil {
		return Sealed{}, fmt.Errorf("keywrap: %w", err)
	}
	return Sealed{suite: r.suite, key: enc, ciphertext: ct}, nil
}

// openHPKE returns what undoes sealHPKE with k.
func openHPKE(p hpkeParams, k hpke.PrivateKey) func(Sealed, []byte) ([]byte, error) {
	return func(s Sealed, info []byte) ([]byte, error) {
		r, err := p.receive(k, s.key, info)
		if err != nil {
			return nil, err
		}
		return r.Open(nil, s.ciphertext)
	}
}

// receive returns the context of the encapsulated key enc.
func (p hpkeParams) receive(k hpke.PrivateKey, enc, info []byte) (*hpke.Recipient, error) {
	// Package crypto/hpke validates points on NIST curves before it uses k. Of
	// X25519 it leaves that to k, which may be a token that does not.
	if err := p.checkPoint(enc); err != nil {
		return nil, err
	}
	return hpke.NewRecipient(enc, k, p.kdf, hpke.AES256GCM(), info)
}
