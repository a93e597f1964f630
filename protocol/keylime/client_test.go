package keylime_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/keylime"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// evidence returns a report of g for c, with what a Client needs beside it.
func (c caller) evidence(t testing.TB, w world, g snptest.Guest) evidence.Evidence {
	t.Helper()
	item, err := keylime.Preimage(c.key, c.nonce)
	check(t, err)
	return evidence.Evidence{Format: snp.Format, Raw: w.chip.Report(g, c.binding(t)).Raw, Items: []evidence.Item{item}}
}

func newClient(t testing.TB, s *httptest.Server, edit func(*keylime.ClientConfig)) *keylime.Client {
	t.Helper()
	cfg := keylime.ClientConfig{URL: s.URL, HTTP: s.Client()}
	if edit != nil {
		edit(&cfg)
	}
	c, err := keylime.NewClient(cfg)
	check(t, err)
	return c
}

// A Client asks a Handler: what is genuine there is genuine here, by its word.
func TestClient(t *testing.T) {
	w, c := simulated(), newCaller(t)
	s := httptest.NewTLSServer(w.handler(t, nil))
	defer s.Close()
	client := newClient(t, s, func(cfg *keylime.ClientConfig) {
		cfg.Policy, cfg.Version, cfg.Skipped = "strict", "2.5", []string{"revocation"}
	})
	ev := c.evidence(t, w, snptest.Guest{})
	ev.Items = append(ev.Items, evidence.Item{Type: snp.CertTable, Data: w.chip.Certificates()})
	got, err := client.Verify(t.Context(), ev, c.binding(t))
	check(t, err)
	claims := map[string]string{}
	for name, value := range got.Claims.All() {
		claims[name] = value.String()
	}
	if claims[keylime.DelegatedClaim] != s.URL || claims["snp.vmpl"] != "0" || claims["snp.policy.debug"] != "false" {
		t.Errorf("claims %v", claims)
	}
	if got.Root != sha256.Sum256(s.Certificate().RawSubjectPublicKeyInfo) || !got.Bound || got.Format != snp.Format || strings.Join(got.Skipped, " ") != "revocation" {
		t.Errorf("%+v", got)
	}
	if _, ok := snp.ClaimsOf(got); ok {
		t.Error("claims by another's word are claims of package snp")
	}
	if life := got.NotAfter.Sub(got.CheckedAt); life != 5*time.Minute {
		t.Errorf("counts for %v", life)
	}
	own := &policy.Policy{Name: "own", Document: []byte("own"), Require: map[evidence.Format]policy.Rule{snp.Format: snp.Baseline(nil)}}
	if policy.Appraise([]*evidence.Verified{got}, own).Accepted() {
		t.Error("reference values take the word of another")
	}
}

func TestClientIsRefused(t *testing.T) {
	w, c := simulated(), newCaller(t)
	s := httptest.NewTLSServer(w.handler(t, nil))
	defer s.Close()
	client, good := newClient(t, s, nil), c.evidence(t, w, snptest.Guest{})
	with := func(edit func(*evidence.Evidence)) evidence.Evidence {
		ev := good
		edit(&ev)
		return ev
	}
	other, err := keylime.Preimage(newCaller(t).key, c.nonce)
	check(t, err)
	for name, v := range map[string]struct {
		ev   evidence.Evidence
		want evidence.Binding
		is   evidence.Reason
	}{
		"a changed report":        {c.evidence(t, w, snptest.Guest{Fault: func(r []byte) []byte { r[0x90] ^= 1; return r }}), c.binding(t), evidence.BadSignature},
		"VMPL 2, by its policy":   {c.evidence(t, w, snptest.Guest{VMPL: 2}), c.binding(t), evidence.Untrusted},
		"bound to something else": {good, newCaller(t).binding(t), evidence.NotBound},
		"an unchecked binding":    {good, evidence.UncheckedBindingUnsafe(), evidence.Unsupported},
		"no binding":              {good, evidence.Binding{}, evidence.Unsupported},
		"no preimage":             {with(func(ev *evidence.Evidence) { ev.Items = nil }), c.binding(t), evidence.Unsupported},
		"another preimage":        {with(func(ev *evidence.Evidence) { ev.Items = []evidence.Item{other} }), c.binding(t), evidence.Unsupported},
		"two preimages":           {with(func(ev *evidence.Evidence) { ev.Items = append(ev.Items[:1:1], ev.Items[0]) }), c.binding(t), evidence.Unsupported},
		"an unknown item":         {with(func(ev *evidence.Evidence) { ev.Items = append(ev.Items[:1:1], evidence.Item{Type: "x"}) }), c.binding(t), evidence.Unsupported},
		"another format":          {with(func(ev *evidence.Evidence) { ev.Format = "tdx-quote" }), c.binding(t), evidence.Unsupported},
		"layers":                  {with(func(ev *evidence.Evidence) { ev.Layers = []evidence.Evidence{good} }), c.binding(t), evidence.Unsupported},
		"half a report":           {with(func(ev *evidence.Evidence) { ev.Raw = ev.Raw[:500] }), c.binding(t), evidence.Malformed},
	} {
		if got, err := client.Verify(t.Context(), v.ev, v.want); !errors.Is(err, v.is) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// A verifier that says anything is believed only where it answers the question.
func TestClientHearsAnything(t *testing.T) {
	w, c := simulated(), newCaller(t)
	ev := c.evidence(t, w, snptest.Guest{})
	var yes []byte // what an honest verifier says
	{
		rec := httptest.NewRecorder()
		w.handler(t, nil).ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/v2.6/verify/evidence", strings.NewReader(body(c.data("snp", `{"snp-report":"`+b64(ev.Raw)+`"}`)))))
		yes = rec.Body.Bytes()
	}
	failed := func(id string) string {
		return `{"code":200,"status":"Success","results":{"valid":false,"claims":{},"failures":[{"type":"tee_attestation.` + id + `","context":{}}]}}`
	}
	for name, v := range map[string]struct {
		status int
		body   string
		is     evidence.Reason
	}{
		"yes":                      {200, string(yes), ""},
		"yes, with another status": {201, string(yes), evidence.Unavailable},
		"yes, and a failure":       {200, strings.Replace(string(yes), `"failures":[]`, `"failures":[{"type":"tee_attestation.stale"}]`, 1), evidence.Stale},
		"another measurement":      {200, strings.Replace(string(yes), `"measurement":[0`, `"measurement":[1`, 1), evidence.Unavailable},
		"another report data":      {200, strings.Replace(string(yes), `"report_data":[`, `"report_data":[1,`, 1), evidence.Unavailable},
		"a number as the verdict":  {200, strings.Replace(string(yes), `"valid":true`, `"valid":1`, 1), evidence.Unavailable},
		"two verdicts":             {200, strings.Replace(string(yes), `"valid":true`, `"valid":false,"valid":true`, 1), evidence.Unavailable},
		"no verdict":               {200, strings.Replace(string(yes), `"valid":true,`, ``, 1), evidence.Unavailable},
		"no, without a reason":     {200, strings.Replace(string(yes), `"valid":true`, `"valid":false`, 1), evidence.Unavailable},
		"no JSON":                  {200, "yes", evidence.Unavailable},
		"nothing":                  {200, "", evidence.Unavailable},
		"an internal error":        {500, `{"code":500,"status":"Internal Server Error","results":{}}`, evidence.Unavailable},
		"a missing parameter":      {400, strings.Replace(failed("missing_param"), "200", "400", 1), evidence.Unavailable},
		"a signature that is not":  {200, failed("invalid_signature"), evidence.BadSignature},
		"a key that is not":        {200, failed("invalid_public_key"), evidence.Untrusted},
		"not bound":                {200, failed("freshness_hash_failed"), evidence.NotBound},
		"revoked":                  {200, failed("revoked"), evidence.Revoked},
		"invalid input":            {200, failed("invalid_input"), evidence.Malformed},
		"not served":               {200, failed("invalid.tee"), evidence.Unsupported},
		"no certificate":           {200, failed("vcek_fetch"), evidence.Unavailable},
		"an id that is not known":  {200, failed("new"), evidence.Unavailable},
		"a redirect":               {307, string(yes), evidence.Unavailable},
	} {
		s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/")
			w.WriteHeader(v.status)
			_, _ = io.WriteString(w, v.body)
		}))
		got, err := newClient(t, s, nil).Verify(t.Context(), ev, c.binding(t))
		if v.is == "" && err != nil || v.is != "" && (!errors.Is(err, v.is) || got != nil) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		s.Close()
	}
}

func TestClientConfig(t *testing.T) {
	for name, cfg := range map[string]keylime.ClientConfig{
		"URL":     {HTTP: http.DefaultClient},
		"URL ":    {URL: "http://a", HTTP: http.DefaultClient},
		"HTTP":    {URL: "https://a"},
		"Version": {URL: "https://a", HTTP: http.DefaultClient, Version: "3.0"},
		"Life":    {URL: "https://a", HTTP: http.DefaultClient, Life: -1},
	} {
		if c, err := keylime.NewClient(cfg); err == nil || c != nil || !strings.Contains(err.Error(), "ClientConfig."+strings.TrimSpace(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w, c := simulated(), newCaller(t)
	s := httptest.NewServer(w.handler(t, nil))
	defer s.Close()
	plain := newClient(t, s, func(cfg *keylime.ClientConfig) { cfg.AllowPlainHTTPUnsafe = true })
	if got, err := plain.Verify(t.Context(), c.evidence(t, w, snptest.Guest{}), c.binding(t)); err != nil || got.Root != sha256.Sum256([]byte(s.URL)) {
		t.Errorf("%v, %v", got, err)
	}
}

// Every key that Bind takes can be asked about: its preimage is cut where it was joined.
func TestPreimage(t *testing.T) {
	w := simulated()
	s := httptest.NewTLSServer(w.handler(t, nil))
	defer s.Close()
	client := newClient(t, s, nil)
	for _, v := range readVectors(t).Cases {
		k, err := keylime.ParseKey(coordinate(t, v.X), coordinate(t, v.Y))
		check(t, err)
		for _, n := range []int{16, 32, 47} {
			c := caller{k, make([]byte, n)}
			if _, err := client.Verify(t.Context(), c.evidence(t, w, snptest.Guest{}), c.binding(t)); err != nil {
				t.Errorf("%s with %d bytes: %v", v.Curve, n, err)
			}
		}
		if _, err := keylime.Preimage(k, make([]byte, 15)); !errors.Is(err, keylime.ErrNonce) {
			t.Errorf("%s with 15 bytes: %v", v.Curve, err)
		}
	}
}

// Only what says so plainly is a yes.
func FuzzVerdict(f *testing.F) {
	w, c := simulated(), newCaller(f)
	ev := c.evidence(f, w, snptest.Guest{})
	rec := httptest.NewRecorder()
	post := httptest.NewRequest(http.MethodPost, "/v2.6/verify/evidence", strings.NewReader(body(c.data("snp", `{"snp-report":"`+b64(ev.Raw)+`"}`))))
	w.handler(f, nil).ServeHTTP(rec, post)
	f.Add(rec.Body.Bytes())
	f.Add([]byte(`{"code":200,"results":{"valid":false,"failures":[{"type":"tee_attestation.stale"}]}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		err := keylime.Verdict(in, ev.Raw)
		var e *evidence.Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%v", err)
		}
		if err == nil && !(bytes.Contains(in, []byte("true")) && bytes.Contains(in, []byte("valid"))) && !bytes.Contains(in, []byte(`\u`)) {
			t.Errorf("%q is a yes", in)
		}
	})
}

func ExampleClient() {
	w := simulated()
	verifier, err := keylime.New(keylime.Config{
		Verifier: evidence.Verifiers{}, // of nothing
		Policies: map[string][]*policy.Policy{"": {{Name: "none"}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	service := httptest.NewTLSServer(verifier)
	defer service.Close()
	client, err := keylime.NewClient(keylime.ClientConfig{URL: service.URL, HTTP: service.Client()})
	if err != nil {
		fmt.Println(err)
		return
	}
	guest, err := keylime.ParseKey(exampleX, exampleY)
	if err != nil {
		fmt.Println(err)
		return
	}
	nonce := make([]byte, 32)
	binding, err := keylime.Bind(guest, nonce)
	if err != nil {
		fmt.Println(err)
		return
	}
	preimage, err := keylime.Preimage(guest, nonce)
	if err != nil {
		fmt.Println(err)
		return
	}
	report := w.chip.Report(snptest.Guest{}, binding)
	_, err = client.Verify(context.Background(), evidence.Evidence{Format: report.Format, Raw: report.Raw, Items: []evidence.Item{preimage}}, binding)
	fmt.Println(err)
	// Output:
	// snp-report: unsupported: the verifier says "tee_attestation.unsupported"
}

// A key from RFC 7517, appendix A.1.
var (
	exampleX = unhex("30a0424cd21c2944838a2d75c92b37e76ea20d9f00893a3b4eee8a3c0aafec3e")
	exampleY = unhex("e04b65e92456d9888b52b379bdfbd51ee869ef1f0fc65b6659695b6cce081723")
)
