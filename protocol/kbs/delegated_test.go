package kbs_test

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/kbs"
)

// elsewhere stands for a service that verifies SGX evidence: it compares the
// binding and says whose word it is.
type elsewhere struct{}

func (elsewhere) Verify(_ context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	var body struct{ Quote []byte }
	if err := json.Unmarshal(ev.Raw, &body); err != nil {
		return nil, &evidence.Error{Format: ev.Format, Reason: evidence.Malformed}
	}
	if !want.MatchExact(body.Quote) {
		return nil, &evidence.Error{Format: ev.Format, Reason: evidence.NotBound, Check: evidence.BindingCheck}
	}
	return &evidence.Verified{
		Format: ev.Format, Bound: true, Signed: body.Quote, Root: [32]byte{7}, NotAfter: time.Now().Add(time.Hour), Claims: word{},
	}, nil
}

type word struct{}

func (word) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		_ = yield("sgx.delegated_to", evidence.Text("https://as.example")) && yield("sgx.mrenclave", evidence.Bytes([]byte{1}))
	}
}

// Evidence that is not verified here goes to whom the Config names, if the client
// said at the challenge what it is, and nowhere otherwise.
func TestDelegated(t *testing.T) {
	const format = evidence.Format("sgx")
	w := newWorld(t, func(_ *world, bc *teebroker.Config, hc *kbs.Config) {
		bc.Verifier = evidence.Verifiers{format: elsewhere{}}
		hc.Delegated = map[string]evidence.Format{"sgx": format}
	})
	launch := teebroker.LaunchClaim{Name: "sgx.mrenclave", Want: []byte{1}}
	w.check(w.Register(t.Context(), teebroker.Instance{
		Tenant: tenant, ID: other, Launch: launch,
		Policies: []*policy.Policy{{Name: "test", Document: []byte("delegated"), Require: map[evidence.Format]policy.Rule{
			format: policy.Claim{Name: "sgx.delegated_to", Op: evidence.Equal, Want: evidence.Text("https://as.example")},
		}}},
		Profiles: map[string][]nonce.Profile{"default/key/1": {nonce.ProfileCoCo}},
		Suites:   keywrap.Allow{Suites: []keywrap.Suite{keywrap.JWEP256}},
	}))
	w.check(w.PutSecret(t.Context(), tenant, other, "default/key/1", []byte(secret)))
	w.authorize(other, nonce.ProfileCoCo, "default/key/1")
	attest := func(tee string) (*client, string) {
		c := newClient(w, false)
		answer := w.send("POST", "/kbs/v0/auth", `{"version":"0.4.0","tee":"`+tee+`","extra-params":""}`)
		if answer.Code != http.StatusOK {
			return nil, code(t, answer)
		}
		var challenge struct{ Nonce []byte }
		w.check(json.Unmarshal(answer.Body.Bytes(), &challenge))
		n, err := nonce.Parse(challenge.Nonce)
		w.check(err)
		c.nonce, c.cookie = n, cookieOf(answer)
		binding, err := nonce.CoCo{Hash: 6}.Bind(n, c.key.Recipient()) // SHA-384
		w.check(err)
		body := c.body()
		body["tee-evidence"] = map[string]any{"primary_evidence": map[string]any{"quote": binding.Bytes()}, "additional_evidence": ""}
		b, err := json.Marshal(body)
		w.check(err)
		if answer := c.attestWith(b); answer.Code != http.StatusOK {
			return nil, code(t, answer)
		}
		return c, ""
	}
	if c, refused := attest("sgx"); refused != "" || !c.opens(c.get("default/key/1")) {
		t.Errorf("delegated: %q %v", refused, w.refused)
	}
	if _, refused := attest("tdx"); refused != "unsupported" { // a quote, by its shape
		t.Errorf("as TDX: %q", refused)
	}
	if _, refused := attest("csv"); refused != "malformed-request" {
		t.Errorf("nobody verifies CSV, and yet: %q", refused)
	}
	cfg := w.cfg
	cfg.Delegated = map[string]evidence.Format{"snp": format}
	if _, err := kbs.New(cfg); err == nil {
		t.Error("what is verified here was delegated")
	}
}
