// Package fetch asks a vendor's service for small public files over HTTP, so that
// neither the service nor who names the files can bring a verifier to its knees:
// answers are bounded and looked at, requests have a budget, one request at a time
// asks for one name, failures are remembered for a while, and all that waits ends
// with the caller's context.
//
// It waits by the monotonic clock of package time and not by one of a Config: how
// long to leave a service alone has nothing to do with the time at which evidence
// is judged. Tests put it in a bubble of testing/synctest.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/flight"
	"github.com/teebroker/teebroker/internal/lru"
)

// Config says how to ask. What is zero has the default below.
type Config struct {
	Service  string        // how errors call the service; required
	Client   *http.Client  // if nil, one of its own that uses no proxy
	Every    time.Duration // between requests, on average; required
	Burst    int           // requests at once after a rest; required
	Peer     Rate          // of what one peer makes us ask; if zero, no limit but the others
	Patience time.Duration // longest wait for the budget or for what Retry-After asks
	Timeout  time.Duration // of one attempt
	Attempts int           // for one name
}

// Rate is Burst at once after a rest, and then one in Every.
type Rate struct {
	Every time.Duration
	Burst int
}

// Defaults of a Config.
const (
	DefaultPatience = 30 * time.Second
	DefaultTimeout  = 15 * time.Second
	DefaultAttempts = 3
)

// How long to leave a service alone.
const (
	firstBackoff   = 500 * time.Millisecond // before the second attempt; doubles
	longestBackoff = 10 * time.Second
	longestPause   = time.Hour // whatever Retry-After asks
	missingFor     = 5 * time.Minute
	firstHold      = time.Second // after a failure; doubles
	longestHold    = time.Minute
	maxFailures    = 4096 // names remembered
	maxPeers       = 4096 // remembered
)

// Request asks for one file.
type Request struct {
	Name  string // two Requests of one Name ask for the same
	URL   string
	Limit int64 // bytes of the answer

	// Accept returns what an answer is good for, or an error if it is not what was
	// asked for. It owns body. It is called by one of those who ask only.
	Accept func(body []byte, header http.Header) (evidence.Collateral, error)
}

// Client asks one service. It is safe for concurrent use.
type Client struct {
	cfg    Config
	http   *http.Client
	budget *budget
	failed *lru.Cache[string, failure]
	peers  *peers

	flights flight.Group[evidence.Collateral] // by Name
}

// New returns a Client, or an error that names the field of cfg at fault.
func New(cfg Config) (*Client, error) {
	for _, f := range []struct {
		name string
		good bool
	}{
		{"Every", cfg.Every > 0},
		{"Burst", cfg.Burst > 0},
		{"Patience", cfg.Patience >= 0},
		{"Timeout", cfg.Timeout >= 0},
		{"Attempts", cfg.Attempts >= 0},
		{"Peer", cfg.Peer.Every >= 0 && cfg.Peer.Burst >= 0 && (cfg.Peer.Every > 0) == (cfg.Peer.Burst > 0)},
	} {
		if !f.good {
			return nil, fmt.Errorf("%s: not a positive number", f.name)
		}
	}
	if cfg.Patience == 0 {
		cfg.Patience = DefaultPatience
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = DefaultAttempts
	}
	return &Client{
		cfg:    cfg,
		http:   httpClient(cfg.Client),
		budget: &budget{every: cfg.Every, burst: cfg.Burst},
		failed: lru.New[string, failure](maxFailures),
		peers:  newPeers(cfg.Peer),
	}, nil
}

// Get returns the answer to r. Those who ask for one Name at a time share it, and
// must not modify it. Errors are an [*Error].
//
// Get returns at the end of ctx, also if others go on.
func (c *Client) Get(ctx context.Context, r Request) (evidence.Collateral, error) {
	answer, err := c.flights.Do(ctx, r.Name, func() (evidence.Collateral, bool, error) { return c.lead(ctx, r) })
	if err != nil && !errors.As(err, new(*Error)) {
		err = c.fail(0, err) // ctx ended
	}
	return answer, err
}

// lead asks for all who wait for r.Name. What it returns holds for them, unless it
// is this caller who ran out of time, or of requests.
func (c *Client) lead(ctx context.Context, r Request) (answer evidence.Collateral, final bool, _ error) {
	if err := c.remembered(r.Name); err != nil {
		return answer, true, err
	}
	if delay, ok := c.peers.take(ctx); !ok {
		e := c.gaveUp(errPeer)
		e.RetryAfter = delay
		return answer, false, e
	}
	answer, err := c.try(ctx, r)
	if err == nil {
		c.forget(r.Name)
		return answer, true, nil
	}
	if !err.own && !err.saved {
		c.remember(r.Name, err)
	}
	return answer, !err.own, err
}

// try makes attempts until one answers, or none is left.
func (c *Client) try(ctx context.Context, r Request) (evidence.Collateral, *Error) {
	var last *Error
	for i := range c.cfg.Attempts {
		if i > 0 {
			if err := c.sleep(ctx, jitter(firstBackoff<<min(i-1, 10), longestBackoff)); err != nil {
				return evidence.Collateral{}, err
			}
		}
		if err := c.wait(ctx); err != nil {
			err.Status = statusOf(last)
			return evidence.Collateral{}, err
		}
		answer, err := c.attempt(ctx, r)
		if err == nil {
			return answer, nil
		}
		if ctx.Err() != nil {
			return evidence.Collateral{}, c.gaveUp(ctx.Err())
		}
		if last = err; !err.again {
			break
		}
	}
	return evidence.Collateral{}, last
}

// wait waits until the budget allows a request.
func (c *Client) wait(ctx context.Context) *Error {
	for {
		now := time.Now()
		delay, ok := c.budget.take(now, c.cfg.Patience)
		if !ok {
			return &Error{Service: c.cfg.Service, RetryAfter: delay, Err: errBudget, saved: true}
		}
		if end, limited := ctx.Deadline(); limited && now.Add(delay).After(end) {
			c.budget.giveBack()
			e := c.gaveUp(errBudget)
			e.RetryAfter = delay
			return e
		}
		if err := c.sleep(ctx, delay); err != nil {
			c.budget.giveBack()
			return err
		}
		if !c.budget.paused(time.Now()) {
			return nil
		}
		// The service asked for a pause meanwhile.
	}
}

// sleep waits for d or until ctx ends.
func (c *Client) sleep(ctx context.Context, d time.Duration) *Error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return c.gaveUp(ctx.Err())
	}
}

// jitter returns something between half of d and d, and at most longest. Many that
// failed at once must not come back at once.
func jitter(d, longest time.Duration) time.Duration {
	d = min(d, longest)
	return d/2 + rand.N(d/2+1)
}
