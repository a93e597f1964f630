package sqlstore_test

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/store"
)

const doc = `{"policy": "teebroker/1", "name": "n", "version": "1", "scope": "global", "require": {"snp-report": [{
 "measurements": ["%096x"], "vmpls": [0], "lines": ["Milan"], "keys": ["VCEK"], "chips": "*", "host_data": "*",
 "id_keys": "*", "author_keys": "*", "family_ids": "*", "image_ids": "*", "allow_smt": true,
 "v2_floors": [{"line": "Milan", "reported": "*", "committed": "*", "launch": "*"}]}]}}`

func TestSmoke(t *testing.T) {
	s := sqlite(t, nil)
	ctx := t.Context()
	d := fmt.Appendf(nil, doc, 1)
	if err := s.PutPolicy(ctx, "acme", "base", d); err != nil {
		t.Fatal(err)
	}
	id := [16]byte{1}
	st, err := s.Register(ctx, "acme", id, store.Registration{Policies: []string{"base"}, Suites: []keywrap.Suite{keywrap.X25519}, Launch: store.Launch{Own: true}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PutSecret(ctx, "acme", id, "disk", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	a, err := s.Authorize(ctx, teebroker.Authorization{Tenant: "acme", Instance: id, Purposes: []string{"disk"}, NotAfter: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	inst, err := s.Instance(ctx, teebroker.Lookup{Tenant: "acme", Claimed: id})
	if err != nil || inst.Generation != 2 {
		t.Fatal(inst, err, st)
	}
	v, err := s.Secret(ctx, inst, "disk")
	if err != nil || string(v) != "secret" {
		t.Fatal(v, err)
	}
	if err := s.Redeem(ctx, nonce.Nonce{1}, [32]byte{1}, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	g := teebroker.Grant{Request: [32]byte{1}, Profile: "v1", Tenant: "acme", Instance: id, Generation: 2, Purpose: "disk", Key: [32]byte{2}, Policies: [][32]byte{sha256.Sum256(d)}, ConfirmKey: make([]byte, 32)}
	terms, err := s.Check(ctx, g)
	if err != nil || terms.Authorization != a.ID {
		t.Fatal(terms, err)
	}
	g.Authorization = a.ID
	r := teebroker.Response{Release: [16]byte{5}, Sealed: []byte("sealed"), Receipt: []byte("receipt")}
	if _, err := s.Commit(ctx, g, r, teebroker.Entry{Chain: teebroker.Decisions, Tenant: "acme", Kind: "release", Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	o, ok, err := s.Outcome(ctx, [32]byte{1}, "disk")
	if err != nil || !ok || string(o.Response.Sealed) != "sealed" {
		t.Fatal(o, ok, err)
	}
	if err := s.Put(ctx, "k", []byte("v"), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get(ctx, "k"); err != nil || string(v) != "v" {
		t.Fatal(v, err)
	}
	es, err := s.Record(ctx, "acme", teebroker.Decisions, 0, 100)
	if err != nil || len(es) != 5 {
		t.Fatal(es, err)
	}
	if err := s.Revoke(ctx, "acme", id, a.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Outcome(ctx, [32]byte{1}, "disk"); err != teebroker.Gone {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, "acme", id); err != nil {
		t.Fatal(err)
	}
	if err := s.AddTenant(ctx, "acme", [32]byte{1}); err != nil {
		t.Fatal(err)
	}
}
