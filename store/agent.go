package store

import (
	"context"
	"errors"
)

// RegisterAgain is [Identities.RegisterAgent] for who asks more than once, such as a
// tenant's check before each use of an agent: that a registered with ek since the
// start already is no Conflict. Two guests of one state that say the same can't be
// told apart by it.
func RegisterAgain(ctx context.Context, ids Identities, tenant string, ek [32]byte, a Agent) (Identity, error) {
	id, err := ids.RegisterAgent(ctx, tenant, ek, a)
	if !errors.Is(err, Conflict) {
		return id, err
	}
	has, e := ids.ByEK(ctx, tenant, ek)
	switch {
	case e != nil:
		return Identity{}, e
	case has.State != IdentityLive || has.Agent != a.ID || has.Registered.IsZero():
		return Identity{}, err
	}
	return has, nil
}
