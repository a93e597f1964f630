package keywrap_test

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/keywrap"
)

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func unbase64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// any2048 allows every suite, and RSA as old profiles do.
func any2048() keywrap.Allow { return keywrap.Allow{Suites: suites(), MinRSABits: 2048} }

func TestJWKRoundTrip(t *testing.T) {
	for _, suite := range suites() {
		r := generate(t, suite).Recipient()
		jwk := r.JWK()
		if (jwk != nil) != isJWE(suite) {
			t.Errorf("%s: JWK %s", suite, jwk)
		}
		if jwk == nil {
			continue
		}
		sent := bytes.Clone(jwk)
		again, err := keywrap.ParseJWK(sent, any2048())
		if !bytes.Equal(sent, jwk) {
			t.Errorf("%s: input modified", suite)
		}
		clear(sent)
		if err != nil || again.Thumbprint() != r.Thumbprint() || again.Suite() != suite || !bytes.Equal(again.JWK(), jwk) {
			t.Errorf("%s: %s: %v", suite, jwk, err)
		}
		// A map marshals its members in alphabetical order, which for these is that
		// of RFC 8785.
		if canonical := join(t, fields(t, jwk)); !bytes.Equal(canonical, jwk) {
			t.Errorf("%s: %s, want %s", suite, jwk, canonical)
		}
		var oracle jose.JSONWebKey
		if err := oracle.UnmarshalJSON(jwk); err != nil || !oracle.IsPublic() || !oracle.Valid() {
			t.Errorf("%s: go-jose: %v", suite, err)
		}
	}
}

// The JWK is the one in what CoCo clients hash.
func TestJWKAsCoCoSends(t *testing.T) {
	var v struct {
		Cases []struct {
			Name string          `json:"name"`
			JWK  json.RawMessage `json:"tee_pubkey_as_sent"`
			JCS  string          `json:"primary_jcs"`
		} `json:"cases"`
	}
	vectors.JSON(t, "wire/vectors/coco_binding.json", &v)
	if len(v.Cases) < 33 {
		t.Fatalf("%d cases", len(v.Cases))
	}
	seen := map[keywrap.Suite]int{}
	for _, tt := range v.Cases {
		r, err := keywrap.ParseJWK(tt.JWK, any2048())
		if err != nil {
			t.Errorf("%s: %v", tt.Name, err)
			continue
		}
		seen[r.Suite()]++
		if !strings.HasSuffix(tt.JCS, `"tee-pubkey":`+string(r.JWK())+`}`) {
			t.Errorf("%s: %s is not in %s", tt.Name, r.JWK(), tt.JCS)
		}
	}
	if seen[keywrap.JWEP256] == 0 || seen[keywrap.JWEP521] == 0 || seen[keywrap.JWERSA] == 0 {
		t.Errorf("suites %v", seen)
	}
}

func TestParseJWK(t *testing.T) {
	ec := string(generate(t, keywrap.JWEP256).Recipient().JWK())
	p521 := string(generate(t, keywrap.JWEP521).Recipient().JWK())
	rsaJWK := string(generate(t, keywrap.JWERSA).Recipient().JWK())
	x, y, n := fields(t, []byte(ec))["x"], fields(t, []byte(ec))["y"], fields(t, []byte(rsaJWK))["n"]
	short := unbase64(t, x)[1:]
	for _, tt := range []struct {
		name, jwk, old, new string
		ok                  bool
	}{
		{"EC", ec, "", "", true},
		{"RSA", rsaJWK, "", "", true},
		{"EC without alg", ec, `"alg":"ECDH-ES+A256KW",`, ``, true},
		{"RSA without alg", rsaJWK, `"alg":"RSA-OAEP-256",`, ``, true},
		{"other members", ec, `{`, `{"kid":"k","use":"enc","x5c":["AA"],"ext":{"a":null},`, true},
		{"spaces", ec, `,`, ` , `, true},
		{"EC with A128KW", ec, `ECDH-ES+A256KW`, `ECDH-ES+A128KW`, false},
		{"EC with ECDH-ES alone", ec, `ECDH-ES+A256KW`, `ECDH-ES`, false},
		{"EC with the alg of RSA", ec, `ECDH-ES+A256KW`, `RSA-OAEP-256`, false},
		{"RSA with the alg of EC", rsaJWK, `RSA-OAEP-256`, `ECDH-ES+A256KW`, false},
		{"RSA1_5", rsaJWK, `RSA-OAEP-256`, `RSA1_5`, false},
		{"RSA-OAEP with SHA-1", rsaJWK, `RSA-OAEP-256`, `RSA-OAEP`, false},
		{"RSA-OAEP-512", rsaJWK, `RSA-OAEP-256`, `RSA-OAEP-512`, false},
		{"alg null", ec, `"ECDH-ES+A256KW"`, `null`, false},
		{"alg empty", ec, `"ECDH-ES+A256KW"`, `""`, false},
		{"no kty", ec, `"kty":"EC",`, ``, false},
		{"kty of RSA on EC", ec, `"EC"`, `"RSA"`, false},
		{"kty of EC on RSA", rsaJWK, `"RSA"`, `"EC"`, false},
		{"kty OKP", ec, `"EC"`, `"OKP"`, false},
		{"kty AKP", ec, `"EC"`, `"AKP"`, false},
		{"kty oct", ec, `"EC"`, `"oct"`, false},
		{"kty lower case", ec, `"EC"`, `"ec"`, false},
		{"no crv", ec, `"crv":"P-256",`, ``, false},
		{"another curve", ec, `P-256`, `P-384`, false},
		{"unknown curve", ec, `P-256`, `secp256k1`, false},
		{"curve in lower case", ec, `P-256`, `p-256`, false},
		{"no x", ec, `"x":"` + x + `",`, ``, false},
		{"x of another case", ec, `"x":`, `"X":`, false},
		{"x null", ec, `"` + x + `"`, `null`, false},
		{"x with a leading zero", ec, x, base64url(append([]byte{0}, unbase64(t, x)...)), false},
		{"x too short", ec, x, base64url(short), false},
		{"x padded", ec, x, x + "=", false},
		{"x with a line break", ec, x, x[:4] + `\n` + x[4:], false},
		{"y is x", ec, y, x, false},
		{"x and y exchanged", ec, `"x":"` + x + `","y":"` + y, `"x":"` + y + `","y":"` + x, false},
		{
			"a byte moved from y to x", ec, `"x":"` + x + `","y":"` + y,
			`"x":"` + base64url(append(unbase64(t, x), unbase64(t, y)[0])) + `","y":"` + base64url(unbase64(t, y)[1:]), false,
		},
		{"d", ec, `{`, `{"d":"AA",`, false},
		{"d null", ec, `{`, `{"d":null,`, false},
		{"RSA d", rsaJWK, `{`, `{"d":"AA",`, false},
		{"RSA p", rsaJWK, `{`, `{"p":"AA",`, false},
		{"RSA q", rsaJWK, `{`, `{"q":"AA",`, false},
		{"RSA dp", rsaJWK, `{`, `{"dp":"AA",`, false},
		{"RSA dq", rsaJWK, `{`, `{"dq":"AA",`, false},
		{"RSA qi", rsaJWK, `{`, `{"qi":"AA",`, false},
		{"RSA oth", rsaJWK, `{`, `{"oth":[],`, false},
		{"k", ec, `{`, `{"k":"AA",`, false},
		{"duplicate x", ec, `{`, `{"x":"` + x + `",`, false},
		{"duplicate kty in another case", ec, `{`, `{"KTY":"EC",`, false},
		{"duplicate in an ignored member", ec, `{`, `{"ext":{"a":1,"a":2},`, false},
		{"trailing data", ec, `}`, `}{}`, false},
		{"list", ec, ec, `[` + ec + `]`, false},
		{"too long", ec, `{`, `{"x5c":"` + strings.Repeat("A", 16<<10) + `",`, false},
		{"e with a leading zero", rsaJWK, `"AQAB"`, `"AAEAAQ"`, false},
		{"e = 3", rsaJWK, `"AQAB"`, `"Aw"`, false},
		{"no e", rsaJWK, `"e":"AQAB",`, ``, false},
		{"n with a leading zero", rsaJWK, n, base64url(append([]byte{0}, unbase64(t, n)...)), false},
		{"n empty", rsaJWK, n, ``, false},
		{"n too long", rsaJWK, n, base64url(bytes.Repeat([]byte{0xff}, 513)), false},
		{"n even", rsaJWK, n, base64url(append(unbase64(t, n)[:383:383], 2)), false},
		{"n of 1024 bits", rsaJWK, n, base64url(bytes.Repeat([]byte{0xff}, 128)), false},
		{"P-521", p521, "", "", true},
		{"P-521 with coordinates cut", p521, `"x":"A`, `"x":"`, false},
	} {
		if !strings.Contains(tt.jwk, tt.old) {
			t.Fatalf("%s: no %s in %s", tt.name, tt.old, tt.jwk)
		}
		jwk := strings.Replace(tt.jwk, tt.old, tt.new, 1)
		r, err := keywrap.ParseJWK([]byte(jwk), any2048())
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, keywrap.ErrKey) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil && r.Suite() != "" {
			t.Errorf("%s: a key beside the error", tt.name)
		}
	}
}

func TestParseJWKAllow(t *testing.T) {
	for _, suite := range suites() {
		jwk := generate(t, suite).Recipient().JWK()
		if jwk == nil {
			continue
		}
		var others []keywrap.Suite
		for _, s := range suites() {
			if s != suite {
				others = append(others, s)
			}
		}
		for _, allow := range []keywrap.Allow{{}, {MinRSABits: 2048}, {Suites: others, MinRSABits: 2048}} {
			if _, err := keywrap.ParseJWK(jwk, allow); !errors.Is(err, keywrap.ErrKey) {
				t.Errorf("%s: parsed where it is not allowed: %v", suite, err)
			}
		}
	}
	jwk := generate(t, keywrap.JWERSA).Recipient().JWK()
	if _, err := keywrap.ParseJWK(jwk, keywrap.Allow{Suites: suites()}); !errors.Is(err, keywrap.ErrKey) {
		t.Errorf("RSA without a least size: %v", err)
	}
}

func FuzzParseJWK(f *testing.F) {
	for _, suite := range suites() {
		if jwk := generate(f, suite).Recipient().JWK(); jwk != nil {
			f.Add(jwk)
		}
	}
	f.Fuzz(func(t *testing.T, jwk []byte) {
		r, err := keywrap.ParseJWK(jwk, any2048())
		if err != nil {
			if !errors.Is(err, keywrap.ErrKey) {
				t.Errorf("not ErrKey: %v", err)
			}
			return
		}
		again, err := keywrap.ParseJWK(r.JWK(), any2048())
		if err != nil || again.Thumbprint() != r.Thumbprint() {
			t.Errorf("%s is another key: %v", r.JWK(), err)
		}
		// A key that we take is the same key to go-jose.
		var oracle jose.JSONWebKey
		if err := oracle.UnmarshalJSON(r.JWK()); err != nil {
			t.Fatalf("go-jose: %v", err)
		}
		if k, ok := oracle.Key.(*rsa.PublicKey); ok != (r.Suite() == keywrap.JWERSA) || ok && k.N.BitLen() < 2048 {
			t.Errorf("go-jose has %T", oracle.Key)
		}
	})
}
