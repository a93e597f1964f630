package swtpm

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

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

// slow is a TPM that does not start with a command before it is sent a few times.
type slow struct {
	conn
	left int
	next bytes.Buffer
}

func (s *slow) SetDeadline(time.Time) error { return nil }

func (s *slow) Write(b []byte) (int, error) {
	code := uint32(0)
	if s.left > 0 {
		s.left--
		code = rcRetry
	}
	s.next.Write(binary.BigEndian.AppendUint32([]byte{0x80, 1, 0, 0, 0, 10}, code))
	return len(b), nil
}

func (s *slow) Read(b []byte) (int, error) { return s.next.Read(b) }

func TestRetry(t *testing.T) {
	for left, want := range map[int]uint32{0: 0, 3: 0, retries: 0, retries + 1: rcRetry} {
		p := &Process{conn: &slow{left: left}}
		got, err := p.Send(make([]byte, headerSize))
		if err != nil || binary.BigEndian.Uint32(got[6:]) != want {
			t.Errorf("%d times: %x, %v", left, got, err)
		}
	}
}

// What answers with less than a header, or with more than there is, is no TPM.
func TestNoResponse(t *testing.T) {
	for _, b := range [][]byte{nil, {0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0}, {0x80, 1, 0, 0, 0, 11, 0, 0, 0, 0}, {0x80, 1, 0xff, 0, 0, 0, 0, 0, 0, 0}} {
		s := &silent{}
		s.next.Write(b)
		if got, err := (&Process{conn: s}).Send(nil); err == nil {
			t.Errorf("%x: %x", b, got)
		}
	}
}

type silent struct{ slow }

func (s *silent) Write(b []byte) (int, error) { return len(b), nil }
