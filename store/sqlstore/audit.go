package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/store"
)

// AuditConfig says what to audit. Fields are required but for the last two.
type AuditConfig struct {
	Dialect Dialect
	DB      *sql.DB  // is only read
	Broker  [32]byte // the broker id that has to have signed receipts and checkpoints

	// Checkpoints, of any process of the broker and of owners, have to be on the
	// chains, and Receipts in the record. Both are held in memory.
	Checkpoints, Receipts []Given
}

// Audited is what an audit found.
type Audited struct {
	Tenants, Entries, Releases, Redeliveries int

	Checkpoints int // that are on their chains, those in the database among them
	Receipts    int // that were given and are in the record

	// Problems are what is not as it must be, in words, at most 1000 of them.
	// None means that the record is whole.
	Problems []string

	// Notes are what is as it must be and worth to know: what a restore lost.
	Notes []string
}

// maxProblems bounds what is reported of a database that somebody spoiled.
const maxProblems = 1000

// releaseBody is the body of the entry of a release or redelivery.
type releaseBody struct {
	Receipt       strictjson.Digest `json:"receipt"`
	Release       strictjson.UUID   `json:"release"`
	Request       strictjson.Digest `json:"request"`
	Profile       nonce.Profile     `json:"profile"`
	Instance      strictjson.UUID   `json:"instance"`
	Purpose       string            `json:"purpose"`
	Authorization strictjson.UUID   `json:"authorization"`
	Key           strictjson.Digest `json:"key"`
}

// Audit verifies the record of all tenants: that chains are whole and end where
// they should, that releases and entries match one to one, that each has a receipt
// of the broker that says the same, and that no authorization gave more slots than
// it has uses; and that what was seen of it, by who kept checkpoints and receipts,
// is there. It needs no Cipher and may run beside brokers. An error means that
// it could not read; what it found wrong is in Problems.
//
// The record is no proof against whoever can write to the database and has the
// identity key; and one that was cut at its end looks whole where nobody kept a
// later checkpoint or receipt.
func Audit(ctx context.Context, cfg AuditConfig) (Audited, error) {
	d, err := cfg.Dialect.dialect()
	switch {
	case err != nil:
		return Audited{}, err
	case cfg.DB == nil:
		return Audited{}, errors.New("sqlstore: AuditConfig.DB is required")
	case cfg.Broker == [32]byte{}:
		return Audited{}, errors.New("sqlstore: AuditConfig.Broker is required")
	}
	conn, err := cfg.DB.Conn(ctx)
	if err != nil {
		return Audited{}, fmt.Errorf("sqlstore: %w", err)
	}
	defer conn.Close()
	a := &audit{ctx: ctx, broker: cfg.Broker, x: &session{d: d, conn: conn}}
	if err := a.run(cfg); err != nil {
		return Audited{}, fmt.Errorf("sqlstore: %w", err)
	}
	return a.Audited, nil
}

type audit struct {
	Audited
	given
	ctx    context.Context
	broker [32]byte
	x      *session

	at   headKey // the chain that is read
	last store.RecordEntry
}

func (a *audit) problem(format string, args ...any) {
	if len(a.Problems) < maxProblems {
		a.Problems = append(a.Problems, fmt.Sprintf(format, args...))
	}
}

// run reads everything as it is at one instant.
func (a *audit) run(cfg AuditConfig) error {
	begin := "BEGIN"
	if a.x.d.numbers {
		begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	}
	if _, err := a.x.conn.ExecContext(a.ctx, begin); err != nil {
		return err
	}
	defer func() {
		if a.x.rollback(context.WithoutCancel(a.ctx)) != nil {
			a.x.discard()
		}
	}()
	version, err := a.x.meta(a.ctx, "schema")
	if err != nil {
		return err
	}
	if string(version) != strconv.Itoa(len(migrations)) {
		return fmt.Errorf("the schema is of version %q, known is %d", version, len(migrations))
	}
	if err := a.take(cfg); err != nil {
		return err
	}
	for _, step := range []func() error{a.entries, a.ends, a.matches, a.judge} {
		if err := step(); err != nil {
			return err
		}
	}
	_, err = a.row("SELECT count(*) FROM tenants", &a.Tenants)
	return err
}

func (a *audit) row(q string, dest ...any) (bool, error) {
	return scanOne(a.x.query(a.ctx, q))(dest...)
}

// audited is an entry with what belongs to it.
type audited struct {
	store.RecordEntry
	request, receipt   []byte
	instance, key      []byte
	purpose            *string
	release, auth      []byte
	slotAuth, previous []byte
	hash               []byte
}

// entries reads all chains in their order.
func (a *audit) entries() error {
	rows, err := a.x.query(a.ctx, `SELECT e.tenant, e.chain, e.seq, e.generation, e.time, e.kind, e.body, e.previous, e.hash,
o.request, o.purpose, o.receipt, o.instance, o.recipient, r.id, r.auth, s.auth FROM entries e
LEFT JOIN outcomes o ON e.chain = 'decisions' AND o.tenant = e.tenant AND o.seq = e.seq
LEFT JOIN releases r ON r.tenant = o.tenant AND r.instance = o.instance AND r.recipient = o.recipient AND r.purpose = o.purpose
LEFT JOIN slots s ON s.tenant = o.tenant AND s.instance = o.instance AND s.recipient = o.recipient
ORDER BY e.tenant, e.chain, e.seq`)
	if err != nil {
		return err
	}
	return scanAll(rows, func(r scanner) error {
		var e audited
		var chain, kind string
		var seq, generation, ms int64
		err := r.Scan(&e.Tenant, &chain, &seq, &generation, &ms, &kind, &e.Body, &e.previous, &e.hash,
			&e.request, &e.purpose, &e.receipt, &e.instance, &e.key, &e.release, &e.auth, &e.slotAuth)
		if err != nil {
			return err
		}
		e.Chain, e.Kind, e.Time = teebroker.Chain(chain), teebroker.Kind(kind), time.UnixMilli(ms)
		e.Seq, e.Generation = uint64(seq), uint64(generation)
		copy(e.Previous[:], e.previous)
		copy(e.Hash[:], e.hash)
		a.entry(e)
		return nil
	})
}

// entry compares an entry with the one before, and with its release.
func (a *audit) entry(e audited) {
	a.Entries++
	if at := (headKey{e.Tenant, e.Chain}); at != a.at {
		a.at, a.last = at, store.RecordEntry{}
	}
	where := fmt.Sprintf("%s, %s, entry %d", e.Tenant, e.Chain, e.Seq)
	switch {
	case e.Seq != a.last.Seq+1:
		a.problem("%s: follows entry %d", where, a.last.Seq)
	case e.Previous != a.last.Hash || len(e.previous) != 32 || len(e.hash) != 32:
		a.problem("%s: does not name the entry before", where)
	case e.Generation < a.last.Generation || e.Generation == 0:
		a.problem("%s: of an earlier generation", where)
	}
	if e.Hash != store.EntryHash(e.RecordEntry) {
		a.problem("%s: was changed", where)
	}
	a.last = e.RecordEntry
	a.match(e)
	switch {
	case e.Chain == teebroker.Decisions && (e.Kind == teebroker.KindRelease || e.Kind == teebroker.KindRedelivery):
		a.release(where, e)
	case e.request != nil:
		a.problem("%s: a release belongs to an entry of kind %s", where, e.Kind)
	}
}

// release compares the entry of a release or redelivery with what is stored.
func (a *audit) release(where string, e audited) {
	if e.Kind == teebroker.KindRelease {
		a.Releases++
	} else {
		a.Redeliveries++
	}
	var b releaseBody
	if err := strictjson.UnmarshalKnown(e.Body, &b); err != nil {
		a.problem("%s: the body of a release is not one", where)
		return
	}
	if e.purpose == nil || e.release == nil {
		a.problem("%s: there is no release", where)
		return
	}
	if b.Receipt != sha256.Sum256(e.receipt) {
		a.problem("%s: another receipt is stored", where)
	}
	if string(b.Release[:]) != string(e.release) || string(b.Request[:]) != string(e.request) || string(b.Instance[:]) != string(e.instance) ||
		b.Purpose != *e.purpose || string(b.Key[:]) != string(e.key) || string(b.Authorization[:]) != string(e.auth) {
		a.problem("%s: another release is stored", where)
	}
	if string(e.slotAuth) != string(e.auth) {
		a.problem("%s: the slot is of another authorization", where)
	}
	r, err := teebroker.VerifyReceipt(e.receipt, a.broker)
	switch {
	case err != nil:
		a.problem("%s: %v", where, err)
	case r.Kind != e.Kind || r.Tenant != e.Tenant || r.Release != b.Release || r.Request != b.Request || r.Profile != b.Profile ||
		r.Instance != b.Instance || r.Purpose != b.Purpose || r.Authorization != b.Authorization || r.Key != b.Key:
		a.problem("%s: the receipt is of something else", where)
	}
}

// ends compares where chains end with their heads.
func (a *audit) ends() error {
	rows, err := a.x.query(a.ctx, `SELECT h.tenant, h.chain, h.seq, h.hash, (SELECT count(*) FROM entries e WHERE e.tenant = h.tenant AND e.chain = h.chain),
(SELECT e.hash FROM entries e WHERE e.tenant = h.tenant AND e.chain = h.chain AND e.seq = h.seq) FROM heads h ORDER BY h.tenant, h.chain`)
	if err != nil {
		return err
	}
	err = scanAll(rows, func(r scanner) error {
		var tenant, chain string
		var seq, count int64
		var head, last []byte
		if err := r.Scan(&tenant, &chain, &seq, &head, &count, &last); err != nil {
			return err
		}
		if seq != count || seq > 0 && string(head) != string(last) {
			a.problem("%s, %s: the chain has %d entries and its head says %d", tenant, chain, count, seq)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.none("%d chains have no head", "SELECT count(*) FROM (SELECT DISTINCT e.tenant, e.chain FROM entries e LEFT JOIN heads h ON h.tenant = e.tenant AND h.chain = e.chain WHERE h.tenant IS NULL) x")
}

// none reports a problem unless the query counts nothing.
func (a *audit) none(problem, q string) error {
	var n int
	if _, err := a.row(q, &n); err != nil {
		return err
	}
	if n > 0 {
		a.problem(problem, n)
	}
	return nil
}

// matches looks from releases, answers and slots to what they belong to. (From
// entries, it was looked already.)
func (a *audit) matches() error {
	return errors.Join(
		a.none("%d answers have no entry", `SELECT count(*) FROM outcomes o LEFT JOIN entries e ON e.tenant = o.tenant AND e.chain = 'decisions' AND e.seq = o.seq
AND e.kind IN ('release', 'redelivery') WHERE o.refused = '' AND e.seq IS NULL`),
		a.none("%d releases have no entry, or more than one", `SELECT count(*) FROM releases r WHERE (SELECT count(*) FROM outcomes o
JOIN entries e ON e.tenant = o.tenant AND e.chain = 'decisions' AND e.seq = o.seq AND e.kind = 'release'
WHERE o.tenant = r.tenant AND o.instance = r.instance AND o.recipient = r.recipient AND o.purpose = r.purpose) <> 1`),
		a.none("%d releases have no slot of their authorization", `SELECT count(*) FROM releases r LEFT JOIN slots s
ON s.tenant = r.tenant AND s.instance = r.instance AND s.recipient = r.recipient AND s.auth = r.auth WHERE s.auth IS NULL`),
		a.none("%d authorizations gave more or fewer slots than they count, or more than they have", `SELECT count(*) FROM authorizations a
WHERE a.used > a.uses OR a.used <> (SELECT count(*) FROM slots s WHERE s.tenant = a.tenant AND s.instance = a.instance AND s.auth = a.id)`),
		a.none("%d slots have no authorization", `SELECT count(*) FROM slots s LEFT JOIN authorizations a
ON a.tenant = s.tenant AND a.id = s.auth AND a.instance = s.instance WHERE a.id IS NULL`),
		a.none("%d authorizations have no entry", `SELECT count(*) FROM authorizations a LEFT JOIN entries e
ON e.tenant = a.tenant AND e.chain = 'decisions' AND e.seq = a.made AND e.kind = 'authorize' WHERE e.seq IS NULL`),
	)
}
