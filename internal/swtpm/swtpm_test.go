package swtpm

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

var _ transport.TPM = (*Process)(nil)

// started returns a TPM. In CI it has to be there.
func started(t *testing.T, dir string, key []byte) *Process {
	t.Helper()
	p, err := Start(dir, key)
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skipf("SKIPPED, NOT PASSED: no swtpm: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func storageKey(t *testing.T, p *Process) []byte {
	t.Helper()
	got, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(p)
	if err != nil {
		t.Fatal(err)
	}
	return got.Name.Buffer
}

// A TPM that is started from the files of another is that TPM, for who has the key
// of the files, and for nobody else.
func TestState(t *testing.T) {
	key := make([]byte, KeySize)
	rand.Read(key)
	dir := t.TempDir()
	p := started(t, dir, key)
	name := storageKey(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	state, err := os.ReadFile(filepath.Join(dir, StateFile))
	if err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	if err := os.WriteFile(filepath.Join(copied, StateFile), state, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := storageKey(t, started(t, copied, key)); !bytes.Equal(got, name) {
		t.Errorf("from a copy: %x, want %x", got, name)
	}
	if got := storageKey(t, started(t, t.TempDir(), key)); bytes.Equal(got, name) {
		t.Error("a new TPM has the keys of another")
	}
	key[0]++
	for name, key := range map[string][]byte{"another key": key, "no key": nil, "a short key": key[1:]} {
		other := t.TempDir()
		if err := os.WriteFile(filepath.Join(other, StateFile), state, 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := Start(other, key); err == nil {
			t.Errorf("starts with %s", name)
			_ = p.Close()
		}
	}
}

func TestEnded(t *testing.T) {
	p := started(t, t.TempDir(), nil)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Send(make([]byte, headerSize)); err == nil {
		t.Error("answers after its end")
	}
	if err := p.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

func TestNotThere(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := Start(t.TempDir(), nil); !errors.Is(err, exec.ErrNotFound) {
		t.Error(err)
	}
}
