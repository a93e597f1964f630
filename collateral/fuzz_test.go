package collateral_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/teebroker/teebroker/collateral"
)

// Nothing opens that the site did not sign.
func FuzzOpenBundle(f *testing.F) {
	good := bundle(f, contents())
	f.Add(good)
	f.Add([]byte("a.b.c\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		opened, err := collateral.OpenBundle(b, &siteKey().PublicKey)
		if (opened == nil) != (err != nil) || err == nil && !bytes.Equal(b, good) {
			t.Errorf("%v, %v", opened, err)
		}
	})
}

// What is in a bundle, once it is signed, is bounded and never panics.
func FuzzBundleContents(f *testing.F) {
	_, body, _ := bytes.Cut(bundle(f, contents()), []byte("\n"))
	f.Add(string(body))
	f.Add(emptyBody)
	f.Fuzz(func(t *testing.T, body string) {
		b, err := collateral.OpenBundle(sealed(t, siteKey(), bundleType, body, nil), &siteKey().PublicKey)
		if err != nil {
			return
		}
		for _, e := range b.Forecast() {
			if got, err := b.Get(t.Context(), e.Name); err != nil || len(got) == 0 || len(got[0].Data) == 0 {
				t.Errorf("%q: %v, %v", e.Name, got, err)
			}
		}
	})
}

// Whatever is in a file, a Cache hands out what is genuine.
func FuzzCacheFile(f *testing.F) {
	v, dir := newVendor(), f.TempDir()
	v.set(milanCRL, amdList(now, 30))
	gets(f, cacheOf(f, v, &clock{now}, dir), milanCRL, v.has[milanCRL][0].Data)
	path := kept(f, dir)[0]
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	v.down = errDown
	f.Add(good)
	f.Add([]byte(`{"collateral":"teebroker/1","name":"/vcek/v1/Milan/crl","data":"AA"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := cacheOf(t, v, &clock{now}, dir).Get(t.Context(), milanCRL)
		if err == nil && !bytes.Equal(got[0].Data, v.has[milanCRL][0].Data) || err != nil && !errors.Is(err, errDown) {
			t.Errorf("%v, %v", got, err)
		}
		// A tool that reads the folder does not fail either.
		if _, err := collateral.Dir(filepath.Dir(path)); err != nil {
			t.Error(err)
		}
	})
}
