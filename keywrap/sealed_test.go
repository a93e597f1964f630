package keywrap_test

import (
	"bytes"
	"crypto/fips140"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/keywrap"
)

func isJWE(suite keywrap.Suite) bool { return strings.HasPrefix(string(suite), "JWE-") }

// info is what a suite can authenticate: nothing in a JWE.
func info(suite keywrap.Suite) []byte {
	if isJWE(suite) {
		return nil
	}
	return []byte("context")
}

func seal(t testing.TB, r keywrap.Recipient, secret []byte) keywrap.Sealed {
	t.Helper()
	s, err := r.Seal(secret, info(r.Suite()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func marshal(t testing.TB, s keywrap.Sealed) []byte {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// roundTrip seals to a fresh key, sends it as JSON, and opens it.
func roundTrip(t *testing.T, suite keywrap.Suite, secret []byte) {
	k := generate(t, suite)
	r, err := keywrap.Parse(suite, k.Recipient().Bytes(), only(suite))
	if err != nil {
		t.Fatal(err)
	}
	if r.Thumbprint() != k.Recipient().Thumbprint() {
		t.Error("another key than the Opener's")
	}
	sent := marshal(t, seal(t, r, secret))
	var s keywrap.Sealed
	if err := json.Unmarshal(sent, &s); err != nil {
		t.Fatal(err)
	}
	if s.Suite() != suite {
		t.Errorf("sealed with %q", s.Suite())
	}
	if again := marshal(t, s); !bytes.Equal(again, sent) {
		t.Errorf("marshals to\n%s\nthen\n%s", sent, again)
	}
	got, err := k.Open(t.Context(), s, info(suite))
	if err != nil || !bytes.Equal(got, secret) {
		t.Errorf("opened %d bytes of %d: %v", len(got), len(secret), err)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, suite := range suites() {
		t.Run(string(suite), func(t *testing.T) {
			if suite == keywrap.X25519 && fips140.Enforced() {
				refusedByFIPS(t)
				return
			}
			for _, size := range []int{0, 1, 32, 4096} {
				roundTrip(t, suite, bytes.Repeat([]byte{7}, size))
			}
		})
	}
}

// refusedByFIPS tests that X25519 is an error, not a panic, where the standard
// library does not allow it.
func refusedByFIPS(t *testing.T) {
	if _, err := keywrap.Generate(keywrap.X25519); !errors.Is(err, keywrap.ErrKey) {
		t.Errorf("Generate: %v", err)
	}
	nine := append([]byte{9}, make([]byte, 31)...)
	if _, err := keywrap.Parse(keywrap.X25519, nine, only(keywrap.X25519)); !errors.Is(err, keywrap.ErrKey) {
		t.Errorf("Parse: %v", err)
	}
}

// Everything but X25519 works when only approved algorithms are allowed.
func TestFIPSOnly(t *testing.T) {
	if fips140.Enforced() {
		t.Skip("is enforced already: the other tests say it")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.v", "-test.run", "^TestRoundTrip$")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, suite := range suites() {
		if !bytes.Contains(out, []byte("--- PASS: TestRoundTrip/"+string(suite))) {
			t.Errorf("%s did not run\n%s", suite, out)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	for _, suite := range suites() {
		r := generate(t, suite).Recipient()
		if _, err := r.Seal(make([]byte, keywrap.MaxSecret+1), nil); err == nil {
			t.Errorf("%s: sealed more than MaxSecret", suite)
		}
		if _, err := r.Seal([]byte("secret"), []byte("context")); (err == nil) == isJWE(suite) {
			t.Errorf("%s with info: %v", suite, err)
		}
	}
}

// The largest secret fits into what UnmarshalJSON takes.
func TestMaxSecret(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, keywrap.MaxSecret)
	for _, suite := range []keywrap.Suite{keywrap.MLKEM1024P384, keywrap.P256, keywrap.JWEP521, keywrap.JWERSA} {
		roundTrip(t, suite, secret)
	}
}

// resized returns the JSON of sealed with another length of one member.
func resized(t *testing.T, sealed []byte, name string, size int) []byte {
	t.Helper()
	m := fields(t, sealed)
	value := unbase64(t, m[name])
	m[name] = base64url(append(value, make([]byte, max(0, size-len(value)))...)[:size])
	return join(t, m)
}

// Lengths are seen before anything is decrypted.
func TestSealedLengths(t *testing.T) {
	for _, suite := range suites() {
		sealed := marshal(t, seal(t, generate(t, suite).Recipient(), []byte("secret")))
		bad := map[string][]int{
			"encrypted_key": {0, 24, 32, 39, 41, 48},
			"iv":            {0, 8, 11, 13, 16},
			"ciphertext":    {keywrap.MaxSecret + 1},
			"tag":           {0, 8, 12, 15, 17, 32},
		}
		if suite == keywrap.JWERSA {
			bad["encrypted_key"] = []int{0, 40, 128, 255, 513, 1024}
		}
		if !isJWE(suite) {
			enc := len(unbase64(t, fields(t, sealed)["enc"]))
			bad = map[string][]int{"enc": {0, enc - 1, enc + 1}, "ct": {0, 1, 15, keywrap.MaxSecret + 17}}
		}
		for name, sizes := range bad {
			for _, size := range sizes {
				var s keywrap.Sealed
				if err := s.UnmarshalJSON(resized(t, sealed, name, size)); !errors.Is(err, keywrap.ErrOpen) || s.Suite() != "" {
					t.Errorf("%s: %s of %d bytes: %v", suite, name, size, err)
				}
			}
		}
		var s keywrap.Sealed
		spaces := append(bytes.Repeat([]byte{' '}, keywrap.MaxSecret*4/3+16<<10), sealed...)
		if err := s.UnmarshalJSON(spaces); !errors.Is(err, keywrap.ErrOpen) {
			t.Errorf("%s: after spaces without end: %v", suite, err)
		}
	}
}

// IV, ciphertext and tag are one after the other when they are decrypted: where
// one ends and the next begins is not for the sender to say.
func TestSealedBoundaries(t *testing.T) {
	for _, suite := range jweSuites() {
		o := generate(t, suite)
		sealed := marshal(t, seal(t, o.Recipient(), []byte("secret")))
		for _, move := range []func(iv, ct, tag []byte) (a, b, c []byte){
			func(iv, ct, tag []byte) (a, b, c []byte) { return append(iv, ct[0]), ct[1:], tag },
			func(iv, ct, tag []byte) (a, b, c []byte) { return iv[:11], append(iv[11:], ct...), tag },
			func(iv, ct, tag []byte) (a, b, c []byte) { return iv, append(ct, tag[0]), tag[1:] },
			func(iv, ct, tag []byte) (a, b, c []byte) { return iv, ct[:5], append(ct[5:], tag...) },
		} {
			m := fields(t, sealed)
			iv, ct, tag := move(unbase64(t, m["iv"]), unbase64(t, m["ciphertext"]), unbase64(t, m["tag"]))
			m["iv"], m["ciphertext"], m["tag"] = base64url(iv), base64url(ct), base64url(tag)
			refused(t, string(suite), o, join(t, m), nil)
		}
		// The ciphertext of an empty secret is empty, not absent.
		m := fields(t, marshal(t, seal(t, o.Recipient(), nil)))
		delete(m, "ciphertext")
		refused(t, string(suite)+": no ciphertext", o, join(t, m), nil)
	}
}

func TestSealLeavesInputs(t *testing.T) {
	for _, suite := range suites() {
		k := generate(t, suite)
		secret, context := []byte("secret"), info(suite)
		s, err := k.Recipient().Seal(secret, context)
		if err != nil {
			t.Fatal(err)
		}
		if string(secret) != "secret" || !bytes.Equal(context, info(suite)) {
			t.Errorf("%s: inputs modified", suite)
		}
		clear(secret)
		clear(context)
		if got, err := k.Open(t.Context(), s, info(suite)); err != nil || string(got) != "secret" {
			t.Errorf("%s: inputs kept: %q, %v", suite, got, err)
		}
	}
}

func TestSealedOwnsItsBytes(t *testing.T) {
	for _, suite := range suites() {
		k := generate(t, suite)
		sent := marshal(t, seal(t, k.Recipient(), []byte("secret")))
		var s keywrap.Sealed
		if err := s.UnmarshalJSON(sent); err != nil {
			t.Fatal(err)
		}
		clear(sent)
		out, err := s.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		clear(out)
		for range 2 {
			got, err := k.Open(t.Context(), s, info(suite))
			if err != nil || string(got) != "secret" {
				t.Errorf("%s: changed from outside: %q, %v", suite, got, err)
			}
			clear(got)
		}
	}
}

// No two Sealed are equal in any part that has to be fresh.
func TestSealIsFresh(t *testing.T) {
	for _, suite := range suites() {
		r := generate(t, suite).Recipient()
		a, b := fields(t, marshal(t, seal(t, r, []byte("secret")))), fields(t, marshal(t, seal(t, r, []byte("secret"))))
		for name, text := range a {
			fixed := name == "suite" || name == "protected" && suite == keywrap.JWERSA
			if (b[name] == text) != fixed {
				t.Errorf("%s: %s twice the same: %v", suite, name, b[name] == text)
			}
		}
	}
}

func fields(t testing.TB, b []byte) map[string]string {
	t.Helper()
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// The bytes of a JWE header are the ones that clients in Rust recompute.
func TestHeaderBytes(t *testing.T) {
	for _, suite := range suites() {
		if !isJWE(suite) {
			continue
		}
		b := marshal(t, seal(t, generate(t, suite).Recipient(), []byte("secret")))
		header, err := base64.RawURLEncoding.DecodeString(fields(t, b)["protected"])
		if err != nil {
			t.Fatal(err)
		}
		// A map marshals its members in alphabetical order, without spaces.
		var m any
		if err := json.Unmarshal(header, &m); err != nil {
			t.Fatal(err)
		}
		if again, err := json.Marshal(m); err != nil || !bytes.Equal(again, header) {
			t.Errorf("%s: %s, want %s", suite, header, again)
		}
	}
}

func TestZeroSealed(t *testing.T) {
	var s keywrap.Sealed
	if b, err := json.Marshal(s); err == nil {
		t.Errorf("zero Sealed marshals to %s", b)
	}
	if s.Suite() != "" {
		t.Errorf("zero Sealed is of suite %q", s.Suite())
	}
	for _, suite := range suites() {
		if _, err := generate(t, suite).Open(t.Context(), s, nil); !errors.Is(err, keywrap.ErrOpen) {
			t.Errorf("%s opens the zero Sealed: %v", suite, err)
		}
	}
}
