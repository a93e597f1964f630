package keylime_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/protocol/keylime"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// startSwtpm returns a TPM that others wrote. In CI it has to be there.
func startSwtpm(t *testing.T, kind vtpmtest.Kind) *vtpmtest.Swtpm {
	t.Helper()
	dir, err := os.MkdirTemp("", "swtpm")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	s, err := vtpmtest.StartSwtpm(dir, kind)
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skipf("SKIPPED, NOT PASSED: no swtpm: %v", err)
	}
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

// swtpmRequest asks about PCR 16 of d, which was extended once.
func swtpmRequest(t *testing.T, d vtpmtest.Device) tpmRequest {
	t.Helper()
	q := quoteText(t, d, over(vtpm.SHA256, 16, 23), tpmNonce)
	value := extended(bytes.Repeat([]byte{0}, 32), []byte("one"))
	return tpmRequest{
		"quote": q, "nonce": tpmNonce, "hash_alg": "sha256", "tpm_ek": b64(d.EK()), "tpm_ak": b64(d.AK()),
		"tpm_policy": fmt.Sprintf(`{"16":["%x"]}`, value),
	}
}

func extended(value, data []byte) []byte {
	return unhex(sum(append(value, unhex(sum(data))...)))
}

// A TPM that others wrote is accepted by what it was extended with, and by nothing else.
func TestTPMOfOthers(t *testing.T) {
	d := startSwtpm(t, vtpmtest.ECC)
	d.Extend(16, []byte("one"))
	h := tpmHandler(t, keylime.TPM{AKs: vtpmtest.AKs{d}})
	r := swtpmRequest(t, d)
	if code, _, got := post(t, h, r.body(t)); code != 200 || !got.Valid {
		t.Fatalf("%d %+v", code, got)
	}
	d.Extend(16, []byte("two"))
	r["quote"] = quoteText(t, d, over(vtpm.SHA256, 16, 23), tpmNonce)
	if _, _, got := post(t, h, r.body(t)); got.Valid || got.ids()[0] != "pcr_validation.invalid_pcr_16" {
		t.Errorf("%+v", got)
	}
}

// tpmCase is what .ci/interop/keylime_tpm.py judges.
type tpmCase struct {
	Name string     `json:"name"`
	Data tpmRequest `json:"data"`

	want     string // our failure; if empty, none
	stricter bool   // than Keylime
}

func tpmCases(t *testing.T) ([]tpmCase, vtpmtest.AKs) {
	t.Helper()
	m := booted()
	good := func(edit func(tpmRequest)) tpmRequest {
		r := m.request(t)
		delete(r, "mb_policy")
		delete(r, "mb_log")
		r["runtime_policy"] = m.runtime(func(p map[string]any) {
			p["digests"].(map[string][]string)["boot_aggregate"] = []string{sum(m.files[0].Content)}
		})
		if edit != nil {
			edit(r)
		}
		return r
	}
	set := func(name string, v any) func(tpmRequest) { return func(r tpmRequest) { r[name] = v } }
	list := string(vtpmtest.IMAList(m.files...))
	d := startSwtpm(t, vtpmtest.ECC)
	d.Extend(16, []byte("one"))
	other := m.request2(t)
	cases := []tpmCase{
		{"good", good(nil), "", false},
		{"swtpm", swtpmRequest(t, d), "", false},
		{"another nonce", good(set("nonce", "x"+tpmNonce[1:])), "qoute_validation.quote_validation", false},
		{"another PCR", good(set("tpm_policy", `{"7":["`+strings.Repeat("0", 64)+`"]}`)), "pcr_validation.invalid_pcr_7", false},
		{"a PCR not quoted", good(set("tpm_policy", `{"15":["`+strings.Repeat("0", 64)+`"]}`)), "pcr_validation.missing_pcrs", false},
		{"a shorter list", good(set("ima_measurement_list", list[:strings.LastIndex(list[:len(list)-1], "\n")+1])), "ima.pcr_mismatch", false},
		{"a file unknown", good(set("runtime_policy", m.runtime(func(p map[string]any) {
			p["excludes"] = []string{"/none"}
			p["digests"].(map[string][]string)["boot_aggregate"] = []string{sum(m.files[0].Content)}
		}))), "ima.validation.ima-ng.not_in_allowlist", false},
		{"a file changed", good(set("runtime_policy", m.runtime(func(p map[string]any) {
			p["digests"].(map[string][]string)["boot_aggregate"] = []string{sum(m.files[0].Content)}
			p["digests"].(map[string][]string)["/usr/bin/bash"] = []string{sum(nil)}
		}))), "ima.validation.ima-ng.runtime_policy_hash", false},
		{"an AK of anybody", good(set("tpm_ek", other["tpm_ak"])), "tpm_identity.unlinked", true},
		{"all excluded", good(set("runtime_policy", m.runtime(func(p map[string]any) { p["excludes"] = []string{".*"} }))), "default.invalid_policy", true},
	}
	return cases, vtpmtest.AKs{m.tpm, d}
}

// Keylime's own verification comes to the same verdicts, for the same reasons, but where
// more is asked here.
func TestKeylimeJudgesQuotes(t *testing.T) {
	python := keylimePython(t)
	cases, aks := tpmCases(t)
	s := httptest.NewTLSServer(tpmHandler(t, keylime.TPM{AKs: aks}))
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	in, err := json.Marshal(map[string]any{"url": s.URL, "ca": ca, "cases": cases})
	check(t, err)
	cmd := exec.CommandContext(t.Context(), python, "../../.ci/interop/keylime_tpm.py")
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	var got []struct {
		Name         string
		Ours, Theirs foreignResult
	}
	check(t, json.Unmarshal(out, &got))
	for i, c := range cases {
		ours, theirs := got[i].Ours, got[i].Theirs
		if ours.Valid != (c.want == "") || c.want != "" && !slices.Contains(ours.Failures, c.want) {
			t.Errorf("%s: %+v, want %s", c.Name, ours, c.want)
		}
		if theirs.Valid != (ours.Valid || c.stricter) || !c.stricter && c.want != "" && !slices.Contains(theirs.Failures, c.want) {
			t.Errorf("%s: ours %+v, Keylime's %+v", c.Name, ours, theirs)
		}
	}
}
