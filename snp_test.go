package teebroker_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// start is the time in which tests begin.
func start() time.Time { return time.Date(2026, 11, 1, 12, 0, 30, 0, time.UTC) }

// vendor is made once: its keys take seconds.
var vendor = sync.OnceValue(func() *snptest.AMD {
	amd := snptest.NewAMD()
	amd.Time = start
	return amd
})

// snpWorld is a world whose guests run on a simulated Turin processor.
func snpWorld(t *testing.T, edit func(*teebroker.Config)) (*world, *snptest.Chip) {
	t.Helper()
	amd := vendor()
	chip := amd.Chip(snp.Turin)
	v, err := snp.NewVerifier(snp.Config{Anchors: amd.Anchors(snp.Turin), Source: amd.Source(), Time: start})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *teebroker.Config) {
		c.Verifier = v
		if edit != nil {
			edit(c)
		}
	})
	inst := w.instance()
	inst.Policies = []*policy.Policy{{
		Name: "turin", Version: "1", Document: []byte("one measurement on one chip"),
		Require: map[evidence.Format]policy.Rule{snp.Format: snp.Baseline([]snp.Floor{chip.Floor()}, [48]byte{1})},
	}}
	w.check(w.Register(t.Context(), inst))
	return w, chip
}

func turin() snptest.Guest {
	return snptest.Guest{Measurement: [48]byte{1}, HostData: teebroker.LaunchID(tenant, instance)}
}

// ask is a request of s with a fresh report of g on chip.
func (w *world) ask(s *guest.Session, chip *snptest.Chip, g snptest.Guest) teebroker.Request {
	w.Helper()
	c, err := w.broker.Challenge(w.Context(), nonce.ProfileV1)
	w.check(err)
	b, err := s.Bind(c.Nonce, snp.Format)
	w.check(err)
	return s.Request(c.Nonce, chip.Report(g, b))
}

// A guest on hardware that chains to its vendor gets the secret, and what was
// recorded of it opens nothing elsewhere.
func TestSNP(t *testing.T) {
	w, chip := snpWorld(t, nil)
	id := chip.ID()
	w.authorize(func(a *teebroker.Authorization) { a.Chips = [][]byte{id[:]} })
	s := w.session(func(c *guest.Config) { c.Key = w.key(keywrap.MLKEM768X25519) })
	first := w.ask(s, chip, turin())
	r, err := w.answer(first)
	w.check(err)
	w.opens(s, r)
	recorded := first.Evidence

	relay := func(edit func(*teebroker.Request)) teebroker.Request {
		req := w.ask(s, chip, turin())
		req.Evidence = recorded
		edit(&req)
		return req
	}
	for _, tt := range []struct {
		name string
		req  teebroker.Request
		want error
	}{
		{"recorded evidence under a new nonce", relay(func(*teebroker.Request) {}), evidence.NotBound},
		{"for another instance", relay(func(r *teebroker.Request) { r.Instance[0] = 1 }), evidence.NotBound},
		{"for another tenant", relay(func(r *teebroker.Request) { r.Tenant = "other" }), evidence.NotBound},
		{"for another purpose", relay(func(r *teebroker.Request) { r.Purpose = "disk/data" }), evidence.NotBound},
		{"for another key", relay(func(r *teebroker.Request) { r.Recipient = w.key(keywrap.MLKEM768X25519).Recipient() }), evidence.NotBound},
		{"without the pinned broker", relay(func(r *teebroker.Request) { r.Broker = nil }), evidence.NotBound},
		{"another guest's key", w.ask(w.session(nil), chip, turin()), teebroker.OtherKey},
		{"a neighbour of the same image", w.ask(s, chip, snptest.Guest{Measurement: [48]byte{1}, HostData: teebroker.LaunchID(tenant, [16]byte{9})}), teebroker.LaunchIdentity},
		{"another image", w.ask(s, chip, snptest.Guest{Measurement: [48]byte{2}, HostData: turin().HostData}), teebroker.Denied},
		{"on another chip", w.ask(s, vendor().Chip(snp.Turin), turin()), teebroker.NotAuthorized},
	} {
		r, err := w.answer(tt.req)
		w.refusedWith(tt.name, r, err, tt.want)
	}

	// Report data made to fit a new nonce, without the key that signs it.
	forged := w.ask(s, chip, turin())
	fit := forged.Evidence[0].Raw[0x50:0x90]
	forged.Evidence = []evidence.Evidence{{Format: snp.Format, Raw: bytes.Clone(recorded[0].Raw), Items: recorded[0].Items}}
	copy(forged.Evidence[0].Raw[0x50:], fit)
	r, err = w.answer(forged)
	w.refusedWith("changed report data", r, err, evidence.BadSignature)

	again, err := w.answer(first)
	w.check(err)
	w.opens(s, again)
	redelivered, err := w.answer(w.ask(s, chip, turin()))
	w.check(err)
	w.opens(s, redelivered)
}

// A simulated platform opens nothing that is real.
func TestSNPSimulated(t *testing.T) {
	root := rootOf(t)
	w, chip := snpWorld(t, func(c *teebroker.Config) { c.SimulatedRoots = [][32]byte{root} })
	w.authorize(nil)
	r, err := w.answer(w.ask(w.session(nil), chip, turin()))
	w.refusedWith("simulated", r, err, teebroker.Denied)
}

// rootOf returns the root that evidence of vendor rests on.
func rootOf(t *testing.T) [32]byte {
	t.Helper()
	w, chip := snpWorld(t, nil)
	w.authorize(nil)
	r, err := w.answer(w.ask(w.session(nil), chip, turin()))
	w.check(err)
	receipt, err := teebroker.VerifyReceipt(r.Receipt, w.broker.ID())
	w.check(err)
	return receipt.Root
}
