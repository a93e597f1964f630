package sqlstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/nonce"
)

// authorization is a row of authorizations.
type authorization struct {
	teebroker.Authorization
	used  int
	state int
	mine  bool // the key that asks has a slot of it

	closed bool // that slot, because one of its releases was superseded
}

// purposesBody is what an authorization is for, as it is stored.
type authorizationBody struct {
	Purposes []string        `json:"purposes"`
	Profiles []nonce.Profile `json:"profiles"`
	Chips    [][]byte        `json:"chips,omitempty"`
	Outlives bool            `json:"outlives_confirm,omitempty"`
}

// The states of an authorization beside those that follow from it.
const (
	stateNormal  = 0
	stateVoided  = 1
	stateRevoked = 2
)

const authorizationColumns = "a.id, a.instance, a.generation, a.policy, a.uses, a.used, a.not_before, a.not_after, a.state, a.body"

func scanAuthorization(r scanner, tenant string) (*authorization, error) {
	a := &authorization{Authorization: teebroker.Authorization{Tenant: tenant}}
	var id, instance, policy, body []byte
	var generation, before, after int64
	if err := r.Scan(&id, &instance, &generation, &policy, &a.Uses, &a.used, &before, &after, &a.state, &body); err != nil {
		return nil, err
	}
	var b authorizationBody
	if err := json.Unmarshal(body, &b); err != nil || len(id) != 16 || len(instance) != 16 || len(policy) != 32 {
		return nil, errors.New("sqlstore: an authorization is damaged")
	}
	a.ID, a.Instance, a.Policy = [16]byte(id), [16]byte(instance), [32]byte(policy)
	a.Generation, a.NotAfter = uint64(generation), instant(after)
	if before != 0 {
		a.NotBefore = instant(before)
	}
	a.Purposes, a.Profiles, a.Chips = b.Purposes, b.Profiles, b.Chips
	a.OutlivesConfirm = b.Outlives
	return a, nil
}

// covers reports whether a is for what g asks, whenever that is.
func (a *authorization) covers(g teebroker.Grant) bool {
	listed := func(c []byte) bool { return bytes.Equal(c, g.Chip) }
	return slices.Contains(a.Purposes, g.Purpose) && slices.Contains(a.Profiles, g.Profile) &&
		a.Instance == g.Instance && a.Generation == g.Generation && a.Policy == teebroker.PolicyDigest(g.Policies...) &&
		(a.Chips == nil || slices.ContainsFunc(a.Chips, listed))
}

// open reports whether now is in the window of a, and nobody withdrew it.
func (a *authorization) open(now int64) bool {
	t := instant(now)
	return a.state == stateNormal && !t.Before(a.NotBefore) && t.Before(a.NotAfter)
}

// release is what a key has already.
type release struct {
	id     [16]byte
	blob   [32]byte
	digest [32]byte
	sealed []byte // by the Cipher; nil if erased
	until  int64
	epoch  []byte // JSON, or nil
}

// decide returns the authorization that g would take a slot of, or has one of,
// and the release that its key has already, or nil. The generation of the
// instance was compared.
func decide(q querier, g teebroker.Grant, now int64) (*authorization, *release, error) {
	auth, have, err := slot(q, g)
	switch {
	case err != nil:
		return nil, nil, err
	case auth != nil && auth.closed:
		return nil, nil, teebroker.Superseded
	case auth != nil:
		return decideSlot(q, auth, have, g, now)
	}
	as, err := candidates(q, g, now, "a.used < a.uses ORDER BY a.made")
	if err != nil {
		return nil, nil, err
	}
	if len(as) > 0 {
		return as[0], nil, nil
	}
	as, err = candidates(q, g, now, "a.used >= a.uses ORDER BY a.made DESC")
	switch {
	case err != nil:
		return nil, nil, err
	case len(as) > 0:
		return nil, nil, teebroker.OtherKey
	}
	return nil, nil, teebroker.NotAuthorized
}

// decideSlot is decide for a key that has a slot, and will never have another.
func decideSlot(q querier, auth *authorization, have *release, g teebroker.Grant, now int64) (*authorization, *release, error) {
	switch {
	case have != nil && auth.covers(g):
		if have.blob != g.Blob {
			return nil, nil, teebroker.ForeignBlob
		}
		if have.sealed == nil || now >= have.until {
			return nil, nil, teebroker.Gone
		}
		return auth, have, nil
	case auth.covers(g) && auth.open(now):
		return auth, nil, nil
	}
	for _, uses := range []string{"a.used < a.uses", "a.used >= a.uses"} {
		others, err := candidates(q, g, now, uses+" ORDER BY a.made DESC")
		if err != nil {
			return nil, nil, err
		}
		if slices.ContainsFunc(others, func(a *authorization) bool { return a.ID != auth.ID }) {
			return nil, nil, teebroker.OtherKey
		}
	}
	return nil, nil, teebroker.NotAuthorized
}

// slot returns the authorization that the key of g has a slot of, and its release
// of the purpose; nil if there is none.
func slot(q querier, g teebroker.Grant) (*authorization, *release, error) {
	var auth *authorization
	var have *release
	err := q.each("SELECT "+authorizationColumns+`, r.id, r.blob, r.digest, r.sealed, r.until, r.epoch, s.closed FROM slots s
JOIN authorizations a ON a.tenant = s.tenant AND a.id = s.auth
LEFT JOIN releases r ON r.tenant = s.tenant AND r.instance = s.instance AND r.recipient = s.recipient AND r.purpose = ?
WHERE s.tenant = ? AND s.instance = ? AND s.recipient = ?`, []any{g.Purpose, g.Tenant, g.Instance[:], g.Key[:]}, func(r scanner) error {
		var id, blob, digest, sealed, epoch []byte
		var until *int64
		var closed int64
		var err error
		if auth, err = scanAuthorization(also{r, []any{&id, &blob, &digest, &sealed, &until, &epoch, &closed}}, g.Tenant); err != nil {
			return err
		}
		if auth.closed = closed != 0; id == nil {
			return nil
		}
		if len(id) != 16 || len(blob) != 32 || len(digest) != 32 || until == nil {
			return errors.New("sqlstore: a release is damaged")
		}
		auth.mine = true
		have = &release{[16]byte(id), [32]byte(blob), [32]byte(digest), sealed, *until, epoch}
		return nil
	})
	if auth != nil {
		auth.mine = true
	}
	return auth, have, err
}

// also scans more columns than who uses it knows of.
type also struct {
	scanner
	dest []any
}

func (a also) Scan(dest ...any) error { return a.scanner.Scan(append(dest, a.dest...)...) }

// candidates returns authorizations that cover g and are open.
func candidates(q querier, g teebroker.Grant, now int64, which string) ([]*authorization, error) {
	var as []*authorization
	err := q.each("SELECT "+authorizationColumns+` FROM authorizations a
WHERE a.tenant = ? AND a.instance = ? AND a.not_after > ? AND a.not_before <= ? AND a.generation = ? AND a.state = 0 AND `+which+" LIMIT 256",
		[]any{g.Tenant, g.Instance[:], now, now, int64(g.Generation)}, func(r scanner) error {
			a, err := scanAuthorization(r, g.Tenant)
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
		var generation int64
		found, err := t.row("SELECT generation FROM instances WHERE tenant = ? AND id = ? AND deleted = 0"+t.d.lock, []any{k.tenant, k.id[:]}, &generation)
		if err != nil {
			return err
		}
		if found {
			t.instances[k] = uint64(generation)
		}
	}
	return nil
}
