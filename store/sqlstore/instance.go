package sqlstore

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store"
)

// registered is an instance with what its owner said of it, as one statement read
// them.
type registered struct {
	instanceRow
	registration []byte
	reg          store.Registration
	purposes     map[string]int64 // that it has, and at which generation they were put
}

// load returns the instance k, or nil if there is none. End is of the statement.
func load(q querier, k instanceKey, end string) (*registered, error) {
	var r registered
	found, err := fetch(q, &r.instanceRow, ", x.registration FROM instances x WHERE x.tenant = ? AND x.id = ?"+end, []any{k.tenant, k.id[:]}, &r.registration)
	if err != nil || !found {
		return nil, err
	}
	return &r, r.parse()
}

// live is load of what was not deleted.
func live(q querier, k instanceKey, end string) (*registered, error) {
	r, err := load(q, k, end)
	if err == nil && r != nil && r.deleted != 0 {
		r = nil
	}
	return r, err
}

// registration returns what the owner of an instance registered, or NoInstance.
func registration(q querier, k instanceKey) (store.Registration, error) {
	r, err := live(q, k, "")
	if err == nil && r == nil {
		err = teebroker.NoInstance
	}
	if err != nil {
		return store.Registration{}, err
	}
	return r.reg, nil
}

// parse sets what is in JSON.
func (r *registered) parse() error {
	if d := sha256.Sum256(r.registration); string(d[:]) != string(r.content) {
		return forged("instances")
	}
	if r.deleted != 0 {
		return nil
	}
	if json.Unmarshal(r.registration, &r.reg) != nil || json.Unmarshal(r.parts, &r.purposes) != nil {
		return errors.New("sqlstore: a registration is damaged")
	}
	return nil
}

// encode is the inverse.
func (r *registered) encode() (err error) {
	if r.purposes == nil {
		r.purposes = map[string]int64{}
	}
	if r.parts, err = json.Marshal(r.purposes); err != nil {
		return err
	}
	if r.registration, err = json.Marshal(r.reg); r.deleted != 0 {
		r.registration = []byte("{}")
	}
	d := sha256.Sum256(r.registration)
	r.content = d[:]
	return err
}

// change raises the generation of an instance, which voids its open
// authorizations, after edit said what else is new of it. It returns the new
// generation, or NotFound.
func (t *tx) change(tenant string, id [16]byte, edit func(*registered)) (uint64, error) {
	r, err := live(t, instanceKey{tenant, id}, t.d.lock)
	switch {
	case err != nil:
		return 0, err
	case r == nil:
		return 0, store.NotFound
	}
	r.generation++
	if edit != nil {
		edit(r)
	}
	if r.policy, err = policyDigest(t, tenant, r.reg.Policies); err == nil {
		err = r.encode()
	}
	if err == nil {
		err = t.update(&r.instanceRow)
	}
	if err == nil {
		_, err = t.exec("UPDATE instances SET registration = ? WHERE tenant = ? AND id = ?", r.registration, tenant, id[:])
	}
	return uint64(r.generation), err
}

// policyDigest is teebroker.PolicyDigest of the documents of these names.
func policyDigest(q querier, tenant string, names []string) ([]byte, error) {
	var ds [][32]byte
	for _, name := range names {
		document, err := document(q, tenant, name)
		if err != nil {
			return nil, err
		}
		ds = append(ds, sha256.Sum256(document))
	}
	d := teebroker.PolicyDigest(ds...)
	return d[:], nil
}

// document returns a document, or NotFound.
func document(q querier, tenant, name string) (document []byte, err error) {
	var p policyRow
	found, err := fetch(q, &p, ", x.document FROM policies x WHERE x.tenant = ? AND x.name = ?", []any{tenant, name}, &document)
	switch d := sha256.Sum256(document); {
	case err != nil:
		return nil, err
	case !found:
		return nil, fmt.Errorf("%w: policy %.80q", store.NotFound, name)
	case string(d[:]) != string(p.content):
		return nil, forged("policies")
	}
	return document, nil
}

// documentsOf returns the documents that r names, parsed.
func (s *Store) documentsOf(q querier, r *registered) ([]*policy.Policy, error) {
	ps, err := s.policies(q, r.tenant, r.reg.Policies)
	if errors.Is(err, store.NotFound) {
		return nil, forged("policies")
	}
	if err != nil {
		return nil, err
	}
	if d := teebroker.PolicyDigest(digests(ps)...); string(d[:]) != string(r.policy) {
		return nil, forged("policies")
	}
	return ps, nil
}

// policies returns the documents of these names, parsed. One that is not there is
// store.NotFound.
func (s *Store) policies(q querier, tenant string, names []string) ([]*policy.Policy, error) {
	ps := make([]*policy.Policy, len(names))
	for i, name := range names {
		document, err := document(q, tenant, name)
		if err != nil {
			return nil, err
		}
		if ps[i], err = s.documents.Parse(document); err != nil {
			return nil, err
		}
	}
	return ps, nil
}

// digests are those of the documents that an instance names, in its order.
func digests(ps []*policy.Policy) [][32]byte {
	var ds [][32]byte
	for _, p := range ps {
		ds = append(ds, p.Digest())
	}
	return ds
}

// purposes returns what is stored for the purposes of r, all of them: by purpose,
// with the owner's copy of a blob.
func purposes(q querier, r *registered) (map[string]stored, error) {
	all := map[string]stored{}
	err := q.each("SELECT "+purposeTable.as("x")+", CASE WHEN x.digest IS NULL THEN NULL ELSE x.secret END, x.wrapped FROM purposes x WHERE x.tenant = ? AND x.instance = ?", []any{r.tenant, r.id}, func(row scanner) error {
		var p stored
		if err := row.Scan(append(dest(&p.purposeRow), &p.secret, &p.wrapped)...); err != nil {
			return err
		}
		all[p.purpose] = p
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if err := q.store().rows.check(&p.purposeRow); err != nil {
			return nil, err
		}
		if p.digest != nil && !p.whole() || r.purposes[p.purpose] != p.generation {
			return nil, forged("purposes")
		}
	}
	if len(all) != len(r.purposes) {
		return nil, forged("purposes")
	}
	return all, nil
}

// stored is a purpose with its secret or blob.
type stored struct {
	purposeRow
	secret, wrapped []byte
}

func (p *stored) whole() bool {
	return string(content(&p.secret, &p.wrapped)) == string(p.content)
}
