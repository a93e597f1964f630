package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// session is a connection that writes.
type session struct {
	d     *dialect
	conn  *sql.Conn
	stmts map[string]*sql.Stmt // nil if the driver remembers them
}

func (s *Store) connect(ctx context.Context) (*session, error) {
	conn, err := s.cfg.DB.Conn(ctx)
	if err != nil {
		return nil, err
	}
	x := &session{d: s.d, conn: conn}
	if s.d.pinned {
		x.stmts = map[string]*sql.Stmt{}
	}
	return x, nil
}

func (x *session) exec(ctx context.Context, q string, args ...any) (sql.Result, error) {
	st, err := x.stmt(ctx, q)
	switch {
	case err != nil:
		return nil, err
	case st != nil:
		return st.ExecContext(ctx, args...)
	}
	return x.conn.ExecContext(ctx, x.d.sql(q), args...)
}

func (x *session) query(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	st, err := x.stmt(ctx, q)
	switch {
	case err != nil:
		return nil, err
	case st != nil:
		return st.QueryContext(ctx, args...)
	}
	return x.conn.QueryContext(ctx, x.d.sql(q), args...)
}

func (x *session) stmt(ctx context.Context, q string) (*sql.Stmt, error) {
	if x.stmts == nil {
		return nil, nil
	}
	if st, ok := x.stmts[q]; ok {
		return st, nil
	}
	st, err := x.conn.PrepareContext(ctx, x.d.sql(q))
	if err == nil {
		x.stmts[q] = st
	}
	return st, err
}

func (x *session) rollback(ctx context.Context) error {
	_, err := x.conn.ExecContext(ctx, "ROLLBACK")
	return err
}

func (x *session) close() {
	for _, st := range x.stmts {
		_ = st.Close()
	}
	_ = x.conn.Close()
}

// discard ends the connection, which may be in the middle of anything.
func (x *session) discard() {
	for _, st := range x.stmts {
		_ = st.Close() // before the connection that they belong to
	}
	x.stmts = nil
	_ = x.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = x.conn.Close()
}

// tx is one transaction.
type tx struct {
	s   *Store
	ctx context.Context
	*session

	now    int64 // by the Store's clock, nanoseconds
	marked int64 // the clock's mark in the database

	versions map[string]int64 // versions of rows that it read, see newest

	wrote  bool  // anything
	failed error // of a statement

	instances map[instanceKey]uint64 // generations of those locked
	heads     map[headKey]*head
}

// all runs jobs from BEGIN to COMMIT and reports whether it came as far as the
// latter.
func (t *tx) all(jobs []*job) (committing bool, err error) {
	if _, err := t.conn.ExecContext(t.ctx, t.d.begin); err != nil {
		return false, err
	}
	if err := t.clock(); err != nil {
		return false, err
	}
	if err := t.lock(jobs); err != nil {
		return false, &undone{err}
	}
	for _, j := range jobs {
		before := t.wrote
		t.wrote = false
		j.err = j.safely(t)
		if t.failed != nil {
			return false, &undone{t.failed}
		}
		if j.err != nil && t.wrote {
			if len(jobs) > 1 {
				return false, &undone{j.err}
			}
			// Alone, it keeps its own error.
			return false, t.rollback(t.ctx)
		}
		t.wrote = t.wrote || before
	}
	if err := t.finish(); err != nil {
		return false, &undone{err}
	}
	if _, err = t.conn.ExecContext(t.ctx, "COMMIT"); err == nil {
		t.s.sawAll(t.versions)
		t.committed()
	}
	return true, err
}

// clock sets now.
func (t *tx) clock() error {
	var c clockRow
	var db int64
	if _, err := t.row("SELECT "+clockTable.as("c")+", "+t.d.clock+" FROM clock c", nil, append(dest(&c), &db)...); err != nil {
		return err
	}
	var err error
	t.marked = c.latest
	t.now, err = t.s.clock(&c, db)
	return err
}

// finish writes what is written once for all jobs.
func (t *tx) finish() error {
	if err := t.writeHeads(); err != nil {
		return err
	}
	if t.s.due(t.now) {
		if err := t.forget(); err != nil {
			return err
		}
	}
	if behind := t.now - t.marked; behind > int64(t.d.mark) && (t.wrote || behind > int64(time.Second)) {
		return t.mark()
	}
	return nil
}

// mark makes durable how late it was.
func (t *tx) mark() error {
	t.marked = t.now
	c := &clockRow{one: 1, latest: t.now, generation: int64(t.s.generation)}
	_, err := t.exec("UPDATE clock SET latest = ?, mac = ? WHERE latest < ? AND generation = ?", c.latest, t.s.rows.sum(c), c.latest, c.generation)
	return err
}

// exec returns how many rows changed.
func (t *tx) exec(q string, args ...any) (int64, error) {
	t.wrote = true
	r, err := t.session.exec(t.ctx, q, args...)
	if err != nil {
		t.failed = err
		return 0, err
	}
	return r.RowsAffected()
}

// row scans the first row, if there is one.
func (t *tx) row(q string, args []any, dest ...any) (bool, error) {
	found, err := scanOne(t.session.query(t.ctx, q, args...))(dest...)
	if err != nil {
		t.failed = err
	}
	return found, err
}

// each calls f for every row, after scan has filled what f looks at.
func (t *tx) each(q string, args []any, scan func(scanner) error) error {
	rows, err := t.session.query(t.ctx, q, args...)
	if err == nil {
		err = scanAll(rows, scan)
	}
	if err != nil {
		t.failed = err
	}
	return err
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

func scanAll(rows *sql.Rows, scan func(scanner) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func scanOne(rows *sql.Rows, err error) func(dest ...any) (bool, error) {
	return func(dest ...any) (bool, error) {
		if err != nil {
			return false, err
		}
		found := false
		err := scanAll(rows, func(r scanner) error {
			if found {
				return errors.New("sqlstore: more than one row")
			}
			found = true
			return r.Scan(dest...)
		})
		return found, err
	}
}

// reader reads outside of a transaction.
type reader struct {
	s   *Store
	ctx context.Context
}

// querier is a tx or a reader.
type querier interface {
	store() *Store
	row(q string, args []any, dest ...any) (bool, error)
	each(q string, args []any, scan func(scanner) error) error
}

func (t *tx) store() *Store    { return t.s }
func (r reader) store() *Store { return r.s }

// reader returns a reader. What SQLite reads takes no time, and to watch ctx
// meanwhile would take more.
func (s *Store) reader(ctx context.Context) (reader, error) {
	err := ctx.Err()
	if s.d.pinned {
		ctx = context.WithoutCancel(ctx)
	}
	return reader{s, ctx}, err
}

func (r reader) query(q string, args []any) (*sql.Rows, error) {
	if !r.s.d.pinned {
		return r.s.cfg.Read.QueryContext(r.ctx, r.s.d.sql(q), args...)
	}
	st, err := r.s.reads.get(r.ctx, r.s.cfg.Read, q)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(r.ctx, args...)
}

func (r reader) row(q string, args []any, dest ...any) (bool, error) {
	return scanOne(r.query(q, args))(dest...)
}

func (r reader) each(q string, args []any, scan func(scanner) error) error {
	rows, err := r.query(q, args)
	if err != nil {
		return err
	}
	return scanAll(rows, scan)
}

// statements are prepared for every connection that reads.
type statements struct {
	mu sync.Mutex
	of map[string]*sql.Stmt
}

func (p *statements) get(ctx context.Context, db *sql.DB, q string) (*sql.Stmt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if st, ok := p.of[q]; ok {
		return st, nil
	}
	st, err := db.PrepareContext(ctx, q)
	if err != nil {
		return nil, err
	}
	if p.of == nil {
		p.of = map[string]*sql.Stmt{}
	}
	p.of[q] = st
	return st, nil
}

func (p *statements) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, st := range p.of {
		_ = st.Close()
	}
	p.of = nil
}

var errClock = errors.New("the clock runs backwards")

// ErrRestored is wrapped by calls of a Store whose database was restored since it
// was opened: it has to be opened again.
const ErrRestored store.Error = "sqlstore: the database was restored: start again"

// clock returns the time, out of the row of the clock and what the database's own
// clock says.
func (s *Store) clock(c *clockRow, db int64) (int64, error) {
	if err := s.rows.check(c); err != nil {
		return 0, err
	}
	if uint64(c.generation) != s.generation {
		return 0, ErrRestored
	}
	return s.now(c.latest, db)
}

// horizon is an instant that is over.
func (s *Store) horizon() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest
}

// now returns the time, which never runs backwards: a nonce that was forgotten at
// its expiry would be fresh again. Marked is the mark in the database, db what its
// own clock says.
func (s *Store) now(marked, db int64) (int64, error) {
	t := db
	if s.cfg.Time != nil {
		t = s.cfg.Time().UnixNano()
	} else if t == 0 {
		t = time.Now().UnixNano()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest = max(s.latest, t, marked)
	if s.latest-t > int64(maxBackwards) {
		return 0, errClock
	}
	return s.latest, nil
}

// due reports whether it is time to forget what is over.
func (s *Store) due(now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now-s.purged < int64(time.Second) {
		return false
	}
	s.purged = now
	return true
}

// maxForget is how many rows of a table are forgotten at a time.
const maxForget = 4096

// forget deletes what is over. The clock's mark goes with it, so that no process
// ever sees an earlier time than that by which a nonce was forgotten.
func (t *tx) forget() error {
	if t.now > t.marked {
		if err := t.mark(); err != nil {
			return err
		}
	}
	for _, q := range []string{
		// A transaction that began before a nonce's expiry may come to it later than
		// this one, and must still find it.
		"DELETE FROM nonces WHERE nonce IN (SELECT nonce FROM nonces WHERE expiry <= ? LIMIT ?" + t.d.skip + ")",
		"DELETE FROM kept WHERE id IN (SELECT id FROM kept WHERE expiry <= ? LIMIT ?" + t.d.skip + ")",
		"DELETE FROM outcomes WHERE forget <= ? AND (request, purpose) IN (SELECT request, purpose FROM outcomes WHERE forget <= ? LIMIT ?" + t.d.skip + ")",
		"UPDATE releases SET sealed = NULL, confirm_key = NULL WHERE (tenant, id) IN (SELECT tenant, id FROM releases WHERE until <= ? AND sealed IS NOT NULL LIMIT ?" + t.d.skip + ")",
	} {
		args := []any{t.now, maxForget}
		switch {
		case strings.HasPrefix(q, "DELETE FROM outcomes"):
			args = []any{t.now, t.now, maxForget}
		case strings.HasPrefix(q, "DELETE FROM nonces"):
			args = []any{t.now - 2*int64(t.d.timeout), maxForget}
		}
		if _, err := t.exec(q, args...); err != nil {
			return err
		}
	}
	return nil
}

// stamp returns t in nanoseconds since 1970, or an error if it can't be counted.
func stamp(t time.Time) (int64, error) {
	if s := t.Unix(); s < 0 || s > 7_258_118_400 { // the year 2200
		return 0, errors.New("sqlstore: an instant before 1970 or after 2200")
	}
	return t.UnixNano(), nil
}

// instant is the inverse of stamp.
func instant(ns int64) time.Time { return time.Unix(0, ns).UTC() }

type instanceKey struct {
	tenant string
	id     [16]byte
}

type headKey struct {
	tenant string
	chain  teebroker.Chain
}
