//go:build unix

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/store/sqlstore"
)

// required are steps of each kind of answer: a test that never reaches them tests
// nothing.
func required(released bool, d sqlstore.Dialect) []string {
	all := []string{
		"before Outcome", "after Outcome", "before Redeem", "sql INSERT INTO nonces", "sql COMMIT", "after Redeem",
		"before Verify", "after Verify", "before Instance", "after Instance", "before Check", "after Check",
		"before Sign", "after Sign", "before Commit", "after Commit",
	}
	if !released {
		all = append(all, "before Secret", "after Secret")
	}
	switch {
	case !released && d == sqlstore.PostgreSQL: // which is told all of a release at once
		return append(all, "sql WITH a AS")
	case !released:
		all = append(all, "sql UPDATE authorizations SET", "sql INSERT INTO slots", "sql INSERT INTO releases")
	}
	return append(all, "sql INSERT INTO entries", "sql INSERT INTO outcomes")
}

// A broker is killed, as kill -9 does, before and after every call of a contract,
// before every statement of SQL that writes, and in the middle of commits. Then another process
// opens the database: its record is whole, the use is taken if and only if the
// release is there, the guest gets its secret by asking again, and nobody else does;
// or if nothing was released and another guest is faster, that one does, and nobody
// else.
func TestKilled(t *testing.T) {
	each(t, func(t *testing.T, d *database) {
		c := &crash{T: t, d: d, now: time.Now().Truncate(time.Second)}
		for _, released := range []bool{false, true} {
			c.everywhere(released)
		}
	})
}

func (c *crash) everywhere(released bool) {
	what := "release, "
	if released {
		what = "redelivery, "
	}
	b := c.launch(released)
	all := c.kill(b.req, 0, 0)
	c.after(what+"not killed", b, false)
	for _, r := range append(required(released, c.d.dialect), ended) {
		if !slices.Contains(all, r) {
			c.Errorf("%snever reached: %s", what, r)
		}
	}
	killed := 0
	defer func() { c.Logf("%s%d steps, killed %d times", what, len(all)-1, killed) }()
	for i, step := range all[:len(all)-1] {
		sql := strings.HasPrefix(step, "sql ")
		commit := step == "sql COMMIT"
		if sql && !commit && (released || raced || strings.HasPrefix(step, "sql SELECT")) {
			continue // nothing is durable since the step before, or it is as in a release
		}
		for _, overtaken := range []bool{false, true} {
			if overtaken && (sql && !commit || released) {
				continue // nothing is durable since the step before
			}
			b := c.launch(released)
			killed++
			if got := c.kill(b.req, i+1, 0); !slices.Equal(got, all[:i+1]) {
				c.Errorf("%sto die at %d, %s: reached %q", what, i, step, got[i:])
			}
			b.redeemed = slices.Contains(all[:i+1], "after Redeem")
			c.after(what+step, b, overtaken)
		}
		for late := 1; commit && !raced && late < 1<<10; late *= 8 {
			b := c.launch(released)
			killed++
			c.kill(b.req, i+1, late)
			c.after(what+"while "+step+" is under way", b, false)
		}
	}
}
