// Package sqlstore keeps the state of a broker in a database: SQLite in one
// file, or PostgreSQL for many replicas. It imports no driver; callers open the
// *sql.DB. docs/stores.md has the schema, the settings, and what a backup is
// and is not.
//
// Everything that a release rests on is in one transaction, and durable before
// anybody is answered. Calls that write at the same time share transactions: the
// first caller leads, the others wait for it, so that one flush to disk serves
// all of them.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/lru"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store"
)

// Config configures a [Store]. Fields without a stated default are required.
type Config struct {
	Dialect Dialect

	// DB is the database. Of SQLite it is what writes: Open sets it to one
	// connection, which the Store keeps. Of PostgreSQL the Store keeps four to
	// write, so that a limit on open connections is at least 6; with as many idle
	// ones as open ones a burst does not begin by connecting. See [Dialect] for
	// the settings that both DB and Read need.
	DB *sql.DB

	// Read is the same SQLite file again, for what only reads. It is not used
	// with PostgreSQL.
	Read *sql.DB

	// Cipher encrypts secrets, stored answers and kept values. It is the same
	// for the life of the database.
	Cipher store.Cipher

	// RowKey authenticates rows: 32 random bytes of no other use, the same for the
	// life of the database. Whoever has it, and can write to the database, can give
	// and change anything in it.
	RowKey [32]byte

	// AllowUnauthenticatedRows opens a database of a version before rows were
	// authenticated: once, and believing all that is in it. Without it such a
	// database is refused.
	AllowUnauthenticatedRows bool

	// Decoders are the formats that policy documents may speak of.
	Decoders policy.Decoders

	// Simulated marks the database at its first start, for ever, as one of
	// simulated platforms or of genuine ones. One that is marked otherwise is
	// not opened.
	Simulated bool

	// Time is the clock. If nil, it is the database's own with PostgreSQL, so
	// that it is the same for all replicas, and time.Now with SQLite. Set it in
	// tests.
	Time func() time.Time

	// Witness is asked before anything is added to the record, or answered out of
	// it. If nil, nobody notices an older database in the place of this one; see
	// package store/checkpoint.
	Witness store.Witness

	// AllowFailoverAsRestore opens a PostgreSQL that acknowledges a commit
	// before a standby has it. After a failover such a database may have lost
	// releases that guests have: it must be treated as one that was restored
	// from a backup. Store.Warnings says so.
	AllowFailoverAsRestore bool
}

// ErrSimulated is wrapped if a database is marked simulated and Config is not,
// or the other way round. ErrNewer is wrapped if its schema is of a later
// version of this package. ErrSettings is wrapped if it would lose what it
// acknowledged. ErrUnauthenticated is wrapped if its rows have no MACs yet.
const (
	ErrSimulated store.Error = "sqlstore: the database is marked otherwise, for ever"
	ErrNewer     store.Error = "sqlstore: the database is of a newer version of this program"
	ErrSettings  store.Error = "sqlstore: the settings of the database are not safe"

	ErrUnauthenticated store.Error = "sqlstore: the rows of the database are not authenticated"
)

// Store is every state contract at once, in a database. It is safe for
// concurrent use, by as many processes as share the database.
type Store struct {
	cfg        Config
	d          *dialect
	generation uint64
	warnings   []string
	documents  *store.Documents
	instances  *lru.Cache[instanceKey, teebroker.Instance] // by the generation they have
	reads      statements
	rows       *rowKey
	versions   *lru.Cache[string, int64] // versions of rows, see tx.newest

	groups []*group

	mu     sync.Mutex
	latest int64 // that the clock ever said, nanoseconds
	purged int64 // when what is over was last forgotten
}

var (
	_ teebroker.Directory = (*Store)(nil)
	_ teebroker.Secrets   = (*Store)(nil)
	_ teebroker.Ledger    = (*Store)(nil)
	_ teebroker.Releases  = (*Store)(nil)
	_ teebroker.Kept      = (*Store)(nil)
	_ nonce.Store         = (*Store)(nil)
	_ store.Owner         = (*Store)(nil)
	_ store.Tenants       = (*Store)(nil)
	_ store.Identities    = (*Store)(nil)
)

const (
	maxBackwards = time.Minute      // how far the clock may run backwards
	inProgress   = 30 * time.Second // how long a redeemed nonce may have no outcome yet
	afterwards   = 10 * time.Minute // how long stored bytes are served after the window

	// How long the refusal of a request is known: longer than any nonce lives,
	// after which the request can't be made any more.
	keepRefused = time.Hour

	// maxInstances bounds the assembled instances that are remembered.
	maxInstances = 4096
)

// Open returns a Store on a database that it brings to the schema of this
// version. It wraps ErrSettings, ErrNewer, ErrSimulated, ErrUnauthenticated, and
// store.ErrCipher or ErrForged if the database was begun with another Cipher or
// RowKey. Close ends it.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	d, err := cfg.Dialect.dialect()
	switch {
	case err != nil:
		return nil, err
	case cfg.DB == nil:
		return nil, errors.New("sqlstore: Config.DB is required")
	case cfg.Read == nil && cfg.Dialect == SQLite:
		return nil, errors.New("sqlstore: Config.Read is required with SQLite")
	case cfg.Cipher == nil:
		return nil, errors.New("sqlstore: Config.Cipher is required")
	case cfg.RowKey == [32]byte{}:
		return nil, errors.New("sqlstore: Config.RowKey is required")
	case len(cfg.Decoders) == 0:
		return nil, errors.New("sqlstore: Config.Decoders is required")
	}
	s := &Store{
		cfg: cfg, d: d, documents: store.NewDocuments(cfg.Decoders), rows: newRowKey(cfg.RowKey), versions: lru.New[string, int64](maxSeen),
		instances: lru.New[instanceKey, teebroker.Instance](maxInstances),
	}
	if err := s.prepare(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	return s, nil
}

// prepare checks the settings and brings the schema to this version.
func (s *Store) prepare(ctx context.Context) error {
	if s.cfg.Dialect == SQLite {
		s.cfg.DB.SetMaxOpenConns(1)
		s.cfg.Read.SetMaxOpenConns(sqliteReaders)
		s.cfg.Read.SetMaxIdleConns(sqliteReaders)
	} else {
		s.cfg.Read = s.cfg.DB
		// What reads would wait for those that write, for ever.
		if n := s.cfg.DB.Stats().MaxOpenConnections; n > 0 && n < s.d.groups+2 {
			return fmt.Errorf("Config.DB opens %d connections at most, want %d or more", n, s.d.groups+2)
		}
	}
	var err error
	if s.warnings, err = s.d.settings(ctx, s.cfg); err != nil {
		return err
	}
	for range s.d.groups {
		s.groups = append(s.groups, &group{s: s})
	}
	if err := s.migrate(ctx, migrations); err != nil {
		return err
	}
	return s.first(ctx)
}

// Close gives back what the Store keeps open; the databases are the caller's.
// Calls after it fail.
func (s *Store) Close() error {
	for _, g := range s.groups {
		g.close()
	}
	s.reads.close()
	return nil
}

// Generation is that of the database, which is another after every [Restore]. A
// nonce.HMAC is configured with it.
func (s *Store) Generation() uint64 { return s.generation }

// Simulated reports how the database is marked.
func (s *Store) Simulated() bool { return s.cfg.Simulated }

// Warnings are what an operator has to be told at every start.
func (s *Store) Warnings() []string { return append([]string(nil), s.warnings...) }
