package ear_test

import (
	"crypto/elliptic"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// tee is one format: verified evidence as guests send it, good and debuggable, and
// reference values.
type tee struct {
	good, debugged    *evidence.Verified
	accepts           policy.Rule // good, and debugged as well
	asks              policy.Rule // another measurement
	claims            []string    // that asks refuses
	vector, vectorOff ear.Vector  // where all is accepted
}

func tees(t *testing.T) map[evidence.Format]tee {
	t.Helper()
	b, err := evidence.NewBinding(challenge())
	check(t, err)
	verify := func(v evidence.Verifier, err error, ev evidence.Evidence) *evidence.Verified {
		t.Helper()
		check(t, err)
		got, err := v.Verify(t.Context(), ev, b)
		check(t, err)
		return got
	}
	amd, intel, arm := snptest.NewAMD(), tdxtest.NewIntel(), ccatest.NewPlatform()
	chip, machine := amd.Chip(snp.Genoa), intel.Platform(tdx.PlatformCA)
	inSNP, errSNP := snp.NewVerifier(snp.Config{Anchors: amd.Anchors(), Source: amd.Source()})
	inTDX, errTDX := tdx.NewVerifier(tdx.Config{Anchors: intel.Anchors(), Source: intel.Source()})
	inCCA, errCCA := cca.NewVerifier(cca.Config{Anchors: []cca.Anchor{arm.Anchor()}})

	realm := verify(inCCA, errCCA, arm.Token(ccatest.Realm{}, b))
	claims, _ := cca.ClaimsOf(realm)
	arm.Lifecycle = 0x4000

	rvSNP, rvTDX, rvCCA := snp.Baseline([]snp.Floor{chip.Floor()}, [48]byte{}), tdx.Baseline([48]byte{}, [4][48]byte{}), cca.Baseline([]cca.Platform{arm.Reference()}, claims.RIM)
	rvSNP.AllowDebug, rvTDX.AllowDebug, rvCCA.AllowDebug = true, true, true
	askSNP, askTDX, askCCA := rvSNP, rvTDX, rvCCA
	askSNP.Measurements, askTDX.MRTD, askCCA.RIMs = evidence.OneOf([48]byte{1}), evidence.OneOf([48]byte{1}), evidence.OneOf(cca.Octets("x"))

	whole := ear.Vector{ear.InstanceIdentity: 2, ear.Configuration: 2, ear.Executables: 3, ear.Hardware: 2, ear.RuntimeOpaque: 2}
	seen, isolated := whole, whole
	seen[ear.RuntimeOpaque], isolated[ear.RuntimeOpaque] = 96, 0
	return map[evidence.Format]tee{
		snp.Format: {
			verify(inSNP, errSNP, chip.Report(snptest.Guest{}, b)), verify(inSNP, errSNP, chip.Report(snptest.Guest{Policy: 0xB0000}, b)),
			rvSNP, askSNP,
			[]string{"snp.measurement"},
			whole, seen,
		},
		tdx.Format: {
			verify(inTDX, errTDX, machine.Quote(tdxtest.TD{}, b)), verify(inTDX, errTDX, machine.Quote(tdxtest.TD{Attributes: tdx.Debug}, b)),
			rvTDX, askTDX,
			[]string{"tdx.mrtd"},
			whole, seen,
		},
		cca.Format: {realm, verify(inCCA, errCCA, arm.Token(ccatest.Realm{}, b)), rvCCA, askCCA, []string{"cca.rim"}, isolated, seen},
	}
}

// What the formats verify and refuse is said by the claims that they really make: good
// guests are affirmed, others not, and debuggable ones not even where that is allowed.
func TestFormats(t *testing.T) {
	all := tees(t)
	for _, f := range slices.Sorted(maps.Keys(all)) {
		tt := all[f]
		for _, profile := range profiles() {
			k := newKey(t, elliptic.P256())
			clock := func() time.Time { return tt.good.CheckedAt }
			icfg, rcfg := issuerConfig(k, profile), readerConfig(k)
			icfg.Time, rcfg.Time = clock, clock
			i, err := ear.NewIssuer(icfg)
			check(t, err)
			r, err := ear.NewReader(rcfg)
			check(t, err)
			for _, c := range []struct {
				what    string
				v       *evidence.Verified
				rule    policy.Rule
				status  ear.Tier
				vector  ear.Vector
				reasons []string
			}{
				{"good", tt.good, tt.accepts, ear.Affirming, tt.vector, nil},
				{"debuggable, and accepted", tt.debugged, tt.accepts, ear.Contraindicated, tt.vectorOff, nil},
				{"measured otherwise", tt.good, tt.asks, ear.Warning, ear.Vector{
					ear.InstanceIdentity: 2, ear.Executables: 33, ear.RuntimeOpaque: tt.vector[ear.RuntimeOpaque],
				}, tt.claims},
			} {
				p := &policy.Policy{Name: "p", Version: "1", Document: []byte("d"), Require: map[evidence.Format]policy.Rule{f: c.rule}}
				a := policy.Appraise([]*evidence.Verified{c.v}, p)
				if a.Accepted() != (c.reasons == nil) {
					t.Fatalf("%s, %s: %v", f, c.what, a.Err())
				}
				token, err := i.Issue(result(a))
				check(t, err)
				e, err := r.Read(token, want())
				check(t, err)
				s := e.Submodules[0]
				if e.Status != c.status || s.Status != c.status || s.Vector != c.vector || !slices.Equal(s.Reasons, c.reasons) {
					t.Errorf("%s, %s: %v, %+v, want %v, %v, %v", f, c.what, e.Status, s, c.status, c.vector, c.reasons)
				}
				if fmt.Sprintf("%x", s.Signed[:32]) != fmt.Sprintf("%x", challenge()) || len(s.Signed) != 64 {
					t.Errorf("%s, %s: signed %x", f, c.what, s.Signed)
				}
			}
		}
	}
}
