package flight_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/teebroker/teebroker/internal/flight"
)

func TestOneOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[int]
		var calls atomic.Int32
		failed := errors.New("failed")
		var wg sync.WaitGroup
		for i := range 100 {
			key := []string{"a", "b"}[i%2]
			wg.Go(func() {
				got, err := g.Do(t.Context(), key, func() (int, bool, error) {
					calls.Add(1)
					time.Sleep(time.Second)
					return len(key), true, failed
				})
				if got != 1 || !errors.Is(err, failed) {
					t.Errorf("%d, %v", got, err)
				}
			})
		}
		wg.Wait()
		if n := calls.Load(); n != 2 {
			t.Errorf("%d calls, want one for each key", n)
		}
		if _, err := g.Do(t.Context(), "a", func() (int, bool, error) { return 0, true, nil }); err != nil {
			t.Error("an error is remembered")
		}
	})
}

// What does not hold for all is tried by each, one at a time.
func TestNotFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[int]
		var calls atomic.Int32
		start := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				_, _ = g.Do(t.Context(), "a", func() (int, bool, error) {
					n := calls.Add(1)
					time.Sleep(time.Second)
					return 0, n == 5, nil
				})
			})
		}
		wg.Wait()
		if n := calls.Load(); n != 5 || time.Since(start) != 5*time.Second {
			t.Errorf("%d calls in %v, want 5 in 5s", n, time.Since(start))
		}
	})
}

func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[int]
		go func() {
			_, _ = g.Do(t.Context(), "a", func() (int, bool, error) {
				time.Sleep(time.Minute)
				return 1, true, nil
			})
		}()
		synctest.Wait()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		never := func() (int, bool, error) {
			t.Error("called")
			return 0, true, nil
		}
		for range 2 { // while it waits, and before
			if _, err := g.Do(ctx, "a", never); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		}
		if got, err := g.Do(t.Context(), "a", never); got != 1 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
	})
}

func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g flight.Group[int]
		go func() {
			defer func() { _ = recover() }()
			_, _ = g.Do(t.Context(), "a", func() (int, bool, error) {
				time.Sleep(time.Second)
				panic("a bug")
			})
		}()
		synctest.Wait()
		if got, err := g.Do(t.Context(), "a", func() (int, bool, error) { return 2, true, nil }); got != 2 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
	})
}
