package main

import (
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A broker with policies for it answers callers of Keylime's verification API: about
// the guest that a policy accepts, with an EAR, and about another.
func TestVerifyPolicy(t *testing.T) {
	p := newPrograms(t)
	const mine, other = "7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11", "7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d12"
	shown, status := p.sh("attester show -tee snp -simulate " + sim + " -instance " + mine)
	var guest struct {
		Policy json.RawMessage `json:"policy"`
	}
	if err := json.Unmarshal([]byte(shown), &guest); err != nil || status != 0 {
		t.Fatal(shown, err)
	}
	dir := filepath.Join(p.dir, "verify")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "default.json"), guest.Policy, 0o600); err != nil {
		t.Fatal(err)
	}
	suggested, _ := p.serve("-trust-simulated", sim, "-verify-policy", dir)
	_, url, _ := strings.Cut(suggested, "TEEBROKER_URL=")
	url = strings.Fields(url)[0]

	g := elliptic.P256().Params() // the generator is a key that everybody has
	x, y, nonce := g.Gx.FillBytes(make([]byte, 32)), g.Gy.FillBytes(make([]byte, 32)), big.NewInt(7).FillBytes(make([]byte, 32))
	sum := sha512.Sum512(slices.Concat(x, y, nonce))
	u := base64.RawURLEncoding.EncodeToString
	for id, want := range map[string]string{mine: `"valid":true`, other: `"claim":"snp.host_data"`} {
		p.must("attester quote -tee snp -simulate "+sim+" -instance "+id+" -report-data "+hex.EncodeToString(sum[:])+" -out report", 0, "")
		report, err := os.ReadFile(filepath.Join(p.dir, "report"))
		if err != nil {
			t.Fatal(err)
		}
		body := `{"type":"tee","data":{"nonce":"` + base64.StdEncoding.EncodeToString(nonce) + `","tee-pubkey-x-b64":"` + u(x) + `","tee-pubkey-y-b64":"` + u(y) +
			`","tee-evidence":{"tee":"snp","evidence":{"snp-report":"` + base64.StdEncoding.EncodeToString(report) + `"}}}}`
		resp, err := http.Post(url+"/v2.6/verify/evidence", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(b), want) || !strings.Contains(string(b), `"ear":"ey`) {
			t.Errorf("%s: %d %s, %v", id, resp.StatusCode, b, err)
		}
	}
}

// Without policies for it the API is not there, and with none in the folder nothing starts.
func TestNoVerifyPolicy(t *testing.T) {
	p := newPrograms(t)
	p.must("broker serve -listen 127.0.0.1:0 -trust-simulated "+sim+" -verify-policy .", 2, "no policies NAME.json")
	suggested, _ := p.serve("-trust-simulated", sim)
	_, url, _ := strings.Cut(suggested, "TEEBROKER_URL=")
	resp, err := http.Post(strings.Fields(url)[0]+"/v2.6/verify/evidence", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("%d", resp.StatusCode)
	}
}
