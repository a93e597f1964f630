package checkpoint_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
)

// fixedKey is the same in every process, so that fuzzing workers agree.
func fixedKey() *ecdsa.PrivateKey {
	scalar := make([]byte, 48)
	scalar[47] = 7
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), scalar)
	if err != nil {
		panic(err)
	}
	return key
}

func saveKey(t *testing.T, p *process) {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(p.identity)
	if err == nil {
		err = os.WriteFile(filepath.Join(p.dir, "key"), der, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// newKilled is the process in a directory that saveKey was called for.
func newKilled(dir string) *process {
	der, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil {
		panic(err)
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		panic(err)
	}
	return &process{T: &testing.T{}, dir: dir, identity: key}
}
