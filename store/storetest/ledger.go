package storetest

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/nonce"
)

// What an authorization is for, by one field each that is otherwise.
func authorizations(w *world) {
	w.owned()
	chips := func(ids ...string) func(*teebroker.Authorization) {
		return func(a *teebroker.Authorization) {
			for _, id := range ids {
				a.Chips = append(a.Chips, []byte(id))
			}
		}
	}
	for i, tt := range []struct {
		name string
		auth func(*teebroker.Authorization)
		g    func(*teebroker.Grant)
		want error
	}{
		{"good", nil, nil, nil},
		{"another purpose", nil, func(g *teebroker.Grant) { g.Purpose = "swap" }, teebroker.NotAuthorized},
		{"another profile", nil, func(g *teebroker.Grant) { g.Profile = nonce.ProfileSVSM }, teebroker.NotAuthorized},
		{"profile listed", func(a *teebroker.Authorization) { a.Profiles = []nonce.Profile{nonce.ProfileSVSM} }, func(g *teebroker.Grant) { g.Profile = nonce.ProfileSVSM }, nil},
		{"v1 not listed", func(a *teebroker.Authorization) { a.Profiles = []nonce.Profile{nonce.ProfileSVSM} }, nil, teebroker.NotAuthorized},
		{"another instance", nil, func(g *teebroker.Grant) { g.Instance = [16]byte{2} }, teebroker.NotAuthorized},
		{"no generation", nil, func(g *teebroker.Grant) { g.Generation = 0 }, teebroker.NotAuthorized},
		{"an earlier generation", nil, func(g *teebroker.Grant) { g.Generation-- }, teebroker.NotAuthorized},
		{"a later generation", nil, func(g *teebroker.Grant) { g.Generation++ }, teebroker.NotAuthorized},
		{"other policies", nil, func(g *teebroker.Grant) { g.Policies = [][32]byte{{1}} }, teebroker.NotAuthorized},
		{"no policies", nil, func(g *teebroker.Grant) { g.Policies = nil }, teebroker.NotAuthorized},
		{"chip listed", chips("other", "chip"), nil, nil},
		{"chip not listed", chips("other"), nil, teebroker.NotAuthorized},
		{"chip masked", chips("chip"), func(g *teebroker.Grant) { g.Chip = nil }, teebroker.NotAuthorized},
		{"chip masked, no list", nil, func(g *teebroker.Grant) { g.Chip = nil }, nil},
	} {
		a := w.authorize(tt.auth)
		g := w.grant(byte(i+1), "disk", byte(i+1))
		if tt.g != nil {
			tt.g(&g)
		}
		w.want(tt.name, second(w.commit(g)), tt.want)
		w.check(w.Revoke(w.ctx, tenant, instance, a.ID))
	}
}

// A window begins with NotBefore and ends before NotAfter.
func windows(w *world) {
	w.owned()
	key := byte(0)
	for _, tt := range []struct {
		name   string
		before time.Duration // from now; 0 is none
		wait   time.Duration
		want   error
	}{
		{"too early", 59 * time.Minute, 59*time.Minute - time.Microsecond, teebroker.NotAuthorized},
		{"just begun", 59 * time.Minute, 59 * time.Minute, nil},
		{"just in time", 0, time.Hour - time.Microsecond, nil},
		{"too late", 0, time.Hour, teebroker.NotAuthorized},
	} {
		key++
		w.authorize(func(a *teebroker.Authorization) {
			if tt.before != 0 {
				a.NotBefore = w.time().Add(tt.before)
			}
		})
		w.pass(tt.wait)
		w.want(tt.name, second(w.commit(w.grant(key, "disk", key))), tt.want)
		w.pass(2 * time.Hour)
	}
}

// Slots and uses, as a sequence of what keys ask for and get.
func slots(w *world) {
	type step struct {
		name    string
		key     byte
		purpose string
		want    error
	}
	request := byte(0)
	for n, tt := range []struct {
		uses  []int // of one authorization each
		steps []step
	}{
		{[]int{0}, []step{
			{"first", 1, "disk", nil},
			{"again", 1, "disk", nil},
			{"another purpose of the slot", 1, "data", nil},
			{"another key", 2, "disk", teebroker.OtherKey},
			{"another key, another purpose", 2, "data", teebroker.OtherKey},
			{"a purpose of nobody", 1, "swap", teebroker.NotAuthorized},
		}},
		{[]int{2}, []step{
			{"first", 1, "disk", nil},
			{"second", 2, "disk", nil},
			{"third", 3, "disk", teebroker.OtherKey},
			{"second again", 2, "disk", nil},
		}},
		{[]int{1, 1}, []step{
			{"first", 1, "disk", nil},
			{"first, other purpose", 1, "data", nil},
			{"second", 2, "disk", nil},
			{"third", 3, "disk", teebroker.OtherKey},
		}},
		{nil, []step{{"first", 1, "disk", teebroker.NotAuthorized}}},
	} {
		w.pass(2 * time.Hour)
		if n == 0 {
			w.owned()
		}
		for _, uses := range tt.uses {
			w.authorize(func(a *teebroker.Authorization) { a.Uses = uses })
		}
		for _, st := range tt.steps {
			request++
			if _, err := w.commit(w.grant(st.key+byte(16*n), st.purpose, request)); !errors.Is(err, st.want) {
				w.Errorf("uses %v: %s: %v, want %v", tt.uses, st.name, err, st.want)
			}
		}
	}
}

// A key never has a second slot in an instance, whatever became of the first.
func keyForever(w *world) {
	w.owned()
	w.authorize(nil)
	w.want("first", second(w.commit(w.grant(1, "disk", 1))), nil)
	w.pass(24 * time.Hour)
	w.want("a new purpose after the window", second(w.commit(w.grant(1, "data", 2))), teebroker.NotAuthorized)
	w.authorize(nil)
	w.want("a new authorization for an old key", second(w.commit(w.grant(1, "data", 3))), teebroker.OtherKey)
	w.check(w.PutSecret(w.ctx, tenant, instance, "data", []byte("x")))
	w.authorize(nil)
	w.want("an old key after a change", second(w.commit(w.grant(1, "disk", 4))), teebroker.OtherKey)
	w.want("a new key", second(w.commit(w.grant(2, "disk", 5))), nil)
}

// Whatever changes of an instance voids what was open, and answers no earlier
// Grant.
func changes(w *world) {
	w.owned()
	request := byte(0)
	for name, change := range map[string]func() error{
		"register": func() error {
			r := registration()
			r.Image = "another"
			return second(w.Register(w.ctx, tenant, instance, r))
		},
		"secret": func() error { return w.PutSecret(w.ctx, tenant, instance, "disk", []byte("new")) },
		"blob":   func() error { return w.PutBlob(w.ctx, tenant, instance, "blob", [32]byte{1}, nil) },
		"policy": func() error { return w.PutPolicy(w.ctx, tenant, "base", document("global", 2)) },
	} {
		w.check(w.PutPolicy(w.ctx, tenant, "base", document("global", 1)))
		w.authorize(nil)
		request++
		before := w.grant(request, "disk", request)
		terms, err := w.Check(w.ctx, before)
		w.check(err)
		before.Authorization = terms.Authorization
		w.check(change())
		if w.generation() <= before.Generation {
			w.Errorf("%s: the generation is %d after %d", name, w.generation(), before.Generation)
		}
		w.want(name+": as appraised before", second(w.Commit(w.ctx, before, response(before), entry(before, teebroker.KindRelease))), teebroker.NotAuthorized)
		after := w.grant(request, "disk", request)
		w.want(name+": an authorization from before", second(w.commit(after)), teebroker.NotAuthorized)
		if a := w.newest(); a.State != "REVOKED" || a.Used != 0 {
			w.Errorf("%s: %+v", name, a)
		}
	}
}

// What was committed is answered: to the same request unchanged, to another of
// the same key with the sealed bytes it had, until ten minutes after the window.
func storedBytes(w *world) {
	w.owned()
	w.authorize(nil)
	g := w.grant(1, "disk", 1)
	first, err := w.commit(g)
	w.check(err)
	g.Authorization = [16]byte{9}
	later, err := w.Commit(w.ctx, g, teebroker.Response{Release: [16]byte{9}, Sealed: []byte("x"), Receipt: []byte("x")}, entry(g, teebroker.KindRelease))
	if err != nil || !bytes.Equal(later.Sealed, first.Sealed) || !bytes.Equal(later.Receipt, first.Receipt) || later.Release != first.Release {
		w.Errorf("the same request later: %s, %v", later.Sealed, err)
	}
	more, err := w.commit(w.grant(1, "disk", 2))
	if err != nil || !bytes.Equal(more.Sealed, first.Sealed) || bytes.Equal(more.Receipt, first.Receipt) || more.Release != first.Release {
		w.Errorf("redelivery %s, %s, %v", more.Sealed, more.Receipt, err)
	}
	blob := w.grant(1, "disk", 3)
	blob.Blob = [32]byte{1}
	w.want("another blob", second(w.commit(blob)), teebroker.ForeignBlob)
	clear(more.Sealed)
	for _, request := range []byte{1, 2} {
		o, ok, err := w.Outcome(w.ctx, [32]byte{request}, "disk")
		if err != nil || !ok || !bytes.Equal(o.Response.Sealed, first.Sealed) || o.Response.Release != first.Release {
			w.Errorf("outcome %d: %s, %v, %v", request, o.Response.Sealed, ok, err)
		}
		clear(o.Response.Sealed)
	}
	w.pass(70*time.Minute - time.Microsecond)
	o, _, err := w.Outcome(w.ctx, [32]byte{2}, "disk")
	if err != nil || !bytes.Equal(o.Response.Sealed, first.Sealed) {
		w.Errorf("just in time: %v", err)
	}
	w.pass(time.Microsecond)
	for range 3 { // until it is forgotten, and after
		o, ok, err := w.Outcome(w.ctx, [32]byte{1}, "disk")
		if !errors.Is(err, teebroker.Gone) || ok || o.Response.Sealed != nil {
			w.Errorf("after the window: %v", err)
		}
		w.want("redelivery after the window", second(w.commit(w.grant(1, "disk", 4))), teebroker.Gone)
		w.want("commit after the window", second(w.Commit(w.ctx, g, first, entry(g, teebroker.KindRelease))), teebroker.Gone)
		w.pass(time.Minute)
		w.want("something else meanwhile", w.Redeem(w.ctx, nonce.Nonce{byte(w.time().Minute())}, [32]byte{}, w.time().Add(time.Hour)), nil)
	}
}

// An outcome is that of a request and a purpose.
func purposes(w *world) {
	w.owned()
	w.authorize(nil)
	g := w.grant(1, "disk", 1)
	first, err := w.commit(g)
	w.check(err)
	if _, ok, err := w.Outcome(w.ctx, g.Request, "data"); ok || err != nil {
		w.Errorf("of another purpose: %v, %v", ok, err)
	}
	g = w.grant(1, "data", 1)
	next, err := w.commit(g)
	if err != nil || bytes.Equal(next.Sealed, first.Sealed) {
		w.Errorf("the same request, another purpose: %s, %v", next.Sealed, err)
	}
	for purpose, want := range map[string][]byte{"disk": first.Sealed, "data": next.Sealed} {
		o, ok, err := w.Outcome(w.ctx, g.Request, purpose)
		if err != nil || !ok || !bytes.Equal(o.Response.Sealed, want) {
			w.Errorf("%s: %s, %v, %v", purpose, o.Response.Sealed, ok, err)
		}
	}
}

// Commit takes what Check chose, or nothing.
func again(w *world) {
	w.owned()
	w.authorize(nil)
	g := w.grant(1, "disk", 1)
	for name, edit := range map[string]func(*teebroker.Grant, *teebroker.Response){
		"of no authorization":      func(g *teebroker.Grant, r *teebroker.Response) { g.Authorization = [16]byte{} },
		"of another authorization": func(g *teebroker.Grant, r *teebroker.Response) { g.Authorization[0]++ },
		"without bytes":            func(g *teebroker.Grant, r *teebroker.Response) { r.Sealed = nil },
		"without receipt":          func(g *teebroker.Grant, r *teebroker.Response) { r.Receipt = nil },
		"without id":               func(g *teebroker.Grant, r *teebroker.Response) { r.Release = [16]byte{} },
	} {
		terms, err := w.Check(w.ctx, g)
		w.check(err)
		g, r := g, response(g)
		g.Authorization = terms.Authorization
		edit(&g, &r)
		if _, err := w.Commit(w.ctx, g, r, entry(g, teebroker.KindRelease)); err == nil {
			w.Errorf("%s: committed", name)
		}
	}
	terms, err := w.Check(w.ctx, g)
	if err != nil || terms.Release != [16]byte{} {
		w.Fatalf("something was taken: %v, %v", terms, err)
	}
	g.Authorization = terms.Authorization
	w.want("meanwhile", second(w.commit(w.grant(1, "disk", 2))), nil)
	w.want("a second release of one slot and purpose", second(w.Commit(w.ctx, g, response(g), entry(g, teebroker.KindRelease))), teebroker.ErrAgain)
	if terms, err = w.Check(w.ctx, g); err != nil {
		w.Fatalf("%v", err)
	}
	r := response(g)
	r.Release = terms.Release // and other sealed bytes
	if _, err := w.Commit(w.ctx, g, r, entry(g, teebroker.KindRedelivery)); err == nil || errors.Is(err, teebroker.ErrAgain) {
		w.Errorf("other bytes under the id of a release: %v", err)
	}
}

// Of 64 keys one takes the use, and the others are told.
func raceOfKeys(w *world) {
	w.owned()
	for round := range byte(3) {
		w.pass(2 * time.Hour)
		a := w.authorize(nil)
		base := w.grant(0, "disk", 0)
		var mu sync.Mutex
		count := map[string]int{}
		together(64, func(i int) {
			g := base
			g.Key, g.Request = [32]byte{byte(i), round, 1}, [32]byte{byte(i), round, 1}
			g.Authorization = a.ID
			_, err := w.Commit(w.ctx, g, response(g), entry(g, teebroker.KindRelease))
			mu.Lock()
			defer mu.Unlock()
			count[teebroker.Code(err)+fmtIs(err, teebroker.OtherKey)]++
		})
		if count[""] != 1 || count["denied other-key"] != 63 {
			w.Errorf("%v", count)
		}
		if a := w.newest(); a.Used != 1 || a.State != "DONE" {
			w.Errorf("%+v", a)
		}
	}
}

func fmtIs(err error, r teebroker.Refusal) string {
	if errors.Is(err, r) {
		return " " + string(r)
	}
	return ""
}

// One request that comes 64 times has one outcome, and each gets it.
func raceOfRequests(w *world) {
	w.owned()
	a := w.authorize(nil)
	base := w.grant(1, "disk", 1)
	base.Authorization = a.ID
	var mu sync.Mutex
	answers := map[string]int{}
	together(64, func(i int) {
		r := response(base)
		r.Release[15], r.Sealed, r.Receipt = byte(i), []byte{1, byte(i)}, []byte{2, byte(i)}
		got, err := w.Commit(w.ctx, base, r, entry(base, teebroker.KindRelease))
		if err != nil {
			w.Errorf("%d: %v", i, err)
		}
		mu.Lock()
		defer mu.Unlock()
		answers[string(got.Sealed)+string(got.Receipt)+string(got.Release[:])]++
	})
	if len(answers) != 1 {
		w.Errorf("%d answers to one request", len(answers))
	}
	n := 0
	for _, e := range w.all(tenant, teebroker.Decisions) {
		if e.Kind == teebroker.KindRelease {
			n++
		}
	}
	if n != 1 {
		w.Errorf("%d entries of one release", n)
	}
}
