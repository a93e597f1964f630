package storetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
)

// ownerKey is a new one, and how instances name it.
func (w *world) ownerKey() (*ecdsa.PrivateKey, strictjson.Digest) {
	w.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	w.check(err)
	name, err := teebroker.OrderKey(key)
	w.check(err)
	return key, name
}

// ordered is the context of an act on the instance as it is, with body.
func (w *world) ordered(key *ecdsa.PrivateKey, body []byte, o teebroker.Order) context.Context {
	w.Helper()
	o.Tenant, o.Body, o.Expires = tenant, sha256.Sum256(body), w.time().Add(5*time.Minute).Unix()
	if o.Act != teebroker.OrderPolicy {
		o.Instance = instance
		if s, err := w.Status(w.ctx, tenant, instance); err == nil {
			o.Generation = s.Generation
			if o.Act == teebroker.OrderAuthorize {
				o.State = s.State
			}
		}
	}
	return w.signed(key, body, o)
}

func (w *world) signed(key *ecdsa.PrivateKey, body []byte, o teebroker.Order) context.Context {
	w.Helper()
	token, err := teebroker.SignOrder(key, o)
	w.check(err)
	return store.WithOrder(w.ctx, teebroker.SignedOrder{Token: token, Body: body})
}

// keyed is the instance with an owner key, a policy that it ordered, and a secret.
func (w *world) keyed() *ecdsa.PrivateKey {
	w.Helper()
	key, name := w.ownerKey()
	w.putPolicy(key, document("global", 1))
	r := registration()
	r.OwnerKey = name
	w.check(w.registers(key, r))
	secret := []byte("secret")
	w.check(w.PutSecret(w.ordered(key, secret, teebroker.Order{Act: teebroker.OrderSecret, Name: "disk"}), tenant, instance, "disk", secret))
	return key
}

func (w *world) putPolicy(key *ecdsa.PrivateKey, doc []byte) {
	w.Helper()
	w.check(w.PutPolicy(w.ordered(key, doc, teebroker.Order{Act: teebroker.OrderPolicy, Name: "base"}), tenant, "base", doc))
}

// registers registers r by an order of key.
func (w *world) registers(key *ecdsa.PrivateKey, r store.Registration) error {
	body, err := json.Marshal(r)
	w.check(err)
	_, err = w.Register(w.ordered(key, body, teebroker.Order{Act: teebroker.OrderRegister, Owner: r.OwnerKey}), tenant, instance, r)
	return err
}

// An orderedAct is one that needs an order.
type orderedAct struct {
	order  teebroker.Order
	body   []byte
	before func()
	do     func(ctx context.Context) error
}

// orderedActs are all of them, in an order in which each can be done.
func (w *world) orderedActs(key *ecdsa.PrivateKey) []orderedAct {
	name, err := teebroker.OrderKey(key)
	w.check(err)
	r := registration()
	r.OwnerKey, r.AllowUnpinnedBroker = name, true
	reg, err := json.Marshal(r)
	w.check(err)
	a := teebroker.Authorization{Tenant: tenant, Instance: instance, Purposes: []string{"disk"}, NotAfter: w.time().Add(time.Hour)}
	auth := fmt.Appendf(nil, `{"purposes":["disk"],"not_after":%q}`, a.NotAfter.Format(time.RFC3339))
	first, again, last := epochBlob(1), epochBlob(2), epochBlob(3)
	again.Wrapped = nil // the owner's own; the last one a broker made
	ctx, ek := w.ctx, ekOf(1)
	return []orderedAct{
		{teebroker.Order{Act: teebroker.OrderRegister, Owner: name}, reg, nil, func(ctx context.Context) error {
			return second(w.Register(ctx, tenant, instance, r))
		}},
		{teebroker.Order{Act: teebroker.OrderPolicy, Name: "base"}, document("global", 2), nil, func(ctx context.Context) error {
			return w.PutPolicy(ctx, tenant, "base", document("global", 2))
		}},
		{teebroker.Order{Act: teebroker.OrderSecret, Name: "disk"}, []byte("another"), nil, func(ctx context.Context) error {
			return w.PutSecret(ctx, tenant, instance, "disk", []byte("another"))
		}},
		{teebroker.Order{Act: teebroker.OrderBlob, Name: "data", Blob: [32]byte{7}}, []byte("{}"), nil, func(ctx context.Context) error {
			return w.PutBlob(ctx, tenant, instance, "data", [32]byte{7}, nil)
		}},
		{teebroker.Order{Act: teebroker.OrderAuthorize}, auth, nil, func(ctx context.Context) error {
			return second(w.Authorize(ctx, a))
		}},
		{teebroker.Order{Act: teebroker.OrderEpoch, Name: vtpm, Blob: first.Digest}, []byte("{}"), nil, func(ctx context.Context) error {
			return second(w.Begin(ctx, tenant, instance, vtpm, store.EpochStart{Mode: "boot", Blob: first}))
		}},
		{teebroker.Order{Act: teebroker.OrderResume, Name: vtpm}, []byte("{}"), func() {
			w.check(second(w.Hold(ctx, tenant, instance, vtpm))) // by token alone
		}, func(ctx context.Context) error {
			return second(w.Resume(ctx, tenant, instance, vtpm))
		}},
		{teebroker.Order{Act: teebroker.OrderRecover, Name: vtpm, Blob: again.Digest}, []byte("{}"), nil, func(ctx context.Context) error {
			return second(w.Recover(ctx, tenant, instance, vtpm, again, 0))
		}},
		{teebroker.Order{Act: teebroker.OrderRecover, Name: vtpm}, []byte("{}"), nil, func(ctx context.Context) error {
			return second(w.Recover(ctx, tenant, instance, vtpm, last, 1))
		}},
		{teebroker.Order{Act: teebroker.OrderRetire, Name: vtpm}, []byte("{}"), nil, func(ctx context.Context) error {
			return second(w.Retire(ctx, tenant, instance, vtpm))
		}},
		{teebroker.Order{Act: teebroker.OrderResumeEK, Name: hex.EncodeToString(ek[:])}, []byte("{}"), func() {
			w.check(second(w.bind(tpm(1, 1, 1, 1))))
			w.want("on another chip", second(w.See(ctx, tenant, ek, store.Sighting{Chip: []byte{2}, ResetCount: 1})), teebroker.Held)
		}, func(ctx context.Context) error {
			return second(w.ResumeEK(ctx, tenant, instance, ek))
		}},
		{teebroker.Order{Act: teebroker.OrderDelete}, nil, nil, func(ctx context.Context) error {
			return w.Delete(ctx, tenant, instance)
		}},
	}
}

// spoiled returns contexts with orders that are not for act, by what is wrong.
func (w *world) spoiled(key *ecdsa.PrivateKey, act orderedAct) map[string]context.Context {
	w.Helper()
	stranger, _ := w.ownerKey()
	good := act.order
	good.Tenant, good.Body, good.Expires = tenant, sha256.Sum256(act.body), w.time().Add(5*time.Minute).Unix()
	if act.order.Act != teebroker.OrderPolicy {
		s, err := w.Status(w.ctx, tenant, instance)
		w.check(err)
		good.Instance, good.Generation = instance, s.Generation
		if act.order.Act == teebroker.OrderAuthorize {
			good.State = s.State
		}
	}
	spoiled := map[string]context.Context{"no order": w.ctx, "of another key": w.signed(stranger, act.body, good)}
	edit := func(name string, applies bool, f func(*teebroker.Order)) {
		if o := good; applies {
			f(&o)
			spoiled[name] = w.signed(key, act.body, o)
		}
	}
	ofInstance, named := good.Act != teebroker.OrderPolicy, good.Name != ""
	edit("of another tenant", true, func(o *teebroker.Order) { o.Tenant = other })
	edit("of another instance", ofInstance, func(o *teebroker.Order) { o.Instance[0]++ })
	edit("for another name", named, func(o *teebroker.Order) { o.Name = "x" + o.Name[1:] })
	edit("for another body", true, func(o *teebroker.Order) { o.Body[0]++ })
	edit("of an earlier generation", ofInstance, func(o *teebroker.Order) { o.Generation-- })
	edit("of a later generation", ofInstance, func(o *teebroker.Order) { o.Generation++ })
	edit("expired", true, func(o *teebroker.Order) { o.Expires = w.time().Unix() })
	edit("good for too long", true, func(o *teebroker.Order) { o.Expires = w.time().Add(teebroker.MaxOrderLife + time.Minute).Unix() })
	edit("for another owner key", good.Act == teebroker.OrderRegister, func(o *teebroker.Order) { o.Owner[0]++ })
	edit("for another wrapped key", good.Blob != strictjson.Digest{}, func(o *teebroker.Order) { o.Blob[0]++ })
	edit("for another state", good.Act == teebroker.OrderAuthorize, func(o *teebroker.Order) { o.State[0]++ })
	edit("for another act", true, func(o *teebroker.Order) {
		*o = teebroker.Order{Act: teebroker.OrderResume, Tenant: tenant, Instance: instance, Name: "disk", Body: o.Body, Generation: max(o.Generation, 1), Expires: o.Expires}
		if good.Act == teebroker.OrderResume {
			o.Act = teebroker.OrderRetire
		}
	})
	token, err := teebroker.SignOrder(key, good)
	w.check(err)
	cut := teebroker.SignedOrder{Token: token[:len(token)-1], Body: act.body}
	spoiled["cut off"] = store.WithOrder(w.ctx, cut)
	return spoiled
}

// What an instance with an owner key is, and what of it is given, changes by an
// order for just that and once; any other changes nothing.
func orders(w *world) {
	key := w.keyed()
	for _, act := range w.orderedActs(key) {
		if act.before != nil {
			act.before()
		}
		before := w.all(tenant, teebroker.Decisions)
		for name, ctx := range w.spoiled(key, act) {
			w.want(fmt.Sprintf("%s, order %s", act.order.Act, name), act.do(ctx), store.Unordered)
		}
		if now := w.all(tenant, teebroker.Decisions); len(now) != len(before) {
			w.Errorf("%s: %d entries of what was not ordered", act.order.Act, len(now)-len(before))
		}
		ctx := w.ordered(key, act.body, act.order)
		w.check(act.do(ctx))
		if e := w.all(tenant, teebroker.Decisions); len(e) != len(before)+1 || !strings.Contains(string(e[len(e)-1].Body), `"order":`) {
			w.Errorf("%s: the entry does not name its order", act.order.Act)
		}
		switch act.order.Act {
		case teebroker.OrderDelete:
			w.want("deleted again", act.do(ctx), store.NotFound)
		case teebroker.OrderRetire, teebroker.OrderResumeEK: // which is live now
		default:
			w.want(fmt.Sprintf("%s, the same order again", act.order.Act), act.do(ctx), store.Unordered)
		}
	}
}

// An order is used once, also where nothing changed that it names.
func orderOnce(w *world) {
	key := w.keyed()
	doc, then := document("global", 1), document("global", 2)
	ctx := w.ordered(key, doc, teebroker.Order{Act: teebroker.OrderPolicy, Name: "base"})
	w.check(w.PutPolicy(ctx, tenant, "base", doc)) // which it is already
	w.putPolicy(key, then)
	w.want("an old document by an order that changed nothing", w.PutPolicy(ctx, tenant, "base", doc), store.Unordered)
	a := teebroker.Authorization{Tenant: tenant, Instance: instance, Purposes: []string{"disk"}, NotAfter: w.time().Add(time.Hour)}
	ctx = w.ordered(key, []byte("{}"), teebroker.Order{Act: teebroker.OrderAuthorize})
	got, err := w.Authorize(ctx, a)
	w.check(err)
	w.want("authorized again", second(w.Authorize(ctx, a)), store.Unordered)
	w.check(w.Revoke(w.ctx, tenant, instance, got.ID)) // by token alone
	w.want("authorized again, after it was revoked", second(w.Authorize(ctx, a)), store.Unordered)
	a.ID = [16]byte{9}
	w.want("an id that is not that of the order", second(w.Authorize(w.ordered(key, []byte("{}"), teebroker.Order{Act: teebroker.OrderAuthorize}), a)), store.Invalid)
}

// What is stored is what was signed, and a Broker finds all of it.
func ordersStored(w *world) {
	key := w.keyed()
	name, err := teebroker.OrderKey(key)
	w.check(err)
	w.check(w.PutBlob(w.ordered(key, []byte("{}"), teebroker.Order{Act: teebroker.OrderBlob, Name: "data", Blob: [32]byte{7}}), tenant, instance, "data", [32]byte{7}, nil))
	inst, err := w.Instance(w.ctx, teebroker.Lookup{Tenant: tenant, Claimed: instance})
	w.check(err)
	o := inst.Orders
	if inst.Owner != name || o == nil || len(o.Keys) != 1 || len(o.Policies) != 1 || len(o.Blobs) != 1 {
		w.Fatalf("instance %+v", inst)
	}
	for what, token := range map[string][]byte{"key": o.Keys[0], "registration": o.Registration.Token, "policy": o.Policies["base"].Token, "blob": o.Blobs["data"].Token} {
		if got, err := teebroker.VerifyOrder(token); err != nil || got.Issuer != name {
			w.Errorf("order of %s: %+v, %v", what, got, err)
		}
	}
	reg, _ := teebroker.VerifyOrder(o.Registration.Token)
	if reg.Body != sha256.Sum256(o.Registration.Body) {
		w.Errorf("the body of the registration is not the one that was signed")
	}
	if blob, _ := teebroker.VerifyOrder(o.Blobs["data"].Token); blob.Blob != [32]byte{7} {
		w.Errorf("the order of the blob is of another")
	}
	s, err := w.Status(w.ctx, tenant, instance)
	if err != nil || s.State != o.State() || s.State == [32]byte{} {
		w.Errorf("state %x, %v", s.State, err)
	}
	w.authorizationOrder(key, name)
	secret := []byte("in its place")
	w.check(w.PutSecret(w.ordered(key, secret, teebroker.Order{Act: teebroker.OrderSecret, Name: "data"}), tenant, instance, "data", secret))
	if inst, err = w.Instance(w.ctx, teebroker.Lookup{Tenant: tenant, Claimed: instance}); err != nil || len(inst.Orders.Blobs) != 0 {
		w.Errorf("the order of a blob that is no more: %+v, %v", inst.Orders, err)
	}
}

// authorizationOrder fails unless Check has the order of what it chose, where it is
// asked for it.
func (w *world) authorizationOrder(key *ecdsa.PrivateKey, name strictjson.Digest) {
	body := []byte(`{"purposes":["disk"]}`)
	a := teebroker.Authorization{Tenant: tenant, Instance: instance, Purposes: []string{"disk"}, NotAfter: w.time().Add(time.Hour), Uses: 3}
	a, err := w.Authorize(w.ordered(key, body, teebroker.Order{Act: teebroker.OrderAuthorize}), a)
	w.check(err)
	g := w.grant(1, "disk", 1)
	g.Ordered = true
	for range 2 { // for a release, and for its redelivery
		terms, err := w.Check(w.ctx, g)
		w.check(err)
		got, err := teebroker.VerifyOrder(terms.Order.Token)
		if err != nil || got.Issuer != name || got.ID != a.ID || terms.Authorization != a.ID || string(terms.Order.Body) != string(body) || terms.Uses != 3 {
			w.Errorf("terms %+v, order %+v, %v", terms, got, err)
		}
		w.check(second(w.commit(g)))
	}
}

// The first owner key may be anybody's who has a token; from then on only the key
// itself makes another one the owner's.
func ownerKeys(w *world) {
	w.owned() // by token, as before
	key, name := w.ownerKey()
	next, nextName := w.ownerKey()
	r := registration()
	r.OwnerKey = name
	w.want("a policy that is not ordered", w.registers(key, r), store.Invalid)
	w.want("an order where no key is", w.PutSecret(w.ordered(key, []byte("x"), teebroker.Order{Act: teebroker.OrderSecret, Name: "disk"}), tenant, instance, "disk", []byte("x")), store.Unordered)
	w.putPolicy(key, document("global", 1))
	w.want("a key that did not sign", w.registers(next, r), store.Unordered)
	w.check(w.registers(key, r))

	w.want("no key any more", second(w.Register(w.ctx, tenant, instance, registration())), store.Unordered)
	r.OwnerKey = nextName
	w.want("another key by itself", w.registers(next, r), store.Unordered)
	w.want("another key whose policies are not ordered", w.registers(key, r), store.Invalid)
	w.putPolicy(next, document("global", 1))
	w.check(w.registers(key, r))
	inst, err := w.Instance(w.ctx, teebroker.Lookup{Tenant: tenant, Claimed: instance})
	w.check(err)
	if inst.Owner != nextName || len(inst.Orders.Keys) != 2 {
		w.Fatalf("owner %x, %d keys", inst.Owner, len(inst.Orders.Keys))
	}
	for i, want := range []strictjson.Digest{name, nextName} {
		if o, err := teebroker.VerifyOrder(inst.Orders.Keys[i]); err != nil || o.Owner != want || o.Issuer != name {
			w.Errorf("key %d: %+v, %v", i, o, err)
		}
	}
	r.OwnerKey = name
	w.want("the key before", w.registers(key, r), store.Unordered)
	got, err := w.Secret(w.ctx, teebroker.Instance{Tenant: tenant, ID: instance, OwnerKeys: [][32]byte{name, nextName}}, "disk")
	if err != nil || string(got) != "secret of acme" {
		w.Errorf("a secret from before there was a key: %q, %v", got, err)
	}
}

// A document that instances of two keys ask for, neither changes alone.
func sharedPolicy(w *world) {
	key := w.keyed()
	stranger, name := w.ownerKey()
	doc := document("global", 2)
	w.want("by the order of somebody else", w.PutPolicy(w.ordered(stranger, doc, teebroker.Order{Act: teebroker.OrderPolicy, Name: "base"}), tenant, "base", doc), store.Unordered)
	before := w.generation()
	w.putPolicy(stranger, document("global", 1)) // as it is
	if w.generation() != before {
		w.Errorf("nothing changed, and the generation did")
	}
	r := registration()
	r.OwnerKey = name
	body, err := json.Marshal(r)
	w.check(err)
	neighbour := [16]byte{2}
	o := teebroker.Order{
		Act: teebroker.OrderRegister, Tenant: tenant, Instance: neighbour, Owner: name,
		Body: sha256.Sum256(body), Expires: w.time().Add(time.Minute).Unix(),
	}
	w.check(second(w.Register(w.signed(stranger, body, o), tenant, neighbour, r)))
	for i, k := range []*ecdsa.PrivateKey{key, stranger} {
		ctx := w.ordered(k, doc, teebroker.Order{Act: teebroker.OrderPolicy, Name: "base"})
		w.want(fmt.Sprintf("changed by key %d alone", i), w.PutPolicy(ctx, tenant, "base", doc), store.Unordered)
	}
	// What the operator adds has no order, and changes by none.
	r = registration()
	r.OwnerKey, _ = teebroker.OrderKey(key)
	body, err = json.Marshal(r)
	w.check(err)
	ctx := w.ordered(key, body, teebroker.Order{Act: teebroker.OrderRegister, Owner: r.OwnerKey})
	w.check(w.PutPolicy(w.ctx, tenant, "operator", document("global", 3)))
	r.Policies = slices.Insert(slices.Clone(r.Policies), 0, "operator")
	w.check(second(w.Register(ctx, tenant, instance, r)))
	w.check(w.PutPolicy(w.ctx, tenant, "operator", document("global", 4)))
	r.AllowUnpinnedBroker = true
	w.want("more than the order says", second(w.Register(w.ordered(key, body, teebroker.Order{Act: teebroker.OrderRegister, Owner: r.OwnerKey}), tenant, instance, r)), store.Invalid)
}
