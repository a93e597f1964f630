package sqlstore_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// dsn opens a file with modernc.org/sqlite and the settings that Open asks for.
func dsn(path string) string {
	return "file:" + path + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=secure_delete(ON)"
}

func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func database(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func cipher(t testing.TB) store.Cipher {
	c, err := store.NewAES([32]byte{1})
	return must(t, c, err)
}

func sqliteConfig(t testing.TB, path string, clock func() time.Time) sqlstore.Config {
	t.Helper()
	if err := sqlstore.PrivateFile(path); err != nil {
		t.Fatal(err)
	}
	return sqlstore.Config{
		Dialect: sqlstore.SQLite, DB: database(t, "sqlite", dsn(path)), Read: database(t, "sqlite", dsn(path)),
		Cipher: cipher(t), RowKey: [32]byte{2}, Decoders: policy.Decoders{snp.Format: policy.Decoder(snp.DecodeReferenceValues)}, Time: clock,
	}
}

func open(t testing.TB, cfg sqlstore.Config) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func sqlite(t testing.TB, clock func() time.Time) *sqlstore.Store {
	t.Helper()
	return open(t, sqliteConfig(t, filepath.Join(t.TempDir(), "state.db"), clock))
}
