package collateral

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/flight"
	"github.com/teebroker/teebroker/snp"
)

// Limits and times of a [Cache].
const (
	maxItem    = 1 << 20 // bytes of data, and of an issuer chain
	maxAnswers = 16      // candidates looked at under one name
	maxSame    = 4       // VEKs or lists kept under one name: AMD issues a VCEK anew when asked for

	daily       = 24 * time.Hour      // between looks for newer status
	retry       = 5 * time.Minute     // between tries at least
	ahead       = 30 * 24 * time.Hour // before the end of a VEK
	refreshWait = 5 * time.Second     // for the upstream when there is an answer at hand
)

// ErrOlder is wrapped if a Source answered with what is older than what it, or
// another, answered before. ErrEnded is if what there is can't be used at this time.
var (
	ErrOlder = errors.New("collateral: older than what was seen before")
	ErrEnded = errors.New("collateral: not current, and nothing newer to be had")
)

// CacheConfig says what a [Cache] keeps.
type CacheConfig struct {
	Upstream evidence.Source // who is asked for what is not at hand; required

	// AMD and Intel are the anchors that Verifiers have. Only what they stand
	// behind is kept; without those of a vendor, nothing of it is. One is required.
	AMD   []snp.Anchors
	Intel [][]byte

	// Dir, if not "", is a directory in which all that is kept outlives the process,
	// made with mode 0700 if it is not there. Processes may share it.
	Dir string

	// Time returns the time at which ends are judged. If nil, time.Now.
	Time func() time.Time

	// StaleGrace is how long past its nextUpdate a CRL, TCB Info or QE identity is
	// still handed out when nothing newer can be had. Verifiers have a grace of
	// their own, and those of SEV-SNP have none.
	StaleGrace time.Duration

	// MaxEntries and MaxBytes bound what is kept in memory. If zero, 4096 names and
	// 64 MiB. What was not used for longest goes first, and VEKs before status.
	MaxEntries int
	MaxBytes   int64

	// Report, unless nil, is told what went wrong without failing a Get: an upstream
	// out of reach while there was an answer at hand, an answer that was not kept, a
	// file that was ignored, a directory that can't be written. It may be called
	// concurrently and must not call the Cache.
	Report func(error)
}

// Cache keeps collateral before a Source that is slow, throttled or out of reach,
// in memory and, if asked, in a directory. It is safe for concurrent use.
//
// It knows from the anchors which collateral is genuine, and keeps nothing else:
// so nobody can put a forged set, however new it says it is, in the place of a
// genuine one, and what is kept can be compared. Of two signed sets the older never
// replaces the newer: TCB Info and QE identity go by evaluation number and then
// issueDate, lists by thisUpdate and then number. An answer that is genuine and
// older is an error. One that can't be told to be genuine is handed on, for the
// Verifier to say what is wrong with it, if nothing genuine was ever kept under its
// name; lists of the PCK CAs need their issuer chain for that.
//
// Status is looked for again when it is a day old, or a quarter of its remaining
// time if that is less, and what is at hand is used until it ends: an outage of
// hours is not felt. There are no goroutines: one Get in a while takes up to five
// seconds longer, unless [Cache.Refresh] is called often enough. Of several Gets
// that miss one name at a time one asks upstream; if it fails the others ask for
// themselves, as it may have had less time than they.
type Cache struct {
	cfg   CacheConfig
	trust *trust
	dir   *directory // nil for none

	mu      sync.Mutex
	entries map[string]*entry
	veks    *list.List // of *entry; the one used last is in front
	status  *list.List // likewise
	stats   Stats
	floor   uint64 // evaluation number that is served

	misses flight.Group[[]evidence.Collateral] // by name

	storedFloor uint64 // as the directory has it
	loading     bool   // not all that is held is known yet
}

// entry is what is kept under one name.
type entry struct {
	name  string
	items []item // newest first
	bytes int64
	place *list.Element

	due  time.Time // when to look for newer
	busy bool      // somebody does

	// answer is what is handed out from until.
	answer      []evidence.Collateral
	from, until time.Time
}

// Stats are counts since a Cache was made, and what it has now.
type Stats struct {
	Entries int   // names
	Bytes   int64 // in memory

	// EvaluationDataNumber is the least tcbEvaluationDataNumber that is handed out.
	EvaluationDataNumber uint32

	Hits       uint64 // answered without asking anyone
	Asked      uint64 // requests to upstream
	Failed     uint64 // of these without an answer
	Older      uint64 // answers that were older than what is kept
	Unverified uint64 // answers without an anchor behind them
	DirErrors  uint64 // files ignored, and writes that failed
}

// NewCache returns a Cache of what is in cfg.Dir, or an error that names the field
// of cfg at fault. Files that can't be used are reported and ignored.
func NewCache(cfg CacheConfig) (*Cache, error) {
	switch {
	case cfg.Upstream == nil:
		return nil, errors.New("collateral: CacheConfig.Upstream: none")
	case cfg.StaleGrace < 0:
		return nil, errors.New("collateral: CacheConfig.StaleGrace: negative")
	case cfg.MaxEntries < 0 || cfg.MaxBytes < 0:
		return nil, errors.New("collateral: CacheConfig.MaxEntries and MaxBytes: negative")
	}
	trust, err := newTrust(cfg.AMD, cfg.Intel)
	if err != nil {
		return nil, err
	}
	if cfg.MaxEntries == 0 {
		cfg.MaxEntries = 4096
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 64 << 20
	}
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	if cfg.Report == nil {
		cfg.Report = func(error) {}
	}
	cfg.AMD, cfg.Intel = nil, nil
	c := &Cache{cfg: cfg, trust: trust, entries: map[string]*entry{}, veks: list.New(), status: list.New()}
	if cfg.Dir == "" {
		return c, nil
	}
	if c.dir, err = openDirectory(cfg.Dir); err != nil {
		return nil, fmt.Errorf("collateral: CacheConfig.Dir: %w", err)
	}
	c.loadAll(cfg.Time())
	return c, nil
}

// Close closes the directory, if there is one. The Cache must not be used after.
func (c *Cache) Close() error {
	if c.dir == nil {
		return nil
	}
	return c.dir.root.Close()
}

// Stats returns counts, for metrics.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Entries, s.EvaluationDataNumber = len(c.entries), uint32(c.floor)
	return s
}

// Get implements [evidence.Source]. What it returns shares memory with c and must
// not be modified. An error wraps that of upstream, [ErrOlder] or [ErrEnded].
func (c *Cache) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	now := c.cfg.Time()
	answer, due := c.at(name, now)
	if answer != nil && !due {
		return answer, nil
	}
	if answer == nil && c.dir != nil {
		c.loadName(name, now)
		answer, due = c.at(name, now)
	}
	switch {
	case answer == nil:
		return c.miss(ctx, name, now)
	case due:
		wait, cancel := context.WithTimeout(ctx, refreshWait)
		defer cancel()
		if err := c.refresh(wait, name, now); err != nil {
			c.cfg.Report(fmt.Errorf("collateral: %s is used as it is: %w", name, err))
		}
		if newer, _ := c.at(name, now); newer != nil {
			return newer, nil
		}
	}
	return answer, nil
}

// at returns what is at hand under name, and whether the caller has to look for
// newer: then it must call refresh.
func (c *Cache) at(name string, now time.Time) (answer []evidence.Collateral, due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[name]
	if e == nil {
		return nil, false
	}
	c.listOf(e).MoveToFront(e.place)
	if answer = c.answerOf(e, now); answer == nil {
		return nil, false
	}
	if due = e.isDue(now); due {
		e.busy = true
	} else {
		c.stats.Hits++
	}
	return answer, due
}

// isDue reports whether e is to be looked at, which nobody does. A time far off is
// from before somebody put the clock back.
func (e *entry) isDue(now time.Time) bool {
	back := e.items[0].kind.status() && e.due.Sub(now) > daily
	return !e.busy && (back || !now.Before(e.due))
}

// answerOf returns what of e may be handed out at now, or nil.
func (c *Cache) answerOf(e *entry, now time.Time) []evidence.Collateral {
	if e.answer != nil && !now.Before(e.from) && now.Before(e.until) {
		return e.answer
	}
	e.answer = nil
	for _, x := range c.chosen(e, now) {
		if e.answer == nil || x.issued.After(e.from) {
			e.from = x.issued
		}
		if until := x.until(c.cfg.StaleGrace); e.answer == nil || until.Before(e.until) {
			e.until = until
		}
		e.answer = append(e.answer, x.Collateral)
	}
	e.answer = slices.Clip(e.answer)
	return e.answer
}

// chosen returns the items of e that may be used at now: of documents, those of
// the evaluation number that is served, or else of the highest above it.
func (c *Cache) chosen(e *entry, now time.Time) (xs []item) {
	if e.items[0].kind.document() {
		c.advance(now) // what was served may have ended
	}
	for _, x := range e.items {
		if !x.usable(now, c.cfg.StaleGrace) {
			continue
		}
		if !x.kind.document() {
			xs = append(xs, x)
			continue
		}
		switch n := x.number.Uint64(); {
		case n == c.floor:
			return []item{x}
		case n > c.floor && xs == nil:
			xs = []item{x}
		}
	}
	return xs
}

func (c *Cache) listOf(e *entry) *list.List {
	if e.items[0].kind.status() {
		return c.status
	}
	return c.veks
}
