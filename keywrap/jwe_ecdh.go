package keywrap

import (
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/internal/strictjson"
)

const (
	algECDH = "ECDH-ES+A256KW"
	algRSA  = "RSA-OAEP-256"
	encGCM  = "A256GCM"

	cekSize        = 32          // A256GCM
	wrappedCEKSize = cekSize + 8 // A256KW
)

// epk is an ephemeral public key as a header has it.
type epk struct {
	Crv string            `json:"crv"`
	Kty string            `json:"kty"`
	X   strictjson.Base64 `json:"x"`
	Y   strictjson.Base64 `json:"y"`
}

// wrapECDH wraps cek for pub as ECDH-ES+A256KW (RFC 7518 section 4.6) and
// returns the header that says so.
//
// Clients in Rust parse the header and compute the authenticated data from it
// anew. They come to these bytes, with members in this order and no spaces, and
// to no other: a header that is as correct but different is one they can't open.
func wrapECDH(c jweCurve, pub *ecdh.PublicKey, ephemeral *ecdh.PrivateKey, cek []byte) (header string, wrapped []byte, err error) {
	kek, err := agree(ephemeral, pub)
	if err != nil {
		return "", nil, err
	}
	defer clear(kek)
	if wrapped, err = wrapAES(kek, cek); err != nil {
		return "", nil, err
	}
	x, y := coordinates(ephemeral.PublicKey().Bytes())
	return fmt.Sprintf(`{"alg":%q,"enc":%q,"epk":{"crv":%q,"kty":"EC","x":%q,"y":%q}}`, algECDH, encGCM, c.crv, b64(x), b64(y)), wrapped, nil
}

// unwrapECDH undoes wrapECDH. That epk is on the curve of the suite, and wrapped
// of the length of a wrapped content key, was seen when they were parsed, before
// k, which may be in a token, computes with them.
func unwrapECDH(k ecdh.KeyExchanger, epk *ecdh.PublicKey, wrapped []byte) ([]byte, error) {
	kek, err := agree(k, epk)
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	return unwrapAES(kek, wrapped)
}

// agree returns the key-encryption key that k and pub have in common.
func agree(k ecdh.KeyExchanger, pub *ecdh.PublicKey) ([]byte, error) {
	z, err := k.ECDH(pub)
	if err != nil {
		return nil, err
	}
	defer clear(z)
	return concatKDF(z), nil
}

// concatKDF derives the key of A256KW from the shared secret z, which is of the
// full length of the field: Concat KDF with SHA-256 (RFC 7518 section 4.6.2),
// of which one round gives the 256 bits, with empty apu and apv.
func concatKDF(z []byte) []byte {
	h := sha256.New()
	h.Write([]byte{0, 0, 0, 1})
	h.Write(z)
	h.Write(appendLP(nil, []byte(algECDH)))
	h.Write([]byte{0, 0, 0, 0}) // PartyUInfo
	h.Write([]byte{0, 0, 0, 0}) // PartyVInfo
	h.Write([]byte{0, 0, 1, 0}) // SuppPubInfo: 256 bits
	return h.Sum(nil)
}

// parse returns the suite of the curve that e names, and the point on it.
func (e epk) parse() (Suite, *ecdh.PublicKey, error) {
	suite := suiteOfCurve(e.Crv)
	point, err := e.point(suite)
	if err != nil {
		return "", nil, err
	}
	c, _ := suite.jweCurve()
	pub, err := c.curve.NewPublicKey(point)
	return suite, pub, err
}

// point returns e as an uncompressed point. It may be off the curve.
func (e epk) point(suite Suite) ([]byte, error) {
	c, ok := suite.jweCurve()
	if !ok || e.Kty != "EC" {
		return nil, errors.New("unknown curve")
	}
	if len(e.X) != c.size || len(e.Y) != c.size {
		return nil, errors.New("length of a coordinate")
	}
	return append(append([]byte{4}, e.X...), e.Y...), nil
}

// coordinates returns the halves of an uncompressed point.
func coordinates(point []byte) (x, y []byte) {
	n := (len(point) - 1) / 2
	return point[1 : 1+n], point[1+n:]
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
