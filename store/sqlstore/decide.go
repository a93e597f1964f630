package sqlstore

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/nonce"
)

// authorization is a row of authorizations, checked.
type authorization struct {
	authorizationRow
	teebroker.Authorization
	current bool // of this generation of the database
}

// authorizationBody is what an authorization is for, as it is stored.
type authorizationBody struct {
	Purposes []string        `json:"purposes"`
	Profiles []nonce.Profile `json:"profiles"`
	Chips    [][]byte        `json:"chips,omitempty"`
	Outlives bool            `json:"outlives_confirm,omitempty"`
}

// The states of an authorization beside those that follow from it.
const (
	stateNormal  = 0 // 1 was that of one voided by a change, which its generation says
	stateRevoked = 2
)

func (s *Store) scanAuthorization(r scanner) (*authorization, error) {
	var row authorizationRow
	if err := r.Scan(dest(&row)...); err != nil {
		return nil, err
	}
	return s.authorization(row)
}

// authorization returns what row says.
func (s *Store) authorization(row authorizationRow) (*authorization, error) {
	if err := s.rows.check(&row); err != nil {
		return nil, err
	}
	a := &authorization{authorizationRow: row, Authorization: teebroker.Authorization{Tenant: row.tenant}}
	var b authorizationBody
	if err := json.Unmarshal(row.body, &b); err != nil || len(row.id) != 16 || len(row.instance) != 16 || len(row.policy) != 32 {
		return nil, errors.New("sqlstore: an authorization is damaged")
	}
	a.ID, a.Instance, a.Policy = [16]byte(row.id), [16]byte(row.instance), [32]byte(row.policy)
	a.Generation, a.NotAfter, a.Uses = uint64(row.generation), instant(row.after), int(row.uses)
	if row.before != 0 {
		a.NotBefore = instant(row.before)
	}
	a.Purposes, a.Profiles, a.Chips = b.Purposes, b.Profiles, b.Chips
	a.OutlivesConfirm, a.current = b.Outlives, row.era == int64(s.generation)
	return a, nil
}

// covers reports whether a is for what g asks, whenever that is.
func (a *authorization) covers(g teebroker.Grant) bool {
	listed := func(c []byte) bool { return bytes.Equal(c, g.Chip) }
	return a.current && slices.Contains(a.Purposes, g.Purpose) && slices.Contains(a.Profiles, g.Profile) &&
		a.Instance == g.Instance && a.Generation == g.Generation && a.Policy == teebroker.PolicyDigest(g.Policies...) &&
		(a.Chips == nil || slices.ContainsFunc(a.Chips, listed))
}

// open reports whether now is in the window of a, and nobody withdrew it.
func (a *authorization) open(now int64) bool {
	t := instant(now)
	return a.state == stateNormal && !t.Before(a.NotBefore) && t.Before(a.NotAfter)
}

// facts are what a Grant is decided by, as one statement read them, checked.
type facts struct {
	outcome bool // of the same request
	epochs  *epochs
	slot    slotRow // of its key, and what that has
	auth    *authorization
	release releaseRow
	sealed  []byte           // of release; nil if erased
	open    []*authorization // without a slot: those that may cover it
}

// factsFrom follows a FROM of one row.
const factsFrom = `
LEFT JOIN outcomes o ON o.request = ? AND o.purpose = ?
LEFT JOIN epochs e ON e.tenant = ? AND e.instance = ? AND e.purpose = ?
LEFT JOIN slots s ON s.tenant = ? AND s.instance = ? AND s.recipient = ?
LEFT JOIN authorizations a ON a.tenant = s.tenant AND a.id = s.auth
LEFT JOIN releases r ON r.tenant = ? AND r.instance = ? AND r.recipient = ? AND r.purpose = ?
LEFT JOIN authorizations p ON s.auth IS NULL AND p.tenant = ? AND p.instance = ? AND p.not_after > ? AND p.generation = ? AND p.era = ? AND p.state = 0 AND p.used < p.uses
ORDER BY p.made LIMIT 512`

var factsColumns = "o.purpose, " + epochTable.as("e") + ", " + slotTable.as("s") + ", " + authorizationTable.as("a") + ", " + releaseTable.as("r") + ", r.sealed, " + authorizationTable.as("p")

// facts reads what g is decided by. First are columns of from, and dest where they
// are scanned to.
func (s *Store) facts(q querier, g teebroker.Grant, first, from string, args []any, to ...any) (*facts, error) {
	f := &facts{}
	var request sql.NullString
	var er epochRow
	var ar authorizationRow
	var open []authorizationRow
	args = append(args, g.Request[:], g.Purpose, g.Tenant, g.Instance[:], g.Purpose, g.Tenant, g.Instance[:], g.Key[:],
		g.Tenant, g.Instance[:], g.Key[:], g.Purpose, g.Tenant, g.Instance[:], s.horizon(), int64(g.Generation), int64(s.generation))
	err := q.each("SELECT "+first+factsColumns+from+factsFrom, args, func(r scanner) error {
		var p authorizationRow
		all := append(append(to[:len(to):len(to)], &request), outer(&er, &f.slot, &ar, &f.release)...)
		if err := r.Scan(append(append(all, &f.sealed), outer(&p)...)...); err != nil {
			return err
		}
		if present(&p) {
			open = append(open, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	f.outcome = request.Valid
	return f, f.check(s, er, ar, open)
}

// check checks the rows of f. A slot that is not there though there is what it
// gave, or the other way round, was deleted.
func (f *facts) check(s *Store, er epochRow, ar authorizationRow, open []authorizationRow) (err error) {
	if present(&er) {
		if f.epochs, err = s.parseEpochs(er); err != nil {
			return err
		}
	}
	for _, row := range open {
		a, err := s.authorization(row)
		if err != nil {
			return err
		}
		f.open = append(f.open, a)
	}
	if present(&f.release) {
		if err := s.rows.check(&f.release); err != nil {
			return err
		}
		if len(f.release.id) != 16 || len(f.release.blob) != 32 || len(f.release.digest) != 32 {
			return errors.New("sqlstore: a release is damaged")
		}
	}
	switch {
	case !present(&f.slot) && present(&f.release):
		return forged(slotTable.name)
	case !present(&f.slot):
		return nil
	case !present(&ar):
		return errors.Join(s.rows.check(&f.slot), forged(authorizationTable.name))
	}
	if err := s.rows.check(&f.slot); err != nil {
		return err
	}
	f.auth, err = s.authorization(ar)
	if err == nil && present(&f.release) && string(f.release.auth) != string(f.slot.auth) {
		err = forged(releaseTable.name)
	}
	return err
}

// has reports whether the key has a release of the purpose.
func (f *facts) has() bool { return present(&f.release) }

// decide returns the authorization that g would take a slot of, or has one of. The
// generation of the instance was compared.
func (f *facts) decide(q querier, g teebroker.Grant, now int64) (*authorization, error) {
	if f.auth != nil {
		return f.decideSlot(q, g, now)
	}
	for _, a := range f.open {
		if a.covers(g) && a.open(now) {
			return a, nil
		}
	}
	taken, err := candidates(q, g, now, "a.used >= a.uses")
	switch {
	case err != nil:
		return nil, err
	case len(taken) > 0:
		return nil, teebroker.OtherKey
	}
	return nil, teebroker.NotAuthorized
}

// decideSlot is decide for a key that has a slot, and will never have another.
func (f *facts) decideSlot(q querier, g teebroker.Grant, now int64) (*authorization, error) {
	switch {
	case f.slot.closed != 0:
		return nil, teebroker.Superseded
	case f.has() && f.auth.covers(g):
		if string(f.release.blob) != string(g.Blob[:]) {
			return nil, teebroker.ForeignBlob
		}
		if f.sealed == nil || now >= f.release.until || f.auth.state == stateRevoked {
			return nil, teebroker.Gone
		}
		return f.auth, nil
	case f.auth.covers(g) && f.auth.open(now):
		return f.auth, nil
	}
	for _, uses := range []string{"a.used < a.uses", "a.used >= a.uses"} {
		others, err := candidates(q, g, now, uses)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(others, func(a *authorization) bool { return a.ID != f.auth.ID }) {
			return nil, teebroker.OtherKey
		}
	}
	return nil, teebroker.NotAuthorized
}

// candidates returns authorizations that cover g and are open.
func candidates(q querier, g teebroker.Grant, now int64, which string) ([]*authorization, error) {
	s := q.store()
	var as []*authorization
	err := q.each("SELECT "+authorizationTable.as("a")+` FROM authorizations a
WHERE a.tenant = ? AND a.instance = ? AND a.not_after > ? AND a.not_before <= ? AND a.generation = ? AND a.state = 0 AND `+which+" ORDER BY a.made DESC LIMIT 256",
		[]any{g.Tenant, g.Instance[:], now, now, int64(g.Generation)}, func(r scanner) error {
			a, err := s.scanAuthorization(r)
			if err == nil && a.covers(g) && a.open(now) {
				as = append(as, a)
			}
			return err
		})
	return as, err
}

// lock locks the instances that jobs decide about and reads their generations.
// Every transaction takes its locks in this order: instances, sorted; what
// belongs to them; heads of chains.
func (t *tx) lock(jobs []*job) error {
	var keys []instanceKey
	for _, j := range jobs {
		keys = append(keys, j.locks...)
	}
	slices.SortFunc(keys, func(a, b instanceKey) int {
		if c := strings.Compare(a.tenant, b.tenant); c != 0 {
			return c
		}
		return bytes.Compare(a.id[:], b.id[:])
	})
	for _, k := range slices.Compact(keys) {
		var row instanceRow
		found, err := fetch(t, &row, " FROM instances x WHERE x.tenant = ? AND x.id = ?"+t.d.lock, []any{k.tenant, k.id[:]})
		if err != nil {
			return err
		}
		if found && row.deleted == 0 {
			t.instances[k] = uint64(row.generation)
		}
	}
	return nil
}
