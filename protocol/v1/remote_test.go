package v1_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/memory"
)

// tenants knows one token of "acme".
type tenants struct{ store.Tenants }

const token = "token-of-acme"

func (tenants) Tenant(_ context.Context, digest [32]byte) (string, error) {
	if digest == v1.TokenDigest(token) {
		return "acme", nil
	}
	return "", store.NotFound
}

// verifying returns a service that verifies only, over TLS, and its Config.
func verifying(t *testing.T, edit func(*v1.Config)) (*httptest.Server, *v1.Server) {
	t.Helper()
	issuer, err := nonce.NewHMAC(nonce.Config{Key: [32]byte{9}, Time: start})
	if err != nil {
		t.Fatal(err)
	}
	cfg := v1.Config{
		Tenants: tenants{}, Time: start,
		Verify: &v1.VerifyConfig{Verifier: verifier(), Issuer: issuer, Nonces: memory.New(start), Policies: []*policy.Policy{measured("good")}},
	}
	if edit != nil {
		edit(&cfg)
	}
	s, err := v1.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewTLSServer(s)
	t.Cleanup(ts.Close)
	return ts, s
}

// fakeClaims are claims as a service said them.
type fakeClaims []claim

type claim struct {
	name  string
	value evidence.Value
}

func (c fakeClaims) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		for _, x := range c {
			if !yield(x.name, x.value) {
				return
			}
		}
	}
}

// decode is the decoder of the claims of fake hardware.
func decode(_ evidence.Evidence, object []byte) (evidence.Claims, error) {
	var j struct {
		Chip        string `json:"snp.chip"`
		HostData    string `json:"snp.host_data"`
		Measurement string `json:"snp.measurement"`
	}
	if err := json.Unmarshal(object, &j); err != nil {
		return nil, err
	}
	var chip, host []byte
	if _, err := fmt.Sscanf(j.Chip, "%x", &chip); err != nil {
		return nil, err
	}
	if j.HostData != "" {
		if _, err := fmt.Sscanf(j.HostData, "%x", &host); err != nil {
			return nil, err
		}
	}
	return fakeClaims{
		{"snp.chip", evidence.Bytes(chip)}, {"snp.host_data", evidence.Bytes(host)}, {"snp.measurement", evidence.Text(j.Measurement)},
	}, nil
}

func remote(t *testing.T, ts *httptest.Server, edit func(*v1.RemoteConfig)) *v1.Remote {
	t.Helper()
	cfg := v1.RemoteConfig{
		Client:   v1.ClientConfig{URL: ts.URL, HTTP: ts.Client(), Token: token},
		Decoders: map[evidence.Format]v1.ClaimsDecoder{faketee.Format: decode},
		Time:     start,
	}
	if edit != nil {
		edit(&cfg)
	}
	r, err := v1.NewRemote(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func binding(t *testing.T, b byte) evidence.Binding {
	t.Helper()
	x, err := evidence.NewBinding([]byte{b})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// A Remote has the result that the verifier behind it has, or its error.
func TestRemote(t *testing.T) {
	ts, _ := verifying(t, nil)
	r := remote(t, ts, nil)
	want := binding(t, 1)
	ev := faketee.Guest{Measurement: "m"}.Evidence(want)
	ev.Layers = []evidence.Evidence{faketee.Guest{Measurement: "below"}.Evidence(want)}
	local, err := verifier().Verify(t.Context(), ev, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Verify(t.Context(), ev, want)
	if err != nil {
		t.Fatal(err)
	}
	text := func(v *evidence.Verified) string {
		s := fmt.Sprint(v.Format, v.Bound, v.Signed, v.Root, v.Skipped, v.CheckedAt, v.NotAfter)
		for _, v := range append(v.Layers, v) {
			for name, value := range v.Claims.All() {
				s += fmt.Sprint(" ", name, "=", value)
			}
		}
		return s
	}
	if text(got) != text(local) || len(got.Layers) != 1 {
		t.Errorf("got %s\nwant %s", text(got), text(local))
	}
	for name, tt := range map[string]struct {
		ev     evidence.Evidence
		want   evidence.Binding
		reason evidence.Reason
	}{
		"for another binding":     {ev, binding(t, 2), evidence.NotBound},
		"changed to fit":          {faketee.Tamper(ev, binding(t, 2)), binding(t, 2), evidence.BadSignature},
		"not evidence":            {evidence.Evidence{Format: faketee.Format, Raw: []byte("x")}, want, evidence.Malformed},
		"of a format without any": {evidence.Evidence{Format: "tdx-quote", Raw: ev.Raw}, want, evidence.Unsupported},
		"for whatever it is":      {ev, evidence.UncheckedBindingUnsafe(), evidence.Unsupported},
		"for nothing":             {ev, evidence.Binding{}, evidence.Unsupported},
	} {
		got, err := r.Verify(t.Context(), tt.ev, tt.want)
		var e *evidence.Error
		if !errors.As(err, &e) || e.Reason != tt.reason || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// Without the identity of the peer, or its word, there is no result.
func TestRemoteTrustsThePeerOnly(t *testing.T) {
	ts, s := verifying(t, nil)
	want := binding(t, 1)
	ev := faketee.Guest{Measurement: "m"}.Evidence(want)
	stranger := remote(t, ts, func(c *v1.RemoteConfig) {
		c.Client.HTTP = &http.Client{Transport: ts.Client().Transport.(*http.Transport).Clone()}
		c.Client.HTTP.Transport.(*http.Transport).TLSClientConfig.RootCAs = x509.NewCertPool() // knows nobody
	})
	for name, r := range map[string]*v1.Remote{
		"a certificate of somebody else": stranger,
		"no token":                       remote(t, ts, func(c *v1.RemoteConfig) { c.Client.Token = "" }),
		"an unknown token":               remote(t, ts, func(c *v1.RemoteConfig) { c.Client.Token = "x" }),
		"a decoder that loses a claim": remote(t, ts, func(c *v1.RemoteConfig) {
			c.Decoders[faketee.Format] = func(evidence.Evidence, []byte) (evidence.Claims, error) { return fakeClaims{}, nil }
		}),
		"a decoder that fails": remote(t, ts, func(c *v1.RemoteConfig) {
			c.Decoders[faketee.Format] = func(evidence.Evidence, []byte) (evidence.Claims, error) { return nil, errors.New("x") }
		}),
	} {
		if got, err := r.Verify(t.Context(), ev, want); !errors.Is(err, evidence.Unavailable) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	late := remote(t, ts, func(c *v1.RemoteConfig) { c.Time = func() time.Time { return start().AddDate(2, 0, 0) } })
	if _, err := late.Verify(t.Context(), ev, want); !errors.Is(err, evidence.Stale) {
		t.Errorf("a result that is over: %v", err)
	}
	cfg := v1.RemoteConfig{
		Client:   v1.ClientConfig{URL: newServer(t, s), Token: token},
		Decoders: map[evidence.Format]v1.ClaimsDecoder{faketee.Format: decode},
	}
	if _, err := v1.NewRemote(cfg); err == nil {
		t.Error("plain HTTP, to loopback, is taken")
	}
	cfg.AllowPlainHTTPUnsafe = true
	if _, err := v1.NewRemote(cfg); err != nil {
		t.Error(err)
	}
}

// What a service says that contradicts the question is no result.
func TestRemoteComparesAnswers(t *testing.T) {
	_, s := verifying(t, nil)
	want := binding(t, 1)
	ev := faketee.Guest{Measurement: "m"}.Evidence(want)
	for name, change := range map[string][2]string{
		"as it is":              {"", ""},
		"another format":        {`"format":"snp-report"`, `"format":"tdx-quote"`},
		"another layer":         {`"skipped"`, `"layers":[{}],"skipped"`},
		"not bound":             {`"bound":true`, `"bound":false`},
		"signed something else": {`"signed":"AQ"`, `"signed":"Ag"`},
		"no root":               {`"root":"cm9vd`, `"root":"AAAAA`},
		"no results":            {`"results":[`, `"results":[],"x":[`},
		"no such reason":        {`"authentic":true`, `"authentic":false,"reason":"whatever"`},
	} {
		ts := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			s.ServeHTTP(rec, r)
			body := rec.Body.String()
			if change[0] == `"skipped"` {
				body = strings.Replace(body, `"checked_at"`, `"layers":[{}],"checked_at"`, 1)
			} else if change[0] == `"root":"cm9vd` {
				i := strings.Index(body, `"root":"`) + len(`"root":"`)
				body = body[:i] + strings.Repeat("A", 43) + body[i+43:]
			} else if change[0] != "" && !strings.Contains(body, change[0]) {
				t.Errorf("%s: nothing to change in %s", name, body)
			} else {
				body = strings.ReplaceAll(body, change[0], change[1])
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(body))
		}))
		got, err := remote(t, ts, nil).Verify(t.Context(), ev, want)
		ts.Close()
		if name == "as it is" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if !errors.Is(err, evidence.Unavailable) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// ask posts a request to verify and returns status and answer.
func ask(t *testing.T, ts *httptest.Server, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", ts.URL+v1.PathVerify, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := ts.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(b.String(), "\r\n\r\n")
	return resp.StatusCode, text
}

func verifyBody(t *testing.T, what string, evs ...evidence.Evidence) string {
	t.Helper()
	var list []string
	for _, ev := range evs {
		b, err := json.Marshal(map[string]any{"format": ev.Format, "raw": b64(ev.Raw)})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, string(b))
	}
	return `{"v":1,` + what + `,"evidence":[` + strings.Join(list, ",") + `]}`
}

// A nonce of the service is for verification, once; only tenants learn claims.
func TestVerifyFresh(t *testing.T) {
	ts, _ := verifying(t, nil)
	c, err := v1.NewClient(v1.ClientConfig{URL: ts.URL, HTTP: ts.Client()})
	if err != nil {
		t.Fatal(err)
	}
	signed := func(measurement string) (string, string) {
		challenge, err := c.Challenge(t.Context(), nonce.ProfileVerify)
		if err != nil {
			t.Fatal(err)
		}
		b, err := v1.VerifyBinding(challenge.Nonce, faketee.Format)
		if err != nil {
			t.Fatal(err)
		}
		n := `"nonce":"` + b64(challenge.Nonce[:]) + `"`
		ev := faketee.Guest{Measurement: measurement}.Evidence(b)
		return verifyBody(t, n, ev, ev), verifyBody(t, n, ev)
	}
	twice, once := signed("good")
	if status, body := ask(t, ts, "", once); status != 200 || !strings.Contains(body, `"fresh":true,"accepted":true`) ||
		!strings.Contains(body, `"authentic":true`) || strings.Contains(body, "measurement") {
		t.Error(status, body)
	}
	if status, body := ask(t, ts, "", twice); status != 409 || !strings.Contains(body, "nonce-spent") {
		t.Error(status, body)
	}
	_, bad := signed("bad")
	if status, body := ask(t, ts, "", bad); status != 200 || !strings.Contains(body, `"accepted":false`) || strings.Contains(body, "measurement") {
		t.Error(status, body)
	}
	_, bad = signed("bad")
	if status, body := ask(t, ts, token, bad); status != 200 || !strings.Contains(body, `"claim":"snp.measurement","got":"bad","op":"equal","want":"good"`) {
		t.Error(status, body)
	}
	// A nonce of another service, or of no service.
	if status, body := ask(t, ts, "", verifyBody(t, `"nonce":"`+b64(make([]byte, 32))+`"`, evidence.Evidence{Format: faketee.Format, Raw: []byte("x")})); status != 409 {
		t.Error(status, body)
	}
	if _, err := c.Challenge(t.Context(), nonce.ProfileV1); code(err) != "malformed-request" {
		t.Error("a service that releases nothing has nonces for it")
	}
	none, _ := verifying(t, func(c *v1.Config) { c.Verify.Issuer, c.Verify.Nonces = nil, nil })
	if status, body := ask(t, none, "", once); status != 400 {
		t.Error(status, body)
	}
}

func TestVerifyRequests(t *testing.T) {
	ts, _ := verifying(t, nil)
	want := binding(t, 1)
	good, bad := faketee.Guest{Measurement: "good"}.Evidence(want), evidence.Evidence{Format: faketee.Format, Raw: []byte("x")}
	// Some of a list may be authentic; the verdict is about all.
	status, body := ask(t, ts, "", verifyBody(t, `"bindings":["AQ","AQ"]`, good, bad))
	if status != 200 || !strings.Contains(body, `"fresh":false,"accepted":false`) ||
		!strings.Contains(body, `[{"format":"snp-report","authentic":true},{"format":"snp-report","authentic":false,"reason":"malformed"}]`) {
		t.Error(status, body)
	}
	layered := `{"format":"x","raw":""}`
	for range 6 {
		layered = `{"format":"x","raw":"","layers":[` + layered + `]}`
	}
	for name, body := range map[string]string{
		"neither nonce nor bindings": verifyBody(t, `"bindings":null`, good),
		"both":                       verifyBody(t, `"bindings":["AQ"],"nonce":"`+b64(make([]byte, 32))+`"`, good),
		"fewer bindings":             verifyBody(t, `"bindings":["AQ"]`, good, good),
		"an empty binding":           verifyBody(t, `"bindings":[""]`, good),
		"a binding of zeros":         verifyBody(t, `"bindings":["AAA"]`, good),
		"no evidence":                verifyBody(t, `"bindings":[]`),
		"too deep":                   `{"v":1,"bindings":["AQ"],"evidence":` + layered + `}`,
		"another version":            strings.Replace(verifyBody(t, `"bindings":["AQ"]`, good), `"v":1`, `"v":2`, 1),
		"a policy of the caller":     verifyBody(t, `"policy":{},"bindings":["AQ"]`, good),
	} {
		if status, answer := ask(t, ts, token, body); status != 400 || !strings.Contains(answer, "malformed-request") {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	if status, body := ask(t, ts, "another", verifyBody(t, `"bindings":["AQ"]`, good)); status != 401 {
		t.Errorf("a token that nobody has: %d %s", status, body)
	}
}
