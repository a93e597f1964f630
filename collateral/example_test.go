package collateral_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
)

// Files that answer to no name were ignored, and a tool can say so.
func ExampleDir() {
	dir, err := os.MkdirTemp("", "collateral")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("which chip was it?"), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	files, err := collateral.Dir(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	for path, names := range files.All() {
		fmt.Println(filepath.Base(path), len(names))
	}
	_, err = files.Get(context.Background(), "/vcek/v1/Milan/crl")
	fmt.Println(errors.Is(err, evidence.ErrNotFound))
	// Output:
	// notes.txt 0
	// true
}

// What is at hand comes before what has to be fetched.
func ExampleFirst() {
	offline := collateral.Fixed{"/vcek/v1/Milan/crl": {{Data: []byte("list")}}}
	vendor := collateral.Fixed{} // for example an HTTP client
	got, err := collateral.First(offline, vendor).Get(context.Background(), "/vcek/v1/Milan/crl")
	fmt.Println(len(got), err)
	// Output: 1 <nil>
}

// A site without a network opens one file, and is never led back to an earlier one.
func ExampleOpenBundleSince() {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}
	file, err := collateral.MakeBundle(key, collateral.Contents{
		Sequence: 12,
		Created:  time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
		Files:    map[string][]byte{collateral.CCAAnchorsFile: []byte("[]")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := collateral.OpenBundleSince(file, 12, &key.PublicKey)
	fmt.Println(b.Sequence(), err)
	_, err = collateral.OpenBundleSince(file, 13, &key.PublicKey)
	fmt.Println(errors.Is(err, collateral.ErrRollback))
	_, err = collateral.OpenBundle(file)
	fmt.Println(errors.Is(err, collateral.ErrUnsigned))
	// Output:
	// 12 <nil>
	// true
	// true
}

// A Cache goes between Verifiers and whoever has to be asked over a network.
func ExampleNewCache() {
	vendor := collateral.Fixed{} // for example a client of the KDS and of the PCS
	cache, err := collateral.NewCache(collateral.CacheConfig{
		Upstream: vendor,
		AMD:      snp.AMD(),
		Intel:    tdx.Intel(),
		Dir:      "", // for example /var/lib/broker/collateral
		Report:   func(err error) { fmt.Println(err) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cache.Close()
	_, err = snp.NewVerifier(snp.Config{Anchors: snp.AMD(), Source: cache})
	fmt.Println(err)
	// And every few minutes, so that no verification waits:
	fmt.Println(cache.Refresh(context.Background()))
	for _, e := range cache.Forecast().Before(time.Now().AddDate(0, 0, 14)) {
		fmt.Println(e.Kind, e.Name, "ends", e.Ends)
	}
	// Output:
	// <nil>
	// <nil>
}
