package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/epoch"
	"github.com/teebroker/teebroker/store"
)

func place(g teebroker.Grant) secret { return secret{id{g.Tenant, g.Instance}, g.Purpose} }

// epoch returns what a release of g is for, or what have was for; nil if its
// purpose has no epochs.
func (s *Store) epoch(g teebroker.Grant, have *release) (*teebroker.Epoch, error) {
	row, ok := s.rows[place(g)]
	switch {
	case !ok:
		return nil, nil
	case have != nil:
		if err := row.Serves(have.id); err != nil {
			return nil, err
		}
		return have.epoch.Clone(), nil
	}
	e, err := row.Terms(g.Presented)
	if err == nil {
		e.Wrapped = bytes.Clone(s.blobs[place(g)][e.Number].Wrapped)
	}
	return e, err
}

// taken returns the row after the release r of g, for which terms were granted.
func (s *Store) taken(g teebroker.Grant, r teebroker.Response, terms *teebroker.Epoch) (epoch.Row, error) {
	switch {
	case !terms.Same(g.Epoch):
		return epoch.Row{}, teebroker.ErrAgain
	case len(g.ConfirmKey) == 0 || g.Epoch.NextBlob == [32]byte{}:
		return epoch.Row{}, errors.New("memory: a release without what confirms it")
	}
	row, _, err := s.rows[place(g)].Take(r.Release, g.Presented, g.Epoch.NextBlob)
	return row, err
}

// set makes row that of a purpose, and closes the slots of what it superseded.
func (s *Store) set(at secret, row epoch.Row) {
	for _, ended := range row.Ended(s.rows[at]) {
		if r := s.released[ended]; r != nil {
			r.slot.closed = true
			clear(r.sealed)
			r.sealed = nil
		}
	}
	for _, n := range row.Forgets(s.rows[at], store.KeptBlobs) {
		if b, ok := s.blobs[at][n]; ok {
			b.Wrapped = nil // and its digest stays
			s.blobs[at][n] = b
		}
	}
	s.rows[at] = row
	if row.Status == epoch.Retired {
		delete(s.blobs, at)
	}
}

// keep remembers the blob of an epoch.
func (s *Store) keep(at secret, b teebroker.Blob) {
	if s.blobs[at] == nil {
		s.blobs[at] = map[uint64]teebroker.Blob{}
	}
	s.blobs[at][b.Epoch] = b
}

// Released implements [teebroker.Ledger].
func (s *Store) Released(ctx context.Context, release [16]byte) (teebroker.Released, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.released[release]
	if r == nil || r.confirmKey == nil {
		return teebroker.Released{}, teebroker.NotAuthorized
	}
	return teebroker.Released{
		ID: release, Tenant: r.place.tenant, Instance: r.place.instance, Purpose: r.place.purpose,
		Generation: s.instances[r.place.id].Generation, Authorization: r.slot.auth.ID, Key: r.key, ConfirmKey: bytes.Clone(r.confirmKey),
	}, nil
}

// Shown implements [teebroker.Releases].
func (s *Store) Shown(ctx context.Context, value [32]byte) (teebroker.Shown, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.shown[value]
	if r == nil {
		return teebroker.Shown{}, teebroker.NotAuthorized
	}
	if _, there := s.instances[r.place.id]; !there {
		return teebroker.Shown{}, teebroker.NotAuthorized
	}
	return teebroker.Shown{
		State: s.rows[r.place].Shows(r.id), Release: r.id, Tenant: r.place.tenant, Instance: r.place.instance, Purpose: r.place.purpose,
	}, nil
}

// Confirm implements [teebroker.Ledger].
func (s *Store) Confirm(ctx context.Context, r teebroker.Released, c teebroker.Confirm, receipt []byte, e teebroker.Entry) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.now()
	if err != nil {
		return nil, err
	}
	rel := s.released[c.Release]
	if rel == nil || c.Release != r.ID {
		return nil, teebroker.NotAuthorized
	}
	if rel.slot.closed {
		return nil, teebroker.Superseded // for another purpose of its guest
	}
	row := s.rows[rel.place]
	next, err := row.Confirm(c)
	switch {
	case err != nil:
		return nil, err
	case row.Live == c.Release && row.Last == c:
		return bytes.Clone(rel.confirmed), nil
	case len(receipt) == 0 || e.Tenant != rel.place.tenant || e.Chain != teebroker.Decisions:
		return nil, errors.New("memory: not a confirm to store")
	}
	if err := s.confirmEK(rel.place.id, c, now); err != nil {
		return nil, err
	}
	if row.Live != c.Release { // the first one
		clear(rel.sealed)
		rel.sealed = nil
		if a := rel.slot.auth; !a.OutlivesConfirm {
			a.Uses = a.used
		}
	}
	rel.confirmed = bytes.Clone(receipt)
	s.set(rel.place, next)
	s.add(e, now)
	return bytes.Clone(receipt), nil
}

// EpochBlob implements [teebroker.Ledger].
func (s *Store) EpochBlob(ctx context.Context, tenant string, instance [16]byte, purpose string, number uint64) (teebroker.Blob, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := secret{id{tenant, instance}, purpose}
	b, ok := s.blobs[at][number]
	if !ok {
		return teebroker.Blob{}, 0, fmt.Errorf("no such epoch, or forgotten: %w", teebroker.NotAuthorized)
	}
	b.Wrapped = bytes.Clone(b.Wrapped)
	return b, s.rows[at].High, nil
}

// Begin implements [store.Epochs].
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
	s.mu.Lock()
	defer s.mu.Unlock()
	k := id{tenant, instance}
	at := secret{k, purpose}
	if _, ok := s.instances[k]; !ok {
		return store.EpochStatus{}, store.NotFound
	}
	return s.event(ctx, at, store.KindEpoch, teebroker.OrderEpoch, b.Digest, store.Act{Initial: start.Initial}, func(row epoch.Row) (epoch.Row, error) {
		if row.Status != epoch.Absent {
			return row, store.Conflict
		}
		clear(s.secrets[at])
		delete(s.secrets, at)
		inst := s.instances[k].Clone()
		if inst.Blobs == nil {
			inst.Blobs = map[string]teebroker.Blob{}
		}
		inst.Blobs[purpose] = teebroker.Blob{Digest: b.Digest, Epoch: b.Epoch}
		s.instances[k] = inst
		s.blobs[at] = map[uint64]teebroker.Blob{b.Epoch: b}
		return first, nil
	})
}

// Epoch implements [store.Epochs].
func (s *Store) Epoch(ctx context.Context, tenant string, instance [16]byte, purpose string) (store.EpochStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := id{tenant, instance}
	row, ok := s.rows[secret{k, purpose}]
	if _, there := s.instances[k]; !ok || !there {
		return store.EpochStatus{}, store.NotFound
	}
	return store.StatusOf(row), nil
}

// own is event for a purpose that has epochs.
func (s *Store) own(ctx context.Context, tenant string, instance [16]byte, purpose string, kind teebroker.Kind, ordered teebroker.OrderAct, blob [32]byte, act store.Act, next func(epoch.Row) (epoch.Row, error)) (store.EpochStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := secret{id{tenant, instance}, purpose}
	_, there := s.instances[at.id]
	if _, ok := s.rows[at]; !ok || !there {
		return store.EpochStatus{}, store.NotFound
	}
	return s.event(ctx, at, kind, ordered, blob, act, next)
}

// event is one that an owner causes, by an order of ordered, if that is not "", for
// the wrapped key of digest blob.
func (s *Store) event(ctx context.Context, at secret, kind teebroker.Kind, ordered teebroker.OrderAct, blob [32]byte, act store.Act, next func(epoch.Row) (epoch.Row, error)) (store.EpochStatus, error) {
	now, err := s.now()
	if err != nil {
		return store.EpochStatus{}, err
	}
	var order store.Taken
	if ordered != "" {
		if order, err = s.ordered(ctx, ordered, at.id, at.purpose, blob, now); err != nil {
			return store.EpochStatus{}, err
		}
	}
	row := s.rows[at]
	after, err := next(row)
	if err != nil {
		return store.EpochStatus{}, fmt.Errorf("%w: the purpose is %s", store.Conflict, row.Status)
	}
	act.Instance, act.Purpose, act.Epoch, act.Digest = at.instance, at.purpose, after.Epoch, after.Blob
	act.Generation = s.instances[at.id].Generation
	if kind != store.KindHold && kind != store.KindResume {
		act.Generation = s.change(at.id, s.instances[at.id].Clone())
	}
	if blob != [32]byte{} {
		s.orderBlob(at.id, at.purpose, order)
	} else {
		s.keepOrder(at.id, "", order)
	}
	act.Order = order.Digest()
	s.set(at, after)
	e, err := act.Entry(at.tenant, kind)
	if err != nil {
		return store.EpochStatus{}, err
	}
	s.add(e, now)
	return store.StatusOf(after), nil
}

// Hold implements [store.Epochs].
func (s *Store) Hold(ctx context.Context, tenant string, instance [16]byte, purpose string) (store.EpochStatus, error) {
	return s.own(ctx, tenant, instance, purpose, store.KindHold, "", [32]byte{}, store.Act{}, epoch.Row.Hold)
}

// Resume implements [store.Epochs].
func (s *Store) Resume(ctx context.Context, tenant string, instance [16]byte, purpose string) (store.EpochStatus, error) {
	return s.own(ctx, tenant, instance, purpose, store.KindResume, teebroker.OrderResume, [32]byte{}, store.Act{}, epoch.Row.Resume)
}

// Retire implements [store.Epochs].
func (s *Store) Retire(ctx context.Context, tenant string, instance [16]byte, purpose string) (store.EpochStatus, error) {
	return s.own(ctx, tenant, instance, purpose, store.KindRetire, teebroker.OrderRetire, [32]byte{}, store.Act{}, epoch.Row.Retire)
}

// Recover implements [store.Epochs].
func (s *Store) Recover(ctx context.Context, tenant string, instance [16]byte, purpose string, b teebroker.Blob, slot uint64) (store.EpochStatus, error) {
	if err := store.CheckEpochBlob(tenant, instance, purpose, b); err != nil {
		return store.EpochStatus{}, err
	}
	b.Wrapped = bytes.Clone(b.Wrapped)
	return s.own(ctx, tenant, instance, purpose, store.KindRecover, teebroker.OrderRecover, store.OwnersKey(b), store.Act{Slot: slot}, func(row epoch.Row) (epoch.Row, error) {
		if b.Epoch != row.High+1 {
			return row, teebroker.EpochDead
		}
		next, err := row.Recover(b.Digest, slot)
		if err == nil {
			s.blobs[secret{id{tenant, instance}, purpose}][b.Epoch] = b
		}
		return next, err
	})
}
