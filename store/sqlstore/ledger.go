package sqlstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
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

// outcome is a row of outcomes with what it is of, checked.
type outcome struct {
	outcomeRow
	release releaseRow
	sealed  []byte // by the Cipher; nil if erased
	ended   error  // why that is not served any more, or nil
}

const outcomeJoin = ` LEFT JOIN outcomes o ON o.request = ? AND o.purpose = ?
LEFT JOIN releases r ON r.tenant = o.tenant AND r.instance = o.instance AND r.recipient = o.recipient AND r.purpose = o.purpose
LEFT JOIN slots s ON s.tenant = r.tenant AND s.instance = r.instance AND s.recipient = r.recipient
LEFT JOIN authorizations a ON a.tenant = r.tenant AND a.id = r.auth
LEFT JOIN instances i ON i.tenant = r.tenant AND i.id = r.instance
LEFT JOIN epochs e ON e.tenant = r.tenant AND e.instance = r.instance AND e.purpose = r.purpose`

var outcomeColumns = outcomeTable.as("o") + ", " + releaseTable.as("r") + ", r.sealed, " + slotTable.as("s") + ", " + authorizationTable.as("a") + ", " + instanceTable.as("i") + ", " + epochTable.as("e")

// outcomeOf reads the outcome of a request at an instant, nil if there is none.
// First are columns before it, and to where they are scanned.
func (s *Store) outcomeOf(q querier, request [32]byte, purpose, first, from string, to ...any) (*outcome, error) {
	o := &outcome{}
	var slot slotRow
	var auth authorizationRow
	var inst instanceRow
	var row epochRow
	to = append(append(append(to, outer(&o.outcomeRow, &o.release)...), &o.sealed), outer(&slot, &auth, &inst, &row)...)
	if _, err := q.row("SELECT "+first+outcomeColumns+from+outcomeJoin, []any{request[:], purpose}, to...); err != nil {
		return nil, err
	}
	if !present(&o.outcomeRow) {
		return nil, nil
	}
	if err := s.rows.check(&o.outcomeRow); err != nil || o.refused != "" {
		return o, err
	}
	for _, r := range []record{&o.release, &slot, &auth, &inst} {
		if err := s.rows.check(r); err != nil { // also if it is not there
			return nil, err
		}
	}
	switch {
	case slot.closed != 0:
		o.ended = teebroker.Superseded
	case auth.state == stateRevoked, auth.era != int64(s.generation), inst.deleted != 0, o.sealed == nil:
		o.ended = teebroker.Gone
	case o.release.epoch != nil:
		e, err := s.parseEpochs(row)
		if err == nil && len(o.release.id) != 16 {
			err = forged(releaseTable.name)
		}
		if err != nil {
			return nil, err
		}
		o.ended = e.is.Serves([16]byte(o.release.id))
	}
	return o, nil
}

// at returns what o is at an instant: a refusal, the error Gone or Superseded, or
// neither.
func (o *outcome) at(now int64) (refused string, err error) {
	switch {
	case o.refused != "":
		return o.refused, nil
	case o.ended != nil:
		return "", o.ended
	case now >= o.release.until:
		return "", teebroker.Gone
	}
	return "", nil
}

// response opens what is stored.
func (s *Store) response(ctx context.Context, o *outcome) (teebroker.Response, error) {
	sealed, err := s.openRelease(ctx, &o.release, o.sealed)
	if err != nil {
		return teebroker.Response{}, err
	}
	r := teebroker.Response{Release: [16]byte(o.release.id), Sealed: sealed, Receipt: bytes.Clone(o.receipt)}
	e, err := parseEpoch(o.release.epoch)
	if e != nil {
		r.Epoch, r.NextWrapped = e.Number, e.NextWrapped
	}
	return r, err
}

// openRelease opens the sealed bytes of a release.
func (s *Store) openRelease(ctx context.Context, r *releaseRow, sealed []byte) ([]byte, error) {
	if len(r.id) != 16 {
		return nil, errors.New("sqlstore: a release is damaged")
	}
	b, err := s.open(ctx, sealed, "releases.sealed", r.tenant, r.instance, r.recipient, []byte(r.purpose), r.id)
	if err != nil {
		return nil, err
	}
	if d := sha256.Sum256(b); string(d[:]) != string(r.digest) {
		return nil, forged(releaseTable.name)
	}
	return b, nil
}

// Outcome implements [teebroker.Ledger].
func (s *Store) Outcome(ctx context.Context, request [32]byte, purpose string) (teebroker.Outcome, bool, error) {
	r, err := s.reader(ctx)
	if err != nil {
		return teebroker.Outcome{}, false, err
	}
	var c clockRow
	var db int64
	o, err := s.outcomeOf(r, request, purpose, clockTable.as("c")+", "+s.d.clock+", ", " FROM clock c", append(dest(&c), &db)...)
	if err != nil {
		return teebroker.Outcome{}, false, err
	}
	now, err := s.clock(&c, db)
	if err != nil || o == nil {
		return teebroker.Outcome{}, false, err
	}
	refused, err := o.at(now)
	if err != nil || refused != "" {
		return teebroker.Outcome{Refused: refused}, err == nil, err
	}
	response, err := s.response(ctx, o)
	if err == nil {
		err = s.witnessed(r, o.tenant.String)
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
	var c clockRow
	var db int64
	var inst instanceRow
	f, err := s.facts(r, g, clockTable.as("c")+", "+s.d.clock+", "+instanceTable.as("i")+", ", " FROM clock c LEFT JOIN instances i ON i.tenant = ? AND i.id = ?",
		[]any{g.Tenant, g.Instance[:]}, append(append(dest(&c), &db), outer(&inst)...)...)
	if err != nil {
		return teebroker.Terms{}, err
	}
	now, err := s.clock(&c, db)
	if err == nil && present(&inst) {
		err = s.rows.check(&inst)
	}
	if err != nil {
		return teebroker.Terms{}, err
	}
	if !present(&inst) || inst.deleted != 0 || uint64(inst.generation) != g.Generation {
		return teebroker.Terms{}, teebroker.NotAuthorized
	}
	auth, err := f.decide(r, g, now)
	if err != nil {
		return teebroker.Terms{}, err
	}
	terms := teebroker.Terms{Authorization: auth.ID, Uses: auth.Uses}
	if g.Ordered {
		if terms.Order, _, err = order(r, g.Tenant, g.Instance, store.SubjectAuthorization(auth.ID)); err != nil {
			return teebroker.Terms{}, err
		}
	}
	if terms.Epoch, err = f.granted(g); err == nil && terms.Epoch != nil && !f.has() {
		terms.Epoch.Wrapped, err = wrappedKey(r, g, terms.Epoch.Number)
	}
	if err == nil && f.has() {
		terms.Release = [16]byte(f.release.id)
		terms.Sealed, err = s.openRelease(ctx, &f.release, f.sealed)
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
	err := s.do(ctx, &job{order: g.Tenant + "\x00d", locks: []instanceKey{key}, run: func(t *tx) (err error) {
		first, err = t.commit(g, r, box, e, fault)
		return err
	}})
	switch {
	case err != nil:
		return teebroker.Response{}, err
	case first != nil:
		return s.response(ctx, first)
	}
	return r, nil
}

// commit is the transaction of Commit. It returns the outcome that there is
// already, or nil. Fault is why nothing can be stored, if it comes to that.
func (t *tx) commit(g teebroker.Grant, r teebroker.Response, box sealedRelease, e teebroker.Entry, fault error) (*outcome, error) {
	f, err := t.s.facts(t, g, "", " FROM (SELECT 1 AS one) x", nil)
	if err != nil {
		return nil, err
	}
	if f.outcome {
		o, err := t.s.outcomeOf(t, g.Request, g.Purpose, "", " FROM (SELECT 1 AS one) x")
		if err != nil {
			return nil, err
		}
		refused, err := o.at(t.now)
		if refused != "" {
			return nil, teebroker.Refusal(refused)
		}
		if err == nil {
			err = t.s.witnessed(t, g.Tenant)
		}
		return o, err
	}
	if generation, ok := t.instances[instanceKey{g.Tenant, g.Instance}]; !ok || generation != g.Generation {
		return nil, teebroker.NotAuthorized
	}
	auth, err := f.decide(t, g, t.now)
	var terms *teebroker.Epoch
	if err == nil {
		terms, err = f.granted(g)
	}
	switch {
	case err != nil:
		return nil, err
	case auth.ID != g.Authorization, f.has() && [16]byte(f.release.id) != r.Release:
		return nil, teebroker.ErrAgain
	case fault != nil:
		return nil, fault
	case f.has() && [32]byte(f.release.digest) != sha256.Sum256(r.Sealed):
		return nil, errResponse
	}
	if err := t.newest(f, auth); err != nil {
		return nil, err
	}
	if !f.has() && f.auth == nil && t.d.numbers {
		return nil, t.releaseAtOnce(f, g, auth, r, box, terms, e)
	}
	if !f.has() {
		if err := t.release(f, g, auth, r, box, terms); err != nil {
			return nil, err
		}
	}
	return nil, t.outcome(g, r, e)
}

// rowsOf returns the rows of a new release under auth, which counts a slot more.
func rowsOf(g teebroker.Grant, auth *authorization, r teebroker.Response) (*authorizationRow, *slotRow, *releaseRow) {
	a, digest := auth.authorizationRow, sha256.Sum256(r.Sealed)
	a.used, a.version = a.used+1, a.version+1
	return &a, &slotRow{tenant: g.Tenant, instance: g.Instance[:], recipient: g.Key[:], auth: a.id}, &releaseRow{
		tenant: g.Tenant, instance: g.Instance[:], recipient: g.Key[:], purpose: g.Purpose, id: r.Release[:], auth: a.id, blob: g.Blob[:],
		digest: digest[:], until: auth.NotAfter.Add(afterwards).UnixNano(),
	}
}

// release stores a new release, and takes a slot unless the key has it.
func (t *tx) release(f *facts, g teebroker.Grant, auth *authorization, r teebroker.Response, box sealedRelease, terms *teebroker.Epoch) error {
	a, slot, row := rowsOf(g, auth, r)
	pcr, err := t.takes(f, g, r, terms, row)
	if err != nil {
		return err
	}
	if f.auth == nil {
		if err := t.update(a); err != nil {
			return err
		}
		if err := t.insert(slot); err != nil {
			return err
		}
	}
	return t.insert(row, box.sealed, null(box.confirmKey), null(pcr))
}

// takes is the event of a release whose purpose has epochs, as terms grant it. It
// completes row, and returns what a PCR shows.
func (t *tx) takes(f *facts, g teebroker.Grant, r teebroker.Response, terms *teebroker.Epoch, row *releaseRow) (pcr []byte, err error) {
	if terms == nil {
		return nil, nil
	}
	if row.epoch, err = t.taken(g, r, terms, f.epochs); err != nil {
		return nil, err
	}
	if row.until = forEver; g.Epoch.PCR != (strictjson.Digest{}) {
		pcr = g.Epoch.PCR[:]
	}
	return pcr, nil
}

// atOnce is release, add and outcome of a key that takes a slot, in one statement:
// what a release costs in PostgreSQL is mostly how often it is asked. A release
// whose authorization is not as it was read is none.
const atOnce = `WITH a AS (UPDATE authorizations SET used = ?::bigint, version = ?::bigint, mac = ?::bytea WHERE tenant = ? AND id = ? AND mac = ? RETURNING tenant, instance, id),
v AS (SELECT a.*, ?::bytea AS recipient, ?::text AS purpose, ?::bigint AS seq FROM a),
s AS (INSERT INTO slots (tenant, instance, recipient, auth, closed, mac) SELECT tenant, instance, recipient, id, 0, ?::bytea FROM v),
r AS (INSERT INTO releases (tenant, instance, recipient, purpose, auth, id, blob, digest, until, epoch, mac, sealed, confirm_key, pcr)
SELECT tenant, instance, recipient, purpose, id, ?::bytea, ?::bytea, ?::bytea, ?::bigint, ?::bytea, ?::bytea, ?::bytea, ?::bytea, ?::bytea FROM v),
e AS (INSERT INTO entries (tenant, chain, seq, hash, mac, generation, time, kind, body, previous)
SELECT tenant, 'decisions', seq, ?::bytea, ?::bytea, ?::bigint, ?::bigint, ?::text, ?::bytea, ?::bytea FROM v)
INSERT INTO outcomes (tenant, instance, recipient, purpose, seq, refused, request, receipt, mac) SELECT tenant, instance, recipient, purpose, seq, '', ?::bytea, ?::bytea, ?::bytea FROM v`

func (t *tx) releaseAtOnce(f *facts, g teebroker.Grant, auth *authorization, r teebroker.Response, box sealedRelease, terms *teebroker.Epoch, e teebroker.Entry) error {
	a, slot, row := rowsOf(g, auth, r)
	pcr, err := t.takes(f, g, r, terms, row)
	if err != nil {
		return err
	}
	next, err := t.next(e)
	if err != nil {
		return err
	}
	k := t.s.rows
	entry, o := entryOf(next), released(g, r, next.Seq)
	args := []any{a.used, a.version, k.sum(a), g.Tenant, a.id, a.stored, g.Key[:], g.Purpose, int64(next.Seq), k.sum(slot)}
	args = append(args, row.id, row.blob, row.digest, row.until, null(row.epoch), k.sum(row), box.sealed, null(box.confirmKey), null(pcr))
	args = append(append(args, entry.hash, k.sum(entry)), wideOf(next)...)
	t.saw(a)
	n, err := t.exec(atOnce, append(args, o.request, o.receipt, k.sum(o))...)
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
	return t.insert(released(g, r, seq))
}

// released is the outcome of a request that was released to.
func released(g teebroker.Grant, r teebroker.Response, seq uint64) *outcomeRow {
	return &outcomeRow{
		request: g.Request[:], purpose: g.Purpose, tenant: sql.NullString{String: g.Tenant, Valid: true}, instance: g.Instance[:],
		recipient: g.Key[:], receipt: r.Receipt, seq: sql.NullInt64{Int64: int64(seq), Valid: true},
	}
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
		added, err := t.insertNew(&outcomeRow{
			request: request[:], purpose: purpose, refused: code, forget: sql.NullInt64{Int64: t.now + int64(keepRefused), Valid: true},
		})
		if err != nil || !added {
			return err
		}
		return t.addRefusal(e)
	}})
}
