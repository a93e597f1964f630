package collateral_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

var _ evidence.Source = (*collateral.Cache)(nil)

var intel = sync.OnceValue(simulatedIntel)

var errDown = errors.New("down")

// vendor is an upstream that can be told what to answer.
type vendor struct {
	mu    sync.Mutex
	has   collateral.Fixed
	down  error
	asked map[string]int
}

func newVendor() *vendor { return &vendor{has: collateral.Fixed{}, asked: map[string]int{}} }

func (v *vendor) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked[name]++
	if v.down != nil {
		return nil, v.down
	}
	return v.has.Get(ctx, name)
}

func (v *vendor) set(name string, cs ...evidence.Collateral) { v.has[name] = cs }

func (v *vendor) total() (n int) {
	for _, asked := range v.asked {
		n += asked
	}
	return n
}

// clock is the time of a Cache.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

// reports are what a Cache reported.
type reports struct {
	mu   sync.Mutex
	errs []error
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

func (r *reports) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprint(errors.Join(r.errs...))
}

// cacheOf returns a Cache of v in dir, with all simulated anchors.
func cacheOf(t testing.TB, v evidence.Source, c *clock, dir string, more ...func(*collateral.CacheConfig)) *collateral.Cache {
	t.Helper()
	cfg := collateral.CacheConfig{Upstream: v, AMD: amd().Anchors(snp.Milan), Intel: intel().Anchors(), Dir: dir, Time: c.now}
	for _, m := range more {
		m(&cfg)
	}
	cache, err := collateral.NewCache(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	return cache
}

// gets fails t unless s has data under name.
func gets(t testing.TB, s evidence.Source, name string, want ...[]byte) {
	t.Helper()
	got, err := s.Get(t.Context(), name)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d candidates, want %d", name, len(got), len(want))
		return
	}
	for i := range got {
		if !bytes.Equal(got[i].Data, want[i]) {
			t.Errorf("%s: candidate %d is another", name, i)
		}
	}
}

// refuses fails t unless s fails with want under name.
func refuses(t testing.TB, s evidence.Source, name string, want error) {
	t.Helper()
	if got, err := s.Get(t.Context(), name); !errors.Is(err, want) || got != nil {
		t.Errorf("%s: %d candidates, %v, want %v", name, len(got), err, want)
	}
}

var (
	milanCRL = snp.CRLName(snp.Milan, snp.VCEK)
	infoName = tdx.TCBInfoName(tdxtest.FMSPC(tdx.PlatformCA))
	qeName   = tdx.QEIdentityName()
	pckName  = tdx.PCKCRLName(tdx.PlatformCA)
	rootName = tdx.RootCRLName()
)

func amdList(from time.Time, days int) evidence.Collateral {
	return evidence.Collateral{Data: amd().IssueCRL(snptest.CRL{Line: snp.Milan, ThisUpdate: from, NextUpdate: from.AddDate(0, 0, days)})}
}

func intelList(by tdxtest.Authority, from time.Time, days int) evidence.Collateral {
	return intel().SignCRL(tdxtest.CRL{By: by, ThisUpdate: from, NextUpdate: from.AddDate(0, 0, days)})
}

func info(n *tdxtest.Intel, number uint32, from time.Time) evidence.Collateral {
	i := n.TCBInfo(tdxtest.FMSPC(tdx.PlatformCA))
	i.Number, i.Issued, i.NextUpdate = number, from, from.AddDate(0, 0, 30)
	return n.SignTCBInfo(i)
}

func identity(n *tdxtest.Intel, number uint32, from time.Time) evidence.Collateral {
	q := n.QEIdentity()
	q.Number, q.Issued, q.NextUpdate = number, from, from.AddDate(0, 0, 30)
	return n.SignQEIdentity(q)
}

// everything fills v with one piece of each kind, issued at from, and returns their names.
func everything(v *vendor, from time.Time) []string {
	chip := amd().Chip(snp.Milan)
	vcek := snp.VCEKName(chip.ID(), chip.Reported)
	v.set(vcek, evidence.Collateral{Data: amd().IssueVEK(chip.Key(), snptest.VEK{TCB: chip.Reported, Chip: chip.ID()})})
	v.set(milanCRL, amdList(from, 30))
	v.set(infoName, info(intel(), 18, from))
	v.set(qeName, identity(intel(), 18, from))
	v.set(pckName, intelList(tdxtest.PlatformCA, from, 30))
	v.set(rootName, intelList(tdxtest.Root, from, 365))
	return []string{vcek, milanCRL, infoName, qeName, pckName, rootName}
}

// What was asked for once is not asked for again, by this process or the next, and
// not missed when upstream is down.
func TestCacheKeeps(t *testing.T) {
	v, c, dir := newVendor(), &clock{now}, t.TempDir()
	names := everything(v, now)
	for _, cache := range []*collateral.Cache{cacheOf(t, v, c, dir), cacheOf(t, v, c, dir)} {
		for range 3 {
			for _, name := range names {
				gets(t, cache, name, v.has[name][0].Data)
			}
		}
		if s := cache.Stats(); s.Entries != len(names) || s.EvaluationDataNumber != 18 {
			t.Errorf("%+v", s)
		}
	}
	if v.asked[names[0]] != 1 {
		t.Errorf("the VCEK was asked for %d times", v.asked[names[0]])
	}
	for _, name := range names[1:] { // how old it is, the next process does not know
		if v.asked[name] != 2 {
			t.Errorf("%s was asked for %d times", name, v.asked[name])
		}
	}
	v.down = errDown
	last, r := 0, &reports{}
	cache := cacheOf(t, v, c, dir, func(cfg *collateral.CacheConfig) { cfg.Report = r.add })
	for range 3 {
		for _, name := range names {
			gets(t, cache, name, v.has[name][0].Data)
		}
	}
	if last = v.total(); last != 1+3*(len(names)-1) {
		t.Errorf("asked %d times: a vendor that is down is asked again at once", last)
	}
	if len(r.errs) != len(names)-1 {
		t.Errorf("reports: %v", r.errs)
	}
}

// An unknown name is unknown, and failures are those of upstream.
func TestCacheMisses(t *testing.T) {
	v := newVendor()
	cache := cacheOf(t, v, &clock{now}, t.TempDir())
	refuses(t, cache, milanCRL, evidence.ErrNotFound)
	v.down = errDown
	refuses(t, cache, milanCRL, errDown)
	v.down = nil
	v.has[milanCRL] = nil
	refuses(t, cache, milanCRL, evidence.ErrNotFound)
}

// Of two signed sets the older never replaces the newer: not as the next answer, not
// after the newer has ended, not after a restart, not by another process.
func TestCacheMonotone(t *testing.T) {
	day := 24 * time.Hour
	for _, tt := range []struct {
		name, ask  string
		newer, old evidence.Collateral
	}{
		{"list of AMD", milanCRL, amdList(now.Add(-day), 30), amdList(now.Add(-2*day), 400)},
		{"PCK list", pckName, intelList(tdxtest.PlatformCA, now.Add(-day), 30), intelList(tdxtest.PlatformCA, now.Add(-2*day), 400)},
		{"root list", rootName, intelList(tdxtest.Root, now.Add(-day), 30), intelList(tdxtest.Root, now.Add(-2*day), 400)},
		{"TCB Info by date", infoName, info(intel(), 18, now.Add(-day)), info(intel(), 18, now.Add(-2*day))},
		{"TCB Info by number", infoName, info(intel(), 18, now.Add(-2*day)), info(intel(), 17, now.Add(-day))},
		{"QE identity by date", qeName, identity(intel(), 18, now.Add(-day)), identity(intel(), 18, now.Add(-2*day))},
		{"QE identity by number", qeName, identity(intel(), 18, now.Add(-2*day)), identity(intel(), 17, now.Add(-day))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, other, c, dir := newVendor(), newVendor(), &clock{now}, t.TempDir()
			other.set(tt.ask, tt.old)
			early := cacheOf(t, other, c, dir) // has nothing yet
			v.set(tt.ask, tt.newer)
			cache := cacheOf(t, v, c, dir)
			gets(t, cache, tt.ask, tt.newer.Data)
			gets(t, early, tt.ask, tt.newer.Data) // of the directory
			v.set(tt.ask, tt.old)
			c.advance(25 * time.Hour)
			for _, s := range []*collateral.Cache{cache, early, cacheOf(t, v, c, dir)} {
				gets(t, s, tt.ask, tt.newer.Data)
				if s.Stats().Older == 0 {
					t.Error("the older was not offered")
				}
			}
			c.advance(31 * day)
			for _, s := range []*collateral.Cache{cache, early, cacheOf(t, v, c, dir)} {
				if got, err := s.Get(t.Context(), tt.ask); !errors.Is(err, collateral.ErrEnded) || got != nil {
					t.Errorf("after its end: %d, %v", len(got), err)
				}
			}
		})
	}
}

// What is newer replaces what is older at once, as soon as it is seen.
func TestCacheNewer(t *testing.T) {
	v, c := newVendor(), &clock{now}
	cache := cacheOf(t, v, c, "")
	for i := range 5 {
		v.set(milanCRL, amdList(c.at, 30))
		v.set(infoName, info(intel(), 18+uint32(i), c.at))
		gets(t, cache, milanCRL, v.has[milanCRL][0].Data)
		gets(t, cache, infoName, v.has[infoName][0].Data)
		c.advance(25 * time.Hour)
	}
	if s := cache.Stats(); s.EvaluationDataNumber != 22 || s.Entries != 2 {
		t.Errorf("%+v", s)
	}
}

// Nobody can lock out genuine sets with one that is forged, however new it says it
// is; and the forged one is the Verifier's to refuse.
func TestCacheForged(t *testing.T) {
	stranger, other := simulatedIntel(), snptest.NewAMD()
	other.Time = func() time.Time { return now }
	far := now.Add(-time.Minute)
	chip := amd().Chip(snp.Milan)
	vcek := snp.VCEKName(chip.ID(), chip.Reported)
	someoneElse := amd().Chip(snp.Milan)
	tampered := amdList(far, 30)
	tampered.Data = bytes.Clone(tampered.Data)
	tampered.Data[len(tampered.Data)-1] ^= 1
	edited := info(intel(), 18, far)
	edited.Data = bytes.Replace(edited.Data, []byte(`"tcbEvaluationDataNumber":18`), []byte(`"tcbEvaluationDataNumber":99`), 1)
	noChain := intelList(tdxtest.PlatformCA, far, 30)
	noChain.Issuer = nil
	notSelfSigned := info(stranger, 4000000000, far)
	notSelfSigned.Issuer = tdxtest.PEM(stranger.Certificate(tdxtest.TCBSigning, nil),
		stranger.Certificate(tdxtest.Root, func(c *tdxtest.Certificate) { c.Issuer = tdxtest.Name("Somebody") }))
	for _, tt := range []struct {
		name, ask string
		forged    evidence.Collateral
		genuine   evidence.Collateral
	}{
		{"TCB Info below another root", infoName, info(stranger, 4000000000, far), info(intel(), 18, now.Add(-time.Hour))},
		{"TCB Info below another root that is not self-signed", infoName, notSelfSigned, info(intel(), 18, now.Add(-time.Hour))},
		{"QE identity below another root", qeName, identity(stranger, 4000000000, far), identity(intel(), 18, now.Add(-time.Hour))},
		{"TCB Info that was changed", infoName, edited, info(intel(), 18, now.Add(-time.Hour))},
		{"PCK list below another root", pckName, stranger.SignCRL(tdxtest.CRL{By: tdxtest.PlatformCA, ThisUpdate: far}), intelList(tdxtest.PlatformCA, now.Add(-time.Hour), 30)},
		{"PCK list without its chain", pckName, noChain, intelList(tdxtest.PlatformCA, now.Add(-time.Hour), 30)},
		{"root list of another root", rootName, stranger.SignCRL(tdxtest.CRL{ThisUpdate: far}), intelList(tdxtest.Root, now.Add(-time.Hour), 30)},
		{"list that was changed", milanCRL, tampered, amdList(now.Add(-time.Hour), 30)},
		{"list of another AMD", milanCRL, evidence.Collateral{Data: other.IssueCRL(snptest.CRL{Line: snp.Milan, ThisUpdate: far})}, amdList(now.Add(-time.Hour), 30)},
		{"VCEK of another AMD", vcek, evidence.Collateral{Data: other.IssueVEK(chip.Key(), snptest.VEK{TCB: chip.Reported, Chip: chip.ID()})}, evidence.Collateral{Data: amd().IssueVEK(chip.Key(), snptest.VEK{TCB: chip.Reported, Chip: chip.ID()})}},
		{"VCEK of another chip", vcek, evidence.Collateral{Data: amd().IssueVEK(someoneElse.Key(), snptest.VEK{TCB: chip.Reported, Chip: someoneElse.ID()})}, evidence.Collateral{Data: amd().IssueVEK(chip.Key(), snptest.VEK{TCB: chip.Reported, Chip: chip.ID()})}},
		{"rubbish", vcek, evidence.Collateral{Data: []byte("<html>sorry</html>")}, evidence.Collateral{Data: amd().IssueVEK(chip.Key(), snptest.VEK{TCB: chip.Reported, Chip: chip.ID()})}},
		{"list from the future", milanCRL, amdList(now.AddDate(0, 1, 0), 30), amdList(now.Add(-time.Hour), 30)},
		{"TCB Info from the future", infoName, info(intel(), 18, now.AddDate(0, 1, 0)), info(intel(), 18, now.Add(-time.Hour))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, c, dir := newVendor(), &clock{now}, t.TempDir()
			v.set(tt.ask, tt.forged)
			cache := cacheOf(t, v, c, dir)
			for range 2 {
				gets(t, cache, tt.ask, tt.forged.Data) // handed on
			}
			if s := cache.Stats(); s.Entries != 0 || v.total() != 2 || s.EvaluationDataNumber != 0 {
				t.Errorf("kept: %+v", s)
			}
			v.set(tt.ask, tt.genuine)
			gets(t, cache, tt.ask, tt.genuine.Data)
			v.set(tt.ask, tt.forged)
			c.advance(25 * time.Hour)
			gets(t, cache, tt.ask, tt.genuine.Data)
			c.at = now
			gets(t, cacheOf(t, v, c, dir), tt.ask, tt.genuine.Data)
		})
	}
}

// Once something genuine was seen, what can't be told to be genuine is not handed
// on: an older list without its chain could be just that.
func TestCacheStripped(t *testing.T) {
	v, c := newVendor(), &clock{now}
	cache := cacheOf(t, v, c, "")
	v.set(pckName, intelList(tdxtest.PlatformCA, now, 30))
	gets(t, cache, pckName, v.has[pckName][0].Data)
	stripped := intelList(tdxtest.PlatformCA, now.AddDate(0, 0, -5), 400)
	stripped.Issuer = nil
	v.set(pckName, stripped)
	c.advance(31 * 24 * time.Hour)
	refuses(t, cache, pckName, collateral.ErrEnded)
}

// Status is not handed out past its end without a grace, and VEKs never.
func TestCacheGrace(t *testing.T) {
	for _, grace := range []time.Duration{0, 48 * time.Hour} {
		v, c := newVendor(), &clock{now}
		cache := cacheOf(t, v, c, t.TempDir(), func(cfg *collateral.CacheConfig) { cfg.StaleGrace = grace })
		names := everything(v, now)
		ends := map[string]time.Time{}
		for _, name := range names {
			gets(t, cache, name, v.has[name][0].Data)
		}
		for _, e := range cache.Forecast() {
			ends[e.Name] = e.Ends
		}
		v.down = errDown
		for _, name := range names {
			end := ends[name]
			if name != names[0] {
				end = end.Add(grace)
			}
			c.at = end.Add(-time.Second)
			gets(t, cache, name, v.has[name][0].Data)
			c.at = end
			refuses(t, cache, name, errDown)
			refuses(t, cache, name, collateral.ErrEnded)
		}
	}
}

// Several lists of AMD in one answer stay together: nobody can tell which is the
// one for VCEKs.
func TestCacheSeveralLists(t *testing.T) {
	v, c, dir := newVendor(), &clock{now}, t.TempDir()
	one, two := amdList(now.Add(-time.Hour), 30), amdList(now.Add(-2*time.Hour), 30)
	v.set(milanCRL, two, one)
	gets(t, cacheOf(t, v, c, dir), milanCRL, one.Data, two.Data)
	v.down = errDown
	gets(t, cacheOf(t, v, c, dir), milanCRL, one.Data, two.Data)
}

func TestNewCacheRefuses(t *testing.T) {
	file := write(t, map[string][]byte{"f": nil}) + "/f"
	for name, change := range map[string]func(*collateral.CacheConfig){
		"no upstream":            func(c *collateral.CacheConfig) { c.Upstream = nil },
		"no anchors":             func(c *collateral.CacheConfig) { c.AMD, c.Intel = nil, nil },
		"anchors that are none":  func(c *collateral.CacheConfig) { c.Intel = [][]byte{{1}} },
		"half of AMD":            func(c *collateral.CacheConfig) { c.AMD = []snp.Anchors{{Line: snp.Milan}} },
		"negative grace":         func(c *collateral.CacheConfig) { c.StaleGrace = -1 },
		"negative entries":       func(c *collateral.CacheConfig) { c.MaxEntries = -1 },
		"negative bytes":         func(c *collateral.CacheConfig) { c.MaxBytes = -1 },
		"directory that is none": func(c *collateral.CacheConfig) { c.Dir = file },
	} {
		cfg := collateral.CacheConfig{Upstream: newVendor(), AMD: amd().Anchors(snp.Milan), Intel: intel().Anchors()}
		if _, err := collateral.NewCache(cfg); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		if c, err := collateral.NewCache(cfg); err == nil || c != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
