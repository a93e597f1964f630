package collateral_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
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
