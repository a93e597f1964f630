package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

func refusal(tenant string) teebroker.Entry {
	return teebroker.Entry{Chain: teebroker.Refusals, Tenant: tenant, Kind: teebroker.KindRefusal, Body: []byte(`{"code":"denied"}`)}
}

// A refusal is the outcome unless there is one, and forgotten at some time.
func refuse(w *world) {
	w.owned()
	for _, code := range []string{"denied", "not-bound"} {
		w.check(w.Refuse(w.ctx, [32]byte{1}, "disk", code, refusal(tenant)))
	}
	o, ok, err := w.Outcome(w.ctx, [32]byte{1}, "disk")
	if err != nil || !ok || o.Refused != "denied" || o.Response.Sealed != nil {
		w.Errorf("%+v, %v, %v", o, ok, err)
	}
	if _, ok, err := w.Outcome(w.ctx, [32]byte{1}, ""); ok || err != nil {
		w.Errorf("of another purpose: %v, %v", ok, err)
	}
	w.check(w.Refuse(w.ctx, [32]byte{3}, "disk", "", refusal(tenant)))
	if _, ok, err := w.Outcome(w.ctx, [32]byte{3}, "disk"); ok || err != nil {
		w.Errorf("refused with no code: %v, %v", ok, err)
	}
	es := w.all(tenant, teebroker.Refusals)
	if len(es) != 1 || es[0].Kind != teebroker.KindRefusal || string(es[0].Body) != `{"code":"denied"}` {
		w.Errorf("%+v", es)
	}
	w.chained(es)
	if len(w.all(other, teebroker.Refusals)) != 0 {
		w.Errorf("another tenant reads them")
	}
	w.pass(3 * time.Hour)
	for i := range byte(3) {
		w.check(w.Redeem(w.ctx, [32]byte{i}, [32]byte{}, w.time().Add(time.Hour)))
		w.pass(2 * time.Second)
	}
	if _, ok, _ := w.Outcome(w.ctx, [32]byte{1}, "disk"); ok {
		w.Errorf("refusals are never forgotten")
	}
}

// Of a refusal and a release of one request, what came first is the outcome.
func refusedFirst(w *world) {
	w.owned()
	w.authorize(nil)
	w.check(w.Refuse(w.ctx, [32]byte{1}, "disk", "denied", refusal(tenant)))
	g := w.grant(1, "disk", 1)
	terms, err := w.Check(w.ctx, g)
	w.check(err)
	g.Authorization = terms.Authorization
	w.want("a refused request", second(w.Commit(w.ctx, g, response(g), entry(g, teebroker.KindRelease))), teebroker.Denied)
	w.want("another request", second(w.commit(w.grant(1, "disk", 2))), nil)
	w.check(w.Refuse(w.ctx, [32]byte{2}, "disk", "denied", refusal(tenant)))
	if o, ok, err := w.Outcome(w.ctx, [32]byte{2}, "disk"); err != nil || !ok || o.Refused != "" {
		w.Errorf("a release became a refusal: %+v, %v", o, err)
	}
}

// What is revoked gives no slot and serves no stored bytes, and says so.
func revoke(w *world) {
	w.owned()
	a := w.authorize(func(a *teebroker.Authorization) { a.Uses = 2 })
	w.want("first", second(w.commit(w.grant(1, "disk", 1))), nil)
	for range 2 {
		w.check(w.Revoke(w.ctx, tenant, instance, a.ID))
	}
	w.want("another key", second(w.commit(w.grant(2, "disk", 2))), teebroker.NotAuthorized)
	w.want("another purpose of the slot", second(w.commit(w.grant(1, "data", 3))), teebroker.NotAuthorized)
	w.want("redelivery", second(w.commit(w.grant(1, "disk", 4))), teebroker.Gone)
	o, ok, err := w.Outcome(w.ctx, [32]byte{1}, "disk")
	w.want("the same request", err, teebroker.Gone)
	if ok || o.Response.Sealed != nil {
		w.Errorf("%+v", o)
	}
	as, err := w.Authorizations(w.ctx, tenant, instance)
	if err != nil || len(as) != 1 || as[0].State != "REVOKED" || as[0].Used != 1 {
		w.Errorf("%+v, %v", as, err)
	}
	w.want("what is not there", w.Revoke(w.ctx, tenant, instance, [16]byte{9}), store.NotFound)
	w.want("of another instance", w.Revoke(w.ctx, tenant, [16]byte{9}, a.ID), store.NotFound)
	w.authorize(nil)
	w.want("a new authorization for the old key", second(w.commit(w.grant(1, "disk", 5))), teebroker.Gone)
	w.want("a new authorization", second(w.commit(w.grant(3, "disk", 6))), nil)
	n := 0
	for _, k := range kinds(w.all(tenant, teebroker.Decisions)) {
		if k == store.KindRevoke {
			n++
		}
	}
	if n != 1 {
		w.Errorf("%d entries of one revocation", n)
	}
}

// Refusals have a chain of their own, and however many there are, they never hold
// up a decision.
func refusals(w *world) {
	w.owned()
	w.authorize(nil)
	before := len(w.all(tenant, teebroker.Decisions))
	together(16, func(i int) {
		for j := range 50 {
			if err := w.Refuse(w.ctx, [32]byte{byte(i), byte(j), 1}, "disk", "denied", refusal(tenant)); err != nil {
				w.Errorf("%v", err)
			}
		}
	})
	w.want("a release among them", second(w.commit(w.grant(1, "disk", 1))), nil)
	es := w.all(tenant, teebroker.Refusals)
	if len(es) == 0 || len(es) > 800 {
		w.Errorf("%d refusals recorded", len(es))
	}
	w.chained(es)
	if n := len(w.all(tenant, teebroker.Decisions)); n != before+1 {
		w.Errorf("%d decisions after %d", n, before)
	}
	if o, ok, err := w.Outcome(w.ctx, [32]byte{15, 49, 1}, "disk"); err != nil || !ok || o.Refused != "denied" {
		w.Errorf("the last one: %+v, %v", o, err)
	}
}

// What is decided and what owners do is in the record, in the order in which it
// was committed.
func record(w *world) {
	w.check(w.AddTenant(w.ctx, tenant, [32]byte{1}))
	w.owned()
	w.check(w.PutPolicy(w.ctx, tenant, "base", document("global", 1))) // the same
	w.register(tenant, instance, registration())                       // the same
	w.check(w.PutBlob(w.ctx, tenant, instance, "blob", [32]byte{1}, nil))
	a := w.authorize(nil)
	g := w.grant(1, "disk", 1)
	first, err := w.commit(g)
	w.check(err)
	w.pass(1500 * time.Microsecond)
	w.want("redelivery", second(w.commit(w.grant(1, "disk", 2))), nil)
	g.Authorization = a.ID
	w.want("the same request", second(w.Commit(w.ctx, g, first, entry(g, teebroker.KindRelease))), nil)
	w.want("another key", second(w.commit(w.grant(2, "disk", 3))), teebroker.OtherKey)
	w.check(w.Revoke(w.ctx, tenant, instance, a.ID))
	w.check(w.Delete(w.ctx, tenant, instance))
	w.check(w.RemoveToken(w.ctx, [32]byte{1}))
	es := w.all(tenant, teebroker.Decisions)
	w.chained(es)
	want := []teebroker.Kind{
		store.KindToken, store.KindPolicy, store.KindRegister, store.KindSecret, store.KindBlob, store.KindAuthorize,
		teebroker.KindRelease, teebroker.KindRedelivery, store.KindRevoke, store.KindDelete, store.KindTokenEnd,
	}
	if !slices.Equal(kinds(es), want) {
		w.Errorf("the record has %v", kinds(es))
	}
	if len(es) > 6 && (string(es[6].Body) != string(entry(g, "").Body) || es[6].Tenant != tenant || es[6].Chain != teebroker.Decisions || !es[6].Time.Equal(w.time().Add(-1500*time.Microsecond).Truncate(time.Millisecond))) {
		w.Errorf("%+v", es[6])
	}
	for after := range uint64(len(es)) {
		got, err := w.Record(w.ctx, tenant, teebroker.Decisions, after, 2)
		if err != nil || len(got) == 0 || len(got) > 2 || got[0].Seq != after+1 || got[0].Hash != es[after].Hash {
			w.Errorf("after %d: %+v, %v", after, got, err)
		}
	}
	if got, err := w.Record(w.ctx, tenant, teebroker.Decisions, uint64(len(es)), 2); len(got) != 0 || err != nil {
		w.Errorf("after the last: %v, %v", got, err)
	}
	if got, err := w.Record(w.ctx, tenant, teebroker.Decisions, 1<<63, 2); len(got) != 0 || err != nil {
		w.Errorf("after what is never: %v, %v", got, err)
	}
	for name, err := range map[string]error{
		"no limit":       second(w.Record(w.ctx, tenant, teebroker.Decisions, 0, 0)),
		"a limit of all": second(w.Record(w.ctx, tenant, teebroker.Decisions, 0, 1001)),
		"no chain":       second(w.Record(w.ctx, tenant, "", 0, 1)),
	} {
		w.want(name, err, store.Invalid)
	}
	if len(w.all(other, teebroker.Decisions)) != 0 {
		w.Errorf("another tenant reads them")
	}
}

// Chains stay whole when many write at once, in two tenants.
func recordRace(w *world) {
	w.owned(tenant, other)
	w.authorize(func(a *teebroker.Authorization) { a.Uses = 64 })
	base := w.grant(0, "disk", 0)
	terms, err := w.Check(w.ctx, base)
	w.check(err)
	base.Authorization = terms.Authorization
	together(64, func(i int) {
		switch i % 4 {
		case 0:
			if err := w.PutPolicy(w.ctx, other, fmt.Sprintf("p%d", i), document("global", i)); err != nil {
				w.Errorf("%v", err)
			}
		case 1:
			if err := w.Refuse(w.ctx, [32]byte{byte(i), 3}, "disk", "denied", refusal([]string{tenant, other}[i/4%2])); err != nil {
				w.Errorf("%v", err)
			}
		default:
			g := base
			g.Key, g.Request = [32]byte{byte(i), 2}, [32]byte{byte(i), 2}
			if _, err := w.Commit(w.ctx, g, response(g), entry(g, teebroker.KindRelease)); err != nil {
				w.Errorf("%v", err)
			}
		}
	})
	for _, t := range []string{tenant, other} {
		for _, c := range []teebroker.Chain{teebroker.Decisions, teebroker.Refusals} {
			w.chained(w.all(t, c))
		}
	}
	if n := len(w.all(tenant, teebroker.Decisions)); n != 4+32 {
		w.Errorf("%d decisions", n)
	}
	if n := len(w.all(other, teebroker.Decisions)); n != 3+16 {
		w.Errorf("%d decisions of the other", n)
	}
}
