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
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/nonce"
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
	inst.Generation = s.instances[k].Generation + 1
	s.instances[k] = inst
	delete(s.auths, k)
	return nil
}

// maxSecret is well below keywrap.MaxSecret, since v1 seals a secret in base64
// and with what it is for.
const maxSecret = 512 << 10

// PutSecret stores a copy of value, which is not empty and at most 512 KiB, as
// the secret of an instance that is registered.
func (s *Store) PutSecret(ctx context.Context, tenant string, instance [16]byte, purpose string, value []byte) error {
	if !names.Registrable(purpose) {
		return fmt.Errorf("memory: %q is not a purpose", purpose)
	}
	if len(value) == 0 {
		return errors.New("memory: an empty secret")
	}
	if len(value) > maxSecret {
		return fmt.Errorf("memory: a secret of more than %d bytes", maxSecret)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := id{tenant, instance}
	if _, ok := s.instances[k]; !ok {
		return fmt.Errorf("memory: %w", teebroker.NoInstance)
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
	if err := check(a); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.now(); err != nil {
		return err
	}
	k := id{a.Tenant, a.Instance}
	inst, ok := s.instances[k]
	if !ok {
		return fmt.Errorf("memory: %w", teebroker.NoInstance)
	}
	if a.ID == [16]byte{} {
		rand.Read(a.ID[:])
	}
	if s.ids[a.ID] {
		return errors.New("memory: there is an authorization of this id")
	}
	var documents [][32]byte
	for _, p := range inst.Policies {
		documents = append(documents, p.Digest())
	}
	a.Policy, a.Generation = teebroker.PolicyDigest(documents...), inst.Generation
	open := newAuthorization(a)
	s.ids[a.ID] = true
	s.auths[k] = append(s.auths[k], open)
	s.later(a.NotAfter, func() {
		s.auths[k] = slices.DeleteFunc(s.auths[k], func(x *authorization) bool { return x == open })
	})
	return nil
}

// check returns an error if a can't be meant.
func check(a teebroker.Authorization) error {
	switch {
	case len(a.Purposes) == 0:
		return errors.New("an authorization without a purpose")
	case a.Uses < 0:
		return errors.New("an authorization of negative uses")
	case a.NotAfter.IsZero() || !a.NotBefore.Before(a.NotAfter):
		return errors.New("an authorization without a window")
	case a.Profiles != nil && len(a.Profiles) == 0:
		return errors.New("an authorization without a profile")
	case a.Chips != nil && len(a.Chips) == 0:
		return errors.New("an authorization without a chip")
	}
	for _, p := range a.Purposes {
		if !names.Registrable(p) {
			return fmt.Errorf("%q is not a purpose", p)
		}
	}
	for _, c := range a.Chips {
		if len(bytes.Trim(c, "\x00")) == 0 {
			return errors.New("a masked chip in a list")
		}
	}
	return nil
}

// authorization is an Authorization in which nothing is left to a default.
type authorization struct {
	teebroker.Authorization
	used int
}

func newAuthorization(a teebroker.Authorization) *authorization {
	a.Purposes = slices.Clone(a.Purposes)
	a.Uses = max(a.Uses, 1)
	if a.Profiles = slices.Clone(a.Profiles); a.Profiles == nil {
		a.Profiles = []nonce.Profile{nonce.ProfileV1}
	}
	a.Chips = slices.Clone(a.Chips)
	for i, c := range a.Chips {
		a.Chips[i] = bytes.Clone(c)
	}
	return &authorization{a, 0}
}

// covers reports whether a is for what g asks, whenever that is.
func (a *authorization) covers(g teebroker.Grant) bool {
	listed := func(c []byte) bool { return bytes.Equal(c, g.Chip) }
	return slices.Contains(a.Purposes, g.Purpose) && slices.Contains(a.Profiles, g.Profile) &&
		a.Generation == g.Generation && a.Policy == teebroker.PolicyDigest(g.Policies...) &&
		(a.Chips == nil || slices.ContainsFunc(a.Chips, listed))
}

// open reports whether now is in the window of a.
func (a *authorization) open(now time.Time) bool {
	return !now.Before(a.NotBefore) && now.Before(a.NotAfter)
}

// Record returns a copy of the entries of one chain of a tenant, oldest first.
func (s *Store) Record(ctx context.Context, tenant string, c teebroker.Chain) ([]teebroker.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var es []teebroker.Entry
	for _, e := range s.record {
		if e.Tenant == tenant && e.Chain == c {
			e.Body = bytes.Clone(e.Body)
			es = append(es, e)
		}
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
