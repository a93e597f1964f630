package storetest

import (
	"context"
	"errors"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/memory"
)

type (
	registersTwice struct{ *memory.Owner }
	anyPlace       struct{ *memory.Owner }
	heldAndActive  struct{ *memory.Owner }
	namesNoEK      struct{ *memory.Owner }
	keepsOldEKs    struct{ *memory.Owner }
	anyTenantsEK   struct{ *memory.Owner }
)

func (s registersTwice) RegisterAgent(ctx context.Context, tenant string, ek [32]byte, a store.Agent) (store.Identity, error) {
	x, err := s.Owner.RegisterAgent(ctx, tenant, ek, a)
	if errors.Is(err, store.Conflict) {
		return s.ByEK(ctx, tenant, ek)
	}
	return x, err
}

func (s anyPlace) See(ctx context.Context, tenant string, ek [32]byte, seen store.Sighting) (store.Identity, error) {
	return s.ByEK(ctx, tenant, ek)
}

func (s heldAndActive) Activated(ctx context.Context, ek [32]byte, ak []byte) (bool, error) {
	for _, tenant := range []string{tenant, other} {
		if x, err := s.ByEK(ctx, tenant, ek); err == nil && x.Has(ak) {
			return true, nil
		}
	}
	return false, nil
}

func (s namesNoEK) Confirm(ctx context.Context, r teebroker.Released, c teebroker.Confirm, receipt []byte, e teebroker.Entry) ([]byte, error) {
	c.EK = [32]byte{}
	return s.Owner.Confirm(ctx, r, c, receipt, e)
}

// keepsOldEKs takes one that was superseded for the live one.
func (s keepsOldEKs) See(ctx context.Context, tenant string, ek [32]byte, seen store.Sighting) (store.Identity, error) {
	x, err := s.Owner.See(ctx, tenant, ek, seen)
	if errors.Is(err, teebroker.Superseded) {
		return s.ByEK(ctx, tenant, ek)
	}
	return x, err
}

func (s anyTenantsEK) ByEK(ctx context.Context, tenant string, ek [32]byte) (store.Identity, error) {
	x, err := s.Owner.ByEK(ctx, tenant, ek)
	if errors.Is(err, store.NotFound) {
		return s.Owner.ByEK(ctx, "acme", ek)
	}
	return x, err
}
