package jws

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// ErrUnknownKey is wrapped, beside [ErrInvalid], where a token names a key that
// the verifier does not have.
var ErrUnknownKey = errors.New("jws: unknown key")

// keyedHeader is the protected header. There is no other member: one that is not
// understood may change what the token means.
type keyedHeader struct {
	Alg string `json:"alg"`
	KID string `json:"kid"`
	Typ string `json:"typ"`
}

// KeyID returns the name of pub in headers: its thumbprint in base64url.
func KeyID(pub *ecdsa.PublicKey) (string, error) {
	sum, err := Thumbprint(pub)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// SignKeyed returns payload as a compact JWS of type typ, with ES256 if the key of
// signer is on P-256 and ES384 if it is on P-384. The signer may be in a token.
func SignKeyed(signer crypto.Signer, typ string, payload []byte) ([]byte, error) {
	pub, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("jws: not an ECDSA key")
	}
	alg, err := algorithmOf(pub)
	if err != nil {
		return nil, err
	}
	kid, err := KeyID(pub)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(keyedHeader{alg.name, kid, typ})
	if err != nil {
		return nil, err
	}
	return sign(signer, alg, appendPart(nil, b), payload)
}

// VerifyKeyed returns the payload of token, which must be of type typ, and the
// name of the key among keys that signed it, which the header names. The algorithm
// is that of the key. Members of the header may come in any order, but no others.
func VerifyKeyed(token []byte, typ string, keys map[string]*ecdsa.PublicKey) (payload []byte, kid string, err error) {
	parts, err := split(token)
	if err != nil {
		return nil, "", err
	}
	var h keyedHeader
	b, err := strictjson.ParseBase64(string(parts[0]))
	if err == nil {
		err = strictjson.Unmarshal(b, &h)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w: header: %w", ErrInvalid, err)
	}
	pub := keys[h.KID]
	if pub == nil {
		return nil, "", fmt.Errorf("%w: %w", ErrInvalid, ErrUnknownKey)
	}
	alg, err := algorithmOf(pub)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if h.Alg != alg.name || h.Typ != typ || typ == "" {
		return nil, "", fmt.Errorf("%w: not of this algorithm and type", ErrInvalid)
	}
	payload, err = verify(parts, alg, pub)
	if err != nil {
		return nil, "", err
	}
	return payload, h.KID, nil
}
