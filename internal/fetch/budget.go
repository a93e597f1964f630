package fetch

import (
	"sync"
	"time"
)

// budget says when the next request may be sent: burst at once after a rest, and
// then one in every. It is a token bucket that keeps the time at which it would be
// full again instead of tokens.
type budget struct {
	every time.Duration
	burst int

	mu    sync.Mutex
	full  time.Time // when all that was taken will have come back
	pause time.Time // nothing is sent before
}

// take takes the right to send one request and returns how long to wait until
// then. It takes nothing if that is longer than patience.
func (b *budget) take(now time.Time, patience time.Duration) (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := latest(b.full, now)
	at := latest(now, latest(b.pause, full.Add(-time.Duration(b.burst-1)*b.every)))
	if delay := at.Sub(now); delay > patience {
		return delay, false
	}
	b.full = full.Add(b.every)
	return at.Sub(now), true
}

// giveBack returns what was taken and not used.
func (b *budget) giveBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.full = b.full.Add(-b.every)
}

// hold sends nothing for d, and then slowly: the service had enough.
func (b *budget) hold(now time.Time, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pause = latest(b.pause, now.Add(d))
	b.full = latest(b.full, b.pause.Add(time.Duration(b.burst-1)*b.every))
}

// paused reports whether nothing may be sent at now whoever took the right to.
func (b *budget) paused(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return now.Before(b.pause)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
