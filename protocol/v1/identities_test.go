package v1_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
)

// public1 stands for the public area of an EK, of which no more than the digest means
// anything here.
var public1 = bytes.Repeat([]byte{1}, 122)

// agentID names the agent of public1.
func agentID(public []byte) (string, error) {
	if !bytes.Equal(public, public1) {
		return "", errors.New("not an EK")
	}
	return strings.Repeat("a1", 32), nil
}

// bound binds public1 to the instance of acme, which is provisioned.
func (o *owned) bound() store.Identity {
	o.Helper()
	return o.bind(store.Sighting{Chip: []byte{1}, ResetCount: 1})
}

func (o *owned) bind(seen store.Sighting) store.Identity {
	o.Helper()
	status, err := o.sql.Status(o.Context(), "acme", instance)
	o.check(err)
	id, err := o.sql.Bind(o.Context(), store.Bound{
		Tenant: "acme", Instance: instance, Generation: status.Generation, Public: public1, AgentID: strings.Repeat("a1", 32), AK: append([]byte{0, 11}, make([]byte, 32)...), Seen: seen,
	})
	o.check(err)
	return id
}

// An owner is told which TPM a guest has, by its EK and by its agent, and one agent is
// of one EK.
func TestIdentities(t *testing.T) {
	o := newOwned(t, nil)
	o.provision()
	ek := o.bound().EK
	if ek != sha256.Sum256(public1) {
		t.Fatalf("%x", ek)
	}
	got, err := o.acme.Identity(t.Context(), ek)
	if err != nil || got.Simulated || got.Identity.State != store.IdentityLive || got.Identity.Instance != instance ||
		!bytes.Equal(got.Identity.Seen.Chip, []byte{1}) || got.Identity.Agent != "" || len(got.Identity.AKs) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if by, err := o.acme.Agent(t.Context(), strings.Repeat("a1", 32)); err != nil || by.Identity.EK != ek {
		t.Errorf("by hash_ek: %+v, %v", by, err)
	}
	status := func(err error) int {
		var p *v1.Problem
		if errors.As(err, &p) {
			return p.Status
		}
		return 0
	}
	register := func(agent string, public []byte) error {
		_, err := o.acme.RegisterAgent(t.Context(), ek, v1.AgentRegistration{Agent: agent, Public: public})
		return err
	}
	for name, bad := range map[string]struct {
		agent  string
		public []byte
		status int
	}{
		"no agent":              {"", nil, 400},
		"an agent with a slash": {"a/b", nil, 400},
		"another EK's public":   {"agent-1", []byte{1, 2}, 400},
		"another hash_ek":       {strings.Repeat("b1", 32), nil, 409},
	} {
		if err := register(bad.agent, bad.public); status(err) != bad.status {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 2 { // the same again is fine
		if err := register("agent-1", public1); err != nil {
			t.Error(err)
		}
	}
	if by, err := o.acme.Agent(t.Context(), "agent-1"); err != nil || by.Identity.EK != ek || by.Identity.Registered.IsZero() {
		t.Errorf("%+v, %v", by, err)
	}
	if err := register("agent-2", nil); status(err) != 409 {
		t.Errorf("another agent: %v", err)
	}
	if _, err := o.acme.Identity(t.Context(), [32]byte{1}); code(err) != "no-instance" {
		t.Errorf("an EK that is not known: %v", err)
	}
	if _, err := o.acme.Agent(t.Context(), "agent-2"); code(err) != "no-instance" {
		t.Errorf("an agent that is not known: %v", err)
	}
	for _, path := range []string{"/x", "/" + strings.ToUpper(hex.EncodeToString(ek[:])), "/" + hex.EncodeToString(ek[1:])} {
		if resp := o.get("GET", v1.PathEK+path, http.Header{"Authorization": {"Bearer " + acmeToken}}); resp.StatusCode != 400 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	// The other tenant has none of it.
	if _, err := o.owner(otherToken).RegisterAgent(t.Context(), ek, v1.AgentRegistration{Agent: "agent-1"}); code(err) != "no-instance" {
		t.Errorf("by another tenant: %v", err)
	}
	// A clone: its counts are of before.
	if _, err := o.sql.See(t.Context(), "acme", ek, store.Sighting{Chip: []byte{2}, ResetCount: 1}); err == nil {
		t.Fatal("one EK in two places is fine")
	}
	if err := register("agent-1", nil); code(err) != "held" {
		t.Errorf("held: %v", err)
	}
	if got, err := o.acme.Identity(t.Context(), ek); err != nil || got.Identity.State != store.IdentityHeld || got.Identity.Why != store.TwoPlaces {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestIdentityConfig(t *testing.T) {
	o := newOwned(t, nil)
	good := v1.Config{Broker: o.broker, Allow: v1.Suites(), Owner: o.sql, Tenants: o.sql, Identities: &v1.IdentityConfig{Identities: o.sql, AgentID: agentID}}
	if _, err := v1.New(good); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*v1.Config){
		"no Identities": func(c *v1.Config) { c.Identities = &v1.IdentityConfig{AgentID: agentID} },
		"no AgentID":    func(c *v1.Config) { c.Identities = &v1.IdentityConfig{Identities: o.sql} },
		"no Owner":      func(c *v1.Config) { c.Owner = nil },
		"no Broker":     func(c *v1.Config) { c.Broker = nil },
	} {
		bad := good
		edit(&bad)
		if _, err := v1.New(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
