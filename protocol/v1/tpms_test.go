package v1_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/nonce"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
)

// tpms is a teebroker.TPMs that remembers what it was asked. Package activation has
// a test of the real one behind a Server.
type tpms struct {
	bound  teebroker.TPMBinding
	proved teebroker.TPMProof
	err    error
}

func (t *tpms) Challenge(context.Context) (teebroker.Challenge, error) {
	return teebroker.Challenge{Nonce: nonce.Nonce{7}, Expires: start()}, t.err
}

func (t *tpms) Bind(_ context.Context, b teebroker.TPMBinding) (teebroker.TPMCredential, error) {
	t.bound = b
	return teebroker.TPMCredential{Session: "s", Blob: []byte("blob"), Expires: start()}, t.err
}

func (t *tpms) Activate(_ context.Context, p teebroker.TPMProof) (teebroker.TPMActivated, error) {
	p.Secret = append([]byte(nil), p.Secret...) // it is cleared
	t.proved = p
	return teebroker.TPMActivated{EK: [32]byte{1}, AgentID: "a1", AK: []byte("name")}, t.err
}

const (
	bindingText = `{"v":1,"nonce":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE","broker":"","tenant":"acme","instance":"00000000-0000-0000-0000-000000000001",` +
		`"ak":"AQ","evidence":{"format":"snp-report","raw":"AQ"},"items":[{"type":"vtpm-svsm-nonce","data":"AQ"}]}`
	proofText = `{"v":1,"session":"s","secret":"AQ","quote":"AQ"}`
)

func TestTPMs(t *testing.T) {
	o := newOwned(t, nil)
	c := o.client(nil).TPMs()
	ch, err := c.Challenge(t.Context())
	if err != nil || ch.Nonce != (nonce.Nonce{7}) || !ch.Expires.Equal(start().Truncate(time.Second)) {
		t.Errorf("%+v, %v", ch, err)
	}
	b := teebroker.TPMBinding{
		Nonce: ch.Nonce, Broker: []byte{1}, Tenant: "acme", Instance: instance, AK: []byte("ak"),
		Report: evidence.Evidence{Format: "snp-report", Raw: []byte("r"), Items: []evidence.Item{{Type: "vek", Data: []byte("v")}}, Layers: []evidence.Evidence{}},
		Items:  []evidence.Item{{Type: "a", Data: []byte("1")}, {Type: "b", Data: []byte("2")}},
	}
	cred, err := c.Bind(t.Context(), b)
	if err != nil || cred.Session != "s" || string(cred.Blob) != "blob" || !cred.Expires.Equal(start()) || !reflect.DeepEqual(o.tpms.bound, b) {
		t.Errorf("%+v, %v\ngot  %+v\nsent %+v", cred, err, o.tpms.bound, b)
	}
	p := teebroker.TPMProof{Session: "s", Secret: []byte("secret"), Quote: []byte("quote")}
	a, err := c.Activate(t.Context(), p)
	if err != nil || a.EK != [32]byte{1} || a.AgentID != "a1" || string(a.AK) != "name" || !reflect.DeepEqual(o.tpms.proved, p) {
		t.Errorf("%+v, %v: %+v", a, err, o.tpms.proved)
	}
	o.tpms.err = teebroker.Held
	if _, err := c.Activate(t.Context(), p); code(err) != "held" {
		t.Errorf("%v", err)
	}
	o.tpms.err = &evidence.Error{Reason: evidence.NotBound}
	if _, err := c.Bind(t.Context(), b); code(err) != "not-bound" {
		t.Errorf("%v", err)
	}
	o.tpms.err = errors.New("disk")
	if _, err := c.Challenge(t.Context()); code(err) != "unavailable" {
		t.Errorf("%v", err)
	}
}

// post returns the status of what nobody in particular asks.
func post(o *owned, path, body string) int {
	rec := httptest.NewRecorder()
	o.server.ServeHTTP(rec, httptest.NewRequestWithContext(o.Context(), http.MethodPost, path, strings.NewReader(body)))
	return rec.Code
}

// What is not whole is not asked.
func TestTPMsMalformed(t *testing.T) {
	o := newOwned(t, nil)
	if got := post(o, v1.PathTPMNonce, "{}"); got != 400 {
		t.Errorf("a nonce with a body: %d", got)
	}
	if got := post(o, v1.PathTPMBind, bindingText); got != 200 {
		t.Errorf("bind: %d", got)
	}
	if got := post(o, v1.PathTPMActivate, proofText); got != 200 {
		t.Errorf("activate: %d", got)
	}
	o.tpms = tpms{}
	for _, whole := range []struct{ path, body string }{{v1.PathTPMBind, bindingText}, {v1.PathTPMActivate, proofText}} {
		for name, edit := range map[string]*strings.Replacer{
			"another version": strings.NewReplacer(`"v":1`, `"v":2`), "no nonce": strings.NewReplacer(`"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"`, `"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"`),
			"no broker": strings.NewReplacer(`"broker":"",`, ""), "no tenant": strings.NewReplacer(`"tenant":"acme",`, ""),
			"no instance": strings.NewReplacer(`"instance":"00000000-0000-0000-0000-000000000001",`, ""),
			"no ak":       strings.NewReplacer(`"ak":"AQ",`, ""), "no evidence": strings.NewReplacer(`"evidence":{"format":"snp-report","raw":"AQ"},`, ""),
			"no items": strings.NewReplacer(`,"items":[{"type":"vtpm-svsm-nonce","data":"AQ"}]`, ""), "a list": strings.NewReplacer(`{"format":"snp-report","raw":"AQ"}`, `[]`),
			"no session": strings.NewReplacer(`"session":"s",`, ""), "no secret": strings.NewReplacer(`"secret":"AQ",`, ""),
			"no quote": strings.NewReplacer(`,"quote":"AQ"`, ""), "an unknown member": strings.NewReplacer(`{"v"`, `{"x":1,"v"`), "a null": strings.NewReplacer(`"AQ"`, "null"),
		} {
			body := edit.Replace(whole.body)
			if body == whole.body {
				continue
			}
			if got := post(o, whole.path, body); got != 400 {
				t.Errorf("%s, %s: %d", whole.path, name, got)
			}
		}
	}
	if got := post(o, v1.PathTPMActivate, strings.Repeat(" ", 64<<10)+proofText); got != 413 {
		t.Errorf("too long: %d", got)
	}
	if !reflect.DeepEqual(o.tpms, tpms{}) {
		t.Errorf("asked: %+v", o.tpms)
	}
	none := newOwned(t, func(c *v1.Config) { c.TPMs = nil })
	if got := post(none, v1.PathTPMNonce, ""); got != 404 {
		t.Errorf("not configured: %d", got)
	}
}

// An owner resumes an EK that is held, and no other tenant does.
func TestResumeEK(t *testing.T) {
	o := newOwned(t, nil)
	o.provision()
	ek := o.bound().EK
	if _, err := o.acme.ResumeEK(t.Context(), instance, ek); code(err) == "" {
		t.Error("resumed what is live")
	}
	if _, err := o.sql.See(t.Context(), "acme", ek, store.Sighting{Chip: []byte{2}, ResetCount: 1}); !errors.Is(err, teebroker.Held) {
		t.Fatal(err)
	}
	if _, err := o.owner(otherToken).ResumeEK(t.Context(), instance, ek); code(err) != "no-instance" {
		t.Errorf("by another tenant: %v", err)
	}
	got, err := o.acme.ResumeEK(t.Context(), instance, ek)
	if err != nil || got.Identity.State != store.IdentityLive || len(got.Identity.AKs) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, act := range []string{"hold", "recover", "retire"} {
		if _, err := o.acme.Act(t.Context(), instance, act, v1.Act{EK: ek}); code(err) != "malformed-request" {
			t.Errorf("%s: %v", act, err)
		}
	}
	if _, err := o.acme.Act(t.Context(), instance, "resume", v1.Act{EK: ek, Purpose: "disk"}); code(err) != "malformed-request" {
		t.Errorf("with a purpose: %v", err)
	}
}
