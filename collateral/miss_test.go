package collateral_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// upstream is a Source that takes a second and does not care who else asks.
type upstream struct {
	mu    sync.Mutex
	asked int
	get   func(ctx context.Context, name string) ([]evidence.Collateral, error)
}

func (u *upstream) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	u.mu.Lock()
	u.asked++
	u.mu.Unlock()
	select {
	case <-time.After(time.Second):
		return u.get(ctx, name)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Many who miss one name at a time cost one question.
func TestCacheMissesOnce(t *testing.T) {
	v := newVendor()
	v.set(milanCRL, amdList(now, 30))
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{get: v.Get}
		cache := cacheOf(t, u, &clock{now}, "")
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { gets(t, cache, milanCRL, v.has[milanCRL][0].Data) })
		}
		wg.Wait()
		if u.asked != 1 {
			t.Errorf("asked %d times", u.asked)
		}
	})
}

// One who has less time than others fails alone.
func TestCacheMissOfTheImpatient(t *testing.T) {
	v := newVendor()
	v.set(milanCRL, amdList(now, 30))
	synctest.Test(t, func(t *testing.T) {
		cache := cacheOf(t, &upstream{get: v.Get}, &clock{now}, "")
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if _, err := cache.Get(ctx, milanCRL); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		})
		synctest.Wait()
		for range 10 {
			wg.Go(func() { gets(t, cache, milanCRL, v.has[milanCRL][0].Data) })
		}
		wg.Wait()
	})
}
