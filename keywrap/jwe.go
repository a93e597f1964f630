package keywrap

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/internal/strictjson"
)

const (
	ivSize  = 12
	tagSize = 16
)

// sealJWE implements Seal (RFC 7516 section 5.1).
func (r Recipient) sealJWE(secret []byte) (Sealed, error) {
	cek := make([]byte, cekSize)
	defer clear(cek)
	rand.Read(cek)
	s, header, err := r.wrapCEK(cek)
	if err != nil {
		return Sealed{}, fmt.Errorf("keywrap: %w", err)
	}
	s.protected = b64([]byte(header))
	gcm, err := newGCM(cek)
	if err != nil {
		return Sealed{}, fmt.Errorf("keywrap: %w", err)
	}
	out := gcm.Seal(nil, nil, secret, []byte(s.protected))
	tag := len(out) - tagSize
	s.iv, s.ciphertext, s.tag = out[:ivSize:ivSize], out[ivSize:tag:tag], out[tag:]
	return s, nil
}

// wrapCEK returns a Sealed with cek wrapped in it, and its header.
func (r Recipient) wrapCEK(cek []byte) (Sealed, string, error) {
	s := Sealed{suite: r.suite}
	c, ok := r.suite.jweCurve()
	if !ok {
		var err error
		s.key, err = wrapRSA(r.rsa, cek)
		return s, fmt.Sprintf(`{"alg":%q,"enc":%q}`, algRSA, encGCM), err
	}
	ephemeral, err := c.curve.GenerateKey(rand.Reader)
	if err != nil {
		return Sealed{}, "", err
	}
	s.epk = ephemeral.PublicKey()
	header, key, err := wrapECDH(c, r.ec, ephemeral, cek)
	s.key = key
	return s, header, err
}

// openJWE returns what undoes sealJWE (RFC 7516 section 5.2), where unwrap
// undoes wrapCEK.
func openJWE(unwrap func(Sealed) ([]byte, error)) func(Sealed, []byte) ([]byte, error) {
	return func(s Sealed, info []byte) ([]byte, error) {
		if len(info) != 0 {
			return nil, errors.New("a JWE has no info")
		}
		cek, err := unwrap(s)
		if err != nil {
			return nil, err
		}
		defer clear(cek)
		gcm, err := newGCM(cek)
		if err != nil {
			return nil, err
		}
		in := append(append(append(make([]byte, 0, ivSize+len(s.ciphertext)+tagSize), s.iv...), s.ciphertext...), s.tag...)
		return gcm.Open(nil, nil, in, []byte(s.protected))
	}
}

// newGCM returns the A256GCM of cek. Its output is IV, ciphertext and tag, in
// one: this is the only form that is allowed under GODEBUG=fips140=only.
func newGCM(cek []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// parseHeader returns the suite that a protected header names, and its ephemeral
// key if the suite has one. It must have the members that ours have and no
// other: no zip, crit, apu or kid. Their order is free, since what is
// authenticated is the header as received.
func parseHeader(header []byte) (Suite, *ecdh.PublicKey, error) {
	var h struct {
		Alg string          `json:"alg"`
		Enc string          `json:"enc"`
		EPK json.RawMessage `json:"epk"`
	}
	if err := strictjson.Unmarshal(header, &h); err != nil {
		return "", nil, err
	}
	switch {
	case h.Enc != encGCM:
	case h.Alg == algRSA && h.EPK == nil:
		return JWERSA, nil, nil
	case h.Alg == algECDH && h.EPK != nil:
		var e epk
		if err := strictjson.Unmarshal(h.EPK, &e); err != nil {
			return "", nil, err
		}
		return e.parse()
	}
	return "", nil, errors.New("header of no suite")
}
