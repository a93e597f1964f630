package keywrap

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Recipient is the public key of a guest: on its curve, of an accepted size and
// in its only encoding. It is a concrete type, not an interface: that two
// requests name one key is decided by its Thumbprint and nowhere else. The zero
// Recipient seals nothing. A Recipient is immutable and safe for concurrent use.
type Recipient struct {
	suite  Suite
	public []byte

	// Exactly one is set, by the suite.
	kem hpke.PublicKey
	ec  *ecdh.PublicKey
	rsa *rsa.PublicKey
}

// Parse parses the public key bytes of suite, as [Recipient.Bytes] returns
// them; it keeps a copy. The key is decoded, validated, encoded again and
// compared. For X25519, also as the last 32 bytes of a hybrid key, values of
// 2^255-19 or more, a set top bit and points of low order are refused by name,
// because encoding again would not notice them. Errors wrap ErrKey.
func Parse(suite Suite, public []byte, allow Allow) (Recipient, error) {
	if !slices.Contains(allow.Suites, suite) {
		return Recipient{}, fmt.Errorf("%w: suite not allowed", ErrKey)
	}
	r, err := decode(suite, public)
	if err != nil {
		return Recipient{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if r.rsa != nil && !allow.rsa(r.rsa.N.BitLen()) {
		return Recipient{}, fmt.Errorf("%w: size of modulus not allowed", ErrKey)
	}
	return r, nil
}

// rsa reports whether a modulus of bits is allowed.
func (a Allow) rsa(bits int) bool {
	return a.MinRSABits >= leastRSABits && bits >= a.MinRSABits
}

// decode returns the Recipient of the only encoding of a key of suite.
func decode(suite Suite, public []byte) (Recipient, error) {
	r := Recipient{suite: suite, public: bytes.Clone(public)}
	var again []byte
	var err error
	if p, ok := suite.hpke(); ok {
		if r.kem, err = p.kem.NewPublicKey(public); err == nil {
			again = r.kem.Bytes()
			err = p.checkPoint(public)
		}
	} else if c, ok := suite.jweCurve(); ok {
		if r.ec, err = c.curve.NewPublicKey(public); err == nil {
			again = r.ec.Bytes()
		}
	} else if suite == JWERSA {
		if r.rsa, err = parseRSA(public); err == nil {
			again = x509.MarshalPKCS1PublicKey(r.rsa)
		}
	} else {
		err = errors.New("unknown suite")
	}
	if err == nil && !bytes.Equal(again, public) {
		err = errors.New("not canonical")
	}
	if err != nil {
		return Recipient{}, err
	}
	return r, nil
}

// checkPoint returns an error if b, a public or encapsulated key, ends in an
// X25519 point that is not acceptable.
func (p hpkeParams) checkPoint(b []byte) error {
	if !p.x25519 {
		return nil
	}
	if len(b) < 32 {
		return errors.New("X25519: too short")
	}
	return checkX25519([32]byte(b[len(b)-32:]))
}

// checkX25519 refuses what X25519 takes for another point, and the five reduced
// points with which every shared secret is zero (order 1, 2, 4 or 8 on the curve
// or its twist). These are named, not tried with a scalar multiplication: the
// hybrid suite works where package crypto/ecdh refuses X25519
// (GODEBUG=fips140=only).
func checkX25519(u [32]byte) error {
	if u[31]&0x80 != 0 {
		return errors.New("X25519: top bit set")
	}
	if u[31] == 0x7f && u[0] >= 0xed && bytes.Count(u[1:31], []byte{0xff}) == 30 {
		return errors.New("X25519: not reduced")
	}
	switch u {
	case [32]byte{0}, [32]byte{1},
		[32]byte{
			0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
			0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
		},
		[32]byte{
			0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
			0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
		},
		[32]byte{
			0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
		}:
		return errors.New("X25519: point of low order")
	}
	return nil
}

// Suite returns the only way in which Seal encrypts to r, or "".
func (r Recipient) Suite() Suite { return r.suite }

// Bytes returns a copy of the public key: SEC1 uncompressed, raw X25519, DER
// RSAPublicKey, or as package crypto/hpke encodes it. It is nil for the zero
// Recipient.
func (r Recipient) Bytes() []byte { return bytes.Clone(r.public) }

// Thumbprint identifies the key: SHA-256("teebroker/v1/key" ‖ LP(suite) ‖
// LP(public)), with 4-byte big-endian lengths. Two Recipients are the same key
// if and only if it is equal. It is zero for the zero Recipient.
func (r Recipient) Thumbprint() [32]byte {
	if r.suite == "" {
		return [32]byte{}
	}
	b := []byte("teebroker/v1/key")
	b = appendLP(b, []byte(r.suite))
	b = appendLP(b, r.public)
	return sha256.Sum256(b)
}

// appendLP appends x and, before it, its length in four bytes.
func appendLP(b, x []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(x))), x...)
}

// XY returns the coordinates of a key on a NIST curve, each of the full length
// of the field (66 bytes for P-521), or false for any other key.
func (r Recipient) XY() (x, y []byte, ok bool) {
	switch r.suite {
	case P256, P384, JWEP256, JWEP384, JWEP521:
		n := (len(r.public) - 1) / 2
		return bytes.Clone(r.public[1 : 1+n]), bytes.Clone(r.public[1+n:]), true
	}
	return nil, nil, false
}

// Seal encrypts secret, at most MaxSecret bytes, for r alone. HPKE authenticates
// info (RFC 9180), and the guest opens only with the same info. JWE has no place
// for it that deployed clients check: with a JWE suite a non-empty info is an
// error, not ignored. The error of the zero Recipient wraps ErrKey.
func (r Recipient) Seal(secret, info []byte) (Sealed, error) {
	switch {
	case r.suite == "":
		return Sealed{}, fmt.Errorf("%w: none", ErrKey)
	case len(secret) > MaxSecret:
		return Sealed{}, errors.New("keywrap: secret too long")
	case r.kem != nil:
		return r.sealHPKE(secret, info)
	case len(info) != 0:
		return Sealed{}, errors.New("keywrap: a JWE can't carry info")
	}
	return r.sealJWE(secret)
}
