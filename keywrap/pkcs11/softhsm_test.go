//go:build cgo

package pkcs11_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/teebroker/teebroker/keywrap/pkcs11"
)

const pin = "1234-5678"

// module returns the path of SoftHSM's module. Without it a test is skipped, and
// fails in CI.
func module(t testing.TB) string {
	t.Helper()
	path := os.Getenv("TEEBROKER_PKCS11_MODULE")
	if path == "" {
		path = "/usr/lib/softhsm/libsofthsm2.so"
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

// soft is a token of SoftHSM in a directory of its own.
type soft struct {
	testing.TB
	dir    string // of all tokens
	module string
}

// newSoft returns a new token called "test".
func newSoft(t testing.TB) *soft {
	t.Helper()
	s := &soft{t, filepath.Join(t.TempDir(), "tokens"), module(t)}
	conf := filepath.Join(filepath.Dir(s.dir), "softhsm2.conf")
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+s.dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	s.init("test")
	return s
}

// init adds a token of this label.
func (s *soft) init(label string) {
	s.Helper()
	cmd := exec.Command("softhsm2-util", "--module", s.module, "--init-token", "--free", "--label", label, "--so-pin", "so-"+pin, "--pin", pin)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.Fatalf("%v: %s", err, out)
	}
}

// config opens the token, but for what edit changes.
func (s *soft) config(edit func(*pkcs11.Config)) pkcs11.Config {
	cfg := pkcs11.Config{Module: s.module, URI: pkcs11.URI{Token: "test", PIN: []byte(pin)}}
	if edit != nil {
		edit(&cfg)
	}
	return cfg
}

// open opens the token until the end of the test.
func (s *soft) open(edit func(*pkcs11.Config)) *pkcs11.Token {
	s.Helper()
	t, err := pkcs11.Open(s.Context(), s.config(edit))
	s.check(err)
	s.Cleanup(func() { s.check(t.Close()) })
	return t
}

func (s *soft) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// remove takes all tokens away, and the result puts them back.
func (s *soft) remove() (back func()) {
	s.Helper()
	away := s.dir + ".away"
	s.check(os.Rename(s.dir, away))
	return func() {
		s.Helper()
		s.check(os.Rename(away, s.dir))
	}
}
