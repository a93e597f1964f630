package fetch

import (
	"net/http"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestRetryAfterParse(t *testing.T) {
	const date = "Sun, 01 Mar 2026 11:00:00 GMT"
	for _, tt := range []struct {
		text, date string
		want       time.Duration
	}{
		{"", "", 0},
		{"0", "", 0},
		{"10", "", 10 * time.Second},
		{"3600", "", time.Hour},
		{"3601", "", time.Hour},
		{"4294967295", "", time.Hour},
		{"4294967296", "", 0},
		{"-1", "", 0},
		{"1.5", "", 0},
		{"soon", "", 0},
		{"Sun, 01 Mar 2026 12:00:30 GMT", "", 30 * time.Second},
		{"Sun, 01 Mar 2026 11:59:30 GMT", "", 0},
		{"Sun, 01 Mar 2426 11:59:30 GMT", "", time.Hour},
		// The service's clock is an hour late, and so is what it asks for.
		{"Sun, 01 Mar 2026 11:00:30 GMT", date, 30 * time.Second},
	} {
		h := http.Header{"Retry-After": {tt.text}}
		if tt.date != "" {
			h.Set("Date", tt.date)
		}
		if got := retryAfter(h, now); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.text, got, tt.want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("10", "")
	f.Add("Sun, 01 Mar 2026 12:00:30 GMT", "Sun, 01 Mar 2026 11:00:00 GMT")
	f.Fuzz(func(t *testing.T, after, date string) {
		if d := retryAfter(http.Header{"Retry-After": {after}, "Date": {date}}, now); d < 0 || d > longestPause {
			t.Errorf("%v", d)
		}
	})
}

func FuzzBase(f *testing.F) {
	f.Add("https://a.example/pccs/")
	f.Fuzz(func(t *testing.T, base string) {
		once, err := Base(base)
		if err != nil {
			return
		}
		if twice, err := Base(once); err != nil || twice != once {
			t.Errorf("%q: %q, then %q, %v", base, once, twice, err)
		}
	})
}

// A bucket gives burst at once and one in every, also after long rest and holds.
func TestBudgetTake(t *testing.T) {
	b := &budget{every: 10 * time.Second, burst: 2}
	for i, tt := range []struct {
		after    time.Duration // since the start
		patience time.Duration
		delay    time.Duration
		ok       bool
	}{
		{0, 0, 0, true},
		{0, 0, 0, true},
		{0, 9 * time.Second, 10 * time.Second, false},
		{0, 10 * time.Second, 10 * time.Second, true},
		{15 * time.Second, time.Minute, 5 * time.Second, true},
		{time.Hour, 0, 0, true},
		{time.Hour, 0, 0, true},
		{time.Hour, 0, 10 * time.Second, false},
	} {
		if d, ok := b.take(now.Add(tt.after), tt.patience); d != tt.delay || ok != tt.ok {
			t.Errorf("%d: %v, %v", i, d, ok)
		}
	}
	later := now.Add(2 * time.Hour)
	b.hold(later, time.Minute)
	if d, ok := b.take(later, time.Hour); d != time.Minute || !ok {
		t.Errorf("after a hold: %v, %v", d, ok)
	}
	if d, _ := b.take(later, time.Hour); d != 70*time.Second {
		t.Errorf("after a hold nothing comes at once: %v", d)
	}
	b.giveBack()
	if d, _ := b.take(later, time.Hour); d != 70*time.Second {
		t.Errorf("given back: %v", d)
	}
	if !b.paused(later.Add(59*time.Second)) || b.paused(later.Add(time.Minute)) {
		t.Error("paused")
	}
}
