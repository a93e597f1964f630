package collateral

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// With a TCB recovery Intel raises the evaluation number of all its documents. A
// Verifier asks for TCB Info and QE identity of one number, and gets them one after
// the other. So the Cache goes to a new number when all documents that it holds are
// there, and stays at the old one meanwhile; at the latest when one of the old ends.

// advance raises the number that is served, if it can be.
func (c *Cache) advance(now time.Time) {
	if c.loading {
		return
	}
	for _, n := range c.numbers(now) {
		if n > c.floor && c.ready(n, now) {
			c.raise(n)
			return
		}
	}
}

// raise makes n the number that is served. Nothing goes back behind it.
func (c *Cache) raise(n uint64) {
	c.floor = max(c.floor, n)
	for at := c.status.Front(); at != nil; at = at.Next() {
		at.Value.(*entry).answer = nil
	}
}

// numbers returns the evaluation numbers of usable documents, the highest first.
func (c *Cache) numbers(now time.Time) (ns []uint64) {
	for e := range c.documents() {
		for _, x := range e.items {
			if x.usable(now, c.cfg.StaleGrace) {
				ns = append(ns, x.number.Uint64())
			}
		}
	}
	slices.Sort(ns)
	slices.Reverse(ns)
	return slices.Compact(ns)
}

func (c *Cache) documents() func(yield func(*entry) bool) {
	return func(yield func(*entry) bool) {
		for at := c.status.Front(); at != nil; at = at.Next() {
			if e := at.Value.(*entry); e.items[0].kind.document() && !yield(e) {
				return
			}
		}
	}
}

// ready reports whether n can be served: either all names of which a document is
// usable have one of n, or one of them has no other any more.
func (c *Cache) ready(n uint64, now time.Time) bool {
	all := true
	for e := range c.documents() {
		has, other, ended := false, false, false
		for _, x := range e.items {
			usable := x.usable(now, c.cfg.StaleGrace)
			switch m := x.number.Uint64(); {
			case m == n:
				has = has || usable
			case usable:
				other = true
			case m == c.floor && !now.Before(x.until(c.cfg.StaleGrace)):
				ended = true
			}
		}
		if has && !other && ended {
			return true
		}
		all = all && (has || !other)
	}
	return all
}

// highest returns the highest evaluation number of a usable document, or what is
// served.
func (c *Cache) highest(now time.Time) uint64 {
	if ns := c.numbers(now); len(ns) > 0 {
		return max(c.floor, ns[0])
	}
	return c.floor
}

// lags reports whether others have documents of a number that e has not.
func (c *Cache) lags(e *entry, now time.Time) bool {
	x := e.items[0]
	return x.kind.document() && x.number.Uint64() < c.highest(now)
}

// follow looks for the documents of a number that others have and that is not
// served yet, now and then every few minutes.
func (c *Cache) follow(ctx context.Context, now time.Time) {
	c.mu.Lock()
	c.advance(now)
	behind := c.highest(now) > c.floor
	c.mu.Unlock()
	if behind {
		names := c.dueNames(func(e *entry) bool {
			return c.lags(e, now) && (!now.Before(e.due) || e.due.Sub(now) > retry)
		})
		for _, name := range names {
			if _, _, err := c.ask(ctx, name, now); err != nil {
				c.cfg.Report(fmt.Errorf("collateral: %s of a new evaluation number: %w", name, err))
			}
		}
		c.mu.Lock()
		c.advance(now)
		c.mu.Unlock()
	}
	c.storeFloor()
}
