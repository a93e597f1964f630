package storetest

import (
	"bytes"
	"iter"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/store"
)

// Tenants share nothing: the same names are others in another, and what is not
// one's own is not there.
func tenants(w *world) {
	w.owned(tenant, other)
	a := w.authorize(nil)
	g := w.grant(1, "disk", 1)
	w.want("a release", second(w.commit(g)), nil)
	theirs := g
	theirs.Tenant, theirs.Request = other, [32]byte{2}
	w.want("another tenant's authorization", second(w.commit(theirs)), teebroker.NotAuthorized)
	if as, err := w.Authorizations(w.ctx, other, instance); err != nil || len(as) != 0 {
		w.Errorf("%+v, %v", as, err)
	}
	w.want("revoked by another", w.Revoke(w.ctx, other, instance, a.ID), store.NotFound)

	// The same id and key, which are another authorization's and instance's.
	b := w.authorize(func(x *teebroker.Authorization) { x.Tenant, x.ID = other, a.ID })
	if b.Tenant != other {
		w.Errorf("%+v", b)
	}
	theirs.Request = [32]byte{3}
	w.want("the other's own", second(w.commit(theirs)), nil)
	for name, secret := range map[string]string{tenant: "secret of acme", other: "secret of other"} {
		inst, err := w.Instance(w.ctx, teebroker.Lookup{Tenant: name, Claimed: instance})
		w.check(err)
		if got, err := w.Secret(w.ctx, inst, "disk"); err != nil || string(got) != secret {
			w.Errorf("%s has %q, %v", name, got, err)
		}
	}
	before := w.generation()
	w.check(w.PutPolicy(w.ctx, other, "base", document("global", 2)))
	w.check(w.PutPolicy(w.ctx, other, "more", document("global", 3)))
	w.check(w.PutSecret(w.ctx, other, instance, "data", []byte("x")))
	w.check(w.Delete(w.ctx, other, instance))
	if status, err := w.Status(w.ctx, tenant, instance); err != nil || status.Generation != before || len(status.Secrets) != 1 {
		w.Errorf("%+v, %v", status, err)
	}
	if doc, err := w.Policy(w.ctx, tenant, "base"); err != nil || !bytes.Equal(doc, document("global", 1)) {
		w.Errorf("%s, %v", doc, err)
	}
	if o, ok, err := w.Outcome(w.ctx, g.Request, "disk"); err != nil || !ok || o.Response.Sealed == nil {
		w.Errorf("%v, %v", ok, err)
	}
	for name, err := range map[string]error{
		"policy":         second(w.Policy(w.ctx, tenant, "more")),
		"status":         second(w.Status(w.ctx, "nobody", instance)),
		"delete":         w.Delete(w.ctx, "nobody", instance),
		"secret":         w.PutSecret(w.ctx, "nobody", instance, "disk", []byte("x")),
		"authorizations": second(w.Authorizations(w.ctx, "nobody", instance)),
	} {
		w.want(name, err, store.NotFound)
	}
	w.want("instance", second(w.Instance(w.ctx, teebroker.Lookup{Tenant: "nobody", Claimed: instance})), teebroker.NoInstance)
	if ids, err := w.Instances(w.ctx, "nobody"); err != nil || len(ids) != 0 {
		w.Errorf("%v, %v", ids, err)
	}
	w.chained(w.all(tenant, teebroker.Decisions))
	w.chained(w.all(other, teebroker.Decisions))
	if len(w.all("nobody", teebroker.Decisions)) != 0 {
		w.Errorf("nobody has a record")
	}
}

func tokens(w *world) {
	one, two := [32]byte{1}, [32]byte{2}
	w.want("unknown", second(w.Tenant(w.ctx, one)), store.NotFound)
	w.want("removed before", w.RemoveToken(w.ctx, one), store.NotFound)
	w.check(w.AddTenant(w.ctx, tenant, one))
	w.check(w.AddTenant(w.ctx, tenant, two))
	w.want("again", w.AddTenant(w.ctx, tenant, one), store.Conflict)
	w.want("of another", w.AddTenant(w.ctx, other, two), store.Conflict)
	for _, token := range [][32]byte{one, two} {
		if got, err := w.Tenant(w.ctx, token); err != nil || got != tenant {
			w.Errorf("%q, %v", got, err)
		}
	}
	w.check(w.RemoveToken(w.ctx, one))
	w.want("removed", second(w.Tenant(w.ctx, one)), store.NotFound)
	w.want("the other token", second(w.Tenant(w.ctx, two)), nil)
	w.want("zero", second(w.Tenant(w.ctx, [32]byte{})), store.NotFound)
}

// claims are what a guest shows at launch.
type claims map[string][]byte

func (c claims) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		for name, b := range c {
			if !yield(name, evidence.Bytes(b)) {
				return
			}
		}
	}
}

// A guest that names nobody is the only one whose launch claims fit, or nobody.
func directory(w *world) {
	w.owned(tenant, other)
	find := func(tenant string, claimed byte, shown ...claims) (byte, error) {
		l := teebroker.Lookup{Tenant: tenant, Claimed: [16]byte{claimed}}
		for _, c := range shown {
			l.Verified = append(l.Verified, &evidence.Verified{Format: "snp-report", Claims: c, CheckedAt: time.Unix(1, 0)})
		}
		inst, err := w.Instance(w.ctx, l)
		if err == nil && inst.Tenant != tenant {
			w.Errorf("an instance of %s for %s", inst.Tenant, tenant)
		}
		return inst.ID[0], err
	}
	r := registration()
	r.Launch = store.Launch{Claims: []store.Claim{{Name: "snp.measurement", Want: bytes.Repeat([]byte{2}, 48)}}}
	w.register(tenant, [16]byte{2}, r)
	r.Launch = store.Launch{}
	r.AllowSharedLaunchIdentity = true
	w.register(tenant, [16]byte{3}, r)
	own, theirs := store.OwnClaims(tenant, instance), store.OwnClaims(other, instance)
	for _, tt := range []struct {
		name    string
		tenant  string
		claimed byte
		shown   []claims
		want    byte
	}{
		{"its own HOST_DATA", tenant, 0, []claims{{"snp.host_data": own[0].Want}}, 1},
		{"its own MRCONFIGID", tenant, 0, []claims{{"tdx.mrconfigid": own[1].Want}}, 1},
		{"its own RPV", tenant, 0, []claims{{"cca.rpv": own[2].Want}}, 1},
		{"a claim", tenant, 0, []claims{{"snp.measurement": bytes.Repeat([]byte{2}, 48), "x": {1}}}, 2},
		{"another value", tenant, 0, []claims{{"snp.measurement": bytes.Repeat([]byte{3}, 48)}}, 0},
		{"another claim of the value", tenant, 0, []claims{{"snp.host_data": bytes.Repeat([]byte{2}, 48)}}, 0},
		{"not padded", tenant, 0, []claims{{"tdx.mrconfigid": own[0].Want}}, 0},
		{"both", tenant, 0, []claims{{"snp.host_data": own[0].Want, "snp.measurement": bytes.Repeat([]byte{2}, 48)}}, 0},
		{"another tenant's", tenant, 0, []claims{{"snp.host_data": theirs[0].Want}}, 0},
		{"the second evidence", tenant, 0, []claims{{}, {"snp.host_data": own[0].Want}}, 0},
		{"nothing", tenant, 0, nil, 0},
		{"claimed", tenant, 3, nil, 3},
		{"claimed, shown otherwise", tenant, 2, []claims{{"snp.host_data": own[0].Want}}, 2},
		{"claimed, of another tenant", other, 3, nil, 0},
		{"claimed, nobody", tenant, 9, nil, 0},
	} {
		id, err := find(tt.tenant, tt.claimed, tt.shown...)
		var want error
		if tt.want == 0 {
			want = teebroker.NoInstance
		}
		w.want(tt.name, err, want)
		if id != tt.want {
			w.Errorf("%s: instance %d", tt.name, id)
		}
	}
	w.check(w.Delete(w.ctx, tenant, instance))
	_, err := find(tenant, 0, claims{"snp.host_data": own[0].Want})
	w.want("deleted", err, teebroker.NoInstance)
}
