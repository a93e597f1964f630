package main

import (
	"bytes"
	"encoding/json"
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
	status := attester(open).Main([]string{"quote", "-tee", "tdx", "-report-data", "5f0c", "-out", file}, &stdout, &stderr)
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

// What quote writes of a TD is all that verify needs, collateral included.
func TestTDXQuoteVerifies(t *testing.T) {
	verify := verifier(t)
	dir, out := t.TempDir(), t.TempDir()
	file, roots := filepath.Join(out, "quote"), filepath.Join(out, "roots.pem")
	must(t, "quote", "-tee", "tdx", "-simulate", dir, "-report-data", "5f0c", "-out", file, "-tenant", "acme", "-instance", instance)
	must(t, "roots", "-simulate", dir, "-out", roots)
	args := []string{"-roots", roots, "-endorsements", file + ".endorsements", "-json"}
	status, text := verify(append(args, "-binding", "5f0c", file)...)
	var a struct {
		Format, Binding string
		Authentic       bool
		Claims          map[string]any
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil || status != 0 || a.Format != "tdx" || !a.Authentic || a.Binding != "ok" {
		t.Fatalf("status %d: %s", status, text)
	}
	if a.Claims["tdx.tcb.status"] != "UpToDate" || a.Claims["tdx.mrconfigid"] != identityOfAcme+strings.Repeat("00", 16) {
		t.Errorf("claims %v", a.Claims)
	}
	var s shownTD
	shown := must(t, "show", "-tee", "tdx", "-simulate", dir, "-tenant", "acme", "-instance", instance)
	if err := json.Unmarshal([]byte(shown), &s); err != nil {
		t.Fatal(err)
	}
	for claim, shown := range map[string]string{"tdx.mrtd": s.Measurement, "tdx.mrconfigid": s.MRConfigID, "tdx.ppid": s.Chip, "tdx.fmspc": s.FMSPC} {
		if a.Claims[claim] != shown {
			t.Errorf("%s is %v, shown as %s", claim, a.Claims[claim], shown)
		}
	}
	if status, text := verify(append(args, "-binding", "5f0d", file)...); status != 1 || !strings.Contains(text, "not-bound") {
		t.Errorf("another binding: status %d: %s", status, text)
	}
	if status, text := verify("-endorsements", file+".endorsements", file); status != 1 || !strings.Contains(text, "untrusted") {
		t.Errorf("without -roots: status %d: %s", status, text)
	}
}

// The roots of a folder are of both TEEs if both were used.
func TestRootsOfBoth(t *testing.T) {
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
	if after := bytes.Count(read(t, roots), []byte("BEGIN CERTIFICATE")); before != 3 || after != 4 {
		t.Errorf("%d certificates, then %d", before, after)
	}
}

// A TDX platform that was changed is an error, never quietly another platform.
func TestTDXPlatformChanged(t *testing.T) {
	dir := t.TempDir()
	must(t, "show", "-tee", "tdx", "-simulate", dir)
	kept := read(t, tdxFile(dir))
	for name, content := range map[string][]byte{
		"empty": nil, "truncated": kept[:len(kept)-100], "twice": append(bytes.Clone(kept), kept...), "no platform": kept[1:],
	} {
		if err := os.WriteFile(tdxFile(dir), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if status, _, _ := try("show", "-tee", "tdx", "-simulate", dir); status != 2 {
			t.Errorf("%s: status %d", name, status)
		}
	}
}
