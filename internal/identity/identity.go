// Package identity is what follows from what is seen of the EKs of TPMs: the rules
// of store.Identities. It is values and functions only; stores look up a [View], and
// keep the [Change] in the transaction of what the event is about.
package identity

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// View is what an event about one EK and one instance depends on.
type View struct {
	Now       time.Time
	Tenant    string
	Instance  [16]byte // that the event is of
	Ephemeral bool     // AllowEphemeralVTPM of the instance

	Has  *store.Identity  // of the EK, of whichever instance; nil if there is none
	Rest []store.Identity // live and held ones of the instance, but for Has
}

// Change is what follows.
type Change struct {
	Identity store.Identity   // of the EK; zero if none is kept
	Write    []store.Identity // all that are new or changed, Identity among them

	// Why is not empty if something is suspicious: Write and an entry for each
	// instance in Hold are kept, the epochs of those are held, and what was asked
	// for is refused as teebroker.Held.
	Why  store.Suspicion
	Hold [][16]byte
}

// Entries are what is recorded of c: act as kind, or what was suspicious.
func (c Change) Entries(tenant string, kind teebroker.Kind, act store.Act) ([]teebroker.Entry, error) {
	act.Instance, act.EK = c.Identity.Instance, c.Identity.EK
	if c.Why == "" {
		e, err := act.Entry(tenant, kind)
		return []teebroker.Entry{e}, err
	}
	var es []teebroker.Entry
	for _, instance := range c.Hold {
		e, err := store.Act{Instance: instance, EK: c.Identity.EK, AK: act.AK, Why: c.Why}.Entry(tenant, store.KindCloneSuspect)
		if err != nil {
			return nil, err
		}
		es = append(es, e)
	}
	return es, nil
}

// open returns an error if nothing is to happen to the EK or in the instance.
func (v View) open() error {
	held := func(id store.Identity) bool { return id.State == store.IdentityHeld }
	if v.Has != nil && held(*v.Has) || slices.ContainsFunc(v.Rest, held) {
		return teebroker.Held
	}
	if v.Has != nil && v.Has.State == store.IdentitySuperseded {
		return teebroker.Superseded
	}
	return nil
}

// suspect holds the EK, or what is new of it, and all else of the instance.
func (v View) suspect(id *store.Identity, why store.Suspicion) Change {
	c := Change{Why: why, Hold: [][16]byte{v.Instance}}
	all := v.Rest
	if id != nil {
		if id.Instance != v.Instance {
			c.Hold = append(c.Hold, id.Instance)
		}
		all = append([]store.Identity{*id}, all...)
	}
	for _, x := range all {
		x = x.Clone()
		x.State, x.Why = store.IdentityHeld, why
		c.Write = append(c.Write, x)
	}
	if id != nil {
		c.Identity = c.Write[0]
	}
	return c
}

// arrive returns the Identity of an EK that was seen in the instance, which is
// fresh if it was never seen before, and what it supersedes. If the Change has a
// Why, that is all.
func (v View) arrive(fresh store.Identity) (store.Identity, Change, error) {
	if err := v.open(); err != nil {
		return store.Identity{}, Change{}, err
	}
	if v.Has != nil {
		if v.Has.Instance != v.Instance {
			return store.Identity{}, v.suspect(v.Has, store.OtherInstance), nil
		}
		return v.Has.Clone(), Change{}, nil
	}
	fresh.Tenant, fresh.Instance, fresh.State, fresh.Made = v.Tenant, v.Instance, store.IdentityLive, v.Now
	var c Change
	for _, x := range v.Rest {
		// A release has one guest, and that has one TPM.
		if !v.Ephemeral || fresh.Release != [16]byte{} && x.Release == fresh.Release {
			return store.Identity{}, v.suspect(&fresh, store.OtherEK), nil
		}
		x = x.Clone()
		x.State = store.IdentitySuperseded
		c.Write = append(c.Write, x)
	}
	return fresh, c, nil
}

func (c Change) with(id store.Identity) Change {
	c.Identity = id
	c.Write = append(c.Write, id)
	return c
}

// begin begins a start of id.
func begin(id *store.Identity) {
	id.Placed, id.Registered = false, time.Time{}
}

// Confirm is that the guest of a release named the EK. With the first word of a
// release a start begins; what it says later is of a start that it began.
func (v View) Confirm(said teebroker.Confirm) (Change, error) {
	id, c, err := v.arrive(store.Identity{EK: said.EK, Release: said.Release, Epoch: said.Epoch})
	if err != nil || c.Why != "" {
		return c, err
	}
	if said.Seq == 0 && id.Release != said.Release {
		begin(&id)
		id.Release, id.Epoch = said.Release, said.Epoch
	}
	return c.with(id), nil
}

// Bind is [store.Identities.Bind].
func (v View) Bind(b store.Bound) (Change, error) {
	id, c, err := v.arrive(store.Identity{EK: b.EK(), Public: bytes.Clone(b.Public), AgentID: b.AgentID})
	if err != nil || c.Why != "" {
		return c, err
	}
	id.Public, id.AgentID = bytes.Clone(b.Public), b.AgentID
	id, why := see(id, b.Seen)
	if why != "" {
		return v.suspect(&id, why), nil
	}
	id.AKs = slices.DeleteFunc(id.AKs, func(x store.BoundAK) bool { return bytes.Equal(x.Name, b.AK) })
	id.AKs = append(id.AKs, store.BoundAK{Name: bytes.Clone(b.AK), Time: v.Now})
	id.AKs = id.AKs[max(0, len(id.AKs)-store.MaxAKs):]
	return c.with(id), nil
}

// See is [store.Identities.See].
func (v View) See(s store.Sighting) (Change, error) {
	if v.Has == nil {
		return Change{}, store.NotFound
	}
	if err := v.open(); err != nil {
		return Change{}, err
	}
	id, why := see(v.Has.Clone(), s)
	if why != "" {
		return v.suspect(&id, why), nil
	}
	return Change{}.with(id), nil
}

// see returns id with s in it, or as it was and what is wrong.
func see(id store.Identity, s store.Sighting) (store.Identity, store.Suspicion) {
	s = s.Clone()
	last := id.Seen
	if last == nil {
		id.Seen, id.Placed = &s, true
		return id, ""
	}
	reset := s.ResetCount > last.ResetCount
	switch {
	case s.ResetCount < last.ResetCount:
		return id, store.Backwards
	case !id.Placed:
		// A start whose state may be older than what was seen of the last one.
	case reset && id.Release == [16]byte{}:
		begin(&id)
	case !bytes.Equal(s.Chip, last.Chip) || !bytes.Equal(s.Run, last.Run):
		return id, store.TwoPlaces
	case reset:
		begin(&id)
	case s.RestartCount < last.RestartCount:
		return id, store.Backwards
	case s.RestartCount == last.RestartCount && late(s.Clock, last.Clock):
		return id, store.Backwards
	case s.RestartCount == last.RestartCount:
		s.Clock = max(s.Clock, last.Clock)
	}
	id.Seen, id.Placed = &s, true
	return id, ""
}

// late reports whether a quote at clock is older than one that was seen at last can
// explain.
func late(clock, last uint64) bool {
	return clock < last && last-clock > uint64(store.MaxDelay.Milliseconds())
}

// Register is [store.Identities.RegisterAgent]. of is the Identity that the id of a
// is taken by, as its Agent or its AgentID; nil if there is none.
func (v View) Register(a store.Agent, of *store.Identity) (Change, error) {
	if v.Has == nil {
		return Change{}, store.NotFound
	}
	if err := v.open(); err != nil {
		return Change{}, err
	}
	id := v.Has.Clone()
	if len(id.Public) == 0 && len(a.Public) > 0 {
		id.Public, id.AgentID = bytes.Clone(a.Public), a.AgentID
	}
	switch {
	case of != nil && of.EK != id.EK, store.HashedAgent(a.ID) && a.ID != id.AgentID:
		return Change{}, fmt.Errorf("%w: the agent is of another EK", store.Conflict)
	case id.Agent != "" && id.Agent != a.ID:
		return Change{}, fmt.Errorf("%w: the EK is of another agent", store.Conflict)
	case !id.Registered.IsZero():
		return Change{}, fmt.Errorf("%w: the agent registered already", store.Conflict)
	}
	id.Agent, id.Registered = a.ID, v.Now
	return Change{}.with(id), nil
}

// Resume is [store.Identities.ResumeEK].
func (v View) Resume() (Change, error) {
	switch {
	case v.Has == nil || v.Has.Instance != v.Instance:
		return Change{}, store.NotFound
	case v.Has.State == store.IdentityLive:
		return Change{}, fmt.Errorf("%w: the EK is live", store.Conflict)
	}
	var c Change
	for _, x := range v.Rest {
		x = x.Clone()
		x.State, x.Why = store.IdentitySuperseded, ""
		c.Write = append(c.Write, x)
	}
	id := v.Has.Clone()
	id.State, id.Why, id.Seen, id.AKs = store.IdentityLive, "", nil, nil
	begin(&id)
	return c.with(id), nil
}
