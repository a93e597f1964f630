//go:build cgo

package pkcs11_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"os"
	"testing"

	"github.com/teebroker/teebroker/keywrap/pkcs11"
)

func TestSigner(t *testing.T) {
	s := newSoft(t)
	token := s.open(nil)
	id := pkcs11.Object{Label: "identity", ID: []byte{1}}
	s.check(token.Generate(t.Context(), pkcs11.Sign, id))
	signer, err := token.Signer(t.Context(), id)
	s.check(err)
	digest := sha512.Sum384([]byte("message"))
	sig, err := signer.Sign(rand.Reader, digest[:], crypto.SHA384)
	if err != nil || !ecdsa.VerifyASN1(signer.Public().(*ecdsa.PublicKey), digest[:], sig) {
		t.Errorf("%x, %v", sig, err)
	}
	for name, err := range map[string]error{
		"another hash": second(signer.Sign(rand.Reader, digest[:32], crypto.SHA256)),
		"no hash":      second(signer.Sign(rand.Reader, digest[:], nil)),
		"short":        second(signer.Sign(rand.Reader, digest[:32], crypto.SHA384)),
	} {
		if err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestCipher(t *testing.T) {
	s := newSoft(t)
	token := s.open(nil)
	o := pkcs11.Object{Label: "cipher"}
	s.check(token.Generate(t.Context(), pkcs11.Encrypt, o))
	c, err := token.Cipher(t.Context(), o)
	s.check(err)
	for _, plain := range [][]byte{nil, []byte("value"), bytes.Repeat([]byte{7}, 512<<10)} {
		for _, aad := range [][]byte{nil, []byte("where it belongs")} {
			box, err := c.Seal(t.Context(), plain, aad)
			s.check(err)
			if got, err := c.Open(t.Context(), box, aad); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes: %d, %v", len(plain), len(got), err)
			}
			again, err := c.Seal(t.Context(), plain, aad)
			s.check(err)
			if bytes.Equal(box, again) {
				t.Error("sealed twice to the same")
			}
			for _, at := range []int{0, 1, 12, 13, len(box) - 1} {
				bad := bytes.Clone(box)
				bad[at] ^= 1
				if got, err := c.Open(t.Context(), bad, aad); !errors.Is(err, pkcs11.ErrOpen) || got != nil {
					t.Errorf("byte %d changed: %q, %v", at, got, err)
				}
			}
			if got, err := c.Open(t.Context(), box, append(aad, 1)); !errors.Is(err, pkcs11.ErrOpen) || got != nil {
				t.Errorf("another place: %q, %v", got, err)
			}
			if got, err := c.Open(t.Context(), box[:28], aad); !errors.Is(err, pkcs11.ErrOpen) || got != nil {
				t.Errorf("short: %q, %v", got, err)
			}
		}
	}
	if got, err := c.Open(t.Context(), nil, nil); !errors.Is(err, pkcs11.ErrOpen) || got != nil {
		t.Errorf("nothing: %q, %v", got, err)
	}
}

// The token that the environment names, of whichever maker, does all that is asked
// of one.
func TestEnvironment(t *testing.T) {
	uri := os.Getenv("TEEBROKER_PKCS11_TOKEN")
	if uri == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("TEEBROKER_PKCS11_TOKEN is not set")
		}
		t.Skip("TEEBROKER_PKCS11_TOKEN is not set")
	}
	u, err := pkcs11.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	for _, use := range []pkcs11.Use{pkcs11.Unwrap, pkcs11.Sign, pkcs11.Encrypt} {
		o := pkcs11.Object{ID: make([]byte, 16)}
		rand.Read(o.ID)
		err := token.Generate(t.Context(), use, o)
		var c *pkcs11.Cipher
		switch {
		case err != nil:
		case use == pkcs11.Unwrap:
			_, err = token.Opener(t.Context(), o, nil)
		case use == pkcs11.Sign:
			_, err = token.Signer(t.Context(), o)
		default:
			if c, err = token.Cipher(t.Context(), o); err == nil {
				_, err = c.Seal(t.Context(), []byte("value"), nil)
			}
		}
		if err != nil {
			t.Errorf("use %d: %v", use, err)
		}
	}
}
