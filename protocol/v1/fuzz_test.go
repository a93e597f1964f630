package v1_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/nonce"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// Whatever body is sent to whatever route, by an owner or by nobody, the answer is
// JSON or a problem with a code that a peer may be told.
func FuzzBodies(f *testing.F) {
	state := sqlite(f, start)
	identity, err1 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	issuer, err2 := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}, Time: start})
	broker, err3 := teebroker.New(teebroker.Config{
		Verifier: verifier(), Issuer: issuer, Nonces: state, Directory: state, Secrets: state, Ledger: state, Identity: identity, Time: start,
	})
	s, err4 := v1.New(v1.Config{
		Broker: broker, Allow: v1.Suites(), Owner: state, Tenants: state, Keys: broker.KeysDocument,
		Verify:  &v1.VerifyConfig{Verifier: verifier(), Issuer: issuer, Nonces: state},
		Explain: &v1.ExplainConfig{Verifier: verifier(), Decoders: decoders()}, Identities: &v1.IdentityConfig{Identities: state, AgentID: agentID, Certificates: issuers},
		TPMs: &tpms{}, PerSource: v1.Rate{Burst: 1}, Time: start,
	})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		f.Fatal(err)
	}
	request, err := v1.MarshalRequest(sample(f))
	if err != nil {
		f.Fatal(err)
	}
	routes := s.Routes()
	for i := range routes {
		for _, body := range []string{
			``, `{}`, string(request), `{"profile":"verify"}`, string(document("prod", "good")),
			`{"policies":["prod"],"launch":{"own":true},"suites":["HPKE-X25519"]}`,
			`{"purposes":["disk"],"not_after":"2026-11-01T13:00:00Z"}`,
			`{"digest":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE","wrapped":{"protected":"AA","enc":"AA","ciphertext":"AA"}}`,
			`{"agent":"a","public":"AQ"}`, `{"ek":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"}`, bindingText, proofText,
			`{"v":1,"bindings":["AQ"],"evidence":{"format":"snp-report","raw":"e30"}}`,
		} {
			f.Add(uint8(i), []byte(body))
		}
	}
	id := strictjson.UUID(instance).String()
	f.Fuzz(func(t *testing.T, i uint8, body []byte) {
		r := routes[int(i)%len(routes)]
		path := strings.NewReplacer("{uuid}", id, "{id}", id, "{name}", "prod", "{purpose...}", "disk", "{digest}", strings.Repeat("a1", 32), "{agent}", "a").Replace(r.Path)
		for _, token := range []string{"", acmeToken} {
			req := httptest.NewRequestWithContext(t.Context(), r.Method, path, bytes.NewReader(body))
			if token != "" {
				req.Header.Set("Authorization", "Bearer "+token)
			}
			rec := httptest.NewRecorder()
			s.ServeHTTP(rec, req)
			checkAnswer(t, r, token != "", rec)
		}
	})
}

func checkAnswer(t *testing.T, r v1.Route, owner bool, rec *httptest.ResponseRecorder) {
	t.Helper()
	if r.Owner && !owner && rec.Code != http.StatusUnauthorized {
		t.Fatalf("%s %s to nobody: %d", r.Method, r.Path, rec.Code)
	}
	if rec.Code/100 == 2 {
		return
	}
	var p v1.Problem
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Status != rec.Code || p.Code == "" ||
		rec.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s %s: %d %s", r.Method, r.Path, rec.Code, rec.Body)
	}
	if !owner && teebroker.Code(teebroker.Refusal(p.Code)) == string(teebroker.Denied) && p.Code != string(teebroker.Denied) {
		t.Fatalf("%s %s: a peer is told %s", r.Method, r.Path, p.Code)
	}
}
