package main

import (
	"bytes"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/kds/kdstest"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/pcs/pcstest"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// serve returns the URL of h for the length of the test.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// What is not at hand is fetched, once; what is at hand is not.
func TestFetch(t *testing.T) {
	amd := kdstest.New(vendor())
	intel := tdxtest.NewIntel()
	pccs := pcstest.NewPCCS(intel)
	services := []string{"-fetch", "-kds", serve(t, amd), "-pcs", serve(t, pccs)}
	guest := simulate(t, snptest.Guest{})
	data, err := evidence.NewBinding(signedFor)
	if err != nil {
		t.Fatal(err)
	}
	quote := write(t, "quote.bin", intel.Platform(tdx.PlatformCA).Quote(tdxtest.TD{}, data).Raw)
	intelRoots := write(t, "roots.pem", tdxtest.PEM(intel.Anchors()...))
	bound := []string{"-binding", hex.EncodeToString(signedFor)}
	for _, tt := range []struct {
		name     string
		args     []string
		amd, pcs int // requests
	}{
		{"a report", append(bound, "-roots", guest.roots, guest.report), 2, 0},
		{"a report and its list", []string{"-roots", guest.roots, "-endorsements", guest.crl, guest.report}, 1, 0},
		{"a report and all", []string{"-roots", guest.roots, "-endorsements", guest.vek + "," + guest.crl, guest.report}, 0, 0},
		{"a quote", append(bound, "-roots", intelRoots, quote), 0, 4},
		{"a quote without TCB", []string{"-allow-no-tcb", "-roots", intelRoots, quote}, 0, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			beforeAMD, beforePCS := amd.Requests(), pccs.Requests()
			status, a := ask(t, append(services, tt.args...)...)
			if status != 0 || !a.Authentic {
				t.Errorf("status %d: %s", status, a.Detail)
			}
			if n, m := amd.Requests()-beforeAMD, pccs.Requests()-beforePCS; n != tt.amd || m != tt.pcs {
				t.Errorf("%d requests to AMD and %d to Intel, want %d and %d", n, m, tt.amd, tt.pcs)
			}
		})
	}
}

// Without -fetch nobody is asked.
func TestNoFetch(t *testing.T) {
	f := simulate(t, snptest.Guest{})
	status, a := ask(t, "-roots", f.roots, f.report)
	want(t, status, a, "unavailable", "endorsement")
}

// A service that does not know is a no, one that can't be asked is no answer.
func TestFetchFails(t *testing.T) {
	f := simulate(t, snptest.Guest{})
	stranger := simulate(t, snptest.Guest{Edit: func(r []byte) { r[0x1A0] ^= 1 }}) // CHIP_ID
	down, old := kdstest.New(vendor()), kdstest.New(vendor())
	down.Break(kdstest.Fault{Status: http.StatusForbidden})
	old.PublishList(snp.Turin, time.Now().AddDate(0, 0, -40))
	for _, tt := range []struct {
		name   string
		server *kdstest.Server
		files  files
		status int
		reason string
		stderr string
	}{
		{"a chip that nobody made", kdstest.New(vendor()), stranger, 1, "unavailable", ""},
		{"an old list", old, f, 1, "stale", ""},
		{"out of reach", down, f, 2, "unavailable", "can't tell"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := run([]string{"-json", "-fetch", "-kds", serve(t, tt.server), "-roots", tt.files.roots, tt.files.report}, &stdout, &stderr)
			if status != tt.status || !strings.Contains(stdout.String(), `"reason": "`+tt.reason+`"`) || !strings.Contains(stderr.String(), tt.stderr) || (stderr.Len() == 0) != (tt.stderr == "") {
				t.Errorf("status %d\n%s%s", status, stdout.String(), stderr.String())
			}
		})
	}
}

func TestFetchUsage(t *testing.T) {
	for _, args := range [][]string{{"-kds", "https://kds.example"}, {"-pcs", "https://pcs.example"}, {"-fetch", "-kds", "kds.example"}, {"-fetch", "-pcs", "ftp://pcs.example"}} {
		var stdout, stderr bytes.Buffer
		report := simulate(t, snptest.Guest{}).report
		if status := run(append(args, report), &stdout, &stderr); status != 2 || stdout.Len() > 0 || !strings.Contains(stderr.String(), "-fetch") && !strings.Contains(stderr.String(), args[1]) {
			t.Errorf("%v: status %d: %s", args, status, stderr.String())
		}
	}
}
