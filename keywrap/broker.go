package keywrap

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// A256GCM is the suite of what a broker wraps for itself, under a key that no
// one else has. It is no suite of recipients or owners.
const A256GCM Suite = "A256GCM"

const gcmIV = 12 // bytes

// WrapKey is the AES-256 key of a broker, in memory or in a token, for the blobs
// that it makes itself, section 6 of the protocol. It has no other use. It is
// safe for concurrent use.
type WrapKey interface {
	ID() string // as headers name it, 1 to 64 of [a-z0-9._-]

	// Seal returns the IV of 12 bytes that it drew and the ciphertext with its
	// tag of 16 bytes at the end; Open is the inverse, and wraps ErrOpen if
	// what it is given was not sealed with this key and aad.
	Seal(ctx context.Context, plain, aad []byte) (iv, ciphertext []byte, err error)
	Open(ctx context.Context, iv, ciphertext, aad []byte) ([]byte, error)
}

type softwareWrapKey struct {
	id   string
	aead cipher.AEAD
}

// NewWrapKey returns a WrapKey in software. Key is 32 random bytes of no other
// use; zero is an error. IVs are random, so that one key is good for 2³² blobs.
func NewWrapKey(id string, key [32]byte) (WrapKey, error) {
	if !names.KeyID(id) || key == [32]byte{} {
		return nil, fmt.Errorf("%w: not a key id, or the key is zero", ErrKey)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return softwareWrapKey{id, aead}, nil
}

// ID implements [WrapKey].
func (k softwareWrapKey) ID() string { return k.id }

// Seal implements [WrapKey].
func (k softwareWrapKey) Seal(_ context.Context, plain, aad []byte) (iv, ciphertext []byte, err error) {
	iv = make([]byte, gcmIV)
	rand.Read(iv)
	return iv, k.aead.Seal(nil, iv, plain, aad), nil
}

// Open implements [WrapKey].
func (k softwareWrapKey) Open(_ context.Context, iv, ciphertext, aad []byte) ([]byte, error) {
	if len(iv) != gcmIV {
		return nil, fmt.Errorf("%w: not an IV", ErrOpen)
	}
	plain, err := k.aead.Open(nil, iv, ciphertext, aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

// WrapWith seals secret with k as h says, whose Version, By, KeyID and Suite it
// sets. Every other member is the caller's. Errors of h wrap ErrKey.
func WrapWith(ctx context.Context, k WrapKey, h Header, secret []byte) (Wrapped, error) {
	h.Version, h.By, h.KeyID, h.Suite = headerVersion, ByBroker, k.ID(), A256GCM
	if err := h.check(); err != nil {
		return Wrapped{}, fmt.Errorf("%w: header: %w", ErrKey, err)
	}
	if len(secret) == 0 || len(secret) > MaxSecret {
		return Wrapped{}, fmt.Errorf("%w: a secret of %d bytes", ErrKey, len(secret))
	}
	b, err := json.Marshal(h)
	if err != nil {
		return Wrapped{}, fmt.Errorf("keywrap: header: %w", err)
	}
	protected := []byte(b64(b))
	iv, ciphertext, err := k.Seal(ctx, secret, wrapInfo(protected))
	switch {
	case err != nil:
		return Wrapped{}, fmt.Errorf("keywrap: wrap key: %w", err)
	case len(iv) != gcmIV || len(ciphertext) != len(secret)+16:
		return Wrapped{}, errors.New("keywrap: the wrap key sealed to something else")
	}
	return Wrapped{protected, []byte(b64(iv)), []byte(b64(ciphertext))}, nil
}

// UnwrapWith opens w, which a broker made, with k. The caller has compared the
// header with what is registered, and owns the secret. What was not wrapped
// with k wraps ErrOpen.
func (w Wrapped) UnwrapWith(ctx context.Context, k WrapKey) ([]byte, error) {
	h, err := w.Header()
	if err != nil {
		return nil, err
	}
	if h.By != ByBroker || h.Suite != A256GCM || h.KeyID != k.ID() {
		return nil, fmt.Errorf("%w: wrapped with another key", ErrOpen)
	}
	iv, err := strictjson.ParseBase64(string(w.Enc))
	if err != nil || len(iv) != gcmIV {
		return nil, fmt.Errorf("%w: not an IV", ErrOpen)
	}
	ciphertext, err := strictjson.ParseBase64(string(w.Ciphertext))
	if err != nil {
		return nil, fmt.Errorf("%w: ciphertext", ErrOpen)
	}
	return k.Open(ctx, iv, ciphertext, wrapInfo(w.Protected))
}
