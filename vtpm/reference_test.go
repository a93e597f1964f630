package vtpm_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

var _ policy.Rule = vtpm.ReferenceValues{}

// appraised is evidence of a guest with logs, and what is right for it.
func appraised(t testing.TB) (*evidence.Verified, *vtpm.Claims, vtpm.ReferenceValues) {
	t.Helper()
	w, want := theWorld(), sixtyFour(t)
	l := newLogged(events(), files()...)
	ev := w.svsm(l.tpm).Evidence(vtpmtest.Quote{}, want, eventLog(vtpmtest.EventLog(l.events...)), imaList(vtpmtest.IMAList(l.files...)))
	c, got := claimsOf(t, w.newVerifier(t, l.tpm), ev, want)
	var pcrs []vtpm.PCRRule
	for _, v := range c.PCRs {
		pcrs = append(pcrs, vtpm.PCRRule{PCR: v.PCR, Values: evidence.OneOf(v.Value)})
	}
	return got, c, vtpm.Baseline(pcrs...)
}

func sha256Of(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }

func goodFiles() map[string]evidence.Set[string] {
	return map[string]evidence.Set[string]{
		"/usr/bin/bash": evidence.OneOf(sha256Of("bash")),
		"/usr/bin/":     evidence.OneOf(sha256Of("space"), sha256Of("unsigned")),
	}
}

func TestAppraise(t *testing.T) {
	v, c, good := appraised(t)
	seven, ten := vtpm.PCR{Bank: vtpm.SHA256, Index: 7}, vtpm.PCR{Bank: vtpm.SHA256, Index: 10}
	quoted := func(p vtpm.PCR) vtpm.Octets { v, _ := c.PCR(p); return v }
	digest := func(s string) vtpm.Octets { d := sha256.Sum256([]byte(s)); return vtpm.Octets(d[:]) }
	ima := func(edit func(*vtpm.IMARules)) func(*vtpm.ReferenceValues) {
		return func(rv *vtpm.ReferenceValues) {
			rv.IMA = &vtpm.IMARules{Files: goodFiles()}
			edit(rv.IMA)
		}
	}
	rule := func(rv *vtpm.ReferenceValues, i int, set evidence.Set[vtpm.Octets]) {
		rv.PCRs = append([]vtpm.PCRRule(nil), rv.PCRs...)
		rv.PCRs[i].Values = set
	}
	ek, _ := c.EK()
	for name, tt := range map[string]struct {
		edit func(*vtpm.ReferenceValues)
		want string
	}{
		"baseline":                {func(*vtpm.ReferenceValues) {}, ""},
		"no link":                 {func(rv *vtpm.ReferenceValues) { rv.Links = evidence.Set[vtpm.Link]{} }, "vtpm.link: got ek, want one of []"},
		"another link":            {func(rv *vtpm.ReferenceValues) { rv.Links = evidence.OneOf(vtpm.LinkAK) }, "vtpm.link: got ek, want one of [ak]"},
		"another manifest":        {func(rv *vtpm.ReferenceValues) { rv.Manifests = evidence.OneOf(vtpm.AzureHCL1) }, "vtpm.manifest: got svsm-vtpm-0, want one of [azure-hcl-1]"},
		"this EK":                 {func(rv *vtpm.ReferenceValues) { rv.EKs = evidence.OneOf(vtpm.KeyDigest(ek.Key)) }, ""},
		"another EK":              {func(rv *vtpm.ReferenceValues) { rv.EKs = evidence.OneOf([32]byte{}) }, "vtpm.ek: got *"},
		"another AK":              {func(rv *vtpm.ReferenceValues) { rv.AKs = evidence.OneOf([32]byte{}) }, "vtpm.ak: got *"},
		"user data of others":     {func(rv *vtpm.ReferenceValues) { rv.UserData = evidence.Set[[64]byte]{} }, ""},
		"a PCR that nobody names": {func(rv *vtpm.ReferenceValues) { rv.PCRs = rv.PCRs[1:] }, fmt.Sprintf("vtpm.pcr.sha256.0: got %x, want one of []", string(c.PCRs[0].Value))},
		"and is allowed":          {func(rv *vtpm.ReferenceValues) { rv.PCRs, rv.AllowOtherPCRs = rv.PCRs[1:], true }, ""},
		"a PCR that is not quoted": {func(rv *vtpm.ReferenceValues) {
			rv.PCRs = append(rv.PCRs, vtpm.PCRRule{PCR: vtpm.PCR{Bank: vtpm.SHA384, Index: 0}, Values: evidence.Anything[vtpm.Octets]()})
		}, "vtpm.pcr.sha384.0: got absent, want one of []"},
		"another value": {func(rv *vtpm.ReferenceValues) { rule(rv, 10, evidence.OneOf(quoted(seven))) }, fmt.Sprintf("vtpm.pcr.sha256.10: got %x, want one of [%x]", string(quoted(ten)), string(quoted(seven)))},
		"events": {func(rv *vtpm.ReferenceValues) {
			rv.Events = []vtpm.EventRule{{PCR: seven, Digests: evidence.OneOf(digest("the key"), digest("secure boot is on"))}}
		}, ""},
		"an event that is not known": {func(rv *vtpm.ReferenceValues) {
			rv.Events = []vtpm.EventRule{{PCR: seven, Digests: evidence.OneOf(digest("the key"))}}
		}, "vtpm.events.sha256.7: got " + sha256Of("secure boot is on")[7:] + ", want one of [" + sha256Of("the key")[7:] + "]"},
		"events of a PCR without any": {func(rv *vtpm.ReferenceValues) {
			rv.Events = []vtpm.EventRule{{PCR: vtpm.PCR{Bank: vtpm.SHA256, Index: 1}, Digests: evidence.Anything[vtpm.Octets]()}}
		}, "vtpm.events.sha256.1: got absent, want one of []"},
		"files":        {ima(func(*vtpm.IMARules) {}), ""},
		"no files":     {ima(func(r *vtpm.IMARules) { r.Files = nil }), "vtpm.ima.file: got /usr/bin/bash " + sha256Of("bash") + ", want one of []; *"},
		"another file": {ima(func(r *vtpm.IMARules) { r.Files["/usr/bin/bash"] = evidence.OneOf(sha256Of("dash")) }), "vtpm.ima.file: got /usr/bin/bash " + sha256Of("bash") + ", want one of [" + sha256Of("dash") + "]"},
		"a folder that is not theirs": {ima(func(r *vtpm.IMARules) {
			delete(r.Files, "/usr/bin/")
			r.Files["/usr/"] = evidence.Anything[string]()
			r.Files["/usr/bin/with"] = evidence.Set[string]{}
		}), ""},
		"the longer folder": {ima(func(r *vtpm.IMARules) {
			r.Files["/usr/"] = evidence.Anything[string]()
			r.Files["/usr/bin/"] = evidence.Set[string]{}
		}), "vtpm.ima.file: got /usr/bin/with a space " + sha256Of("space") + ", want one of []; *"},
		"a safe clock": {func(rv *vtpm.ReferenceValues) { rv.RequireSafeClock = true }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			rv := good
			tt.edit(&rv)
			var lines []string
			for _, m := range rv.Appraise(v) {
				lines = append(lines, m.String())
			}
			got := strings.Join(lines, "; ")
			if prefix, open := strings.CutSuffix(tt.want, "*"); got != tt.want && (!open || !strings.HasPrefix(got, prefix)) {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
	if ms := (vtpm.ReferenceValues{}).Appraise(v); len(ms) < 4 {
		t.Errorf("the zero ReferenceValues: %v", ms)
	}
	if ms := good.Appraise(v.Layers[0]); len(ms) != 1 || ms[0].Claim != "format" {
		t.Errorf("a report is judged as a quote: %v", ms)
	}
	if ms := good.Appraise(nil); len(ms) != 1 || ms[0].Claim != "format" {
		t.Errorf("nothing is judged: %v", ms)
	}
}

// What logs leave open has to be allowed by name.
func TestAppraiseIMA(t *testing.T) {
	l := newLogged(nil, vtpmtest.IMAEntry{Violation: true, Path: "/x"})
	few := vtpmtest.Quote{Selection: []vtpm.BankSelection{{Bank: vtpm.SHA256, PCRs: []int{10}}}}
	c, err := l.verify(t, few, imaList(vtpmtest.IMAList(l.files...)))
	if err != nil {
		t.Fatal(err)
	}
	v := &evidence.Verified{Format: vtpm.Format, Claims: c}
	rv := vtpm.Baseline()
	rv.AllowOtherPCRs, rv.IMA = true, &vtpm.IMARules{}
	said := func(ms []evidence.Mismatch) string { return fmt.Sprint(ms) }
	if got := said(rv.Appraise(v)); got != "[vtpm.ima.boot_aggregate: got false, want equal true vtpm.ima.violations: got 1, want at most 0]" {
		t.Error(got)
	}
	rv.IMA = &vtpm.IMARules{AllowViolations: true, AllowUncheckedBootAggregate: true}
	if got := said(rv.Appraise(v)); got != "[]" {
		t.Error(got)
	}
	if c, err = l.verify(t, few); err != nil {
		t.Fatal(err)
	}
	v.Claims = c
	if got := said(rv.Appraise(v)); got != "[vtpm.ima.entries: got absent, want at least 1]" {
		t.Error(got)
	}
}

// A clock that is not safe, user data, and an EK that is not known.
func TestAppraiseOthers(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	a := w.azure()
	a.UserData = [64]byte{1}
	a.Runtime = func(b []byte) []byte { return []byte(strings.Replace(string(b), "HCLEkPub", "HCLOther", 1)) }
	_, v := claimsOf(t, w.newVerifier(t), a.Evidence(vtpmtest.Quote{Clock: vtpm.Clock{Time: 1}}, want), want)
	rv := vtpm.Baseline()
	rv.AllowOtherPCRs, rv.RequireSafeClock = true, true
	rv.EKs, rv.UserData = evidence.OneOf([32]byte{}), evidence.OneOf([64]byte{2})
	var claims []string
	for _, m := range rv.Appraise(v) {
		claims = append(claims, m.Claim)
	}
	if got := strings.Join(claims, " "); got != "vtpm.azure.user_data vtpm.ek vtpm.clock_safe" {
		t.Error(got)
	}
}

// The report below is judged as well, by a policy that has to name its format.
func TestPolicyJudgesTheReportBelow(t *testing.T) {
	w, want := theWorld(), sixtyFour(t)
	s := w.svsm(w.ecc)
	s.Guest.Policy = 1<<17 | snp.Debug
	_, v := claimsOf(t, w.newVerifier(t, w.ecc), s.Evidence(vtpmtest.Quote{}, want), want)
	rv := vtpm.Baseline()
	rv.AllowOtherPCRs = true
	p := &policy.Policy{Name: "p", Version: "1", Require: map[evidence.Format]policy.Rule{vtpm.Format: rv}}
	if a := policy.Appraise([]*evidence.Verified{v}, p); a.Accepted() {
		t.Error("a report that nobody judged is accepted")
	}
	below := snp.Baseline([]snp.Floor{w.chip.Floor()}, [48]byte{})
	p.Optional = map[evidence.Format]policy.Rule{snp.Format: below}
	a := policy.Appraise([]*evidence.Verified{v}, p)
	if err := a.Err(); a.Accepted() || !strings.Contains(fmt.Sprint(err), "snp.policy.debug") {
		t.Errorf("a guest that may be debugged: %v", err)
	}
	below.AllowDebug = true
	p.Optional[snp.Format] = below
	if a := policy.Appraise([]*evidence.Verified{v}, p); !a.Accepted() {
		t.Error(a.Err())
	}
}
