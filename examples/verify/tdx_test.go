package main

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// tdxVector is a genuine quote in the manifest of vectors/tdx.
type tdxVector struct {
	Name       string
	File       string
	NotBefore  time.Time `json:"pck_not_before"`
	Collateral []struct {
		Set      string
		Complete bool
		UseTime  time.Time `json:"use_time"`
		Expected struct {
			Platform string
			Module   string `json:"tdx_module"`
			QE       string
			Final    string
		}
	}
}

func tdxVectors(t testing.TB) []tdxVector {
	t.Helper()
	var manifest struct{ Quotes []tdxVector }
	vectors.JSON(t, "tdx/manifest.json", &manifest)
	if len(manifest.Quotes) < 7 {
		t.Fatalf("%d quotes in the manifest, want 7", len(manifest.Quotes))
	}
	return manifest.Quotes
}

// status returns how the tool spells a status of the manifest.
func status(s string) string {
	switch s {
	case "NoMatch":
		return "NotSupported"
	case "n/a":
		return "UpToDate" // a module without a level of its own
	}
	return s
}

// Every genuine quote gets the status of the manifest from a complete set of
// collateral, and none from an incomplete one.
func TestGenuineQuotes(t *testing.T) {
	judged := 0
	for _, v := range tdxVectors(t) {
		file := vectors.Path(t, "tdx/"+v.File)
		for _, c := range v.Collateral {
			set := filepath.Join(vectors.Path(t, "tdx/collateral"), c.Set)
			if _, err := os.Stat(set); err != nil {
				continue // the manifest names more sets than there are
			}
			t.Run(v.Name+" with "+c.Set, func(t *testing.T) {
				judged++
				at := c.UseTime
				if at.IsZero() {
					at = v.NotBefore.AddDate(0, 0, 1) // at no time the whole set is current
				}
				got, a := ask(t, "-endorsements", set, "-at", at.Format(time.RFC3339), file)
				if !c.Complete {
					want(t, got, a, "unavailable", "revocation")
					return
				}
				if got != 0 || !a.Authentic || a.Format != "tdx" || a.Accepted != nil || a.Reason != "" || a.NotAfter == nil {
					t.Fatalf("status %d, %+v", got, a)
				}
				for claim, want := range map[string]string{
					"tdx.tcb.platform": c.Expected.Platform, "tdx.tcb.module": c.Expected.Module,
					"tdx.tcb.qe": c.Expected.QE, "tdx.tcb.status": c.Expected.Final,
				} {
					if a.Claims[claim] != status(want) {
						t.Errorf("%s is %v, want %s", claim, a.Claims[claim], status(want))
					}
				}
				for _, check := range a.Checks {
					if outcome := check.Outcome; outcome != "passed" && (check.Name != "binding" || outcome != "skipped") {
						t.Errorf("check %s: %s", check.Name, outcome)
					}
				}
			})
		}
	}
	if judged < 9 {
		t.Errorf("%d verdicts", judged)
	}
}

// All sets in one folder serve as well as the one that fits.
func TestQuoteWithAllCollateral(t *testing.T) {
	for _, v := range tdxVectors(t) {
		if v.Name != "dcapqvl_sample_v4" {
			continue
		}
		got, a := ask(t, "-format", "tdx", "-endorsements", vectors.Path(t, "tdx/collateral"),
			"-at", v.Collateral[0].UseTime.Format(time.RFC3339), vectors.Path(t, "tdx/"+v.File))
		if got != 0 || a.Claims["tdx.tcb.status"] != "UpToDate" {
			t.Errorf("status %d, %s", got, a.Detail)
		}
		return
	}
	t.Error("no such quote")
}

// td is what a person has of a simulated TD.
type td struct{ quote, collateral, lists, roots string }

func simulateTD(t *testing.T, guest tdxtest.TD) td {
	t.Helper()
	n := tdxtest.NewIntel()
	p := n.Platform(tdx.PlatformCA)
	data, err := evidence.NewBinding(signedFor)
	if err != nil {
		t.Fatal(err)
	}
	s := n.Set(p.PCK.FMSPC)
	info, qe := s[tdx.TCBInfoName(p.PCK.FMSPC)][0], s[tdx.QEIdentityName()][0]
	lists := write(t, "pck.crl", s[tdx.PCKCRLName(tdx.PlatformCA)][0].Data) + "," + write(t, "root.crl", s[tdx.RootCRLName()][0].Data)
	return td{
		quote: write(t, "quote.bin", p.Quote(guest, data).Raw),
		lists: lists,
		collateral: strings.Join([]string{
			lists, write(t, "tcb.json", info.Data), write(t, "qe.json", qe.Data), write(t, "chain.pem", info.Issuer),
		}, ","),
		roots: write(t, "roots.pem", tdxtest.PEM(n.Anchors()...)),
	}
}

func TestSimulatedTD(t *testing.T) {
	for _, test := range []struct {
		name  string
		guest tdxtest.TD
	}{{"version 4", tdxtest.TD{}}, {"version 5", tdxtest.TD{Version: 5}}} {
		t.Run(test.name, func(t *testing.T) {
			f := simulateTD(t, test.guest)
			args := []string{"-roots", f.roots, "-endorsements", f.collateral}
			got, a := ask(t, append(args, "-binding", hex.EncodeToString(signedFor), f.quote)...)
			if got != 0 || a.Format != "tdx" || a.Binding != "ok" || a.Claims["tdx.tcb.status"] != "UpToDate" {
				t.Errorf("status %d, %+v", got, a)
			}
			got, a = ask(t, append(args, "-binding", "5f0c", f.quote)...)
			if got != 1 || !a.Authentic || a.Binding != "mismatch" || a.Reason != "not-bound" || a.outcome("binding") != "failed" || len(a.Claims) == 0 {
				t.Errorf("another binding: status %d, %+v", got, a)
			}
			got, a = ask(t, "-endorsements", f.collateral, f.quote)
			want(t, got, a, "untrusted", "chain")
		})
	}
}

// What is allowed away is left out, and nothing else is.
func TestWithoutTCB(t *testing.T) {
	f := simulateTD(t, tdxtest.TD{})
	for _, test := range []struct {
		name    string
		args    []string
		reason  string // "" is a yes
		check   string
		skipped []string
	}{
		{"lists alone", []string{"-endorsements", f.lists}, "unavailable", "tcb", nil},
		{"lists alone, without TCB", []string{"-endorsements", f.lists, "-allow-no-tcb"}, "", "", []string{"tcb"}},
		{"nothing, without TCB", []string{"-allow-no-tcb"}, "unavailable", "revocation", nil},
		{"nothing, without revocation", []string{"-allow-no-revocation"}, "unavailable", "tcb", nil},
		{"nothing, without both", []string{"-allow-no-tcb", "-allow-no-revocation"}, "", "", []string{"revocation", "tcb"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, a := askAbout(t, f.roots, append(test.args, f.quote))
			if test.reason != "" {
				want(t, got, a, test.reason, test.check)
				return
			}
			if got != 0 || !a.Authentic {
				t.Fatalf("status %d: %s", got, a.Detail)
			}
			var skipped []string
			for _, c := range a.Checks {
				if c.Outcome == "skipped" && c.Name != "binding" {
					skipped = append(skipped, c.Name)
				}
			}
			if strings.Join(skipped, " ") != strings.Join(test.skipped, " ") || a.Claims["tdx.tcb.status"] != nil {
				t.Errorf("skipped %v, status %v", skipped, a.Claims["tdx.tcb.status"])
			}
		})
	}
}

// One file of roots serves several TEEs, and each takes its own.
func TestRootsOfTDX(t *testing.T) {
	f := simulateTD(t, tdxtest.TD{})
	own := readFile(t, f.roots)
	other := tdxtest.PEM(tdxtest.NewIntel().Anchors()...)
	amd := rootsOf(vendor())
	for _, test := range []struct {
		name   string
		pem    []byte
		status int
		says   string
	}{
		{"among AMD's", append(bytes.Clone(amd), own...), 0, `"authentic": true`},
		{"AMD's alone", amd, 2, "no root CA of Intel"},
		{"two of Intel's", append(bytes.Clone(own), other...), 2, "two certificates called Intel SGX Root CA"},
		{"a stranger's", other, 1, "untrusted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			got := run([]string{"-json", "-roots", write(t, "roots.pem", test.pem), "-endorsements", f.collateral, f.quote}, &stdout, &stderr)
			if got != test.status || !strings.Contains(stdout.String()+stderr.String(), test.says) {
				t.Errorf("status %d: %s%s; want %d and %q", got, stdout.String(), stderr.String(), test.status, test.says)
			}
		})
	}
}

// People are told what a quote says of itself, also if nothing vouches for it.
func TestQuoteHearsay(t *testing.T) {
	f := simulateTD(t, tdxtest.TD{})
	got, text := say(t, f.quote)
	for _, part := range []string{"NOT GENUINE Intel TDX quote", "nothing vouches for it", "tdx.mrtd"} {
		if got != 1 || !strings.Contains(text, part) {
			t.Errorf("status %d, no %q in:\n%s", got, part, text)
		}
	}
}

// Neither TEE is taken for the other, whatever a host chose.
func TestDetect(t *testing.T) {
	quote := vectors.Read(t, "tdx/quotes/gtg_sample_v5.bin")
	report := vectors.Read(t, "snp/oak-turin-oc.report.bin")
	disguised := bytes.Clone(report)
	copy(disguised[4:], []byte{0x81, 0, 0, 0}) // GUEST_SVN
	for _, test := range []struct {
		raw  []byte
		want string
	}{
		{quote, "tdx"},
		{quote[:8], "tdx"},
		{quote[:7], ""},
		{append([]byte{3}, quote[1:]...), "tdx"},
		{report, "snp"},
		{disguised, "snp"},
		{vectors.Read(t, "cca/rust-draft-ffm-00.cbor"), "cca"},
		{vectors.Read(t, "cca/iat-verifier-cca_example_token.cbor")[:3], "cca"},
		{[]byte{0xd9, 0x03}, ""},
		{[]byte{0xd9, 0x01, 0x90}, ""}, // the tag after that of a collection
	} {
		name := ""
		if found := detect(test.raw); found != nil {
			name = found.name
		}
		if name != test.want {
			t.Errorf("%x… is %q, want %q", test.raw[:min(len(test.raw), 8)], name, test.want)
		}
	}
}

// A policy document judges a TD: the same one, with and without debug.
func TestPolicyOfTD(t *testing.T) {
	zero := strings.Repeat("00", 48)
	document := write(t, "policy.json", []byte(`{
		"policy": "teebroker/1", "name": "td", "version": "1", "scope": "global",
		"require": {"tdx-quote": [{
			"mrtd": "*", "rtmr0": "*", "rtmr1": "*", "rtmr2": "*", "rtmr3": ["`+zero+`"], "mrconfigid": "*",
			"mrowner": "*", "mrownerconfig": "*", "body_types": [2, 3], "allow_xfam": "*", "mrseam": "*", "allow_any_module": true,
			"statuses": ["UpToDate"], "advisories": "*", "ppids": "*", "platform_instances": "*",
			"allow_dynamic_platform": true, "allow_cached_keys": true, "allow_smt": true
		}]}}`))
	for _, test := range []struct {
		name  string
		guest tdxtest.TD
		miss  string // the claim that is not acceptable, or "" for a yes
	}{
		{"no debug", tdxtest.TD{}, ""},
		{"debug", tdxtest.TD{Attributes: tdx.Debug}, "tdx.td_attributes.debug"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := simulateTD(t, test.guest)
			got, a := ask(t, "-roots", f.roots, "-endorsements", f.collateral, "-binding", hex.EncodeToString(signedFor), "-policy", document, f.quote)
			if test.miss == "" {
				if got != 0 || a.Accepted == nil || !*a.Accepted {
					t.Errorf("status %d, %+v", got, a.Mismatches)
				}
				return
			}
			if got != 1 || a.Accepted == nil || *a.Accepted || !a.Authentic || len(a.Mismatches) != 1 || a.Mismatches[0].Claim != test.miss {
				t.Errorf("status %d, %+v", got, a.Mismatches)
			}
		})
	}
}
