package main

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/keywrap"
)

// A clock that jumps, as a broker has it that runs and as one that is started
// again: a minute and a second back stops releases until it is right again, and
// no jump makes a nonce good again.
func TestClockJumps(t *testing.T) {
	each(t, func(t *testing.T, d *database) {
		base := time.Now().Truncate(time.Minute)
		var offset atomic.Int64
		clock := func() time.Time { return base.Add(time.Duration(offset.Load())) }
		first, err := d.open(t.Context(), clock, nil)
		check(t, err)
		defer func() { check(t, first.close()) }()
		check(t, first.own(t.Context(), [16]byte{1}, 64, base.Add(time.Hour)))
		old := ask(t, first) // whose nonce is spent from here on
		answers(t, "at first", first, old, "")

		jump := func(what string, by time.Duration, fresh, spent string) {
			t.Helper()
			waiting := ask(t, first)
			offset.Add(int64(by))
			second, err := d.open(t.Context(), clock, nil)
			check(t, err)
			defer func() { check(t, second.close()) }()
			for name, r := range map[string]*replica{"running": first, "started again": second} {
				name = what + ", " + name
				answers(t, name+", a nonce of before", r, waiting, spent)
				answers(t, name+", a new nonce", r, ask(t, r), fresh)
				again, err := newMachine(t, r, [16]byte{1}).answer(old.Nonce)
				check(t, err)
				if _, err := r.Answer(t.Context(), again); teebroker.Code(err) != "nonce-spent" && teebroker.Code(err) != "unavailable" {
					t.Errorf("%s: a nonce that was spent: %v", name, err)
				}
			}
		}
		jump("61 s ahead", 61*time.Second, "", "")
		jump("61 s back", -61*time.Second, "unavailable", "unavailable")
		jump("right again", 61*time.Second, "", "")
		jump("59 s back", -59*time.Second, "", "")
		jump("right again", 59*time.Second, "", "")
		jump("7 minutes ahead", 7*time.Minute, "", "nonce-spent")
		jump("7 minutes back", -7*time.Minute, "unavailable", "unavailable")
	})
}

// newMachine is a guest with a key of its own.
func newMachine(t testing.TB, r *replica, instance [16]byte) *machine {
	t.Helper()
	key, err := keywrap.Generate(r.d.suite)
	check(t, err)
	m, err := r.launch(instance, key)
	check(t, err)
	return m
}

// ask is what a new guest of the first instance asks.
func ask(t *testing.T, r *replica) teebroker.Request {
	t.Helper()
	req, err := newMachine(t, r, [16]byte{1}).request(t.Context(), r)
	check(t, err)
	return req
}

// answers fails unless r answers req with a code, "" for the secret.
func answers(t *testing.T, what string, r *replica, req teebroker.Request, code string) {
	t.Helper()
	if _, err := r.Answer(t.Context(), req); err == nil && code != "" || err != nil && teebroker.Code(err) != code {
		t.Errorf("%s: %v, want %q", what, err, code)
	}
}
