package memory

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/epoch"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
)

type slotKey struct {
	id
	key [32]byte
}

// slot is what one guest key took of an authorization.
type slot struct {
	auth     *authorization
	releases map[string]*release // by purpose
	closed   bool                // a release was superseded
}

type release struct {
	id         [16]byte
	sealed     []byte // nil once erased
	confirmKey []byte
	blob       [32]byte
	until      time.Time // when sealed is erased

	// Of a purpose with epochs.
	place     secret
	slot      *slot
	key       [32]byte
	epoch     *teebroker.Epoch
	confirmed []byte // receipt of the last confirm
}

// gone reports whether r is served no more.
func (r *release) gone(now time.Time) bool {
	return r.sealed == nil || r.epoch == nil && !now.Before(r.until)
}

// erase leaves of r that it happened.
func (r *release) erase() {
	clear(r.sealed)
	clear(r.confirmKey)
	r.sealed, r.confirmKey = nil, nil
}

type attempt struct {
	request [32]byte
	purpose string
}

type outcome struct {
	refused string
	of      *release // unless it was refused
	receipt []byte
}

// outcome returns o as it is at an instant, or why it is not served any more.
func (s *Store) outcome(o outcome, now time.Time) (teebroker.Outcome, error) {
	switch {
	case o.refused != "":
		return teebroker.Outcome{Refused: o.refused}, nil
	case o.of.slot.closed:
		return teebroker.Outcome{}, teebroker.Superseded
	case o.of.gone(now):
		return teebroker.Outcome{}, teebroker.Gone
	case o.of.epoch != nil:
		if err := s.rows[o.of.place].Serves(o.of.id); err != nil {
			return teebroker.Outcome{}, err
		}
	}
	r := teebroker.Response{Release: o.of.id, Sealed: o.of.sealed, Receipt: o.receipt}
	if e := o.of.epoch; e != nil {
		r.Epoch, r.NextWrapped = e.Number, e.NextWrapped
	}
	return teebroker.Outcome{Response: r.Clone()}, nil
}

// Outcome implements [teebroker.Ledger].
func (s *Store) Outcome(ctx context.Context, request [32]byte, purpose string) (teebroker.Outcome, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.now()
	if err != nil {
		return teebroker.Outcome{}, false, err
	}
	o, ok := s.outcomes[attempt{request, purpose}]
	if !ok {
		return teebroker.Outcome{}, false, nil
	}
	out, err := s.outcome(o, now)
	return out, err == nil, err
}

// Check implements [teebroker.Ledger].
func (s *Store) Check(ctx context.Context, g teebroker.Grant) (teebroker.Terms, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.now()
	if err != nil {
		return teebroker.Terms{}, err
	}
	auth, have, err := s.decide(g, now)
	if err != nil {
		return teebroker.Terms{}, err
	}
	t := teebroker.Terms{Authorization: auth.ID, Uses: auth.Uses}
	if g.Ordered {
		t.Order = s.orders[id{g.Tenant, g.Instance}][store.SubjectAuthorization(auth.ID)]
	}
	if have != nil {
		t.Release, t.Sealed = have.id, bytes.Clone(have.sealed)
	}
	if t.Epoch, err = s.epoch(g, have); err != nil {
		return teebroker.Terms{}, err
	}
	return t, nil
}

// decide returns the authorization that g would take a slot of, or has one of,
// and the release that its key has already, or nil.
func (s *Store) decide(g teebroker.Grant, now time.Time) (*authorization, *release, error) {
	k := id{g.Tenant, g.Instance}
	if inst, ok := s.instances[k]; !ok || inst.Generation != g.Generation {
		return nil, nil, teebroker.NotAuthorized
	}
	if sl := s.slots[slotKey{k, g.Key}]; sl != nil {
		return s.decideSlot(sl, g, now)
	}
	taken := false
	for _, a := range s.auths[k] {
		if !a.covers(g) || !a.open(now) {
			continue
		}
		if a.used < a.Uses {
			return a, nil, nil
		}
		taken = true
	}
	if taken {
		return nil, nil, teebroker.OtherKey
	}
	return nil, nil, teebroker.NotAuthorized
}

// decideSlot is decide for a key that has a slot, and will never have another.
func (s *Store) decideSlot(sl *slot, g teebroker.Grant, now time.Time) (*authorization, *release, error) {
	have := sl.releases[g.Purpose]
	switch {
	case sl.closed:
		return nil, nil, teebroker.Superseded
	case have != nil && sl.auth.covers(g):
		if have.blob != g.Blob {
			return nil, nil, teebroker.ForeignBlob
		}
		if have.gone(now) {
			return nil, nil, teebroker.Gone
		}
		return sl.auth, have, nil
	case sl.auth.covers(g) && sl.auth.open(now):
		return sl.auth, nil, nil
	}
	for _, a := range s.auths[id{g.Tenant, g.Instance}] {
		if a != sl.auth && a.covers(g) && a.open(now) {
			return nil, nil, teebroker.OtherKey
		}
	}
	return nil, nil, teebroker.NotAuthorized
}

// Commit implements [teebroker.Ledger].
func (s *Store) Commit(ctx context.Context, g teebroker.Grant, r teebroker.Response, e teebroker.Entry) (teebroker.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.now()
	if err != nil {
		return teebroker.Response{}, err
	}
	at := attempt{g.Request, g.Purpose}
	if o, ok := s.outcomes[at]; ok {
		out, err := s.outcome(o, now)
		if out.Refused != "" {
			err = teebroker.Refusal(out.Refused)
		}
		return out.Response, err
	}
	auth, have, err := s.decide(g, now)
	var terms *teebroker.Epoch
	if err == nil {
		terms, err = s.epoch(g, have)
	}
	switch {
	case err != nil:
		return teebroker.Response{}, err
	case auth.ID != g.Authorization, have != nil && have.id != r.Release:
		return teebroker.Response{}, teebroker.ErrAgain
	case have != nil && !bytes.Equal(have.sealed, r.Sealed), len(r.Sealed) == 0, len(r.Receipt) == 0, r.Release == [16]byte{},
		e.Tenant != g.Tenant, e.Chain != teebroker.Decisions:
		return teebroker.Response{}, errors.New("memory: not a response to store")
	}
	r = r.Clone()
	var row epoch.Row
	if have == nil && terms != nil {
		if row, err = s.taken(g, r, terms); err != nil {
			return teebroker.Response{}, err
		}
	}
	if have == nil {
		have = &release{
			id: r.Release, sealed: bytes.Clone(r.Sealed), confirmKey: bytes.Clone(g.ConfirmKey), blob: g.Blob,
			until: auth.NotAfter.Add(afterwards), key: g.Key, slot: s.take(auth, g),
		}
		have.slot.releases[g.Purpose] = have
		if terms != nil {
			s.released[r.Release], have.epoch, have.place = have, g.Epoch.Clone(), place(g)
			if g.Epoch.PCR != (strictjson.Digest{}) {
				s.shown[g.Epoch.PCR] = have
			}
			s.set(have.place, row)
			s.keep(have.place, teebroker.Blob{Digest: g.Epoch.NextBlob, Epoch: g.Epoch.Next, Wrapped: bytes.Clone(g.Epoch.NextWrapped)})
		} else {
			s.later(have.until, have.erase)
		}
	}
	s.outcomes[at] = outcome{of: have, receipt: bytes.Clone(r.Receipt)}
	s.add(e, now)
	return r, nil
}

// take returns the slot of g's key, which it counts if it is new.
func (s *Store) take(auth *authorization, g teebroker.Grant) *slot {
	k := slotKey{id{g.Tenant, g.Instance}, g.Key}
	if s.slots[k] == nil {
		auth.used++
		s.slots[k] = &slot{auth: auth, releases: map[string]*release{}}
	}
	return s.slots[k]
}

// generation is that of the state, which is never restored.
const generation = 1

// add appends e to its chain.
func (s *Store) add(e teebroker.Entry, now time.Time) {
	e.Body = bytes.Clone(e.Body)
	k := chain{e.Tenant, e.Chain}
	var last store.RecordEntry
	if n := len(s.record[k]); n > 0 {
		last = s.record[k][n-1]
	}
	s.record[k] = append(s.record[k], last.Follow(e, generation, now))
}

// Refuse implements [teebroker.Ledger].
func (s *Store) Refuse(ctx context.Context, request [32]byte, purpose, code string, e teebroker.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.now()
	if err != nil {
		return err
	}
	at := attempt{request, purpose}
	if _, ok := s.outcomes[at]; ok || code == "" {
		return nil
	}
	s.outcomes[at] = outcome{refused: code}
	s.later(now.Add(keepRefused), func() { delete(s.outcomes, at) })
	if s.refusals < maxRefusals {
		s.refusals++
		s.add(e, now)
	}
	return nil
}
