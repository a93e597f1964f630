package keywrap_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/keywrap"
)

type jweVector struct {
	Name          string          `json:"name"`
	Private       json.RawMessage `json:"recipient_private_jwk"`
	JSON          json.RawMessage `json:"flattened_json"`
	Intermediates struct {
		Plaintext string `json:"plaintext_hex"`
	} `json:"intermediates"`
}

func jweCases(t *testing.T) (cases, orders, tampered []jweVector) {
	t.Helper()
	var v struct {
		Cases    []jweVector `json:"cases"`
		Orders   []jweVector `json:"order_negative"`
		Tampered []jweVector `json:"tampered"`
	}
	vectors.JSON(t, "wire/vectors/jwe.json", &v)
	if len(v.Cases) < 21 || len(v.Orders) < 4 || len(v.Tampered) < 10 {
		t.Fatalf("%d, %d and %d cases", len(v.Cases), len(v.Orders), len(v.Tampered))
	}
	return v.Cases, v.Orders, v.Tampered
}

// jwkOpener returns the Opener of a private JWK.
func jwkOpener(t testing.TB, private []byte) keywrap.Opener {
	t.Helper()
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(private); err != nil {
		t.Fatal(err)
	}
	var o keywrap.Opener
	var err error
	switch k := jwk.Key.(type) {
	case *rsa.PrivateKey:
		o, err = keywrap.FromRSA(k)
	case *ecdsa.PrivateKey:
		o = ecdsaOpener(t, k)
	}
	if err != nil || o == nil {
		t.Fatalf("private key %T: %v", jwk.Key, err)
	}
	return o
}

func ecdsaOpener(t testing.TB, k *ecdsa.PrivateKey) keywrap.Opener {
	t.Helper()
	private, err := k.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	suite := map[ecdh.Curve]keywrap.Suite{ecdh.P256(): keywrap.JWEP256, ecdh.P384(): keywrap.JWEP384, ecdh.P521(): keywrap.JWEP521}[private.Curve()]
	o, err := keywrap.FromECDH(suite, private)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestJWEVectors(t *testing.T) {
	cases, _, _ := jweCases(t)
	for _, tt := range cases {
		var s keywrap.Sealed
		if err := json.Unmarshal(tt.JSON, &s); err != nil {
			t.Errorf("%s: %v", tt.Name, err)
			continue
		}
		o := jwkOpener(t, tt.Private)
		if s.Suite() != o.Recipient().Suite() {
			t.Errorf("%s: of suite %q", tt.Name, s.Suite())
		}
		got, err := o.Open(t.Context(), s, nil)
		if err != nil || !bytes.Equal(got, unhex(t, tt.Intermediates.Plaintext)) {
			t.Errorf("%s: %x, %v", tt.Name, got, err)
		}
		if _, err := o.Open(t.Context(), s, []byte("info")); err != keywrap.ErrOpen {
			t.Errorf("%s opens with info: %v", tt.Name, err)
		}
	}
}

// What is authenticated is the header as received: other orders than ours, which
// are as correct, open, and are marshalled as they came.
func TestJWEHeaderOrders(t *testing.T) {
	_, orders, _ := jweCases(t)
	for _, tt := range orders {
		var s keywrap.Sealed
		if err := json.Unmarshal(tt.JSON, &s); err != nil {
			t.Errorf("%s: %v", tt.Name, err)
			continue
		}
		if _, err := jwkOpener(t, tt.Private).Open(t.Context(), s, nil); err != nil {
			t.Errorf("%s: %v", tt.Name, err)
		}
		if fields(t, marshal(t, s))["protected"] != fields(t, tt.JSON)["protected"] {
			t.Errorf("%s: another header", tt.Name)
		}
	}
}

// refused tests that b does not open with o. That it is seen when b is parsed is
// as good as when it is opened.
func refused(t *testing.T, name string, o keywrap.Opener, b, info []byte) {
	t.Helper()
	var s keywrap.Sealed
	if err := s.UnmarshalJSON(b); err != nil {
		if !errors.Is(err, keywrap.ErrOpen) || s.Suite() != "" {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	if secret, err := o.Open(t.Context(), s, info); err != keywrap.ErrOpen || secret != nil {
		t.Errorf("%s: opens: %v", name, err)
	}
}

func TestJWETampered(t *testing.T) {
	_, _, tampered := jweCases(t)
	for _, tt := range tampered {
		refused(t, tt.Name, jwkOpener(t, tt.Private), tt.JSON, nil)
	}
}

// join undoes fields.
func join(t testing.TB, m map[string]string) []byte {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every part is authenticated, one bit of each byte is changed in turn, and has
// one length and one spelling.
func TestTamper(t *testing.T) {
	for _, suite := range suites() {
		o := generate(t, suite)
		sealed := marshal(t, seal(t, o.Recipient(), []byte("0123456789abcdef0123456789abcdef")))
		for name, text := range fields(t, sealed) {
			if name == "suite" {
				continue
			}
			change := func(what, to string) {
				m := fields(t, sealed)
				m[name] = to
				refused(t, string(suite)+": "+name+": "+what, o, join(t, m), info(suite))
			}
			value, err := base64.RawURLEncoding.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			// All bytes of all parts but the encapsulated keys of hybrid suites, which
			// are long: of them every third or fourth.
			for i := 0; i < len(value); i += 1 + len(value)/513 {
				bad := bytes.Clone(value)
				bad[i] ^= 1 << (i % 8)
				change("bit flipped", base64url(bad))
			}
			change("empty", "")
			change("a byte less", base64url(value[:len(value)-1]))
			change("a byte more", base64url(append(bytes.Clone(value), 0)))
			change("padding", text+"=")
			change("line break", text+"\n")
			change("standard base64", base64.StdEncoding.EncodeToString(append(bytes.Clone(value), 0xff, 0xff, 0xff)))
			m := fields(t, sealed)
			delete(m, name)
			refused(t, string(suite)+": without "+name, o, join(t, m), info(suite))
			refused(t, string(suite)+": null "+name, o, bytes.Replace(sealed, []byte(`"`+text+`"`), []byte("null"), 1), info(suite))
			twice := append(bytes.TrimSuffix(bytes.Clone(sealed), []byte("}")), `,"`+name+`":"`+text+`"}`...)
			refused(t, string(suite)+": twice "+name, o, twice, info(suite))
		}
		for _, extra := range []string{"header", "unprotected", "aad", "recipients", "Suite", "ENC", "x"} {
			m := fields(t, sealed)
			m[extra] = ""
			refused(t, string(suite)+": with "+extra, o, join(t, m), info(suite))
		}
	}
}

// A header that is anything but {alg, enc, epk} of the suite is refused before
// anything is decrypted, however good the rest.
func TestJWEHeaders(t *testing.T) {
	ec := generate(t, keywrap.JWEP256)
	good := marshal(t, seal(t, ec.Recipient(), []byte("secret")))
	header, err := base64.RawURLEncoding.DecodeString(fields(t, good)["protected"])
	if err != nil {
		t.Fatal(err)
	}
	rsaOpener := generate(t, keywrap.JWERSA)
	goodRSA := marshal(t, seal(t, rsaOpener.Recipient(), []byte("secret")))
	with := func(sealed []byte, h string) {
		t.Helper()
		m := fields(t, sealed)
		m["protected"] = base64url([]byte(h))
		var s keywrap.Sealed
		if err := s.UnmarshalJSON(join(t, m)); !errors.Is(err, keywrap.ErrOpen) {
			t.Errorf("%s: %v", h, err)
		}
	}
	for _, edit := range [][2]string{
		{`"alg":"ECDH-ES+A256KW"`, `"alg":"ECDH-ES"`},
		{`"alg":"ECDH-ES+A256KW"`, `"alg":"ECDH-ES+A128KW"`},
		{`"alg":"ECDH-ES+A256KW"`, `"alg":"RSA-OAEP-256"`},
		{`"alg":"ECDH-ES+A256KW"`, `"alg":"dir"`},
		{`"alg":"ECDH-ES+A256KW"`, `"alg":"ecdh-es+a256kw"`},
		{`"alg":"ECDH-ES+A256KW"`, `"Alg":"ECDH-ES+A256KW"`},
		{`"alg":"ECDH-ES+A256KW",`, ``},
		{`"alg":"ECDH-ES+A256KW"`, `"alg":null`},
		{`"alg":"ECDH-ES+A256KW"`, `"alg":["ECDH-ES+A256KW"]`},
		{`{"alg":`, `{"alg":"ECDH-ES+A256KW","alg":`},
		{`"enc":"A256GCM"`, `"enc":"A128GCM"`},
		{`"enc":"A256GCM"`, `"enc":"A256CBC-HS512"`},
		{`"enc":"A256GCM",`, ``},
		{`"enc":"A256GCM"`, `"enc":"A256GCM","zip":"DEF"`},
		{`"enc":"A256GCM"`, `"enc":"A256GCM","crit":["epk"]`},
		{`"enc":"A256GCM"`, `"enc":"A256GCM","apu":""`},
		{`"enc":"A256GCM"`, `"enc":"A256GCM","apv":"AA"`},
		{`"enc":"A256GCM"`, `"enc":"A256GCM","kid":"k"`},
		{`"kty":"EC"`, `"kty":"OKP"`},
		{`"kty":"EC",`, ``},
		{`"kty":"EC"`, `"kty":"EC","d":"AA"`},
		{`"kty":"EC"`, `"kty":"EC","alg":"ECDH-ES+A256KW"`},
		{`"kty":"EC"`, `"kty":"EC","kty":"EC"`},
		{`"crv":"P-256"`, `"crv":"P-384"`},
		{`"crv":"P-256"`, `"crv":"P-521"`},
		{`"crv":"P-256"`, `"crv":"X25519"`},
		{`"crv":"P-256"`, `"crv":"secp256k1"`},
		{`"crv":"P-256",`, ``},
		{`"x":"`, `"x":"AA`},
		{`"y":"`, `"y":"AA`},
		{`"x":"`, `"z":"`},
		{`}}`, `}} ` + "\x00"},
		{`}}`, `}}{}`},
	} {
		if !bytes.Contains(header, []byte(edit[0])) {
			t.Fatalf("no %s in %s", edit[0], header)
		}
		with(good, string(bytes.Replace(header, []byte(edit[0]), []byte(edit[1]), 1)))
	}
	for _, h := range []string{
		``, `null`, `{}`, `[]`, `""`,
		`{"alg":"ECDH-ES+A256KW","enc":"A256GCM"}`,
		`{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":null}`,
		`{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{}}`,
		`{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":"AAAA"}`,
		`{"alg":"RSA-OAEP-256","enc":"A256GCM"}`,
	} {
		with(good, h)
	}
	for _, h := range []string{
		`{"alg":"RSA1_5","enc":"A256GCM"}`,
		`{"alg":"RSA-OAEP","enc":"A256GCM"}`,
		`{"alg":"RSA-OAEP-384","enc":"A256GCM"}`,
		`{"alg":"RSA-OAEP-512","enc":"A256GCM"}`,
		`{"alg":"RSA-OAEP-256","enc":"A128GCM"}`,
		`{"alg":"RSA-OAEP-256","enc":"A256GCM","epk":null}`,
		`{"alg":"RSA-OAEP-256","enc":"A256GCM","epk":{"crv":"P-256","kty":"EC","x":"","y":""}}`,
		`{"alg":"RSA-OAEP-256","enc":"A256GCM","zip":"DEF"}`,
		string(header),
	} {
		with(goodRSA, h)
	}
}

func FuzzSealed(f *testing.F) {
	openers := map[keywrap.Suite]keywrap.Opener{}
	for _, suite := range suites() {
		openers[suite] = generate(f, suite)
		f.Add(marshal(f, seal(f, openers[suite].Recipient(), []byte("secret"))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s keywrap.Sealed
		if err := s.UnmarshalJSON(b); err != nil {
			if !errors.Is(err, keywrap.ErrOpen) || s.Suite() != "" {
				t.Errorf("%q: %v", s.Suite(), err)
			}
			return
		}
		out := marshal(t, s)
		var again keywrap.Sealed
		if err := again.UnmarshalJSON(out); err != nil || !bytes.Equal(marshal(t, again), out) {
			t.Errorf("marshals to what is another: %v", err)
		}
		for suite, o := range openers {
			if _, err := o.Open(t.Context(), s, info(suite)); err == nil && suite != s.Suite() {
				t.Errorf("%s opens %s", suite, s.Suite())
			}
		}
	})
}
