package policy_test

import (
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
)

func TestClaim(t *testing.T) {
	bytes, text, num, list := evidence.Bytes, evidence.Text, evidence.Uint, evidence.List
	at := time.Unix(1, 0)
	v := &evidence.Verified{Claims: claims{
		{"digest", bytes([]byte{1, 2})},
		{"svn", num(7)},
		{"line", text("Genoa")},
		{"debug", evidence.Bool(false)},
		{"built", evidence.Time(at)},
		{"advisories", list(text("A"), text("B"))},
		{"missing", evidence.Value{}},
	}}
	for _, tt := range []struct {
		claim string
		op    evidence.Op
		want  evidence.Value
		ok    bool
	}{
		{"digest", evidence.Equal, bytes([]byte{1, 2}), true},
		{"digest", evidence.Equal, bytes([]byte{1, 3}), false},
		{"digest", evidence.Equal, text("0102"), false},
		{"debug", evidence.Equal, evidence.Bool(false), true},
		{"debug", evidence.Equal, evidence.Bool(true), false},
		{"built", evidence.Equal, evidence.Time(at), true},
		{"advisories", evidence.Equal, list(text("A"), text("B")), true},
		{"advisories", evidence.Equal, list(text("A")), false},
		{"svn", evidence.Equal, list(num(7)), false},

		{"line", evidence.In, list(text("Milan"), text("Genoa")), true},
		{"line", evidence.In, list(text("Milan")), false},
		{"line", evidence.In, list(), false},
		{"line", evidence.In, text("Genoa"), false},

		{"line", evidence.NotIn, list(text("Milan")), true},
		{"line", evidence.NotIn, list(text("Milan"), text("Genoa")), false},
		{"line", evidence.NotIn, list(), false},
		{"line", evidence.NotIn, text("Milan"), false},
		{"line", evidence.NotIn, list(text("Milan"), num(1)), false}, // of another kind
		{"line", evidence.NotIn, list(evidence.Value{}), false},

		{"svn", evidence.AtLeast, num(7), true},
		{"svn", evidence.AtLeast, num(0), true},
		{"svn", evidence.AtLeast, num(8), false},
		{"svn", evidence.AtLeast, text("1"), false},
		{"line", evidence.AtLeast, num(0), false},
		{"debug", evidence.AtLeast, evidence.Bool(false), false},
		{"svn", evidence.AtMost, num(7), true},
		{"svn", evidence.AtMost, num(8), true},
		{"svn", evidence.AtMost, num(6), false},
		{"svn", evidence.AtMost, text("9"), false},
		{"line", evidence.AtMost, num(9), false},

		{"svn", "", num(7), false},
		{"svn", "near", num(7), false},

		// A claim that is not there satisfies nothing.
		{"absent", evidence.Equal, num(0), false},
		{"absent", evidence.In, list(num(0)), false},
		{"absent", evidence.NotIn, list(num(1)), false},
		{"absent", evidence.AtLeast, num(0), false},
		{"absent", evidence.AtMost, num(9), false},
		{"missing", evidence.Equal, evidence.Value{}, false},
		{"missing", evidence.In, list(evidence.Value{}), false},
		{"missing", evidence.NotIn, list(num(1)), false},
		{"", evidence.NotIn, list(num(1)), false},

		// Nor does anything satisfy a rule that wants nothing.
		{"svn", evidence.Equal, evidence.Value{}, false},
		{"svn", evidence.In, evidence.Value{}, false},
		{"svn", evidence.NotIn, evidence.Value{}, false},
		{"svn", evidence.AtLeast, evidence.Value{}, false},
		{"svn", evidence.AtMost, evidence.Value{}, false},
	} {
		c := policy.Claim{Name: tt.claim, Op: tt.op, Want: tt.want}
		ms := c.Appraise(v)
		if (len(ms) == 0) != tt.ok {
			t.Errorf("%s %s %v: %v", tt.claim, tt.op, tt.want, ms)
		}
		if len(ms) > 0 && (len(ms) != 1 || ms[0].Claim != tt.claim || ms[0].Op != tt.op || ms[0].Want.String() != tt.want.String()) {
			t.Errorf("%s %s %v: reported as %v", tt.claim, tt.op, tt.want, ms)
		}
	}
}

func TestClaimOfNothing(t *testing.T) {
	c := policy.Claim{Name: "svn", Op: evidence.NotIn, Want: evidence.List(evidence.Uint(1))}
	for name, v := range map[string]*evidence.Verified{
		"no evidence": nil,
		"no claims":   {},
		"nil pointer": {Claims: (*pointer)(nil)},
		"nil slice":   {Claims: claims(nil)},
	} {
		if ms := c.Appraise(v); len(ms) != 1 || !ms[0].Got.IsZero() {
			t.Errorf("%s: %v", name, ms)
		}
	}
	if ms := c.Appraise(&evidence.Verified{Claims: &pointer{claims{{"svn", evidence.Uint(2)}}}}); len(ms) != 0 {
		t.Errorf("claims behind a pointer: %v", ms)
	}
	if ms := (policy.Claim{}).Appraise(verified("f", 1)); len(ms) == 0 {
		t.Error("the zero Claim accepts")
	}
}
