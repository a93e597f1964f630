package collateral_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// infoOf returns a TCB Info of another kind of platform.
func infoOf(ca tdx.CA, number uint32, from time.Time) (string, evidence.Collateral) {
	i := intel().TCBInfo(tdxtest.FMSPC(ca))
	i.Number, i.Issued, i.NextUpdate = number, from, from.AddDate(0, 0, 30)
	return tdx.TCBInfoName(tdxtest.FMSPC(ca)), intel().SignTCBInfo(i)
}

// A TCB recovery reaches all documents at once, also if upstream has them one after
// the other: a Verifier never gets two of different numbers.
func TestCacheRecovery(t *testing.T) {
	v, c, dir := newVendor(), &clock{now}, t.TempDir()
	second, of := infoOf(tdx.ProcessorCA, 18, now)
	v.set(second, of)
	v.set(infoName, info(intel(), 18, now))
	v.set(qeName, identity(intel(), 18, now))
	cache := cacheOf(t, v, c, dir)
	names := []string{infoName, second, qeName}
	served := func(want uint32) {
		t.Helper()
		for _, name := range names {
			got, err := cache.Get(t.Context(), name)
			if err != nil {
				t.Fatal(name, err)
			}
			if h, _ := tdx.HeadOf(got[0].Data); len(got) != 1 || h.EvaluationDataNumber != want {
				t.Errorf("%s: %d of number %d, want %d", name, len(got), h.EvaluationDataNumber, want)
			}
		}
	}
	served(18)
	c.advance(25 * time.Hour)
	v.set(infoName, info(intel(), 19, c.at)) // the first of three
	served(18)
	c.advance(10 * time.Minute)
	v.set(qeName, identity(intel(), 19, c.at))
	served(18)
	c.advance(10 * time.Minute)
	cache = cacheOf(t, v, c, dir) // the next process knows as much
	served(18)
	_, of = infoOf(tdx.ProcessorCA, 19, c.at)
	v.set(second, of)
	c.advance(10 * time.Minute)
	if err := cache.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	served(19)

	// And nothing goes back, also if nothing but the number is left.
	v.set(infoName, info(intel(), 18, c.at))
	v.set(qeName, identity(intel(), 18, c.at))
	c.advance(25 * time.Hour)
	served(19)
	c.advance(60 * 24 * time.Hour)
	v.set(qeName, identity(intel(), 18, c.at))
	cache = cacheOf(t, v, c, dir)
	if n := cache.Stats().EvaluationDataNumber; n != 19 {
		t.Errorf("a new process starts at number %d", n)
	}
	refuses(t, cache, qeName, collateral.ErrOlder)
	fresh, of := infoOf(tdx.CA(0), 18, c.at) // of a kind of platform never seen before
	v.set(fresh, of)
	refuses(t, cache, fresh, collateral.ErrOlder)
}

// When one of the old documents ends, the Cache does not wait for the others.
func TestCacheRecoveryDoesNotWaitForEver(t *testing.T) {
	v, c := newVendor(), &clock{now}
	v.set(infoName, info(intel(), 18, now.AddDate(0, 0, -20)))
	v.set(qeName, identity(intel(), 18, now))
	cache := cacheOf(t, v, c, "")
	gets(t, cache, infoName, v.has[infoName][0].Data)
	gets(t, cache, qeName, v.has[qeName][0].Data)
	c.advance(25 * time.Hour)
	old := v.has[infoName][0].Data
	v.set(infoName, info(intel(), 19, c.at))
	gets(t, cache, infoName, old)
	c.advance(10 * 24 * time.Hour)
	gets(t, cache, infoName, v.has[infoName][0].Data)
	if n := cache.Stats().EvaluationDataNumber; n != 19 {
		t.Errorf("at %d", n)
	}
	refuses(t, cache, qeName, collateral.ErrOlder) // not one of 18 beside it
}

// An outage of hours is not felt, costs few requests, and its end is noticed.
func TestCacheOutage(t *testing.T) {
	v, c := newVendor(), &clock{now}
	cache := cacheOf(t, v, c, "")
	names := everything(v, now)
	get := func() {
		t.Helper()
		for _, name := range names {
			if _, err := cache.Get(t.Context(), name); err != nil {
				t.Fatal(c.at, name, err)
			}
		}
	}
	get()
	before := v.total()
	v.down = errDown
	for range 72 * 60 { // three days, a round each minute
		c.advance(time.Minute)
		get()
	}
	if asked := v.total() - before; asked > 5*48*12+10 {
		t.Errorf("%d requests to a vendor that is down", asked)
	}
	v.down = nil
	everything(v, c.at)
	c.advance(6 * time.Minute)
	get()
	gets(t, cache, milanCRL, v.has[milanCRL][0].Data)
}

// One Get in a while waits, if nobody calls Refresh; the others don't.
func TestCacheRefresh(t *testing.T) {
	v, c := newVendor(), &clock{now}
	cache := cacheOf(t, v, c, "")
	names := everything(v, now)
	for _, name := range names {
		gets(t, cache, name, v.has[name][0].Data)
	}
	before := v.total()
	if err := cache.Refresh(t.Context()); err != nil || v.total() != before {
		t.Errorf("nothing was due: %v, %d requests", err, v.total()-before)
	}
	c.advance(25 * time.Hour)
	everything(v, c.at)
	if err := cache.Refresh(t.Context()); err != nil || v.total() != before+5 {
		t.Errorf("all but the VCEK were due: %v, %d requests", err, v.total()-before)
	}
	for _, name := range names[1:] {
		gets(t, cache, name, v.has[name][0].Data)
	}
	if v.total() != before+5 {
		t.Error("a Get asked for what Refresh had")
	}
	c.advance(25 * time.Hour)
	v.down = errDown
	if err := cache.Refresh(t.Context()); !errors.Is(err, errDown) || !strings.Contains(err.Error(), milanCRL) {
		t.Errorf("down: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	c.advance(time.Hour)
	v.down = nil
	if err := cache.Refresh(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := cache.Refresh(t.Context()); err != nil {
		t.Errorf("after one that was cancelled: %v", err)
	}
	c.at = now.AddDate(6, 11, 15) // VCEKs have seven years
	before = v.asked[names[0]]
	_ = cache.Refresh(t.Context())
	if v.asked[names[0]] != before+1 {
		t.Error("a VCEK that ends is not asked for")
	}
}

// While one looks for newer, others get what there is.
func TestCacheOneLooks(t *testing.T) {
	v, c := newVendor(), &clock{now}
	v.set(milanCRL, amdList(now, 30))
	slow := &slowly{Source: v, entered: make(chan struct{}), leave: make(chan struct{})}
	cache := cacheOf(t, slow, c, "")
	go func() { <-slow.entered; slow.leave <- struct{}{} }()
	gets(t, cache, milanCRL, v.has[milanCRL][0].Data)
	c.at = now.Add(25 * time.Hour)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = cache.Get(context.Background(), milanCRL)
	}()
	<-slow.entered
	for range 100 {
		gets(t, cache, milanCRL, v.has[milanCRL][0].Data)
	}
	slow.leave <- struct{}{}
	<-done
	if v.asked[milanCRL] != 2 {
		t.Errorf("asked %d times", v.asked[milanCRL])
	}
}

// slowly is a Source that waits until it is told to go on.
type slowly struct {
	evidence.Source
	entered, leave chan struct{}
}

func (s *slowly) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	s.entered <- struct{}{}
	<-s.leave
	return s.Source.Get(ctx, name)
}

// A clock that jumps and comes back costs requests, and nothing that was kept.
func TestCacheClock(t *testing.T) {
	v, c, dir := newVendor(), &clock{now}, t.TempDir()
	cache := cacheOf(t, v, c, dir)
	names := everything(v, now.Add(-time.Hour))
	for _, name := range names {
		gets(t, cache, name, v.has[name][0].Data)
	}
	for _, jump := range []time.Duration{20 * 365 * 24 * time.Hour, -20 * 365 * 24 * time.Hour, -2 * time.Hour} {
		c.at = now.Add(jump)
		for _, s := range []*collateral.Cache{cache, cacheOf(t, v, c, dir)} {
			for _, name := range names[1:] {
				if got, err := s.Get(t.Context(), name); err == nil {
					t.Errorf("%v: %s: %d candidates that are not of this time", jump, name, len(got))
				}
			}
		}
		c.at = now.Add(time.Hour)
		v.down = errDown
		for _, s := range []*collateral.Cache{cache, cacheOf(t, v, c, dir)} {
			for _, name := range names {
				gets(t, s, name, v.has[name][0].Data)
			}
		}
		v.down = nil
	}
	// Put back by less than anything ends, it is not asked for years ahead.
	c.at = now.Add(28 * 24 * time.Hour)
	everything(v, c.at)
	_ = cache.Refresh(t.Context())
	c.at = now.Add(time.Hour)
	before := v.asked[milanCRL]
	v.set(milanCRL, amdList(now, 30))
	_, _ = cache.Get(t.Context(), milanCRL)
	if v.asked[milanCRL] == before {
		t.Error("nobody looks for newer until the clock is where it was")
	}
}

// Memory is bounded by names and by bytes; what goes is found in the directory.
func TestCacheBounded(t *testing.T) {
	v, c := newVendor(), &clock{now}
	var names []string
	for range 8 {
		chip := amd().Chip(snp.Milan)
		name := snp.VCEKName(chip.ID(), chip.Reported)
		v.set(name, evidence.Collateral{Data: amd().IssueVEK(chip.Key(), snptest.VEK{TCB: chip.Reported, Chip: chip.ID()})})
		names = append(names, name)
	}
	v.set(milanCRL, amdList(now, 30))
	for claim, limit := range map[string]func(*collateral.CacheConfig){
		"entries": func(cfg *collateral.CacheConfig) { cfg.MaxEntries = 3 },
		"bytes":   func(cfg *collateral.CacheConfig) { cfg.MaxBytes = 7000 },
	} {
		dir := t.TempDir()
		cache := cacheOf(t, v, c, dir, limit)
		gets(t, cache, milanCRL, v.has[milanCRL][0].Data)
		for _, name := range names {
			gets(t, cache, name, v.has[name][0].Data)
			if s := cache.Stats(); s.Entries > 3 || s.Bytes > 7000 {
				t.Errorf("%s: %+v", claim, s)
			}
		}
		if s := cache.Stats(); s.Entries < 2 {
			t.Errorf("%s: next to nothing is kept: %+v", claim, s)
		}
		hits := cache.Stats().Hits
		gets(t, cache, milanCRL, v.has[milanCRL][0].Data) // status outlives VEKs
		if cache.Stats().Hits != hits+1 {
			t.Errorf("%s: the list went before VEKs", claim)
		}
		before := v.total()
		for _, name := range names {
			gets(t, cache, name, v.has[name][0].Data)
		}
		if v.total() != before {
			t.Errorf("%s: upstream is asked for what is in the directory", claim)
		}
		v.asked = map[string]int{}
		small := cacheOf(t, v, c, "", limit) // without a directory it is asked again
		for range 2 {
			for _, name := range names {
				gets(t, small, name, v.has[name][0].Data)
			}
		}
		if v.total() != 16 {
			t.Errorf("%s: asked %d times", claim, v.total())
		}
	}
}

// A VCEK that AMD issued anew stands beside the one before, up to four.
func TestCacheVEKs(t *testing.T) {
	v, c := newVendor(), &clock{now}
	cache := cacheOf(t, v, c, t.TempDir())
	chip := amd().Chip(snp.Milan)
	name := snp.VCEKName(chip.ID(), chip.Reported)
	var all [][]byte
	for i := range 6 {
		cert := amd().IssueVEK(chip.Key(), snptest.VEK{TCB: chip.Reported, Chip: chip.ID(), Before: now.AddDate(0, 0, -10+i), After: now.AddDate(0, 0, 20)})
		all = append([][]byte{cert}, all...)
		v.set(name, evidence.Collateral{Data: cert})
		gets(t, cache, name, all[:min(len(all), 4)]...)
		c.advance(25 * time.Hour) // it is in its last month
	}
}
