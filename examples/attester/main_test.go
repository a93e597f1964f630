package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/teebroker/teebroker/snp"
)

const instance = "7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11"

// Launch identities of that instance, computed by other means.
const (
	identityOfAcme    = "c863e16450516e3b25823f38775a7dc765611fec7fb7c6a033525590c2b3bb9a"
	identityOfDefault = "7549bcbf02d029bb12347b508ab94de9676f23c4aad985e99da9d8473fe9727a"
)

// shared is one simulated platform for all tests: RSA keys take seconds.
var shared = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "attester-test-") })

func TestMain(m *testing.M) {
	status := m.Run()
	if dir, err := shared(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

func simulated(t *testing.T) string {
	t.Helper()
	dir, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "made", "at first use")
}

// try runs the program and returns status, standard output and standard error.
func try(args ...string) (int, string, string) {
	var stdout, stderr bytes.Buffer
	status := run(args, &stdout, &stderr)
	return status, stdout.String(), stderr.String()
}

// must is try for what has to succeed. It returns standard output.
func must(t *testing.T, args ...string) string {
	t.Helper()
	status, stdout, stderr := try(args...)
	if status != 0 || stderr != "" {
		t.Fatalf("%v: status %d: %s", args, status, stderr)
	}
	return stdout
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLaunchIdentity(t *testing.T) {
	dir := simulated(t)
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"nobody in particular", nil, strings.Repeat("00", 32)},
		{"tenant and instance", []string{"-tenant", "acme", "-instance", instance}, identityOfAcme},
		{"the default tenant", []string{"-instance", instance}, identityOfDefault},
		{"host data overrides", []string{"-instance", instance, "-host-data", "0102"}, "0102" + strings.Repeat("00", 30)},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "report")
			must(t, append([]string{"quote", "-tee", "snp", "-simulate", dir, "-report-data", "01", "-out", file}, test.args...)...)
			if got := hex.EncodeToString(read(t, file)[0xc0:0xe0]); got != test.want {
				t.Errorf("HOST_DATA %s, want %s", got, test.want)
			}
			var s shown
			if err := json.Unmarshal([]byte(must(t, append([]string{"show", "-simulate", dir}, test.args...)...)), &s); err != nil || s.HostData != test.want {
				t.Errorf("shown as %s, %v", s.HostData, err)
			}
		})
	}
}

// A platform stays what it is, and show says what its reports say.
func TestShow(t *testing.T) {
	dir, file := simulated(t), filepath.Join(t.TempDir(), "report")
	text := must(t, "show", "-simulate", dir, "-tee", "snp")
	if again := must(t, "show", "-simulate", dir); again != text {
		t.Errorf("first %s, then %s", text, again)
	}
	var s shown
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	must(t, "quote", "-tee", "snp", "-simulate", dir, "-report-data", "01", "-out", file)
	r, err := snp.ParseReport(read(t, file))
	if err != nil {
		t.Fatal(err)
	}
	digest := r.Measurement()
	family, model, stepping, _ := r.CPU()
	if s.Measurement != hex.EncodeToString(digest[:]) || s.Family != family || s.Model != model || s.Stepping != stepping || s.Line != "Turin" {
		t.Errorf("%+v", s)
	}
	if !strings.HasPrefix(s.Chip, hex.EncodeToString(read(t, file)[0x1a0:0x1a8])) || len(s.Chip) != 128 || len(s.Root) != 64 {
		t.Errorf("chip %s, root %s", s.Chip, s.Root)
	}
}

func TestRootsOfNewPlatform(t *testing.T) {
	if testing.Short() {
		t.Skip("makes RSA keys")
	}
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "roots.pem")
	must(t, "roots", "-simulate", dir, "-out", file)
	if n := bytes.Count(read(t, file), []byte("BEGIN CERTIFICATE")); n != 3 || bytes.Contains(read(t, file), []byte("PRIVATE")) {
		t.Errorf("%d certificates, want ARK, ASK and ASVK of Turin and no key", n)
	}
}

func TestUnusable(t *testing.T) {
	dir := simulated(t)
	quote := []string{"quote", "-tee", "snp", "-simulate", dir, "-report-data", "01", "-out", filepath.Join(t.TempDir(), "report")}
	with := func(args ...string) []string { return append(append([]string{}, quote...), args...) }
	for _, test := range []struct {
		name string
		args []string
		says string
	}{
		{"no command", nil, "Usage: attester COMMAND"},
		{"unknown command", []string{"steal"}, "no command steal"},
		{"no TEE", []string{"quote", "-simulate", dir, "-report-data", "01", "-out", "x"}, "-tee is required"},
		{"product of a TD", with("-tee", "tdx", "-product", "Milan"), "-product is of SEV-SNP"},
		{"product of a TD shown", []string{"show", "-tee", "tdx", "-simulate", dir, "-product", "Milan"}, "-product is of SEV-SNP"},
		{"product of a realm", with("-tee", "cca", "-product", "Milan"), "-product is of SEV-SNP"},
		{"product of a realm shown", []string{"show", "-tee", "cca", "-simulate", dir, "-product", "Milan"}, "-product is of SEV-SNP"},
		{"unknown TEE", with("-tee", "sgx"), "no such TEE"},
		{"no report data", []string{"quote", "-tee", "snp", "-simulate", dir, "-out", "x"}, "-report-data and -out are required"},
		{"no output", []string{"quote", "-tee", "snp", "-simulate", dir, "-report-data", "01"}, "-report-data and -out are required"},
		{"report data of no bytes", with("-report-data", ""), "no binding of 0 bytes"},
		{"report data of zeros", with("-report-data", "00"), "no binding of 1 bytes"},
		{"report data of 65 bytes", with("-report-data", strings.Repeat("01", 65)), "no binding of 65 bytes"},
		{"report data that is no hex", with("-report-data", "xy"), "-report-data"},
		{"unknown product", with("-product", "Naples"), "want Milan, Genoa or Turin"},
		{"product in lower case", with("-product", "milan"), "want Milan, Genoa or Turin"},
		{"tenant without instance", with("-tenant", "acme"), "-tenant needs -instance"},
		{"tenant in upper case", with("-tenant", "Acme"), "want 1 to 64 of a-z"},
		{"tenant of 65", with("-tenant", strings.Repeat("a", 65)), "want 1 to 64 of a-z"},
		{"instance in upper case", with("-instance", strings.ToUpper(instance)), "want a UUID in lower case"},
		{"host data of 33 bytes", with("-host-data", strings.Repeat("01", 33)), "want 1 to 32 bytes"},
		{"host data of no bytes", with("-host-data", ""), "want 1 to 32 bytes"},
		{"argument behind the flags", with("more"), "unexpected argument"},
		{"roots of nothing", []string{"roots", "-out", "x"}, "-simulate and -out are required"},
		{"show of nothing", []string{"show"}, "-simulate is required"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, stdout, stderr := try(test.args...)
			if status != 2 || stdout != "" || !strings.Contains(stderr, test.says) {
				t.Errorf("status %d, %q, %q; want %q", status, stdout, stderr, test.says)
			}
		})
	}
	if _, err := os.Stat(quote[len(quote)-1]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused quote was written: %v", err)
	}
}

func TestHelpTeaches(t *testing.T) {
	for _, test := range []struct {
		args []string
		says []string
	}{
		{[]string{"-h"}, []string{"attester quote -tee snp -simulate sim", "attester roots", "attester show"}},
		{[]string{"quote", "-h"}, []string{"attester quote -tee snp -report-data", "attester quote -tee cca -report-data", "-product", "-host-data", "Exit status"}},
		{[]string{"roots", "-h"}, []string{"attester roots -simulate sim -out roots.pem"}},
		{[]string{"show", "-h"}, []string{"attester show -simulate sim -product Milan"}},
	} {
		text := must(t, test.args...)
		for _, part := range test.says {
			if !strings.Contains(text, part) {
				t.Errorf("%v: no %q in the help", test.args, part)
			}
		}
	}
}
