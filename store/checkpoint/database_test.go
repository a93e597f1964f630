package checkpoint_test

import (
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/checkpoint"
	"github.com/teebroker/teebroker/store/sqlstore"
)

const document = `{"policy":"teebroker/1","name":"NAME","version":"1","scope":"global","require":{"snp-report":[{
	"measurements":"*","vmpls":[0],"lines":"*","keys":"*","chips":"*","host_data":"*","id_keys":"*","author_keys":"*","family_ids":"*","image_ids":"*","floors":[]}]}}`

// server is a database that processes open.
type server struct {
	*testing.T
	dialect     sqlstore.Dialect
	driver, dsn string
}

func sqlite(t *testing.T) *server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	if err := sqlstore.PrivateFile(path); err != nil {
		t.Fatal(err)
	}
	return &server{t, sqlstore.SQLite, "sqlite", "file:" + path + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=secure_delete(ON)"}
}

// postgres is a new schema in the PostgreSQL that TEEBROKER_TEST_POSTGRES names.
func postgres(t *testing.T) *server {
	t.Helper()
	base := os.Getenv("TEEBROKER_TEST_POSTGRES")
	if base == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("TEEBROKER_TEST_POSTGRES is not set")
		}
		t.Skip("TEEBROKER_TEST_POSTGRES is not set: .ci/services/postgres start DIR standby")
	}
	random := make([]byte, 8)
	rand.Read(random)
	name := "checkpoint_" + hex.EncodeToString(random)
	s := &server{t, sqlstore.PostgreSQL, "pgx", base}
	admin := s.open()
	if _, err := admin.ExecContext(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		db, err := sql.Open("pgx", base)
		if err == nil {
			_, err = db.Exec("DROP SCHEMA " + name + " CASCADE")
			err = errors.Join(err, db.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})
	s.dsn = base + " search_path=" + name
	return s
}

func (s *server) open() *sql.DB {
	s.Helper()
	db, err := sql.Open(s.driver, s.dsn)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = db.Close() })
	return db
}

// process opens a Store with a Keeper of p, which it starts.
func (s *server) process(p *process) (*sqlstore.Store, *checkpoint.Keeper, error) {
	s.Helper()
	k, err := checkpoint.New(checkpoint.Config{Identity: p.identity, Dir: p.dir, Report: func(text string) { p.log = append(p.log, text) }})
	if err != nil {
		s.Fatal(err)
	}
	cipher, err := store.NewAES([32]byte{1})
	if err != nil {
		s.Fatal(err)
	}
	st, err := sqlstore.Open(s.Context(), sqlstore.Config{
		Dialect: s.dialect, DB: s.open(), Read: s.open(), Cipher: cipher, RowKey: [32]byte{2}, Witness: k, AllowFailoverAsRestore: true,
		Decoders: policy.Decoders{snp.Format: policy.Decoder(snp.DecodeReferenceValues)},
	})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = st.Close() })
	return st, k, k.Start(s.Context(), st)
}

func put(t *testing.T, s *sqlstore.Store, tenant, name string) error {
	t.Helper()
	return s.PutPolicy(t.Context(), tenant, name, []byte(strings.Replace(document, "NAME", name, 1)))
}

// tables are what a database is put back by.
var tables = []string{"policies", "tenants", "entries", "heads", "checkpoints"}

// save keeps the database as it is, and back puts that in its place, as who has its
// password can, under processes that run.
func (s *server) save(as string) {
	s.Helper()
	db := s.open()
	for _, t := range tables {
		if _, err := db.ExecContext(s.Context(), "CREATE TABLE "+as+"_"+t+" AS SELECT * FROM "+t); err != nil {
			s.Fatal(err)
		}
	}
}

func (s *server) back(to string) {
	s.Helper()
	tx, err := s.open().BeginTx(s.Context(), nil)
	if err != nil {
		s.Fatal(err)
	}
	for _, t := range tables {
		_, err1 := tx.ExecContext(s.Context(), "DELETE FROM "+t)
		_, err2 := tx.ExecContext(s.Context(), "INSERT INTO "+t+" SELECT * FROM "+to+"_"+t)
		if err := errors.Join(err1, err2); err != nil {
			s.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		s.Fatal(err)
	}
}

// Yesterday's database, put back under a process that runs, is noticed by the next
// call that writes, and after a start by the first look; nothing is added to it.
// Two processes that share the database as it should be notice nothing.
func TestPutBack(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *server{"sqlite": sqlite, "postgres": postgres} {
		t.Run(name, func(t *testing.T) {
			s, p := open(t), newProcess(t)
			one, k, err := s.process(p)
			if err := errors.Join(err, put(t, one, "acme", "a")); err != nil {
				t.Fatal(err)
			}
			other := &process{t, t.TempDir(), p.identity, p.now, nil}
			two, k2, err := s.process(other) // nothing was kept yet, so it may begin
			if err != nil {
				t.Fatal(err)
			}
			s.save("yesterday")
			for i := range 3 {
				if err := errors.Join(put(t, one, "acme", "b"), put(t, two, "acme", "c"), put(t, two, "beta", "d")); err != nil {
					t.Fatal(i, err)
				}
				if err := errors.Join(k.Look(t.Context()), k2.Look(t.Context())); err != nil {
					t.Fatal(i, err)
				}
			}
			s.save("today")
			s.back("yesterday")
			if err := put(t, one, "acme", "e"); !errors.Is(err, checkpoint.ErrDiffers) || teebroker.Code(err) != "unavailable" || k.Stopped() == nil {
				t.Errorf("a process that runs: %v", err)
			}
			if err := k2.Look(t.Context()); !errors.Is(err, checkpoint.ErrDiffers) {
				t.Errorf("the second one: %v", err)
			}
			again, k3, err := s.process(p)
			if !errors.Is(err, checkpoint.ErrDiffers) {
				t.Errorf("one that is started: %v", err)
			}
			if err := put(t, again, "acme", "e"); !errors.Is(err, checkpoint.ErrDiffers) {
				t.Errorf("one that was started: %v", err)
			}
			es, err := one.Record(t.Context(), "acme", teebroker.Decisions, 0, 10)
			if err != nil || len(es) != 1 {
				t.Errorf("%d entries, %v", len(es), err)
			}
			s.back("today")
			for _, k := range []*checkpoint.Keeper{k, k2, k3} {
				if err := k.Look(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if err := errors.Join(put(t, one, "acme", "e"), put(t, again, "acme", "f")); err != nil {
				t.Error(err)
			}
		})
	}
}

// The file of SQLite of yesterday, under its name again, and the one of today.
func TestFilePutBack(t *testing.T) {
	s, p := sqlite(t), newProcess(t)
	path, _, _ := strings.Cut(strings.TrimPrefix(s.dsn, "file:"), "?")
	day := func(name string, want error) {
		t.Helper()
		st, _, err := s.process(p)
		if !errors.Is(err, want) {
			t.Fatalf("%s: %v", name, err)
		}
		if err := put(t, st, "acme", name); !errors.Is(err, want) {
			t.Fatalf("%s: %v", name, err)
		}
		k, err := checkpoint.New(checkpoint.Config{Identity: p.identity, Dir: p.dir})
		if err == nil {
			err = k.Start(t.Context(), st)
		}
		if !errors.Is(err, want) {
			t.Fatalf("%s: %v", name, err)
		}
		s.checkpointed(st)
	}
	copyTo := func(from, to string) {
		t.Helper()
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	day("one", nil)
	copyTo(path, path+".yesterday")
	day("two", nil)
	copyTo(path, path+".today")
	copyTo(path+".yesterday", path)
	day("three", checkpoint.ErrDiffers)
	copyTo(path+".today", path)
	day("four", nil)
}

// checkpointed closes st and brings what is in the log of SQLite into the file.
func (s *server) checkpointed(st *sqlstore.Store) {
	s.Helper()
	if err := st.Close(); err != nil {
		s.Fatal(err)
	}
	if _, err := s.open().ExecContext(s.Context(), "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		s.Fatal(err)
	}
}
