package sqlstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store"
)

// Instance implements [teebroker.Directory]. A guest that does not say who it is
// belongs to the only instance of the tenant whose launch identity it shows.
func (s *Store) Instance(ctx context.Context, l teebroker.Lookup) (teebroker.Instance, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return teebroker.Instance{}, err
	}
	if l.Claimed != [16]byte{} {
		return s.instance(r, instanceKey{l.Tenant, l.Claimed})
	}
	if len(l.Verified) == 0 {
		return teebroker.Instance{}, teebroker.NoInstance
	}
	return s.launched(r, l.Tenant, l.Verified[0])
}

// instance returns an instance that was not deleted, or NoInstance.
func (s *Store) instance(r querier, k instanceKey) (teebroker.Instance, error) {
	var generation int64
	found, err := r.row("SELECT generation FROM instances WHERE tenant = ? AND id = ? AND deleted = 0", []any{k.tenant, k.id[:]}, &generation)
	switch {
	case err != nil:
		return teebroker.Instance{}, err
	case !found:
		return teebroker.Instance{}, teebroker.NoInstance
	}
	// Whatever of an instance changes, its generation does too.
	if inst, ok := s.instances.Get(k); ok && inst.Generation == uint64(generation) {
		return inst.Clone(), nil
	}
	inst, err := s.assemble(r, k, uint64(generation))
	if err != nil {
		return teebroker.Instance{}, err
	}
	s.instances.Put(k, inst)
	return inst.Clone(), nil
}

// assemble reads an instance. If it is changed meanwhile the result may be of
// both; no Commit takes a generation that is over.
func (s *Store) assemble(r querier, k instanceKey, generation uint64) (teebroker.Instance, error) {
	reg, err := registration(r, k)
	if err != nil {
		return teebroker.Instance{}, err
	}
	ps, err := s.policies(r, k.tenant, reg.Policies)
	if err != nil {
		return teebroker.Instance{}, err
	}
	inst := reg.Instance(k.tenant, k.id, generation, ps)
	if reg.OwnerKey != [32]byte{} {
		if inst.Orders, err = orders(r, k, reg); err != nil {
			return teebroker.Instance{}, err
		}
	}
	inst.Blobs = map[string]teebroker.Blob{}
	err = r.each("SELECT purpose, digest, epoch, wrapped FROM purposes WHERE tenant = ? AND instance = ? AND digest IS NOT NULL", []any{k.tenant, k.id[:]}, func(r scanner) error {
		var purpose string
		var digest, wrapped []byte
		var epoch int64
		if err := r.Scan(&purpose, &digest, &epoch, &wrapped); err != nil {
			return err
		}
		if len(digest) != 32 {
			return errors.New("sqlstore: a blob is damaged")
		}
		inst.Blobs[purpose] = teebroker.Blob{Digest: [32]byte(digest), Epoch: uint64(epoch), Wrapped: wrapped}
		return nil
	})
	return inst, err
}

func registration(r querier, k instanceKey) (reg store.Registration, err error) {
	var b []byte
	found, err := r.row("SELECT registration FROM instances WHERE tenant = ? AND id = ? AND deleted = 0", []any{k.tenant, k.id[:]}, &b)
	if err == nil && !found {
		err = teebroker.NoInstance
	}
	if err != nil {
		return reg, err
	}
	if err := json.Unmarshal(b, &reg); err != nil {
		return reg, fmt.Errorf("sqlstore: a registration is damaged: %w", err)
	}
	return reg, nil
}

// policies returns the documents of these names, parsed. One that is not there is
// store.NotFound.
func (s *Store) policies(r querier, tenant string, names []string) ([]*policy.Policy, error) {
	ps := make([]*policy.Policy, len(names))
	for i, name := range names {
		document, err := document(r, tenant, name)
		if err != nil {
			return nil, err
		}
		if ps[i], err = s.documents.Parse(document); err != nil {
			return nil, err
		}
	}
	return ps, nil
}

func document(r querier, tenant, name string) (document []byte, err error) {
	found, err := r.row("SELECT document FROM policies WHERE tenant = ? AND name = ?", []any{tenant, name}, &document)
	if err == nil && !found {
		err = fmt.Errorf("%w: policy %.80q", store.NotFound, name)
	}
	return document, err
}

// launched returns the only instance of tenant whose launch identity v shows.
func (s *Store) launched(r querier, tenant string, v *evidence.Verified) (teebroker.Instance, error) {
	if v == nil || v.Claims == nil {
		return teebroker.Instance{}, teebroker.NoInstance
	}
	found := map[[16]byte]teebroker.Instance{}
	for name, value := range v.Claims.All() {
		b, ok := value.Bytes()
		if !ok {
			continue
		}
		ids, err := showing(r, tenant, store.Claim{Name: name, Want: b})
		if err != nil {
			return teebroker.Instance{}, err
		}
		for _, id := range ids {
			inst, err := s.instance(r, instanceKey{tenant, id})
			if errors.Is(err, teebroker.NoInstance) {
				continue
			}
			if err != nil {
				return teebroker.Instance{}, err
			}
			if inst.Launch != nil && len(inst.Launch.Appraise(v)) == 0 {
				found[id] = inst
			}
		}
	}
	if len(found) == 1 {
		for _, inst := range found {
			return inst, nil
		}
	}
	return teebroker.Instance{}, teebroker.NoInstance
}

// showing returns instances of tenant that c may be a launch claim of.
func showing(r querier, tenant string, c store.Claim) ([][16]byte, error) {
	var ids [][16]byte
	scan := func(r scanner) error {
		var id []byte
		if err := r.Scan(&id); err != nil {
			return err
		}
		if len(id) != 16 {
			return errors.New("sqlstore: an instance is damaged")
		}
		ids = append(ids, [16]byte(id))
		return nil
	}
	if err := r.each("SELECT instance FROM launch_claims WHERE name = ? AND value = ? AND tenant = ?", []any{c.Name, []byte(c.Want), tenant}, scan); err != nil {
		return nil, err
	}
	if own, ok := c.OwnValue(); ok {
		if err := r.each("SELECT id FROM instances WHERE launch_id = ? AND tenant = ?", []any{own[:], tenant}, scan); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// Secret implements [teebroker.Secrets].
func (s *Store) Secret(ctx context.Context, inst teebroker.Instance, purpose string) ([]byte, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	var sealed []byte
	_, err = r.row("SELECT secret FROM purposes WHERE tenant = ? AND instance = ? AND purpose = ?", []any{inst.Tenant, inst.ID[:], purpose}, &sealed)
	switch {
	case err != nil:
		return nil, err
	case sealed == nil:
		return nil, teebroker.NotAuthorized
	}
	return s.openSecret(ctx, sealed, inst, purpose)
}
