package keyfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/keyfile"
	"github.com/teebroker/teebroker/keywrap"
)

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// A broker's first start makes its keys; a later one rotates them.
func Example() {
	dir := must(os.MkdirTemp("", "keys"))
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "keys.json")

	f := must(keyfile.New())
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := errors.Join(f.Add("default", "2026-1", keywrap.MLKEM1024P384, start), f.Create(path)); err != nil {
		log.Fatal(err)
	}

	f = must(keyfile.Read(path))
	if err := errors.Join(f.Add("default", "2026-2", keywrap.MLKEM1024P384, start.AddDate(0, 6, 0)), f.Replace(path)); err != nil {
		log.Fatal(err)
	}
	keys := must(f.Keys(nil))
	for _, k := range must(keys.Published(context.Background(), "default")) {
		fmt.Println(k.ID, k.Opener.Recipient().Suite())
	}
	fmt.Println("in a token:", keys.InToken())
	// Output:
	// 2026-2 HPKE-MLKEM1024-P384
	// 2026-1 HPKE-MLKEM1024-P384
	// in a token: false
}

func newFile(t testing.TB) *keyfile.File {
	t.Helper()
	f := must(keyfile.New())
	for _, k := range []struct {
		tenant, kid string
		suite       keywrap.Suite
	}{{"acme", "old", keywrap.P384}, {"acme", "new", keywrap.MLKEM1024P384}, {"other", "old", keywrap.P384}} {
		if err := f.Add(k.tenant, k.kid, k.suite, time.Unix(1000, 0)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// What is read is what was written: the same keys, in the same order.
func TestWriteRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	f := newFile(t)
	if err := f.Create(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := newFile(t).Create(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("created over another: %v", err)
	}
	got, err := keyfile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	same(t, f, got)
	if err := f.Retire("acme", "old"); err != nil {
		t.Fatal(err)
	}
	if err := f.Replace(path); err != nil {
		t.Fatal(err)
	}
	if got, err = keyfile.Read(path); err != nil {
		t.Fatal(err)
	}
	same(t, f, got)
	keys := must(got.Keys(nil))
	if _, err := keys.Key(t.Context(), "acme", "old"); !errors.Is(err, teebroker.ForeignBlob) {
		t.Errorf("a retired key opens: %v", err)
	}
	if _, err := keys.Key(t.Context(), "other", "old"); err != nil {
		t.Errorf("another tenant's key of that name: %v", err)
	}
	if es, err := os.ReadDir(filepath.Dir(path)); err != nil || len(es) != 1 {
		t.Errorf("left behind: %v, %v", es, err)
	}
}

func same(t *testing.T, a, b *keyfile.File) {
	t.Helper()
	if !a.Identity().Equal(b.Identity()) || a.CipherKey() != b.CipherKey() || a.NonceKey() != b.NonceKey() ||
		a.CipherKey() == a.NonceKey() || a.CipherKey() == [32]byte{} {
		t.Error("other keys")
	}
	for _, tenant := range []string{"acme", "other"} {
		x, y := must(must(a.Keys(nil)).Published(t.Context(), tenant)), must(must(b.Keys(nil)).Published(t.Context(), tenant))
		if len(x) != len(y) || len(x) == 0 {
			t.Fatalf("%d keys of %s, want %d", len(y), tenant, len(x))
		}
		for i := range x {
			if x[i].ID != y[i].ID || x[i].Opener.Recipient().Thumbprint() != y[i].Opener.Recipient().Thumbprint() || !x[i].NotBefore.Equal(y[i].NotBefore) {
				t.Errorf("key %d of %s: %s, want %s", i, tenant, y[i].ID, x[i].ID)
			}
		}
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys")
	if err := newFile(t).Create(path); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o606, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := keyfile.Read(path); !errors.Is(err, keyfile.ErrFile) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := keyfile.Read(dir); !errors.Is(err, keyfile.ErrFile) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := keyfile.Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, bytes.Repeat([]byte(" "), 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keyfile.Read(large); !errors.Is(err, keyfile.ErrFile) {
		t.Errorf("too large: %v", err)
	}
	if err := newFile(t).Create(filepath.Join(dir, "none", "keys")); err == nil {
		t.Error("written into nothing")
	}
}

// text is the JSON of a new file.
func text(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := newFile(t).Create(path); err != nil {
		t.Fatal(err)
	}
	return string(must(os.ReadFile(path)))
}

func TestParseRefuses(t *testing.T) {
	good := text(t)
	if _, err := keyfile.Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	edit := func(pattern, with string) string {
		re := regexp.MustCompile(pattern)
		at := re.FindStringIndex(good)
		if at == nil {
			t.Fatalf("no %s in %s", pattern, good)
		}
		return good[:at[0]] + re.ReplaceAllString(good[at[0]:at[1]], with) + good[at[1]:]
	}
	for name, bad := range map[string]string{
		"nothing":             "",
		"not an object":       "[]",
		"trailing":            good + "{}",
		"version":             edit(`"v": 1`, `"v": 2`),
		"no version":          edit(`"v": 1,`, ``),
		"unknown member":      edit(`"v": 1`, `"v": 1, "x": 1`),
		"identity":            edit(`"identity": "..`, `"identity": "`),
		"no identity":         edit(`"identity": "[^"]*",`, ``),
		"identity zero":       edit(`"identity": "[^"]*"`, `"identity": "`+strings.Repeat("A", 64)+`"`),
		"no cipher key":       edit(`"cipher": "[^"]*",`, ``),
		"no EAR key":          edit(`"ear": "[^"]*",`, ``),
		"no nonce key":        edit(`"nonce": "[^"]*",`, ``),
		"tenant":              edit(`"tenant": "other"`, `"tenant": "Other"`),
		"key id":              edit(`"kid": "new"`, `"kid": ""`),
		"suite":               edit(`"HPKE-P384"`, `"HPKE-P256"`),
		"another suite":       edit(`"HPKE-P384"`, `"HPKE-MLKEM1024-P384"`),
		"no seed":             edit(`"seed": "[^"]*",`, ``),
		"seed":                edit(`"seed": "....`, `"seed": "`),
		"seed beside a token": edit(`"seed": `, `"token": "pkcs11:object=a", "seed": `),
		"retired with a seed": edit(`"not_before": 1000`, `"not_before": 1000, "retired": true`),
		"not before 1970":     edit(`"not_before": 1000`, `"not_before": -1`),
		"never":               edit(`"not_before": 1000`, `"not_before": 1000, "not_after": 1000`),
	} {
		f, err := keyfile.Parse([]byte(bad))
		if !errors.Is(err, keyfile.ErrFile) || f != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Errors of a file of secrets quote nothing of it.
	if _, err := keyfile.Parse([]byte(`{"tell":"nobody"}`)); err == nil || strings.Contains(err.Error(), "tell") {
		t.Error(err)
	}
}

func TestAdd(t *testing.T) {
	f := newFile(t)
	at := time.Unix(1, 0)
	for name, err := range map[string]error{
		"again":           f.Add("acme", "old", keywrap.P384, at),
		"tenant":          f.Add("", "x", keywrap.P384, at),
		"id":              f.Add("acme", "x y", keywrap.P384, at),
		"suite":           f.Add("acme", "x", keywrap.X25519, at),
		"suite in token":  f.AddToken("acme", "x", keywrap.P256, "pkcs11:object=x", at),
		"time":            f.Add("acme", "x", keywrap.P384, time.Time{}),
		"retire nothing":  f.Retire("acme", "x"),
		"retire nobody's": f.Retire("none", "old"),
	} {
		if !errors.Is(err, keyfile.ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.Retire("acme", "new"); err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, e := range f.Entries() {
		listed = append(listed, fmt.Sprint(e.Tenant, " ", e.ID, " ", e.Suite, " ", e.Token, e.NotBefore.Unix(), e.NotAfter.IsZero(), e.Retired))
	}
	if want := []string{
		"other old HPKE-P384 1000 true false", "acme new HPKE-MLKEM1024-P384 1000 true true", "acme old HPKE-P384 1000 true false",
	}; !slices.Equal(listed, want) {
		t.Errorf("listed %q", listed)
	}
	if err := f.Add("acme", "new", keywrap.P384, at); !errors.Is(err, keyfile.ErrFile) {
		t.Errorf("the id of a retired key is used again: %v", err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", f, f, f, f); strings.ContainsAny(s, "{[0123456789") {
		t.Errorf("formats as %s", s)
	}
}

// A key in a token comes from there, and its other half from the file.
func TestToken(t *testing.T) {
	f := must(keyfile.New())
	at := time.Unix(1, 0)
	for suite, uri := range map[keywrap.Suite]string{keywrap.P384: "pkcs11:object=a", keywrap.MLKEM1024P384: "pkcs11:object=b"} {
		if err := f.AddToken("acme", strings.ToLower(string(suite)), suite, uri, at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Keys(nil); err == nil {
		t.Error("opened without a token")
	}
	path := filepath.Join(t.TempDir(), "keys")
	if err := f.Create(path); err != nil {
		t.Fatal(err)
	}
	f = must(keyfile.Read(path))
	seeds := map[string]int{}
	keys, err := f.Keys(func(uri string, mlkem []byte) (keywrap.Opener, error) {
		seeds[uri] = len(mlkem)
		if uri == "pkcs11:object=b" {
			return keywrap.Generate(keywrap.MLKEM1024P384)
		}
		return keywrap.Generate(keywrap.P384)
	})
	if err != nil || seeds["pkcs11:object=a"] != 0 || seeds["pkcs11:object=b"] != 64 {
		t.Errorf("seeds %v, %v", seeds, err)
	}
	if _, err := keys.Key(t.Context(), "acme", "hpke-p384"); err != nil {
		t.Error(err)
	}
	if _, err := f.Keys(func(string, []byte) (keywrap.Opener, error) { return keywrap.Generate(keywrap.P384) }); err == nil {
		t.Error("a token's key of another suite is taken")
	}
	boom := errors.New("no token")
	if _, err := f.Keys(func(string, []byte) (keywrap.Opener, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(text(f)))
	f.Add([]byte(`{"v":1,"identity":"AA","cipher":"","nonce":"","attestation":[{"tenant":"a","kid":"b","retired":true}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if file, err := keyfile.Parse(b); err == nil && (file.Identity() == nil || file.CipherKey() == [32]byte{}) {
			t.Errorf("%d bytes read as no keys", len(b))
		}
	})
}
