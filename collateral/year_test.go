package collateral_test

import (
	"context"
	"errors"
	"math/big"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/kds"
	"github.com/teebroker/teebroker/snp/kds/kdstest"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/pcs"
	"github.com/teebroker/teebroker/tdx/pcs/pcstest"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

const day = 24 * time.Hour

// Days of the year that is simulated.
const (
	sickDays    = 20  // from here, services are broken in a new way every ten days, for a day and a half
	recovery    = 120 // Intel raises its demands; its QE identity follows an hour later
	rollback    = 130 // somebody shows what was before
	firmware    = 150 // machines of AMD get new firmware, one after the other
	revocation  = 200 // Intel revokes a platform
	rootRenewed = 331 // of which the list ends on day 336, five days later
	outage      = 340 // both services are gone for good
	end         = 375
)

// world is a site with a few machines, its cache, and the vendors.
type world struct {
	t     *testing.T
	start time.Time // of the bubble, which is now outside

	kds      *kdstest.Server
	pcs      *pcstest.Server
	cache    *collateral.Cache
	verifier evidence.Verifiers

	chips     []*snptest.Chip
	platforms []*tdxtest.Platform
	machines  []evidence.Evidence // of chips, then of platforms

	number  uint32
	revoked []*big.Int
	warned  time.Time // when the forecast had something within 14 days, first
}

// at returns the time in the world: what passes in the bubble, after now.
func (w *world) at() time.Time { return now.Add(time.Since(w.start)) }

// until sleeps until d days and h hours have passed.
func (w *world) until(d, h int) {
	time.Sleep(time.Until(w.start.Add(time.Duration(d)*day + time.Duration(h)*time.Hour)))
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, start: time.Now(), kds: kdstest.New(amd()), pcs: pcstest.New(intel()), number: 18}
	amdSource, err := kds.New(kds.Config{BaseURL: "https://kds.example", Client: w.kds.Client()})
	if err != nil {
		t.Fatal(err)
	}
	intelSource, err := pcs.New(pcs.Config{BaseURL: "https://pcs.example", Client: w.pcs.Client()})
	if err != nil {
		t.Fatal(err)
	}
	w.cache, err = collateral.NewCache(collateral.CacheConfig{
		Upstream: collateral.First(amdSource, intelSource), AMD: amd().Anchors(snp.Milan), Intel: intel().Anchors(), Time: w.at,
	})
	if err != nil {
		t.Fatal(err)
	}
	ofAMD, err := snp.NewVerifier(snp.Config{Anchors: amd().Anchors(snp.Milan), Source: w.cache, Time: w.at})
	if err != nil {
		t.Fatal(err)
	}
	ofIntel, err := tdx.NewVerifier(tdx.Config{Anchors: intel().Anchors(), Source: w.cache, Time: w.at})
	if err != nil {
		t.Fatal(err)
	}
	w.verifier = evidence.Verifiers{snp.Format: ofAMD, tdx.Format: ofIntel}
	for range 8 {
		w.chips = append(w.chips, amd().Chip(snp.Milan))
		w.machines = append(w.machines, bare(w.chips[len(w.chips)-1]))
	}
	for range 2 {
		w.platforms = append(w.platforms, intel().Platform(tdx.PlatformCA))
		w.machines = append(w.machines, w.platforms[len(w.platforms)-1].Quote(tdxtest.TD{}, fleetNonce()))
	}
	w.pcs.Publish(rootName, intelList(tdxtest.Root, now.AddDate(0, 0, -29), 365))
	w.publish(0)
	return w
}

// publish is what the vendors do at the begin of day d.
func (w *world) publish(d int) {
	today := w.at()
	if d%7 == 0 {
		w.kds.PublishList(snp.Milan, today)
	}
	w.pcs.Publish(pckName, intel().SignCRL(tdxtest.CRL{By: tdxtest.PlatformCA, ThisUpdate: today, Revoked: w.revoked}))
	w.publishInfo(today)
	w.publishIdentity(today)
}

func (w *world) publishInfo(at time.Time) {
	i := intel().TCBInfo(tdxtest.FMSPC(tdx.PlatformCA))
	i.Number, i.Issued, i.NextUpdate = w.number, at, at.AddDate(0, 0, 30)
	if w.number > 18 {
		i.Levels[0].TCB.SGX[0].SVN++
	}
	w.pcs.Publish(infoName, intel().SignTCBInfo(i))
}

func (w *world) publishIdentity(at time.Time) { w.pcs.Publish(qeName, identity(intel(), w.number, at)) }

// verify returns what is made of machine i, by somebody who waits a minute. What
// is accepted is never past its end.
func (w *world) verify(i int) (*evidence.Verified, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	v, err := w.verifier.Verify(ctx, w.machines[i], fleetNonce())
	if err == nil && v.NotAfter.Before(w.at()) {
		w.t.Errorf("%v: machine %d accepted on what ended at %v", w.at(), i, v.NotAfter)
	}
	return v, err
}

// look is what a site does now and then: it refreshes, looks at the forecast, and
// verifies all machines, of which those in but are refused for a reason.
func (w *world) look(d int, but map[int]error) {
	w.t.Helper()
	// What fails to be refreshed is at hand still: the machines will tell.
	_ = w.cache.Refresh(w.t.Context())
	if f := w.cache.Forecast().Before(w.at().Add(14 * day)); len(f) > 0 && w.warned.IsZero() {
		w.warned = w.at()
	} else if len(f) == 0 {
		w.warned = time.Time{}
	}
	for i := range w.machines {
		if _, err := w.verify(i); !errors.Is(err, but[i]) || (err == nil) != (but[i] == nil) {
			w.t.Errorf("day %d: machine %d: %v, want %v", d, i, err, but[i])
		}
	}
}

// tcb returns what platform i is said to be.
func (w *world) tcb(i int) tdx.TCB {
	w.t.Helper()
	v, err := w.verify(len(w.chips) + i)
	if err != nil {
		w.t.Fatalf("%v: platform %d: %v", w.at(), i, err)
	}
	c, _ := tdx.ClaimsOf(v)
	return c.TCB
}

// A year at a site: no outage that is not one, nothing accepted that has ended, and
// a warning two weeks ahead of each end.
func TestYear(t *testing.T) {
	amd()
	intel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.coldStart()
		for d := 1; d < outage; d++ {
			w.until(d, 0)
			w.publish(d)
			w.events(d)
			but := map[int]error{}
			if d >= revocation {
				but[len(w.chips)+1] = evidence.Revoked
			}
			w.until(d, 16)
			w.look(d, but)
			w.warnings(d)
		}
		w.gone()
	})
}

// coldStart starts all machines at once, while AMD answers one request in ten
// seconds, as it does all year. Whoever is refused comes again.
func (w *world) coldStart() {
	w.t.Helper()
	w.kds.Break(kdstest.Fault{Every: 10 * time.Second})
	for i := range w.machines {
		for {
			_, err := w.verify(i)
			if err == nil {
				break
			}
			if !errors.Is(err, evidence.Unavailable) {
				w.t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
	}
	if took := time.Since(w.start); took > time.Duration(len(w.chips)+3)*12*time.Second {
		w.t.Errorf("cold start took %v", took)
	}
}

// events are what happens on day d.
func (w *world) events(d int) {
	w.t.Helper()
	if d >= sickDays && d < recovery-10 {
		w.sickness(d)
	}
	switch {
	case d == recovery:
		w.recover(d)
	case d == rollback:
		w.rollback()
	case d > rollback && d < rollback+5:
		if got := w.tcb(0); got.EvaluationDataNumber != 19 {
			w.t.Errorf("day %d: number %d", d, got.EvaluationDataNumber)
		}
	case d >= firmware && d < firmware+len(w.chips):
		w.update(d - firmware)
	case d == revocation:
		w.revoked = []*big.Int{new(big.Int).SetBytes(w.platforms[1].PCK.Serial[:])}
		w.publish(d)
		w.until(d, 4) // lists are looked for each day at least, by Refresh
		_ = w.cache.Refresh(w.t.Context())
	case d == rootRenewed:
		w.pcs.Publish(rootName, intelList(tdxtest.Root, w.at(), 365))
	}
}

// sickness breaks both services from the begin of every tenth day for 36 hours.
func (w *world) sickness(d int) {
	faults := []kdstest.Fault{
		{Down: true},
		{Status: http.StatusServiceUnavailable},
		{Delay: time.Minute},
		{Truncated: true},
		{Bomb: true},
		{Wrong: func(string, []byte) []byte { return []byte("<html>") }},
		{Every: day},
		w.kds.Instead(w.chips[0]),
		{Status: http.StatusNotFound},
	}
	switch d % 10 {
	case 0:
		f := faults[(d-sickDays)/10%len(faults)]
		w.kds.Break(f)
		w.pcs.Break(f)
	case 1:
		w.until(d, 12)
		w.look(d, nil)
		w.mend()
	}
}

func (w *world) mend() {
	w.pcs.Mend()
	w.kds.Mend()
	w.kds.Break(kdstest.Fault{Every: 10 * time.Second})
}

// recover is a TCB recovery: nobody is refused meanwhile, and within a day all are
// judged by the new demands.
func (w *world) recover(d int) {
	w.t.Helper()
	if got := w.tcb(0); got.EvaluationDataNumber != 18 || got.Status != tdx.UpToDate {
		w.t.Errorf("before the recovery: %d, %v", got.EvaluationDataNumber, got.Status)
	}
	w.number = 19
	w.publishInfo(w.at())
	for h := range 24 {
		w.until(d, h)
		if h == 1 {
			w.publishIdentity(w.at())
		}
		_ = w.cache.Refresh(w.t.Context())
		w.tcb(0)
	}
	w.until(d+1, 1)
	_ = w.cache.Refresh(w.t.Context())
	if got := w.tcb(0); got.EvaluationDataNumber != 19 || got.Status != tdx.OutOfDate {
		w.t.Errorf("a day after the recovery: %d, %v", got.EvaluationDataNumber, got.Status)
	}
}

// rollback shows what was current before the recovery, signed and in its month, for
// as long as the rest of the day. It is not taken.
func (w *world) rollback() {
	w.t.Helper()
	w.number = 18
	w.publishInfo(w.at().AddDate(0, 0, -11))
	w.publishIdentity(w.at().AddDate(0, 0, -11))
	w.number = 19
	_ = w.cache.Refresh(w.t.Context())
}

// update gives chip i new firmware: its next report has another TCB, and its VCEK
// is another.
func (w *world) update(i int) {
	c := w.chips[i]
	for _, tcb := range []*snp.TCB{&c.Current, &c.Committed, &c.Reported} {
		tcb.Microcode++
	}
	w.machines[i] = bare(c)
}

// warnings holds the forecast of day d to what will be: it is silent but for the
// list of the root, and of that it tells two weeks before the end.
func (w *world) warnings(d int) {
	w.t.Helper()
	const ends = 336 // of the list that the year began with
	switch warned := !w.warned.IsZero(); {
	case warned && (d < ends-14 || d > rootRenewed+1):
		w.t.Errorf("day %d: warned since %v", d, w.warned)
	case !warned && d > ends-14 && d < rootRenewed:
		w.t.Errorf("day %d: no warning of the end of the list of the root", d)
	}
}

// gone is the end: both services are gone for good. All that ends is told of two
// weeks before, and nothing is accepted after.
func (w *world) gone() {
	w.t.Helper()
	w.kds.Break(kdstest.Fault{Down: true})
	w.pcs.Break(pcstest.Fault{Down: true})
	w.warned = time.Time{}
	ended := map[int]time.Time{}
	for d := outage; d < end; d++ {
		w.until(d, 12)
		_ = w.cache.Refresh(w.t.Context())
		if len(w.cache.Forecast().Before(w.at().Add(14*day))) > 0 && w.warned.IsZero() {
			w.warned = w.at()
		}
		for i := range w.machines[:len(w.machines)-1] { // the last is revoked
			switch _, err := w.verify(i); {
			case err == nil && !ended[i].IsZero():
				w.t.Errorf("day %d: machine %d accepted again", d, i)
			case err != nil && ended[i].IsZero():
				ended[i] = w.at()
			}
		}
	}
	for i := range w.machines[:len(w.machines)-1] {
		switch at := ended[i]; {
		case at.IsZero():
			w.t.Errorf("machine %d accepted a month after the vendors were gone", i)
		case at.Before(now.Add((outage + 21) * day)):
			w.t.Errorf("machine %d refused on %v, when its lists were good", i, at)
		case w.warned.IsZero() || at.Sub(w.warned) < 14*day-12*time.Hour:
			w.t.Errorf("machine %d refused on %v, warned on %v", i, at, w.warned)
		}
	}
}
