package sqlstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// ofTenant is in the place of an instance for orders that are of none.
var ofTenant = [16]byte{}

// take returns the order in ctx for d, and remembers its id.
func (t *tx) take(ctx context.Context, d store.Deed) (store.Taken, error) {
	taken, err := d.Take(ctx, instant(t.now))
	if err != nil {
		return store.Taken{}, err
	}
	return taken, t.once(d.Tenant, taken)
}

// once remembers the id of an order, for ever, if there is one.
func (t *tx) once(tenant string, taken store.Taken) error {
	if taken.Signed.Token == nil {
		return nil
	}
	n, err := t.exec("INSERT INTO order_ids (tenant, id) VALUES (?, ?) ON CONFLICT DO NOTHING", tenant, taken.ID[:])
	if err != nil {
		return err
	}
	return store.OrderOnce(n == 0)
}

// ordered returns the order for what is to be done to an instance, which is
// locked. It is to be called before the act changes anything.
func (t *tx) ordered(ctx context.Context, act teebroker.OrderAct, tenant string, id [16]byte, name string, blob [32]byte) (store.Taken, error) {
	d := store.Deed{Act: act, Tenant: tenant, Instance: id, Name: name, Blob: blob}
	r, err := live(t, instanceKey{tenant, id}, t.d.lock)
	switch {
	case err != nil:
		return store.Taken{}, err
	case r == nil:
		return store.Taken{}, store.NotFound
	}
	d.Generation, d.Key = uint64(r.generation), r.reg.OwnerKey
	if act == teebroker.OrderAuthorize && d.Key != [32]byte{} {
		all, err := orders(t, instanceKey{tenant, id}, r.reg)
		if err != nil {
			return store.Taken{}, err
		}
		d.State = all.State()
	}
	return t.take(ctx, d)
}

// keepOrder stores the order of subject in place of the one before. Bodies are kept of those
// that are read again.
func (t *tx) keepOrder(tenant string, id [16]byte, subject string, o store.Taken) error {
	if o.Signed.Token == nil {
		return nil
	}
	var body []byte
	if o.Act == teebroker.OrderRegister || o.Act == teebroker.OrderAuthorize {
		body = o.Signed.Body
	}
	_, err := t.exec(`INSERT INTO orders (tenant, instance, subject, token, body) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, instance, subject) DO UPDATE SET token = excluded.token, body = excluded.body`, tenant, id[:], subject, o.Signed.Token, null(body))
	return err
}

func order(q querier, tenant string, id [16]byte, subject string) (o teebroker.SignedOrder, found bool, err error) {
	found, err = q.row("SELECT token, body FROM orders WHERE tenant = ? AND instance = ? AND subject = ?", []any{tenant, id[:], subject}, &o.Token, &o.Body)
	return o, found, err
}

// orders returns what an instance with an owner key is made of.
func orders(q querier, k instanceKey, reg store.Registration) (*teebroker.Orders, error) {
	all := &teebroker.Orders{Policies: map[string]teebroker.SignedOrder{}, Blobs: map[string]teebroker.SignedOrder{}}
	err := q.each("SELECT subject, token, body FROM orders WHERE tenant = ? AND instance = ? AND subject >= ? ORDER BY subject", []any{k.tenant, k.id[:], store.SubjectBlob("")}, func(r scanner) error {
		var subject string
		var o teebroker.SignedOrder
		err := r.Scan(&subject, &o.Token, &o.Body)
		store.AddOrder(all, subject, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, name := range reg.Policies {
		o, found, err := order(q, k.tenant, ofTenant, store.SubjectPolicy(name, reg.OwnerKey))
		if err != nil {
			return nil, err
		}
		if found {
			all.Policies[name] = o
		}
	}
	return all, nil
}

// registerOrder takes the order of a registration of an instance that is in
// generation, 0 if it is new, and has the key before.
func (t *tx) registerOrder(ctx context.Context, tenant string, id [16]byte, reg store.Registration, generation uint64, before [32]byte) (store.Taken, error) {
	d := store.Deed{Act: teebroker.OrderRegister, Tenant: tenant, Instance: id, Generation: generation, Key: before, Owner: reg.OwnerKey}
	if d.Key == [32]byte{} {
		d.Key = reg.OwnerKey
	}
	taken, err := t.take(ctx, d)
	if err != nil || taken.Signed.Token == nil {
		return taken, err
	}
	names, err := taken.Registers(reg)
	if err != nil {
		return taken, err
	}
	ps, err := t.s.policies(t, tenant, names)
	if err == nil {
		err = store.CheckScopes(ps)
	}
	for i, name := range names {
		if err == nil {
			err = t.orderedPolicy(tenant, name, reg.OwnerKey, ps[i].Digest())
		}
	}
	return taken, err
}

// orderedPolicy returns Invalid unless key ordered the document of this digest.
func (t *tx) orderedPolicy(tenant, name string, key, digest [32]byte) error {
	o, _, err := order(t, tenant, ofTenant, store.SubjectPolicy(name, key))
	if err != nil {
		return err
	}
	return store.OrderedPolicy(o, name, digest)
}

// registeredBy stores the order of a registration that made a generation.
func (t *tx) registeredBy(tenant string, id [16]byte, taken store.Taken, generation uint64, before [32]byte) error {
	if taken.Signed.Token == nil {
		return nil
	}
	if before != taken.Owner {
		var n int64
		if _, err := t.row("SELECT count(*) FROM orders WHERE tenant = ? AND instance = ? AND subject >= ? AND subject < ?", []any{tenant, id[:], store.SubjectKey(0), store.SubjectRegistration}, &n); err != nil {
			return err
		}
		if n >= teebroker.MaxOwnerKeys {
			return fmt.Errorf("%w: the instance had %d owner keys", store.Invalid, n)
		}
		if err := t.keepOrder(tenant, id, store.SubjectKey(generation), taken); err != nil {
			return err
		}
	}
	return t.keepOrder(tenant, id, store.SubjectRegistration, taken)
}

// policyOrder takes the order of a document, if one has to be there or is. changes
// says that it is another than before, ids are the instances that ask for it.
func (t *tx) policyOrder(ctx context.Context, tenant, name string, doc []byte, changes bool, ids [][16]byte) (store.Taken, error) {
	var needed [][32]byte
	for _, id := range ids {
		if !changes {
			break
		}
		reg, err := registration(t, instanceKey{tenant, id})
		if errors.Is(err, teebroker.NoInstance) || err == nil && reg.OwnerKey == [32]byte{} {
			continue
		}
		if err != nil {
			return store.Taken{}, err
		}
		_, found, err := order(t, tenant, ofTenant, store.SubjectPolicy(name, reg.OwnerKey))
		if err != nil {
			return store.Taken{}, err
		}
		if found {
			needed = append(needed, reg.OwnerKey)
		}
	}
	taken, err := store.TakePolicy(ctx, tenant, name, doc, needed, instant(t.now))
	if err != nil || taken.Signed.Token == nil {
		return taken, err
	}
	if err := t.once(tenant, taken); err != nil {
		return taken, err
	}
	subject := store.SubjectPolicy(name, taken.Issuer)
	old, found, err := order(t, tenant, ofTenant, subject)
	if err != nil {
		return taken, err
	}
	// The same document again is ordered already, and what rests on that stays.
	if had, err := teebroker.VerifyOrder(old.Token); found && err == nil && had.Body == sha256.Sum256(doc) {
		return taken, nil
	}
	return taken, t.keepOrder(tenant, ofTenant, subject, taken)
}

// ownerKey returns the owner key of an instance; zero if it has none, or is not
// there.
func (s *Store) ownerKey(ctx context.Context, tenant string, id [16]byte) ([32]byte, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return [32]byte{}, err
	}
	reg, err := registration(r, instanceKey{tenant, id})
	if errors.Is(err, teebroker.NoInstance) {
		err = nil
	}
	return reg.OwnerKey, err
}

// secretPlace is where a secret is, for which it is sealed. That of an instance
// with an owner key opens for no instance that does not have this key, whatever
// else a database says.
func secretPlace(id [16]byte, purpose string, key [32]byte) [][]byte {
	place := [][]byte{id[:], []byte(purpose)}
	if key != [32]byte{} {
		place = append(place, key[:])
	}
	return place
}

// openSecret opens a secret for an instance that has these owner keys, verified.
// What was put before the first of them is sealed for none.
func (s *Store) openSecret(ctx context.Context, sealed []byte, inst teebroker.Instance, purpose string) ([]byte, error) {
	for _, key := range slices.Backward(inst.OwnerKeys) {
		secret, err := s.open(ctx, sealed, "purposes.secret", inst.Tenant, secretPlace(inst.ID, purpose, key)...)
		if !errors.Is(err, store.ErrCipher) {
			return secret, err
		}
	}
	return s.open(ctx, sealed, "purposes.secret", inst.Tenant, secretPlace(inst.ID, purpose, [32]byte{})...)
}
