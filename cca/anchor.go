package cca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/pki"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// Anchor is the CPAK of one platform: the public key that its manufacturer, or
// whoever operates it, vouches for. There is no root that all platforms share.
type Anchor struct {
	Instance       InstanceID
	Implementation ImplementationID // compared with the token's; zero is no wildcard
	Key            crypto.PublicKey // an *ecdsa.PublicKey on P-256, P-384 or P-521

	// NotBefore and NotAfter bound when the key may be relied on, both included.
	// Zero does not bound it: raw keys come without a validity.
	NotBefore, NotAfter time.Time
}

// Authority is a vendor's certificate authority, for platforms that send the
// certificates of their CPAK along, as x5chain. The certificate speaks for the
// key only: which instance it is, is then the platform's own word. So an instance
// that has an [Anchor] is never taken on a certificate's word.
type Authority struct {
	Certificate     []byte                         // X.509 in DER: a CA, root or intermediate
	Implementations evidence.Set[ImplementationID] // that it may vouch for
}

// ParseAnchors parses CPAKs as files of rust-ccatoken and Trustee have them: a
// JSON list of objects with "instance-id" and "implementation-id" in lower-case
// hexadecimal and "pkey", a JWK (RFC 7517) on P-256, P-384 or P-521. Beside them,
// "not-before" and "not-after" may be there, times as in RFC 3339.
//
// A JWK may name its kid, its use "sig" and the alg of its curve. Anything else in
// it, private members above all, is refused, as is whatever is not strict JSON. A
// key that is no point of its curve is an [*evidence.Error] of check "anchor".
func ParseAnchors(jwks []byte) ([]Anchor, error) {
	var list []struct {
		Instance       strictjson.Hex  `json:"instance-id"`
		Implementation strictjson.Hex  `json:"implementation-id"`
		Key            json.RawMessage `json:"pkey"`
		NotBefore      instant         `json:"not-before"`
		NotAfter       instant         `json:"not-after"`
	}
	if err := strictjson.Unmarshal(jwks, &list); err != nil {
		return nil, fmt.Errorf("cca: anchors: %w", err)
	}
	anchors := make([]Anchor, len(list))
	for i, l := range list {
		key, err := parseJWK(l.Key)
		switch {
		case err != nil:
		case len(l.Instance) != len(InstanceID{}):
			err = errors.New("instance-id is not 33 bytes")
		case len(l.Implementation) != len(ImplementationID{}):
			err = errors.New("implementation-id is not 32 bytes")
		}
		if err != nil {
			return nil, fmt.Errorf("cca: anchors: element %d: %w", i+1, err)
		}
		anchors[i] = Anchor{
			InstanceID(l.Instance), ImplementationID(l.Implementation), key, l.NotBefore.Time, l.NotAfter.Time,
		}
	}
	return anchors, nil
}

// instant is a time as in RFC 3339.
type instant struct{ time.Time }

// UnmarshalJSON implements [json.Unmarshaler].
func (t *instant) UnmarshalJSON(data []byte) error {
	var s *string
	if err := json.Unmarshal(data, &s); err != nil || s == nil {
		return errors.New("not a time")
	}
	var err error
	t.Time, err = time.Parse(time.RFC3339, *s)
	return err
}

// parseJWK parses a public key.
func parseJWK(text []byte) (*ecdsa.PublicKey, error) {
	var jwk struct {
		Kty string            `json:"kty"`
		Crv string            `json:"crv"`
		X   strictjson.Base64 `json:"x"`
		Y   strictjson.Base64 `json:"y"`
		Alg *string           `json:"alg"`
		Use *string           `json:"use"`
		Kid *string           `json:"kid"`
	}
	if err := strictjson.Unmarshal(text, &jwk); err != nil {
		return nil, fmt.Errorf("pkey: %w", err)
	}
	curve, alg := curveNamed(jwk.Crv)
	switch {
	case jwk.Kty != "EC" || curve == nil:
		return nil, errors.New("pkey: not an EC key on P-256, P-384 or P-521")
	case jwk.Alg != nil && *jwk.Alg != alg:
		return nil, errors.New("pkey: alg is not that of crv")
	case jwk.Use != nil && *jwk.Use != "sig":
		return nil, errors.New(`pkey: use is not "sig"`)
	}
	if size := (curve.Params().BitSize + 7) / 8; len(jwk.X) != size || len(jwk.Y) != size {
		return nil, errors.New("pkey: x or y has another length than crv")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, jwk.X...), jwk.Y...))
	if err != nil {
		return nil, fail(checkAnchor, evidence.Untrusted, "pkey", errors.New("not a point of crv"))
	}
	return key, nil
}

// curveNamed returns a curve and its algorithm by their names in JOSE.
func curveNamed(crv string) (elliptic.Curve, string) {
	switch crv {
	case "P-256":
		return elliptic.P256(), "ES256"
	case "P-384":
		return elliptic.P384(), "ES384"
	case "P-521":
		return elliptic.P521(), "ES512"
	}
	return nil, ""
}

// ParseKey parses a CPAK that is alone, for the Key of an [Anchor]: a
// SubjectPublicKeyInfo in DER, or in one PEM block "PUBLIC KEY", on P-256, P-384
// or P-521.
func ParseKey(data []byte) (*ecdsa.PublicKey, error) {
	der, err := pki.DER(data, "PUBLIC KEY")
	if err != nil {
		return nil, fmt.Errorf("cca: key: %w", err)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("cca: key: %w", err)
	}
	key, _, err := publicKey(parsed)
	if err != nil {
		return nil, fmt.Errorf("cca: key: %w", err)
	}
	return key, nil
}

// publicKey returns a copy of key, which may sign platform tokens, and SHA-256 of
// its SubjectPublicKeyInfo.
func publicKey(key crypto.PublicKey) (*ecdsa.PublicKey, [32]byte, error) {
	k, ok := key.(*ecdsa.PublicKey)
	if !ok || k == nil || algorithmOf(k) == 0 {
		return nil, [32]byte{}, errors.New("not an ECDSA key on P-256, P-384 or P-521")
	}
	//lint:ignore SA1019 without coordinates, Bytes would panic
	if k.X == nil || k.Y == nil {
		return nil, [32]byte{}, errors.New("not a point of its curve")
	}
	point, err := k.Bytes()
	if err != nil {
		return nil, [32]byte{}, errors.New("not a point of its curve")
	}
	k, err = ecdsa.ParseUncompressedPublicKey(k.Curve, point)
	if err != nil {
		return nil, [32]byte{}, errors.New("not a point of its curve")
	}
	der, err := x509.MarshalPKIXPublicKey(k)
	return k, sha256.Sum256(der), err
}
