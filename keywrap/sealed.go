package keywrap

import (
	"bytes"
	"crypto/ecdh"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// Sealed is a secret sealed to a Recipient. It marshals to one JSON object:
// {suite, enc, ct} for HPKE, the flattened JWE (RFC 7516 section 7.2.2) for a
// JWE suite. The zero Sealed does not marshal. A Sealed is immutable.
type Sealed struct {
	suite      Suite
	protected  string          // JWE: the header as received, in base64url
	epk        *ecdh.PublicKey // JWE with a curve: of the header, on that curve
	key        []byte          // encapsulated key of HPKE, encrypted key of JWE
	iv         []byte          // JWE
	ciphertext []byte          // HPKE: with the tag
	tag        []byte          // JWE
}

// maxSealed is the most bytes of the JSON of a Sealed: the largest secret in
// base64url, and 16 KiB for the rest.
const maxSealed = MaxSecret/3*4 + 16<<10

type hpkeJSON struct {
	Suite Suite             `json:"suite"`
	Enc   strictjson.Base64 `json:"enc"`
	CT    strictjson.Base64 `json:"ct"`
}

type jweJSON struct {
	Protected    string            `json:"protected"`
	EncryptedKey strictjson.Base64 `json:"encrypted_key"`
	IV           strictjson.Base64 `json:"iv"`
	Ciphertext   strictjson.Base64 `json:"ciphertext"`
	Tag          strictjson.Base64 `json:"tag"`
}

// Suite returns the suite s was sealed with, or "". A JWE names it by its
// header.
func (s Sealed) Suite() Suite { return s.suite }

// MarshalJSON implements [json.Marshaler]. The same Sealed has the same bytes.
func (s Sealed) MarshalJSON() ([]byte, error) {
	if s.suite == "" {
		return nil, errors.New("keywrap: nothing is sealed")
	}
	if _, ok := s.suite.hpke(); ok {
		return json.Marshal(hpkeJSON{s.suite, s.key, s.ciphertext})
	}
	return json.Marshal(jweJSON{s.protected, s.key, s.iv, s.ciphertext, s.tag})
}

// UnmarshalJSON implements [json.Unmarshaler], strictly: the members of one of
// the two forms, all of them and no other, in canonical base64url, of the length
// that the suite gives them, and an ephemeral key that is on its curve. Members
// of a JWE header may be in any order. Errors wrap ErrOpen, and s stays as it
// was.
func (s *Sealed) UnmarshalJSON(b []byte) error {
	if len(b) > maxSealed {
		return fmt.Errorf("%w: too long", ErrOpen)
	}
	// Both are strict: a wrong guess is an error.
	parse := parseJWE
	if bytes.Contains(b, []byte(`"suite"`)) {
		parse = parseHPKE
	}
	parsed, err := parse(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOpen, err)
	}
	*s = parsed
	return nil
}

func parseHPKE(b []byte) (Sealed, error) {
	var j hpkeJSON
	if err := strictjson.Unmarshal(b, &j); err != nil {
		return Sealed{}, err
	}
	p, ok := j.Suite.hpke()
	switch {
	case !ok:
		return Sealed{}, errors.New("unknown suite")
	case len(j.Enc) != p.enc:
		return Sealed{}, errors.New("length of enc")
	case len(j.CT) < tagSize || len(j.CT) > MaxSecret+tagSize:
		return Sealed{}, errors.New("length of ct")
	}
	return Sealed{suite: j.Suite, key: j.Enc, ciphertext: j.CT}, nil
}

func parseJWE(b []byte) (Sealed, error) {
	var j jweJSON
	if err := strictjson.Unmarshal(b, &j); err != nil {
		return Sealed{}, err
	}
	header, err := strictjson.ParseBase64(j.Protected)
	if err != nil {
		return Sealed{}, err
	}
	suite, epk, err := parseHeader(header)
	if err != nil {
		return Sealed{}, fmt.Errorf("protected: %w", err)
	}
	least, most := wrappedCEKSize, wrappedCEKSize
	if suite == JWERSA {
		least, most = leastRSABits/8, mostRSABits/8
	}
	switch {
	case len(j.EncryptedKey) < least || len(j.EncryptedKey) > most:
		return Sealed{}, errors.New("length of encrypted_key")
	case len(j.IV) != ivSize:
		return Sealed{}, errors.New("length of iv")
	case j.Ciphertext == nil || len(j.Ciphertext) > MaxSecret:
		return Sealed{}, errors.New("length of ciphertext")
	case len(j.Tag) != tagSize:
		return Sealed{}, errors.New("length of tag")
	}
	return Sealed{suite, j.Protected, epk, j.EncryptedKey, j.IV, j.Ciphertext, j.Tag}, nil
}
