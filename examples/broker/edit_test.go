package main

import (
	"database/sql"
	"errors"
	"testing"

	_ "modernc.org/sqlite"
)

// edit copies a database and changes the copy by hand.
func edit(t *testing.T, from, to, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", from)
	if err == nil {
		_, err = db.ExecContext(t.Context(), "VACUUM INTO ?", to)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if db, err = sql.Open("sqlite", to); err != nil {
		t.Fatal(err)
	}
	r, err := db.ExecContext(t.Context(), statement)
	if err == nil {
		if n, e := r.RowsAffected(); e != nil || n == 0 {
			t.Errorf("%s: %d rows, %v", statement, n, e)
		}
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
