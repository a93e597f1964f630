package memory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// orderID is one that was used.
type orderID struct {
	tenant string
	id     [16]byte
}

// takeOrder returns the order in ctx for d, whose id is new. It changes nothing: what is
// done with it is kept by keepOrder.
func (s *Store) takeOrder(ctx context.Context, d store.Deed, now time.Time) (store.Taken, error) {
	t, err := d.Take(ctx, now)
	if err == nil && t.Signed.Token != nil {
		err = store.OrderOnce(s.orderIDs[orderID{d.Tenant, t.ID}])
	}
	return t, err
}

// ordered returns the order for what is to be done to an instance that is there.
func (s *Store) ordered(ctx context.Context, act teebroker.OrderAct, k id, name string, blob [32]byte, now time.Time) (store.Taken, error) {
	inst := s.instances[k]
	d := store.Deed{Act: act, Tenant: k.tenant, Instance: k.instance, Name: name, Blob: blob, Generation: inst.Generation, Key: inst.Owner}
	if act == teebroker.OrderAuthorize && inst.Orders != nil {
		d.State = inst.Orders.State()
	}
	return s.takeOrder(ctx, d, now)
}

// keepOrder makes t used, and that of subject unless subject is "".
func (s *Store) keepOrder(k id, subject string, t store.Taken) {
	if t.Signed.Token == nil {
		return
	}
	s.orderIDs[orderID{k.tenant, t.ID}] = true
	if subject == "" {
		return
	}
	if s.orders[k] == nil {
		s.orders[k] = map[string]teebroker.SignedOrder{}
	}
	o := teebroker.SignedOrder{Token: bytes.Clone(t.Signed.Token)}
	if t.Act == teebroker.OrderRegister || t.Act == teebroker.OrderAuthorize {
		o.Body = bytes.Clone(t.Signed.Body)
	}
	s.orders[k][subject] = o
}

// orderBlob is keepOrder for the blob of a purpose, of which inst then has the order.
func (s *Store) orderBlob(k id, purpose string, t store.Taken) {
	s.keepOrder(k, store.SubjectBlob(purpose), t)
	if inst, ok := s.instances[k]; ok && inst.Orders != nil {
		inst.Orders = inst.Orders.Clone()
		inst.Orders.Blobs[purpose] = s.orders[k][store.SubjectBlob(purpose)]
		s.instances[k] = inst
	}
}

// allOrders returns what an instance with an owner key is made of.
func (s *Store) allOrders(k id, policies []string, key [32]byte) *teebroker.Orders {
	if key == [32]byte{} {
		return nil
	}
	all := &teebroker.Orders{Policies: map[string]teebroker.SignedOrder{}, Blobs: map[string]teebroker.SignedOrder{}}
	of := s.orders[k]
	for _, subject := range slices.Sorted(maps.Keys(of)) {
		store.AddOrder(all, subject, of[subject])
	}
	for _, name := range policies {
		if p, ok := s.orders[id{tenant: k.tenant}][store.SubjectPolicy(name, key)]; ok {
			all.Policies[name] = p
		}
	}
	return all
}

// registerOrder takes the order of a registration.
func (o *Owner) registerOrder(ctx context.Context, k id, r store.Registration, now time.Time) (store.Taken, error) {
	before := o.instances[k]
	d := store.Deed{Act: teebroker.OrderRegister, Tenant: k.tenant, Instance: k.instance, Generation: before.Generation, Key: before.Owner, Owner: r.OwnerKey}
	if d.Key == [32]byte{} {
		d.Key = r.OwnerKey
	}
	t, err := o.takeOrder(ctx, d, now)
	if err != nil || t.Signed.Token == nil {
		return t, err
	}
	names, err := t.Registers(r)
	if err != nil {
		return t, err
	}
	ps, err := o.parse(k.tenant, names)
	if err == nil {
		err = store.CheckScopes(ps)
	}
	for i, name := range names {
		if err == nil {
			err = store.OrderedPolicy(o.orders[id{tenant: k.tenant}][store.SubjectPolicy(name, r.OwnerKey)], name, ps[i].Digest())
		}
	}
	if err == nil && before.Orders != nil && len(before.Orders.Keys) >= teebroker.MaxOwnerKeys && before.Owner != r.OwnerKey {
		err = fmt.Errorf("%w: the instance had %d owner keys", store.Invalid, len(before.Orders.Keys))
	}
	return t, err
}

// keepRegistration keeps the order of what is registered in generation, and what it
// was before had the key before.
func (o *Owner) keepRegistration(k id, t store.Taken, generation uint64, before [32]byte) {
	if t.Signed.Token != nil && t.Owner != before {
		o.keepOrder(k, store.SubjectKey(generation), t)
	}
	o.keepOrder(k, store.SubjectRegistration, t)
}

// policyOrder takes the order of a document.
func (o *Owner) policyOrder(ctx context.Context, tenant, name string, document []byte, now time.Time) (store.Taken, error) {
	var needed [][32]byte
	for k, r := range o.registered {
		if k.tenant != tenant || !slices.Contains(r.Policies, name) || r.OwnerKey == [32]byte{} || bytes.Equal(o.policies[tenant][name], document) {
			continue
		}
		if _, ok := o.orders[id{tenant: tenant}][store.SubjectPolicy(name, r.OwnerKey)]; ok {
			needed = append(needed, r.OwnerKey)
		}
	}
	t, err := store.TakePolicy(ctx, tenant, name, document, needed, now)
	if err == nil && t.Signed.Token != nil {
		err = store.OrderOnce(o.orderIDs[orderID{tenant, t.ID}])
	}
	return t, err
}

// keepPolicy keeps the order of a document, unless the same was ordered before:
// what rests on that stays.
func (o *Owner) keepPolicy(tenant, name string, document []byte, t store.Taken) {
	k, subject := id{tenant: tenant}, store.SubjectPolicy(name, t.Issuer)
	if had, err := teebroker.VerifyOrder(o.orders[k][subject].Token); err == nil && had.Body == sha256.Sum256(document) {
		subject = ""
	}
	o.keepOrder(k, subject, t)
}

// authorizeOrder takes the order of an authorization.
func (o *Owner) authorizeOrder(ctx context.Context, a teebroker.Authorization) (store.Taken, error) {
	now, err := o.now()
	if err != nil {
		return store.Taken{}, err
	}
	k := id{a.Tenant, a.Instance}
	if _, ok := o.registered[k]; !ok {
		return store.Taken{}, store.NotFound
	}
	return o.ordered(ctx, teebroker.OrderAuthorize, k, "", [32]byte{}, now)
}
