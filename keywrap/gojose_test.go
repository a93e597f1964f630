package keywrap_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"encoding/json"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/teebroker/teebroker/keywrap"
)

func jweSuites() []keywrap.Suite {
	return []keywrap.Suite{keywrap.JWEP256, keywrap.JWEP384, keywrap.JWEP521, keywrap.JWERSA}
}

func goJoseAlg(suite keywrap.Suite) jose.KeyAlgorithm {
	if suite == keywrap.JWERSA {
		return jose.RSA_OAEP_256
	}
	return jose.ECDH_ES_A256KW
}

func parseJWK(t testing.TB, b []byte) jose.JSONWebKey {
	t.Helper()
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	return jwk
}

func goJoseSeal(suite keywrap.Suite, public jose.JSONWebKey, secret []byte) (string, error) {
	e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: goJoseAlg(suite), Key: public.Key}, nil)
	if err != nil {
		return "", err
	}
	s, err := e.Encrypt(secret)
	if err != nil {
		return "", err
	}
	return s.FullSerialize(), nil
}

func goJoseOpen(suite keywrap.Suite, private jose.JSONWebKey, sealed string) ([]byte, error) {
	s, err := jose.ParseEncryptedJSON(sealed, []jose.KeyAlgorithm{goJoseAlg(suite)}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return nil, err
	}
	return s.Decrypt(private.Key)
}

func TestGoJoseOpensOurs(t *testing.T) {
	for _, suite := range jweSuites() {
		private, public := foreignKey(t, suite)
		r, err := keywrap.ParseJWK(public, any2048())
		if err != nil {
			t.Fatal(err)
		}
		jwk := parseJWK(t, private)
		for i := range 24 {
			secret := bytes.Repeat([]byte{byte(i)}, 17*i)
			got, err := goJoseOpen(suite, jwk, string(marshal(t, seal(t, r, secret))))
			if err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%s: %d bytes of %d: %v", suite, len(got), len(secret), err)
			}
		}
	}
}

// The vectors are the bytes that we seal to, some with a shared secret that has
// leading zeros.
func TestGoJoseOpensVectors(t *testing.T) {
	cases, _, _ := jweCases(t)
	for _, tt := range cases {
		jwk := parseJWK(t, tt.Private)
		got, err := goJoseOpen(jwkOpener(t, tt.Private).Recipient().Suite(), jwk, string(tt.JSON))
		if err != nil || !bytes.Equal(got, unhex(t, tt.Intermediates.Plaintext)) {
			t.Errorf("%s: %v", tt.Name, err)
		}
	}
}

func TestOpenGoJose(t *testing.T) {
	for _, suite := range jweSuites() {
		private, public := foreignKey(t, suite)
		o, jwk := jwkOpener(t, private), parseJWK(t, public)
		for i := range 24 {
			secret := bytes.Repeat([]byte{byte(i)}, 17*i)
			openGoJose(t, suite, o, jwk, secret)
		}
	}
}

func openGoJose(t *testing.T, suite keywrap.Suite, o keywrap.Opener, public jose.JSONWebKey, secret []byte) {
	t.Helper()
	sealed, err := goJoseSeal(suite, public, secret)
	if err != nil {
		t.Fatal(err)
	}
	var s keywrap.Sealed
	if err := json.Unmarshal([]byte(sealed), &s); err != nil {
		t.Fatalf("%s: %v: %s", suite, err, sealed)
	}
	if got, err := o.Open(t.Context(), s, nil); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%s: %d bytes of %d: %v", suite, len(got), len(secret), err)
	}
}

// go-jose has to hit a shared secret with a leading zero byte, about once in 256
// or, for P-521, in two.
func TestOpenGoJoseLeadingZero(t *testing.T) {
	const tries = 8192
	for _, suite := range []keywrap.Suite{keywrap.JWEP256, keywrap.JWEP384, keywrap.JWEP521} {
		private, public := foreignKey(t, suite)
		k, err := parseJWK(t, private).Key.(*ecdsa.PrivateKey).ECDH()
		if err != nil {
			t.Fatal(err)
		}
		zero := false
		observed := &token{KeyExchanger: k, answer: func(z []byte) ([]byte, error) {
			zero = zero || z[0] == 0
			return z, nil
		}}
		o, err := keywrap.FromECDH(suite, ecdh.KeyExchanger(observed))
		if err != nil {
			t.Fatal(err)
		}
		jwk := parseJWK(t, public)
		for i := 0; i < tries && !zero && !t.Failed(); i++ {
			openGoJose(t, suite, o, jwk, []byte("secret"))
		}
		if !zero {
			t.Errorf("%s: no leading zero", suite)
		}
	}
}
