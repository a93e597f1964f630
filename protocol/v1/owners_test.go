package v1_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// A guest gets the secret once, over HTTP: another key does not, the same request
// gets the same answer, the same key gets the same secret, and the record says so.
func TestRelease(t *testing.T) {
	o := newOwned(t, nil)
	o.provision()
	c, s := o.client(nil), o.session()
	body := o.request(s, c)
	first, err := c.Release(t.Context(), body)
	o.check(err)
	secret, err := s.Open(t.Context(), first)
	if err != nil || string(secret) != "the owner's secret" {
		t.Fatalf("%q, %v", secret, err)
	}
	again, err := c.Release(t.Context(), body)
	if err != nil || !bytes.Equal(again.Sealed, first.Sealed) || !bytes.Equal(again.Receipt, first.Receipt) || again.Release != first.Release {
		t.Errorf("the same request: %v", err)
	}
	redelivered, err := c.Release(t.Context(), o.request(s, c))
	o.check(err)
	if secret, err := s.Open(t.Context(), redelivered); err != nil || string(secret) != "the owner's secret" {
		t.Errorf("the same key: %q, %v", secret, err)
	}
	if _, err := c.Release(t.Context(), o.request(o.session(), c)); code(err) != "denied" {
		t.Errorf("another key: %v", err)
	}
	if e := o.last(); !errors.Is(e.Err, teebroker.OtherKey) {
		t.Errorf("the log does not say why: %v", e.Err)
	}
	as, err := o.acme.Authorizations(t.Context(), instance)
	if err != nil || len(as) != 1 || as[0].State != "DONE" || as[0].Used != 1 {
		t.Errorf("%+v, %v", as, err)
	}
	kinds := func(chain teebroker.Chain) (ks []teebroker.Kind) {
		r, err := o.acme.Record(t.Context(), chain, 0)
		o.check(err)
		for _, e := range r.Entries {
			ks = append(ks, e.Kind)
		}
		return ks
	}
	if ks := kinds(teebroker.Decisions); !slices.Equal(ks[len(ks)-2:], []teebroker.Kind{teebroker.KindRelease, teebroker.KindRedelivery}) {
		t.Error(ks)
	}
	if ks := kinds(teebroker.Refusals); !slices.Equal(ks, []teebroker.Kind{teebroker.KindRefusal}) {
		t.Error(ks)
	}
}

// public are the routes that need no credentials. A route that is added is an
// owner's unless it is added here too.
func public() []string {
	return []string{
		"GET /healthz", "GET /readyz", "GET /metrics", "POST /broker/v1/nonce", "POST /broker/v1/release", "POST /broker/v1/confirm", "POST /broker/v1/sealed",
		"GET /broker/v1/tee-attestation-key", "POST /broker/v1/tee-attestation-key", "POST /broker/v1/verify",
		"POST /broker/v1/vtpm/nonce", "POST /broker/v1/vtpm/bind", "POST /broker/v1/vtpm/activate",
	}
}

// Every route but those of guests and operations is closed to whoever shows no
// credentials of a tenant, whatever else he shows.
func TestRoutesNeedCredentials(t *testing.T) {
	o := newOwned(t, nil)
	owners, ek := 0, [32]byte{1}
	for _, r := range o.server.Routes() {
		path := strings.NewReplacer("{uuid}", strictjson.UUID(instance).String(), "{id}", strictjson.UUID(instance).String(), "{name}", "prod", "{purpose...}", "disk", "{digest}", hex.EncodeToString(ek[:]), "{agent}", "agent-1").Replace(r.Path)
		if slices.Contains(public(), r.Method+" "+r.Path) {
			if r.Owner {
				t.Errorf("%s %s is closed", r.Method, r.Path)
			}
			continue
		}
		owners++
		for name, tt := range map[string]struct {
			header http.Header
			status int
		}{
			"nobody":               {nil, 401},
			"an unknown token":     {http.Header{"Authorization": {"Bearer nobody"}}, 401},
			"an empty token":       {http.Header{"Authorization": {"Bearer "}}, 401},
			"another scheme":       {http.Header{"Authorization": {"Basic " + acmeToken}}, 401},
			"a token and a blank":  {http.Header{"Authorization": {"Bearer  " + acmeToken}}, 401},
			"two tokens":           {http.Header{"Authorization": {"Bearer " + acmeToken, "Bearer " + otherToken}}, 401},
			"a tenant's name":      {http.Header{v1.HeaderTenant: {"acme"}}, 401},
			"a token of another":   {http.Header{"Authorization": {"Bearer " + otherToken}, v1.HeaderTenant: {"acme"}}, 403},
			"two names of tenants": {http.Header{"Authorization": {"Bearer " + acmeToken}, v1.HeaderTenant: {"acme", "acme"}}, 403},
		} {
			if resp := o.get(r.Method, path, tt.header); resp.StatusCode != tt.status {
				t.Errorf("%s %s by %s: %d", r.Method, r.Path, name, resp.StatusCode)
			}
		}
		if resp := o.get(r.Method, path, http.Header{"Authorization": {"Bearer " + acmeToken}, v1.HeaderTenant: {"acme"}}); resp.StatusCode == 401 || resp.StatusCode == 403 {
			t.Errorf("%s %s by its owner: %d", r.Method, r.Path, resp.StatusCode)
		}
	}
	if owners < 15 || owners+len(public()) != len(o.server.Routes()) {
		t.Errorf("%d routes of owners", owners)
	}
}

// Whatever another tenant asks under the names of this one, it learns nothing and
// changes nothing.
func TestTenantsShareNothing(t *testing.T) {
	o := newOwned(t, nil)
	o.provision()
	a, ek := o.authorize(), o.bound().EK
	_, err := o.acme.RegisterAgent(t.Context(), ek, v1.AgentRegistration{Agent: "agent-1"})
	o.check(err)
	before := o.snapshot()
	body := map[string]string{
		"PUT " + v1.PathInstances + "/{uuid}":                       `{"policies":["prod"],"launch":{"own":true},"suites":["HPKE-X25519"]}`,
		"POST " + v1.PathInstances + "/{uuid}/authorizations":       `{"purposes":["disk"],"not_after":"2026-11-01T13:00:00Z"}`,
		"PUT " + v1.PathInstances + "/{uuid}/secrets/{purpose...}":  "mine",
		"PUT " + v1.PathInstances + "/{uuid}/blobs/{purpose...}":    `{"digest":"` + b64(bytes.Repeat([]byte{1}, 32)) + `"}`,
		"PUT " + v1.PathPolicies + "/{name}":                        string(document("prod", "mine")),
		"POST " + v1.PathPolicies + "/{name}/explain":               string(document("prod", "mine")),
		"PUT " + v1.PathEK + "/{digest}/agent":                      `{"agent":"agent-2"}`,
		"POST " + v1.PathInstances + "/{uuid}/rewrap/{purpose...}":  "",
		"DELETE " + v1.PathInstances + "/{uuid}/authorizations/{i}": "",
	}
	allowed := map[string]bool{ // what makes or lists something of its own
		"PUT " + v1.PathPolicies + "/{name}": true, "GET " + v1.PathPolicies + "/{name}": true, "GET " + v1.PathPolicies: true, "GET " + v1.PathInstances: true,
		"GET " + v1.PathRecord: true, "GET " + v1.PathEKRoot: true, "POST " + v1.PathPolicies + "/{name}/explain": true,
	}
	for _, r := range o.server.Routes() {
		if !r.Owner {
			continue
		}
		name := r.Method + " " + r.Path
		path := strings.NewReplacer("{uuid}", strictjson.UUID(instance).String(), "{id}", a.ID.String(), "{name}", "prod", "{purpose...}", "disk", "{digest}", hex.EncodeToString(ek[:]), "{agent}", "agent-1").Replace(r.Path)
		req, err := http.NewRequestWithContext(t.Context(), r.Method, o.http.URL+path, strings.NewReader(body[name]))
		o.check(err)
		req.Header.Set("Authorization", "Bearer "+otherToken)
		resp, err := http.DefaultClient.Do(req)
		o.check(err)
		b, err := io.ReadAll(resp.Body)
		o.check(err)
		resp.Body.Close()
		if ok := resp.StatusCode/100 == 2; ok != allowed[name] && name != "PUT "+v1.PathInstances+"/{uuid}" {
			t.Errorf("%s: %d %s", name, resp.StatusCode, b)
		}
		if bytes.Contains(b, []byte("acme")) || bytes.Contains(b, []byte("good")) || bytes.Contains(b, []byte(a.ID.String())) {
			t.Errorf("%s: %s", name, b)
		}
	}
	if after := o.snapshot(); after != before {
		t.Errorf("before %s\nafter  %s", before, after)
	}
}

// snapshot is all that acme sees.
func (o *owned) snapshot() string {
	o.Helper()
	i, err1 := o.acme.Instance(o.Context(), instance)
	as, err2 := o.acme.Authorizations(o.Context(), instance)
	doc, err3 := o.acme.Policy(o.Context(), "prod")
	names, err4 := o.acme.Policies(o.Context())
	ids, err5 := o.acme.Instances(o.Context())
	record, err6 := o.acme.Record(o.Context(), teebroker.Decisions, 0)
	eks, err7 := o.sql.EKs(o.Context(), "acme", instance)
	o.check(errors.Join(err1, err2, err3, err4, err5, err6, err7))
	b, err := json.Marshal([]any{i, as, string(doc), names, ids, record, eks})
	o.check(err)
	return string(b)
}

// What an owner sends that can't be meant is refused with a text that says why.
func TestOwnerRequests(t *testing.T) {
	o := newOwned(t, nil)
	o.provision()
	id := v1.PathInstances + "/" + strictjson.UUID(instance).String()
	for _, tt := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"PUT", v1.PathInstances + "/x", `{}`, 400, "malformed-request"},
		{"PUT", v1.PathInstances + "/" + strings.ToUpper("7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11"), `{}`, 400, "malformed-request"},
		{"PUT", v1.PathInstances + "/00000000-0000-0000-0000-000000000000", `{}`, 400, "malformed-request"},
		{"PUT", id, `{"policies":["prod"],"launch":{"own":true},"suites":["HPKE-X25519"],"extra":1}`, 400, "malformed-request"},
		{"PUT", id, `{"policies":["none"],"launch":{"own":true},"suites":["HPKE-X25519"]}`, 404, "no-instance"},
		{"PUT", id, `{"policies":[],"launch":{"own":true},"suites":["HPKE-X25519"]}`, 400, "malformed-request"},
		{"POST", id + "/authorizations", `{"purposes":["disk"],"not_after":"2026-11-01T13:00:00Z","used":0,"state":"OPEN"}`, 400, "malformed-request"},
		{"POST", id + "/authorizations", `{"purposes":[],"not_after":"2026-11-01T13:00:00Z"}`, 400, "malformed-request"},
		{"PUT", id + "/secrets/../x", `x`, 400, "malformed-request"},
		{"PUT", id + "/secrets/a//b", `x`, 400, "malformed-request"},
		{"PUT", id + "/secrets/UP", `x`, 400, "malformed-request"},
		{"PUT", id + "/secrets/disk", ``, 400, "malformed-request"},
		{"PUT", id + "/blobs/disk", `{"digest":"` + b64(make([]byte, 32)) + `"}`, 400, "malformed-request"},
		{"PUT", id + "/blobs/disk", `{"digest":"` + b64(bytes.Repeat([]byte{1}, 32)) + `","wrapped":{"protected":"AA","enc":"AA","ciphertext":"AA"}}`, 400, "malformed-request"},
		{"PUT", v1.PathPolicies + "/prod", `{}`, 400, "malformed-request"},
		{"GET", v1.PathPolicies + "/none", ``, 404, "no-instance"},
		{"GET", v1.PathRecord + "?chain=other", ``, 400, "malformed-request"},
		{"GET", v1.PathRecord + "?limit=1001", ``, 400, "malformed-request"},
		{"GET", v1.PathRecord + "?after=1&after=2", ``, 400, "malformed-request"},
		{"GET", v1.PathRecord + "?x=1", ``, 400, "malformed-request"},
		{"POST", id + "/hold", ``, 400, "malformed-request"},
		{"POST", id + "/hold", `{"purpose":"disk"}`, 404, "no-instance"}, // it has no epochs
		{"POST", id + "/resume", ``, 400, "malformed-request"},
		{"POST", id + "/resume", `{"purpose":"disk"}`, 404, "no-instance"}, // it has no epochs
		{"POST", id + "/recover", ``, 400, "malformed-request"},
		{"POST", id + "/recover", `{"purpose":"disk","epoch":1}`, 404, "no-instance"}, // it has no epochs
		{"POST", id + "/retire", ``, 400, "malformed-request"},
		{"POST", id + "/retire", `{"purpose":"disk"}`, 404, "no-instance"}, // it has no epochs
		{"POST", id + "/rewrap/disk", ``, 403, "foreign-blob"},             // it has a secret, and no blob
		{"POST", v1.PathInstances + "/7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11/hold", `{"purpose":"disk"}`, 404, "no-instance"},
		{"PUT", id + "/epochs/disk", `{}`, 400, "malformed-request"},
		{"GET", id + "/epochs/disk", ``, 404, "no-instance"},
		{"POST", v1.PathConfirm, `{}`, 400, "malformed-request"},
		{"GET", v1.PathKeys + "?tenant=other", ``, 403, "denied"}, // it has none
		{"GET", v1.PathKeys + "?x=1", ``, 400, "malformed-request"},
		{"DELETE", id + "/authorizations/" + strictjson.UUID(instance).String(), ``, 404, "no-instance"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, o.http.URL, strings.NewReader(tt.body))
		o.check(err)
		req.URL.Path, req.URL.RawQuery, _ = strings.Cut(tt.path, "?")
		req.Header.Set("Authorization", "Bearer "+acmeToken)
		resp, err := http.DefaultTransport.RoundTrip(req)
		o.check(err)
		var p v1.Problem
		o.check(json.NewDecoder(resp.Body).Decode(&p))
		resp.Body.Close()
		if resp.StatusCode != tt.status || p.Code != tt.code || p.Status != tt.status || p.Title == "" || p.Request != resp.Header.Get("Request-Id") {
			t.Errorf("%s %s %s: %d %+v", tt.method, tt.path, tt.body, resp.StatusCode, p)
		}
	}
	// A taken id is a conflict, and deleting is for ever.
	o.check(o.acme.Delete(t.Context(), instance))
	var p *v1.Problem
	if _, err := o.acme.Register(t.Context(), instance, registration()); !errors.As(err, &p) || p.Status != 409 {
		t.Error(err)
	}
}

// What the operator stores, owners neither change nor go without.
func TestOperatorPolicies(t *testing.T) {
	o := newOwned(t, func(c *v1.Config) {
		c.Operator = []v1.OperatorPolicy{{Name: "house", Document: document("house", "good")}}
	})
	o.check(o.acme.PutPolicy(t.Context(), "prod", document("prod", "good")))
	if err := o.acme.PutPolicy(t.Context(), "house", document("house", "mine")); code(err) != "forbidden" {
		t.Error(err)
	}
	for _, policies := range [][]string{{"prod"}, {"house", "prod"}, {"prod", "house"}} {
		r := registration()
		r.Policies = policies
		i, err := o.acme.Register(t.Context(), instance, r)
		if err != nil || !slices.Equal(i.Registration.Policies, []string{"house", "prod"}) {
			t.Errorf("%v: %v, %v", policies, i.Registration.Policies, err)
		}
	}
}
