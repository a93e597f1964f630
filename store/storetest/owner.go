package storetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/store"
)

// An instance is what was registered, and the same again changes nothing.
func register(w *world) {
	w.owned()
	before := w.generation()
	status := w.register(tenant, instance, registration())
	if status.Generation != before || status.ID != instance || !slices.Equal(status.Secrets, []string{"disk"}) || len(status.Blobs) != 0 {
		w.Errorf("the same again: %+v", status)
	}
	r := registration()
	r.Suites = append(r.Suites, keywrap.JWERSA)
	r.MinRSABits, r.Launch.Own, r.AllowUnpinnedBroker = 3072, false, true
	if status = w.register(tenant, instance, r); status.Generation != before+1 {
		w.Errorf("a change: %+v", status)
	}
	got, err := w.Status(w.ctx, tenant, instance)
	a, _ := json.Marshal(got.Registration)
	b, _ := json.Marshal(r)
	if err != nil || !bytes.Equal(a, b) || got.Generation != before+1 {
		w.Errorf("status %s, %v", a, err)
	}
	inst, err := w.Instance(w.ctx, teebroker.Lookup{Tenant: tenant, Claimed: instance})
	if err != nil || inst.Generation != before+1 || inst.Launch != nil || !inst.AllowUnpinnedBroker || inst.AllowSharedLaunchIdentity ||
		inst.Suites.MinRSABits != 3072 || !slices.Equal(inst.Suites.Suites, r.Suites) || inst.Image != "an image" ||
		!maps.EqualFunc(inst.Profiles, r.Profiles, slices.Equal) || len(inst.Policies) != 1 || !bytes.Equal(inst.Policies[0].Document, document("global", 1)) {
		w.Errorf("instance %+v, %v", inst, err)
	}
	ids, err := w.Instances(w.ctx, tenant)
	if err != nil || !slices.Equal(ids, [][16]byte{instance}) {
		w.Errorf("%v, %v", ids, err)
	}
	w.want("status of none", second(w.Status(w.ctx, tenant, [16]byte{9})), store.NotFound)
	w.want("authorizations of none", second(w.Authorizations(w.ctx, tenant, [16]byte{9})), store.NotFound)
}

// Owners can't store what can't be meant; nothing changes.
func invalid(w *world) {
	w.owned()
	w.check(w.PutPolicy(w.ctx, tenant, "image", document("image", 1)))
	for name, edit := range map[string]func(*store.Registration){
		"no policy":            func(r *store.Registration) { r.Policies = nil },
		"unknown policy":       func(r *store.Registration) { r.Policies = []string{"base", "none"} },
		"policy twice":         func(r *store.Registration) { r.Policies = []string{"base", "base"} },
		"policy by path":       func(r *store.Registration) { r.Policies = []string{"../base"} },
		"partial only":         func(r *store.Registration) { r.Policies = []string{"image"} },
		"narrow first":         func(r *store.Registration) { r.Policies = []string{"image", "base"} },
		"no suite":             func(r *store.Registration) { r.Suites = nil },
		"unknown suite":        func(r *store.Registration) { r.Suites = []keywrap.Suite{"RSA1_5"} },
		"RSA without bits":     func(r *store.Registration) { r.Suites = []keywrap.Suite{keywrap.JWERSA} },
		"bits without RSA":     func(r *store.Registration) { r.MinRSABits = 3072 },
		"dot segment":          func(r *store.Registration) { r.Profiles = map[string][]nonce.Profile{"a/../b": {nonce.ProfileV1}} },
		"no profile":           func(r *store.Registration) { r.Profiles = map[string][]nonce.Profile{"a": {}} },
		"profile of verifying": func(r *store.Registration) { r.Profiles = map[string][]nonce.Profile{"a": {nonce.ProfileVerify}} },
		"zero claim": func(r *store.Registration) {
			r.Launch.Claims = []store.Claim{{Name: "snp.host_data", Want: make([]byte, 32)}}
		},
		"claim of nothing": func(r *store.Registration) { r.Launch.Claims = []store.Claim{{Want: []byte{1}}} },
		"overlong image":   func(r *store.Registration) { r.Image = strings.Repeat("a", 129) },
	} {
		r := registration()
		edit(&r)
		w.want(name, second(w.Register(w.ctx, tenant, instance, r)), store.Invalid)
		w.want(name+", new", second(w.Register(w.ctx, tenant, [16]byte{2}, r)), store.Invalid)
	}
	first := w.authorize(nil)
	for name, tt := range map[string]struct {
		edit func(*teebroker.Authorization)
		want error
	}{
		"no purpose":       {func(a *teebroker.Authorization) { a.Purposes = nil }, store.Invalid},
		"leading slash":    {func(a *teebroker.Authorization) { a.Purposes = []string{"/disk"} }, store.Invalid},
		"negative uses":    {func(a *teebroker.Authorization) { a.Uses = -1 }, store.Invalid},
		"no end":           {func(a *teebroker.Authorization) { a.NotAfter = time.Time{} }, store.Invalid},
		"ends first":       {func(a *teebroker.Authorization) { a.NotBefore = a.NotAfter }, store.Invalid},
		"over":             {func(a *teebroker.Authorization) { a.NotAfter = w.time() }, store.Invalid},
		"for ever":         {func(a *teebroker.Authorization) { a.NotAfter = a.NotAfter.AddDate(500, 0, 0) }, store.Invalid},
		"empty profiles":   {func(a *teebroker.Authorization) { a.Profiles = []nonce.Profile{} }, store.Invalid},
		"unknown profile":  {func(a *teebroker.Authorization) { a.Profiles = []nonce.Profile{"v9"} }, store.Invalid},
		"empty chips":      {func(a *teebroker.Authorization) { a.Chips = [][]byte{} }, store.Invalid},
		"masked chip":      {func(a *teebroker.Authorization) { a.Chips = [][]byte{make([]byte, 64)} }, store.Invalid},
		"unknown instance": {func(a *teebroker.Authorization) { a.Instance = [16]byte{9} }, store.NotFound},
		"unknown tenant":   {func(a *teebroker.Authorization) { a.Tenant = other }, store.NotFound},
		"no tenant":        {func(a *teebroker.Authorization) { a.Tenant = "" }, store.Invalid},
		"id used before":   {func(a *teebroker.Authorization) { a.ID = first.ID }, store.Conflict},
	} {
		a := teebroker.Authorization{Tenant: tenant, Instance: instance, Purposes: []string{"disk"}, NotAfter: w.time().Add(time.Hour)}
		tt.edit(&a)
		w.want("authorized: "+name, second(w.Authorize(w.ctx, a)), tt.want)
	}
	for name, err := range map[string]error{
		"tenant":          second(w.Register(w.ctx, "Acme", instance, registration())),
		"no id":           second(w.Register(w.ctx, tenant, [16]byte{}, registration())),
		"policy name":     w.PutPolicy(w.ctx, tenant, "a/b", document("global", 1)),
		"policy":          w.PutPolicy(w.ctx, tenant, "base", []byte("{}")),
		"policy's tenant": w.PutPolicy(w.ctx, "", "base", document("global", 1)),
		"token":           w.AddTenant(w.ctx, tenant, [32]byte{}),
		"token's tenant":  w.AddTenant(w.ctx, "A", [32]byte{1}),
	} {
		w.want(name, err, store.Invalid)
	}
	if ids, err := w.Instances(w.ctx, tenant); err != nil || len(ids) != 1 {
		w.Errorf("%v, %v", ids, err)
	}
	if as, err := w.Authorizations(w.ctx, tenant, instance); err != nil || len(as) != 1 || as[0].State != "OPEN" {
		w.Errorf("%+v, %v", as, err)
	}
}

func policies(w *world) {
	w.owned()
	w.check(w.PutPolicy(w.ctx, tenant, "image", document("image", 1)))
	got, err := w.Policies(w.ctx, tenant)
	if err != nil || !slices.Equal(got, []string{"base", "image"}) {
		w.Errorf("%v, %v", got, err)
	}
	doc, err := w.Policy(w.ctx, tenant, "base")
	if err != nil || !bytes.Equal(doc, document("global", 1)) {
		w.Errorf("%s, %v", doc, err)
	}
	w.want("none", second(w.Policy(w.ctx, tenant, "none")), store.NotFound)
	before := w.generation()
	w.check(w.PutPolicy(w.ctx, tenant, "base", doc))
	w.check(w.PutPolicy(w.ctx, tenant, "image", document("image", 2))) // that nobody names
	if after := w.generation(); after != before {
		w.Errorf("generation %d after %d", after, before)
	}
	r := registration()
	r.Policies = []string{"base", "image"}
	w.register(tenant, instance, r)
	w.check(w.PutPolicy(w.ctx, tenant, "image", document("image", 3)))
	inst, err := w.Instance(w.ctx, teebroker.Lookup{Tenant: tenant, Claimed: instance})
	if err != nil || inst.Generation != before+2 || len(inst.Policies) != 2 || !bytes.Equal(inst.Policies[1].Document, document("image", 3)) {
		w.Errorf("%+v, %v", inst, err)
	}
}

func secrets(w *world) {
	w.owned()
	inst, err := w.Instance(w.ctx, teebroker.Lookup{Tenant: tenant, Claimed: instance})
	w.check(err)
	for size, want := range map[int]error{0: store.Invalid, 1: nil, store.MaxSecret: nil, store.MaxSecret + 1: store.Invalid} {
		value := bytes.Repeat([]byte{byte(size)}, size)
		w.want("a size", w.PutSecret(w.ctx, tenant, instance, "disk", value), want)
		if want != nil {
			continue
		}
		if got, err := w.Secret(w.ctx, inst, "disk"); err != nil || !bytes.Equal(got, value) {
			w.Errorf("%d bytes: %d, %v", size, len(got), err)
		}
	}
	w.want("no secret", second(w.Secret(w.ctx, inst, "data")), teebroker.NotAuthorized)
	w.want("no purpose", w.PutSecret(w.ctx, tenant, instance, "a//b", []byte("x")), store.Invalid)
	w.want("no instance", w.PutSecret(w.ctx, tenant, [16]byte{9}, "disk", []byte("x")), store.NotFound)
	inst.ID = [16]byte{9}
	w.want("another instance's", second(w.Secret(w.ctx, inst, "disk")), teebroker.NotAuthorized)
}

// A purpose has a secret or a blob.
func blobs(w *world) {
	w.owned()
	wrapped := keywrap.Wrapped{Protected: []byte("eyJ2IjoxfQ"), Enc: []byte("AAEC"), Ciphertext: []byte("AwQF")}
	text, err := json.Marshal(wrapped)
	w.check(err)
	w.check(w.PutBlob(w.ctx, tenant, instance, "disk", wrapped.Digest(), text))
	w.check(w.PutBlob(w.ctx, tenant, instance, "data", [32]byte{1}, nil))
	clear(text[:1])
	w.want("a blob that is not current", w.ReplaceBlob(w.ctx, tenant, instance, "data", [32]byte{2}, [32]byte{3}, nil), store.Conflict)
	w.want("a blob of none", w.ReplaceBlob(w.ctx, tenant, instance, "none", [32]byte{2}, [32]byte{3}, nil), store.Conflict)
	w.check(w.ReplaceBlob(w.ctx, tenant, instance, "data", [32]byte{1}, [32]byte{3}, nil))
	w.check(w.ReplaceBlob(w.ctx, tenant, instance, "data", [32]byte{3}, [32]byte{1}, nil))
	inst, err := w.Instance(w.ctx, teebroker.Lookup{Tenant: tenant, Claimed: instance})
	if err != nil || len(inst.Blobs) != 2 || inst.Blobs["disk"].Digest != wrapped.Digest() || inst.Blobs["disk"].Wrapped[0] != '{' ||
		inst.Blobs["data"].Digest != [32]byte{1} || inst.Blobs["data"].Wrapped != nil {
		w.Errorf("%+v, %v", inst.Blobs, err)
	}
	w.want("the secret that was", second(w.Secret(w.ctx, inst, "disk")), teebroker.NotAuthorized)
	status, err := w.Status(w.ctx, tenant, instance)
	if err != nil || len(status.Secrets) != 0 || len(status.Blobs) != 2 || !bytes.Equal(status.Blobs["data"], append([]byte{1}, make([]byte, 31)...)) {
		w.Errorf("%+v, %v", status, err)
	}
	w.check(w.PutSecret(w.ctx, tenant, instance, "data", []byte("x")))
	inst, err = w.Instance(w.ctx, teebroker.Lookup{Tenant: tenant, Claimed: instance})
	if _, blob := inst.Blobs["data"]; err != nil || blob {
		w.Errorf("%+v, %v", inst.Blobs, err)
	}
	for name, err := range map[string]error{
		"no digest":      w.PutBlob(w.ctx, tenant, instance, "disk", [32]byte{}, nil),
		"another digest": w.PutBlob(w.ctx, tenant, instance, "disk", [32]byte{1}, bytes.Replace(text, text[:1], []byte("{"), 1)),
		"no blob":        w.PutBlob(w.ctx, tenant, instance, "disk", [32]byte{1}, []byte("{}")),
		"purpose":        w.PutBlob(w.ctx, tenant, instance, "disk/", [32]byte{1}, nil),
	} {
		w.want(name, err, store.Invalid)
	}
	w.want("no instance", w.PutBlob(w.ctx, tenant, [16]byte{9}, "disk", [32]byte{1}, nil), store.NotFound)
}

// A deleted instance is gone, and its id is taken for ever.
func deletes(w *world) {
	w.owned()
	w.authorize(nil)
	g := w.grant(1, "disk", 1)
	w.want("a release", second(w.commit(g)), nil)
	inst, err := w.Instance(w.ctx, teebroker.Lookup{Tenant: tenant, Claimed: instance})
	w.check(err)
	w.check(w.Delete(w.ctx, tenant, instance))
	w.want("instance", second(w.Instance(w.ctx, teebroker.Lookup{Tenant: tenant, Claimed: instance})), teebroker.NoInstance)
	w.want("secret", second(w.Secret(w.ctx, inst, "disk")), teebroker.NotAuthorized)
	w.want("a new release", second(w.commit(grantAgain(g, 2))), teebroker.NotAuthorized)
	w.want("redelivery", second(w.commit(grantAgain(g, 1))), teebroker.NotAuthorized)
	if _, ok, err := w.Outcome(w.ctx, g.Request, "disk"); ok || !errors.Is(err, teebroker.Gone) {
		w.Errorf("stored bytes: %v, %v", ok, err)
	}
	for name, err := range map[string]error{
		"status":    second(w.Status(w.ctx, tenant, instance)),
		"again":     w.Delete(w.ctx, tenant, instance),
		"secret":    w.PutSecret(w.ctx, tenant, instance, "disk", []byte("x")),
		"blob":      w.PutBlob(w.ctx, tenant, instance, "disk", [32]byte{1}, nil),
		"authorize": second(w.Authorize(w.ctx, teebroker.Authorization{Tenant: tenant, Instance: instance, Purposes: []string{"disk"}, NotAfter: w.time().Add(time.Hour)})),
	} {
		w.want(name, err, store.NotFound)
	}
	w.want("register", second(w.Register(w.ctx, tenant, instance, registration())), store.Conflict)
	if ids, err := w.Instances(w.ctx, tenant); err != nil || len(ids) != 0 {
		w.Errorf("%v, %v", ids, err)
	}
}

// grantAgain is g of another request, with another key.
func grantAgain(g teebroker.Grant, key byte) teebroker.Grant {
	g.Key, g.Request = [32]byte{key}, [32]byte{200 + key}
	return g
}

// A launch claim is that of one instance, in all tenants, for ever.
func launchClaims(w *world) {
	w.owned(tenant, other)
	mine := registration()
	mine.Launch.Claims = []store.Claim{{Name: "snp.measurement", Want: bytes.Repeat([]byte{1}, 48)}, {Name: "x", Want: []byte{1}}}
	w.register(tenant, instance, mine)
	same := registration()
	same.Launch.Claims = mine.Launch.Claims[1:]
	w.want("another tenant's", second(w.Register(w.ctx, other, instance, same)), store.Conflict)
	w.want("another instance's", second(w.Register(w.ctx, tenant, [16]byte{2}, same)), store.Conflict)
	own := registration()
	own.Launch = store.Launch{Claims: store.OwnClaims(tenant, instance)[1:2]}
	w.want("one's own name as another", second(w.Register(w.ctx, other, instance, own)), store.Conflict)
	w.register(tenant, instance, registration()) // without
	w.want("given up", second(w.Register(w.ctx, other, instance, same)), store.Conflict)
	w.register(tenant, instance, mine)
	w.check(w.Delete(w.ctx, tenant, instance))
	w.want("deleted", second(w.Register(w.ctx, other, instance, same)), store.Conflict)
	two := registration()
	two.Launch.Claims = []store.Claim{{Name: "y", Want: []byte{1}}, mine.Launch.Claims[0]}
	w.want("one of two", second(w.Register(w.ctx, other, instance, two)), store.Conflict)
	two.Launch.Claims = two.Launch.Claims[:1]
	w.register(tenant, [16]byte{2}, two) // nothing was kept of what was refused
}

func states(w *world) {
	w.owned()
	at := w.time()
	w.authorize(func(a *teebroker.Authorization) { a.NotAfter = at.Add(time.Minute); a.Chips = [][]byte{{1}} })
	w.pass(time.Millisecond)
	a := w.authorize(func(a *teebroker.Authorization) { a.ID, a.NotBefore = [16]byte{5}, at })
	if a.ID != [16]byte{5} || a.Uses != 1 || a.Generation != w.generation() || a.Policy != teebroker.PolicyDigest(w.grant(1, "disk", 1).Policies...) ||
		!slices.Equal(a.Profiles, []nonce.Profile{nonce.ProfileV1}) || !a.NotBefore.Equal(at) || !a.NotAfter.Equal(at.Add(time.Hour+time.Millisecond)) {
		w.Errorf("%+v", a)
	}
	w.want("a release", second(w.commit(w.grant(1, "disk", 1))), nil)
	b := w.authorize(func(a *teebroker.Authorization) { a.Uses = 2 })
	w.authorize(nil)
	w.check(w.Revoke(w.ctx, tenant, instance, b.ID))
	w.pass(time.Minute)
	as, err := w.Authorizations(w.ctx, tenant, instance)
	var got []string
	for _, a := range as {
		got = append(got, a.State)
	}
	if err != nil || !slices.Equal(got, []string{"OPEN", "REVOKED", "DONE", "EXPIRED"}) {
		w.Errorf("%v, %v", got, err)
	}
	if len(as) == 4 && (len(as[3].Chips) != 1 || as[2].ID != a.ID || as[2].Used != 1 || as[1].Uses != 2 || as[3].Chips[0][0] != 1 || as[0].Tenant != tenant || as[0].Instance != instance) {
		w.Errorf("%+v", as)
	}
	for range store.MaxOpen - 1 {
		w.authorize(nil)
	}
	_, err = w.Authorize(w.ctx, teebroker.Authorization{Tenant: tenant, Instance: instance, Purposes: []string{"disk"}, NotAfter: w.time().Add(time.Hour)})
	w.want("more than may be open", err, store.Invalid)
}

// Nothing that callers have is the store's own.
func copies(w *world) {
	w.owned()
	value, doc := []byte("mine"), document("global", 2)
	w.check(w.PutSecret(w.ctx, tenant, instance, "disk", value))
	w.check(w.PutPolicy(w.ctx, tenant, "base", doc))
	r := registration()
	w.register(tenant, [16]byte{2}, r)
	names, chips := []string{"disk"}, [][]byte{[]byte("chip")}
	w.authorize(func(a *teebroker.Authorization) { a.Purposes, a.Chips = names, chips })
	clear(value)
	clear(doc)
	r.Profiles["kbs"][0], r.Policies[0] = nonce.ProfileV1, "x"
	names[0], chips[0][0] = "swap", 0
	for range 2 {
		inst, err := w.Instance(w.ctx, teebroker.Lookup{Tenant: tenant, Claimed: [16]byte{2}})
		if err != nil || inst.Profiles["kbs"][0] != nonce.ProfileSVSM || inst.Policies[0] == nil {
			w.Fatalf("%+v, %v", inst, err)
		}
		inst.Profiles["kbs"][0], inst.Policies[0] = nonce.ProfileV1, nil
		inst.ID = instance
		got, err := w.Secret(w.ctx, inst, "disk")
		if err != nil || string(got) != "mine" {
			w.Errorf("%q, %v", got, err)
		}
		clear(got)
		doc, err := w.Policy(w.ctx, tenant, "base")
		if err != nil || !bytes.Equal(doc, document("global", 2)) {
			w.Errorf("%s, %v", doc, err)
		}
		clear(doc)
		if a := w.newest(); len(a.Chips) != 1 || a.Purposes[0] != "disk" || string(a.Chips[0]) != "chip" {
			w.Errorf("%+v", a)
		} else {
			a.Purposes[0], a.Chips[0][0] = "swap", 0
		}
		es := w.all(tenant, teebroker.Decisions)
		w.chained(es)
		for _, e := range es {
			clear(e.Body)
		}
	}
	g := w.grant(1, "disk", 1)
	g.Policies[0] = [32]byte(inst1(w).Policies[0].Digest())
	first, err := w.commit(g)
	w.check(err)
	want := bytes.Clone(first.Sealed)
	clear(first.Sealed)
	clear(first.Receipt)
	if o, _, err := w.Outcome(w.ctx, g.Request, "disk"); err != nil || !bytes.Equal(o.Response.Sealed, want) || o.Response.Receipt[0] == 0 {
		w.Errorf("%+v, %v", o, err)
	}
}

func inst1(w *world) teebroker.Instance {
	w.Helper()
	inst, err := w.Instance(w.ctx, teebroker.Lookup{Tenant: tenant, Claimed: instance})
	w.check(err)
	return inst
}
