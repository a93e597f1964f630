package v1_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest/state"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/owner"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
)

// newEpochs is an owned world whose purpose disk has epochs, over HTTP.
func newEpochs(t testing.TB, mode string) *owned {
	t.Helper()
	o := &owned{}
	o.world = newWorld(t, func(w *world, engine *teebroker.Config, c *v1.Config) {
		o.sql = sqlite(t, w.time)
		engine.Nonces, engine.Directory, engine.Secrets, engine.Ledger = o.sql, o.sql, o.sql, o.sql
		key, err := keywrap.Generate(keywrap.P384)
		w.check(err)
		engine.Keys, err = teebroker.NewKeySet(map[string][]teebroker.AttestationKey{"acme": {{ID: "one", Opener: key}}})
		w.check(err)
		engine.Wrap, err = keywrap.NewWrapKey("wrap-1", [32]byte{4})
		w.check(err)
		c.Owner, c.Tenants, c.PerSource = o.sql, o.sql, v1.Rate{Burst: 100000}
		engine.RequestKeys = requestKeys(t)
		c.Keys = func(ctx context.Context, tenant string) ([]byte, error) { return w.broker.KeysDocument(ctx, tenant) }
	})
	o.acme = o.owner(acmeToken)
	o.check(o.acme.PutPolicy(t.Context(), "prod", document("prod", "good")))
	_, err := o.acme.Register(t.Context(), instance, registration())
	o.check(err)
	keys, err := o.broker.KeysDocument(t.Context(), "acme")
	o.check(err)
	w, err := owner.Wrap(owner.Blob{
		Keys: keys, Broker: o.broker.ID(), Time: o.time(), Tenant: "acme", Instance: instance, Purpose: "disk", Epoch: 1,
	}, bytes.Repeat([]byte{5}, 32))
	o.check(err)
	s, err := o.acme.Begin(t.Context(), instance, "disk", v1.Epochs{Mode: mode, Number: 1, Initial: true}, w)
	if err != nil || s.State != "CURRENT" {
		t.Fatalf("%+v, %v", s, err)
	}
	return o
}

// boot is a whole boot of a guest over HTTP.
func (o *owned) boot(dir state.Dir) (*state.State, error) {
	o.Helper()
	o.authorize()
	return o.bootWith(o.client(nil), dir)
}

func (o *owned) bootWith(c *v1.Client, dir state.Dir) (*state.State, error) {
	o.Helper()
	s := o.session()
	r, err := c.Release(o.Context(), o.request(s, c))
	if err != nil {
		return nil, err
	}
	opened, err := s.OpenEpoch(o.Context(), r)
	o.check(err)
	if opened.NextWrapped == nil || r.Epoch != opened.Epoch {
		o.Errorf("hints of the answer: %d, %q", r.Epoch, r.NextWrapped)
	}
	p, err := state.Prepare(state.Config{Slots: dir, Confirm: c.Confirm}, opened, func() ([]byte, error) { return []byte("fresh"), nil })
	if err != nil {
		return nil, err
	}
	return p.Confirm(o.Context())
}

// Boots, holds, recovers and retires, over HTTP.
func TestEpochs(t *testing.T) {
	o, dir := newEpochs(t, "boot"), state.Dir(t.TempDir())
	for want := uint64(2); want < 4; want++ {
		_, err := o.boot(dir)
		o.check(err)
		if s, err := o.acme.Epoch(t.Context(), instance, "disk"); err != nil || s.Epoch != want || s.State != "CURRENT" {
			t.Errorf("%+v, %v", s, err)
		}
	}
	backup := state.Dir(t.TempDir())
	for i := range 2 {
		b, err := dir.Read(i)
		o.check(err)
		if b != nil {
			o.check(backup.Write(i, b))
		}
	}
	_, err := o.boot(dir)
	o.check(err)
	if _, err := o.boot(backup); !errors.Is(err, state.NoState) {
		t.Errorf("a restored disk: %v", err)
	}
	act := func(name string, a v1.Act) (store.EpochStatus, error) {
		a.Purpose = "disk"
		return o.acme.Act(t.Context(), instance, name, a)
	}
	if s, err := act("hold", v1.Act{}); err != nil || s.State != "HELD" {
		t.Errorf("hold: %+v, %v", s, err)
	}
	if _, err := o.boot(dir); code(err) != "held" {
		t.Errorf("while held: %v", err)
	}
	if s, err := act("resume", v1.Act{}); err != nil || s.State != "PENDING" {
		t.Errorf("resume: %+v, %v", s, err)
	}
	if _, err := act("recover", v1.Act{Epoch: 99}); code(err) != "not-authorized" {
		t.Errorf("recover of no epoch: %v", err)
	}
	if _, err := act("recover", v1.Act{}); code(err) != "malformed-request" {
		t.Errorf("recover of nothing: %v", err)
	}
	s, err := act("recover", v1.Act{Epoch: 3})
	if err != nil || s.State != "CURRENT" || s.Epoch != s.High {
		t.Errorf("recover: %+v, %v", s, err)
	}
	if _, err := o.boot(backup); err != nil {
		t.Errorf("the backup after a recovery: %v", err)
	}
	if _, err := o.owner(otherToken).Act(t.Context(), instance, "retire", v1.Act{Purpose: "disk"}); code(err) != "no-instance" {
		t.Errorf("retire by another tenant: %v", err)
	}
	if s, err := act("retire", v1.Act{}); err != nil || s.State != "RETIRED" {
		t.Errorf("retire: %+v, %v", s, err)
	}
	if _, err := o.boot(backup); code(err) != "denied" {
		t.Errorf("after the end: %v", err)
	}
}

// Who has the owner's token hears which release is live.
func TestLive(t *testing.T) {
	o, dir := newEpochs(t, "boot"), state.Dir(t.TempDir())
	live := func(what string, there bool) [16]byte {
		t.Helper()
		got, err := o.acme.Live(t.Context(), "acme", instance, "disk")
		if err != nil || (got != [16]byte{}) != there {
			t.Errorf("%s: %x, %v", what, got, err)
		}
		return got
	}
	live("before any boot", false)
	_, err := o.boot(dir)
	o.check(err)
	first := live("confirmed", true)
	_, err = o.boot(dir)
	o.check(err)
	if live("again", true) == first {
		t.Error("the first boot is still live")
	}
	_, err = o.acme.Act(t.Context(), instance, "hold", v1.Act{Purpose: "disk"})
	o.check(err)
	live("held", false)
	if got, err := o.acme.Live(t.Context(), "other", instance, "disk"); err == nil || got != [16]byte{} {
		t.Errorf("of another tenant: %x, %v", got, err)
	}
	if got, err := o.acme.Live(t.Context(), "acme", instance, "data"); err == nil || got != [16]byte{} {
		t.Errorf("of no purpose: %x, %v", got, err)
	}
}

// A confirm needs no credentials, and nothing but the MAC counts.
func TestConfirmRefused(t *testing.T) {
	o := newEpochs(t, "boot")
	o.authorize()
	c, s := o.client(nil), o.session()
	r, err := c.Release(t.Context(), o.request(s, c))
	o.check(err)
	opened, err := s.OpenEpoch(t.Context(), r)
	o.check(err)
	said := teebroker.Confirm{Release: opened.Release, Epoch: opened.Next, State: strictjson.Digest{1}}
	for name, tt := range map[string]struct {
		edit func(*teebroker.Confirm)
		key  []byte
		want string
	}{
		"another key":     {func(*teebroker.Confirm) {}, make([]byte, 32), "denied"},
		"no such release": {func(c *teebroker.Confirm) { c.Release = strictjson.UUID{9} }, opened.ConfirmKey, "denied"},
		"another epoch":   {func(c *teebroker.Confirm) { c.Epoch++ }, opened.ConfirmKey, "malformed-request"},
		"a checkpoint":    {func(c *teebroker.Confirm) { c.Seq++ }, opened.ConfirmKey, "superseded"},
		"no state":        {func(c *teebroker.Confirm) { c.State = strictjson.Digest{} }, opened.ConfirmKey, "malformed-request"},
	} {
		x := said
		tt.edit(&x)
		if _, err := c.Confirm(t.Context(), x, x.MAC(tt.key)); code(err) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, err := c.Confirm(t.Context(), said, said.MAC(opened.ConfirmKey))
	if err != nil || !bytes.Equal(a.MAC, said.Ack(opened.ConfirmKey, teebroker.ConfirmedResult)) {
		t.Errorf("%+v, %v", a, err)
	}
}

func FuzzParseConfirm(f *testing.F) {
	f.Add([]byte(`{"release":"7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11","epoch":2,"seq":0,"state":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","settled":false,"mac":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, mac, err := v1.ParseConfirm(b)
		if err != nil && !errors.Is(err, teebroker.MalformedRequest) || err == nil && (c.Epoch == 0 || len(mac) != 32) {
			t.Errorf("%+v, %x, %v", c, mac, err)
		}
	})
}
