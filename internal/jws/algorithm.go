package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"errors"
	"math/big"
)

// algorithm is one of RFC 7518 section 3.4. A key has one, by its curve, and a
// header can only agree.
type algorithm struct {
	name, crv string
	hash      crypto.Hash
	size      int // bytes of x, y, r and s
}

func es256() algorithm { return algorithm{"ES256", "P-256", crypto.SHA256, 32} }
func es384() algorithm { return algorithm{"ES384", "P-384", crypto.SHA384, 48} }

// algorithmOf returns the algorithm of pub.
func algorithmOf(pub *ecdsa.PublicKey) (algorithm, error) {
	//lint:ignore SA1019 without coordinates, Bytes would panic
	if pub != nil && pub.X != nil && pub.Y != nil {
		switch pub.Curve {
		case elliptic.P256():
			return es256(), nil
		case elliptic.P384():
			return es384(), nil
		}
	}
	return algorithm{}, errors.New("jws: not an ECDSA key on P-256 or P-384")
}

func (a algorithm) digest(b []byte) []byte {
	if a.hash == crypto.SHA256 {
		sum := sha256.Sum256(b)
		return sum[:]
	}
	sum := sha512.Sum384(b)
	return sum[:]
}

// raw returns r ‖ s of an ASN.1 signature.
func (a algorithm) raw(der []byte) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &sig)
	if err != nil || len(rest) > 0 {
		return nil, errors.New("jws: signer returned no ECDSA signature")
	}
	for _, n := range []*big.Int{sig.R, sig.S} {
		if n.Sign() <= 0 || n.BitLen() > 8*a.size {
			return nil, errors.New("jws: signer returned no ECDSA signature")
		}
	}
	out := make([]byte, 2*a.size)
	sig.R.FillBytes(out[:a.size])
	sig.S.FillBytes(out[a.size:])
	return out, nil
}
