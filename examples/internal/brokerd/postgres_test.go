package brokerd_test

import (
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/brokerd"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/store"
)

// postgres returns the URL of a new and empty schema in the PostgreSQL that
// TEEBROKER_TEST_POSTGRES names, as .ci/services/postgres prints it.
func postgres(t *testing.T) string {
	t.Helper()
	base := os.Getenv("TEEBROKER_TEST_POSTGRES")
	if base == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("TEEBROKER_TEST_POSTGRES is not set")
		}
		t.Skip("TEEBROKER_TEST_POSTGRES is not set: .ci/services/postgres start DIR standby")
	}
	db, err := sql.Open("pgx", base)
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 8)
	rand.Read(random)
	name := "broker_" + hex.EncodeToString(random)
	if _, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := db.Exec("DROP SCHEMA " + name + " CASCADE")
		if err := errors.Join(err, db.Close()); err != nil {
			t.Error(err)
		}
	})
	settings := url.Values{"search_path": {name}}
	for field := range strings.FieldsSeq(base) {
		key, value, _ := strings.Cut(field, "=")
		settings.Set(key, strings.Trim(value, "'"))
	}
	return "postgres:///?" + settings.Encode()
}

// Two brokers on one PostgreSQL are one broker: what an owner does at one, the other
// knows, a start makes no second token or key, and the audit reads it.
func TestServePostgres(t *testing.T) {
	dsn := postgres(t)
	dir, sim := state(t), simulatedDir(t)
	o := brokerd.Options{TrustSimulated: sim, DB: dsn}
	one, _, _ := serve(t, o)
	two, _, stop := serve(t, o)
	first, second := ownerOf(t, one, dir), ownerOf(t, two, dir)
	id := [16]byte{5}
	reg := store.Registration{Policies: []string{"mine"}, Launch: store.Launch{Own: true}, Suites: []keywrap.Suite{keywrap.MLKEM768X25519}}
	err1 := first.PutPolicy(t.Context(), "mine", []byte(policyDocument))
	_, err2 := second.Register(t.Context(), id, reg)
	err3 := first.PutSecret(t.Context(), id, "disk", []byte("secret"))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	a, err1 := first.Record(t.Context(), teebroker.Decisions, 0)
	b, err2 := second.Record(t.Context(), teebroker.Decisions, 0)
	if err := errors.Join(err1, err2); err != nil || len(a.Entries) != 4 || len(b.Entries) != 4 || a.Entries[3].Hash != b.Entries[3].Hash {
		t.Errorf("%d and %d entries, %v", len(a.Entries), len(b.Entries), err)
	}
	stop()
	if err := first.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	g := cli.Group{Name: "broker", Commands: []cli.Command{brokerd.AuditCommand()}}
	if status := g.Main([]string{"audit", "-db", dsn, "-identity", filepath.Join(dir, "broker.id")}, t.Output(), t.Output()); status != 0 {
		t.Errorf("audit: exit status %d", status)
	}
}
