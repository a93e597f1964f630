// Package jws signs and verifies compact JWS (RFC 7515) in the two ways that there
// are here, both with an explicit type:
//
//   - [Sign] and [Verify], of the release protocol: ES384, the signer's key in the
//     protected header, nothing else in it, and one spelling of everything.
//   - [SignKeyed] and [VerifyKeyed], for tokens that others read as well: ES256 or
//     ES384 as the key says, and the name of the key in the header.
package jws

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// MaxSize is the most bytes of a token that Verify looks at.
const MaxSize = 64 << 10

// ErrInvalid is wrapped by every failure to verify.
var ErrInvalid = errors.New("jws: invalid")

// ErrSignature is wrapped, beside [ErrInvalid], where the signature is not that of
// the key.
var ErrSignature = errors.New("jws: signature")

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

// Thumbprint returns the RFC 7638 thumbprint of pub, with SHA-256. It must be on
// P-256 or P-384.
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
	return sign(signer, es384(), protected, payload)
}

// sign returns the JWS of payload under an encoded header, which it appends to.
func sign(signer crypto.Signer, alg algorithm, protected, payload []byte) ([]byte, error) {
	token := appendPart(append(protected, '.'), payload)
	der, err := signer.Sign(rand.Reader, alg.digest(token), alg.hash)
	if err != nil {
		return nil, fmt.Errorf("jws: sign: %w", err)
	}
	sig, err := alg.raw(der)
	if err != nil {
		return nil, err
	}
	return appendPart(append(token, '.'), sig), nil
}

// Verify returns the payload of token, which must be of type typ and signed by
// the key with this thumbprint.
func Verify(token []byte, typ string, thumbprint [32]byte) ([]byte, error) {
	parts, err := split(token)
	if err != nil {
		return nil, err
	}
	pub, err := signerOf(parts[0], typ)
	if err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrInvalid, err)
	}
	id, err := Thumbprint(pub)
	if err != nil || subtle.ConstantTimeCompare(id[:], thumbprint[:]) != 1 {
		return nil, fmt.Errorf("%w: another key", ErrInvalid)
	}
	return verify(parts, es384(), pub)
}

// split returns the three parts of token.
func split(token []byte) ([][]byte, error) {
	if len(token) > MaxSize {
		return nil, fmt.Errorf("%w: size", ErrInvalid)
	}
	parts := bytes.SplitN(token, []byte("."), 4)
	if len(parts) != 3 {
		return nil, fmt.Errorf("%w: shape", ErrInvalid)
	}
	return parts, nil
}

// verify returns the payload of what pub signed with alg.
func verify(parts [][]byte, alg algorithm, pub *ecdsa.PublicKey) ([]byte, error) {
	payload, err1 := strictjson.ParseBase64(string(parts[1]))
	sig, err2 := strictjson.ParseBase64(string(parts[2]))
	if err1 != nil || err2 != nil || len(sig) != 2*alg.size {
		return nil, fmt.Errorf("%w: shape", ErrInvalid)
	}
	digest := alg.digest(bytes.Join(parts[:2], []byte(".")))
	r, s := new(big.Int).SetBytes(sig[:alg.size]), new(big.Int).SetBytes(sig[alg.size:])
	if !ecdsa.Verify(pub, digest, r, s) {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, ErrSignature)
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
	if size := es384().size; len(h.JWK.X) != size || len(h.JWK.Y) != size {
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
	alg, err := algorithmOf(pub)
	if err != nil {
		return jwk{}, err
	}
	point, err := pub.Bytes()
	if err != nil || len(point) != 1+2*alg.size {
		return jwk{}, errors.New("jws: not a key of its curve")
	}
	return jwk{Crv: alg.crv, Kty: "EC", X: point[1 : 1+alg.size], Y: point[1+alg.size:]}, nil
}

// protect returns the protected header, encoded.
func protect(pub *ecdsa.PublicKey, typ string) ([]byte, error) {
	k, err := newJWK(pub)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(header{es384().name, k, typ})
	if err != nil {
		return nil, err
	}
	return appendPart(nil, b), nil
}

func appendPart(b, part []byte) []byte { return base64.RawURLEncoding.AppendEncode(b, part) }
