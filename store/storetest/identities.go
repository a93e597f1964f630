package storetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

func ekOf(n byte) [32]byte { return sha256.Sum256([]byte{n}) }

func akOf(n byte) []byte { return append([]byte{0, 0x0b}, bytes.Repeat([]byte{n}, 32)...) }

func hashOf(n byte) string { return fmt.Sprintf("%064x", n) }

// bind is Bind as the instance is now.
func (w *world) bind(b store.Bound) (store.Identity, error) {
	w.Helper()
	status, err := w.Status(w.ctx, b.Tenant, b.Instance)
	if err != nil && !errors.Is(err, store.NotFound) {
		w.check(err)
	}
	b.Generation = status.Generation
	return w.Bind(w.ctx, b)
}

// tpm is an EK with an AK, seen on a chip after so many resets.
func tpm(n, ak, chip byte, resets uint32) store.Bound {
	return store.Bound{
		Tenant: tenant, Instance: instance, Public: []byte{n}, AgentID: hashOf(n), AK: akOf(ak),
		Seen: store.Sighting{Chip: []byte{chip}, Run: []byte{chip, 1}, ResetCount: resets, Clock: 1000},
	}
}

// confirmEK is confirm of a guest that says which EK its TPM has.
func (w *world) confirmEK(release [16]byte, number uint64, seq uint64, ek [32]byte) ([]byte, error) {
	w.Helper()
	r, err := w.Released(w.ctx, release)
	if err != nil {
		return nil, err
	}
	c := teebroker.Confirm{Release: release, Epoch: number, Seq: seq, Settled: true, State: [32]byte{byte(seq) + 1}, EK: ek}
	e := teebroker.Entry{Chain: teebroker.Decisions, Tenant: r.Tenant, Kind: teebroker.KindConfirm, Body: []byte(`{}`)}
	return w.Confirm(w.ctx, r, c, fmt.Appendf(nil, "receipt %d", receipts.Add(1)), e)
}

// state is that of an EK; empty if it is not there.
func (w *world) state(n byte) store.IdentityState {
	w.Helper()
	x, err := w.ByEK(w.ctx, tenant, ekOf(n))
	if errors.Is(err, store.NotFound) {
		return ""
	}
	w.check(err)
	return x.State
}

func (w *world) activated(n, ak byte, want bool) {
	w.Helper()
	got, err := w.Activated(w.ctx, ekOf(n), akOf(ak))
	if err != nil || got != want {
		w.Errorf("AK %d of EK %d: %v, %v", ak, n, got, err)
	}
}

// A binding is found again by everything that names it, and recorded.
func identities(w *world) {
	w.owned()
	for what, edit := range map[string]func(*store.Bound){
		"no tenant":     func(b *store.Bound) { b.Tenant = "" },
		"no instance":   func(b *store.Bound) { b.Instance = [16]byte{} },
		"no key":        func(b *store.Bound) { b.Public = nil },
		"a long key":    func(b *store.Bound) { b.Public = make([]byte, store.MaxPublic+1) },
		"no agent":      func(b *store.Bound) { b.AgentID = "" },
		"no AK":         func(b *store.Bound) { b.AK = nil },
		"a masked chip": func(b *store.Bound) { b.Seen.Chip = make([]byte, 64) },
	} {
		b := tpm(1, 1, 1, 1)
		edit(&b)
		w.want(what, second(w.bind(b)), store.Invalid)
	}
	nobody := tpm(1, 1, 1, 1)
	nobody.Instance = [16]byte{9}
	w.want("of nobody", second(w.bind(nobody)), store.NotFound)
	w.want("seen before it is bound", second(w.See(w.ctx, tenant, ekOf(1), tpm(1, 1, 1, 1).Seen)), store.NotFound)
	w.want("live before it is bound", second(w.Live(w.ctx, tenant, instance)), store.NotFound)
	w.want("by nothing", second(w.ByAgent(w.ctx, tenant, "")), store.NotFound)
	w.activated(1, 1, false)

	made := w.time()
	x, err := w.bind(tpm(1, 1, 1, 1))
	w.check(err)
	if x.State != store.IdentityLive || x.EK != ekOf(1) || x.AgentID != hashOf(1) || !x.Made.Equal(made) || x.Seen == nil || x.Seen.ResetCount != 1 || !x.Has(akOf(1)) {
		w.Errorf("bound: %+v", x)
	}
	for what, f := range map[string]func() (store.Identity, error){
		"EK":    func() (store.Identity, error) { return w.ByEK(w.ctx, tenant, ekOf(1)) },
		"agent": func() (store.Identity, error) { return w.ByAgent(w.ctx, tenant, hashOf(1)) },
		"live":  func() (store.Identity, error) { return w.Live(w.ctx, tenant, instance) },
		"all": func() (store.Identity, error) {
			all, err := w.EKs(w.ctx, tenant, instance)
			if len(all) != 1 {
				return store.Identity{}, err
			}
			return all[0], err
		},
	} {
		got, err := f()
		if err != nil || !reflect.DeepEqual(got, x) {
			w.Errorf("by %s: %+v, %v, want %+v", what, got, err, x)
		}
		got.AKs[0].Name[5]++
		got.Public[0]++
	}
	w.activated(1, 1, true)
	w.activated(1, 2, false)
	w.activated(2, 1, false)

	before := tpm(1, 3, 1, 1)
	before.Generation = w.generation() + 1
	w.want("of another generation", second(w.Bind(w.ctx, before)), teebroker.NotAuthorized)
	w.pass(time.Minute)
	if x, err = w.bind(tpm(1, 2, 1, 1)); err != nil || len(x.AKs) != 2 || !x.Made.Equal(made) {
		w.Errorf("another AK: %+v, %v", x, err)
	}
	w.activated(1, 1, true)
	w.activated(1, 2, true)
	es := w.all(tenant, teebroker.Decisions)
	w.chained(es)
	if got := kinds(es)[len(es)-2:]; !slices.Equal(got, []teebroker.Kind{store.KindIdentity, store.KindIdentity}) {
		w.Errorf("recorded: %v", got)
	}
	later := tpm(1, 1, 1, 1).Seen
	later.Clock = 2000
	if x, err = w.See(w.ctx, tenant, ekOf(1), later); err != nil || x.Seen.Clock != 2000 {
		w.Errorf("seen: %+v, %v", x.Seen, err)
	}
	if n := len(w.all(tenant, teebroker.Decisions)); n != len(es) {
		w.Errorf("%d entries of a sighting", n-len(es))
	}

	w.check(w.Delete(w.ctx, tenant, instance))
	if w.state(1) != store.IdentitySuperseded {
		w.Error("of an instance that is gone")
	}
	w.activated(1, 1, false)
	w.want("resumed after it", second(w.ResumeEK(w.ctx, tenant, instance, ekOf(1))), store.NotFound)
}

// Error is Errorf without arguments.
func (w *world) Error(text string) { w.Helper(); w.Errorf("%s", text) }

// A confirm that names an EK and its Identity are one transaction.
func identityConfirm(w *world) {
	w.begun("write")
	_, r := w.booted(1)
	w.want("a confirm that does not follow", second(w.confirmEK(r.Release, 9, 0, ekOf(1))), teebroker.MalformedRequest)
	if w.state(1) != "" {
		w.Error("an EK of a confirm that was refused")
	}
	w.check(second(w.confirmEK(r.Release, 2, 0, ekOf(1))))
	x, err := w.Live(w.ctx, tenant, instance)
	if err != nil || x.EK != ekOf(1) || x.Release != r.Release || x.Epoch != 2 || x.Public != nil || x.Seen != nil || x.Placed {
		w.Errorf("%+v, %v", x, err)
	}
	w.check(second(w.bind(tpm(1, 1, 1, 5))))
	w.check(second(w.RegisterAgent(w.ctx, tenant, ekOf(1), store.Agent{ID: "a"})))
	w.check(second(w.confirmEK(r.Release, 2, 1, ekOf(1))))
	if x, err = w.Live(w.ctx, tenant, instance); err != nil || !x.Placed || x.Release != r.Release || x.AgentID != hashOf(1) || x.Registered.IsZero() {
		w.Errorf("after a checkpoint: %+v, %v", x, err)
	}
	// The next boot is elsewhere, and its agent registers again.
	_, again := w.booted(2)
	w.check(second(w.confirmEK(again.Release, 3, 0, ekOf(1))))
	w.want("the same EK in the guest of before", second(w.confirmEK(r.Release, 2, 2, ekOf(1))), teebroker.Superseded)
	w.check(second(w.See(w.ctx, tenant, ekOf(1), tpm(1, 1, 2, 5).Seen)))
	w.check(second(w.RegisterAgent(w.ctx, tenant, ekOf(1), store.Agent{ID: "a"})))
	w.activated(1, 1, true)
	// Another EK holds: nothing of the confirm is kept.
	_, third := w.booted(3)
	entries := len(w.all(tenant, teebroker.Decisions))
	w.want("another EK", second(w.confirmEK(third.Release, 4, 0, ekOf(2))), teebroker.Held)
	if s := w.epoch(); s.State != "HELD" || s.Epoch != 3 || s.Pending != 4 {
		w.Errorf("%+v", s)
	}
	if w.state(1) != store.IdentityHeld || w.state(2) != store.IdentityHeld {
		w.Errorf("%s, %s", w.state(1), w.state(2))
	}
	es := w.all(tenant, teebroker.Decisions)
	w.chained(es)
	if len(es) != entries+1 || es[entries].Kind != store.KindCloneSuspect || !bytes.Contains(es[entries].Body, []byte(`"why":"other-ek"`)) {
		w.Errorf("recorded: %v", kinds(es[entries:]))
	}
	w.want("again", second(w.confirmEK(third.Release, 4, 0, ekOf(2))), teebroker.Held)
	w.check(second(w.ResumeEK(w.ctx, tenant, instance, ekOf(2))))
	w.want("before the epochs are resumed", second(w.confirmEK(third.Release, 4, 0, ekOf(2))), teebroker.Held)
	w.check(second(w.Resume(w.ctx, tenant, instance, vtpm)))
	w.check(second(w.confirmEK(third.Release, 4, 0, ekOf(2))))
	if w.state(1) != store.IdentitySuperseded || w.state(2) != store.IdentityLive {
		w.Errorf("%s, %s", w.state(1), w.state(2))
	}
}

// What is held stays so, in the whole instance, until its owner resumes it.
func identityHeld(w *world) {
	w.begun("boot")
	w.check(second(w.Begin(w.ctx, tenant, instance, "second", store.EpochStart{Mode: "boot", Blob: teebroker.Blob{Digest: [32]byte{1}, Epoch: 1}})))
	w.check(second(w.Begin(w.ctx, tenant, instance, "third", store.EpochStart{Mode: "boot", Blob: teebroker.Blob{Digest: [32]byte{2}, Epoch: 1}})))
	w.check(second(w.Retire(w.ctx, tenant, instance, "third")))
	w.check(second(w.bind(tpm(1, 1, 1, 5))))
	w.want("resumed what is live", second(w.ResumeEK(w.ctx, tenant, instance, ekOf(1))), store.Conflict)
	w.want("on another chip", second(w.bind(tpm(1, 2, 2, 5))), teebroker.Held)
	w.activated(1, 1, false)
	w.activated(1, 2, false)
	for purpose, want := range map[string]string{vtpm: "HELD", "second": "HELD", "third": "RETIRED"} {
		if s, err := w.Epoch(w.ctx, tenant, instance, purpose); err != nil || s.State != want {
			w.Errorf("%s: %+v, %v", purpose, s, err)
		}
	}
	entries := len(w.all(tenant, teebroker.Decisions))
	for what, f := range map[string]func() error{
		"bind":     func() error { return second(w.bind(tpm(1, 1, 1, 5))) },
		"another":  func() error { return second(w.bind(tpm(2, 1, 1, 1))) },
		"see":      func() error { return second(w.See(w.ctx, tenant, ekOf(1), tpm(1, 1, 1, 5).Seen)) },
		"register": func() error { return second(w.RegisterAgent(w.ctx, tenant, ekOf(1), store.Agent{ID: "a"})) },
		"live":     func() error { return second(w.Live(w.ctx, tenant, instance)) },
	} {
		w.want(what, f(), teebroker.Held)
	}
	if x, err := w.ByEK(w.ctx, tenant, ekOf(1)); err != nil || x.State != store.IdentityHeld || x.Why != store.TwoPlaces {
		w.Errorf("%+v, %v", x, err)
	}
	if n := len(w.all(tenant, teebroker.Decisions)); n != entries || w.state(2) != "" {
		w.Errorf("%d entries of what was refused, EK 2 is %q", n-entries, w.state(2))
	}
	w.want("resumed nothing", second(w.ResumeEK(w.ctx, tenant, instance, ekOf(2))), store.NotFound)
	w.want("resumed another's", second(w.ResumeEK(w.ctx, tenant, [16]byte{9}, ekOf(1))), store.NotFound)
	x, err := w.ResumeEK(w.ctx, tenant, instance, ekOf(1))
	if err != nil || x.State != store.IdentityLive || len(x.AKs) != 0 || x.Seen != nil {
		w.Errorf("%+v, %v", x, err)
	}
	es := w.all(tenant, teebroker.Decisions)
	w.chained(es)
	if got := es[len(es)-1]; got.Kind != store.KindResume || !bytes.Contains(got.Body, []byte(`"ek":`)) {
		w.Errorf("recorded: %s %s", got.Kind, got.Body)
	}
	w.check(second(w.bind(tpm(1, 1, 3, 0))))
	w.activated(1, 1, true)
	if s := w.epoch(); s.State != "HELD" {
		w.Errorf("epochs: %s", s.State)
	}
	if s, err := w.Resume(w.ctx, tenant, instance, vtpm); err != nil || s.State != "CURRENT" {
		w.Errorf("%+v, %v", s, err)
	}
}

// One TPM is in one place at a time, and its counts do not go back. The rules
// themselves are held to in internal/identity.
func identityPlaces(w *world) {
	w.owned()
	resume := func() { w.check(second(w.ResumeEK(w.ctx, tenant, instance, ekOf(1)))) }
	w.check(second(w.bind(tpm(1, 1, 1, 5))))
	w.check(second(w.bind(tpm(1, 1, 2, 6)))) // a start elsewhere
	w.want("the start before", second(w.See(w.ctx, tenant, ekOf(1), tpm(1, 1, 1, 5).Seen)), teebroker.Held)
	if x, err := w.ByEK(w.ctx, tenant, ekOf(1)); err != nil || x.Why != store.Backwards {
		w.Errorf("%+v, %v", x, err)
	}
	resume()
	w.check(second(w.bind(tpm(1, 1, 1, 5))))
	w.want("in another guest", second(w.See(w.ctx, tenant, ekOf(1), store.Sighting{Chip: []byte{1}, Run: []byte{7}, ResetCount: 5, Clock: 1000})), teebroker.Held)
	resume()
	// The same EK in another instance holds both.
	second2 := [16]byte{2}
	r := registration()
	r.Policies = []string{"base"}
	w.register(tenant, second2, r)
	b := tpm(2, 1, 1, 1)
	b.Instance = second2
	w.check(second(w.bind(b)))
	w.check(second(w.bind(tpm(1, 1, 1, 5))))
	b = tpm(1, 1, 1, 5)
	b.Instance = second2
	w.want("in another instance", second(w.bind(b)), teebroker.Held)
	for n := range byte(2) {
		if w.state(n+1) != store.IdentityHeld {
			w.Errorf("EK %d is %s", n+1, w.state(n+1))
		}
	}
	es := w.all(tenant, teebroker.Decisions)
	if got := kinds(es)[len(es)-2:]; !slices.Equal(got, []teebroker.Kind{store.KindCloneSuspect, store.KindCloneSuspect}) {
		w.Errorf("recorded: %v", got)
	}
	w.chained(es)
}

// A TPM that is made anew at each start supersedes the one before.
func identityEphemeral(w *world) {
	w.owned()
	r := registration()
	r.AllowEphemeralVTPM = true
	if status := w.register(tenant, instance, r); !status.Registration.AllowEphemeralVTPM {
		w.Fatalf("%+v", status.Registration)
	}
	for n := byte(1); n <= 3; n++ {
		w.check(second(w.bind(tpm(n, n, n, 1))))
		w.pass(time.Second)
	}
	w.activated(1, 1, false)
	w.activated(3, 3, true)
	all, err := w.EKs(w.ctx, tenant, instance)
	if err != nil || len(all) != 3 || all[0].EK != ekOf(3) || all[2].EK != ekOf(1) || all[2].State != store.IdentitySuperseded {
		w.Errorf("%d: %+v, %v", len(all), all, err)
	}
	for what, err := range map[string]error{
		"bind":     second(w.bind(tpm(1, 1, 1, 2))),
		"see":      second(w.See(w.ctx, tenant, ekOf(1), tpm(1, 1, 1, 2).Seen)),
		"register": second(w.RegisterAgent(w.ctx, tenant, ekOf(1), store.Agent{ID: "a"})),
	} {
		w.want(what+" of the one before", err, teebroker.Superseded)
	}
	if x, err := w.Live(w.ctx, tenant, instance); err != nil || x.EK != ekOf(3) {
		w.Errorf("%+v, %v", x, err)
	}
	// Without the setting the TPM keeps its EK from now on.
	w.register(tenant, instance, registration())
	w.want("another EK", second(w.bind(tpm(4, 1, 1, 1))), teebroker.Held)
	if w.state(3) != store.IdentityHeld || w.state(4) != store.IdentityHeld || w.state(1) != store.IdentitySuperseded {
		w.Errorf("%s, %s, %s", w.state(3), w.state(4), w.state(1))
	}
}

// An agent registers once, and is of one EK.
func identityAgent(w *world) {
	w.owned()
	r := registration()
	r.AllowEphemeralVTPM = true
	w.register(tenant, instance, r)
	w.check(second(w.bind(tpm(1, 1, 1, 1))))
	for what, a := range map[string]store.Agent{
		"nothing": {}, "a space": {ID: "a b"}, "too long": {ID: string(bytes.Repeat([]byte("a"), store.MaxAgent+1))},
		"another key": {ID: "a", Public: []byte{2}, AgentID: hashOf(2)}, "half a key": {ID: "a", Public: []byte{1}},
	} {
		w.want(what, second(w.RegisterAgent(w.ctx, tenant, ekOf(1), a)), store.Invalid)
	}
	w.want("an EK that is not known", second(w.RegisterAgent(w.ctx, tenant, ekOf(9), store.Agent{ID: "a"})), store.NotFound)
	w.want("the hash of another", second(w.RegisterAgent(w.ctx, tenant, ekOf(1), store.Agent{ID: hashOf(2)})), store.Conflict)
	x, err := w.RegisterAgent(w.ctx, tenant, ekOf(1), store.Agent{ID: "agent-1"})
	if err != nil || x.Agent != "agent-1" || !x.Registered.Equal(w.time()) {
		w.Errorf("%+v, %v", x, err)
	}
	w.want("again", second(w.RegisterAgent(w.ctx, tenant, ekOf(1), store.Agent{ID: "agent-1"})), store.Conflict)
	w.want("as another", second(w.RegisterAgent(w.ctx, tenant, ekOf(1), store.Agent{ID: "agent-2"})), store.Conflict)
	for _, by := range []string{"agent-1", hashOf(1)} {
		if x, err := w.ByAgent(w.ctx, tenant, by); err != nil || x.EK != ekOf(1) {
			w.Errorf("%s: %+v, %v", by, x, err)
		}
	}
	w.check(second(w.bind(tpm(2, 1, 1, 1))))
	w.want("an agent of before", second(w.RegisterAgent(w.ctx, tenant, ekOf(2), store.Agent{ID: "agent-1"})), store.Conflict)
	if x, err := w.RegisterAgent(w.ctx, tenant, ekOf(2), store.Agent{ID: hashOf(2)}); err != nil || x.Agent != hashOf(2) {
		w.Errorf("%+v, %v", x, err)
	}
	es := w.all(tenant, teebroker.Decisions)
	w.chained(es)
	if last := es[len(es)-1]; last.Kind != store.KindAgent || !bytes.Contains(last.Body, []byte(hashOf(2))) {
		w.Errorf("recorded: %s %s", last.Kind, last.Body)
	}
}

// Of many that register one agent, or bind their EK, at the same time, one does.
func identityRace(w *world) {
	w.owned()
	r := registration()
	r.AllowEphemeralVTPM = true
	w.register(tenant, instance, r)
	const n = 8
	w.check(second(w.bind(tpm(1, 1, 1, 1))))
	var won atomic.Int64
	together(n, func(i int) {
		switch _, err := w.RegisterAgent(w.ctx, tenant, ekOf(1), store.Agent{ID: "agent"}); {
		case err == nil:
			won.Add(1)
		case !errors.Is(err, store.Conflict):
			w.Errorf("register: %v", err)
		}
	})
	if won.Load() != 1 {
		w.Errorf("registered %d times", won.Load())
	}
	together(n, func(i int) {
		if _, err := w.bind(tpm(byte(10+i), 1, 1, 1)); err != nil {
			w.Errorf("bind: %v", err)
		}
	})
	live := 0
	all, err := w.EKs(w.ctx, tenant, instance)
	w.check(err)
	for _, x := range all {
		if x.State == store.IdentityLive {
			live++
		}
	}
	if live != 1 || len(all) != n+1 {
		w.Errorf("%d of %d are live", live, len(all))
	}
	// Two EKs where there is to be one: whoever is second holds both.
	w.register(tenant, [16]byte{3}, registration())
	var held atomic.Int64
	together(2, func(i int) {
		b := tpm(byte(30+i), 1, 1, 1)
		b.Instance = [16]byte{3}
		if _, err := w.bind(b); errors.Is(err, teebroker.Held) {
			held.Add(1)
		} else {
			w.want("bind", err, nil)
		}
	})
	if held.Load() != 1 || w.state(30) != store.IdentityHeld || w.state(31) != store.IdentityHeld {
		w.Errorf("%d were held: %s, %s", held.Load(), w.state(30), w.state(31))
	}
	w.chained(w.all(tenant, teebroker.Decisions))
}

// Tenants know nothing of each other's TPMs, whose EKs may be the same.
func identityTenants(w *world) {
	w.owned(tenant, other)
	w.check(second(w.bind(tpm(1, 1, 1, 5))))
	for what, err := range map[string]error{
		"EK":       second(w.ByEK(w.ctx, other, ekOf(1))),
		"agent":    second(w.ByAgent(w.ctx, other, hashOf(1))),
		"live":     second(w.Live(w.ctx, other, instance)),
		"see":      second(w.See(w.ctx, other, ekOf(1), tpm(1, 1, 1, 5).Seen)),
		"register": second(w.RegisterAgent(w.ctx, other, ekOf(1), store.Agent{ID: "a"})),
		"resume":   second(w.ResumeEK(w.ctx, other, instance, ekOf(1))),
	} {
		w.want(what+" of another tenant", err, store.NotFound)
	}
	if all, err := w.EKs(w.ctx, other, instance); err != nil || len(all) != 0 {
		w.Errorf("%v, %v", all, err)
	}
	b := tpm(1, 2, 2, 1)
	b.Tenant = other
	w.check(second(w.bind(b)))
	w.activated(1, 1, true)
	w.activated(1, 2, true)
	w.check(w.Delete(w.ctx, tenant, instance))
	w.activated(1, 1, false)
	w.activated(1, 2, true)
}
