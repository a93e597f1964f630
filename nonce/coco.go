package nonce

import (
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
)

// CoCo is Hash over the JCS JSON (RFC 8785) of additional-evidence, nonce and
// tee-pubkey: the primary evidence of Confidential Containers clients. The nonce
// is in standard base64 with padding, the key is [keywrap.Recipient.JWK], so it
// must be of a JWE suite. The Binding has the length of Hash: SHA-256, SHA-384
// or SHA-512. Zero is an error.
type CoCo struct {
	Hash crypto.Hash

	// AdditionalEvidence is the string that the client sent, decoded, and bound
	// also if it is empty. Text that is not UTF-8 is an error; so is more than
	// 16 MiB together with nonce and key.
	AdditionalEvidence string
}

// CoCoDevice is the same without additional-evidence, for device evidence.
type CoCoDevice struct{ Hash crypto.Hash }

// Bind implements [Recipe].
func (r CoCo) Bind(n Nonce, key keywrap.Recipient) (evidence.Binding, error) {
	return bindCoCo(r.Hash, &r.AdditionalEvidence, n, key)
}

// Bind implements [Recipe].
func (r CoCoDevice) Bind(n Nonce, key keywrap.Recipient) (evidence.Binding, error) {
	return bindCoCo(r.Hash, nil, n, key)
}

func bindCoCo(h crypto.Hash, additional *string, n Nonce, key keywrap.Recipient) (evidence.Binding, error) {
	jwk := key.JWK()
	if jwk == nil {
		return evidence.Binding{}, errors.New("nonce: want a key of a JWE suite")
	}
	sum, err := CoCoDigest(h, additional, base64.StdEncoding.EncodeToString(n[:]), jwk)
	if err != nil {
		return evidence.Binding{}, err
	}
	return evidence.NewBinding(sum)
}

// maxCoCo bounds what one digest is made of, in bytes. Clients send up to 10 MiB.
const maxCoCo = 16 << 20

// CoCoDigest is what CoCo and CoCoDevice compute, on the strings as clients
// write them: published vectors have nonces that are not 32 bytes. jwk is the
// tee-pubkey object; additional is nil for device evidence.
//
// Of jwk only the members count that the protocol names, as servers and clients
// hash the struct they parsed: kty, crv, alg, x and y of an EC key, kty, alg, n
// and e of an RSA key. Each must be there once and be a string. Their values are
// hashed as they are: that they make a key is for package keywrap to say.
func CoCoDigest(h crypto.Hash, additional *string, nonce string, jwk []byte) ([]byte, error) {
	size := len(nonce) + len(jwk)
	if additional != nil {
		size += len(*additional)
	}
	if size > maxCoCo {
		return nil, fmt.Errorf("nonce: %d bytes to bind, at most %d", size, maxCoCo)
	}
	pubkey, err := teePubkey(jwk)
	if err != nil {
		return nil, err
	}
	if !utf8.ValidString(nonce) || additional != nil && !utf8.ValidString(*additional) {
		return nil, errors.New("nonce: text is not UTF-8")
	}
	b := make([]byte, 0, size+64)
	b = append(b, '{')
	if additional != nil {
		b = append(appendMember(b, "additional-evidence", *additional), ',')
	}
	b = append(appendMember(b, "nonce", nonce), `,"tee-pubkey":`...)
	b = append(append(b, pubkey...), '}')
	return digest(h, b)
}

// teePubkey returns jwk in its canonical form, without members not known.
func teePubkey(jwk []byte) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := strictjson.Unmarshal(jwk, &all); err != nil {
		return nil, fmt.Errorf("nonce: tee-pubkey: %w", err)
	}
	kty, err := text(all, "kty")
	if err != nil {
		return nil, err
	}
	members := map[string][]string{ // in canonical order
		"EC":  {"alg", "crv", "kty", "x", "y"},
		"RSA": {"alg", "e", "kty", "n"},
	}[kty]
	if members == nil {
		return nil, errors.New("nonce: tee-pubkey: kty is not EC or RSA")
	}
	var b []byte
	for i, name := range members {
		value, err := text(all, name)
		if err != nil {
			return nil, err
		}
		b = appendMember(append(b, "{,"[min(i, 1)]), name, value)
	}
	return append(b, '}'), nil
}

// text returns the member of a tee-pubkey that must be a string.
func text(members map[string]json.RawMessage, name string) (string, error) {
	var s *string // null would leave a string as it was
	if err := json.Unmarshal(members[name], &s); err != nil || s == nil {
		return "", fmt.Errorf("nonce: tee-pubkey: %s is not a string", name)
	}
	return *s, nil
}

// digest returns the hash of b.
func digest(h crypto.Hash, b []byte) ([]byte, error) {
	switch h {
	case crypto.SHA256:
		sum := sha256.Sum256(b)
		return sum[:], nil
	case crypto.SHA384:
		sum := sha512.Sum384(b)
		return sum[:], nil
	case crypto.SHA512:
		sum := sha512.Sum512(b)
		return sum[:], nil
	}
	return nil, errors.New("nonce: hash is not SHA-256, SHA-384 or SHA-512")
}

// appendMember appends a member of a JSON object whose value is the text s.
func appendMember(b []byte, name, s string) []byte {
	return appendText(append(appendText(b, name), ':'), s)
}

// appendText appends s, which must be UTF-8, as RFC 8785 section 3.2.2.2 writes
// it. encoding/json escapes more: <, >, &, U+2028 and U+2029.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	short := [0x20]byte{'\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r'}
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= 0x20:
			b = append(b, c)
		case short[c] != 0:
			b = append(b, '\\', short[c])
		default:
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		}
	}
	return append(b, '"')
}
