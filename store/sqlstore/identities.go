package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/epoch"
	"github.com/teebroker/teebroker/internal/identity"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
)

// Identities are written under the lock of their tenant, see own: an event looks at
// more than one row.

var errIdentity = errors.New("sqlstore: an identity is damaged")

var identityColumns = "SELECT " + identityTable.as("x") + " FROM identities x "

// identities returns those that a query finds, which begins with identityColumns.
func identities(q querier, query string, args ...any) (all []store.Identity, err error) {
	err = q.each(query, args, func(r scanner) error {
		var row identityRow
		if err := r.Scan(dest(&row)...); err != nil {
			return err
		}
		if err := q.store().rows.check(&row); err != nil {
			return err
		}
		var x store.Identity
		if err := strictjson.Unmarshal(row.body, &x); err != nil {
			return errIdentity
		}
		if x.Tenant != row.tenant || !bytes.Equal(x.EK[:], row.ek) || !bytes.Equal(x.Instance[:], row.instance) || string(x.State) != row.state {
			return errIdentity
		}
		all = append(all, x)
		return nil
	})
	return all, err
}

// one returns the first of what identities returns, or NotFound.
func one(q querier, query string, args ...any) (store.Identity, error) {
	all, err := identities(q, query, args...)
	if err == nil && len(all) == 0 {
		err = store.NotFound
	}
	if err != nil {
		return store.Identity{}, err
	}
	return all[0], nil
}

func byEK(q querier, tenant string, ek [32]byte) (store.Identity, error) {
	return one(q, identityColumns+"WHERE tenant = ? AND ek = ?", tenant, ek[:])
}

// An agent that registered comes before one that would have its id.
func byAgent(q querier, tenant, agent string) (store.Identity, error) {
	x, err := one(q, identityColumns+"WHERE tenant = ? AND agent = ?", tenant, agent)
	if errors.Is(err, store.NotFound) {
		return one(q, identityColumns+"WHERE tenant = ? AND agent_id = ? ORDER BY made DESC, ek LIMIT 1", tenant, agent)
	}
	return x, err
}

// view is what an event of ek and an instance depends on.
func (t *tx) view(k instanceKey, ek [32]byte) (identity.View, error) {
	v := identity.View{Now: instant(t.now), Tenant: k.tenant, Instance: k.id}
	reg, err := registration(t, k)
	if err != nil && !errors.Is(err, teebroker.NoInstance) {
		return v, err
	}
	v.Ephemeral = reg.AllowEphemeralVTPM
	has, err := byEK(t, k.tenant, ek)
	switch {
	case err == nil:
		v.Has = &has
	case !errors.Is(err, store.NotFound):
		return v, err
	}
	v.Rest, err = identities(t, identityColumns+"WHERE tenant = ? AND instance = ? AND ek <> ? AND state <> ?",
		k.tenant, k.id[:], ek[:], string(store.IdentitySuperseded))
	return v, err
}

// keepEK makes c what is known, with what is recorded of it, which is nothing
// without a kind. If c is suspicious, held is teebroker.Held: that is durable when
// the transaction is.
func (t *tx) keepEK(tenant string, c identity.Change, kind teebroker.Kind, act store.Act) (held, err error) {
	for _, x := range c.Write {
		if err := t.writeEK(x); err != nil {
			return nil, err
		}
	}
	if c.Why != "" {
		if err := t.holdEpochs(tenant, c.Hold); err != nil {
			return nil, err
		}
		held = teebroker.Held
	}
	if c.Why == "" && kind == "" {
		return nil, nil
	}
	es, err := c.Entries(tenant, kind, act)
	if err != nil {
		return nil, err
	}
	for _, e := range es {
		if _, err := t.add(e); err != nil {
			return nil, err
		}
	}
	return held, nil
}

func (t *tx) writeEK(x store.Identity) error {
	body, err := json.Marshal(x)
	if err != nil {
		return err
	}
	made, err := stamp(x.Made)
	if err != nil {
		return err
	}
	row := identityRow{tenant: x.Tenant, ek: x.EK[:], instance: x.Instance[:], state: string(x.State), made: made, agent: text(x.Agent), agentID: text(x.AgentID), body: body}
	var old identityRow
	found, err := fetch(t, &old, " FROM identities x WHERE x.tenant = ? AND x.ek = ?", []any{x.Tenant, x.EK[:]})
	switch {
	case err != nil:
		return err
	case !found:
		return t.insert(&row)
	}
	row.instance, row.made, row.stored = old.instance, old.made, old.stored
	return t.update(&row)
}

// text is s, or NULL.
func text(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

// holdEpochs holds the epochs of instances that can be.
func (t *tx) holdEpochs(tenant string, instances [][16]byte) error {
	var keys []instanceKey
	for _, id := range instances {
		keys = append(keys, instanceKey{tenant, id})
	}
	if err := t.lock([]*job{{locks: keys}}); err != nil {
		return err
	}
	for _, k := range keys {
		var rows []epochRow
		err := t.each("SELECT "+epochTable.as("x")+" FROM epochs x WHERE x.tenant = ? AND x.instance = ?", []any{k.tenant, k.id[:]}, func(r scanner) error {
			var row epochRow
			err := r.Scan(dest(&row)...)
			rows = append(rows, row)
			return err
		})
		if err != nil {
			return err
		}
		for _, row := range rows {
			e, err := t.s.parseEpochs(row)
			if err != nil {
				return err
			}
			held, err := e.is.Hold()
			if err != nil || e.is.Status == epoch.Held {
				continue
			}
			if err := t.set(epochPlace{k.tenant, k.id, row.purpose}, e, held); err != nil {
				return err
			}
		}
	}
	return nil
}

// confirmEK is what a confirm says of the TPM of its guest, if anything. If held is
// not nil, the confirm does not happen.
func (t *tx) confirmEK(k instanceKey, said teebroker.Confirm) (held, err error) {
	if said.EK == (strictjson.Digest{}) {
		return nil, nil
	}
	v, err := t.view(k, said.EK)
	if err != nil {
		return nil, err
	}
	c, err := v.Confirm(said)
	if err != nil {
		return nil, err
	}
	return t.keepEK(k.tenant, c, "", store.Act{})
}

// supersedeEKs is that an instance is deleted.
func (t *tx) supersedeEKs(tenant string, id [16]byte) error {
	all, err := identities(t, identityColumns+"WHERE tenant = ? AND instance = ? AND state <> ?", tenant, id[:], string(store.IdentitySuperseded))
	if err != nil {
		return err
	}
	for _, x := range all {
		x.State, x.Why = store.IdentitySuperseded, ""
		if err := t.writeEK(x); err != nil {
			return err
		}
	}
	return nil
}

// onEK runs an event of an EK in an instance, which is that of the EK if it is zero.
func (s *Store) onEK(ctx context.Context, k instanceKey, ek [32]byte, kind teebroker.Kind, act *store.Act, event func(*tx, identity.View) (identity.Change, error)) (store.Identity, error) {
	var x store.Identity
	var held error
	err := s.own(ctx, k.tenant, func(t *tx) error {
		held = nil
		k := k
		if k.id == [16]byte{} {
			has, err := byEK(t, k.tenant, ek)
			if err != nil {
				return err
			}
			k.id = has.Instance
		}
		v, err := t.view(k, ek)
		if err != nil {
			return err
		}
		c, err := event(t, v)
		if err != nil {
			return err
		}
		x = c.Identity
		held, err = t.keepEK(k.tenant, c, kind, *act)
		return err
	})
	if err == nil {
		err = held
	}
	if err != nil {
		return store.Identity{}, err
	}
	return x, nil
}

// Bind implements [store.Identities].
func (s *Store) Bind(ctx context.Context, b store.Bound) (store.Identity, error) {
	if err := b.Check(); err != nil {
		return store.Identity{}, err
	}
	b.Public, b.AK, b.Seen = bytes.Clone(b.Public), bytes.Clone(b.AK), b.Seen.Clone()
	k := instanceKey{b.Tenant, b.Instance}
	return s.onEK(ctx, k, b.EK(), store.KindIdentity, &store.Act{Generation: b.Generation, AK: b.AK}, func(t *tx, v identity.View) (identity.Change, error) {
		if err := t.lock([]*job{{locks: []instanceKey{k}}}); err != nil {
			return identity.Change{}, err
		}
		switch generation, ok := t.instances[k]; {
		case !ok:
			return identity.Change{}, store.NotFound
		case generation != b.Generation:
			return identity.Change{}, teebroker.NotAuthorized
		}
		return v.Bind(b)
	})
}

// See implements [store.Identities].
func (s *Store) See(ctx context.Context, tenant string, ek [32]byte, seen store.Sighting) (store.Identity, error) {
	if err := seen.Check(); err != nil {
		return store.Identity{}, err
	}
	seen = seen.Clone()
	return s.onEK(ctx, instanceKey{tenant: tenant}, ek, "", &store.Act{}, func(_ *tx, v identity.View) (identity.Change, error) {
		return v.See(seen)
	})
}

// RegisterAgent implements [store.Identities].
func (s *Store) RegisterAgent(ctx context.Context, tenant string, ek [32]byte, a store.Agent) (store.Identity, error) {
	if err := a.Check(ek); err != nil {
		return store.Identity{}, err
	}
	a.Public = bytes.Clone(a.Public)
	return s.onEK(ctx, instanceKey{tenant: tenant}, ek, store.KindAgent, &store.Act{Agent: a.ID}, func(t *tx, v identity.View) (identity.Change, error) {
		of, err := byAgent(t, tenant, a.ID)
		switch {
		case err == nil:
			return v.Register(a, &of)
		case errors.Is(err, store.NotFound):
			return v.Register(a, nil)
		}
		return identity.Change{}, err
	})
}

// ResumeEK implements [store.Identities].
func (s *Store) ResumeEK(ctx context.Context, tenant string, instance [16]byte, ek [32]byte) (store.Identity, error) {
	if err := store.CheckInstance(tenant, instance); err != nil {
		return store.Identity{}, err
	}
	k := instanceKey{tenant, instance}
	act := &store.Act{}
	return s.onEK(ctx, k, ek, store.KindResume, act, func(t *tx, v identity.View) (identity.Change, error) {
		order, err := t.ordered(ctx, teebroker.OrderResumeEK, tenant, instance, hex.EncodeToString(ek[:]), [32]byte{})
		if err != nil {
			return identity.Change{}, err
		}
		act.Order = order.Digest()
		return v.Resume()
	})
}

// Activated implements [store.Identities].
func (s *Store) Activated(ctx context.Context, ek [32]byte, ak []byte) (bool, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return false, err
	}
	all, err := identities(r, identityColumns+"WHERE ek = ? AND state = ?", ek[:], string(store.IdentityLive))
	if err != nil {
		return false, err
	}
	for _, x := range all {
		if x.Has(ak) {
			return true, nil
		}
	}
	return false, nil
}

// ByEK implements [store.Identities].
func (s *Store) ByEK(ctx context.Context, tenant string, ek [32]byte) (store.Identity, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return store.Identity{}, err
	}
	return byEK(r, tenant, ek)
}

// ByAgent implements [store.Identities].
func (s *Store) ByAgent(ctx context.Context, tenant, agent string) (store.Identity, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return store.Identity{}, err
	}
	return byAgent(r, tenant, agent)
}

// Live implements [store.Identities].
func (s *Store) Live(ctx context.Context, tenant string, instance [16]byte) (store.Identity, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return store.Identity{}, err
	}
	all, err := identities(r, identityColumns+"WHERE tenant = ? AND instance = ? AND state <> ?", tenant, instance[:], string(store.IdentitySuperseded))
	switch {
	case err != nil:
		return store.Identity{}, err
	case len(all) == 0:
		return store.Identity{}, store.NotFound
	}
	for _, x := range all {
		if x.State != store.IdentityLive {
			return store.Identity{}, teebroker.Held
		}
	}
	return all[0], nil
}

// EKs implements [store.Identities].
func (s *Store) EKs(ctx context.Context, tenant string, instance [16]byte) ([]store.Identity, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	return identities(r, identityColumns+"WHERE tenant = ? AND instance = ? ORDER BY made DESC, ek LIMIT ?", tenant, instance[:], store.MaxEKs)
}
