package sqlstore

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
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

// maxAssemble is how often an instance is read that changes meanwhile.
const maxAssemble = 8

// instance returns an instance that was not deleted, or NoInstance.
func (s *Store) instance(q querier, k instanceKey) (teebroker.Instance, error) {
	var fault error
	var last int64
	for range maxAssemble {
		before, cached := s.instances.Get(k)
		var row instanceRow
		found, err := fetch(q, &row, " FROM instances x WHERE x.tenant = ? AND x.id = ?", []any{k.tenant, k.id[:]})
		switch {
		case err != nil:
			return teebroker.Instance{}, err
		case !found || row.deleted != 0:
			return teebroker.Instance{}, teebroker.NoInstance
		case cached && before.Generation > uint64(row.generation), fault != nil && row.generation == last:
			// It was later once; or nobody changed it between two statements.
			return teebroker.Instance{}, errors.Join(fault, forged("instances"))
		case cached && before.Generation == uint64(row.generation):
			// Whatever of an instance changes, its generation does too.
			return before.Clone(), nil
		}
		inst, err := s.assemble(q, k)
		if err == nil {
			s.instances.Put(k, inst)
			return inst.Clone(), nil
		}
		if !errors.Is(err, ErrForged) {
			return teebroker.Instance{}, err
		}
		fault, last = err, row.generation
	}
	return teebroker.Instance{}, fault
}

// assemble reads an instance. If it is changed meanwhile, it may look forged.
func (s *Store) assemble(q querier, k instanceKey) (teebroker.Instance, error) {
	r, err := live(q, k, "")
	if err == nil && r == nil {
		err = teebroker.NoInstance
	}
	if err != nil {
		return teebroker.Instance{}, err
	}
	ps, err := s.documentsOf(q, r)
	if err != nil {
		return teebroker.Instance{}, err
	}
	for _, c := range r.reg.Launch.Claims {
		var of claimRow
		found, err := fetch(q, &of, " FROM launch_claims x WHERE x.name = ? AND x.value = ?", []any{c.Name, []byte(c.Want)})
		if err == nil && (!found || of.tenant != k.tenant || string(of.instance) != string(k.id[:])) {
			err = forged("launch_claims")
		}
		if err != nil {
			return teebroker.Instance{}, err
		}
	}
	inst := r.reg.Instance(k.tenant, k.id, uint64(r.generation), ps)
	if r.reg.OwnerKey != [32]byte{} {
		if inst.Orders, err = orders(q, k, r.reg); err != nil {
			return teebroker.Instance{}, err
		}
	}
	inst.Blobs = map[string]teebroker.Blob{}
	all, err := purposes(q, r)
	if err != nil {
		return teebroker.Instance{}, err
	}
	for _, p := range all {
		if p.digest == nil {
			continue
		}
		if len(p.digest) != 32 {
			return teebroker.Instance{}, errors.New("sqlstore: a blob is damaged")
		}
		inst.Blobs[p.purpose] = teebroker.Blob{Digest: [32]byte(p.digest), Epoch: uint64(p.epoch), Wrapped: p.wrapped}
	}
	return inst, nil
}

// launched returns the only instance of tenant whose launch identity v shows.
func (s *Store) launched(q querier, tenant string, v *evidence.Verified) (teebroker.Instance, error) {
	if v == nil || v.Claims == nil {
		return teebroker.Instance{}, teebroker.NoInstance
	}
	found := map[[16]byte]teebroker.Instance{}
	for name, value := range v.Claims.All() {
		b, ok := value.Bytes()
		if !ok {
			continue
		}
		ids, err := showing(q, tenant, store.Claim{Name: name, Want: b})
		if err != nil {
			return teebroker.Instance{}, err
		}
		for _, id := range ids {
			inst, err := s.instance(q, instanceKey{tenant, id})
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
func showing(q querier, tenant string, c store.Claim) ([][16]byte, error) {
	var ids [][16]byte
	add := func(id []byte) error {
		if len(id) != 16 {
			return errors.New("sqlstore: an instance is damaged")
		}
		ids = append(ids, [16]byte(id))
		return nil
	}
	var claim claimRow
	found, err := fetch(q, &claim, " FROM launch_claims x WHERE x.name = ? AND x.value = ?", []any{c.Name, []byte(c.Want)})
	if err == nil && found && claim.tenant == tenant {
		err = add(claim.instance)
	}
	if err != nil {
		return nil, err
	}
	if own, ok := c.OwnValue(); ok {
		var row instanceRow
		found, err := fetch(q, &row, " FROM instances x WHERE x.launch_id = ?", []any{own[:]})
		if err == nil && found && row.tenant == tenant {
			err = add(row.id)
		}
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// Secret implements [teebroker.Secrets].
func (s *Store) Secret(ctx context.Context, inst teebroker.Instance, purpose string) ([]byte, error) {
	q, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	var i instanceRow
	var p stored
	found, err := q.row("SELECT "+instanceTable.as("i")+", "+purposeTable.as("p")+`, p.secret, p.wrapped FROM instances i
LEFT JOIN purposes p ON p.tenant = i.tenant AND p.instance = i.id AND p.purpose = ? WHERE i.tenant = ? AND i.id = ?`, []any{purpose, inst.Tenant, inst.ID[:]},
		append(append(dest(&i), outer(&p.purposeRow)...), &p.secret, &p.wrapped)...)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, teebroker.NotAuthorized
	}
	if err := s.rows.check(&i); err != nil {
		return nil, err
	}
	parts := map[string]int64{}
	if err := json.Unmarshal(i.parts, &parts); err != nil {
		return nil, errors.New("sqlstore: an instance is damaged")
	}
	generation, ok := parts[purpose]
	if !ok || i.deleted != 0 {
		return nil, teebroker.NotAuthorized
	}
	if err := s.rows.check(&p.purposeRow); err != nil {
		return nil, err
	}
	switch {
	case p.generation != generation || !p.whole():
		return nil, forged("purposes")
	case p.secret == nil:
		return nil, teebroker.NotAuthorized
	}
	return s.openSecret(ctx, p.secret, inst, purpose)
}
