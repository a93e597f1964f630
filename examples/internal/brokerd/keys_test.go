package brokerd_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/examples/internal/brokerd"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/keyfile"
	"github.com/teebroker/teebroker/keywrap"
)

// An operator adds a key, sees it first, and retires the old one, whose id is
// never free again.
func TestKeyCommands(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	path := filepath.Join(t.TempDir(), "keys.json")
	f, err := keyfile.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Add("default", "old", keywrap.P384, time.Unix(1000, 0)); err != nil {
		t.Fatal(err)
	}
	if err := f.Create(path); err != nil {
		t.Fatal(err)
	}
	g := cli.Group{Name: "broker", Commands: brokerd.KeyCommands()}
	run := func(want int, args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if got := g.Main(append(append([]string{"key"}, args...), "-attestation-key", path), &stdout, &stderr); got != want {
			t.Errorf("%v: exit status %d, %s", args, got, &stderr)
		}
		return stdout.String()
	}
	run(cli.Yes, "add", "-kid", "new")
	run(cli.Yes, "add", "-kid", "plain", "-tenant", "acme", "-suite", "HPKE-P384")
	run(cli.Yes, "retire", "-kid", "old")
	var got [][]string
	for line := range strings.Lines(run(cli.Yes, "list")) {
		got = append(got, strings.Fields(line)[:4])
	}
	for i, want := range []string{"acme plain HPKE-P384 since", "default new HPKE-MLKEM1024-P384 since", "default old HPKE-P384 retired"} {
		if len(got) != 3 || strings.Join(got[i], " ") != want {
			t.Fatalf("line %d of %q, want %s", i, got, want)
		}
	}
	run(cli.Yes, "add", "-request", "-kid", "r1")
	run(cli.Yes, "add", "-request", "-kid", "r2")
	run(cli.Yes, "add", "-request", "-kid", "r3")
	run(cli.Yes, "retire", "-request", "-kid", "r2")
	listed := strings.Split(run(cli.Yes, "list"), "\n")
	for i, want := range []string{"(requests) r3 HPKE-MLKEM768-X25519 since", "(requests) r2 HPKE-MLKEM768-X25519 retired", "(requests) r1 HPKE-MLKEM768-X25519 until"} {
		if len(listed) != 7 || strings.Join(strings.Fields(listed[3+i])[:4], " ") != want {
			t.Fatalf("line %d of %q, want %s", 3+i, listed, want)
		}
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"add"},
		{"add", "-kid", "old"},
		{"add", "-kid", "new"},
		{"add", "-kid", "x y"},
		{"add", "-kid", "x", "-suite", "HPKE-P256"},
		{"add", "-kid", "x", "-tenant", "No"},
		{"add", "-kid", "x", "-in-token", "pkcs11:object=a?module-path=/none.so&pin-value=1"},
		{"add", "-kid", "x", "-in-token", "file"},
		{"retire"},
		{"retire", "-kid", "none"},
		{"retire", "-kid", "new", "-tenant", "acme"},
		{"add", "-request", "-kid", "r3"},
		{"add", "-request", "-kid", "r4", "-tenant", "acme"},
		{"add", "-request", "-kid", "r4", "-suite", "HPKE-P384"},
		{"add", "-request", "-kid", "r4", "-in-token", "pkcs11:object=a"},
		{"retire", "-request", "-kid", "new"},
		{"retire", "-kid", "r3"},
		{"list", "more"},
	} {
		run(cli.Unusable, args...)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("a command that failed changed the file, %v", err)
	}
	path += ".none"
	run(cli.Unusable, "list")
	run(cli.Unusable, "add", "-kid", "x")
}
