package sqlstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
)

// What is stored of one request, in bytes at most.
const (
	maxSealed  = 4 << 20
	maxReceipt = 64 << 10
	maxCode    = 64
)

// outcome is a row of outcomes with its release.
type outcome struct {
	refused                            *string
	tenant, purpose                    *string
	instance, recipient, receipt, kept []byte // kept is sealed by the Cipher
	release                            []byte
	until, closed                      *int64
	epoch                              []byte
}

const outcomeColumns = "o.refused, o.purpose, o.tenant, o.instance, o.recipient, o.receipt, r.id, r.sealed, r.until, r.closed, r.epoch"

const outcomeJoin = ` outcomes o ON o.request = ? AND o.purpose = ?
LEFT JOIN releases r ON r.tenant = o.tenant AND r.instance = o.instance AND r.recipient = o.recipient AND r.purpose = o.purpose`

func (o *outcome) dest(first ...any) []any {
	return append(first, &o.refused, &o.purpose, &o.tenant, &o.instance, &o.recipient, &o.receipt, &o.release, &o.kept, &o.until, &o.closed, &o.epoch)
}

// at returns what o is at an instant: a refusal, the error Gone, or neither.
func (o *outcome) at(now int64) (refused string, err error) {
	switch {
	case *o.refused != "":
		return *o.refused, nil
	case o.closed != nil && *o.closed != 0:
		return "", teebroker.Superseded
	case o.until == nil || now >= *o.until || o.kept == nil:
		return "", teebroker.Gone
	}
	return "", nil
}

// response opens what is stored.
func (s *Store) response(ctx context.Context, o *outcome) (teebroker.Response, error) {
	if o.tenant == nil || len(o.release) != 16 || len(o.receipt) == 0 {
		return teebroker.Response{}, errors.New("sqlstore: an outcome is damaged")
	}
	sealed, err := s.open(ctx, o.kept, "releases.sealed", *o.tenant, o.instance, o.recipient, []byte(*o.purpose), o.release)
	if err != nil {
		return teebroker.Response{}, err
	}
	r := teebroker.Response{Release: [16]byte(o.release), Sealed: sealed, Receipt: bytes.Clone(o.receipt)}
	e, err := parseEpoch(o.epoch)
	if e != nil {
		r.Epoch, r.NextWrapped = e.Number, e.NextWrapped
	}
	return r, err
}

// Outcome implements [teebroker.Ledger].
func (s *Store) Outcome(ctx context.Context, request [32]byte, purpose string) (teebroker.Outcome, bool, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return teebroker.Outcome{}, false, err
	}
	var marked, db int64
	var o outcome
	_, err = r.row("SELECT c.latest, "+s.d.clock+", "+outcomeColumns+" FROM clock c LEFT JOIN"+outcomeJoin, []any{request[:], purpose}, o.dest(&marked, &db)...)
	if err != nil {
		return teebroker.Outcome{}, false, err
	}
	now, err := s.now(marked, db)
	if err != nil || o.refused == nil {
		return teebroker.Outcome{}, false, err
	}
	refused, err := o.at(now)
	if err != nil || refused != "" {
		return teebroker.Outcome{Refused: refused}, err == nil, err
	}
	response, err := s.response(ctx, &o)
	if err == nil {
		err = s.witnessed(r, *o.tenant)
	}
	if err != nil {
		return teebroker.Outcome{}, false, err
	}
	return teebroker.Outcome{Response: response}, true, nil
}

// Check implements [teebroker.Ledger].
func (s *Store) Check(ctx context.Context, g teebroker.Grant) (teebroker.Terms, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return teebroker.Terms{}, err
	}
	var marked, db int64
	var generation *int64
	var state []byte
	_, err = r.row("SELECT c.latest, "+s.d.clock+`, i.generation, e.state FROM clock c LEFT JOIN instances i ON i.tenant = ? AND i.id = ? AND i.deleted = 0
LEFT JOIN epochs e ON e.tenant = ? AND e.instance = ? AND e.purpose = ?`,
		[]any{g.Tenant, g.Instance[:], g.Tenant, g.Instance[:], g.Purpose}, &marked, &db, &generation, &state)
	if err != nil {
		return teebroker.Terms{}, err
	}
	now, err := s.now(marked, db)
	if err != nil {
		return teebroker.Terms{}, err
	}
	if generation == nil || uint64(*generation) != g.Generation {
		return teebroker.Terms{}, teebroker.NotAuthorized
	}
	auth, have, err := decide(r, g, now)
	if err != nil {
		return teebroker.Terms{}, err
	}
	terms := teebroker.Terms{Authorization: auth.ID, Uses: auth.Uses}
	if g.Ordered {
		if terms.Order, _, err = order(r, g.Tenant, g.Instance, store.SubjectAuthorization(auth.ID)); err != nil {
			return teebroker.Terms{}, err
		}
	}
	if terms.Epoch, err = granted(state, g, have); err == nil && terms.Epoch != nil && have == nil {
		terms.Epoch.Wrapped, err = wrappedKey(r, g, terms.Epoch.Number)
	}
	if err != nil {
		return teebroker.Terms{}, err
	}
	if have != nil {
		terms.Release = have.id
		terms.Sealed, err = s.open(ctx, have.sealed, "releases.sealed", g.Tenant, g.Instance[:], g.Key[:], []byte(g.Purpose), have.id[:])
	}
	if err != nil {
		return teebroker.Terms{}, err
	}
	return terms, nil
}

// sealedRelease is what a new release adds, sealed for its place.
type sealedRelease struct{ sealed, confirmKey []byte }

func (s *Store) sealRelease(ctx context.Context, g teebroker.Grant, r teebroker.Response) (x sealedRelease, err error) {
	place := [][]byte{g.Instance[:], g.Key[:], []byte(g.Purpose), r.Release[:]}
	if x.sealed, err = s.seal(ctx, r.Sealed, "releases.sealed", g.Tenant, place...); err != nil || g.ConfirmKey == nil {
		return x, err
	}
	x.confirmKey, err = s.seal(ctx, g.ConfirmKey, "releases.confirm_key", g.Tenant, place...)
	return x, err
}

var errResponse = errors.New("sqlstore: not a response to store")

// storable returns an error unless g, r and e belong together.
func storable(g teebroker.Grant, r teebroker.Response, e teebroker.Entry) error {
	switch {
	case len(r.Sealed) == 0 || len(r.Sealed) > maxSealed || len(r.Receipt) == 0 || len(r.Receipt) > maxReceipt || r.Release == [16]byte{}:
		return errResponse
	case e.Tenant != g.Tenant || e.Chain != teebroker.Decisions || e.Kind == "" || len(e.Body) == 0:
		return errors.New("sqlstore: not the entry of this release")
	case g.ConfirmKey != nil && len(g.ConfirmKey) != 32:
		return errors.New("sqlstore: a confirm key is 32 bytes")
	}
	return nil
}

// Commit implements [teebroker.Ledger].
func (s *Store) Commit(ctx context.Context, g teebroker.Grant, r teebroker.Response, e teebroker.Entry) (teebroker.Response, error) {
	// A caller that gives up leaves a job behind, which shares nothing with it.
	r, fault := r.Clone(), storable(g, r, e)
	g.Policies, g.Chip, e.Body, g.Epoch = slices.Clone(g.Policies), bytes.Clone(g.Chip), bytes.Clone(e.Body), g.Epoch.Clone()
	var box sealedRelease
	if fault == nil {
		var err error
		// A token may seal, so it is done before anything is locked.
		if box, err = s.sealRelease(ctx, g, r); err != nil {
			return teebroker.Response{}, err
		}
	}
	key := instanceKey{g.Tenant, g.Instance}
	var first *outcome
	err := s.do(ctx, &job{order: g.Tenant + "\x00d", locks: []instanceKey{key}, run: func(t *tx) error {
		first = nil
		var o outcome
		var state []byte
		_, err := t.row("SELECT e.state, "+outcomeColumns+" FROM (SELECT 1 AS one) x LEFT JOIN epochs e ON e.tenant = ? AND e.instance = ? AND e.purpose = ? LEFT JOIN"+outcomeJoin,
			[]any{g.Tenant, g.Instance[:], g.Purpose, g.Request[:], g.Purpose}, o.dest(&state)...)
		if err != nil {
			return err
		}
		if o.refused != nil {
			refused, err := o.at(t.now)
			if refused != "" {
				return teebroker.Refusal(refused)
			}
			if err == nil {
				err = t.s.witnessed(t, g.Tenant)
			}
			first = &o
			return err
		}
		generation, ok := t.instances[key]
		if !ok || generation != g.Generation {
			return teebroker.NotAuthorized
		}
		auth, have, err := decide(t, g, t.now)
		var terms *teebroker.Epoch
		if err == nil {
			terms, err = granted(state, g, have)
		}
		switch {
		case err != nil:
			return err
		case auth.ID != g.Authorization, have != nil && have.id != r.Release:
			return teebroker.ErrAgain
		case fault != nil:
			return fault
		case have != nil && have.digest != sha256.Sum256(r.Sealed):
			return errResponse
		}
		if have == nil && !auth.mine && t.d.numbers && terms == nil {
			return t.releaseAtOnce(g, auth, r, box, e)
		}
		if have == nil {
			if err := t.release(g, auth, r, box, terms, state); err != nil {
				return err
			}
		}
		return t.outcome(g, r, e)
	}})
	switch {
	case err != nil:
		return teebroker.Response{}, err
	case first != nil:
		return s.response(ctx, first)
	}
	return r, nil
}

// release stores a new release, and takes a slot unless the key has it.
func (t *tx) release(g teebroker.Grant, auth *authorization, r teebroker.Response, box sealedRelease, terms *teebroker.Epoch, state []byte) error {
	until, epoch, pcr := auth.NotAfter.Add(afterwards).UnixNano(), []byte(nil), []byte(nil)
	if terms != nil {
		var err error
		if epoch, err = t.taken(g, r, terms, state); err != nil {
			return err
		}
		if until = forEver; g.Epoch.PCR != (strictjson.Digest{}) {
			pcr = g.Epoch.PCR[:]
		}
	}
	if !auth.mine {
		n, err := t.exec("UPDATE authorizations SET used = used + 1 WHERE tenant = ? AND id = ? AND used < uses AND state = 0", g.Tenant, auth.ID[:])
		if err != nil {
			return err
		}
		if n != 1 {
			return teebroker.ErrAgain
		}
		if _, err := t.exec("INSERT INTO slots (tenant, instance, recipient, auth) VALUES (?, ?, ?, ?)", g.Tenant, g.Instance[:], g.Key[:], auth.ID[:]); err != nil {
			return err
		}
	}
	digest := sha256.Sum256(r.Sealed)
	_, err := t.exec(`INSERT INTO releases (tenant, instance, recipient, purpose, id, auth, blob, digest, sealed, confirm_key, until, epoch, pcr)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, g.Tenant, g.Instance[:], g.Key[:], g.Purpose, r.Release[:], auth.ID[:], g.Blob[:],
		digest[:], box.sealed, null(box.confirmKey), until, null(epoch), null(pcr))
	return err
}

// atOnce is release, add and outcome of a key that takes a slot, in one statement:
// what a release costs in PostgreSQL is mostly how often it is asked.
const atOnce = `WITH a AS (UPDATE authorizations SET used = used + 1 WHERE tenant = $1 AND id = $5 AND used < uses AND state = 0 RETURNING id),
s AS (INSERT INTO slots (tenant, instance, recipient, auth) SELECT $1, $2::bytea, $3::bytea, id FROM a),
r AS (INSERT INTO releases (tenant, instance, recipient, purpose, id, auth, blob, digest, sealed, confirm_key, until)
SELECT $1, $2, $3, $4::text, $6::bytea, id, $7::bytea, $8::bytea, $9::bytea, $10::bytea, $11::bigint FROM a),
e AS (INSERT INTO entries (tenant, chain, seq, generation, time, kind, body, previous, hash)
SELECT $1, 'decisions', $12::bigint, $13::bigint, $14::bigint, $15::text, $16::bytea, $17::bytea, $18::bytea FROM a)
INSERT INTO outcomes (request, purpose, refused, tenant, instance, recipient, receipt, seq) SELECT $19::bytea, $4, '', $1, $2, $3, $20::bytea, $12 FROM a`

func (t *tx) releaseAtOnce(g teebroker.Grant, auth *authorization, r teebroker.Response, box sealedRelease, e teebroker.Entry) error {
	next, err := t.next(e)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(r.Sealed)
	n, err := t.exec(atOnce, g.Tenant, g.Instance[:], g.Key[:], g.Purpose, auth.ID[:], r.Release[:], g.Blob[:], digest[:], box.sealed, null(box.confirmKey),
		auth.NotAfter.Add(afterwards).UnixNano(), int64(next.Seq), int64(next.Generation), next.Time.UnixMilli(), string(next.Kind), next.Body,
		next.Previous[:], next.Hash[:], g.Request[:], r.Receipt)
	if err == nil && n != 1 {
		err = teebroker.ErrAgain
	}
	return err
}

// outcome stores what became of a request, with its entry.
func (t *tx) outcome(g teebroker.Grant, r teebroker.Response, e teebroker.Entry) error {
	seq, err := t.add(e)
	if err != nil {
		return err
	}
	_, err = t.exec("INSERT INTO outcomes (request, purpose, refused, tenant, instance, recipient, receipt, seq) VALUES (?, ?, '', ?, ?, ?, ?, ?)",
		g.Request[:], g.Purpose, g.Tenant, g.Instance[:], g.Key[:], r.Receipt, int64(seq))
	return err
}

// null is b, or NULL.
func null(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

// Refuse implements [teebroker.Ledger].
func (s *Store) Refuse(ctx context.Context, request [32]byte, purpose, code string, e teebroker.Entry) error {
	switch {
	case code == "":
		return nil
	case len(code) > maxCode || len(purpose) > 64 || e.Chain != teebroker.Refusals || len(e.Body) > maxBody:
		return errors.New("sqlstore: not a refusal to store")
	}
	e.Body = bytes.Clone(e.Body)
	return s.do(ctx, &job{order: e.Tenant + "\x00r", run: func(t *tx) error {
		n, err := t.exec("INSERT INTO outcomes (request, purpose, refused, forget) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
			request[:], purpose, code, t.now+int64(keepRefused))
		if err != nil || n == 0 {
			return err
		}
		return t.addRefusal(e)
	}})
}
