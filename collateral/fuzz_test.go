package collateral_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/teebroker/teebroker/collateral"
)

// Fuzzing starts processes of its own, in which the keys of a simulated AMD would
// take longer than all the rest.

func smallContents() collateral.Contents {
	return collateral.Contents{
		Sequence: 7, Created: now,
		Collateral: collateral.Fixed{qeName: {identity(intel(), 18, now)}, pckName: {{Data: []byte("data"), Issuer: []byte("issuer")}}},
		Files:      map[string][]byte{"b.json": []byte("{}"), "a": {0, 1}},
	}
}

// Nothing opens that the site did not sign.
func FuzzOpenBundle(f *testing.F) {
	good := bundle(f, smallContents())
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
	_, body, _ := bytes.Cut(bundle(f, smallContents()), []byte("\n"))
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
	v.set(qeName, identity(intel(), 18, now))
	open := func(t testing.TB) *collateral.Cache {
		cache, err := collateral.NewCache(collateral.CacheConfig{Upstream: v, Intel: intel().Anchors(), Dir: dir, Time: (&clock{now}).now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cache.Close() })
		return cache
	}
	gets(f, open(f), qeName, v.has[qeName][0].Data)
	paths := kept(f, dir) // of the identity, and of the floor
	good, err := os.ReadFile(paths[0])
	if err != nil {
		f.Fatal(err)
	}
	v.down = errDown
	f.Add(good)
	f.Add([]byte(`{"collateral":"teebroker/1","name":"/tdx/certification/v4/qe/identity","data":"AA"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, path := range paths {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cache := open(t)
		got, err := cache.Get(t.Context(), qeName)
		if err == nil && !bytes.Equal(got[0].Data, v.has[qeName][0].Data) || err != nil && !errors.Is(err, errDown) {
			t.Errorf("%v, %v", got, err)
		}
		if n := cache.Stats().EvaluationDataNumber; n != 0 && n != 18 {
			t.Errorf("at %d", n)
		}
		// A tool that reads the folder does not fail either.
		if _, err := collateral.Dir(dir); err != nil {
			t.Error(err)
		}
	})
}
