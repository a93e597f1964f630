package fetch

import (
	"context"
	"sync"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/lru"
)

// failure is what came of a name last, if no answer.
type failure struct {
	err   *Error
	until time.Time
	count int // failures in a row
}

// remembered returns the error that name has for now, or nil.
func (c *Client) remembered(name string) error {
	f, ok := c.failed.Get(name)
	if !ok || f.err == nil || !time.Now().Before(f.until) {
		return nil
	}
	return f.err
}

// remember keeps err for name for a while: longer with every failure in a row, or
// for a fixed time if the service says that there is no such file.
func (c *Client) remember(name string, err *Error) {
	f, _ := c.failed.Get(name)
	hold := jitter(firstHold<<min(f.count, 10), longestHold)
	if err.missing() {
		hold = missingFor
	}
	c.failed.Put(name, failure{err, time.Now().Add(hold), f.count + 1})
}

// forget ends a row of failures.
func (c *Client) forget(name string) {
	if _, ok := c.failed.Get(name); ok {
		c.failed.Put(name, failure{})
	}
}

// peers has a budget for each peer. The nil peers limits nobody.
type peers struct {
	rate Rate

	mu    sync.Mutex
	known *lru.Cache[string, *budget] // who was away for longest is forgotten
}

func newPeers(r Rate) *peers {
	if r.Burst == 0 {
		return nil
	}
	return &peers{rate: r, known: lru.New[string, *budget](maxPeers)}
}

// take takes the right to ask for one name from the peer of ctx, if it has one; or
// returns when there will be one. Nobody waits for it.
func (p *peers) take(ctx context.Context) (time.Duration, bool) {
	peer, ok := evidence.Peer(ctx)
	if p == nil || !ok {
		return 0, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := p.known.Get(peer)
	if !ok {
		b = &budget{every: p.rate.Every, burst: p.rate.Burst}
		p.known.Put(peer, b)
	}
	return b.take(time.Now(), 0)
}
