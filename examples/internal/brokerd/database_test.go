package brokerd

import "testing"

// A database on another host is asked for a certificate, unless somebody chose
// otherwise.
func TestVerified(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	t.Setenv("PGHOST", "")
	const db = "postgres://broker:secret@"
	for dsn, want := range map[string]string{
		db + "db/teebroker":                              db + "db/teebroker?sslmode=verify-full",
		db + "192.0.2.1:5432/teebroker":                  db + "192.0.2.1:5432/teebroker?sslmode=verify-full",
		db + "127.0.0.1:5432,db:5432/teebroker":          db + "127.0.0.1:5432,db:5432/teebroker?sslmode=verify-full",
		db + "127.0.0.1:5432/teebroker?host=db":          db + "127.0.0.1:5432/teebroker?host=db&sslmode=verify-full",
		db + "db/teebroker?sslmode=require":              db + "db/teebroker?sslmode=require",
		db + "localhost/teebroker":                       db + "localhost/teebroker",
		db + "[::1]:5432/teebroker":                      db + "[::1]:5432/teebroker",
		"postgres:///teebroker?host=/var/run/postgresql": "postgres:///teebroker?host=/var/run/postgresql",
	} {
		if got := verified(dsn); got != want {
			t.Errorf("%s: %s", dsn, got)
		}
	}
	t.Setenv("PGSSLMODE", "require")
	if got := verified(db + "db/teebroker"); got != db+"db/teebroker" {
		t.Error(got)
	}
}
