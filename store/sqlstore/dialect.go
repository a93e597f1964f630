package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/teebroker/teebroker"
)

// A Dialect is what a database speaks, and which settings it needs. Open checks
// them and wraps ErrSettings.
type Dialect string

const (
	// SQLite 3.37 or later: journal_mode=WAL, synchronous=FULL or EXTRA, a
	// busy_timeout, and secure_delete, for every connection, so they belong into
	// the DSN. What it has in memory only is refused.
	SQLite Dialect = "sqlite"

	// PostgreSQL 13 or later: fsync and full_page_writes on, an encoding of
	// UTF8, and synchronous_commit on (or remote_apply) with
	// synchronous_standby_names, since a commit that only one server has is lost
	// with it.
	PostgreSQL Dialect = "postgres"
)

// sqliteReaders is how many connections read.
const sqliteReaders = 4

// dialect is what differs.
type dialect struct {
	types   *strings.Replacer // of the schema
	numbers bool              // placeholders are $1, …
	clock   string            // the database's own clock, in nanoseconds
	begin   string
	lock    string // after a SELECT: the rows stay as they are
	skip    string // the same, passing over rows that others have locked
	once    string // lock of migrations

	pinned  bool          // one connection writes
	groups  int           // how many write at a time
	mark    time.Duration // how far the clock's mark may stay behind
	timeout time.Duration // of one transaction; if zero, it can't hang

	settings func(context.Context, Config) ([]string, error)
	again    func(error) bool // whether a transaction is to be repeated
	alone    func(error) bool // whether one call may be the cause
}

func (d Dialect) dialect() (*dialect, error) {
	switch d {
	case SQLite:
		return &dialect{
			types: strings.NewReplacer("INT ", "INTEGER ", "INT,", "INTEGER,", "BYTES", "BLOB", "NAME", "TEXT", "TABLE_END", "STRICT"),
			clock: "0", begin: "BEGIN IMMEDIATE", pinned: true, groups: 1,
			settings: sqliteSettings,
			again:    func(error) bool { return false },
			alone:    func(error) bool { return true },
		}, nil
	case PostgreSQL:
		return &dialect{
			types:   strings.NewReplacer("INT ", "BIGINT ", "INT,", "BIGINT,", "BYTES", "BYTEA", "NAME", `TEXT COLLATE "C"`, "TABLE_END", ""),
			numbers: true,
			clock:   "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000",
			// One statement for two: without arguments drivers send it as text.
			begin: "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit TO on",
			lock:  " FOR UPDATE", skip: " FOR UPDATE SKIP LOCKED",
			once:   "SELECT pg_advisory_xact_lock(8388053094711329)",
			groups: 4, mark: time.Second, timeout: 30 * time.Second,
			settings: postgresSettings,
			again:    func(err error) bool { c := sqlState(err); return c == "40001" || c == "40P01" },
			alone: func(err error) bool {
				c := sqlState(err)
				return errors.Is(err, ErrForged) || errors.Is(err, teebroker.ErrAgain) || len(c) == 5 && c[:2] != "08" && c[:2] != "53" && c[:2] != "57" && c[:2] != "58"
			},
		}, nil
	}
	return nil, fmt.Errorf("sqlstore: %.40q is not a Dialect", string(d))
}

// sqlState returns the SQLSTATE of an error of PostgreSQL, or "".
func sqlState(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// rebound are queries with the placeholders of PostgreSQL.
var rebound sync.Map

// sql returns q, whose placeholders are question marks, as d spells it.
func (d *dialect) sql(q string) string {
	if !d.numbers {
		return q
	}
	if r, ok := rebound.Load(q); ok {
		return r.(string)
	}
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(q, "?") {
		if n > 0 {
			b.WriteString("$" + strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	rebound.Store(q, b.String())
	return b.String()
}

func sqliteSettings(ctx context.Context, cfg Config) ([]string, error) {
	for _, db := range []*sql.DB{cfg.DB, cfg.Read} {
		for _, p := range []struct{ name, want string }{
			{"journal_mode", "wal"}, {"synchronous", "2 3"}, {"secure_delete", "1"},
		} {
			var got string
			if err := db.QueryRowContext(ctx, "PRAGMA "+p.name).Scan(&got); err != nil {
				return nil, fmt.Errorf("PRAGMA %s: %w", p.name, err)
			}
			if !strings.Contains(" "+p.want+" ", " "+strings.ToLower(got)+" ") {
				return nil, fmt.Errorf("%w: %s is %s, want %s", ErrSettings, p.name, got, strings.ReplaceAll(p.want, " ", " or "))
			}
		}
		var busy int
		if err := db.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&busy); err != nil || busy <= 0 {
			return nil, fmt.Errorf("%w: busy_timeout is not set (%v)", ErrSettings, err)
		}
	}
	return nil, nil
}

func postgresSettings(ctx context.Context, cfg Config) ([]string, error) {
	show := map[string]string{}
	for _, name := range []string{
		"fsync", "full_page_writes", "server_encoding", "synchronous_commit", "synchronous_standby_names", "server_version_num", "transaction_read_only",
	} {
		var got string
		if err := cfg.DB.QueryRowContext(ctx, "SHOW "+name).Scan(&got); err != nil {
			return nil, fmt.Errorf("SHOW %s: %w", name, err)
		}
		show[name] = got
	}
	for name, want := range map[string]string{"fsync": "on", "full_page_writes": "on", "server_encoding": "UTF8", "transaction_read_only": "off"} {
		if show[name] != want {
			return nil, fmt.Errorf("%w: %s is %s, want %s", ErrSettings, name, show[name], want)
		}
	}
	if v, err := strconv.Atoi(show["server_version_num"]); err != nil || v < 130000 {
		return nil, fmt.Errorf("%w: server_version_num is %s, want 130000 or more", ErrSettings, show["server_version_num"])
	}
	durable := show["synchronous_commit"] == "on" || show["synchronous_commit"] == "remote_apply"
	if durable && show["synchronous_standby_names"] != "" {
		return nil, nil
	}
	what := fmt.Sprintf("synchronous_commit is %s, want on, and synchronous_standby_names is %q, want a standby",
		show["synchronous_commit"], show["synchronous_standby_names"])
	if !cfg.AllowFailoverAsRestore {
		return nil, fmt.Errorf("%w: %s", ErrSettings, what)
	}
	return []string{what + ": a failover loses releases that guests have, and must be treated as a restore from a backup"}, nil
}
