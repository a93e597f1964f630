package main

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// Genuine blobs of Azure are genuine at their time, down to AMD's root.
func TestGenuineHCL(t *testing.T) {
	for name, manifest := range map[string]string{"trustee-azvtpm-v0": "azure-hcl-1", "trustee-azvtpm-genoa": "azure-hcl-2"} {
		blob, vek := vectors.Path(t, "snp/"+name+".hcl.bin"), vectors.Path(t, "snp/"+name+".vek.der")
		for _, format := range []string{"auto", "vtpm"} {
			status, r := ask(t, "-format", format, "-endorsements", vek, "-allow-no-revocation", "-at", "2025-06-01T00:00:00Z", blob)
			if status != 0 || r.Format != "vtpm" || r.Claims["vtpm.manifest"] != manifest || r.Claims["snp.key"] != "VCEK" || r.Claims["vtpm.azure.user_data"] != strings.Repeat("00", 64) {
				t.Errorf("%s: %+v", name, r)
			}
		}
		status, r := ask(t, "-endorsements", vek, "-at", "2025-06-01T00:00:00Z", blob)
		if status != 1 || r.Reason != string(evidence.Unavailable) || r.Check != "platform" {
			t.Errorf("%s without a list: %+v", name, r)
		}
		status, r = ask(t, "-endorsements", vek, "-allow-no-revocation", "-at", "2024-01-01T00:00:00Z", blob)
		if status != 1 || r.Reason != string(evidence.Stale) {
			t.Errorf("%s before its time: %+v", name, r)
		}
	}
}

// Simulated blobs, with everything that can be wrong with them.
func TestSimulatedHCL(t *testing.T) {
	amd := vendor()
	chip := amd.Chip(snp.Turin)
	tpm := vtpmtest.NewTPM(vtpmtest.RSA, nil, nil)
	user := [64]byte{0x5f, 1, 2}
	vek, err := amd.Source().Get(t.Context(), snp.VCEKName(chip.ID(), chip.Reported))
	if err != nil {
		t.Fatal(err)
	}
	base := []string{
		"-endorsements", write(t, "vcek.der", vek[0].Data) + "," + write(t, "turin.crl", amd.CRL(snp.Turin, snp.VCEK, time.Now())),
		"-roots", write(t, "roots.pem", rootsOf(amd)),
	}
	for name, tt := range map[string]struct {
		guest  snptest.Guest
		edit   func(*vtpmtest.Azure)
		args   []string
		status int
		check  string
		reason evidence.Reason
	}{
		"good":                     {status: 0},
		"bound":                    {args: []string{"-binding", "5f0102"}, status: 0},
		"bound to others":          {args: []string{"-binding", "5f"}, status: 1, check: "binding", reason: evidence.NotBound},
		"asked for by a guest":     {guest: snptest.Guest{VMPL: 2}, status: 1, check: "vmpl", reason: evidence.Untrusted},
		"a signature that is none": {guest: snptest.Guest{Fault: func(b []byte) []byte { b[0x2A0] ^= 1; return b }}, status: 1, check: "platform", reason: evidence.BadSignature},
		"another AK": {edit: func(a *vtpmtest.Azure) {
			a.Blob = func(b []byte) []byte { i := strings.Index(string(b), `"n":"`); b[i+50] = flip(b[i+50]); return b }
		}, status: 1, check: "platform", reason: evidence.NotBound},
		"cut short": {edit: func(a *vtpmtest.Azure) { a.Blob = func(b []byte) []byte { return b[:1300] } }, status: 1, check: "manifest", reason: evidence.Malformed},
		"on TDX":    {edit: func(a *vtpmtest.Azure) { a.TDX = true }, status: 1, check: "platform", reason: evidence.Unsupported},
		"lengths that lie": {edit: func(a *vtpmtest.Azure) {
			a.Blob = func(b []byte) []byte { binary.LittleEndian.PutUint32(b[1232:], 1<<31); return b }
		}, status: 1, check: "manifest", reason: evidence.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			a := vtpmtest.Azure{TPM: tpm, UserData: user, Report: func(data evidence.Binding) evidence.Evidence { return chip.Report(tt.guest, data) }}
			if tt.edit != nil {
				tt.edit(&a)
			}
			var blob []byte
			for _, i := range a.Evidence(vtpmtest.Quote{}, evidence.Binding{}).Items {
				if i.Type == vtpm.HCL {
					blob = i.Data
				}
			}
			status, r := ask(t, append(append(tt.args, base...), write(t, "blob.bin", blob))...)
			if status != tt.status || r.Check != tt.check || r.Reason != string(tt.reason) || r.Format != "vtpm" {
				t.Errorf("%+v", r)
			}
			key := vtpm.KeyDigest(tpm.AKKey())
			if tt.status == 0 && r.Claims["vtpm.ak"] != hex.EncodeToString(key[:]) {
				t.Errorf("%v", r.Claims)
			}
		})
	}
}

func flip(c byte) byte {
	if c == 'A' {
		return 'B'
	}
	return 'A'
}

// A policy judges the report in a blob; one that asks for a quote is not satisfied.
func TestHCLPolicy(t *testing.T) {
	blob, vek := vectors.Path(t, "snp/trustee-azvtpm-genoa.hcl.bin"), vectors.Path(t, "snp/trustee-azvtpm-genoa.vek.der")
	document := func(require string) string {
		return write(t, "policy.json", []byte(`{"policy":"teebroker/1","name":"p","version":"1","scope":"global","require":{`+require+`}}`))
	}
	const any = `"measurements":"*","vmpls":[0],"host_data":"*","id_keys":"*","author_keys":"*","family_ids":"*","image_ids":"*","lines":"*","keys":["VCEK"],"chips":"*","allow_any_tcb":true,"allow_smt":true`
	for name, tt := range map[string]struct {
		policy string
		status int
		claim  string
	}{
		"the report":      {`"snp-report":[{` + any + `}]`, 0, ""},
		"without SMT":     {`"snp-report":[{` + strings.Replace(any, `"allow_smt":true`, `"allow_smt":false`, 1) + `}]`, 1, "snp.policy.smt"},
		"a quote as well": {`"snp-report":[{` + any + `}],"vtpm":[{"links":["ak"],"allow_other_pcrs":true}]`, 1, "format"},
	} {
		status, a := ask(t, "-endorsements", vek, "-allow-no-revocation", "-at", "2025-06-01T00:00:00Z", "-policy", document(tt.policy), blob)
		if status != tt.status || !a.Authentic || (tt.claim != "") != (len(a.Mismatches) == 1) || tt.claim != "" && a.Mismatches[0].Claim != tt.claim {
			t.Errorf("%s: status %d, %+v", name, status, a.Mismatches)
		}
	}
}
