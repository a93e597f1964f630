package store

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
)

// aesCipher is AES-256-GCM under a key and IV of their own for every value, so
// that there is no bound on how many values one key seals.
type aesCipher struct{ key [32]byte }

const (
	cipherVersion = 1
	cipherSalt    = 32
	cipherLabel   = "teebroker/store/aes-256-gcm/v1"
)

// ErrCipher is wrapped by what does not open: sealed under another key, for
// another place, or changed.
const ErrCipher Error = "store: not sealed with this key for this place"

// NewAES returns a [Cipher] in software: the key is in memory. Key is 32 random
// bytes of no other use; zero is an error. Each value is sealed with AES-256-GCM
// under key and IV that HKDF-SHA256 makes of key and 32 random bytes:
//
//	version (1) ‖ salt (32) ‖ ciphertext ‖ tag (16)
//
// It is safe for concurrent use.
func NewAES(key [32]byte) (Cipher, error) {
	if key == [32]byte{} {
		return nil, errors.New("store: the key is zero")
	}
	return aesCipher{key}, nil
}

// aead returns the AEAD of one value, and its IV.
func (c aesCipher) aead(salt []byte) (cipher.AEAD, []byte, error) {
	okm, err := hkdf.Key(sha256.New, c.key[:], salt, cipherLabel, 32+12)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(okm[:32])
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, okm[32:], err
}

// Seal implements [Cipher].
func (c aesCipher) Seal(ctx context.Context, plain, aad []byte) ([]byte, error) {
	sealed := make([]byte, 1+cipherSalt, 1+cipherSalt+len(plain)+16)
	sealed[0] = cipherVersion
	rand.Read(sealed[1:])
	aead, iv, err := c.aead(sealed[1:])
	if err != nil {
		return nil, err
	}
	return aead.Seal(sealed, iv, plain, aad), nil
}

// Open implements [Cipher].
func (c aesCipher) Open(ctx context.Context, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < 1+cipherSalt || sealed[0] != cipherVersion {
		return nil, ErrCipher
	}
	aead, iv, err := c.aead(sealed[1 : 1+cipherSalt])
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, iv, sealed[1+cipherSalt:], aad)
	if err != nil {
		return nil, ErrCipher
	}
	return plain, nil
}
