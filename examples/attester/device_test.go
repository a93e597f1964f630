package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeDevice answers with what it holds and remembers what it was asked.
type fakeDevice struct {
	raw   []byte
	err   error
	asked [64]byte
}

func (d *fakeDevice) GetRawQuote(reportData [64]byte) ([]byte, error) {
	d.asked = reportData
	return d.raw, d.err
}

// quoteFrom runs quote on a guest whose device is d, or that has none.
func quoteFrom(d *fakeDevice, args ...string) (int, string) {
	open := func(string) (device, error) {
		if d == nil {
			return nil, errors.New("nothing found")
		}
		return d, nil
	}
	var stdout, stderr bytes.Buffer
	status := attester(machine{open: open}).Main(append([]string{"quote", "-tee", "snp"}, args...), &stdout, &stderr)
	return status, stderr.String()
}

func TestDevice(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report")
	report, table := bytes.Repeat([]byte{1}, 1184), make([]byte, 4096) // a table of no entries, padded
	d := &fakeDevice{raw: append(bytes.Clone(report), table...)}
	if status, stderr := quoteFrom(d, "-report-data", "5f0c", "-out", file); status != 0 {
		t.Fatal(stderr)
	}
	if d.asked != [64]byte{0x5f, 0x0c} {
		t.Errorf("asked to sign %x", d.asked)
	}
	if !bytes.Equal(read(t, file), report) || !bytes.Equal(read(t, filepath.Join(file+".endorsements", tableFile)), table) {
		t.Error("report and table are not as delivered")
	}
}

// What an earlier quote left does not endorse the next.
func TestDeviceWithoutTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report")
	dir := file + ".endorsements"
	for _, name := range []string{tableFile, vekFile, crlFile, "notes.txt"} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if status, stderr := quoteFrom(&fakeDevice{raw: make([]byte, 1184)}, "-report-data", "01", "-out", file); status != 0 {
		t.Fatal(stderr)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "notes.txt" {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestDeviceFails(t *testing.T) {
	for _, test := range []struct {
		name string
		d    *fakeDevice
		args []string
		says string
	}{
		{"none here", nil, nil, "no SEV-SNP guest device here: nothing found; -simulate DIR does without"},
		{"refuses", &fakeDevice{err: errors.New("throttled")}, nil, "throttled"},
		{"answers with less than a report", &fakeDevice{raw: make([]byte, 1183)}, nil, "1183 bytes are no report"},
		{"has a host that delivers something else than a table", &fakeDevice{raw: append(make([]byte, 1184), "-----BEGIN X509 CRL-----"...)}, nil, "certificate table"},
		{"can't be another product", &fakeDevice{}, []string{"-product", "Milan"}, "they need -simulate"},
		{"can't choose its launch", &fakeDevice{}, []string{"-instance", instance}, "they need -simulate"},
		{"can't choose its host data", &fakeDevice{}, []string{"-host-data", "01"}, "they need -simulate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "report")
			status, stderr := quoteFrom(test.d, append([]string{"-report-data", "01", "-out", file}, test.args...)...)
			if status != 2 || !strings.Contains(stderr, test.says) {
				t.Errorf("status %d, %q; want %q", status, stderr, test.says)
			}
			if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a file was written: %v", err)
			}
		})
	}
}
