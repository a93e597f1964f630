// Package vectors finds the test data that is shared between projects: genuine
// evidence, recordings of clients, independent vectors. It is for tests and for
// internal/differential only.
package vectors

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Folder returns the path of the folder of the shared vectors, which need not
// exist: see [Path].
func Folder() (string, error) {
	if dir := os.Getenv("TEEBROKER_VECTORS"); dir != "" {
		return dir, nil
	}
	checkout, err := root()
	if err != nil {
		return "", err
	}
	return filepath.Join(checkout, "..", "shared", "vectors"), nil
}

// Path returns the path of a file or folder of the shared vectors, such as
// "snp/manifest.json". They are in the folder that TEEBROKER_VECTORS names, or in
// shared/vectors beside the checkout. Without that folder the test is skipped,
// in CI it fails; a file that is missing from the folder always fails.
func Path(t testing.TB, name string) string {
	t.Helper()
	dir, err := Folder()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("shared vectors are required in CI: %v", err)
		}
		t.Skipf("SKIPPED, NOT PASSED: no shared vectors; TEEBROKER_VECTORS can name their folder: %v", err)
	}
	path := filepath.Join(dir, filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("vector %s: %v", name, err)
	}
	return path
}

// Read returns the content of a file of the shared vectors.
func Read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// JSON decodes a file of the shared vectors into v.
func JSON(t testing.TB, name string, v any) {
	t.Helper()
	if err := json.Unmarshal(Read(t, name), v); err != nil {
		t.Fatalf("vector %s: %v", name, err)
	}
}

// root returns the folder of go.mod.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = parent
	}
}
