package teebroker_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// The table of section 5 of the protocol: what arrives, and its answer.
func TestRetries(t *testing.T) {
	type released struct {
		*world
		verified *int // how often evidence was verified
		s        *guest.Session
		req      teebroker.Request
		r        teebroker.Response
	}
	begin := func(t *testing.T) released {
		var n int
		w := newWorld(t, func(c *teebroker.Config) { c.Verifier = hooked{c.Verifier, func() { n++ }} })
		w.authorize(nil)
		s := w.session(nil)
		req := w.request(s, honest())
		r, err := w.answer(req)
		w.check(err)
		return released{w, &n, s, req, r}
	}
	one := func(w *world, decisions int) {
		w.Helper()
		if n := len(w.entries(teebroker.Decisions)); n != decisions {
			w.Errorf("%d decisions, want %d", n, decisions)
		}
	}
	t.Run("same request id, released", func(t *testing.T) {
		w := begin(t)
		for _, d := range []time.Duration{0, 20 * time.Minute, 49*time.Minute + 59*time.Second} {
			w.pass(d) // long after the nonce has expired
			again, err := w.answer(w.req)
			w.check(err)
			if again.Release != w.r.Release || !bytes.Equal(again.Sealed, w.r.Sealed) || !bytes.Equal(again.Receipt, w.r.Receipt) {
				t.Error("other bytes")
			}
		}
		one(w.world, 1)
		if *w.verified != 1 {
			t.Errorf("verified %d times", *w.verified)
		}
		w.pass(time.Second)
		r, err := w.answer(w.req)
		w.refusedWith("10 minutes after the window", r, err, teebroker.Gone)
	})
	t.Run("same request id, refused", func(t *testing.T) {
		w := begin(t)
		g := honest()
		g.HostData = nil
		req := w.request(w.s, g)
		for range 3 {
			r, err := w.answer(req)
			w.refusedWith("refused", r, err, teebroker.LaunchIdentity)
		}
		if *w.verified != 2 {
			t.Errorf("verified %d times", *w.verified)
		}
		if n := len(w.entries(teebroker.Refusals)); n != 1 {
			t.Errorf("%d refusals", n)
		}
	})
	t.Run("same request id, redeemed, no outcome", func(t *testing.T) {
		w := begin(t)
		c, err := w.broker.Challenge(t.Context(), nonce.ProfileV1)
		w.check(err)
		b, err := w.s.Bind(c.Nonce, faketee.Format)
		w.check(err)
		req := w.s.Request(c.Nonce, honest().Evidence(b))
		id := teebroker.RequestID(req.Evidence, []evidence.Binding{b})
		w.check(w.Redeem(t.Context(), c.Nonce, id, c.Expires))
		w.pass(29 * time.Second)
		r, err := w.answer(req)
		w.refusedWith("at once", r, err, teebroker.InProgress)
		w.pass(time.Second)
		r, err = w.answer(req)
		w.refusedWith("later", r, err, teebroker.NonceSpent)
	})
	t.Run("spent nonce, other request id", func(t *testing.T) {
		w := begin(t)
		other := w.session(nil)
		b, err := other.Bind(w.req.Nonce, faketee.Format)
		w.check(err)
		r, err := w.answer(other.Request(w.req.Nonce, honest().Evidence(b)))
		w.refusedWith("other request", r, err, teebroker.NonceSpent)
		one(w.world, 1)
	})
	t.Run("fresh nonce and evidence, same key", func(t *testing.T) {
		w := begin(t)
		w.pass(time.Minute)
		req := w.request(w.s, honest())
		r, err := w.answer(req)
		w.check(err)
		w.opens(w.s, r)
		if r.Release != w.r.Release || !bytes.Equal(r.Sealed, w.r.Sealed) || bytes.Equal(r.Receipt, w.r.Receipt) {
			t.Error("not the sealed bytes with a new receipt")
		}
		receipt, err := teebroker.VerifyReceipt(r.Receipt, w.broker.ID())
		w.check(err)
		if receipt.Kind != teebroker.KindRedelivery || receipt.Nonce != [32]byte(req.Nonce) || receipt.Release != w.r.Release {
			t.Errorf("receipt %+v", receipt)
		}
		if *w.verified != 2 {
			t.Errorf("verified %d times", *w.verified)
		}
		one(w.world, 2)
		if es := w.entries(teebroker.Decisions); es[1].Kind != teebroker.KindRedelivery {
			t.Errorf("entry of kind %s", es[1].Kind)
		}
		again, err := w.answer(req)
		w.check(err)
		if !bytes.Equal(again.Receipt, r.Receipt) {
			t.Error("the redelivery itself is not answered from the store")
		}
		one(w.world, 2)
	})
	t.Run("fresh nonce, same key, evidence not acceptable any more", func(t *testing.T) {
		w := begin(t)
		g := honest()
		g.Measurement = "bad"
		r, err := w.answer(w.request(w.s, g))
		w.refusedWith("bad evidence", r, err, teebroker.Denied)
	})
	t.Run("fresh nonce, same key, instance changed", func(t *testing.T) {
		w := begin(t)
		w.check(w.Register(t.Context(), w.instance()))
		r, err := w.answer(w.request(w.s, honest()))
		w.refusedWith("withdrawn", r, err, teebroker.NotAuthorized)
		again, err := w.answer(w.req)
		w.check(err)
		if !bytes.Equal(again.Sealed, w.r.Sealed) {
			t.Error("the identical request is not answered")
		}
	})
	t.Run("fresh nonce, same key, after the window", func(t *testing.T) {
		w := begin(t)
		w.pass(time.Hour + 9*time.Minute)
		_, err := w.answer(w.request(w.s, honest()))
		w.check(err)
		w.pass(time.Minute)
		r, err := w.answer(w.request(w.s, honest()))
		w.refusedWith("erased", r, err, teebroker.Gone)
	})
	t.Run("another key, slot taken", func(t *testing.T) {
		w := begin(t)
		r, err := w.answer(w.request(w.session(nil), honest()))
		w.refusedWith("second key", r, err, teebroker.OtherKey)
		if teebroker.Code(err) != "denied" {
			t.Errorf("a peer is told %s", teebroker.Code(err))
		}
		w.authorize(nil)
		s := w.session(nil)
		r, err = w.answer(w.request(s, honest()))
		w.check(err)
		w.opens(s, r)
	})
}

// A key that has a slot can't take another authorization, and one that has none
// in an instance is not burnt there by having one elsewhere.
func TestKeyHasOneSlot(t *testing.T) {
	w := newWorld(t, nil)
	other := [16]byte{15: 2}
	id := teebroker.LaunchID(tenant, other)
	inst := w.instance()
	inst.ID, inst.Launch = other, teebroker.LaunchClaim{Name: "snp.host_data", Want: id[:]}
	w.check(w.Register(t.Context(), inst))
	for _, i := range [][16]byte{instance, other} {
		w.check(w.PutSecret(t.Context(), tenant, i, purpose, []byte(secret)))
		w.check(w.PutSecret(t.Context(), tenant, i, "disk/data", []byte(secret)))
	}
	only := func(p string, i [16]byte) func(*teebroker.Authorization) {
		return func(a *teebroker.Authorization) { a.Purposes, a.Instance = []string{p}, i }
	}
	key := w.key(keywrap.X25519)
	ask := func(p string, i [16]byte, g faketee.Guest) (teebroker.Response, error) {
		return w.answer(w.request(w.session(func(c *guest.Config) { c.Purpose, c.Instance, c.Key = p, i, key }), g))
	}
	w.authorize(only(purpose, instance))
	_, err := ask(purpose, instance, honest())
	w.check(err)
	w.authorize(only("disk/data", instance))
	r, err := ask("disk/data", instance, honest())
	w.refusedWith("same key, another authorization", r, err, teebroker.OtherKey)
	w.authorize(only(purpose, other))
	_, err = ask(purpose, other, faketee.Guest{Measurement: "good", HostData: id[:]})
	w.check(err)
}

// A slot covers every purpose of its authorization, each released once.
func TestSlotCoversPurposes(t *testing.T) {
	w := newWorld(t, nil)
	w.check(w.PutSecret(t.Context(), tenant, instance, "disk/data", []byte(secret)))
	w.authorize(func(a *teebroker.Authorization) { a.Purposes = []string{purpose, "disk/data"} })
	key := w.key(keywrap.X25519)
	ids := map[[16]byte]bool{}
	for _, p := range []string{purpose, "disk/data", purpose} {
		s := w.session(func(c *guest.Config) { c.Purpose, c.Key = p, key })
		r, err := w.answer(w.request(s, honest()))
		w.check(err)
		ids[r.Release] = true
	}
	if len(ids) != 2 {
		t.Errorf("%d releases", len(ids))
	}
	w.pass(time.Hour)
	s := w.session(func(c *guest.Config) { c.Key = key; c.Purpose = "disk/data" })
	_, err := w.answer(w.request(s, honest()))
	w.check(err)
}
