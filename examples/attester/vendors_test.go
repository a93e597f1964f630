package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/snp/kds/kdstest"
)

// serving runs the services of dir as the program does, and returns their URL.
func serving(t *testing.T, dir string) string {
	t.Helper()
	h, err := vendors(dir, kdstest.Fault{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out, stdout := io.Pipe()
	done := make(chan error)
	go func() { done <- serve(ctx, "127.0.0.1:0", h, stdout) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(url)
}

// Evidence alone verifies with what the services of its vendors have.
func TestFetchedFromVendors(t *testing.T) {
	verify := verifier(t)
	dir, out := simulated(t), t.TempDir()
	var evidence []string
	for _, args := range [][]string{{"snp", "-product", "Milan"}, {"snp", "-product", "Turin"}, {"tdx"}} {
		file := filepath.Join(out, strings.Join(args, ""))
		must(t, append([]string{"quote", "-simulate", dir, "-report-data", "5f0c", "-out", file, "-tee"}, args...)...)
		evidence = append(evidence, file)
	}
	roots := filepath.Join(out, "roots.pem")
	must(t, "roots", "-simulate", dir, "-out", roots)
	url := serving(t, dir)
	for _, file := range evidence {
		args := []string{"-fetch", "-kds", url, "-pcs", url, "-roots", roots, "-binding", "5f0c"}
		if status, says := verify(append(args, file)...); status != 0 {
			t.Errorf("%s: status %d: %s", filepath.Base(file), status, says)
		}
		if status, says := verify(append(args[:len(args)-1:len(args)-1], "5f0d", file)...); status != 1 {
			t.Errorf("%s for another nonce: status %d: %s", filepath.Base(file), status, says)
		}
		if status, says := verify("-roots", roots, file); status != 1 || !strings.Contains(says, "unavailable") {
			t.Errorf("%s without -fetch: status %d: %s", filepath.Base(file), status, says)
		}
	}
}

// Services that are down are no verdict.
func TestVendorsDown(t *testing.T) {
	verify := verifier(t)
	dir, out := simulated(t), t.TempDir()
	file, roots := filepath.Join(out, "report.bin"), filepath.Join(out, "roots.pem")
	must(t, "quote", "-tee", "snp", "-simulate", dir, "-report-data", "5f0c", "-out", file)
	must(t, "roots", "-simulate", dir, "-out", roots)
	server := httptest.NewServer(nil)
	server.Close()
	h, err := vendors(dir, kdstest.Fault{Down: true})
	if err != nil {
		t.Fatal(err)
	}
	down := httptest.NewServer(h)
	defer down.Close()
	for name, url := range map[string]string{"nobody there": server.URL, "down": down.URL} {
		if status, says := verify("-fetch", "-kds", url, "-roots", roots, file); status != 2 || !strings.Contains(says, "can't tell") {
			t.Errorf("%s: status %d: %s", name, status, says)
		}
	}
}

func TestVendorsUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"no folder":   {},
		"an argument": {"-simulate", simulated(t), "x"},
		"no platform": {"-simulate", t.TempDir()},
		"no address":  {"-simulate", simulated(t), "-listen", "nowhere"},
	} {
		var stdout, stderr bytes.Buffer
		if status := run(append([]string{"vendors"}, args...), &stdout, &stderr); status != 2 || stdout.Len() > 0 || stderr.Len() == 0 {
			t.Errorf("%s: status %d, %s%s", name, status, stdout.String(), stderr.String())
		}
	}
}
