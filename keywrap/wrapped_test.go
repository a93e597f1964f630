package keywrap_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/keywrap"
)

type blobVector struct {
	Name   string                     `json:"name"`
	Blob   json.RawMessage            `json:"blob"`
	Digest string                     `json:"digest_hex"`
	Wrong  map[string]json.RawMessage `json:"wrong_digests_must_not_match"`
	Other  map[string]string          `json:"other_readings"`
}

func blobs(t testing.TB) []blobVector {
	t.Helper()
	var v struct {
		Blobs struct {
			Cases []blobVector `json:"cases"`
		} `json:"wrapped_blobs"`
	}
	vectors.JSON(t, "wire/vectors/v1_binding.json", &v)
	if len(v.Blobs.Cases) < 3 {
		t.Fatalf("%d blobs", len(v.Blobs.Cases))
	}
	return v.Blobs.Cases
}

func TestWrappedVectors(t *testing.T) {
	for _, tt := range blobs(t) {
		in := bytes.Clone(tt.Blob)
		w, err := keywrap.ParseWrapped(in)
		if err != nil {
			t.Errorf("%s: %v", tt.Name, err)
			continue
		}
		clear(in)
		want := fields(t, tt.Blob)
		if string(w.Protected) != want["protected"] || string(w.Enc) != want["enc"] || string(w.Ciphertext) != want["ciphertext"] {
			t.Errorf("%s: texts not as received", tt.Name)
		}
		digest := w.Digest()
		if hex.EncodeToString(digest[:]) != tt.Digest {
			t.Errorf("%s: digest %x", tt.Name, digest)
		}
		out, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		var again keywrap.Wrapped
		if err := json.Unmarshal(out, &again); err != nil || again.Digest() != digest {
			t.Errorf("%s: marshals to %s: %v", tt.Name, out, err)
		}
	}
}

// A byte that moves from one text to the next makes another digest.
func TestDigestKeepsBoundaries(t *testing.T) {
	seen := map[[32]byte]string{}
	for _, w := range []keywrap.Wrapped{
		{},
		{Protected: []byte("ab"), Enc: []byte("c"), Ciphertext: []byte("d")},
		{Protected: []byte("a"), Enc: []byte("bc"), Ciphertext: []byte("d")},
		{Protected: []byte("a"), Enc: []byte("b"), Ciphertext: []byte("cd")},
		{Protected: []byte("a"), Enc: []byte("bcd")},
		{Protected: []byte("abcd")},
		{Enc: []byte("abcd")},
		{Ciphertext: []byte("abcd")},
	} {
		text := string(w.Protected) + "|" + string(w.Enc) + "|" + string(w.Ciphertext)
		if other, ok := seen[w.Digest()]; ok {
			t.Errorf("%s and %s have one digest", text, other)
		}
		seen[w.Digest()] = text
	}
}

func TestParseWrappedRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":          ``,
		"null":             `null`,
		"list":             `["AA","AA","AA"]`,
		"no member":        `{}`,
		"no protected":     `{"enc":"AA","ciphertext":"AA"}`,
		"no enc":           `{"protected":"AA","ciphertext":"AA"}`,
		"no ciphertext":    `{"protected":"AA","enc":"AA"}`,
		"empty protected":  `{"protected":"","enc":"AA","ciphertext":"AA"}`,
		"empty enc":        `{"protected":"AA","enc":"","ciphertext":"AA"}`,
		"empty ciphertext": `{"protected":"AA","enc":"AA","ciphertext":""}`,
		"null enc":         `{"protected":"AA","enc":null,"ciphertext":"AA"}`,
		"number":           `{"protected":"AA","enc":1,"ciphertext":"AA"}`,
		"padding":          `{"protected":"AA==","enc":"AA","ciphertext":"AA"}`,
		"stray bits":       `{"protected":"AA","enc":"AB","ciphertext":"AA"}`,
		"other alphabet":   `{"protected":"AA","enc":"AA","ciphertext":"//"}`,
		"line break":       `{"protected":"AA","enc":"AA\n","ciphertext":"AA"}`,
		"unknown member":   `{"protected":"AA","enc":"AA","ciphertext":"AA","tag":"AA"}`,
		"duplicate":        `{"protected":"AA","enc":"AA","ciphertext":"AA","enc":"AA"}`,
		"case variant":     `{"Protected":"AA","enc":"AA","ciphertext":"AA"}`,
		"trailing data":    `{"protected":"AA","enc":"AA","ciphertext":"AA"} 1`,
		"too long":         `{"protected":"AA","enc":"AA","ciphertext":"` + strings.Repeat("AAAA", keywrap.MaxSecret/2) + `"}`,
	} {
		w, err := keywrap.ParseWrapped([]byte(in))
		if !errors.Is(err, keywrap.ErrOpen) || w.Protected != nil || w.Enc != nil || w.Ciphertext != nil {
			t.Errorf("%s: %v", name, err)
		}
		kept := keywrap.Wrapped{Protected: []byte("AA")}
		if err := kept.UnmarshalJSON([]byte(in)); !errors.Is(err, keywrap.ErrOpen) || string(kept.Protected) != "AA" {
			t.Errorf("%s: unmarshals: %v", name, err)
		}
	}
}

func TestZeroWrapped(t *testing.T) {
	for _, w := range []keywrap.Wrapped{
		{},
		{Enc: []byte("AA"), Ciphertext: []byte("AA")},
		{Protected: []byte("AA"), Ciphertext: []byte("AA")},
		{Protected: []byte("AA"), Enc: []byte("AA")},
	} {
		if b, err := json.Marshal(w); err == nil {
			t.Errorf("marshals to %s", b)
		}
	}
}

func FuzzParseWrapped(f *testing.F) {
	f.Add([]byte(`{"protected":"e30","enc":"AA","ciphertext":"_-8"}`))
	f.Add([]byte(`{"ciphertext":"_-8","enc":"\u0041A", "protected":"e30"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := keywrap.ParseWrapped(b)
		if err != nil {
			if !errors.Is(err, keywrap.ErrOpen) {
				t.Errorf("not ErrOpen: %v", err)
			}
			return
		}
		out, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := keywrap.ParseWrapped(out); err != nil || again.Digest() != w.Digest() {
			t.Errorf("marshals to %s: %v", out, err)
		}
	})
}
