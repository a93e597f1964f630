package tdx_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// ends are the four of collateral, with a way to set when each is issued and to
// be replaced.
var ends = map[string]func(f *fake, issued, next time.Time){
	"tcb of TCB Info": func(f *fake, issued, next time.Time) {
		f.info["issueDate"], f.info["nextUpdate"] = issued.Format(time.RFC3339), next.Format(time.RFC3339)
	},
	"tcb of QE Identity": func(f *fake, issued, next time.Time) {
		f.identity["issueDate"], f.identity["nextUpdate"] = issued.Format(time.RFC3339), next.Format(time.RFC3339)
	},
	"revocation of Root CA CRL": func(f *fake, issued, next time.Time) { f.rootCRL.ThisUpdate, f.rootCRL.NextUpdate = issued, next },
	"revocation of PCK CRL":     func(f *fake, issued, next time.Time) { f.pckCRL.ThisUpdate, f.pckCRL.NextUpdate = issued, next },
}

// Both ends of every validity count, and the grace moves one of them.
func TestCollateralIsCurrent(t *testing.T) {
	day := 24 * time.Hour
	for what, set := range ends {
		for _, c := range []struct {
			claim        string
			issued, next time.Duration // from today
			grace        time.Duration
			ok           bool
			age          time.Duration
		}{
			{"in the middle", -day, day, 0, true, 0},
			{"issued now", 0, day, 0, true, 0},
			{"issued in a second", time.Second, day, 0, false, 0},
			{"issued in a second, with grace", time.Second, day, 2 * day, false, 0},
			{"to be replaced now", -day, 0, 0, true, 0},
			{"to be replaced a second ago", -day, -time.Second, 0, false, 0},
			{"within the grace", -3 * day, -day, 2 * day, true, day},
			{"at the end of the grace", -3 * day, -2 * day, 2 * day, true, 2 * day},
			{"after the grace", -3 * day, -2*day - time.Second, 2 * day, false, 0},
		} {
			t.Run(what+" "+c.claim, func(t *testing.T) {
				f := newFake(t)
				set(f, today.Add(c.issued), today.Add(c.next))
				cfg := f.config()
				cfg.StaleGrace = c.grace
				got, err := f.verifyQuote(cfg, f.quote())
				check, field, _ := strings.Cut(what, " of ")
				if !c.ok {
					if e := wantRefused(t, got, err, evidence.Stale, check); e.Field != field {
						t.Errorf("field %s", e.Field)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				claims, _ := tdx.ClaimsOf(got)
				if claims.CollateralAge != c.age {
					t.Errorf("age %v, want %v", claims.CollateralAge, c.age)
				}
				if !got.NotAfter.Equal(today.Add(c.next + c.grace)) {
					t.Errorf("holds until %v", got.NotAfter)
				}
			})
		}
	}
}

// Of several the one issued last counts, wherever it stands.
func TestNewestCollateralCounts(t *testing.T) {
	f := newFake(t)
	older := f.source()
	ends["tcb of TCB Info"](f, today.Add(-time.Hour), today.AddDate(0, 0, 9))
	f.info["tcbLevels"].([]any)[1].(object)["tcbStatus"] = "SWHardeningNeeded"
	f.pckCRL.ThisUpdate, f.pckCRL.Revoked = today.Add(-time.Hour), nil
	newer := f.source()
	f.pckCRL.ThisUpdate = today.Add(-time.Minute)
	f.revokePCK()
	revoking := f.source()
	ends["tcb of TCB Info"](f, today.Add(time.Hour), today.AddDate(0, 0, 9))
	future := f.source()

	all := func(name string, sets ...files) []evidence.Collateral {
		var cs []evidence.Collateral
		for _, s := range sets {
			cs = append(cs, s[name]...)
		}
		return cs
	}
	info, crl := tdx.TCBInfoName(fakeFMSPC), tdx.PCKCRLName(tdx.PlatformCA)
	cfg := f.config()
	for _, order := range [][]files{{older, newer, future}, {future, newer, older}, {newer, older}} {
		s := f.source()
		s[info], s[crl] = all(info, order...), older[crl]
		cfg.Source = s
		got, err := f.verifyQuote(cfg, f.quote())
		if err != nil {
			t.Fatal(err)
		}
		if c, _ := tdx.ClaimsOf(got); c.TCB.Status != tdx.SWHardeningNeeded {
			t.Errorf("status %s is not that of the newest", c.TCB.Status)
		}
	}
	for _, order := range [][]files{{older, revoking, newer}, {revoking, newer, older}} {
		s := maps.Clone(older)
		s[crl] = all(crl, order...)
		cfg.Source = s
		got, err := f.verifyQuote(cfg, f.quote())
		wantRefused(t, got, err, evidence.Revoked, "revocation")
	}
}

// What was verified before is judged anew: by another time, and with other lists.
func TestRememberedCollateralIsJudgedAgain(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	now, source := today, f.source()
	cfg.Time, cfg.Source = func() time.Time { return now }, source
	v, raw := newVerifier(t, cfg), f.quote()
	ev := evidence.Evidence{Format: tdx.Format, Raw: raw}
	if _, err := v.Verify(t.Context(), ev, bound(t, raw)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{tdx.TCBInfoName(fakeFMSPC), tdx.QEIdentityName()} {
		issuer := source[name][0].Issuer
		source[name][0].Issuer = tdxtest.PEM(f.intel.Certificate(tdxtest.PlatformCA, nil), f.intel.Anchors()[0])
		got, err := v.Verify(t.Context(), ev, bound(t, raw))
		wantRefused(t, got, err, evidence.Unavailable, "tcb")
		source[name][0].Issuer = issuer
	}
	now = today.AddDate(0, 0, 25)
	got, err := v.Verify(t.Context(), ev, bound(t, raw))
	wantRefused(t, got, err, evidence.Stale, "tcb")
	now = today.AddDate(7, 0, 0)
	got, err = v.Verify(t.Context(), ev, bound(t, raw))
	wantRefused(t, got, err, evidence.Stale, "validity")
	now = today
	f.revokePCK()
	source[tdx.PCKCRLName(tdx.PlatformCA)] = f.source()[tdx.PCKCRLName(tdx.PlatformCA)]
	got, err = v.Verify(t.Context(), ev, bound(t, raw))
	wantRefused(t, got, err, evidence.Revoked, "revocation")
}

// A signed set of an earlier TCB recovery is refused if the caller knows better,
// and half of one always.
func TestEvaluationDataNumber(t *testing.T) {
	for _, c := range []struct {
		claim          string
		info, identity int
		least          uint32
		ok             bool
	}{
		{"no floor", 18, 18, 0, true},
		{"zero", 0, 0, 0, true},
		{"at the floor", 18, 18, 18, true},
		{"above the floor", 19, 19, 18, true},
		{"below the floor", 17, 17, 18, false},
		{"TCB Info of an earlier one", 17, 18, 0, false},
		{"QE identity of an earlier one", 18, 17, 0, false},
	} {
		f := newFake(t)
		f.info["tcbEvaluationDataNumber"], f.identity["tcbEvaluationDataNumber"] = c.info, c.identity
		cfg := f.config()
		cfg.MinEvaluationDataNumber = c.least
		got, err := f.verifyQuote(cfg, f.quote())
		if !c.ok {
			t.Run(c.claim, func(t *testing.T) { wantRefused(t, got, err, evidence.Stale, "tcb") })
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.claim, err)
			continue
		}
		if claims, _ := tdx.ClaimsOf(got); claims.TCB.EvaluationDataNumber != uint32(c.info) {
			t.Errorf("%s: %d", c.claim, claims.TCB.EvaluationDataNumber)
		}
	}
}

// Of the sets that a Source has, the newest counts that is whole and current, in
// whatever order its halves stand.
func TestNewestWholeSetCounts(t *testing.T) {
	n := newSimulatedIntel()
	info := func(number uint32, edit func(*tdxtest.TCBInfo)) evidence.Collateral {
		i := n.TCBInfo(tdxtest.FMSPC(tdx.PlatformCA))
		i.Number = number
		i.Issued = i.Issued.Add(-time.Duration(number) * time.Hour) // which does not count first
		if edit != nil {
			edit(&i)
		}
		return n.SignTCBInfo(i)
	}
	identity := func(number uint32, edit func(*tdxtest.QEIdentity)) evidence.Collateral {
		i := n.QEIdentity()
		i.Number = number
		if edit != nil {
			edit(&i)
		}
		return n.SignQEIdentity(i)
	}
	hour := simulatedNow().Add(-time.Hour)
	type set = []evidence.Collateral
	for _, c := range []struct {
		claim      string
		infos, ids set
		floor      uint32
		want       uint32 // 0 if refused
	}{
		{"standard alone", set{info(18, nil)}, set{identity(18, nil)}, 0, 18},
		{"early and standard", set{info(18, nil), info(19, nil)}, set{identity(18, nil), identity(19, nil)}, 0, 19},
		{"halves in another order", set{info(19, nil), info(18, nil)}, set{identity(18, nil), identity(19, nil)}, 0, 19},
		{"half of early", set{info(18, nil), info(19, nil)}, set{identity(18, nil)}, 0, 18},
		{"the other half of early", set{info(18, nil)}, set{identity(19, nil), identity(18, nil)}, 0, 18},
		{"half of early, and a floor", set{info(18, nil), info(19, nil)}, set{identity(18, nil)}, 19, 0},
		{"half of each", set{info(19, nil)}, set{identity(18, nil)}, 0, 0},
		{"at the floor", set{info(18, nil), info(19, nil)}, set{identity(18, nil), identity(19, nil)}, 19, 19},
		{"early not renewed", set{info(18, nil), info(19, func(i *tdxtest.TCBInfo) { i.NextUpdate = hour })}, set{identity(18, nil), identity(19, nil)}, 0, 18},
		{"early of the future", set{info(18, nil), info(19, nil)}, set{identity(18, nil), identity(19, func(i *tdxtest.QEIdentity) { i.Issued = simulatedNow().Add(time.Hour) })}, 0, 18},
		{"early for another platform", set{info(18, nil), info(19, func(i *tdxtest.TCBInfo) { i.PCEID = "0001" })}, set{identity(18, nil), identity(19, nil)}, 0, 18},
	} {
		t.Run(c.claim, func(t *testing.T) {
			s := simulate(n, tdx.PlatformCA)
			s.set[s.infoName()], s.set[tdx.QEIdentityName()] = c.infos, c.ids
			s.cfg.MinEvaluationDataNumber = c.floor
			got, err := s.verify(t)
			if c.want == 0 {
				wantRefused(t, got, err, evidence.Stale, "tcb")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if claims, _ := tdx.ClaimsOf(got); claims.TCB.EvaluationDataNumber != c.want {
				t.Errorf("of %d, want %d", claims.TCB.EvaluationDataNumber, c.want)
			}
		})
	}
}

// Only what is used counts for how long a result holds.
func TestUnusedSetsDoNotEndResults(t *testing.T) {
	s := simulate(newSimulatedIntel(), tdx.PlatformCA)
	whole, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	half := s.intel.TCBInfo(tdxtest.FMSPC(tdx.PlatformCA))
	half.Number, half.NextUpdate = 19, simulatedNow().Add(time.Minute)
	s.set[s.infoName()] = append(s.set[s.infoName()], s.intel.SignTCBInfo(half))
	got, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	if !got.NotAfter.Equal(whole.NotAfter) {
		t.Errorf("holds until %v, want %v", got.NotAfter, whole.NotAfter)
	}
}

// With two vendors configured, collateral of one says nothing about the other's
// platforms.
func TestTwoAnchors(t *testing.T) {
	one, two := newFake(t), newFake(t)
	two.setStatus("ConfigurationNeeded")
	two.qeLevels()[1].(object)["tcbStatus"] = "OutOfDate"
	cfg := one.config()
	cfg.Anchors = append(cfg.Anchors, two.intel.Anchors()[0])
	merged := one.source()
	for name, cs := range two.source() {
		merged[name] = append(merged[name], cs...)
	}
	cfg.Source = merged
	v := newVerifier(t, cfg)
	for f, want := range map[*fake]tdx.Status{one: tdx.UpToDate, two: tdx.OutOfDateConfigurationNeeded} {
		raw := f.quote()
		got, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw}, bound(t, raw))
		if err != nil {
			t.Fatal(err)
		}
		if c, _ := tdx.ClaimsOf(got); c.TCB.Status != want {
			t.Errorf("status %s, want %s", c.TCB.Status, want)
		}
	}
}

// Skipped checks are named, and their collateral is not asked for.
func TestSkipped(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	cfg.SkipRevocationUnsafe, cfg.SkipTCBUnsafe, cfg.Source = true, true, panics{}
	got, err := f.verifyQuote(cfg, f.quote())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Skipped) != 2 || got.Skipped[0] != "revocation" || got.Skipped[1] != "tcb" {
		t.Errorf("skipped %v", got.Skipped)
	}
	if c, _ := tdx.ClaimsOf(got); c.TCB.Status != "" {
		t.Errorf("status %q", c.TCB.Status)
	}
	cfg.SkipTCBUnsafe, cfg.Source = false, files{}
	got, err = f.verifyQuote(cfg, f.quote())
	e := wantRefused(t, got, err, evidence.Unavailable, "tcb")
	if len(e.Skipped) != 1 || e.Skipped[0] != "revocation" {
		t.Errorf("skipped before the failure: %v", e.Skipped)
	}
}
