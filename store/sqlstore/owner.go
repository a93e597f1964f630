package sqlstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/store"
)

// own runs what an owner does, one at a time for each tenant.
func (s *Store) own(ctx context.Context, tenant string, run func(*tx) error) error {
	if !names.Tenant(tenant) {
		return fmt.Errorf("%w: %.80q is not a tenant", store.Invalid, tenant)
	}
	return s.do(ctx, &job{order: tenant, solo: true, run: func(t *tx) error {
		if _, err := t.exec("INSERT INTO tenants (tenant) VALUES (?) ON CONFLICT DO NOTHING", tenant); err != nil {
			return err
		}
		var one int
		if _, err := t.row("SELECT 1 FROM tenants WHERE tenant = ?"+t.d.lock, []any{tenant}, &one); err != nil {
			return err
		}
		return run(t)
	}})
}

// PutPolicy implements [store.Owner].
func (s *Store) PutPolicy(ctx context.Context, tenant, name string, doc []byte) error {
	if !store.PolicyName(name) {
		return fmt.Errorf("%w: %.80q can't name a policy", store.Invalid, name)
	}
	doc = bytes.Clone(doc)
	if _, err := s.documents.Parse(doc); err != nil {
		return err
	}
	return s.own(ctx, tenant, func(t *tx) error {
		old, err := document(t, tenant, name)
		if err != nil && !errors.Is(err, store.NotFound) {
			return err
		}
		has := err == nil
		same := has && bytes.Equal(old, doc)
		ids, err := naming(t, tenant, name)
		if err != nil {
			return err
		}
		order, err := t.policyOrder(ctx, tenant, name, doc, !same, ids)
		if err != nil || same && order.Signed.Token == nil {
			return err
		}
		if same {
			_, err = t.act(tenant, store.KindPolicy, store.Act{Policy: name, Digest: sha256.Sum256(doc), Order: order.Digest()})
			return err
		}
		if err := t.putPolicy(tenant, name, doc, has); err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := t.change(tenant, id, nil); err != nil {
				return err
			}
		}
		_, err = t.act(tenant, store.KindPolicy, store.Act{Policy: name, Digest: sha256.Sum256(doc), Order: order.Digest()})
		return err
	})
}

// putPolicy stores a document, over the one that there is.
func (t *tx) putPolicy(tenant, name string, doc []byte, replace bool) error {
	d := sha256.Sum256(doc)
	if !replace {
		return t.insert(&policyRow{tenant: tenant, name: name, content: d[:]}, doc)
	}
	var p policyRow
	if _, err := fetch(t, &p, " FROM policies x WHERE x.tenant = ? AND x.name = ?", []any{tenant, name}); err != nil {
		return err
	}
	p.content = d[:]
	if err := t.update(&p); err != nil {
		return err
	}
	_, err := t.exec("UPDATE policies SET document = ? WHERE tenant = ? AND name = ?", doc, tenant, name)
	return err
}

// naming returns the instances that name a policy, out of what their owner
// registered: an index beside that could be short of one.
func naming(q querier, tenant, policy string) (ids [][16]byte, err error) {
	var all []*registered
	err = q.each("SELECT "+instanceTable.as("x")+", x.registration FROM instances x WHERE x.tenant = ? ORDER BY x.id", []any{tenant}, func(row scanner) error {
		r := &registered{}
		all = append(all, r)
		return row.Scan(append(dest(&r.instanceRow), &r.registration)...)
	})
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if err := q.store().rows.check(&r.instanceRow); err != nil {
			return nil, err
		}
		if err := r.parse(); err != nil {
			return nil, err
		}
		if slices.Contains(r.reg.Policies, policy) && len(r.id) == 16 {
			ids = append(ids, [16]byte(r.id))
		}
	}
	return ids, nil
}

// Policy implements [store.Owner].
func (s *Store) Policy(ctx context.Context, tenant, name string) ([]byte, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	return document(r, tenant, name)
}

// Policies implements [store.Owner].
func (s *Store) Policies(ctx context.Context, tenant string) ([]string, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	var all []string
	err = r.each("SELECT "+policyTable.as("x")+" FROM policies x WHERE x.tenant = ? ORDER BY x.name", []any{tenant}, func(row scanner) error {
		var p policyRow
		if err := row.Scan(dest(&p)...); err != nil {
			return err
		}
		all = append(all, p.name)
		return s.rows.check(&p)
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Register implements [store.Owner].
func (s *Store) Register(ctx context.Context, tenant string, id [16]byte, reg store.Registration) (status store.Status, err error) {
	if err := errors.Join(store.CheckInstance(tenant, id), reg.Check()); err != nil {
		return store.Status{}, err
	}
	reg = reg.Clone()
	want, err := json.Marshal(reg)
	if err != nil {
		return store.Status{}, fmt.Errorf("%w: %w", store.Invalid, err)
	}
	err = s.own(ctx, tenant, func(t *tx) error {
		status = store.Status{}
		if err := t.register(ctx, tenant, id, reg, want); err != nil {
			return err
		}
		var err error
		status, _, err = statusOf(t, tenant, id)
		return err
	})
	if err != nil {
		return store.Status{}, err
	}
	return status, nil
}

func (t *tx) register(ctx context.Context, tenant string, id [16]byte, reg store.Registration, want []byte) error {
	ps, err := t.s.policies(t, tenant, reg.Policies)
	if errors.Is(err, store.NotFound) {
		return fmt.Errorf("%w: there is no such policy: %w", store.Invalid, err)
	}
	if err == nil {
		err = store.CheckScopes(ps)
	}
	if err != nil {
		return err
	}
	has, err := load(t, instanceKey{tenant, id}, t.d.lock)
	switch {
	case err != nil:
		return err
	case has != nil && has.deleted != 0:
		return fmt.Errorf("%w: the instance was deleted", store.Conflict)
	}
	var before uint64
	var key [32]byte
	if has != nil {
		before, key = uint64(has.generation), has.reg.OwnerKey
	}
	order, err := t.registerOrder(ctx, tenant, id, reg, before, key)
	if err != nil || has != nil && bytes.Equal(has.registration, want) {
		return err
	}
	if err := t.claim(tenant, id, reg.Launch.Claims); err != nil {
		return err
	}
	generation := uint64(1)
	if has != nil {
		generation, err = t.change(tenant, id, func(r *registered) { r.reg = reg })
	} else {
		launch, policy := teebroker.LaunchID(tenant, id), teebroker.PolicyDigest(digests(ps)...)
		r := &registered{instanceRow: instanceRow{tenant: tenant, id: id[:], generation: 1, launch: launch[:], policy: policy[:]}, reg: reg}
		if err = r.encode(); err == nil {
			err = t.insert(&r.instanceRow, r.registration)
		}
	}
	if err != nil {
		return err
	}
	if err := t.registeredBy(tenant, id, order, generation, key); err != nil {
		return err
	}
	_, err = t.act(tenant, store.KindRegister, store.Act{Instance: id, Generation: generation, Digest: sha256.Sum256(want), Order: order.Digest()})
	return err
}

// claim makes launch claims those of an instance, for ever.
func (t *tx) claim(tenant string, id [16]byte, claims []store.Claim) error {
	for _, c := range claims {
		if own, ok := c.OwnValue(); ok {
			var other instanceRow
			found, err := fetch(t, &other, " FROM instances x WHERE x.launch_id = ?", []any{own[:]})
			if err != nil {
				return err
			}
			if found && (other.tenant != tenant || !bytes.Equal(other.id, id[:])) {
				return fmt.Errorf("%w: launch claim %s", store.Conflict, c.Name)
			}
		}
		if _, err := t.insertNew(&claimRow{name: c.Name, value: c.Want, tenant: tenant, instance: id[:]}); err != nil {
			return err
		}
		var of claimRow
		if _, err := fetch(t, &of, " FROM launch_claims x WHERE x.name = ? AND x.value = ?", []any{c.Name, []byte(c.Want)}); err != nil {
			return err
		}
		if of.tenant != tenant || !bytes.Equal(of.instance, id[:]) {
			return fmt.Errorf("%w: launch claim %s", store.Conflict, c.Name)
		}
	}
	return nil
}

// Status implements [store.Owner].
func (s *Store) Status(ctx context.Context, tenant string, id [16]byte) (store.Status, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return store.Status{}, err
	}
	var fault error
	for last := int64(-1); ; {
		status, generation, err := statusOf(r, tenant, id)
		switch {
		case err == nil || !errors.Is(err, ErrForged):
			return status, err
		case generation == last:
			return store.Status{}, errors.Join(fault, err)
		}
		last, fault = generation, err // unless it was changed between two statements
	}
}

// statusOf returns what there is of an instance, and always its generation.
func statusOf(q querier, tenant string, id [16]byte) (store.Status, int64, error) {
	r, err := live(q, instanceKey{tenant, id}, "")
	if err == nil && r == nil {
		err = store.NotFound
	}
	if err != nil {
		return store.Status{}, 0, err
	}
	status := store.Status{ID: id, Generation: uint64(r.generation), Registration: r.reg, Blobs: map[string][]byte{}}
	if r.reg.OwnerKey != [32]byte{} {
		all, err := orders(q, instanceKey{tenant, id}, r.reg)
		if err != nil {
			return store.Status{}, r.generation, err
		}
		status.State = all.State()
	}
	all, err := purposes(q, r)
	if err != nil {
		return store.Status{}, r.generation, err
	}
	for _, purpose := range slices.Sorted(maps.Keys(all)) {
		if p := all[purpose]; p.digest == nil {
			status.Secrets = append(status.Secrets, purpose)
		} else {
			status.Blobs[purpose] = p.digest
		}
	}
	return status, r.generation, nil
}

// Instances implements [store.Owner].
func (s *Store) Instances(ctx context.Context, tenant string) ([][16]byte, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	var ids [][16]byte
	err = r.each("SELECT "+instanceTable.as("x")+" FROM instances x WHERE x.tenant = ? ORDER BY x.id", []any{tenant}, func(row scanner) error {
		var i instanceRow
		if err := row.Scan(dest(&i)...); err != nil {
			return err
		}
		if len(i.id) == 16 && i.deleted == 0 {
			ids = append(ids, [16]byte(i.id))
		}
		return s.rows.check(&i)
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// Delete implements [store.Owner].
func (s *Store) Delete(ctx context.Context, tenant string, id [16]byte) error {
	return s.own(ctx, tenant, func(t *tx) error {
		order, err := t.ordered(ctx, teebroker.OrderDelete, tenant, id, "", [32]byte{})
		if err != nil {
			return err
		}
		generation, err := t.change(tenant, id, func(r *registered) {
			r.deleted, r.reg, r.purposes = 1, store.Registration{}, nil
		})
		if err != nil {
			return err
		}
		for _, q := range []string{
			"DELETE FROM purposes WHERE tenant = ? AND instance = ?",
			"DELETE FROM epoch_blobs WHERE tenant = ? AND instance = ?",
			"DELETE FROM orders WHERE tenant = ? AND instance = ?",
			"UPDATE releases SET sealed = NULL, confirm_key = NULL WHERE tenant = ? AND instance = ?",
		} {
			if _, err := t.exec(q, tenant, id[:]); err != nil {
				return err
			}
		}
		if err := t.supersedeEKs(tenant, id); err != nil {
			return err
		}
		_, err = t.act(tenant, store.KindDelete, store.Act{Instance: id, Generation: generation, Order: order.Digest()})
		return err
	})
}

// PutSecret implements [store.Owner].
func (s *Store) PutSecret(ctx context.Context, tenant string, id [16]byte, purpose string, value []byte) error {
	if err := errors.Join(store.CheckPurpose(purpose), store.CheckSecret(value)); err != nil {
		return err
	}
	key, err := s.ownerKey(ctx, tenant, id)
	if err != nil {
		return err
	}
	sealed, err := s.seal(ctx, value, "purposes.secret", tenant, secretPlace(id, purpose, key)...)
	if err != nil {
		return err
	}
	return s.put(ctx, tenant, id, purpose, put{kind: store.KindSecret, act: teebroker.OrderSecret, secret: sealed, owner: key})
}

// PutBlob implements [store.Owner].
func (s *Store) PutBlob(ctx context.Context, tenant string, id [16]byte, purpose string, digest [32]byte, wrapped []byte) error {
	if err := errors.Join(store.CheckPurpose(purpose), store.CheckBlob(digest, wrapped)); err != nil {
		return err
	}
	return s.put(ctx, tenant, id, purpose, put{kind: store.KindBlob, act: teebroker.OrderBlob, digest: digest, wrapped: bytes.Clone(wrapped)})
}

// ReplaceBlob implements [store.Owner].
func (s *Store) ReplaceBlob(ctx context.Context, tenant string, id [16]byte, purpose string, old, digest [32]byte, wrapped []byte) error {
	if err := errors.Join(store.CheckPurpose(purpose), store.CheckBlob(digest, wrapped)); err != nil {
		return err
	}
	return s.put(ctx, tenant, id, purpose, put{kind: store.KindBlob, act: teebroker.OrderBlob, digest: digest, wrapped: bytes.Clone(wrapped), old: &old})
}

// put is what a purpose gets: a secret, or a blob.
type put struct {
	kind    teebroker.Kind
	act     teebroker.OrderAct
	secret  []byte   // sealed
	owner   [32]byte // key that the secret is sealed for
	digest  [32]byte // of the blob
	wrapped []byte
	old     *[32]byte // the blob that it takes the place of, if not any
}

func (s *Store) put(ctx context.Context, tenant string, id [16]byte, purpose string, p put) error {
	return s.own(ctx, tenant, func(t *tx) error {
		order, err := t.ordered(ctx, p.act, tenant, id, purpose, p.digest)
		if err == nil {
			err = t.noEpochs(tenant, id, purpose)
		}
		if err == nil && p.secret != nil && order.Issuer != p.owner {
			err = fmt.Errorf("%w: the owner key was changed meanwhile", store.Conflict)
		}
		if err != nil {
			return err
		}
		row := stored{purposeRow: purposeRow{purpose: purpose}, secret: p.secret, wrapped: p.wrapped}
		if p.secret == nil {
			row.digest = p.digest[:]
			if err := t.keepOrder(tenant, id, store.SubjectBlob(purpose), order); err != nil {
				return err
			}
		} else if _, err := t.exec("DELETE FROM orders WHERE tenant = ? AND instance = ? AND subject = ?", tenant, id[:], store.SubjectBlob(purpose)); err != nil {
			return err
		}
		generation, err := t.changePurpose(tenant, id, row, p.old)
		if err != nil {
			return err
		}
		_, err = t.act(tenant, p.kind, store.Act{Instance: id, Generation: generation, Purpose: purpose, Digest: p.digest, Order: order.Digest()})
		return err
	})
}

// changePurpose is change by which an instance has p, in place of what it had. If
// old is not nil and not the digest of that, it is a Conflict.
func (t *tx) changePurpose(tenant string, id [16]byte, p stored, old *[32]byte) (uint64, error) {
	var had bool
	generation, err := t.change(tenant, id, func(r *registered) {
		if _, had = r.purposes[p.purpose]; r.purposes == nil {
			r.purposes = map[string]int64{}
		}
		r.purposes[p.purpose] = r.generation
	})
	if err != nil {
		return 0, err
	}
	var has purposeRow
	found, err := fetch(t, &has, " FROM purposes x WHERE x.tenant = ? AND x.instance = ? AND x.purpose = ?", []any{tenant, id[:], p.purpose})
	switch {
	case err != nil:
		return 0, err
	case found != had:
		return 0, forged("purposes")
	case old != nil && !bytes.Equal(has.digest, old[:]):
		return 0, fmt.Errorf("%w: another blob is registered", store.Conflict)
	}
	p.tenant, p.instance, p.generation, p.content = tenant, id[:], int64(generation), content(&p.secret, &p.wrapped)
	if !found {
		return generation, t.insert(&p.purposeRow, null(p.secret), null(p.wrapped))
	}
	p.stored = has.stored
	if err := t.update(&p.purposeRow); err != nil {
		return 0, err
	}
	_, err = t.exec("UPDATE purposes SET secret = ?, wrapped = ? WHERE tenant = ? AND instance = ? AND purpose = ?", null(p.secret), null(p.wrapped), tenant, id[:], p.purpose)
	return generation, err
}
