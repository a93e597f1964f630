package teebroker_test

import (
	"context"
	"errors"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/nonce"
)

// visit is a guest that would be released its secret, with a fresh nonce.
func (w *world) visit(edit func(*evidence.Verified)) teebroker.Visit {
	w.Helper()
	c, err := w.broker.Challenge(w.Context(), nonce.ProfileVTPM)
	w.check(err)
	id, host := w.broker.ID(), teebroker.LaunchID(tenant, instance)
	b, err := evidence.NewBinding([]byte("of the nonce"))
	w.check(err)
	return teebroker.Visit{
		Profile: nonce.ProfileVTPM, Nonce: c.Nonce, Tenant: tenant, Instance: instance, Broker: id[:], Request: [32]byte(c.Nonce),
		Verify: func(ctx context.Context) ([]*evidence.Verified, error) {
			v, err := w.verifier(edit).Verify(ctx, faketee.Guest{Measurement: "good", HostData: host[:]}.Evidence(b), b)
			return []*evidence.Verified{v}, err
		},
	}
}

// A visit is judged as a request for a release is.
func TestAdmit(t *testing.T) {
	w := newWorld(t, func(c *teebroker.Config) { c.SimulatedRoots = [][32]byte{{0x51}} })
	inst, err := w.broker.Admit(t.Context(), w.visit(nil))
	if err != nil || inst.ID != instance || inst.Generation != 1 {
		t.Fatalf("%+v, %v", inst, err)
	}
	result := func(edit func(*evidence.Verified)) func(*teebroker.Visit) {
		return func(v *teebroker.Visit) { v.Verify = w.visit(edit).Verify }
	}
	verify := func(got []*evidence.Verified, err error) func(*teebroker.Visit) {
		return func(v *teebroker.Visit) {
			v.Verify = func(context.Context) ([]*evidence.Verified, error) { return got, err }
		}
	}
	recorded := 0
	for name, tt := range map[string]struct {
		edit   func(*teebroker.Visit)
		want   error
		before bool // the nonce is redeemed
	}{
		"no tenant":        {func(v *teebroker.Visit) { v.Tenant = "" }, teebroker.MalformedRequest, true},
		"no instance":      {func(v *teebroker.Visit) { v.Instance = [16]byte{} }, teebroker.MalformedRequest, true},
		"no request":       {func(v *teebroker.Visit) { v.Request = [32]byte{} }, teebroker.MalformedRequest, true},
		"nothing to show":  {func(v *teebroker.Visit) { v.Verify = nil }, teebroker.MalformedRequest, true},
		"a release":        {func(v *teebroker.Visit) { v.Profile = nonce.ProfileV1 }, teebroker.MalformedRequest, true},
		"another broker":   {func(v *teebroker.Visit) { v.Broker = make([]byte, 32) }, teebroker.Denied, true},
		"a nonce made up":  {func(v *teebroker.Visit) { v.Nonce[0]++ }, teebroker.NonceSpent, true},
		"no broker":        {func(v *teebroker.Visit) { v.Broker = nil }, teebroker.Denied, false},
		"another instance": {func(v *teebroker.Visit) { v.Instance = [16]byte{7} }, teebroker.NoInstance, false},
		"another tenant":   {func(v *teebroker.Visit) { v.Tenant = "other" }, teebroker.NoInstance, false},
		"a reason":         {verify(nil, &evidence.Error{Reason: evidence.Revoked}), evidence.Revoked, false},
		"a fault":          {verify(nil, errors.New("x")), teebroker.Unavailable, false},
		"no result":        {verify(nil, nil), teebroker.Unavailable, false},
		"a nil result":     {verify([]*evidence.Verified{nil}, nil), teebroker.Unavailable, false},
		"no claims":        {result(func(v *evidence.Verified) { v.Claims = nil }), teebroker.Unavailable, false},
		"no root":          {result(func(v *evidence.Verified) { v.Root = [32]byte{} }), teebroker.Unavailable, false},
		"not bound":        {result(func(v *evidence.Verified) { v.Bound = false }), evidence.NotBound, false},
		"checks left out":  {result(func(v *evidence.Verified) { v.Skipped = []string{"tcb"} }), teebroker.Denied, false},
		"a simulated root": {result(func(v *evidence.Verified) { v.Root = [32]byte{0x51} }), teebroker.Denied, false},
		"one below": {result(func(v *evidence.Verified) {
			below := *v
			below.Root = [32]byte{0x51}
			v.Layers = []*evidence.Verified{&below}
		}), teebroker.Denied, false},
		"over": {result(func(v *evidence.Verified) { v.NotAfter = w.time() }), evidence.Stale, false},
	} {
		v := w.visit(nil)
		tt.edit(&v)
		inst, err := w.broker.Admit(t.Context(), v)
		if !errors.Is(err, tt.want) || inst.ID != [16]byte{} {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if !tt.before && !errors.Is(tt.want, teebroker.Unavailable) && v.Tenant == tenant {
			recorded++
		}
		if _, err := w.broker.Admit(t.Context(), v); !tt.before && !errors.Is(err, teebroker.InProgress) {
			t.Errorf("%s, again: %v", name, err)
		}
	}
	if es, err := w.Record(t.Context(), tenant, teebroker.Refusals); err != nil || len(es) != recorded {
		t.Errorf("%d refusals recorded, want %d: %v", len(es), recorded, err)
	}
	for name, edit := range map[string]func(*teebroker.Instance){
		"another image":  func(i *teebroker.Instance) { i.Policies[0] = measured("better") },
		"no policy":      func(i *teebroker.Instance) { i.Policies = nil },
		"another launch": func(i *teebroker.Instance) { i.Launch = teebroker.LaunchClaim{Name: "snp.host_data", Want: []byte{1}} },
	} {
		i := w.instance()
		edit(&i)
		w.check(w.Register(t.Context(), i))
		if _, err := w.broker.Admit(t.Context(), w.visit(nil)); !errors.Is(err, teebroker.Denied) && !errors.Is(err, teebroker.LaunchIdentity) {
			t.Errorf("%s: %v", name, err)
		}
	}
	i := w.instance()
	i.AllowUnpinnedBroker = true
	w.check(w.Register(t.Context(), i))
	v := w.visit(nil)
	v.Broker = nil
	if _, err := w.broker.Admit(t.Context(), v); err != nil {
		t.Errorf("no broker, where that is allowed: %v", err)
	}
}
