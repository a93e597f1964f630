package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// vendor is one simulated AMD for all tests: its RSA keys take seconds.
var vendor = sync.OnceValue(func() *snptest.AMD {
	amd := snptest.NewAMD()
	amd.Anchors(snp.Turin)
	return amd
})

// files are what a person has of a simulated guest.
type files struct{ report, vek, table, crl, roots string }

var signedFor = bytes.Repeat([]byte{0x5f}, 32)

// simulate writes the files of a simulated Turin guest whose list revokes serials.
func simulate(t *testing.T, g snptest.Guest, serials ...*big.Int) files {
	t.Helper()
	amd := vendor()
	chip := amd.Chip(snp.Turin)
	data, err := evidence.NewBinding(signedFor)
	if err != nil {
		t.Fatal(err)
	}
	ev := chip.Report(g, data)
	vek, err := amd.Source().Get(context.Background(), snp.VCEKName(chip.ID(), chip.Reported))
	if err != nil {
		t.Fatal(err)
	}
	return files{
		report: write(t, "report.bin", ev.Raw),
		vek:    write(t, "vcek.der", vek[0].Data),
		table:  write(t, "table.bin", ev.Items[0].Data),
		crl:    write(t, "turin.crl", amd.CRL(snp.Turin, max(g.Key, snp.VCEK), time.Now(), serials...)),
		roots:  write(t, "roots.pem", rootsOf(amd)),
	}
}

func rootsOf(amd *snptest.AMD) []byte {
	var b bytes.Buffer
	for _, a := range amd.Anchors() {
		for _, der := range [][]byte{a.ARK, a.ASK, a.ASVK} {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
		}
	}
	return b.Bytes()
}

func TestRevocation(t *testing.T) {
	vcek, vlek := simulate(t, snptest.Guest{}), simulate(t, snptest.Guest{Key: snp.VLEK})
	ask := simulate(t, snptest.Guest{}, big.NewInt(0x030001))
	asAFolder := filepath.Dir(vcek.crl)
	later := time.Now().AddDate(0, 0, 60).UTC().Format(time.RFC3339)
	for _, test := range []struct {
		name          string
		args          []string
		reason, check string // "" is a yes
	}{
		{"a list that revokes nothing", []string{"-endorsements", vcek.vek + "," + vcek.crl, vcek.report}, "", ""},
		{"the list in a folder", []string{"-endorsements", vcek.vek + "," + asAFolder, vcek.report}, "", ""},
		{"the flag given twice", []string{"-endorsements", vcek.vek, "-endorsements", vcek.crl, vcek.report}, "", ""},
		{"a VLEK from the certificate table", []string{"-endorsements", vlek.table + "," + vlek.crl, vlek.report}, "", ""},
		{"no list", []string{"-endorsements", vcek.vek, vcek.report}, "unavailable", "revocation"},
		{"no list, and that is allowed", []string{"-allow-no-revocation", "-endorsements", vcek.vek, vcek.report}, "", ""},
		{"a list that revokes the ASK", []string{"-endorsements", ask.vek + "," + ask.crl, ask.report}, "revoked", "revocation"},
		{"a list of another time", []string{"-at", later, "-endorsements", vcek.vek + "," + vcek.crl, vcek.report}, "stale", "revocation"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, a := askAbout(t, vcek.roots, test.args)
			if test.reason != "" {
				want(t, status, a, test.reason, test.check)
				return
			}
			if status != 0 || !a.Authentic {
				t.Errorf("status %d: %s", status, a.Detail)
			}
		})
	}
}

func askAbout(t *testing.T, roots string, args []string) (int, answer) {
	t.Helper()
	return ask(t, append([]string{"-roots", roots}, args...)...)
}

func TestRoots(t *testing.T) {
	f := simulate(t, snptest.Guest{})
	own := rootsOf(vendor())
	ark := own[:bytes.Index(own[1:], []byte("-----BEGIN"))+1]
	stranger := snptest.NewAMD()
	stranger.Anchors(snp.Turin)
	others := rootsOf(stranger)
	key := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("of another TEE")})
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: readFile(t, f.vek)})
	for _, test := range []struct {
		name   string
		pem    []byte
		status int
		says   string
	}{
		{"the platform's", own, 0, `"authentic": true`},
		{"the platform's twice", append(bytes.Clone(own), own...), 0, `"authentic": true`},
		{"the platform's among those of other TEEs", bytes.Join([][]byte{key, own, leaf}, nil), 0, `"authentic": true`},
		{"a stranger's with the same names", others, 1, "untrusted"},
		{"two that can't be told apart", append(bytes.Clone(own), others...), 2, "two certificates called ARK-Turin"},
		{"none of AMD", leaf, 2, "no ARK of AMD"},
		{"no intermediate", ark, 2, "Anchors"},
		{"a key alone", key, 2, "no ARK of AMD"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := run([]string{"-json", "-roots", write(t, "roots.pem", test.pem), "-endorsements", f.vek + "," + f.crl, f.report}, &stdout, &stderr)
			if status != test.status || !strings.Contains(stdout.String()+stderr.String(), test.says) {
				t.Errorf("status %d: %s%s; want %d and %q", status, stdout.String(), stderr.String(), test.status, test.says)
			}
		})
	}
	t.Run("AMD's", func(t *testing.T) {
		status, a := ask(t, "-endorsements", f.vek+","+f.crl, f.report)
		want(t, status, a, "untrusted", "chain")
	})
}

// A root is trusted because -roots says so, not because it is among the endorsements.
func TestEndorsementsAreNoRoots(t *testing.T) {
	f := simulate(t, snptest.Guest{})
	status, a := ask(t, "-endorsements", strings.Join([]string{f.vek, f.table, f.crl, f.roots}, ","), f.report)
	want(t, status, a, "untrusted", "chain")
}

func TestBindingOfSimulatedGuest(t *testing.T) {
	f := simulate(t, snptest.Guest{})
	status, a := ask(t, "-roots", f.roots, "-endorsements", f.vek+","+f.crl, "-binding", hex.EncodeToString(signedFor), f.report)
	if status != 0 || a.Binding != "ok" {
		t.Errorf("status %d, %+v", status, a)
	}
	for _, c := range a.Checks {
		if c.Outcome != "passed" {
			t.Errorf("check %s: %s", c.Name, c.Outcome)
		}
	}
}
