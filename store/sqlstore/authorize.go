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
	k := instanceKey{a.Tenant, a.Instance}
	var generation, open, same int64
	found, err := t.row("SELECT generation FROM instances WHERE tenant = ? AND id = ? AND deleted = 0"+t.d.lock, []any{a.Tenant, a.Instance[:]}, &generation)
	switch {
	case err != nil:
		return a, err
	case !found:
		return a, store.NotFound
	}
	if _, err := t.row("SELECT count(*) FROM authorizations WHERE tenant = ? AND id = ?", []any{a.Tenant, a.ID[:]}, &same); err != nil {
		return a, err
	}
	if same > 0 {
		return a, fmt.Errorf("%w: there is an authorization of this id", store.Conflict)
	}
	if _, err := t.row("SELECT count(*) FROM authorizations WHERE tenant = ? AND instance = ? AND not_after > ? AND state = 0 AND used < uses", []any{a.Tenant, a.Instance[:], t.now}, &open); err != nil {
		return a, err
	}
	if open >= store.MaxOpen {
		return a, fmt.Errorf("%w: the instance has %d open authorizations: revoke some", store.Invalid, open)
	}
	reg, err := registration(t, k)
	if err != nil {
		return a, err
	}
	ps, err := t.s.policies(t, a.Tenant, reg.Policies)
	if err != nil {
		return a, err
	}
	a.Policy, a.Generation = teebroker.PolicyDigest(digests(ps)...), uint64(generation)
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
	_, err = t.exec(`INSERT INTO authorizations (tenant, id, instance, made, generation, policy, uses, used, not_before, not_after, state, body)
VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, 0, ?)`, a.Tenant, a.ID[:], a.Instance[:], int64(made), int64(a.Generation), a.Policy[:], a.Uses, before, after, body)
	return store.CloneAuthorization(a), err
}

// Authorizations implements [store.Owner].
func (s *Store) Authorizations(ctx context.Context, tenant string, id [16]byte) ([]store.AuthorizationStatus, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	var marked, db int64
	var generation *int64
	_, err = r.row("SELECT c.latest, "+s.d.clock+", i.generation FROM clock c LEFT JOIN instances i ON i.tenant = ? AND i.id = ? AND i.deleted = 0", []any{tenant, id[:]}, &marked, &db, &generation)
	if err != nil {
		return nil, err
	}
	now, err := s.now(marked, db)
	switch {
	case err != nil:
		return nil, err
	case generation == nil:
		return nil, store.NotFound
	}
	var all []store.AuthorizationStatus
	err = r.each("SELECT "+authorizationColumns+" FROM authorizations a WHERE a.tenant = ? AND a.instance = ? ORDER BY a.made DESC", []any{tenant, id[:]}, func(r scanner) error {
		a, err := scanAuthorization(r, tenant)
		if err == nil {
			all = append(all, store.AuthorizationStatus{Authorization: a.Authorization, Used: a.used, State: a.word(now)})
		}
		return err
	})
	return all, err
}

// word is the state of a.
func (a *authorization) word(now int64) string {
	switch {
	case a.state != stateNormal:
		return "REVOKED"
	case a.used >= a.Uses:
		return "DONE"
	case !instant(now).Before(a.NotAfter):
		return "EXPIRED"
	}
	return "OPEN"
}

// Revoke implements [store.Owner]. What was released under it is not served any
// more.
func (s *Store) Revoke(ctx context.Context, tenant string, id, authorization [16]byte) error {
	return s.own(ctx, tenant, func(t *tx) error {
		var state int
		if _, err := t.row("SELECT 1 FROM instances WHERE tenant = ? AND id = ?"+t.d.lock, []any{tenant, id[:]}, &state); err != nil {
			return err
		}
		found, err := t.row("SELECT state FROM authorizations WHERE tenant = ? AND instance = ? AND id = ?", []any{tenant, id[:], authorization[:]}, &state)
		switch {
		case err != nil:
			return err
		case !found:
			return store.NotFound
		case state == stateRevoked:
			return nil
		}
		if _, err := t.exec("UPDATE authorizations SET state = ? WHERE tenant = ? AND id = ?", stateRevoked, tenant, authorization[:]); err != nil {
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
		n, err := t.exec("INSERT INTO tokens (token, tenant) VALUES (?, ?) ON CONFLICT DO NOTHING", token[:], tenant)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: the token is known", store.Conflict)
		}
		_, err = t.act(tenant, store.KindToken, store.Act{Digest: token})
		return err
	})
}

// Tenant implements [store.Tenants].
func (s *Store) Tenant(ctx context.Context, token [32]byte) (tenant string, err error) {
	r, err := s.reader(ctx)
	if err != nil {
		return "", err
	}
	found, err := r.row("SELECT tenant FROM tokens WHERE token = ?", []any{token[:]}, &tenant)
	if err == nil && !found {
		err = store.NotFound
	}
	return tenant, err
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
