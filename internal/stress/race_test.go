package main

import (
	"os"
	"testing"

	"github.com/teebroker/teebroker/store/sqlstore"
)

// each runs f on an empty database of each kind. Without PostgreSQL its half is
// skipped, but in CI.
func each(t *testing.T, f func(t *testing.T, d *database)) {
	t.Run("sqlite", func(t *testing.T) { f(t, testDatabase(t, sqlstore.SQLite, fake())) })
	t.Run("postgres", func(t *testing.T) { f(t, testDatabase(t, sqlstore.PostgreSQL, fake())) })
}

func testDatabase(t testing.TB, dialect sqlstore.Dialect, p platform) *database {
	t.Helper()
	dsn := ""
	if dialect == sqlstore.PostgreSQL {
		dsn = os.Getenv("TEEBROKER_TEST_POSTGRES")
		if dsn == "" {
			if os.Getenv("CI") != "" {
				t.Fatal("TEEBROKER_TEST_POSTGRES is not set")
			}
			t.Skip("TEEBROKER_TEST_POSTGRES is not set: .ci/services/postgres start DIR standby")
		}
	}
	d, err := newDatabase(t.Context(), dsn, p)
	check(t, err)
	t.Cleanup(func() {
		if err := d.drop(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// 64 guests race over 3 brokers, each with connections of its own: one key wins
// every round.
func TestRace(t *testing.T) {
	each(t, func(t *testing.T, d *database) {
		x, err := newRace(t.Context(), d, 3, 64, 1)
		check(t, err)
		defer func() { check(t, x.close()) }()
		rounds, ended := 25, 0
		if raced {
			rounds = 5
		}
		check(t, x.run(t.Context(), rounds, func(n int) { ended = n }))
		if ended != rounds {
			t.Errorf("%d rounds were audited", ended)
		}
	})
}

// A race that gives the secret to two keys, to none, or to one twice, is noticed.
func TestRaceNotices(t *testing.T) {
	d := testDatabase(t, sqlstore.SQLite, fake())
	x, err := newRace(t.Context(), d, 1, 4, 1)
	check(t, err)
	defer func() { check(t, x.close()) }()
	check(t, x.round(t.Context(), 0))
	for name, spoil := range map[string]string{
		"two":  "CREATE TRIGGER two AFTER INSERT ON authorizations BEGIN UPDATE authorizations SET uses = 2; END",
		"none": "CREATE TRIGGER none AFTER INSERT ON authorizations BEGIN UPDATE authorizations SET state = 2; END",
	} {
		_, err := x.brokers[0].dbs[1].Exec(spoil)
		check(t, err)
		if err := x.round(t.Context(), 1+len(name)); err == nil {
			t.Errorf("%s: not noticed", name)
		}
		_, err = x.brokers[0].dbs[1].Exec("DROP TRIGGER " + name)
		check(t, err)
	}
	check(t, x.round(t.Context(), 9))
	if _, err := x.brokers[0].dbs[1].Exec("DELETE FROM slots WHERE auth = (SELECT auth FROM slots LIMIT 1)"); err != nil {
		t.Fatal(err)
	}
	if _, err := x.brokers[0].audit(t.Context()); err == nil {
		t.Error("the audit does not notice a slot that is missing")
	}
}
