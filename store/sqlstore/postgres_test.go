package sqlstore_test

import (
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"os"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/store/sqlstore"
	"github.com/teebroker/teebroker/store/storetest"
)

// schema returns the DSN of a new and empty schema in the PostgreSQL that
// TEEBROKER_TEST_POSTGRES names. Without one tests are skipped, but in CI.
func schema(t testing.TB) string {
	t.Helper()
	base := os.Getenv("TEEBROKER_TEST_POSTGRES")
	if base == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("TEEBROKER_TEST_POSTGRES is not set")
		}
		t.Skip("TEEBROKER_TEST_POSTGRES is not set: .ci/services/postgres start DIR standby")
	}
	return schemaIn(t, base)
}

func schemaIn(t testing.TB, base string) string {
	t.Helper()
	random := make([]byte, 8)
	rand.Read(random)
	name := "test_" + hex.EncodeToString(random)
	admin := database(t, "pgx", base)
	if _, err := admin.ExecContext(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if db, err := sql.Open("pgx", base); err == nil {
			_, _ = db.Exec("DROP SCHEMA " + name + " CASCADE")
			_ = db.Close()
		}
	})
	return base + " search_path=" + name
}

func postgresConfig(t testing.TB, dsn string, clock func() time.Time) sqlstore.Config {
	t.Helper()
	db := database(t, "pgx", dsn)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16) // or every burst opens connections
	return sqlstore.Config{
		Dialect: sqlstore.PostgreSQL, DB: db, Cipher: cipher(t), RowKey: [32]byte{2}, Time: clock,
		Decoders: policy.Decoders{snp.Format: policy.Decoder(snp.DecodeReferenceValues)},
	}
}

func TestPostgreSQL(t *testing.T) {
	storetest.Run(t, func(t testing.TB, clock func() time.Time) storetest.Store {
		return open(t, postgresConfig(t, schema(t), clock))
	})
}
