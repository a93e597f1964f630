package policy_test

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
)

type rules = map[evidence.Format]policy.Rule

func TestAppraise(t *testing.T) {
	type evs = []*evidence.Verified
	type scopes = []*policy.Policy
	needs := func(n uint64) *policy.Policy {
		return &policy.Policy{Name: "p", Version: "1", Require: rules{"f": svn(n)}}
	}
	instance := &policy.Policy{Name: "i", Version: "2", Scope: policy.Instance, Require: rules{"f": svn(5)}}
	optional := &policy.Policy{Name: "p", Version: "1", Require: rules{"f": svn(1)}, Optional: rules{"g": svn(1)}}
	edited := func(edit func(*evidence.Verified)) evs { v := verified("f", 5); edit(v); return evs{v} }
	skip := func(allow ...string) *policy.Policy { p := needs(1); p.AllowSkipped = allow; return p }
	over := func(l *evidence.Verified) evs { return edited(func(v *evidence.Verified) { v.Layers = evs{l} }) }

	for _, tt := range []struct {
		name   string
		got    evs
		scopes scopes
		want   string // every mismatch with its rule; nothing if accepted
	}{
		{"accepted", one(verified("f", 5)), scopes{needs(5)}, ""},
		{"accepted by all scopes", one(verified("f", 5)), scopes{needs(1), instance}, ""},
		{"one global", one(verified("f", 4)), scopes{needs(5)}, "p@1 svn: got 4, want at least 5"},
		{"the narrower refuses", one(verified("f", 4)), scopes{needs(1), instance}, "i@2 svn: got 4, want at least 5"},
		{"the wider refuses", one(verified("f", 5)), scopes{needs(9), instance}, "p@1 svn: got 5, want at least 9"},
		{"both refuse", one(verified("f", 1)), scopes{needs(9), instance}, "p@1 svn: got 1, want at least 9; i@2 svn: got 1, want at least 5"},

		{"no scope", one(verified("f", 5)), nil, "always scope: got absent, want equal global"},
		{"a narrow scope alone", one(verified("f", 5)), scopes{instance}, "always scope: got absent, want equal global"},
		{"an unknown scope alone", one(verified("f", 5)), scopes{{Name: "u", Version: "3", Scope: "fleet", Require: rules{"f": svn(1)}}}, "always scope: got absent, want equal global"},
		{"a nil policy", one(verified("f", 5)), scopes{needs(1), nil}, "always policy: got absent, want equal global"},
		{"a nil policy alone", one(verified("f", 5)), scopes{nil}, "always policy: got absent, want equal global; always scope: got absent, want equal global"},
		{"the zero policy", one(verified("f", 5)), scopes{{}}, "@ format: got f, want one of []"},

		{"no evidence", nil, scopes{needs(1)}, "p@1 format: got absent, want equal f; always evidence: got 0, want equal 1"},
		{"no evidence, none required", nil, scopes{{Name: "p", Version: "1", Optional: rules{"f": svn(1)}}}, "always evidence: got 0, want equal 1"},
		{"nil evidence", evs{verified("f", 5), nil}, scopes{needs(1)}, "always evidence: got absent, want equal true"},
		{"nil evidence twice", evs{nil, nil}, scopes{optional}, "p@1 format: got absent, want equal f; always evidence: got absent, want equal true; always evidence: got absent, want equal true"},

		{"optional and there", evs{verified("f", 5), verified("g", 5)}, scopes{optional}, ""},
		{"optional and not acceptable", evs{verified("f", 5), verified("g", 0)}, scopes{optional}, "p@1 svn: got 0, want at least 1"},
		{"only the optional", evs{verified("g", 5)}, scopes{optional}, "p@1 format: got absent, want equal f"},
		{"not admitted", evs{verified("f", 5), verified("h", 5)}, scopes{optional}, "p@1 format: got h, want one of [f g]"},
		{"not admitted, formats in order", evs{verified("b", 5), verified("h", 5)}, scopes{{Name: "p", Version: "1", Require: rules{"b": svn(1)}, Optional: rules{"z": nil, "y": nil, "c": nil, "b": svn(1), "a": nil}}}, "p@1 format: got h, want one of [a b c y z]"},
		{"not admitted by the narrower", evs{verified("f", 5), verified("g", 5)}, scopes{optional, instance}, "i@2 format: got g, want one of [f]"},
		{"two of a format", evs{verified("f", 5), verified("f", 6)}, scopes{needs(1)}, "p@1 format: got f, want none of [f]"},
		{"the second of a format does not replace the first", evs{verified("f", 0), verified("f", 6)}, scopes{needs(1)}, "p@1 svn: got 0, want at least 1; p@1 format: got f, want none of [f]"},
		{"a nil rule", one(verified("f", 5)), scopes{{Name: "p", Version: "1", Require: rules{"f": nil}}}, "p@1 policy: got absent, want one of []"},
		{"a nil optional rule", one(verified("f", 5)), scopes{{Name: "p", Version: "1", Optional: rules{"f": nil}}}, "p@1 policy: got absent, want one of []"},
		{"in both lists", one(verified("f", 5)), scopes{{Name: "p", Version: "1", Require: rules{"f": svn(1)}, Optional: rules{"f": svn(6)}}}, "p@1 svn: got 5, want at least 6"},
		{
			"required formats in order",
			evs{verified("z", 5)},
			scopes{{Name: "p", Version: "1", Require: rules{"d": nil, "b": nil, "a": nil, "c": nil, "z": svn(1)}}},
			"p@1 format: got absent, want equal a; p@1 format: got absent, want equal b; p@1 format: got absent, want equal c; p@1 format: got absent, want equal d",
		},

		{"unbound", edited(func(v *evidence.Verified) { v.Bound = false }), scopes{needs(1)}, "always bound: got false, want equal true"},
		{"unbound layer", over(edited(func(v *evidence.Verified) { v.Bound = false })[0]), scopes{needs(1)}, "always layer.bound: got false, want equal true"},
		{"unbound layer of a layer", over(over(edited(func(v *evidence.Verified) { v.Bound = false })[0])[0]), scopes{needs(1)}, "always layer.bound: got false, want equal true"},
		{"nil layer", over(nil), scopes{needs(1)}, "always evidence: got absent, want equal true"},
		{"bound layer", over(verified("f", 5)), scopes{needs(1)}, ""},
		{"layer of a format that may be there", over(verified("g", 5)), scopes{optional}, ""},
		{"layer that is not acceptable", over(verified("g", 0)), scopes{optional}, "p@1 svn: got 0, want at least 1"},
		{"layer of a layer that is not acceptable", over(over(verified("f", 0))[0]), scopes{needs(1)}, "p@1 svn: got 0, want at least 1"},
		{"layer that is not admitted", over(verified("h", 5)), scopes{optional}, "p@1 format: got h, want one of [f g]"},
		{"layer that the narrower does not admit", over(verified("g", 5)), scopes{optional, instance}, "i@2 format: got g, want one of [f]"},
		{"layer of what is required", edited(func(v *evidence.Verified) { v.Format, v.Layers = "g", one(verified("f", 5)) }), scopes{optional}, "p@1 format: got absent, want equal f"},

		{"skipped", edited(func(v *evidence.Verified) { v.Skipped = []string{"revocation"} }), scopes{needs(1)}, "p@1 skipped: got revocation, want one of []"},
		{"another skipped", edited(func(v *evidence.Verified) { v.Skipped = []string{"tcb"} }), scopes{skip("revocation")}, "p@1 skipped: got tcb, want one of [revocation]"},
		{"skipped and allowed", edited(func(v *evidence.Verified) { v.Skipped = []string{"revocation"} }), scopes{skip("revocation")}, ""},
		{"skipped and allowed by one", edited(func(v *evidence.Verified) { v.Skipped = []string{"revocation"} }), scopes{skip("revocation"), instance}, "i@2 skipped: got revocation, want one of []"},
		{"skipped in a layer", over(edited(func(v *evidence.Verified) { v.Skipped = []string{"revocation"} })[0]), scopes{needs(1)}, "p@1 skipped: got revocation, want one of []"},
		{"skipped in a layer of a layer", over(over(edited(func(v *evidence.Verified) { v.Skipped = []string{"x"} })[0])[0]), scopes{skip("revocation")}, "p@1 skipped: got x, want one of [revocation]"},

		{
			"the alternative that came closest", one(verified("f", 5)),
			scopes{{Name: "p", Version: "1", Require: rules{"f": policy.Any{policy.All{svn(6), svn(7)}, svn(8)}}}},
			"p@1 alternative 2 of 2 svn: got 5, want at least 8",
		},
	} {
		a := policy.Appraise(tt.got, tt.scopes...)
		var lines []string
		for m := range a.Mismatches() {
			lines = append(lines, m.Rule+" "+m.String())
		}
		if got := strings.Join(lines, "; "); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
		if a.Accepted() != (tt.want == "") || (a.Err() == nil) != a.Accepted() {
			t.Errorf("%s: accepted %v, error %v", tt.name, a.Accepted(), a.Err())
		}
	}
}

func TestAppraisalZero(t *testing.T) {
	var a policy.Appraisal
	if a.Accepted() || a.Err() == nil || len(a.Policies()) != 0 {
		t.Error("the zero Appraisal is not a refusal")
	}
	for m := range a.Mismatches() {
		t.Errorf("the zero Appraisal has %v", m)
	}
}

func TestAppraisalErr(t *testing.T) {
	err := policy.Appraise(one(verified("f", 1)), &policy.Policy{Name: "p", Version: "1", Require: rules{"f": policy.All{svn(2), svn(3)}}}).Err()
	if want := "policy: refused: p@1: svn: got 1, want at least 2; p@1: svn: got 1, want at least 3"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestAppraisalPolicies(t *testing.T) {
	global := &policy.Policy{Name: "g", Version: "1", Document: []byte("{}"), Require: rules{"f": svn(1)}}
	image := &policy.Policy{Name: "i", Version: "2", Scope: policy.Image, Require: rules{"f": svn(1)}}
	a := policy.Appraise(one(verified("f", 1)), global, nil, image)
	want := []policy.Ref{{Name: "g", Version: "1", Digest: sha256.Sum256([]byte("{}"))}, {Name: "i", Version: "2"}}
	if got := a.Policies(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A verdict has what was judged, and nobody can change that.
func TestAppraisalVerified(t *testing.T) {
	got := []*evidence.Verified{verified("f", 5), nil}
	judged := policy.Appraise(got)
	v := got[0]
	got[0] = nil
	judged.Verified()[0] = nil
	if now := judged.Verified(); len(now) != 2 || now[0] != v || now[1] != nil {
		t.Errorf("%v", now)
	}
	if (policy.Appraisal{}).Verified() != nil {
		t.Error("the zero Appraisal judged something")
	}
}
