package memory

import (
	"bytes"
	"context"
	"encoding/hex"
	"slices"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/epoch"
	"github.com/teebroker/teebroker/internal/identity"
	"github.com/teebroker/teebroker/store"
)

type ekKey struct {
	tenant string
	ek     [32]byte
}

// view is what an event of ek and the instance k depends on.
func (s *Store) view(k id, ek [32]byte, now time.Time) identity.View {
	v := identity.View{Now: now, Tenant: k.tenant, Instance: k.instance, Ephemeral: s.instances[k].AllowEphemeralVTPM}
	for at, x := range s.ids {
		switch {
		case at.tenant != k.tenant:
		case at.ek == ek:
			v.Has = &x
		case x.Instance == k.instance && x.State != store.IdentitySuperseded:
			v.Rest = append(v.Rest, x)
		}
	}
	return v
}

// keepEK makes c what is known, with what is recorded of it.
func (s *Store) keepEK(tenant string, c identity.Change, now time.Time, kind teebroker.Kind, act store.Act) (store.Identity, error) {
	es, err := c.Entries(tenant, kind, act)
	if err != nil {
		return store.Identity{}, err
	}
	if kind == "" && c.Why == "" {
		es = nil
	}
	for _, x := range c.Write {
		s.ids[ekKey{tenant, x.EK}] = x.Clone()
	}
	for _, e := range es {
		s.add(e, now)
	}
	if c.Why == "" {
		return c.Identity.Clone(), nil
	}
	for at, row := range s.rows {
		if at.tenant != tenant || !slices.Contains(c.Hold, at.instance) {
			continue
		}
		if held, err := row.Hold(); err == nil && row.Status != epoch.Held {
			s.set(at, held)
		}
	}
	return store.Identity{}, teebroker.Held
}

// confirmEK is what a confirm says of the TPM of its guest, if anything.
func (s *Store) confirmEK(k id, said teebroker.Confirm, now time.Time) error {
	if said.EK == [32]byte{} {
		return nil
	}
	c, err := s.view(k, said.EK, now).Confirm(said)
	if err == nil {
		_, err = s.keepEK(k.tenant, c, now, "", store.Act{})
	}
	return err
}

// onEK runs an event of an EK that is known, in its own instance.
func (s *Store) onEK(tenant string, ek [32]byte, kind teebroker.Kind, act *store.Act, event func(identity.View) (identity.Change, error)) (store.Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.now()
	if err != nil {
		return store.Identity{}, err
	}
	has, ok := s.ids[ekKey{tenant, ek}]
	if !ok {
		return store.Identity{}, store.NotFound
	}
	c, err := event(s.view(id{tenant, has.Instance}, ek, now))
	if err != nil {
		return store.Identity{}, err
	}
	return s.keepEK(tenant, c, now, kind, *act)
}

// Bind implements [store.Identities].
func (s *Store) Bind(ctx context.Context, b store.Bound) (store.Identity, error) {
	if err := b.Check(); err != nil {
		return store.Identity{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.now()
	if err != nil {
		return store.Identity{}, err
	}
	k := id{b.Tenant, b.Instance}
	switch inst, ok := s.instances[k]; {
	case !ok:
		return store.Identity{}, store.NotFound
	case inst.Generation != b.Generation:
		return store.Identity{}, teebroker.NotAuthorized
	}
	c, err := s.view(k, b.EK(), now).Bind(b)
	if err != nil {
		return store.Identity{}, err
	}
	return s.keepEK(b.Tenant, c, now, store.KindIdentity, store.Act{Generation: b.Generation, AK: slices.Clone(b.AK)})
}

// See implements [store.Identities].
func (s *Store) See(ctx context.Context, tenant string, ek [32]byte, seen store.Sighting) (store.Identity, error) {
	if err := seen.Check(); err != nil {
		return store.Identity{}, err
	}
	return s.onEK(tenant, ek, "", &store.Act{}, func(v identity.View) (identity.Change, error) { return v.See(seen) })
}

// Activated implements [store.Identities].
func (s *Store) Activated(ctx context.Context, ek [32]byte, ak []byte) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, x := range s.ids {
		if at.ek == ek && x.State == store.IdentityLive && x.Has(ak) {
			return true, nil
		}
	}
	return false, nil
}

// ByEK implements [store.Identities].
func (s *Store) ByEK(ctx context.Context, tenant string, ek [32]byte) (store.Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.ids[ekKey{tenant, ek}]
	if !ok {
		return store.Identity{}, store.NotFound
	}
	return x.Clone(), nil
}

// ByAgent implements [store.Identities].
func (s *Store) ByAgent(ctx context.Context, tenant, agent string) (store.Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.agent(tenant, agent)
	if x == nil {
		return store.Identity{}, store.NotFound
	}
	return x.Clone(), nil
}

// agent returns the Identity of an agent, or nil. One that registered comes before
// one that would have its id.
func (s *Store) agent(tenant, agent string) (found *store.Identity) {
	if agent == "" {
		return nil
	}
	for at, x := range s.ids {
		switch {
		case at.tenant != tenant:
		case x.Agent == agent:
			return &x
		case x.AgentID == agent && (found == nil || newer(x, *found) < 0):
			found = &x
		}
	}
	return found
}

// newer compares for the order of EKs.
func newer(a, b store.Identity) int {
	if c := b.Made.Compare(a.Made); c != 0 {
		return c
	}
	return bytes.Compare(a.EK[:], b.EK[:])
}

// Live implements [store.Identities].
func (s *Store) Live(ctx context.Context, tenant string, instance [16]byte) (store.Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var live *store.Identity
	for at, x := range s.ids {
		switch {
		case at.tenant != tenant || x.Instance != instance:
		case x.State == store.IdentityHeld:
			return store.Identity{}, teebroker.Held
		case x.State == store.IdentityLive:
			live = &x
		}
	}
	if live == nil {
		return store.Identity{}, store.NotFound
	}
	return live.Clone(), nil
}

// EKs implements [store.Identities].
func (s *Store) EKs(ctx context.Context, tenant string, instance [16]byte) ([]store.Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []store.Identity
	for at, x := range s.ids {
		if at.tenant == tenant && x.Instance == instance {
			all = append(all, x.Clone())
		}
	}
	slices.SortFunc(all, newer)
	return all[:min(len(all), store.MaxEKs)], nil
}

// RegisterAgent implements [store.Identities].
func (s *Store) RegisterAgent(ctx context.Context, tenant string, ek [32]byte, a store.Agent) (store.Identity, error) {
	if err := a.Check(ek); err != nil {
		return store.Identity{}, err
	}
	return s.onEK(tenant, ek, store.KindAgent, &store.Act{Agent: a.ID}, func(v identity.View) (identity.Change, error) {
		return v.Register(a, s.agent(tenant, a.ID))
	})
}

// ResumeEK implements [store.Identities].
func (s *Store) ResumeEK(ctx context.Context, tenant string, instance [16]byte, ek [32]byte) (store.Identity, error) {
	act, k := &store.Act{}, id{tenant, instance}
	return s.onEK(tenant, ek, store.KindResume, act, func(v identity.View) (identity.Change, error) {
		if _, ok := s.instances[k]; !ok || v.Instance != instance {
			return identity.Change{}, store.NotFound
		}
		order, err := s.ordered(ctx, teebroker.OrderResumeEK, k, hex.EncodeToString(ek[:]), [32]byte{}, s.latest)
		if err != nil {
			return identity.Change{}, err
		}
		c, err := v.Resume()
		if err == nil {
			act.Order = order.Digest()
			s.keepOrder(k, "", order)
		}
		return c, err
	})
}
