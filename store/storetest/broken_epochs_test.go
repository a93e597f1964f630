package storetest

import (
	"context"
	"errors"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/memory"
)

type (
	anyBlob        struct{ *memory.Owner }
	confirmsAnyhow struct{ *memory.Owner }
	otherConfirms  struct{ *memory.Owner }
	staysOpen      struct{ *memory.Owner }
	holdsNothing   struct{ *memory.Owner }
	otherSlot      struct{ *memory.Owner }
	noCopy         struct{ *memory.Owner }
	showsForEver   struct{ *memory.Owner }
	keepsKeys      struct{ *memory.Owner }
)

func (s showsForEver) Shown(ctx context.Context, value [32]byte) (teebroker.Shown, error) {
	got, err := s.Owner.Shown(ctx, value)
	if got.State == teebroker.ShownSuperseded {
		got.State = teebroker.ShownLive
	}
	return got, err
}

func (s anyBlob) Check(ctx context.Context, g teebroker.Grant) (teebroker.Terms, error) {
	g.Presented = [32]byte{}
	return s.Owner.Check(ctx, g)
}

func (s confirmsAnyhow) Confirm(ctx context.Context, r teebroker.Released, c teebroker.Confirm, receipt []byte, e teebroker.Entry) ([]byte, error) {
	stored, err := s.Owner.Confirm(ctx, r, c, receipt, e)
	if errors.Is(err, teebroker.Superseded) {
		return receipt, nil
	}
	return stored, err
}

func (s otherConfirms) Confirm(ctx context.Context, r teebroker.Released, c teebroker.Confirm, receipt []byte, e teebroker.Entry) ([]byte, error) {
	_, err := s.Owner.Confirm(ctx, r, c, receipt, e)
	return receipt, err
}

func (s staysOpen) Authorize(ctx context.Context, a teebroker.Authorization) (teebroker.Authorization, error) {
	a.OutlivesConfirm, a.Uses = true, a.Uses+2
	return s.Owner.Authorize(ctx, a)
}

func (s holdsNothing) Hold(ctx context.Context, tenant string, id [16]byte, purpose string) (store.EpochStatus, error) {
	return s.Epoch(ctx, tenant, id, purpose)
}

func (s otherSlot) Recover(ctx context.Context, tenant string, id [16]byte, purpose string, b teebroker.Blob, _ uint64) (store.EpochStatus, error) {
	return s.Owner.Recover(ctx, tenant, id, purpose, b, 0)
}

func (s noCopy) Check(ctx context.Context, g teebroker.Grant) (teebroker.Terms, error) {
	terms, err := s.Owner.Check(ctx, g)
	if terms.Epoch != nil {
		terms.Epoch.Wrapped = nil
	}
	return terms, err
}

// keepsKeys has the wrapped keys of all epochs.
func (s keepsKeys) EpochBlob(ctx context.Context, tenant string, id [16]byte, purpose string, number uint64) (teebroker.Blob, uint64, error) {
	b, high, err := s.Owner.EpochBlob(ctx, tenant, id, purpose, number)
	if err == nil && b.Wrapped == nil {
		b.Wrapped = epochBlob(number).Wrapped
	}
	return b, high, err
}
