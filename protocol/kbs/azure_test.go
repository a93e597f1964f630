package kbs_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/kbs"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// azureWorld is a broker for virtual machines of Azure, and two of them that have
// one TPM key, on SEV-SNP and on TDX.
type azureWorld struct {
	*world
	tpm *vtpmtest.TPM
	vms map[string]vtpmtest.Azure
}

// azureTPM is one for all tests: its RSA keys take long to make.
var azureTPM = sync.OnceValue(func() *vtpmtest.TPM {
	tpm := vtpmtest.NewTPM(vtpmtest.RSA, nil, nil)
	init := sha256.Sum256([]byte(initBody))
	tpm.ExtendDigest(vtpm.SHA256, 8, init[:])
	return tpm
})

func newAzureWorld(t *testing.T) *azureWorld {
	t.Helper()
	intel := tdxtest.NewIntel()
	platform := intel.Platform(tdx.PlatformCA)
	td, err := tdx.NewVerifier(tdx.Config{Anchors: intel.Anchors(), Source: intel.Source()})
	if err != nil {
		t.Fatal(err)
	}
	a := &azureWorld{tpm: azureTPM()}
	a.world = newWorld(t, func(w *world, bc *teebroker.Config, hc *kbs.Config) {
		below := evidence.Verifiers{tdx.Format: td}
		for format, v := range bc.Verifier.(evidence.Verifiers) {
			below[format] = v
		}
		v, err := vtpm.NewVerifier(vtpm.Config{Platform: below})
		w.check(err)
		bc.Verifier = evidence.Verifiers{vtpm.Format: v, snp.Format: below[snp.Format]}
	})
	a.vms = map[string]vtpmtest.Azure{
		"az-snp-vtpm": {TPM: a.tpm, Report: func(b evidence.Binding) evidence.Evidence { return chip().Report(snptest.Guest{}, b) }},
		"az-tdx-vtpm": {TPM: a.tpm, TDX: true, Report: func(b evidence.Binding) evidence.Evidence { return platform.Quote(tdxtest.TD{}, b) }},
	}
	ak := vtpm.KeyDigest(a.tpm.AKKey())
	launch := teebroker.LaunchClaim{Name: "vtpm.ak", Want: ak[:]}
	link := policy.Claim{Name: "vtpm.link", Op: evidence.Equal, Want: evidence.Text("ak")}
	a.check(a.Register(t.Context(), teebroker.Instance{
		Tenant: tenant, ID: other, Launch: launch,
		Policies: []*policy.Policy{{Name: "test", Document: []byte("Azure"), Require: map[evidence.Format]policy.Rule{vtpm.Format: link}, Optional: map[evidence.Format]policy.Rule{
			snp.Format: policy.Claim{Name: "snp.policy.debug", Op: evidence.Equal, Want: evidence.Bool(false)},
			tdx.Format: policy.Claim{Name: "tdx.td_attributes.debug", Op: evidence.Equal, Want: evidence.Bool(false)},
		}}},
		Profiles: map[string][]nonce.Profile{"default/key/1": {nonce.ProfileCoCo}},
		Suites:   keywrap.Allow{Suites: []keywrap.Suite{keywrap.JWEP256}},
	}))
	a.check(a.PutSecret(t.Context(), tenant, other, "default/key/1", []byte(secret)))
	return a
}

// evidence returns what the client of vm sends for binding.
func (a *azureWorld) evidence(vm vtpmtest.Azure, binding evidence.Binding) map[string]any {
	a.Helper()
	all := make([]int, 24)
	for i := range all {
		all[i] = i
	}
	ev := vm.Evidence(vtpmtest.Quote{Selection: []vtpm.BankSelection{{Bank: vtpm.SHA256, PCRs: all}}}, binding)
	size := binary.BigEndian.Uint16(ev.Raw)
	message, signature := ev.Raw[2:2+size], ev.Raw[2+size+6:]
	body := map[string]any{"version": 2}
	for _, i := range ev.Items {
		switch i.Type {
		case vtpm.HCL:
			body["hcl_report"] = base64.URLEncoding.EncodeToString(i.Data)
		case vtpm.PCRs:
			var pcrs []string
			for value := range slices.Chunk(i.Data, 32) {
				pcrs = append(pcrs, hex.EncodeToString(value))
			}
			body["tpm_quote"] = map[string]any{"signature": hex.EncodeToString(signature), "message": hex.EncodeToString(message), "pcrs": pcrs}
		}
	}
	if vm.TDX {
		body["td_quote"] = base64.URLEncoding.EncodeToString(ev.Layers[0].Raw)
		return body
	}
	veks, err := snp.TableVEKs(chip().Certificates())
	a.check(err)
	body["vcek"] = base64.URLEncoding.EncodeToString(veks[0])
	return body
}

// session starts a session of vm and returns it with what it would send.
func (a *azureWorld) session(vm vtpmtest.Azure, hash nonce.CoCo) (*client, map[string]any) {
	a.Helper()
	c := newClient(a.world, false)
	c.auth()
	c.init = initBody
	binding, err := hash.Bind(c.nonce, c.key.Recipient())
	a.check(err)
	body := c.body()
	body["tee-evidence"] = map[string]any{"primary_evidence": a.evidence(vm, binding), "additional_evidence": ""}
	return c, body
}

// Virtual machines of Azure get their secret by a quote of their TPM: init-data is
// in PCR 8, and the attestation key tells one from another.
func TestAzure(t *testing.T) {
	a := newAzureWorld(t)
	for tee, vm := range a.vms {
		t.Run(tee, func(t *testing.T) {
			a.authorize(other, nonce.ProfileCoCo, "default/key/1")
			answer := a.send("POST", "/kbs/v0/auth", `{"version":"0.4.0","tee":"`+tee+`","extra-params":""}`)
			if answer.Code != http.StatusOK {
				t.Errorf("auth: %d %s", answer.Code, answer.Body)
			}
			c, body := a.session(vm, nonce.CoCo{Hash: 6}) // SHA-384
			b, err := json.Marshal(body)
			a.check(err)
			if answer := c.attestWith(b); answer.Code != http.StatusOK {
				t.Fatalf("%d %s %v", answer.Code, answer.Body, a.refused)
			}
			if answer := c.get("default/key/1"); !c.opens(answer) {
				t.Errorf("%d %s %v", answer.Code, answer.Body, a.refused)
			}
		})
	}
}

// What a virtual machine of Azure must not send.
func TestAzureRefused(t *testing.T) {
	a := newAzureWorld(t)
	for _, tt := range []struct {
		name string
		edit func(primary, quote map[string]any)
		code string
	}{
		{"version 1", func(p, _ map[string]any) { p["version"] = 1 }, "unsupported"},
		{"no version", func(p, _ map[string]any) { delete(p, "version") }, "unsupported"},
		{"no signature", func(_, q map[string]any) { delete(q, "signature") }, "malformed"},
		{"signature of others", func(_, q map[string]any) { q["signature"] = strings.Repeat("01", 256) }, "bad-signature"},
		{"message not in hexadecimal", func(_, q map[string]any) { q["message"] = "no" }, "malformed"},
		{"empty message", func(_, q map[string]any) { q["message"] = "" }, "malformed"},
		{"message null", func(_, q map[string]any) { q["message"] = nil }, "malformed"},
		{"23 PCRs", func(_, q map[string]any) { q["pcrs"] = q["pcrs"].([]string)[1:] }, "malformed"},
		{"PCR of 20 bytes", func(_, q map[string]any) { q["pcrs"].([]string)[0] = strings.Repeat("00", 20) }, "malformed"},
		{"another PCR", func(_, q map[string]any) { q["pcrs"].([]string)[8] = strings.Repeat("01", 32) }, ""},
		{"no blob", func(p, _ map[string]any) { delete(p, "hcl_report") }, "malformed"},
		{"blob cut", func(p, _ map[string]any) { p["hcl_report"] = p["hcl_report"].(string)[:400] }, "malformed"},
		{"blob in standard base64", func(p, _ map[string]any) { p["hcl_report"] = "+/+/" }, "malformed"},
		{"no VCEK", func(p, _ map[string]any) { delete(p, "vcek") }, "malformed"},
		{"VCEK and TD quote", func(p, _ map[string]any) { p["td_quote"] = "AAAA" }, "malformed"},
		{"TD quote for a blob of SEV-SNP", func(p, _ map[string]any) { delete(p, "vcek"); p["td_quote"] = "AAAA" }, "unsupported"},
		{"doubled", func(p, _ map[string]any) { p["Version"] = 2 }, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, body := a.session(a.vms["az-snp-vtpm"], nonce.CoCo{Hash: 6})
			primary := body["tee-evidence"].(map[string]any)["primary_evidence"].(map[string]any)
			tt.edit(primary, primary["tpm_quote"].(map[string]any))
			b, err := json.Marshal(body)
			a.check(err)
			answer := c.attestWith(b)
			if answer.Code == http.StatusOK || answer.Code == http.StatusInternalServerError || !strings.Contains(answer.Body.String(), tt.code) {
				t.Errorf("%d %s", answer.Code, answer.Body)
			}
		})
	}
	refused := func(name string, c *client, body map[string]any) {
		t.Helper()
		b, err := json.Marshal(body)
		a.check(err)
		if answer := c.attestWith(b); answer.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, answer.Code, answer.Body)
		}
	}
	c, body := a.session(a.vms["az-snp-vtpm"], nonce.CoCo{Hash: 5}) // SHA-256
	refused("digest of another hash than was settled", c, body)
	c, _ = a.session(a.vms["az-snp-vtpm"], nonce.CoCo{Hash: 6})
	_, body = a.session(a.vms["az-snp-vtpm"], nonce.CoCo{Hash: 6})
	own := c.body()
	own["tee-evidence"] = body["tee-evidence"]
	refused("evidence of another session", c, own)
	c, body = a.session(a.vms["az-snp-vtpm"], nonce.CoCo{Hash: 6})
	body["init-data"] = map[string]any{"format": "toml", "body": initBody + " "}
	refused("init-data that was not measured", c, body)
}

func FuzzFromAzure(f *testing.F) {
	f.Add([]byte(`{"version":2,"tpm_quote":{"signature":"00","message":"00","pcrs":[]},"hcl_report":"AAAA","vcek":"AAAA"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ev, err := kbs.FromAzure(b); err == nil && (len(ev.Layers) != 1 || len(ev.Items) != 2) {
			t.Errorf("%d layers, %d items", len(ev.Layers), len(ev.Items))
		}
	})
}
