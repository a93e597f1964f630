package storetest

import (
	"context"
	"errors"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/memory"
)

type (
	anyOrder     struct{ *memory.Owner }
	losesOrders  struct{ *memory.Owner }
	losesTerms   struct{ *memory.Owner }
	ordersTwice  struct{ *memory.Owner }
	anyOwner     struct{ *memory.Owner }
	anysDocument struct{ *memory.Owner }
)

func (s anyOrder) Retire(ctx context.Context, tenant string, id [16]byte, purpose string) (store.EpochStatus, error) {
	e, err := s.Owner.Retire(ctx, tenant, id, purpose)
	if errors.Is(err, store.Unordered) {
		return s.Epoch(ctx, tenant, id, purpose)
	}
	return e, err
}

func (s losesOrders) Instance(ctx context.Context, l teebroker.Lookup) (teebroker.Instance, error) {
	inst, err := s.Owner.Instance(ctx, l)
	if inst.Orders != nil {
		inst.Orders.Blobs = nil
	}
	return inst, err
}

func (s losesTerms) Check(ctx context.Context, g teebroker.Grant) (teebroker.Terms, error) {
	terms, err := s.Owner.Check(ctx, g)
	terms.Order.Body = nil
	return terms, err
}

func (s ordersTwice) Authorize(ctx context.Context, a teebroker.Authorization) (teebroker.Authorization, error) {
	got, err := s.Owner.Authorize(ctx, a)
	if errors.Is(err, store.Unordered) {
		return a, nil
	}
	return got, err
}

func (s anyOwner) Register(ctx context.Context, tenant string, id [16]byte, r store.Registration) (store.Status, error) {
	status, err := s.Owner.Register(ctx, tenant, id, r)
	if errors.Is(err, store.Unordered) {
		return s.Status(ctx, tenant, id)
	}
	return status, err
}

func (s anysDocument) PutPolicy(ctx context.Context, tenant, name string, document []byte) error {
	err := s.Owner.PutPolicy(ctx, tenant, name, document)
	if errors.Is(err, store.Unordered) {
		return nil
	}
	return err
}
