package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/snp"
)

// tdxQuoteFrom runs quote in a TD whose device is d.
func tdxQuoteFrom(t *testing.T, d *fakeDevice, file string) (int, string) {
	t.Helper()
	open := func(tee string) (device, error) {
		if tee != teeTDX {
			t.Errorf("asked for the device of %q", tee)
		}
		if d == nil {
			return nil, errors.New("nothing found")
		}
		return d, nil
	}
	var stdout, stderr bytes.Buffer
	status := attester(machine{open: open}).Main([]string{"quote", "-tee", "tdx", "-report-data", "5f0c", "-out", file}, &stdout, &stderr)
	return status, stderr.String()
}

func TestTDXDevice(t *testing.T) {
	file := filepath.Join(t.TempDir(), "quote")
	d := &fakeDevice{raw: vectors.Read(t, "tdx/quotes/gtg_sample_v5.bin")}
	if status, stderr := tdxQuoteFrom(t, d, file); status != 0 {
		t.Fatal(stderr)
	}
	if d.asked != [64]byte{0x5f, 0x0c} || !bytes.Equal(read(t, file), d.raw) {
		t.Errorf("asked to sign %x, wrote %d bytes", d.asked, len(read(t, file)))
	}
	for _, test := range []struct {
		name string
		d    *fakeDevice
		says string
	}{
		{"none here", nil, "no TDX guest device here: nothing found; -simulate DIR does without"},
		{"refuses", &fakeDevice{err: errors.New("throttled")}, "TDX guest device: throttled"},
		{"answers with half a quote", &fakeDevice{raw: d.raw[:2000]}, "TDX guest device: tdx-quote"},
	} {
		file := filepath.Join(t.TempDir(), "quote")
		if status, stderr := tdxQuoteFrom(t, test.d, file); status != 2 || !strings.Contains(stderr, test.says) {
			t.Errorf("%s: status %d, %q", test.name, status, stderr)
		}
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a file was written: %v", test.name, err)
		}
	}
}

// The event log of the firmware goes with the quote, if there is one to be read.
func TestTDXEventLog(t *testing.T) {
	quote := vectors.Read(t, "tdx/quotes/gtg_cos113_gcp_v4.bin")
	log := vectors.Path(t, "tdx/ccel/gcp_cos113_ccel_data.bin")
	for _, test := range []struct {
		name, ccel string
		says       string // "" if it is a quote
		written    []byte
	}{
		{"a log", log, "", read(t, log)},
		{"no log", log + "x", "", nil},
		{"a list of the host's instead", vectors.Path(t, "tdx/collateral/dcapqvl_2025_06_b0c06f/root_ca_crl.der"), "tdx-ccel", nil},
		{"a folder", t.TempDir(), "is a directory", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "quote")
			m := machine{func(string) (device, error) { return &fakeDevice{raw: quote}, nil }, test.ccel}
			var stdout, stderr bytes.Buffer
			status := attester(m).Main([]string{"quote", "-tee", "tdx", "-report-data", "5f0c", "-out", file}, &stdout, &stderr)
			if test.says != "" {
				if status != 2 || !strings.Contains(stderr.String(), test.says) {
					t.Errorf("status %d, %q", status, stderr.String())
				}
				return
			}
			written, err := os.ReadFile(filepath.Join(file+".endorsements", ccelFile))
			if status != 0 || !bytes.Equal(written, test.written) || errors.Is(err, os.ErrNotExist) != (test.written == nil) {
				t.Errorf("status %d: %s; a log of %d bytes, %v", status, stderr.String(), len(written), err)
			}
		})
	}
}

// The roots of a folder are of all TEEs that were used.
func TestRootsOfAll(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	must(t, "show", "-simulate", simulated(t))
	if err := os.WriteFile(platformFile(dir, snp.Turin), read(t, platformFile(simulated(t), snp.Turin)), 0o600); err != nil {
		t.Fatal(err)
	}
	roots := filepath.Join(out, "roots.pem")
	must(t, "roots", "-simulate", dir, "-out", roots)
	before := bytes.Count(read(t, roots), []byte("BEGIN CERTIFICATE"))
	must(t, "show", "-tee", "tdx", "-simulate", dir)
	must(t, "roots", "-simulate", dir, "-out", roots)
	must(t, "show", "-tee", "cca", "-simulate", dir)
	must(t, "roots", "-simulate", dir, "-out", roots)
	all := read(t, roots)
	if after := bytes.Count(all, []byte("BEGIN CERTIFICATE")); before != 3 || after != 4 {
		t.Errorf("%d certificates, then %d", before, after)
	}
	if bytes.Count(all, []byte("BEGIN PUBLIC KEY")) != 1 || bytes.Contains(all, []byte("PRIVATE")) {
		t.Errorf("want one public key and no private one:\n%s", all)
	}
}

// A platform that was changed is an error, never quietly another platform.
func TestOtherPlatformChanged(t *testing.T) {
	for tee, file := range map[string]func(dir string) string{teeTDX: tdxFile, teeCCA: ccaFile} {
		dir := t.TempDir()
		first := must(t, "show", "-tee", tee, "-simulate", dir)
		if again := must(t, "show", "-tee", tee, "-simulate", dir); again != first {
			t.Errorf("%s: first %s, then %s", tee, first, again)
		}
		kept := read(t, file(dir))
		for name, content := range map[string][]byte{
			"empty": nil, "truncated": kept[:len(kept)-100], "twice": append(bytes.Clone(kept), kept...), "no platform": kept[1:],
			"a key of another kind": otherKey(t),
		} {
			if err := os.WriteFile(file(dir), content, 0o600); err != nil {
				t.Fatal(err)
			}
			if status, _, _ := try("show", "-tee", tee, "-simulate", dir); status != 2 {
				t.Errorf("%s, %s: status %d", tee, name, status)
			}
		}
	}
}

// otherKey returns a private key that is none of a platform.
func otherKey(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateKey, Bytes: der})
}
