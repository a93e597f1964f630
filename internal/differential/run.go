package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// comparison is what is compared: a lab of a TEE.
type comparison interface {
	// describe writes which evidence is used.
	describe(io.Writer)

	// try makes case index of seed and asks both for their verdict.
	try(seed, index uint64) outcome
}

// outcome is what came of a case.
type outcome struct {
	index uint64
	result
	reproduce func() string // the case in full
}

// plan is which cases to run, and how. The result depends on tee, seed, start and n
// only.
type plan struct {
	tee            string
	seed, start, n uint64
	workers        int

	progress io.Writer        // told at each tick how far it is
	ticks    <-chan time.Time // if nil, never
}

// run runs the cases from start up to but not including n, or as many of them as
// it can before ctx ends: then the cases run are still those from start on
// without a gap.
func (p plan) run(ctx context.Context, l comparison) *tally {
	t := newTally()
	var next atomic.Uint64
	next.Store(p.start)
	var wg sync.WaitGroup
	for range p.workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= p.n {
					return
				}
				t.add(l.try(p.seed, i))
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for {
		select {
		case <-p.ticks:
			fmt.Fprintln(p.progress, t.progress(p))
		case <-done:
			return t
		}
	}
}

// result is the two verdicts on a case, and what they make together.
type result struct {
	ours, theirs error
	class        class
	detail       string // the check that refused, or the explanation
}

// class is how two verdicts relate.
type class int

const (
	bothAccept class = iota
	bothRefuse
	onlyTheyAccept
	onlyWeAccept // and it is explained
	failure
)

// weigh returns what two verdicts make together. explain says why the other one
// refuses what we accept, if there is a known reason.
func weigh(ours, theirs error, explain func() (string, bool)) result {
	r := result{ours: ours, theirs: theirs}
	var refused *evidence.Error
	switch {
	case r.ours != nil && !errors.As(r.ours, &refused):
		r.class, r.detail = failure, "refused without saying which check"
	case r.ours == nil && r.theirs == nil:
		r.class = bothAccept
	case r.ours != nil && r.theirs != nil:
		r.class, r.detail = bothRefuse, refused.Check
	case r.ours != nil:
		r.class, r.detail = onlyTheyAccept, refused.Check
	default:
		var ok bool
		r.class = failure
		if r.detail, ok = explain(); ok {
			r.class = onlyWeAccept
		}
	}
	return r
}

// try implements comparison.
func (l *lab) try(seed, index uint64) outcome {
	c := l.generate(seed, index)
	r := l.judge(c)
	return outcome{index, r, func() string { return c.reproduce(r) }}
}

// judge asks both for their verdict.
func (l *lab) judge(c *testCase) result {
	theirs := theirs(c)
	return weigh(ours(c), theirs, func() (string, bool) { return explain(c, theirs) })
}
