package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
)

// job is one call that writes. Its run may be called more than once, in
// transactions of which one at most is committed, and starts from nothing each
// time.
type job struct {
	order string        // jobs of a transaction run in this order, the same in every process
	locks []instanceKey // instances that it decides about
	solo  bool          // not together with others
	run   func(*tx) error

	err   error
	state int
	wake  chan struct{} // closed when it is done, or is to lead
}

// safely is run. What panics, over a row that was edited or in a decoder, fails:
// others wait for the leader, and the transaction has locks.
func (j *job) safely(t *tx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("a call panicked: %v", r)
			t.failed = err
		}
	}()
	return j.run(t)
}

// The states of a job, under the mutex of its group.
const (
	queued = iota
	leading
	taken
)

// group makes one transaction of jobs that come at the same time. There is no
// goroutine of its own: the first caller leads, and when it is done hands over to
// one of those who came meanwhile.
type group struct {
	s *Store

	mu     sync.Mutex
	queue  []*job
	led    bool // somebody leads
	closed bool

	session *session // of the leader
}

const (
	maxBatch = 256  // jobs of one transaction
	maxQueue = 8192 // jobs that wait for one
)

var (
	errClosed = errors.New("sqlstore: closed")
	errBusy   = errors.New("sqlstore: too many calls are waiting")
)

// seed spreads tenants over groups.
var seed = maphash.MakeSeed()

// do runs j in a transaction and returns when that is durable, or failed.
func (s *Store) do(ctx context.Context, j *job) error {
	if len(s.groups) == 0 {
		return errClosed
	}
	of, _, _ := strings.Cut(j.order, "\x00")
	return s.groups[maphash.String(seed, of)%uint64(len(s.groups))].do(ctx, j)
}

func (g *group) do(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	j.wake = make(chan struct{})
	g.mu.Lock()
	switch {
	case g.closed:
		g.mu.Unlock()
		return errClosed
	case len(g.queue) >= maxQueue:
		g.mu.Unlock()
		return errBusy
	case !g.led:
		g.led, j.state = true, leading
	}
	g.queue = append(g.queue, j)
	lead := j.state == leading
	g.mu.Unlock()
	if !lead {
		var err error
		if lead, err = g.wait(ctx, j); !lead {
			return err
		}
	}
	g.lead(ctx)
	return j.err
}

// wait returns the result of j, or true if j is to lead. A caller that gives up
// leaves a job behind that may be committed all the same.
func (g *group) wait(ctx context.Context, j *job) (bool, error) {
	select {
	case <-j.wake:
	case <-ctx.Done():
		g.mu.Lock()
		state := j.state
		if state == queued {
			g.queue = slices.DeleteFunc(g.queue, func(x *job) bool { return x == j })
		}
		g.mu.Unlock()
		if state != leading {
			return false, fmt.Errorf("sqlstore: %w", ctx.Err())
		}
		// Others wait for it to lead.
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return j.state == leading, j.err
}

// lead runs what waits, as one transaction, and hands over.
func (g *group) lead(ctx context.Context) {
	g.mu.Lock()
	n := 1
	for n < len(g.queue) && n < maxBatch && !g.queue[0].solo && !g.queue[n].solo {
		n++
	}
	jobs, leader := slices.Clone(g.queue[:n]), g.queue[0]
	g.queue = append(g.queue[:0], g.queue[n:]...)
	for _, j := range jobs {
		j.state = taken
	}
	g.mu.Unlock()

	// One caller's context does not decide about the calls of others.
	g.transact(context.WithoutCancel(ctx), jobs)

	g.mu.Lock()
	defer g.mu.Unlock()
	for _, j := range jobs {
		if j != leader {
			close(j.wake)
		}
	}
	if len(g.queue) == 0 {
		g.led = false
		if g.closed {
			g.drop()
		}
		return
	}
	next := g.queue[0]
	next.state = leading
	close(next.wake)
}

func (g *group) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if !g.led {
		g.drop()
	}
}

// drop gives back the connection.
func (g *group) drop() {
	if g.session != nil {
		g.session.close()
		g.session = nil
	}
}

// maxTries is how often a transaction is repeated that got in the way of another.
const maxTries = 8

// transact runs jobs and sets their err.
func (g *group) transact(ctx context.Context, jobs []*job) {
	slices.SortStableFunc(jobs, func(a, b *job) int { return strings.Compare(a.order, b.order) })
	var err error
	for try := range maxTries {
		var fresh, committing bool
		fresh, committing, err = g.try(ctx, jobs)
		if err == nil {
			return
		}
		// What failed at the commit may have happened.
		repeat := g.s.d.again(err) || !committing && !fresh && !g.s.d.alone(err)
		if !repeat || try == maxTries-1 {
			break
		}
	}
	var u *undone
	if errors.As(err, &u) && len(jobs) > 1 && g.s.d.alone(u.err) {
		for _, j := range jobs {
			g.transact(ctx, []*job{j})
		}
		return
	}
	for _, j := range jobs {
		j.err = fmt.Errorf("sqlstore: %w", err)
	}
}

// undone is why a transaction was rolled back: a job failed after it wrote, or a
// statement of it failed. The others did nothing wrong.
type undone struct{ err error }

func (u *undone) Error() string { return u.err.Error() }
func (u *undone) Unwrap() error { return u.err }

// try runs jobs in one transaction. If it returns nil, that is durable and each
// job has its own err. It says whether the connection was a new one, and whether
// the commit had begun.
func (g *group) try(ctx context.Context, jobs []*job) (fresh, committing bool, err error) {
	if d := g.s.d.timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	if fresh = g.session == nil; fresh {
		if g.session, err = g.s.connect(ctx); err != nil {
			return fresh, false, err
		}
	}
	t := &tx{s: g.s, ctx: ctx, session: g.session, instances: map[instanceKey]uint64{}, heads: map[headKey]*head{}}
	committing, err = t.all(jobs)
	if err != nil {
		if g.session.rollback(ctx) != nil || !g.s.d.pinned {
			g.session.discard()
			g.session = nil
		}
	}
	return fresh, committing, err
}
