package tdx_test

import (
	"slices"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
)

// A Baseline of its own registers accepts a genuine quote of a TD that is not under
// debug, if its status is UpToDate or, where that is left to the caller, listed.
func TestBaselineOfGenuineQuotes(t *testing.T) {
	accepted, refused := 0, 0
	for _, g := range genuineQuotes(t) {
		for _, set := range g.Collateral {
			if !set.Complete || !hasSet(t, set.Set) {
				continue
			}
			raw := g.raw(t)
			v := newVerifier(t, tdx.Config{Anchors: tdx.Intel(), Source: genuineSet(t, set.Set, fmspcOf(t, g.FMSPC)), Time: at(set.UseTime)})
			got, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw}, bound(t, raw))
			if err != nil {
				t.Fatal(err)
			}
			c, _ := tdx.ClaimsOf(got)
			rv := tdx.Baseline(c.MRTD(), c.RTMRs())
			var want []string
			if c.Attributes()&tdx.TUD != 0 {
				want = append(want, "tdx.td_attributes.debug")
				refused++
			}
			if c.TCB.Status != tdx.UpToDate {
				want = append(want, "tdx.tcb.status")
				refused++
			}
			var claims []string
			for _, m := range rv.Appraise(got) {
				claims = append(claims, m.Claim)
			}
			if !slices.Equal(claims, want) {
				t.Errorf("%s with %s: %v, want %v", g.Name, set.Set, claims, want)
			}
			rv.Statuses, rv.AllowDebug = evidence.OneOf(c.TCB.Status), true
			if ms := rv.Appraise(got); len(ms) != 0 {
				t.Errorf("%s with %s: %v", g.Name, set.Set, ms)
			}
			if want == nil {
				accepted++
			}
		}
	}
	if accepted == 0 || refused == 0 {
		t.Errorf("%d accepted, %d refused", accepted, refused)
	}
}
