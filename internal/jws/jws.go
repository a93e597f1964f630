// Package jws signs and verifies compact JWS (RFC 7515) in the one way that the
// release protocol has: ES384, the signer's key and an explicit type in the
// protected header, nothing else in it, and one spelling of everything.
package jws

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// MaxSize is the most bytes of a token that Verify looks at.
const MaxSize = 64 << 10

// ErrInvalid is wrapped by every failure of Verify. They are not told apart.
var ErrInvalid = errors.New("jws: invalid")

const coordinate = 48 // bytes of x, y, r and s on P-384

// header is the protected header. Its members are in the order of their names,
// so that those of jwk are the input of RFC 7638 as they stand.
type header struct {
	Alg string `json:"alg"`
	JWK jwk    `json:"jwk"`
	Typ string `json:"typ"`
}

type jwk struct {
	Crv string            `json:"crv"`
	Kty string            `json:"kty"`
	X   strictjson.Base64 `json:"x"`
	Y   strictjson.Base64 `json:"y"`
}

// Public returns the key of signer, which must be on P-384.
func Public(signer crypto.Signer) (*ecdsa.PublicKey, error) {
	pub, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok || pub == nil || pub.Curve != elliptic.P384() {
		return nil, errors.New("jws: not an ECDSA key on P-384")
	}
	return pub, nil
}

// Thumbprint returns the RFC 7638 thumbprint of pub, with SHA-256.
func Thumbprint(pub *ecdsa.PublicKey) ([32]byte, error) {
	k, err := newJWK(pub)
	if err != nil {
		return [32]byte{}, err
	}
	b, err := json.Marshal(k)
	return sha256.Sum256(b), err
}

// Sign returns payload as a compact JWS of type typ. The signer may be in a
// token; its signature is ASN.1, as of any ECDSA crypto.Signer.
func Sign(signer crypto.Signer, typ string, payload []byte) ([]byte, error) {
	pub, err := Public(signer)
	if err != nil {
		return nil, err
	}
	protected, err := protect(pub, typ)
	if err != nil {
		return nil, err
	}
	token := appendPart(append(protected, '.'), payload)
	digest := sha512.Sum384(token)
	der, err := signer.Sign(rand.Reader, digest[:], crypto.SHA384)
	if err != nil {
		return nil, fmt.Errorf("jws: sign: %w", err)
	}
	sig, err := raw(der)
	if err != nil {
		return nil, err
	}
	return appendPart(append(token, '.'), sig), nil
}

// Verify returns the payload of token, which must be of type typ and signed by
// the key with this thumbprint.
func Verify(token []byte, typ string, thumbprint [32]byte) ([]byte, error) {
	if len(token) > MaxSize {
		return nil, fmt.Errorf("%w: size", ErrInvalid)
	}
	parts := bytes.SplitN(token, []byte("."), 4)
	if len(parts) != 3 {
		return nil, fmt.Errorf("%w: shape", ErrInvalid)
	}
	pub, err := signerOf(parts[0], typ)
	if err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrInvalid, err)
	}
	id, err := Thumbprint(pub)
	if err != nil || subtle.ConstantTimeCompare(id[:], thumbprint[:]) != 1 {
		return nil, fmt.Errorf("%w: another key", ErrInvalid)
	}
	payload, err1 := strictjson.ParseBase64(string(parts[1]))
	sig, err2 := strictjson.ParseBase64(string(parts[2]))
	if err1 != nil || err2 != nil || len(sig) != 2*coordinate {
		return nil, fmt.Errorf("%w: shape", ErrInvalid)
	}
	digest := sha512.Sum384(token[:len(parts[0])+1+len(parts[1])])
	r, s := new(big.Int).SetBytes(sig[:coordinate]), new(big.Int).SetBytes(sig[coordinate:])
	if !ecdsa.Verify(pub, digest[:], r, s) {
		return nil, fmt.Errorf("%w: signature", ErrInvalid)
	}
	return payload, nil
}

// signerOf returns the key in a protected header, which must be exactly as Sign
// writes it for that key and typ.
func signerOf(protected []byte, typ string) (*ecdsa.PublicKey, error) {
	b, err := strictjson.ParseBase64(string(protected))
	if err != nil {
		return nil, err
	}
	var h header
	if err := strictjson.Unmarshal(b, &h); err != nil {
		return nil, err
	}
	if len(h.JWK.X) != coordinate || len(h.JWK.Y) != coordinate {
		return nil, errors.New("not a P-384 key")
	}
	point := append(append([]byte{4}, h.JWK.X...), h.JWK.Y...)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), point)
	if err != nil {
		return nil, errors.New("not a P-384 key")
	}
	again, err := protect(pub, typ)
	if err != nil || !bytes.Equal(again, protected) {
		return nil, errors.New("not of this type and form")
	}
	return pub, nil
}

func newJWK(pub *ecdsa.PublicKey) (jwk, error) {
	point, err := pub.Bytes()
	if err != nil || len(point) != 1+2*coordinate {
		return jwk{}, errors.New("jws: not a P-384 key")
	}
	return jwk{Crv: "P-384", Kty: "EC", X: point[1 : 1+coordinate], Y: point[1+coordinate:]}, nil
}

// protect returns the protected header, encoded.
func protect(pub *ecdsa.PublicKey, typ string) ([]byte, error) {
	k, err := newJWK(pub)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(header{"ES384", k, typ})
	if err != nil {
		return nil, err
	}
	return appendPart(nil, b), nil
}

// raw returns r ‖ s of an ASN.1 signature.
func raw(der []byte) ([]byte, error) {
	var sig struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &sig)
	if err != nil || len(rest) > 0 {
		return nil, errors.New("jws: signer returned no ECDSA signature")
	}
	for _, n := range []*big.Int{sig.R, sig.S} {
		if n.Sign() <= 0 || n.BitLen() > 8*coordinate {
			return nil, errors.New("jws: signer returned no ECDSA signature")
		}
	}
	out := make([]byte, 2*coordinate)
	sig.R.FillBytes(out[:coordinate])
	sig.S.FillBytes(out[coordinate:])
	return out, nil
}

func appendPart(b, part []byte) []byte { return base64.RawURLEncoding.AppendEncode(b, part) }
