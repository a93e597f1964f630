package memory

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/teebroker/teebroker"
)

type slotKey struct {
	id
	key [32]byte
}

// slot is what one guest key took of an authorization.
type slot struct {
	auth     *authorization
	releases map[string]*release // by purpose
}

type release struct {
	id     [16]byte
	sealed []byte
	blob   [32]byte
	until  time.Time // when sealed is erased
}

type attempt struct {
	request [32]byte
	purpose string
}

type outcome struct {
	response teebroker.Response
	refused  string
	until    time.Time // when a response is erased
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
	switch {
	case !ok:
		return teebroker.Outcome{}, false, nil
	case o.refused != "":
		return teebroker.Outcome{Refused: o.refused}, true, nil
	case !now.Before(o.until):
		return teebroker.Outcome{}, false, teebroker.Gone
	}
	return teebroker.Outcome{Response: o.response.Clone()}, true, nil
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
	t := teebroker.Terms{Authorization: auth.ID}
	if have != nil {
		t.Release, t.Sealed = have.id, bytes.Clone(have.sealed)
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
	case have != nil && sl.auth.covers(g):
		if have.blob != g.Blob {
			return nil, nil, teebroker.ForeignBlob
		}
		if !now.Before(have.until) {
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
		switch {
		case o.refused != "":
			return teebroker.Response{}, teebroker.Refusal(o.refused)
		case !now.Before(o.until):
			return teebroker.Response{}, teebroker.Gone
		}
		return o.response.Clone(), nil
	}
	auth, have, err := s.decide(g, now)
	switch {
	case err != nil:
		return teebroker.Response{}, err
	case auth.ID != g.Authorization, have != nil && have.id != r.Release:
		return teebroker.Response{}, teebroker.ErrAgain
	case have != nil && !bytes.Equal(have.sealed, r.Sealed), len(r.Sealed) == 0, r.Release == [16]byte{}:
		return teebroker.Response{}, errors.New("memory: not a response to store")
	}
	r = r.Clone()
	if have == nil {
		have = &release{r.Release, r.Sealed, g.Blob, auth.NotAfter.Add(afterwards)}
		s.take(auth, g).releases[g.Purpose] = have
	}
	s.outcomes[at] = outcome{response: r, until: have.until}
	s.later(have.until, func() { s.erase(at, have) })
	e.Body = bytes.Clone(e.Body)
	s.record = append(s.record, e)
	return r.Clone(), nil
}

// take returns the slot of g's key, which it counts if it is new.
func (s *Store) take(auth *authorization, g teebroker.Grant) *slot {
	k := slotKey{id{g.Tenant, g.Instance}, g.Key}
	if s.slots[k] == nil {
		auth.used++
		s.slots[k] = &slot{auth, map[string]*release{}}
	}
	return s.slots[k]
}

// erase leaves of a release that it happened.
func (s *Store) erase(at attempt, r *release) {
	o := s.outcomes[at]
	clear(o.response.Sealed)
	clear(r.sealed)
	r.sealed, o.response = nil, teebroker.Response{}
	s.outcomes[at] = o
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
		e.Body = bytes.Clone(e.Body)
		s.record = append(s.record, e)
	}
	return nil
}
