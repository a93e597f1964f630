//go:build cgo

package pkcs11

import (
	"context"
	"crypto/rand"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

// Cipher encrypts what a store keeps with an AES-256 key in a token, by AES-GCM.
// It is a store.Cipher, and safe for concurrent use. IVs are random: no more than
// 2³² values are to be sealed with one key (NIST SP 800-38D section 8.3).
type Cipher struct {
	token *Token
	key   *object
}

const (
	cipherVersion = 1
	ivSize        = 12
	tagSize       = 16
)

// Cipher returns the key that o names. What is said of the key of [Token.Opener]
// is true of this one.
func (t *Token) Cipher(ctx context.Context, o Object) (*Cipher, error) {
	c := &Cipher{t, &object{Object: o, use: Encrypt}}
	if err := c.key.open(ctx, t); err != nil {
		return nil, err
	}
	return c, nil
}

// Seal returns version (1) ‖ IV (12) ‖ ciphertext ‖ tag (16). Errors wrap ErrToken
// or ErrPIN.
func (c *Cipher) Seal(ctx context.Context, plain, aad []byte) ([]byte, error) {
	var iv [ivSize]byte
	rand.Read(iv[:])
	var out []byte
	err := c.gcm(ctx, iv[:], aad, func(s p11.SessionHandle, m []*p11.Mechanism, key p11.ObjectHandle) error {
		if err := c.token.module.EncryptInit(s, m, key); err != nil {
			return err
		}
		ct, err := c.token.module.Encrypt(s, plain)
		if err != nil {
			return err
		}
		if len(ct) != len(plain)+tagSize {
			return fmt.Errorf("%w: a ciphertext of another length", ErrToken)
		}
		out = append(append([]byte{cipherVersion}, iv[:]...), ct...)
		return nil
	})
	return out, err
}

// Open undoes Seal. What was sealed with another key or aad, or was changed, does
// not open, which is ErrOpen; ErrToken and ErrPIN say that the token could not be
// asked.
func (c *Cipher) Open(ctx context.Context, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < 1+ivSize+tagSize || sealed[0] != cipherVersion {
		return nil, ErrOpen
	}
	var out []byte
	err := c.gcm(ctx, sealed[1:1+ivSize], aad, func(s p11.SessionHandle, m []*p11.Mechanism, key p11.ObjectHandle) error {
		err := c.token.module.DecryptInit(s, m, key)
		if err != nil {
			return err
		}
		out, err = c.token.module.Decrypt(s, sealed[1+ivSize:])
		switch {
		case is(err, p11.CKR_ENCRYPTED_DATA_INVALID, p11.CKR_ENCRYPTED_DATA_LEN_RANGE, p11.CKR_SIGNATURE_INVALID):
			return ErrOpen
		case is(err, p11.CKR_GENERAL_ERROR, p11.CKR_FUNCTION_FAILED) && c.works(s, key):
			return ErrOpen
		}
		return err
	})
	return out, err
}

// works reports whether the token encrypts with key now. There are tokens that have
// no word of their own for a tag that is wrong: what fails to decrypt while the key
// works does not open.
func (c *Cipher) works(s p11.SessionHandle, key p11.ObjectHandle) bool {
	var iv [ivSize]byte
	rand.Read(iv[:])
	params := p11.NewGCMParams(iv[:], nil, 8*tagSize)
	defer params.Free()
	m := []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}
	if err := c.token.module.EncryptInit(s, m, key); err != nil {
		return false
	}
	_, err := c.token.module.Encrypt(s, nil)
	return err == nil
}

// gcm runs f with the mechanism for iv and aad.
func (c *Cipher) gcm(ctx context.Context, iv, aad []byte, f func(p11.SessionHandle, []*p11.Mechanism, p11.ObjectHandle) error) error {
	return c.token.do(ctx, func(s p11.SessionHandle) error {
		key, err := c.key.handle(c.token, s)
		if err != nil {
			return err
		}
		params := p11.NewGCMParams(iv, aad, 8*tagSize)
		defer params.Free()
		return f(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, key)
	})
}
