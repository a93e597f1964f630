package collateral

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// miss asks upstream for what is not at hand, unless another does.
func (c *Cache) miss(ctx context.Context, name string, now time.Time) ([]evidence.Collateral, error) {
	led := false
	got, err := c.misses.Do(ctx, name, func() ([]evidence.Collateral, bool, error) {
		led = true
		answer, due := c.at(name, now) // another may have got it meanwhile
		if due {
			c.rest(name)
		}
		if answer != nil {
			return answer, true, nil
		}
		answer, err := c.fetch(ctx, name, now)
		return answer, true, err
	})
	if err != nil && !led && ctx.Err() == nil {
		return c.fetch(ctx, name, now)
	}
	return got, err
}

// fetch asks upstream for what is not at hand.
func (c *Cache) fetch(ctx context.Context, name string, now time.Time) ([]evidence.Collateral, error) {
	got, on, err := c.ask(ctx, name, now)
	if on {
		return got, nil
	}
	if err == nil {
		c.follow(ctx, now)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[name]
	if e == nil {
		return got, err // kept, and out of memory again, if there is no error
	}
	if answer := c.answerOf(e, now); answer != nil {
		return answer, nil
	}
	return nil, errors.Join(ErrEnded, err)
}

// refresh looks for newer under name, which is busy.
func (c *Cache) refresh(ctx context.Context, name string, now time.Time) error {
	if c.dir != nil {
		c.loadName(name, now) // another process may have been there
	}
	_, _, err := c.ask(ctx, name, now)
	c.follow(ctx, now)
	return err
}

// Refresh looks for newer of all that is due, one after the other, so that no Get
// has to. To be called every few minutes. The error joins what failed; what is at
// hand remains in use.
func (c *Cache) Refresh(ctx context.Context) error {
	now := c.cfg.Time()
	var failed []error
	for _, name := range c.dueNames(func(e *entry) bool { return e.isDue(now) }) {
		if err := ctx.Err(); err != nil {
			c.rest(name)
			failed = append(failed, err)
			continue
		}
		if err := c.refresh(ctx, name, now); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(failed[:min(len(failed), 16)]...)
}

// dueNames returns the names of entries that are not busy and that want, sorted,
// and makes them busy.
func (c *Cache) dueNames(want func(*entry) bool) (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, e := range c.entries {
		if !e.busy && want(e) {
			e.busy = true
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// rest says that nobody looks at name any more.
func (c *Cache) rest(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[name]; e != nil {
		e.busy = false
	}
}

// ask asks upstream and keeps what is genuine. If on, the answer is to be handed on
// as it is.
func (c *Cache) ask(ctx context.Context, name string, now time.Time) (got []evidence.Collateral, on bool, err error) {
	defer func() { c.done(name, now, err) }()
	got, err = c.cfg.Upstream.Get(ctx, name)
	if err == nil && len(got) == 0 {
		err = evidence.ErrNotFound
	}
	if err != nil {
		return nil, false, err
	}
	got = got[:min(len(got), maxAnswers)]
	genuine, bad := c.genuine(name, got)
	kept, held, older := c.keep(name, genuine, now)
	switch {
	case kept:
		return got, false, nil
	case older:
		return nil, false, ErrOlder
	case !held:
		return got, true, nil // not genuine, or not of this time: a Verifier says which
	case bad == nil:
		bad = ErrEnded
	}
	return nil, false, bad
}

// genuine returns what of got has an anchor behind it, and what is wrong with the
// rest.
func (c *Cache) genuine(name string, got []evidence.Collateral) (genuine []item, bad error) {
	for _, g := range got {
		x, err := c.trust.verify(name, g)
		if err != nil {
			c.count(&c.stats.Unverified)
			err = fmt.Errorf("collateral: %s: answer is not kept: %w", name, err)
			c.cfg.Report(err)
			bad = errors.Join(bad, err)
			continue
		}
		genuine = append(genuine, x)
	}
	return genuine, bad
}

func (c *Cache) count(n *uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n++
}

// done notes that upstream was asked for name, and sets when it is asked again.
func (c *Cache) done(name string, now time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Asked++
	if err != nil {
		c.stats.Failed++
	}
	e := c.entries[name]
	if e == nil {
		return
	}
	e.busy = false
	e.due = e.next(now, err == nil && !c.lags(e, now))
}

// next returns when to look for newer than what e has, having looked at now.
func (e *entry) next(now time.Time, found bool) time.Time {
	newest := e.items[0]
	if !newest.kind.status() {
		if early := newest.ends.Add(-ahead); early.After(now) {
			return early
		}
		return now.Add(daily)
	}
	if !found {
		return now.Add(retry)
	}
	return now.Add(min(daily, max(retry, newest.ends.Sub(now)/4)))
}
