package v1

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/teebroker/teebroker"
)

// Rate is a token bucket: Burst at once, and Every for one more. The zero Rate
// lets nothing pass.
type Rate struct {
	Burst int
	Every time.Duration
}

// maxBuckets bounds how many keys one limiter knows. Beyond it, buckets that are
// full again are forgotten, which changes nothing; if there are none, keys that
// are not known share one bucket, so that strangers can't fill memory.
const maxBuckets = 1 << 16

// limiter has a bucket for each key. It is safe for concurrent use.
type limiter[K comparable] struct {
	rate Rate
	now  func() time.Time

	mu      sync.Mutex
	at      map[K]time.Time // when the bucket will be full
	crowd   time.Time       // the bucket of all who have none
	cleaned time.Time
}

func newLimiter[K comparable](r Rate, now func() time.Time) *limiter[K] {
	return &limiter[K]{rate: r, now: now, at: map[K]time.Time{}}
}

// take takes a token of k if there is one.
func (l *limiter[K]) take(k K) bool {
	return l.use(k, true)
}

// has reports whether k has a token, and takes none.
func (l *limiter[K]) has(k K) bool {
	return l.use(k, false)
}

func (l *limiter[K]) use(k K, take bool) bool {
	if l.rate.Burst <= 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	full, known := l.at[k]
	if !known && len(l.at) >= maxBuckets {
		l.clean(now)
		if len(l.at) >= maxBuckets {
			ok, next := l.after(l.crowd, now)
			if ok && take {
				l.crowd = next
			}
			return ok
		}
	}
	ok, next := l.after(full, now)
	if ok && take {
		l.at[k] = next
	}
	return ok
}

// after returns when a bucket that is full at full will be so after one more.
func (l *limiter[K]) after(full, now time.Time) (bool, time.Time) {
	if full.Before(now) {
		full = now
	}
	next := full.Add(l.rate.Every)
	return next.Sub(now) <= time.Duration(l.rate.Burst)*l.rate.Every, next
}

// clean forgets buckets that are full, at most once in a second.
func (l *limiter[K]) clean(now time.Time) {
	if now.Sub(l.cleaned) < time.Second {
		return
	}
	l.cleaned = now
	for k, full := range l.at {
		if !full.After(now) {
			delete(l.at, k)
		}
	}
}

// source is what requests are counted by before anything is known of them: the
// address, and of IPv6 the /64, since a host has one for itself. What is no
// address, such as the peer of a Unix socket, is one source.
func source(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// gate lets so many in at once and has the others wait.
type gate chan struct{}

// enter waits until there is room, at most patience, and returns what to call
// afterwards; or Unavailable.
func (g gate) enter(ctx context.Context, patience time.Duration) (func(), error) {
	leave := func() { <-g }
	select {
	case g <- struct{}{}:
		return leave, nil
	default:
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case g <- struct{}{}:
		return leave, nil
	case <-t.C:
	case <-ctx.Done():
	}
	return nil, teebroker.Unavailable
}

// uncounted is how much of each body is not counted: what a guest sends fits in it, sealed or not,
// so that nobody keeps guests out by holding up large bodies. A connection costs
// about as much.
const uncounted = 32 << 10

// buffers counts the bytes of bodies in memory, of all requests, beyond what is
// uncounted of each.
type buffers struct {
	most int64
	used atomic.Int64
}

var errBuffers = errors.New("v1: too many bodies in memory")

// held is what one request has of them: bytes that came, not bytes that were
// promised. It is not safe for concurrent use.
type held struct {
	of    *buffers
	body  io.Reader
	bytes int64
}

// Read implements [io.Reader].
func (h *held) Read(p []byte) (int, error) {
	n, err := h.body.Read(p)
	before := h.counted()
	h.bytes += int64(n)
	if more := h.counted() - before; more > 0 && h.of.used.Add(more) > h.of.most {
		return 0, errBuffers
	}
	return n, err
}

func (h *held) counted() int64 { return max(0, h.bytes-uncounted) }

func (h *held) release() { h.of.used.Add(-h.counted()) }

// Budget returns a Ledger that lets each instance, and each platform that signed
// its evidence, have so many releases and redeliveries: beyond that it refuses
// with RateLimited before a token or secret is touched. Only commits count, so
// nobody uses up a budget without evidence that was accepted. Each process counts
// for itself. If now is nil it is time.Now.
func Budget(l teebroker.Ledger, instance, chip Rate, now func() time.Time) teebroker.Ledger {
	if now == nil {
		now = time.Now
	}
	return &budget{l, newLimiter[guestKey](instance, now), newLimiter[string](chip, now)}
}

type guestKey struct {
	tenant   string
	instance [16]byte
}

type budget struct {
	teebroker.Ledger
	instances *limiter[guestKey]
	chips     *limiter[string]
}

// Check implements [teebroker.Ledger].
func (b *budget) Check(ctx context.Context, g teebroker.Grant) (teebroker.Terms, error) {
	if !b.instances.has(guestKey{g.Tenant, g.Instance}) || len(g.Chip) > 0 && !b.chips.has(string(g.Chip)) {
		return teebroker.Terms{}, teebroker.RateLimited
	}
	return b.Ledger.Check(ctx, g)
}

// Commit implements [teebroker.Ledger].
func (b *budget) Commit(ctx context.Context, g teebroker.Grant, r teebroker.Response, e teebroker.Entry) (teebroker.Response, error) {
	stored, err := b.Ledger.Commit(ctx, g, r, e)
	if err == nil {
		b.instances.take(guestKey{g.Tenant, g.Instance})
		if len(g.Chip) > 0 {
			b.chips.take(string(g.Chip))
		}
	}
	return stored, err
}
