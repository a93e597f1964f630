package jws

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
)

const typ = "test+jws"

func newKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func thumbprint(t testing.TB, k *ecdsa.PrivateKey) [32]byte {
	t.Helper()
	id, err := Thumbprint(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// forge signs a header and payload that Sign would not.
func forge(t testing.TB, k *ecdsa.PrivateKey, header, payload string) []byte {
	t.Helper()
	b := appendPart(append(appendPart(nil, []byte(header)), '.'), []byte(payload))
	sum := sha512.Sum384(b)
	der, err := ecdsa.SignASN1(rand.Reader, k, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig, err := es384().raw(der)
	if err != nil {
		t.Fatal(err)
	}
	return appendPart(append(b, '.'), sig)
}

func TestSign(t *testing.T) {
	k := newKey(t, elliptic.P384())
	token, err := Sign(k, typ, []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(token, typ, thumbprint(t, k))
	if err != nil || string(got) != `{"a":1}` {
		t.Errorf("Verify = %s, %v", got, err)
	}
	header, _, _ := bytes.Cut(token, []byte("."))
	text, _ := base64.RawURLEncoding.DecodeString(string(header))
	if !bytes.HasPrefix(text, []byte(`{"alg":"ES384","jwk":{"crv":"P-384","kty":"EC","x":"`)) || !bytes.HasSuffix(text, []byte(`"},"typ":"test+jws"}`)) {
		t.Errorf("header %s", text)
	}
}

// Every other spelling, key, type and algorithm is refused.
func TestVerifyRefuses(t *testing.T) {
	k, other := newKey(t, elliptic.P384()), newKey(t, elliptic.P384())
	id := thumbprint(t, k)
	token, err := Sign(k, typ, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(token), ".")
	text, _ := base64.RawURLEncoding.DecodeString(parts[0])
	header := string(text)
	if _, err := Verify(forge(t, k, header, "payload"), typ, id); err != nil {
		t.Fatalf("the forger's own: %v", err)
	}
	sig, _ := base64.RawURLEncoding.DecodeString(parts[2])
	long := base64.RawURLEncoding.EncodeToString(append([]byte{0}, sig...))
	edit := func(old, new string) []byte {
		h := strings.Replace(header, old, new, 1)
		if h == header {
			t.Fatalf("no %s in the header", old)
		}
		return forge(t, k, h, "payload")
	}
	for name, bad := range map[string][]byte{
		"empty":                   nil,
		"two parts":               []byte(parts[0] + "." + parts[1]),
		"four parts":              []byte(string(token) + "."),
		"too large":               append(bytes.Clone(token), bytes.Repeat([]byte("A"), MaxSize)...),
		"line break":              []byte(string(token) + "\n"),
		"padding":                 []byte(string(token) + "="),
		"other payload":           []byte(parts[0] + ".AAAA." + parts[2]),
		"no signature":            []byte(parts[0] + "." + parts[1] + "."),
		"longer signature":        []byte(parts[0] + "." + parts[1] + "." + long),
		"standard base64":         []byte(parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])-1] + "+"),
		"zero signature":          []byte(parts[0] + "." + parts[1] + "." + strings.Repeat("A", 128)),
		"signature bit":           flip(token, len(token)-2),
		"of another key":          must(Sign(other, typ, []byte("payload"))),
		"another key's signature": forge(t, other, header, "payload"),
		"of another type":         must(Sign(k, "other+jws", []byte("payload"))),
		"no type":                 edit(`,"typ":"test+jws"`, ""),
		"alg none":                edit("ES384", "none"),
		"alg ES256":               edit("ES384", "ES256"),
		"critical extension":      edit(`{"alg"`, `{"crit":["b64"],"alg"`),
		"unknown member":          edit(`,"typ"`, `,"kid":"1","typ"`),
		"space":                   edit(`,"typ"`, `, "typ"`),
		"duplicate member":        edit(`{"alg"`, `{"alg":"none","alg"`),
		"other order":             edit(`"crv":"P-384","kty":"EC"`, `"kty":"EC","crv":"P-384"`),
		"other curve":             edit(`P-384`, `P-256`),
		"escaped":                 edit(`test+jws`, `test\u002bjws`),
		"short x":                 edit(`"x":"`, `"x":"","z":"`),
		"trailing":                edit(`"test+jws"}`, `"test+jws"}{}`),
	} {
		if got, err := Verify(bad, typ, id); !errors.Is(err, ErrInvalid) || got != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if _, err := Verify(token, typ, [32]byte{}); !errors.Is(err, ErrInvalid) {
		t.Error("a zero thumbprint is somebody's")
	}
}

func flip(token []byte, i int) []byte {
	b := bytes.Clone(token)
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return b
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// A thumbprint is that of RFC 7638: the required members in their order.
func TestThumbprint(t *testing.T) {
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P521()} {
		k := newKey(t, c)
		if _, err := Thumbprint(&k.PublicKey); (err == nil) != (c == elliptic.P256()) {
			t.Errorf("of %s", c.Params().Name)
		}
		if _, err := Sign(k, typ, nil); err == nil {
			t.Errorf("signed with %s", c.Params().Name)
		}
	}
}

// token signs as a broken token might.
type token struct {
	*ecdsa.PrivateKey
	sig []byte
	err error
}

func (k token) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return k.sig, k.err }

func TestBrokenSigner(t *testing.T) {
	k := newKey(t, elliptic.P384())
	for name, s := range map[string]token{
		"error":    {k, nil, errors.New("removed")},
		"nothing":  {k, nil, nil},
		"garbage":  {k, []byte("garbage"), nil},
		"negative": {k, []byte{0x30, 6, 2, 1, 0xff, 2, 1, 1}, nil},
		"zero":     {k, []byte{0x30, 6, 2, 1, 0, 2, 1, 1}, nil},
		"trailing": {k, []byte{0x30, 6, 2, 1, 1, 2, 1, 1, 0}, nil},
		"too long": {k, append([]byte{0x30, 56, 2, 51}, append(bytes.Repeat([]byte{1}, 51), 2, 1, 1)...), nil},
	} {
		if got, err := Sign(s, typ, nil); err == nil || got != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	k := newKey(f, elliptic.P384())
	id := thumbprint(f, k)
	good := must(Sign(k, typ, []byte("payload")))
	f.Add(good)
	f.Add([]byte(".."))
	f.Add([]byte("e30.e30.e30"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Verify(b, typ, id); err == nil && !bytes.Equal(b, good) {
			t.Errorf("verifies: %s", b)
		}
	})
}
