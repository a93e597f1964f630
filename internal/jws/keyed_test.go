package jws

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// keyring returns the keys by their names.
func keyring(t testing.TB, keys ...*ecdsa.PrivateKey) map[string]*ecdsa.PublicKey {
	t.Helper()
	ring := map[string]*ecdsa.PublicKey{}
	for _, k := range keys {
		kid, err := KeyID(&k.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		ring[kid] = &k.PublicKey
	}
	return ring
}

// forgeKeyed signs a header that SignKeyed would not, as alg says.
func forgeKeyed(t testing.TB, k *ecdsa.PrivateKey, alg algorithm, header, payload string) []byte {
	t.Helper()
	b := appendPart(append(appendPart(nil, []byte(header)), '.'), []byte(payload))
	der, err := ecdsa.SignASN1(rand.Reader, k, alg.digest(b))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := alg.raw(der)
	if err != nil {
		t.Fatal(err)
	}
	return appendPart(append(b, '.'), sig)
}

func TestSignKeyed(t *testing.T) {
	p256, p384 := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	ring := keyring(t, p256, p384)
	for alg, k := range map[string]*ecdsa.PrivateKey{"ES256": p256, "ES384": p384} {
		token, err := SignKeyed(k, typ, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		got, kid, err := VerifyKeyed(token, typ, ring)
		if err != nil || string(got) != "payload" || !ring[kid].Equal(&k.PublicKey) {
			t.Errorf("%s: %s, %s, %v", alg, got, kid, err)
		}
		header, _, _ := bytes.Cut(token, []byte("."))
		text, _ := base64.RawURLEncoding.DecodeString(string(header))
		if want := fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"test+jws"}`, alg, kid); string(text) != want {
			t.Errorf("header %s, want %s", text, want)
		}
		parsed, err := jose.ParseSignedCompact(string(token), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
		if err != nil {
			t.Fatal(err)
		}
		if other, err := parsed.Verify(&k.PublicKey); err != nil || string(other) != "payload" {
			t.Errorf("%s: go-jose: %s, %v", alg, other, err)
		}
	}
}

// Members in another order are the same header; every other change is refused.
func TestVerifyKeyedRefuses(t *testing.T) {
	k, other, p384 := newKey(t, elliptic.P256()), newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	ring := keyring(t, k, p384)
	kid, _ := KeyID(&k.PublicKey)
	kid384, _ := KeyID(&p384.PublicKey)
	header := fmt.Sprintf(`{"alg":"ES256","kid":%q,"typ":"test+jws"}`, kid)
	for _, same := range []string{header, fmt.Sprintf(`{"typ":"test+jws", "kid":%q, "alg":"ES256"}`, kid)} {
		if _, _, err := VerifyKeyed(forgeKeyed(t, k, es256(), same, "payload"), typ, ring); err != nil {
			t.Fatalf("the forger's own: %v", err)
		}
	}
	edit := func(old, new string) []byte {
		h := strings.Replace(header, old, new, 1)
		if h == header {
			t.Fatalf("no %s in the header", old)
		}
		return forgeKeyed(t, k, es256(), h, "payload")
	}
	good := forgeKeyed(t, k, es256(), header, "payload")
	parts := strings.Split(string(good), ".")
	for name, bad := range map[string][]byte{
		"empty":                     nil,
		"two parts":                 []byte(parts[0] + "." + parts[1]),
		"four parts":                append(bytes.Clone(good), '.'),
		"too large":                 append(bytes.Clone(good), bytes.Repeat([]byte("A"), MaxSize)...),
		"padding":                   append(bytes.Clone(good), '='),
		"other payload":             []byte(parts[0] + ".AAAA." + parts[2]),
		"no signature":              []byte(parts[0] + "." + parts[1] + "."),
		"zero signature":            []byte(parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64))),
		"signature bit":             flip(good, len(good)-2),
		"of another key":            must(SignKeyed(other, typ, []byte("payload"))),
		"another key's signature":   forgeKeyed(t, other, es256(), header, "payload"),
		"of another type":           must(SignKeyed(k, "other+jws", []byte("payload"))),
		"no type":                   edit(`,"typ":"test+jws"`, ""),
		"type in another case":      edit(`test+jws`, `TEST+jws`),
		"no key":                    edit(fmt.Sprintf(`"kid":%q,`, kid), ""),
		"no algorithm":              edit(`"alg":"ES256",`, ""),
		"alg none":                  edit("ES256", "none"),
		"alg HS256":                 edit("ES256", "HS256"),
		"alg ES512":                 edit("ES256", "ES512"),
		"alg ES384, signed ES256":   edit("ES256", "ES384"),
		"ES384 with a P-256 key":    forgeKeyed(t, k, algorithm{"ES384", "", crypto.SHA384, 32}, strings.Replace(header, "ES256", "ES384", 1), "payload"),
		"ES256 with a P-384 key":    forgeKeyed(t, p384, algorithm{"ES256", "", crypto.SHA256, 48}, strings.Replace(header, kid, kid384, 1), "payload"),
		"P-384 signature by kid":    forgeKeyed(t, p384, es384(), header, "payload"),
		"critical extension":        edit(`{"alg"`, `{"crit":["b64"],"b64":false,"alg"`),
		"key in the header":         edit(`{"alg"`, `{"jwk":{},"alg"`),
		"address in the header":     edit(`{"alg"`, `{"jku":"https://example.org","alg"`),
		"duplicate member":          edit(`{"alg"`, `{"alg":"none","alg"`),
		"member in another case":    edit(`"kid"`, `"KID"`),
		"null":                      edit(`"test+jws"`, `null`),
		"number":                    edit(`"test+jws"`, `1`),
		"trailing":                  edit(`"test+jws"}`, `"test+jws"}{}`),
		"an unencoded header":       []byte(header + "." + parts[1] + "." + parts[2]),
		"unprotected header, JSON":  fmt.Appendf(nil, `{"protected":%q,"payload":%q,"signature":%q}`, parts[0], parts[1], parts[2]),
		"of the other form of here": must(Sign(p384, typ, []byte("payload"))),
	} {
		if got, by, err := VerifyKeyed(bad, typ, ring); !errors.Is(err, ErrInvalid) || got != nil || by != "" {
			t.Errorf("%s: %s, %s, %v", name, got, by, err)
		}
	}
	if _, _, err := VerifyKeyed(must(SignKeyed(other, typ, nil)), typ, ring); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("unknown key: %v", err)
	}
	if _, _, err := VerifyKeyed(flip(good, len(good)-2), typ, ring); !errors.Is(err, ErrSignature) {
		t.Errorf("another signature: %v", err)
	}
	if _, _, err := VerifyKeyed(edit(`,"typ":"test+jws"`, ""), "", ring); !errors.Is(err, ErrInvalid) {
		t.Errorf("no type at all: %v", err)
	}
	if _, _, err := VerifyKeyed(good, typ, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("no keys: %v", err)
	}
	p521 := newKey(t, elliptic.P521())
	if _, _, err := VerifyKeyed(good, typ, map[string]*ecdsa.PublicKey{kid: &p521.PublicKey}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a key that has no algorithm here: %v", err)
	}
}

func TestSignKeyedRefuses(t *testing.T) {
	p521 := newKey(t, elliptic.P521())
	if got, err := SignKeyed(p521, typ, nil); err == nil || got != nil {
		t.Errorf("P-521: %s", got)
	}
	k := newKey(t, elliptic.P256())
	for name, s := range map[string]crypto.Signer{
		"error":            token{k, nil, errors.New("removed")},
		"garbage":          token{k, []byte("garbage"), nil},
		"another's curve":  token{k, append([]byte{0x30, 56, 2, 51}, append(bytes.Repeat([]byte{1}, 51), 2, 1, 1)...), nil},
		"no key":           keyless{},
		"a key of nothing": token{&ecdsa.PrivateKey{}, nil, nil},
	} {
		if got, err := SignKeyed(s, typ, nil); err == nil || got != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

// keyless is a signer without a key.
type keyless struct{ crypto.Signer }

func (keyless) Public() crypto.PublicKey { return nil }

func FuzzVerifyKeyed(f *testing.F) {
	k := newKey(f, elliptic.P256())
	ring := keyring(f, k)
	f.Add(must(SignKeyed(k, typ, []byte("payload"))))
	f.Add([]byte("e30.e30.e30"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, _, err := VerifyKeyed(b, typ, ring); err == nil && string(got) != "payload" {
			t.Errorf("verifies: %s", b)
		}
	})
}
