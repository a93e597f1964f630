package sqlstore

import (
	"bytes"
	"context"
	"fmt"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/epoch"
	"github.com/teebroker/teebroker/store"
)

// Begin implements [store.Owner].
func (s *Store) Begin(ctx context.Context, tenant string, instance [16]byte, purpose string, start store.EpochStart) (store.EpochStatus, error) {
	if err := store.CheckEpochBlob(tenant, instance, purpose, start.Blob); err != nil {
		return store.EpochStatus{}, err
	}
	b := start.Blob
	b.Wrapped = bytes.Clone(b.Wrapped)
	first, err := epoch.Row{}.Register(epoch.Mode(start.Mode), b.Epoch, b.Digest, start.Initial)
	if err != nil {
		return store.EpochStatus{}, fmt.Errorf("%w: mode is boot or write", store.Invalid)
	}
	at := epochPlace{tenant, instance, purpose}
	err = s.own(ctx, tenant, func(t *tx) error {
		order, err := t.ordered(ctx, teebroker.OrderEpoch, tenant, instance, purpose, b.Digest)
		if err == nil {
			err = t.noEpochs(tenant, instance, purpose)
		}
		if err == nil {
			err = t.keepOrder(tenant, instance, store.SubjectBlob(purpose), order)
		}
		if err != nil {
			return err
		}
		generation, err := t.changePurpose(tenant, instance, stored{purposeRow: purposeRow{purpose: purpose, digest: b.Digest[:], epoch: int64(b.Epoch)}}, nil)
		if err != nil {
			return err
		}
		if err := t.set(at, nil, first); err != nil {
			return err
		}
		if err := t.keep(at, b); err != nil {
			return err
		}
		_, err = t.act(tenant, store.KindEpoch, store.Act{
			Instance: instance, Generation: generation, Purpose: purpose, Epoch: b.Epoch, Digest: b.Digest, Initial: start.Initial,
			Order: order.Digest(),
		})
		return err
	})
	if err != nil {
		return store.EpochStatus{}, err
	}
	return store.StatusOf(first), nil
}

// noEpochs returns a Conflict if a purpose has epochs.
func (t *tx) noEpochs(tenant string, instance [16]byte, purpose string) error {
	e, err := epochsOf(t, epochPlace{tenant, instance, purpose})
	if err == nil && e != nil {
		err = fmt.Errorf("%w: the purpose is %s", store.Conflict, e.is.Status)
	}
	return err
}

// Epoch implements [store.Owner].
func (s *Store) Epoch(ctx context.Context, tenant string, instance [16]byte, purpose string) (store.EpochStatus, error) {
	q, err := s.reader(ctx)
	if err != nil {
		return store.EpochStatus{}, err
	}
	r, err := live(q, instanceKey{tenant, instance}, "")
	if err != nil {
		return store.EpochStatus{}, err
	}
	e, err := epochsOf(q, epochPlace{tenant, instance, purpose})
	if err == nil && (e == nil || r == nil) {
		err = store.NotFound
	}
	if err != nil {
		return store.EpochStatus{}, err
	}
	return store.StatusOf(e.is), nil
}

// event is one that an owner causes, by an order of ordered, if that is not "", for
// the wrapped key of digest blob.
func (s *Store) event(ctx context.Context, at epochPlace, kind teebroker.Kind, ordered teebroker.OrderAct, blob [32]byte, act store.Act, next func(*tx, epoch.Row) (epoch.Row, error)) (status store.EpochStatus, err error) {
	err = s.own(ctx, at.tenant, func(t *tx) error {
		r, err := live(t, instanceKey{at.tenant, at.instance}, t.d.lock)
		if err == nil && r == nil {
			err = store.NotFound
		}
		if err != nil {
			return err
		}
		before, err := epochsOf(t, at)
		switch {
		case err != nil:
			return err
		case before == nil:
			return store.NotFound
		}
		if err := t.newest(&facts{epochs: before}); err != nil {
			return err
		}
		act := act
		if ordered != "" {
			order, err := t.ordered(ctx, ordered, at.tenant, at.instance, at.purpose, blob)
			if err == nil && blob != [32]byte{} {
				err = t.keepOrder(at.tenant, at.instance, store.SubjectBlob(at.purpose), order)
			}
			if err != nil {
				return err
			}
			act.Order = order.Digest()
		}
		row, err := next(t, before.is)
		if err != nil {
			if t.failed != nil {
				return err
			}
			return fmt.Errorf("%w: the purpose is %s", store.Conflict, before.is.Status)
		}
		act.Generation = uint64(r.generation)
		if kind == store.KindRecover || kind == store.KindRetire {
			if act.Generation, err = t.change(at.tenant, at.instance, nil); err != nil {
				return err
			}
		}
		if err := t.set(at, before, row); err != nil {
			return err
		}
		if row.Status == epoch.Retired {
			if _, err := t.exec("DELETE FROM epoch_blobs WHERE tenant = ? AND instance = ? AND purpose = ?", at.tenant, at.instance[:], at.purpose); err != nil {
				return err
			}
		}
		act.Instance, act.Purpose, act.Epoch, act.Digest = at.instance, at.purpose, row.Epoch, row.Blob
		status = store.StatusOf(row)
		_, err = t.act(at.tenant, kind, act)
		return err
	})
	if err != nil {
		return store.EpochStatus{}, err
	}
	return status, nil
}

func only(f func(epoch.Row) (epoch.Row, error)) func(*tx, epoch.Row) (epoch.Row, error) {
	return func(_ *tx, r epoch.Row) (epoch.Row, error) { return f(r) }
}

// Hold implements [store.Owner].
func (s *Store) Hold(ctx context.Context, tenant string, instance [16]byte, purpose string) (store.EpochStatus, error) {
	return s.event(ctx, epochPlace{tenant, instance, purpose}, store.KindHold, "", [32]byte{}, store.Act{}, only(epoch.Row.Hold))
}

// Resume implements [store.Owner].
func (s *Store) Resume(ctx context.Context, tenant string, instance [16]byte, purpose string) (store.EpochStatus, error) {
	return s.event(ctx, epochPlace{tenant, instance, purpose}, store.KindResume, teebroker.OrderResume, [32]byte{}, store.Act{}, only(epoch.Row.Resume))
}

// Retire implements [store.Owner].
func (s *Store) Retire(ctx context.Context, tenant string, instance [16]byte, purpose string) (store.EpochStatus, error) {
	return s.event(ctx, epochPlace{tenant, instance, purpose}, store.KindRetire, teebroker.OrderRetire, [32]byte{}, store.Act{}, only(epoch.Row.Retire))
}

// Recover implements [store.Owner].
func (s *Store) Recover(ctx context.Context, tenant string, instance [16]byte, purpose string, b teebroker.Blob, slot uint64) (store.EpochStatus, error) {
	if err := store.CheckEpochBlob(tenant, instance, purpose, b); err != nil {
		return store.EpochStatus{}, err
	}
	b.Wrapped = bytes.Clone(b.Wrapped)
	at := epochPlace{tenant, instance, purpose}
	return s.event(ctx, at, store.KindRecover, teebroker.OrderRecover, store.OwnersKey(b), store.Act{Slot: slot}, func(t *tx, before epoch.Row) (epoch.Row, error) {
		if b.Epoch != before.High+1 {
			return before, teebroker.EpochDead
		}
		row, err := before.Recover(b.Digest, slot)
		if err == nil {
			err = t.keep(at, b)
		}
		return row, err
	})
}
