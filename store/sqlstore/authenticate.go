package sqlstore

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// authenticate gives a MAC to every row of a database of before there were any, as
// it is. It is part of the transaction of a migration.
func (s *Store) authenticate(ctx context.Context, x *session) error {
	a := &adoption{s: s, t: &tx{s: s, ctx: ctx, session: x}}
	for _, step := range []func() error{a.clock, a.policies, a.purposes, a.instances, a.heads} {
		if err := step(); err != nil {
			return err
		}
	}
	for _, r := range []func() record{
		func() record { return &clockRow{} },
		func() record { return &metaRow{} },
		func() record { return &tokenRow{} },
		func() record { return &policyRow{} },
		func() record { return &instanceRow{} },
		func() record { return &claimRow{} },
		func() record { return &purposeRow{} },
		func() record { return &authorizationRow{} },
		func() record { return &slotRow{} },
		func() record { return &releaseRow{} },
		func() record { return &outcomeRow{} },
		func() record { return &entryRow{} },
		func() record { return &headRow{} },
		func() record { return &epochRow{} },
		func() record { return &epochBlobRow{} },
		func() record { return &identityRow{} },
	} {
		if err := a.seal(r); err != nil {
			return err
		}
	}
	return nil
}

type adoption struct {
	s *Store
	t *tx
}

// clock has the generation of the database, which meta had.
func (a *adoption) clock() error {
	generation, err := a.t.session.meta(a.t.ctx, "generation")
	if err != nil {
		return err
	}
	if string(generation) != "1" {
		return errors.New("the generation of the database is damaged")
	}
	if _, err := a.t.exec("DELETE FROM meta WHERE name = 'generation'"); err != nil {
		return err
	}
	_, err = a.t.exec("UPDATE clock SET generation = 1")
	return err
}

// some is how many rows are changed at a time.
const some = 1000

// fill calls f for every row of a query that ends once f changed what it returned,
// with what it has, and changes it by update, which f returns the arguments of.
func (a *adoption) fill(query, update string, to func() []any, f func(to []any) ([]any, error)) error {
	for {
		var rows [][]any
		err := a.t.each(query, []any{some}, func(r scanner) error {
			d := to()
			rows = append(rows, d)
			return r.Scan(d...)
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			args, err := f(row)
			if err != nil {
				return err
			}
			if _, err := a.t.exec(update, args...); err != nil {
				return err
			}
		}
	}
}

func (a *adoption) policies() error {
	return a.fill("SELECT tenant, name, document FROM policies WHERE content IS NULL LIMIT ?",
		"UPDATE policies SET content = ? WHERE tenant = ? AND name = ?", func() []any { return []any{new(string), new(string), new([]byte)} }, func(to []any) ([]any, error) {
			d := sha256.Sum256(*to[2].(*[]byte))
			return []any{d[:], *to[0].(*string), *to[1].(*string)}, nil
		})
}

func (a *adoption) purposes() error {
	if _, err := a.t.exec("UPDATE purposes SET generation = (SELECT i.generation FROM instances i WHERE i.tenant = purposes.tenant AND i.id = purposes.instance)"); err != nil {
		return err
	}
	return a.fill("SELECT tenant, instance, purpose, secret, wrapped FROM purposes WHERE content IS NULL LIMIT ?",
		"UPDATE purposes SET content = ? WHERE tenant = ? AND instance = ? AND purpose = ?",
		func() []any { return []any{new(string), new([]byte), new(string), new([]byte), new([]byte)} }, func(to []any) ([]any, error) {
			return []any{content(to[3], to[4]), *to[0].(*string), *to[1].(*[]byte), *to[2].(*string)}, nil
		})
}

func (a *adoption) instances() error {
	return a.fill("SELECT tenant, id, deleted, registration FROM instances WHERE content IS NULL LIMIT ?",
		"UPDATE instances SET policy = ?, parts = ?, content = ?, registration = ? WHERE tenant = ? AND id = ?",
		func() []any { return []any{new(string), new([]byte), new(int64), new([]byte)} }, func(to []any) ([]any, error) {
			r := &registered{instanceRow: instanceRow{tenant: *to[0].(*string), id: *to[1].(*[]byte), deleted: *to[2].(*int64)}, purposes: map[string]int64{}}
			if r.deleted == 0 {
				if err := json.Unmarshal(*to[3].(*[]byte), &r.reg); err != nil {
					return nil, err
				}
			}
			err := a.t.each("SELECT purpose, generation FROM purposes WHERE tenant = ? AND instance = ?", []any{r.tenant, r.id}, func(row scanner) error {
				var purpose string
				var generation int64
				err := row.Scan(&purpose, &generation)
				r.purposes[purpose] = generation
				return err
			})
			if err != nil {
				return nil, err
			}
			if r.policy, err = a.policy(r); err == nil {
				err = r.encode()
			}
			return []any{r.policy, r.parts, r.content, r.registration, r.tenant, r.id}, err
		})
}

// policy is policyDigest of rows that have no MAC yet.
func (a *adoption) policy(r *registered) ([]byte, error) {
	var ds [][32]byte
	for _, name := range r.reg.Policies {
		var d []byte
		found, err := a.t.row("SELECT content FROM policies WHERE tenant = ? AND name = ?", []any{r.tenant, name}, &d)
		if err != nil {
			return nil, err
		}
		if !found || len(d) != 32 {
			return nil, store.NotFound
		}
		ds = append(ds, [32]byte(d))
	}
	d := teebroker.PolicyDigest(ds...)
	return d[:], nil
}

func (a *adoption) heads() error {
	_, err := a.t.exec("UPDATE heads SET generation = 1")
	return err
}

// seal gives MACs to all rows of a table.
func (a *adoption) seal(make func() record) error {
	t := make().of()
	where := ""
	if t == metaTable {
		where = " AND x.name <> 'schema'"
	}
	key := strings.Join(t.columns[:t.key], " = ? AND ") + " = ?"
	for {
		var rows []record
		err := a.t.each("SELECT "+t.as("x")+" FROM "+t.name+" x WHERE x.mac IS NULL"+where+" LIMIT ?", []any{some}, func(r scanner) error {
			row := make()
			rows = append(rows, row)
			return r.Scan(dest(row)...)
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, r := range rows {
			if _, err := a.t.exec("UPDATE "+t.name+" SET mac = ? WHERE "+key, append([]any{a.s.rows.sum(r)}, values(r.fields()[:t.key]...)...)...); err != nil {
				return err
			}
		}
	}
}
