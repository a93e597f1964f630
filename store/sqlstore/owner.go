package sqlstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/policy"
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
		same := err == nil && bytes.Equal(old, doc)
		ids, err := t.naming(tenant, name)
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
		if _, err := t.exec("INSERT INTO policies (tenant, name, document) VALUES (?, ?, ?) ON CONFLICT (tenant, name) DO UPDATE SET document = excluded.document", tenant, name, doc); err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := t.change(tenant, [16]byte(id)); err != nil {
				return err
			}
		}
		_, err = t.act(tenant, store.KindPolicy, store.Act{Policy: name, Digest: sha256.Sum256(doc), Order: order.Digest()})
		return err
	})
}

// naming returns the instances that name a policy.
func (t *tx) naming(tenant, name string) (ids [][]byte, err error) {
	err = t.each("SELECT instance FROM instance_policies WHERE tenant = ? AND name = ? ORDER BY instance", []any{tenant, name}, func(r scanner) error {
		var id []byte
		err := r.Scan(&id)
		if err == nil && len(id) != 16 {
			err = errors.New("sqlstore: the policies of an instance are damaged")
		}
		ids = append(ids, id)
		return err
	})
	return ids, err
}

// change raises the generation of an instance and voids its open
// authorizations. It returns the new generation, or NotFound.
func (t *tx) change(tenant string, id [16]byte) (uint64, error) {
	var generation int64
	found, err := t.row("SELECT generation FROM instances WHERE tenant = ? AND id = ? AND deleted = 0"+t.d.lock, []any{tenant, id[:]}, &generation)
	switch {
	case err != nil:
		return 0, err
	case !found:
		return 0, store.NotFound
	}
	generation++
	if _, err := t.exec("UPDATE instances SET generation = ? WHERE tenant = ? AND id = ?", generation, tenant, id[:]); err != nil {
		return 0, err
	}
	_, err = t.exec("UPDATE authorizations SET state = ? WHERE tenant = ? AND instance = ? AND not_after > ? AND state = 0 AND used < uses",
		stateVoided, tenant, id[:], t.now)
	return uint64(generation), err
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
	err = r.each("SELECT name FROM policies WHERE tenant = ? ORDER BY name", []any{tenant}, func(r scanner) error {
		var name string
		err := r.Scan(&name)
		all = append(all, name)
		return err
	})
	return all, err
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
		status, err = statusOf(t, tenant, id)
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
	generation, key, same, err := t.registered(tenant, id, want)
	if err != nil {
		return err
	}
	order, err := t.registerOrder(ctx, tenant, id, reg, generation, key)
	if err != nil || same {
		return err
	}
	if err := t.claim(tenant, id, reg.Launch.Claims); err != nil {
		return err
	}
	if generation == 0 {
		generation = 1
		launch := teebroker.LaunchID(tenant, id)
		_, err = t.exec("INSERT INTO instances (tenant, id, generation, launch_id, registration, deleted) VALUES (?, ?, 1, ?, ?, 0)", tenant, id[:], launch[:], want)
	} else if generation, err = t.change(tenant, id); err == nil {
		_, err = t.exec("UPDATE instances SET registration = ? WHERE tenant = ? AND id = ?", want, tenant, id[:])
	}
	if err != nil {
		return err
	}
	if _, err := t.exec("DELETE FROM instance_policies WHERE tenant = ? AND instance = ?", tenant, id[:]); err != nil {
		return err
	}
	for _, name := range reg.Policies {
		if _, err := t.exec("INSERT INTO instance_policies (tenant, name, instance) VALUES (?, ?, ?)", tenant, name, id[:]); err != nil {
			return err
		}
	}
	if err := t.registeredBy(tenant, id, order, generation, key); err != nil {
		return err
	}
	_, err = t.act(tenant, store.KindRegister, store.Act{Instance: id, Generation: generation, Digest: sha256.Sum256(want), Order: order.Digest()})
	return err
}

// registered returns the generation of an instance, zero if it is new, its owner
// key, and whether it is registered as wanted.
func (t *tx) registered(tenant string, id [16]byte, want []byte) (uint64, [32]byte, bool, error) {
	var generation int64
	var deleted int
	var has []byte
	found, err := t.row("SELECT generation, deleted, registration FROM instances WHERE tenant = ? AND id = ?"+t.d.lock, []any{tenant, id[:]}, &generation, &deleted, &has)
	switch {
	case err != nil || !found:
		return 0, [32]byte{}, false, err
	case deleted != 0:
		return 0, [32]byte{}, false, fmt.Errorf("%w: the instance was deleted", store.Conflict)
	}
	var reg store.Registration
	if err := json.Unmarshal(has, &reg); err != nil {
		return 0, [32]byte{}, false, errors.New("sqlstore: a registration is damaged")
	}
	return uint64(generation), reg.OwnerKey, bytes.Equal(has, want), nil
}

// claim makes launch claims those of an instance, for ever.
func (t *tx) claim(tenant string, id [16]byte, claims []store.Claim) error {
	for _, c := range claims {
		if own, ok := c.OwnValue(); ok {
			var of string
			var other []byte
			found, err := t.row("SELECT tenant, id FROM instances WHERE launch_id = ?", []any{own[:]}, &of, &other)
			if err != nil {
				return err
			}
			if found && (of != tenant || !bytes.Equal(other, id[:])) {
				return fmt.Errorf("%w: launch claim %s", store.Conflict, c.Name)
			}
		}
		if _, err := t.exec("INSERT INTO launch_claims (name, value, tenant, instance) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", c.Name, []byte(c.Want), tenant, id[:]); err != nil {
			return err
		}
		var of string
		var by []byte
		if _, err := t.row("SELECT tenant, instance FROM launch_claims WHERE name = ? AND value = ?", []any{c.Name, []byte(c.Want)}, &of, &by); err != nil {
			return err
		}
		if of != tenant || !bytes.Equal(by, id[:]) {
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
	return statusOf(r, tenant, id)
}

func statusOf(q querier, tenant string, id [16]byte) (store.Status, error) {
	var generation int64
	found, err := q.row("SELECT generation FROM instances WHERE tenant = ? AND id = ? AND deleted = 0", []any{tenant, id[:]}, &generation)
	if err == nil && !found {
		err = store.NotFound
	}
	if err != nil {
		return store.Status{}, err
	}
	status := store.Status{ID: id, Generation: uint64(generation), Blobs: map[string][]byte{}}
	if status.Registration, err = registration(q, instanceKey{tenant, id}); err != nil {
		if errors.Is(err, teebroker.NoInstance) {
			err = store.NotFound
		}
		return store.Status{}, err
	}
	if status.Registration.OwnerKey != [32]byte{} {
		all, err := orders(q, instanceKey{tenant, id}, status.Registration)
		if err != nil {
			return store.Status{}, err
		}
		status.State = all.State()
	}
	err = q.each("SELECT purpose, digest FROM purposes WHERE tenant = ? AND instance = ? ORDER BY purpose", []any{tenant, id[:]}, func(r scanner) error {
		var purpose string
		var digest []byte
		if err := r.Scan(&purpose, &digest); err != nil {
			return err
		}
		if digest == nil {
			status.Secrets = append(status.Secrets, purpose)
		} else {
			status.Blobs[purpose] = digest
		}
		return nil
	})
	if err != nil {
		return store.Status{}, err
	}
	return status, nil
}

// Instances implements [store.Owner].
func (s *Store) Instances(ctx context.Context, tenant string) ([][16]byte, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	var ids [][16]byte
	err = r.each("SELECT id FROM instances WHERE tenant = ? AND deleted = 0 ORDER BY id", []any{tenant}, func(r scanner) error {
		var id []byte
		if err := r.Scan(&id); err != nil {
			return err
		}
		if len(id) != 16 {
			return errors.New("sqlstore: an instance is damaged")
		}
		ids = append(ids, [16]byte(id))
		return nil
	})
	return ids, err
}

// Delete implements [store.Owner].
func (s *Store) Delete(ctx context.Context, tenant string, id [16]byte) error {
	return s.own(ctx, tenant, func(t *tx) error {
		order, err := t.ordered(ctx, teebroker.OrderDelete, tenant, id, "", [32]byte{})
		if err != nil {
			return err
		}
		generation, err := t.change(tenant, id)
		if err != nil {
			return err
		}
		if _, err := t.exec("UPDATE instances SET deleted = 1, registration = ? WHERE tenant = ? AND id = ?", []byte{}, tenant, id[:]); err != nil {
			return err
		}
		for _, q := range []string{
			"DELETE FROM purposes WHERE tenant = ? AND instance = ?",
			"DELETE FROM epoch_blobs WHERE tenant = ? AND instance = ?",
			"DELETE FROM orders WHERE tenant = ? AND instance = ?",
			"DELETE FROM instance_policies WHERE tenant = ? AND instance = ?",
			"UPDATE authorizations SET state = 2 WHERE tenant = ? AND instance = ?",
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

// current returns a Conflict unless the blob of a purpose is the one called want.
func (t *tx) current(tenant string, id [16]byte, purpose string, want []byte) error {
	var digest []byte
	found, err := t.row("SELECT digest FROM purposes WHERE tenant = ? AND instance = ? AND purpose = ?", []any{tenant, id[:], purpose}, &digest)
	if err == nil && (!found || !bytes.Equal(digest, want)) {
		err = fmt.Errorf("%w: another blob is registered", store.Conflict)
	}
	return err
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
		if err != nil {
			return err
		}
		generation, err := t.change(tenant, id)
		if err == nil {
			err = t.noEpochs(tenant, id, purpose)
		}
		if err == nil && p.old != nil {
			err = t.current(tenant, id, purpose, p.old[:])
		}
		if err == nil && p.secret != nil && order.Issuer != p.owner {
			err = fmt.Errorf("%w: the owner key was changed meanwhile", store.Conflict)
		}
		if err != nil {
			return err
		}
		var digest []byte
		if p.secret == nil {
			digest = p.digest[:]
			if err := t.keepOrder(tenant, id, store.SubjectBlob(purpose), order); err != nil {
				return err
			}
		} else if _, err := t.exec("DELETE FROM orders WHERE tenant = ? AND instance = ? AND subject = ?", tenant, id[:], store.SubjectBlob(purpose)); err != nil {
			return err
		}
		_, err = t.exec(`INSERT INTO purposes (tenant, instance, purpose, secret, digest, wrapped, epoch) VALUES (?, ?, ?, ?, ?, ?, 0)
ON CONFLICT (tenant, instance, purpose) DO UPDATE SET secret = excluded.secret, digest = excluded.digest, wrapped = excluded.wrapped, epoch = excluded.epoch`,
			tenant, id[:], purpose, null(p.secret), null(digest), null(p.wrapped))
		if err != nil {
			return err
		}
		_, err = t.act(tenant, p.kind, store.Act{Instance: id, Generation: generation, Purpose: purpose, Digest: p.digest, Order: order.Digest()})
		return err
	})
}

// digests are those of the documents that an instance names, in its order.
func digests(ps []*policy.Policy) [][32]byte {
	var ds [][32]byte
	for _, p := range ps {
		ds = append(ds, p.Digest())
	}
	return ds
}
