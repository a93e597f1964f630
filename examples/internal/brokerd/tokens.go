package brokerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/keywrap/pkcs11"
)

// tokens are the PKCS #11 tokens in use, by their module: a module has one state for
// a whole process.
type tokens map[string]*pkcs11.Token

// open returns the token that uri is in, and the name of the key.
func (t tokens) open(ctx context.Context, uri string) (*pkcs11.Token, pkcs11.Object, error) {
	u, err := pkcs11.ParseURI(uri)
	if err != nil {
		return nil, pkcs11.Object{}, err
	}
	defer clear(u.PIN)
	token := t[u.Module]
	if token == nil {
		if token, err = pkcs11.Open(ctx, pkcs11.Config{URI: u}); err != nil {
			return nil, pkcs11.Object{}, err
		}
		t[u.Module] = token
	}
	if !token.Is(u) {
		return nil, pkcs11.Object{}, errors.New("the keys are in several tokens of one module, which is not supported")
	}
	return token, u.Key(), nil
}

// opener is what keyfile.File.Keys opens keys in tokens with.
func (t tokens) opener(ctx context.Context) func(uri string, mlkem []byte) (keywrap.Opener, error) {
	return func(uri string, mlkem []byte) (keywrap.Opener, error) {
		token, key, err := t.open(ctx, uri)
		if err != nil {
			return nil, err
		}
		return token.Opener(ctx, key, mlkem)
	}
}

// generate makes the key that uri names in its token, unless it is there.
func (t tokens) generate(ctx context.Context, uri string) error {
	token, key, err := t.open(ctx, uri)
	if err != nil {
		return err
	}
	if _, err := token.Opener(ctx, key, nil); err == nil || errors.Is(err, pkcs11.ErrToken) {
		return err
	}
	if err := token.Generate(ctx, pkcs11.Unwrap, key); err != nil {
		return fmt.Errorf("no such key, and none can be made: %w", err)
	}
	return nil
}

func (t tokens) close() {
	for _, token := range t {
		_ = token.Close() // nothing was written
	}
}
