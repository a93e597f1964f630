package memory

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/epoch"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/store"
)

// Register adds inst, or changes it, which raises its Generation and voids its
// open authorizations. The Generation of inst is set by the Store.
func (s *Store) Register(ctx context.Context, inst teebroker.Instance) error {
	switch {
	case !names.Tenant(inst.Tenant):
		return errors.New("memory: not a tenant")
	case inst.ID == [16]byte{}:
		return errors.New("memory: no instance id")
	}
	for purpose := range inst.Profiles {
		if !names.Registrable(purpose) {
			return fmt.Errorf("memory: %q is not a purpose", purpose)
		}
	}
	for _, p := range inst.Policies {
		if p == nil || len(p.Document) == 0 {
			return errors.New("memory: a policy without a document")
		}
	}
	inst = inst.Clone()
	s.mu.Lock()
	defer s.mu.Unlock()
	k := id{inst.Tenant, inst.ID}
	s.change(k, inst)
	return nil
}

// change makes inst what is registered, in the next generation, and voids its
// open authorizations.
func (s *Store) change(k id, inst teebroker.Instance) uint64 {
	inst.Generation = s.instances[k].Generation + 1
	s.instances[k] = inst
	for _, a := range s.auths[k] {
		a.withdrawn = a.withdrawn || a.used < a.Uses
	}
	delete(s.auths, k)
	return inst.Generation
}

// PutSecret stores a copy of value, which is not empty and at most 512 KiB, as
// the secret of an instance that is registered.
func (s *Store) PutSecret(ctx context.Context, tenant string, instance [16]byte, purpose string, value []byte) error {
	if !names.Registrable(purpose) {
		return fmt.Errorf("memory: %q is not a purpose", purpose)
	}
	if len(value) == 0 {
		return errors.New("memory: an empty secret")
	}
	if len(value) > store.MaxSecret {
		return fmt.Errorf("memory: a secret of more than %d bytes", store.MaxSecret)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := id{tenant, instance}
	if _, ok := s.instances[k]; !ok {
		return fmt.Errorf("memory: %w", teebroker.NoInstance)
	}
	if s.rows[secret{k, purpose}].Status != epoch.Absent {
		return errors.New("memory: the purpose has epochs")
	}
	clear(s.secrets[secret{k, purpose}])
	s.secrets[secret{k, purpose}] = bytes.Clone(value)
	return nil
}

// Authorize adds an open authorization for an instance that is registered.
// Policy and Generation are set by the Store; the ID is, if it is zero. NotAfter
// is required: nothing is authorized for ever. An empty list where nil has a
// meaning would authorize nothing and is an error.
func (s *Store) Authorize(ctx context.Context, a teebroker.Authorization) error {
	a, err := store.CheckAuthorization(a)
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _, err = s.authorize(a)
	if errors.Is(err, store.NotFound) {
		return fmt.Errorf("memory: %w", teebroker.NoInstance)
	}
	return err
}

// authorize adds a, which was checked. It returns it as it is then, and the time.
func (s *Store) authorize(a teebroker.Authorization) (teebroker.Authorization, time.Time, error) {
	now, err := s.now()
	k := id{a.Tenant, a.Instance}
	inst, ok := s.instances[k]
	switch {
	case err != nil:
		return a, now, err
	case !ok:
		return a, now, store.NotFound
	case !now.Before(a.NotAfter):
		return a, now, fmt.Errorf("%w: the window is over", store.Invalid)
	case s.authorization(a.Tenant, a.ID) != nil:
		return a, now, fmt.Errorf("%w: there is an authorization of this id", store.Conflict)
	case s.unused(k, now) >= store.MaxOpen:
		return a, now, fmt.Errorf("%w: too many open authorizations: revoke some", store.Invalid)
	}
	if a.ID == [16]byte{} {
		rand.Read(a.ID[:])
		a.ID[6], a.ID[8] = a.ID[6]&0x0f|0x40, a.ID[8]&0x3f|0x80 // a UUID of version 4
	}
	var documents [][32]byte
	for _, p := range inst.Policies {
		documents = append(documents, p.Digest())
	}
	a.Policy, a.Generation = teebroker.PolicyDigest(documents...), inst.Generation
	open := &authorization{Authorization: a}
	s.auths[k], s.given[k] = append(s.auths[k], open), append(s.given[k], open)
	s.later(a.NotAfter, func() {
		s.auths[k] = slices.DeleteFunc(s.auths[k], func(x *authorization) bool { return x == open })
	})
	return store.CloneAuthorization(a), now, nil
}

// authorization returns the one of this id, or nil.
func (s *Store) authorization(tenant string, auth [16]byte) *authorization {
	for k, as := range s.given {
		if i := slices.IndexFunc(as, func(a *authorization) bool { return a.ID == auth }); k.tenant == tenant && i >= 0 {
			return as[i]
		}
	}
	return nil
}

// unused counts the authorizations that can give slots.
func (s *Store) unused(k id, now time.Time) (n int) {
	for _, a := range s.auths[k] {
		if !a.withdrawn && a.used < a.Uses && now.Before(a.NotAfter) {
			n++
		}
	}
	return n
}

// authorization is an Authorization in which nothing is left to a default.
type authorization struct {
	teebroker.Authorization
	used      int
	revoked   bool
	withdrawn bool // revoked, or voided by a change, or its instance deleted
}

// covers reports whether a is for what g asks, whenever that is.
func (a *authorization) covers(g teebroker.Grant) bool {
	listed := func(c []byte) bool { return bytes.Equal(c, g.Chip) }
	return slices.Contains(a.Purposes, g.Purpose) && slices.Contains(a.Profiles, g.Profile) &&
		a.Generation == g.Generation && a.Policy == teebroker.PolicyDigest(g.Policies...) &&
		(a.Chips == nil || slices.ContainsFunc(a.Chips, listed))
}

// open reports whether now is in the window of a, and nobody withdrew it.
func (a *authorization) open(now time.Time) bool {
	return !a.withdrawn && !now.Before(a.NotBefore) && now.Before(a.NotAfter)
}

// Record returns a copy of the entries of one chain of a tenant, oldest first.
func (s *Store) Record(ctx context.Context, tenant string, c teebroker.Chain) ([]teebroker.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var es []teebroker.Entry
	for _, e := range s.record[chain{tenant, c}] {
		e.Body = bytes.Clone(e.Body)
		es = append(es, e.Entry)
	}
	return es, nil
}

// Instance implements [teebroker.Directory]. A guest that does not say who it
// is belongs to the only instance of the tenant whose Launch accepts it.
func (s *Store) Instance(ctx context.Context, l teebroker.Lookup) (teebroker.Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.Claimed != [16]byte{} {
		if inst, ok := s.instances[id{l.Tenant, l.Claimed}]; ok {
			return inst.Clone(), nil
		}
		return teebroker.Instance{}, teebroker.NoInstance
	}
	var found []teebroker.Instance
	for k, inst := range s.instances {
		if k.tenant == l.Tenant && inst.Launch != nil && len(l.Verified) > 0 && len(inst.Launch.Appraise(l.Verified[0])) == 0 {
			found = append(found, inst)
		}
	}
	if len(found) != 1 {
		return teebroker.Instance{}, teebroker.NoInstance
	}
	return found[0].Clone(), nil
}

// Secret implements [teebroker.Secrets].
func (s *Store) Secret(ctx context.Context, inst teebroker.Instance, purpose string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.secrets[secret{id{inst.Tenant, inst.ID}, purpose}]
	if !ok {
		return nil, teebroker.NotAuthorized
	}
	return bytes.Clone(v), nil
}
