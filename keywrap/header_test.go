package keywrap_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/keywrap"
)

var header = keywrap.Header{By: "owner", KeyID: "k1", Tenant: "acme", Instance: [16]byte{15: 1}, Purpose: "disk"}

// The format is that of section 6 of the protocol, and opens with what is said
// there.
func TestWrap(t *testing.T) {
	for _, suite := range keywrap.OwnerSuites() {
		k := generate(t, suite)
		w, err := keywrap.Wrap(k.Recipient(), header, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := base64.RawURLEncoding.DecodeString(string(w.Protected))
		want := `{"v":1,"by":"owner","kid":"k1","suite":"` + string(suite) + `","tenant":"acme",` +
			`"instance":"00000000-0000-0000-0000-000000000001","purpose":"disk","epoch":0}`
		if err != nil || string(text) != want {
			t.Errorf("header %s, %v", text, err)
		}
		var box keywrap.Sealed
		if err := json.Unmarshal(fmt.Appendf(nil, `{"suite":%q,"enc":%q,"ct":%q}`, suite, w.Enc, w.Ciphertext), &box); err != nil {
			t.Fatal(err)
		}
		info := append([]byte("teebroker/v1/wrap\x00"), w.Protected...)
		if got, err := k.Open(t.Context(), box, info); err != nil || string(got) != "secret" {
			t.Errorf("%q, %v", got, err)
		}
		if got, err := w.Unwrap(t.Context(), k); err != nil || string(got) != "secret" {
			t.Errorf("%q, %v", got, err)
		}
		for name, bad := range map[string]keywrap.Wrapped{
			"another header": {Protected: mustWrap(t, k, keywrap.Header{By: "owner", KeyID: "k2", Tenant: "acme", Image: "i", Purpose: "disk"}).Protected, Enc: w.Enc, Ciphertext: w.Ciphertext},
			"another enc":    {Protected: w.Protected, Enc: mustWrap(t, k, header).Enc, Ciphertext: w.Ciphertext},
			"short enc":      {Protected: w.Protected, Enc: w.Enc[:8], Ciphertext: w.Ciphertext},
			"no base64":      {Protected: w.Protected, Enc: w.Enc, Ciphertext: []byte("!")},
			"short":          {Protected: w.Protected, Enc: w.Enc, Ciphertext: w.Ciphertext[:8]},
			"zero":           {},
		} {
			if got, err := bad.Unwrap(t.Context(), k); !errors.Is(err, keywrap.ErrOpen) || got != nil {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if got, err := w.Unwrap(t.Context(), generate(t, suite)); !errors.Is(err, keywrap.ErrOpen) || got != nil {
			t.Errorf("another key: %q, %v", got, err)
		}
		if got, err := w.Unwrap(t.Context(), generate(t, keywrap.P256)); !errors.Is(err, keywrap.ErrOpen) || got != nil {
			t.Errorf("a key of another suite: %q, %v", got, err)
		}
	}
}

func mustWrap(t testing.TB, k keywrap.Opener, h keywrap.Header) keywrap.Wrapped {
	t.Helper()
	w, err := keywrap.Wrap(k.Recipient(), h, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWrapRefuses(t *testing.T) {
	k := generate(t, keywrap.P384).Recipient()
	for name, edit := range map[string]func(*keywrap.Header){
		"by nobody":         func(h *keywrap.Header) { h.By = "" },
		"no key id":         func(h *keywrap.Header) { h.KeyID = "" },
		"not a key id":      func(h *keywrap.Header) { h.KeyID = "a/b" },
		"no tenant":         func(h *keywrap.Header) { h.Tenant = "" },
		"no purpose":        func(h *keywrap.Header) { h.Purpose = "" },
		"for nobody":        func(h *keywrap.Header) { h.Instance = [16]byte{} },
		"for both":          func(h *keywrap.Header) { h.Image = "i" },
		"epoch of an image": func(h *keywrap.Header) { h.Instance, h.Image, h.Epoch = [16]byte{}, "i", 1 },
		"a long image":      func(h *keywrap.Header) { h.Instance, h.Image = [16]byte{}, strings.Repeat("i", 257) },
	} {
		h := header
		edit(&h)
		if w, err := keywrap.Wrap(k, h, []byte("secret")); !errors.Is(err, keywrap.ErrKey) || w.Protected != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, suite := range []keywrap.Suite{keywrap.P256, keywrap.X25519, keywrap.MLKEM768X25519, keywrap.JWEP384} {
		if _, err := keywrap.Wrap(generate(t, suite).Recipient(), header, []byte("s")); !errors.Is(err, keywrap.ErrKey) {
			t.Errorf("%s: %v", suite, err)
		}
	}
	if _, err := keywrap.Wrap(keywrap.Recipient{}, header, []byte("s")); !errors.Is(err, keywrap.ErrKey) {
		t.Error("to nobody")
	}
	if _, err := keywrap.Wrap(k, header, make([]byte, keywrap.MaxSecret+1)); err == nil {
		t.Error("a secret too long")
	}
}

// A header has one meaning or none.
func FuzzHeader(f *testing.F) {
	w := mustWrap(f, generate(f, keywrap.P384), header)
	text, err := base64.RawURLEncoding.DecodeString(string(w.Protected))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(bytes.Replace(text, []byte(`"epoch":0`), []byte(`"epoch":0,"owner":null`), 1))
	f.Add([]byte(`{"v":1,"by":"broker","kid":"k","suite":"A256GCM","tenant":"t","image":"i","purpose":"p","epoch":0}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := (keywrap.Wrapped{Protected: []byte(base64.RawURLEncoding.EncodeToString(text))}).Header()
		if err != nil {
			if h != (keywrap.Header{}) || !errors.Is(err, keywrap.ErrOpen) {
				t.Errorf("%s: %+v, %v", text, h, err)
			}
			return
		}
		again, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if h2, err := (keywrap.Wrapped{Protected: []byte(base64.RawURLEncoding.EncodeToString(again))}).Header(); err != nil || h2 != h {
			t.Errorf("%s reads as %+v, %s as %+v, %v", text, h, again, h2, err)
		}
	})
}

// Of what can be said in two ways one is taken.
func TestHeaderRefuses(t *testing.T) {
	const good = `{"v":1,"by":"owner","kid":"k","suite":"HPKE-P384","tenant":"t","image":"i","purpose":"p","epoch":0}`
	parse := func(text string) (keywrap.Header, error) {
		return keywrap.Wrapped{Protected: []byte(base64.RawURLEncoding.EncodeToString([]byte(text)))}.Header()
	}
	if _, err := parse(good); err != nil {
		t.Fatal(err)
	}
	zero := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	for _, add := range []string{
		`"instance":"00000000-0000-0000-0000-000000000000"`, `"instance":null`, `"owner":"` + zero + `"`, `"policy":"` + zero + `"`, `"policy":null`,
		`"v":1`, `"V":1`, `"x":1`, `"instance":"00000000-0000-0000-0000-000000000001"`,
	} {
		if h, err := parse(good[:len(good)-1] + "," + add + "}"); !errors.Is(err, keywrap.ErrOpen) || h != (keywrap.Header{}) {
			t.Errorf("and %s: %v", add, err)
		}
	}
	for _, name := range []string{"v", "by", "kid", "suite", "tenant", "image", "purpose", "epoch"} {
		if _, err := parse(strings.Replace(good, `"`+name+`"`, `"owner"`, 1)); !errors.Is(err, keywrap.ErrOpen) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	if _, err := parse(strings.Replace(good, `"i"`, `"`+strings.Repeat("i", 5000)+`"`, 1)); !errors.Is(err, keywrap.ErrOpen) {
		t.Error("too long")
	}
	if _, err := (keywrap.Wrapped{Protected: []byte("e30=")}).Header(); !errors.Is(err, keywrap.ErrOpen) {
		t.Error("not base64url")
	}
}
