//go:build !cgo

// Package pkcs11 holds keys of a broker in a PKCS #11 token. This is what is left
// of it without cgo: URIs parse, and no token opens.
package pkcs11

import (
	"context"
	"crypto"
	"errors"

	"github.com/teebroker/teebroker/keywrap"
)

var errNoCgo = errors.New("pkcs11: built without cgo")

// Token can't be had without cgo.
type Token struct{}

// Cipher can't be had without cgo.
type Cipher struct{}

// Open always fails.
func Open(context.Context, Config) (*Token, error) { return nil, errNoCgo }

// Is is never true.
func (*Token) Is(URI) bool { return false }

// Close always fails.
func (*Token) Close() error { return errNoCgo }

// Opener always fails.
func (*Token) Opener(context.Context, Object, []byte) (keywrap.Opener, error) { return nil, errNoCgo }

// Signer always fails.
func (*Token) Signer(context.Context, Object) (crypto.Signer, error) { return nil, errNoCgo }

// Cipher always fails.
func (*Token) Cipher(context.Context, Object) (*Cipher, error) { return nil, errNoCgo }

// Generate always fails.
func (*Token) Generate(context.Context, Use, Object) error { return errNoCgo }

// Seal always fails.
func (*Cipher) Seal(context.Context, []byte, []byte) ([]byte, error) { return nil, errNoCgo }

// Open always fails.
func (*Cipher) Open(context.Context, []byte, []byte) ([]byte, error) { return nil, errNoCgo }
