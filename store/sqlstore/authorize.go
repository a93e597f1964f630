package sqlstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// Authorize implements [store.Owner].
func (s *Store) Authorize(ctx context.Context, a teebroker.Authorization) (teebroker.Authorization, error) {
	a, err := store.CheckAuthorization(a)
	if err != nil {
		return teebroker.Authorization{}, err
	}
	var made teebroker.Authorization
	err = s.own(ctx, a.Tenant, func(t *tx) error {
		var err error
		made, err = t.authorize(ctx, a)
		return err
	})
	if err != nil {
		return teebroker.Authorization{}, err
	}
	return made, nil
}

func (t *tx) authorize(ctx context.Context, a teebroker.Authorization) (teebroker.Authorization, error) {
	order, err := t.ordered(ctx, teebroker.OrderAuthorize, a.Tenant, a.Instance, "", [32]byte{})
	if err == nil {
		a, err = order.Authorizes(a)
	}
	if err != nil {
		return a, err
	}
	if !instant(t.now).Before(a.NotAfter) {
		return a, fmt.Errorf("%w: the window is over", store.Invalid)
	}
	r, err := live(t, instanceKey{a.Tenant, a.Instance}, t.d.lock)
	switch {
	case err != nil:
		return a, err
	case r == nil:
		return a, store.NotFound
	}
	var same authorizationRow
	if found, err := fetch(t, &same, " FROM authorizations x WHERE x.tenant = ? AND x.id = ?", []any{a.Tenant, a.ID[:]}); err != nil || found {
		return a, errors.Join(err, fmt.Errorf("%w: there is an authorization of this id", store.Conflict))
	}
	var open int64
	if _, err := t.row("SELECT count(*) FROM authorizations WHERE tenant = ? AND instance = ? AND not_after > ? AND generation = ? AND era = ? AND state = 0 AND used < uses",
		[]any{a.Tenant, a.Instance[:], t.now, r.generation, int64(t.s.generation)}, &open); err != nil {
		return a, err
	}
	if open >= store.MaxOpen {
		return a, fmt.Errorf("%w: the instance has %d open authorizations: revoke some", store.Invalid, open)
	}
	if _, err := t.s.documentsOf(t, r); err != nil {
		return a, err
	}
	a.Policy, a.Generation = [32]byte(r.policy), uint64(r.generation)
	return t.insertAuthorization(a, order)
}

func (t *tx) insertAuthorization(a teebroker.Authorization, order store.Taken) (teebroker.Authorization, error) {
	after, err := stamp(a.NotAfter)
	if err != nil {
		return a, err
	}
	a.NotAfter = instant(after)
	var before int64
	if !a.NotBefore.IsZero() {
		if before, err = stamp(a.NotBefore); err != nil {
			return a, err
		}
		a.NotBefore = instant(before)
	}
	body, err := json.Marshal(authorizationBody{a.Purposes, a.Profiles, a.Chips, a.OutlivesConfirm})
	if err != nil {
		return a, err
	}
	act := store.Authorized(a)
	act.Order = order.Digest()
	made, err := t.act(a.Tenant, store.KindAuthorize, act)
	if err == nil {
		err = t.keepOrder(a.Tenant, a.Instance, store.SubjectAuthorization(a.ID), order)
	}
	if err != nil {
		return a, err
	}
	return store.CloneAuthorization(a), t.insert(&authorizationRow{
		tenant: a.Tenant, id: a.ID[:], version: 1, era: int64(t.s.generation), instance: a.Instance[:], made: int64(made), generation: int64(a.Generation),
		policy: a.Policy[:], uses: int64(a.Uses), before: before, after: after, body: body,
	})
}

// Authorizations implements [store.Owner].
func (s *Store) Authorizations(ctx context.Context, tenant string, id [16]byte) ([]store.AuthorizationStatus, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	var c clockRow
	var i instanceRow
	var db int64
	_, err = r.row("SELECT "+clockTable.as("c")+", "+s.d.clock+", "+instanceTable.as("i")+" FROM clock c LEFT JOIN instances i ON i.tenant = ? AND i.id = ?",
		[]any{tenant, id[:]}, append(append(dest(&c), &db), outer(&i)...)...)
	if err != nil {
		return nil, err
	}
	now, err := s.clock(&c, db)
	if err == nil && present(&i) {
		err = s.rows.check(&i)
	}
	switch {
	case err != nil:
		return nil, err
	case !present(&i) || i.deleted != 0:
		return nil, store.NotFound
	}
	var all []store.AuthorizationStatus
	err = r.each("SELECT "+authorizationTable.as("a")+" FROM authorizations a WHERE a.tenant = ? AND a.instance = ? ORDER BY a.made DESC", []any{tenant, id[:]}, func(r scanner) error {
		a, err := s.scanAuthorization(r)
		if err == nil {
			all = append(all, store.AuthorizationStatus{Authorization: a.Authorization, Used: int(a.used), State: a.word(now, i.generation)})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// word is the state of a, whose instance has a generation.
func (a *authorization) word(now, generation int64) string {
	switch {
	case a.state != stateNormal:
		return "REVOKED"
	case a.used >= a.uses:
		return "DONE"
	case !a.current || a.generation != generation:
		return "REVOKED"
	case !instant(now).Before(a.NotAfter):
		return "EXPIRED"
	}
	return "OPEN"
}

// Revoke implements [store.Owner]. What was released under it is not served any
// more.
func (s *Store) Revoke(ctx context.Context, tenant string, id, authorization [16]byte) error {
	return s.own(ctx, tenant, func(t *tx) error {
		if _, err := load(t, instanceKey{tenant, id}, t.d.lock); err != nil {
			return err
		}
		var a authorizationRow
		found, err := fetch(t, &a, " FROM authorizations x WHERE x.tenant = ? AND x.instance = ? AND x.id = ?", []any{tenant, id[:], authorization[:]})
		switch {
		case err != nil:
			return err
		case !found:
			return store.NotFound
		case a.state == stateRevoked:
			return nil
		}
		if err := t.version(&a); err != nil {
			return err
		}
		a.state, a.version = stateRevoked, a.version+1
		if err := t.update(&a); err != nil {
			return err
		}
		if _, err := t.exec("UPDATE releases SET sealed = NULL, confirm_key = NULL WHERE tenant = ? AND auth = ?", tenant, authorization[:]); err != nil {
			return err
		}
		_, err = t.act(tenant, store.KindRevoke, store.Act{Instance: id, Authorization: authorization})
		return err
	})
}

// AddTenant implements [store.Tenants].
func (s *Store) AddTenant(ctx context.Context, tenant string, token [32]byte) error {
	if token == [32]byte{} {
		return fmt.Errorf("%w: no token", store.Invalid)
	}
	return s.own(ctx, tenant, func(t *tx) error {
		added, err := t.insertNew(&tokenRow{token: token[:], tenant: tenant})
		if err != nil {
			return err
		}
		if !added {
			return fmt.Errorf("%w: the token is known", store.Conflict)
		}
		_, err = t.act(tenant, store.KindToken, store.Act{Digest: token})
		return err
	})
}

// Tenant implements [store.Tenants].
func (s *Store) Tenant(ctx context.Context, token [32]byte) (string, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return "", err
	}
	var row tokenRow
	found, err := fetch(r, &row, " FROM tokens x WHERE x.token = ?", []any{token[:]})
	if err == nil && !found {
		err = store.NotFound
	}
	if err != nil {
		return "", err
	}
	return row.tenant, nil
}

// RemoveToken implements [store.Tenants].
func (s *Store) RemoveToken(ctx context.Context, token [32]byte) error {
	tenant, err := s.Tenant(ctx, token)
	if err != nil {
		return err
	}
	return s.own(ctx, tenant, func(t *tx) error {
		n, err := t.exec("DELETE FROM tokens WHERE token = ? AND tenant = ?", token[:], tenant)
		if err == nil && n == 0 {
			err = errors.Join(store.NotFound)
		}
		if err != nil {
			return err
		}
		_, err = t.act(tenant, store.KindTokenEnd, store.Act{Digest: token})
		return err
	})
}
