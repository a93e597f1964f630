// Package flight makes one call of many that want the same at a time.
package flight

import (
	"context"
	"sync"
)

// Group makes one call at a time for each key. It is safe for concurrent use. The
// zero Group is ready, and must not be copied.
type Group[V any] struct {
	mu    sync.Mutex
	calls map[string]*call[V]
}

// call is a call under way, and after done is closed what came of it.
type call[V any] struct {
	done  chan struct{}
	value V
	err   error
	final bool
}

// Do returns what f returned, of one of those who Do for key at a time: in its own
// goroutine, and under its own context. Final says that it holds for all who wait;
// if not, as when that context ended, one of them calls its own f. A call that
// comes after another has ended finds out in f what that one left behind.
//
// Do returns ctx.Err() at the end of ctx, unless it is f that is running. What it
// returns is shared.
func (g *Group[V]) Do(ctx context.Context, key string, f func() (value V, final bool, err error)) (V, error) {
	for {
		if err := ctx.Err(); err != nil {
			return *new(V), err
		}
		c, leads := g.join(key)
		if leads {
			g.lead(key, c, f)
			return c.value, c.err
		}
		select {
		case <-ctx.Done():
			return *new(V), ctx.Err()
		case <-c.done:
			if c.final {
				return c.value, c.err
			}
		}
	}
}

// join returns the call for key, and whether the caller has to make it.
func (g *Group[V]) join(key string) (*call[V], bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.calls[key]; c != nil {
		return c, false
	}
	c := &call[V]{done: make(chan struct{})}
	if g.calls == nil {
		g.calls = map[string]*call[V]{}
	}
	g.calls[key] = c
	return c, true
}

// lead makes c. If f panics, those who wait make calls of their own.
func (g *Group[V]) lead(key string, c *call[V], f func() (V, bool, error)) {
	defer func() {
		g.mu.Lock()
		delete(g.calls, key)
		g.mu.Unlock()
		close(c.done)
	}()
	value, final, err := f()
	c.value, c.final, c.err = value, final, err
}
