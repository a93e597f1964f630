package teebroker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/owner"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/memory"
)

// keyed is an instance with an owner key, beside that of world.
var keyed = [16]byte{15: 7}

// database is a store that somebody edits between the owner and the Broker.
type database struct {
	*memory.Owner
	inst  func(*teebroker.Instance)
	terms func(*teebroker.Terms)

	grants bool // generation and policies of a Grant are those of the authorization
}

func (d *database) Instance(ctx context.Context, l teebroker.Lookup) (teebroker.Instance, error) {
	i, err := d.Owner.Instance(ctx, l)
	if d.inst != nil && err == nil {
		d.inst(&i)
	}
	return i, err
}

func (d *database) Check(ctx context.Context, g teebroker.Grant) (teebroker.Terms, error) {
	if d.grants {
		as, err := d.Owner.Authorizations(ctx, g.Tenant, g.Instance)
		if err != nil || len(as) == 0 {
			return teebroker.Terms{}, teebroker.NotAuthorized
		}
		inst, err := d.Owner.Instance(ctx, teebroker.Lookup{Tenant: g.Tenant, Claimed: g.Instance})
		if err != nil {
			return teebroker.Terms{}, err
		}
		g.Generation, g.Policies = as[0].Generation, nil
		for _, p := range inst.Policies {
			g.Policies = append(g.Policies, p.Digest())
		}
	}
	t, err := d.Owner.Check(ctx, g)
	if d.terms != nil && err == nil {
		d.terms(&t)
	}
	return t, err
}

// reading counts how often a body is read.
type reading struct {
	store.Bodies
	n int
}

func (r *reading) Registration(tenant string, id [16]byte, body []byte) (teebroker.Instance, []string, error) {
	r.n++
	return r.Bodies.Registration(tenant, id, body)
}

func (r *reading) Authorization(tenant string, id [16]byte, body []byte) (teebroker.Authorization, error) {
	r.n++
	return r.Bodies.Authorization(tenant, id, body)
}

// orderWorld is a world whose owner orders what is done to keyed.
type orderWorld struct {
	*world
	*database
	key    *ecdsa.PrivateKey
	bodies *reading
	used   int // how often an attestation key opened something
}

// fakeDecoders read {"measurement": "…"} of fake hardware.
func fakeDecoders() policy.Decoders {
	return policy.Decoders{faketee.Format: func(object []byte, _ bool) (policy.Rule, error) {
		var j struct {
			Measurement string `json:"measurement"`
		}
		if err := strictjson.Unmarshal(object, &j); err != nil {
			return nil, err
		}
		return policy.Claim{Name: "snp.measurement", Op: evidence.Equal, Want: evidence.Text(j.Measurement)}, nil
	}}
}

func measuredDocument(scope, measurement string) []byte {
	return fmt.Appendf(nil, `{"policy":"teebroker/1","name":"n","version":"1","scope":%q,"require":{"snp-report":[{"measurement":%q}]}}`, scope, measurement)
}

func newOrderWorld(t testing.TB) *orderWorld {
	t.Helper()
	w := &orderWorld{database: &database{}, key: newOwnerKey(t), bodies: &reading{}}
	k := must(keywrap.Generate(keywrap.P384))
	w.world = newWorld(t, func(c *teebroker.Config) {
		w.Owner = c.Directory.(*memory.Store).Owner(fakeDecoders())
		c.Directory, c.Secrets, c.Ledger, c.Orders = w.database, w.database, w.database, w.bodies
		c.Keys = must(teebroker.NewKeySet(map[string][]teebroker.AttestationKey{
			tenant: {{ID: "one", Opener: counted{k, &w.used, nil}}},
		}))
		c.Wrap = must(keywrap.NewWrapKey("wrap", [32]byte{1}))
	})
	w.putPolicy(w.key, "base", measuredDocument("global", "good"))
	w.registers(w.key, w.registration())
	return w
}

func (w *orderWorld) registration() store.Registration {
	return store.Registration{
		Policies: []string{"base"}, Launch: store.Launch{Own: true}, Suites: []keywrap.Suite{keywrap.X25519},
		OwnerKey: must(teebroker.OrderKey(w.key)),
	}
}

// by is the context of an act by an order of key.
func (w *orderWorld) by(key *ecdsa.PrivateKey, body []byte, o teebroker.Order) context.Context {
	w.Helper()
	o.Tenant, o.Body, o.Expires = tenant, sha256.Sum256(body), w.time().Add(time.Minute).Unix()
	if o.Act != teebroker.OrderPolicy {
		o.Instance = keyed
		if s, err := w.Status(w.Context(), tenant, keyed); err == nil {
			o.Generation = s.Generation
			if o.Act == teebroker.OrderAuthorize {
				o.State = s.State
			}
		}
	}
	return store.WithOrder(w.Context(), teebroker.SignedOrder{Token: must(teebroker.SignOrder(key, o)), Body: body})
}

func (w *orderWorld) putPolicy(key *ecdsa.PrivateKey, name string, doc []byte) {
	w.Helper()
	w.check(w.Owner.PutPolicy(w.by(key, doc, teebroker.Order{Act: teebroker.OrderPolicy, Name: name}), tenant, name, doc))
}

func (w *orderWorld) registers(key *ecdsa.PrivateKey, r store.Registration) {
	w.Helper()
	body := must(json.Marshal(r))
	_, err := w.Owner.Register(w.by(key, body, teebroker.Order{Act: teebroker.OrderRegister, Owner: r.OwnerKey}), tenant, keyed, r)
	w.check(err)
}

// blob has the secret, as w's owner wraps it, and is registered.
func (w *orderWorld) blob(edit func(*owner.Blob)) keywrap.Wrapped {
	w.Helper()
	b := owner.Blob{
		Keys: must(w.broker.KeysDocument(w.Context(), tenant)), Broker: w.broker.ID(), Time: w.time(), Tenant: tenant,
		Instance: keyed, Purpose: purpose, Owner: must(teebroker.OrderKey(w.key)),
	}
	apply(edit, &b)
	return must(owner.Wrap(b, []byte(secret)))
}

func (w *orderWorld) putBlob(b keywrap.Wrapped) {
	w.Helper()
	ctx := w.by(w.key, []byte("{}"), teebroker.Order{Act: teebroker.OrderBlob, Name: purpose, Blob: b.Digest()})
	w.check(w.Owner.PutBlob(ctx, tenant, keyed, purpose, b.Digest(), must(b.MarshalJSON())))
}

// permit orders an authorization, one use unless more is in the body.
func (w *orderWorld) permit(more string) teebroker.Authorization {
	w.Helper()
	body := fmt.Appendf(nil, `{"purposes":[%q],"not_after":%q%s}`, purpose, w.time().Add(time.Hour).Format(time.RFC3339), more)
	a := must(store.ParseAuthorization(tenant, keyed, body))
	a, err := w.Owner.Authorize(w.by(w.key, body, teebroker.Order{Act: teebroker.OrderAuthorize}), a)
	w.check(err)
	return a
}

// ask is what a guest of keyed gets with a new key.
func (w *orderWorld) ask(measurement string, host [16]byte) (*guest.Session, teebroker.Response, error) {
	w.Helper()
	s := w.session(func(c *guest.Config) { c.Instance = keyed })
	id := teebroker.LaunchID(tenant, host)
	r, err := w.answer(w.request(s, faketee.Guest{Measurement: measurement, HostData: id[:]}))
	return s, r, err
}

// releases fails unless the secret is released.
func (w *orderWorld) releases(what string) {
	w.Helper()
	s, r, err := w.ask("good", keyed)
	if err != nil {
		w.Errorf("%s: %v", what, err)
		return
	}
	w.opens(s, r)
}

// refuses fails unless nothing is released or unwrapped, and an entry says why.
func (w *orderWorld) refuses(what, measurement, why string) {
	w.Helper()
	used := w.used
	_, r, err := w.ask(measurement, keyed)
	w.refusedWith(what, r, err, teebroker.NotAuthorized)
	if teebroker.Code(err) != string(teebroker.Denied) || w.used != used {
		w.Errorf("%s: a peer hears %s, unwrapped %d", what, teebroker.Code(err), w.used-used)
	}
	es := w.entries(teebroker.Refusals)
	if len(es) == 0 || !strings.Contains(string(es[len(es)-1].Body), "order of "+why) {
		w.Errorf("%s: the entry does not speak of the order of %s: %v", what, why, err)
	}
}

// What an owner ordered is released, and while nothing changes nothing is verified
// or read again.
func TestOrdered(t *testing.T) {
	w := newOrderWorld(t)
	w.putBlob(w.blob(nil))
	w.permit(`,"uses":3`)
	w.releases("ordered")
	read := w.bodies.n
	w.releases("again")
	if w.bodies.n != read || read != 2 {
		t.Errorf("read %d bodies, and %d for the next", read, w.bodies.n-read)
	}
	if _, _, err := w.ask("bad", keyed); !errors.Is(err, teebroker.Denied) {
		t.Errorf("another measurement: %v", err)
	}
	if _, _, err := w.ask("good", instance); !errors.Is(err, teebroker.LaunchIdentity) {
		t.Errorf("another launch identity: %v", err)
	}
	got, err := w.broker.Rewrap(t.Context(), tenant, keyed, purpose, nil)
	w.check(err)
	if h := must(got.Header()); [32]byte(h.Owner) != must(teebroker.OrderKey(w.key)) {
		t.Errorf("rewrapped for %x", h.Owner)
	}
	cfg := w.cfg
	cfg.Orders = nil
	w.broker = must(teebroker.New(cfg))
	_, r, err := w.ask("good", keyed)
	w.refusedWith("nobody to read orders", r, err, teebroker.Unavailable)
}

// Who edits the database can take away what the owner ordered, and can add nothing.
func TestEditedDatabase(t *testing.T) {
	w := newOrderWorld(t)
	w.putBlob(w.blob(nil))
	before, err := w.Owner.Instance(t.Context(), teebroker.Lookup{Tenant: tenant, Claimed: keyed})
	w.check(err)
	// What was in force once: another policy, another registration and blob.
	w.putPolicy(w.key, "base", measuredDocument("global", "better"))
	r := w.registration()
	r.AllowUnpinnedBroker = true
	w.registers(w.key, r)
	w.putBlob(w.blob(nil))
	w.putPolicy(w.key, "other", measuredDocument("global", "bad"))
	w.putPolicy(w.key, "narrow", measuredDocument("instance", "better"))
	thief := newOwnerKey(t)
	thiefs := must(teebroker.OrderKey(thief))
	token := func(k *ecdsa.PrivateKey, body []byte, o teebroker.Order) []byte {
		o.Tenant, o.Body, o.Expires = tenant, sha256.Sum256(body), 1
		if o.Act != teebroker.OrderPolicy && o.Instance == (strictjson.UUID{}) {
			o.Instance = keyed
		}
		return must(teebroker.SignOrder(k, o))
	}
	docs := func(scope, m string) []*policy.Policy {
		return []*policy.Policy{must(policy.Parse(measuredDocument(scope, m), fakeDecoders()))}
	}
	stranger := w.registration()
	stranger.OwnerKey = thiefs
	body := must(json.Marshal(stranger))
	w.permit(`,"uses":2`)
	set := func(m map[string]teebroker.SignedOrder, name string, token []byte) {
		m[name] = teebroker.SignedOrder{Token: token}
	}
	ownKey := w.registration().OwnerKey
	for name, tt := range map[string]struct {
		why, measurement string
		edit             func(*teebroker.Instance)
	}{
		"no orders":           {"register", "better", func(i *teebroker.Instance) { i.Orders = nil }},
		"no owner key":        {"register", "better", func(i *teebroker.Instance) { i.Owner = [32]byte{} }},
		"another owner key":   {"the owner key", "better", func(i *teebroker.Instance) { i.Owner = thiefs }},
		"no keys":             {"the owner key", "better", func(i *teebroker.Instance) { i.Orders.Keys = nil }},
		"too many keys":       {"the owner key", "better", func(i *teebroker.Instance) { i.Orders.Keys = make([][]byte, teebroker.MaxOwnerKeys+1) }},
		"an edited key":       {"the owner key", "better", func(i *teebroker.Instance) { i.Orders.Keys[0] = i.Orders.Keys[0][1:] }},
		"a key of no handing": {"the owner key", "better", func(i *teebroker.Instance) { i.Orders.Keys[0] = i.Orders.Policies["base"].Token }},
		"a thief's handing": {"the owner key", "better", func(i *teebroker.Instance) {
			i.Owner = thiefs
			i.Orders.Keys = append(i.Orders.Keys, token(thief, body, teebroker.Order{Act: teebroker.OrderRegister, Owner: thiefs, Generation: 2}))
		}},
		"a key that comes before the first": {"the owner key", "better", func(i *teebroker.Instance) {
			i.Orders.Keys = [][]byte{token(thief, body, teebroker.Order{Act: teebroker.OrderRegister, Owner: thiefs}), i.Orders.Keys[0]}
		}},
		"another instance's key": {"the owner key", "better", func(i *teebroker.Instance) {
			i.Orders.Keys[0] = token(w.key, body, teebroker.Order{Act: teebroker.OrderRegister, Owner: ownKey, Instance: instance})
		}},
		"no registration":     {"register", "better", func(i *teebroker.Instance) { i.Orders.Registration = teebroker.SignedOrder{} }},
		"an edited body":      {"register", "better", func(i *teebroker.Instance) { i.Orders.Registration.Body = body }},
		"the body of nothing": {"register", "better", func(i *teebroker.Instance) { i.Orders.Registration.Body = nil }},
		"a thief's registration": {"register", "better", func(i *teebroker.Instance) {
			i.Orders.Registration = teebroker.SignedOrder{Token: token(thief, body, teebroker.Order{Act: teebroker.OrderRegister, Owner: ownKey}), Body: body}
		}},
		"a registration for another key": {"register", "better", func(i *teebroker.Instance) {
			i.Orders.Registration = teebroker.SignedOrder{Token: token(w.key, body, teebroker.Order{Act: teebroker.OrderRegister, Owner: ownKey}), Body: body}
		}},
		"another instance's registration": {"register", "better", func(i *teebroker.Instance) {
			b := must(json.Marshal(w.registration()))
			i.Orders.Registration = teebroker.SignedOrder{Token: token(w.key, b, teebroker.Order{Act: teebroker.OrderRegister, Owner: ownKey, Instance: instance}), Body: b}
		}},
		"the order of another act": {"register", "better", func(i *teebroker.Instance) { i.Orders.Registration.Token = i.Orders.Policies["base"].Token }},
		"an earlier generation":    {"register", "better", func(i *teebroker.Instance) { i.Generation = 1 }},
		"another policy":           {"policy", "bad", func(i *teebroker.Instance) { i.Policies = docs("global", "bad") }},
		"no policy":                {"policy", "bad", func(i *teebroker.Instance) { i.Policies = nil }},
		"a nil policy":             {"policy", "bad", func(i *teebroker.Instance) { i.Policies = []*policy.Policy{nil} }},
		"no order of the policy":   {"policy", "better", func(i *teebroker.Instance) { i.Orders.Policies = nil }},
		"a thief's order of the policy": {"policy", "better", func(i *teebroker.Instance) {
			set(i.Orders.Policies, "base", token(thief, i.Policies[0].Document, teebroker.Order{Act: teebroker.OrderPolicy, Name: "base"}))
		}},
		"the order of the policy before": {"policy", "better", func(i *teebroker.Instance) { i.Orders.Policies["base"] = before.Orders.Policies["base"] }},
		"the order of another policy": {"policy", "bad", func(i *teebroker.Instance) {
			i.Policies = docs("global", "bad")
			set(i.Orders.Policies, "base", token(w.key, i.Policies[0].Document, teebroker.Order{Act: teebroker.OrderPolicy, Name: "other"}))
		}},
		"no order of the blob": {"blob", "better", func(i *teebroker.Instance) {
			i.Orders.Blobs[purpose] = teebroker.SignedOrder{}
		}},
		"a thief's order of the blob": {"blob", "better", func(i *teebroker.Instance) {
			set(i.Orders.Blobs, purpose, token(thief, nil, teebroker.Order{Act: teebroker.OrderBlob, Name: purpose, Generation: 1, Blob: i.Blobs[purpose].Digest}))
		}},
		"another instance's blob": {"blob", "better", func(i *teebroker.Instance) {
			set(i.Orders.Blobs, purpose, token(w.key, nil, teebroker.Order{Act: teebroker.OrderBlob, Name: purpose, Generation: 1, Blob: i.Blobs[purpose].Digest, Instance: instance}))
		}},
		"another purpose's blob": {"blob", "better", func(i *teebroker.Instance) {
			set(i.Orders.Blobs, purpose, token(w.key, nil, teebroker.Order{Act: teebroker.OrderBlob, Name: "data", Generation: 1, Blob: i.Blobs[purpose].Digest}))
		}},
		// Of what was signed once, an authorization takes what was in force when it was given.
		"the registration before": {"authorize", "better", func(i *teebroker.Instance) { i.Orders.Registration = before.Orders.Registration }},
		"the policy before": {"authorize", "good", func(i *teebroker.Instance) {
			i.Policies, i.Orders.Policies = before.Policies, before.Orders.Policies
		}},
		"the blob before": {"authorize", "better", func(i *teebroker.Instance) {
			i.Blobs, i.Orders.Blobs = before.Blobs, before.Orders.Blobs
		}},
	} {
		w.inst = tt.edit
		w.lenient(func() { w.refuses(name, tt.measurement, tt.why) })
	}
	for name, edit := range map[string]func(*teebroker.Instance){
		"another blob":    func(i *teebroker.Instance) { i.Blobs[purpose] = w.copyOf(w.blob(nil)) },
		"the blob before": func(i *teebroker.Instance) { i.Blobs = before.Blobs },
		"no order at all": func(i *teebroker.Instance) { delete(i.Orders.Blobs, purpose) },
		"a blob of no owner": func(i *teebroker.Instance) {
			i.Blobs[purpose] = w.copyOf(w.blob(func(b *owner.Blob) { b.Owner = [32]byte{} }))
		},
		"stripped of its key": func(i *teebroker.Instance) {
			i.Owner, i.Orders, i.Policies = [32]byte{}, nil, docs("global", "better")
		},
	} {
		w.inst = edit
		used := w.used
		var r teebroker.Response
		w.lenient(func() { _, r, err = w.ask("better", keyed) })
		w.refusedWith(name, r, err, teebroker.ForeignBlob)
		if w.used != used {
			t.Errorf("%s: it was unwrapped", name)
		}
	}
	// What the registration says is read from what was signed.
	w.inst = func(i *teebroker.Instance) {
		i.Launch, i.AllowSharedLaunchIdentity = nil, true
		i.Suites = keywrap.Allow{}
	}
	_, _, err = w.ask("better", instance)
	w.refusedWith("launch identity", teebroker.Response{}, err, teebroker.LaunchIdentity)
	w.inst = func(i *teebroker.Instance) { i.Policies = append(i.Policies, docs("global", "bad")...) }
	_, _, err = w.ask("better", keyed)
	w.refusedWith("an operator's policy narrows", teebroker.Response{}, err, teebroker.Denied)
	w.inst = nil
	s, res, err := w.ask("better", keyed)
	w.check(err)
	w.opens(s, res)
}

// lenient runs f while the store takes any generation and policy for those of its
// authorizations, as if their rows had been edited with the rest.
func (w *orderWorld) lenient(f func()) {
	w.grants = true
	f()
	w.grants = false
}

func (w *orderWorld) copyOf(b keywrap.Wrapped) teebroker.Blob {
	return teebroker.Blob{Digest: b.Digest(), Wrapped: must(b.MarshalJSON())}
}

// Nothing is released by an authorization that is not, in all that it says, the one
// that its owner ordered.
func TestEditedAuthorization(t *testing.T) {
	w := newOrderWorld(t)
	w.putBlob(w.blob(nil))
	other := w.permit(`,"uses":9`)
	w.check(w.Owner.Revoke(t.Context(), tenant, keyed, other.ID))
	var kept teebroker.SignedOrder
	w.terms = func(terms *teebroker.Terms) { kept = terms.Order }
	w.permit(`,"uses":20`)
	w.releases("as ordered")
	past := fmt.Appendf(nil, `{"purposes":[%q],"not_after":%q}`, purpose, w.time().Format(time.RFC3339))
	future := fmt.Appendf(nil, `{"purposes":[%q],"not_before":%q,"not_after":%q}`, purpose, w.time().Add(time.Minute).Format(time.RFC3339), w.time().Add(time.Hour).Format(time.RFC3339))
	hour := w.time().Add(time.Hour).Format(time.RFC3339)
	order, err := teebroker.VerifyOrder(kept.Token)
	w.check(err)
	resigned := func(k *ecdsa.PrivateKey, body []byte, edit func(*teebroker.Order)) func(*teebroker.Terms) {
		o := order
		o.Body = sha256.Sum256(body)
		apply(edit, &o)
		token := must(teebroker.SignOrder(k, o))
		return func(terms *teebroker.Terms) { terms.Order = teebroker.SignedOrder{Token: token, Body: body} }
	}
	for name, edit := range map[string]func(*teebroker.Terms){
		"no order":              func(terms *teebroker.Terms) { terms.Order = teebroker.SignedOrder{} },
		"no body":               func(terms *teebroker.Terms) { terms.Order.Body = nil },
		"another body":          func(terms *teebroker.Terms) { terms.Order.Body = slices.Concat(kept.Body, []byte(" ")) },
		"an edited order":       func(terms *teebroker.Terms) { terms.Order.Token = kept.Token[:len(kept.Token)-4] },
		"another authorization": func(terms *teebroker.Terms) { terms.Authorization[0]++ },
		"more uses":             func(terms *teebroker.Terms) { terms.Uses = 21 },
		"no uses":               func(terms *teebroker.Terms) { terms.Uses = 0 },
		"a thief's":             resigned(newOwnerKey(t), kept.Body, nil),
		"another instance's":    resigned(w.key, kept.Body, func(o *teebroker.Order) { o.Instance = instance }),
		"another tenant's":      resigned(w.key, kept.Body, func(o *teebroker.Order) { o.Tenant = "other" }),
		"an earlier generation": resigned(w.key, kept.Body, func(o *teebroker.Order) { o.Generation-- }),
		"another state":         resigned(w.key, kept.Body, func(o *teebroker.Order) { o.State[0]++ }),
		"another act":           resigned(w.key, kept.Body, func(o *teebroker.Order) { o.Act, o.State = teebroker.OrderDelete, [32]byte{} }),
		"another id":            resigned(w.key, kept.Body, func(o *teebroker.Order) { o.ID[0]++ }),
		"its window is over":    resigned(w.key, past, nil),
		"its window is to come": resigned(w.key, future, nil),
		"another purpose":       resigned(w.key, fmt.Appendf(nil, `{"purposes":["data"],"uses":20,"not_after":%q}`, hour), nil),
		"another profile":       resigned(w.key, fmt.Appendf(nil, `{"purposes":[%q],"uses":20,"not_after":%q,"profiles":["kbs-svsm"]}`, purpose, hour), nil),
		"another chip":          resigned(w.key, fmt.Appendf(nil, `{"purposes":[%q],"uses":20,"not_after":%q,"chips":["0102"]}`, purpose, hour), nil),
		"not a body":            resigned(w.key, []byte(`{"purposes":[]}`), nil),
	} {
		w.terms = edit
		w.refuses(name, "good", "authorize")
	}
	w.terms = nil
	w.releases("as ordered, again")
}

// What was sealed for a key is delivered to it again after the window.
func TestOrderedRedelivery(t *testing.T) {
	w := newOrderWorld(t)
	w.putBlob(w.blob(nil))
	w.permit("")
	s, first, err := w.ask("good", keyed)
	w.check(err)
	w.pass(time.Hour + time.Minute)
	id := teebroker.LaunchID(tenant, keyed)
	again, err := w.answer(w.request(s, faketee.Guest{Measurement: "good", HostData: id[:]}))
	if err != nil || again.Release != first.Release {
		t.Errorf("%x, %v", again.Release, err)
	}
	w.opens(s, again)
}

// A key is handed over by the one before, and what was wrapped for that one still
// opens for an instance that has both.
func TestHandedOver(t *testing.T) {
	w := newOrderWorld(t)
	b := w.blob(nil)
	w.putBlob(b)
	before, old := w.key, w.registration().OwnerKey
	w.key = newOwnerKey(t)
	w.putPolicy(w.key, "base", measuredDocument("global", "good"))
	w.registers(before, w.registration())
	w.permit("")
	w.refuses("a blob that the key before ordered", "good", "blob")
	w.putBlob(b)
	w.permit("")
	w.releases("handed over")
	inst, err := w.Owner.Instance(t.Context(), teebroker.Lookup{Tenant: tenant, Claimed: keyed})
	w.check(err)
	if len(inst.Orders.Keys) != 2 {
		t.Fatalf("%d keys", len(inst.Orders.Keys))
	}
	w.inst = func(i *teebroker.Instance) {
		i.Orders.Keys = i.Orders.Keys[1:] // as if there had been no other
	}
	w.refuses("without the key before", "good", "the owner key")
	w.inst = func(i *teebroker.Instance) { i.Orders.Keys, i.Owner = i.Orders.Keys[:1], old }
	w.refuses("back to the key before", "good", "register")
	w.inst = nil
	r := w.registration()
	r.AllowUnpinnedBroker = true
	w.registers(w.key, r)
	w.permit("")
	w.releases("registered again")
}

// What a broker wraps for the next epoch names the owner key, so that no instance
// without it opens the state.
func TestOrderedEpochs(t *testing.T) {
	w := newOrderWorld(t)
	first := w.blob(func(b *owner.Blob) { b.Epoch = 1 })
	body := []byte("{}")
	begin := func(b teebroker.Blob) error {
		ctx := w.by(w.key, body, teebroker.Order{Act: teebroker.OrderEpoch, Name: purpose, Blob: b.Digest})
		_, err := w.Owner.Begin(ctx, tenant, keyed, purpose, store.EpochStart{Mode: "boot", Blob: b})
		return err
	}
	blob := w.copyOf(first)
	blob.Epoch = 1
	w.check(begin(blob))
	w.permit("")
	_, r, err := w.ask("good", keyed)
	w.check(err)
	next := must(keywrap.ParseWrapped(r.NextWrapped))
	if h := must(next.Header()); h.Owner != w.registration().OwnerKey || h.By != keywrap.ByBroker {
		t.Errorf("the next key is of owner %x", h.Owner)
	}
	w.inst = func(i *teebroker.Instance) { delete(i.Orders.Blobs, purpose) }
	w.permit(`,"outlives_confirm":true`)
	w.lenient(func() { w.refuses("the owner's first key, without its order", "good", "authorize") })
	w.inst = nil
	renewed, err := w.broker.Renew(t.Context(), tenant, keyed, purpose, 1, nil)
	w.check(err)
	if h := must(must(keywrap.ParseWrapped(renewed.Wrapped)).Header()); h.Owner != w.registration().OwnerKey {
		t.Errorf("renewed for owner %x", h.Owner)
	}
	ctx := w.by(w.key, body, teebroker.Order{Act: teebroker.OrderRecover, Name: purpose})
	_, err = w.Owner.Recover(ctx, tenant, keyed, purpose, renewed, 1)
	w.check(err)
	w.permit("")
	_, _, err = w.ask("good", keyed)
	w.check(err)
	w.permit("")
	w.inst = func(i *teebroker.Instance) { i.Owner, i.Orders = [32]byte{}, nil }
	_, r, err = w.ask("good", keyed)
	w.refusedWith("an instance stripped of its key", r, err, teebroker.ForeignBlob)
}

func BenchmarkAnswerOrdered(b *testing.B) {
	w := newOrderWorld(b)
	w.putBlob(w.blob(nil))
	w.permit(`,"uses":1000000`)
	b.ReportAllocs()
	for b.Loop() {
		w.releases("ordered")
	}
}
