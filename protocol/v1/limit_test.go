package v1

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
)

func TestLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLimiter[string](Rate{2, time.Second}, func() time.Time { return now })
	steps := []struct {
		after time.Duration
		key   string
		want  bool
	}{
		{0, "a", true},
		{0, "a", true},
		{0, "a", false},
		{0, "b", true},
		{time.Second - 1, "a", false},
		{1, "a", true},
		{0, "a", false},
		{time.Hour, "a", true},
		{0, "a", true},
		{0, "a", false},          // a bucket holds no more than Burst
		{-time.Hour, "a", false}, // a clock that went back gives nothing
	}
	for i, s := range steps {
		now = now.Add(s.after)
		if has := l.has(s.key); has != s.want {
			t.Errorf("step %d: has %v", i, has)
		}
		if got := l.take(s.key); got != s.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	if newLimiter[string](Rate{}, time.Now).take("a") {
		t.Error("the zero Rate lets something pass")
	}
}

// Strangers can't fill memory, nor keep out those who were here before.
func TestLimiterIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLimiter[int](Rate{2, time.Minute}, func() time.Time { return now })
	for i := range maxBuckets {
		if !l.take(i) {
			t.Fatal(i)
		}
	}
	if !l.take(-1) || !l.take(-2) || l.take(-3) {
		t.Error("strangers beyond the bound don't share one bucket")
	}
	if !l.take(0) {
		t.Error("who was known is kept out")
	}
	if len(l.at) != maxBuckets {
		t.Errorf("%d buckets", len(l.at))
	}
	now = now.Add(time.Hour)
	for i, want := range []bool{true, true, false} {
		if got := l.take(-3); got != want {
			t.Errorf("take %d after an hour: %v", i, got)
		}
	}
	if len(l.at) != 1 {
		t.Errorf("full buckets are not forgotten: %d", len(l.at))
	}
}

func TestSource(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:1234":                   "192.0.2.7",
		"[::ffff:192.0.2.7]:1234":          "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:1234":      "2001:db8:1:2::",
		"[2001:db8:1:2::9]:4321":           "2001:db8:1:2::",
		"[fe80::1%eth0]:1":                 "fe80::",
		"@":                                "invalid IP",
		"":                                 "invalid IP",
		"broker.example:80":                "invalid IP",
		"192.0.2.7":                        "invalid IP",
		"[2001:db8:1:3:ffff::]:1234":       "2001:db8:1:3::",
		"[2001:db8:1:2:ffff:ffff::]:65535": "2001:db8:1:2::",
	} {
		if got := source(remote).String(); got != want {
			t.Errorf("%s: %s", remote, got)
		}
	}
	if source("@") != (netip.Addr{}) {
		t.Error("not one source")
	}
}

// ledger decides as it is told.
type ledger struct {
	teebroker.Ledger
	err error
}

func (l ledger) Check(context.Context, teebroker.Grant) (teebroker.Terms, error) {
	return teebroker.Terms{}, l.err
}

func (l ledger) Commit(context.Context, teebroker.Grant, teebroker.Response, teebroker.Entry) (teebroker.Response, error) {
	return teebroker.Response{}, l.err
}

// Only commits count, by instance and by chip.
func TestBudget(t *testing.T) {
	ctx := t.Context()
	g := func(instance byte, chip string) teebroker.Grant {
		return teebroker.Grant{Tenant: "acme", Instance: [16]byte{instance}, Chip: []byte(chip)}
	}
	down := errors.New("down")
	b := Budget(ledger{}, Rate{2, time.Hour}, Rate{3, time.Hour}, nil)
	failing := *b.(*budget)
	failing.Ledger = ledger{err: down}
	for range 9 {
		if _, err := b.Check(ctx, g(1, "a")); err != nil {
			t.Fatal("asking counts")
		}
		if _, err := failing.Commit(ctx, g(1, "a"), teebroker.Response{}, teebroker.Entry{}); err != down {
			t.Fatal(err)
		}
	}
	commit := func(g teebroker.Grant) {
		t.Helper()
		if _, err := b.Check(ctx, g); err != nil {
			t.Errorf("%v: %v", g.Instance, err)
		}
		if _, err := b.Commit(ctx, g, teebroker.Response{}, teebroker.Entry{}); err != nil {
			t.Error(err)
		}
	}
	refused := func(g teebroker.Grant) {
		t.Helper()
		if _, err := b.Check(ctx, g); !errors.Is(err, teebroker.RateLimited) {
			t.Errorf("%v on %s: %v", g.Instance, g.Chip, err)
		}
	}
	commit(g(1, "a"))
	commit(g(1, "a"))
	refused(g(1, "a"))
	refused(g(1, "b"))
	commit(g(2, "a"))
	refused(g(3, "a")) // the chip
	commit(g(3, "b"))
	commit(g(4, "")) // of no one chip
	other := g(1, "b")
	other.Tenant = "other"
	commit(other)
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, path string
		want          map[string]string
		ok            bool
	}{
		{"/a", "/a", nil, true},
		{"/a", "/a/", nil, false},
		{"/a/{x}", "/a/b", map[string]string{"x": "b"}, true},
		{"/a/{x}", "/a/", nil, false},
		{"/a/{x}", "/a", nil, false},
		{"/a/{x}", "/a/b/c", nil, false},
		{"/a/{x}/c", "/a/b/c", map[string]string{"x": "b"}, true},
		{"/a/{x}/c", "/a/b/d", nil, false},
		{"/a/{x}/{y...}", "/a/b/c/d", map[string]string{"x": "b", "y": "c/d"}, true},
		{"/a/{x}/{y...}", "/a/b/", nil, false},
		{"/a/{x}/{y...}", "/a/b", nil, false},
	} {
		got, ok := match(tt.pattern, tt.path)
		if ok != tt.ok || ok && fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s %s: %v, %v", tt.pattern, tt.path, got, ok)
		}
	}
}
