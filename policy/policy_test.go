package policy_test

import (
	"crypto/sha256"
	"iter"
	"slices"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
)

// claims are the claims of a format that exists in these tests only.
type claims []struct {
	name  string
	value evidence.Value
}

func (cs claims) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		for _, c := range cs {
			if !yield(c.name, c.value) {
				return
			}
		}
	}
}

// pointer is a format whose claims are a pointer, as those of every real one.
type pointer struct{ claims }

// verified returns evidence of format f that is bound and says svn = n.
func verified(f evidence.Format, n uint64) *evidence.Verified {
	return &evidence.Verified{Format: f, Bound: true, Claims: claims{{"debug", evidence.Bool(false)}, {"svn", evidence.Uint(n)}}}
}

func one(v *evidence.Verified) []*evidence.Verified { return []*evidence.Verified{v} }

// svn is a Rule that asks for svn at least n.
func svn(n uint64) policy.Rule {
	return policy.Claim{Name: "svn", Op: evidence.AtLeast, Want: evidence.Uint(n)}
}

// constant is a Rule that always says the same, from the same memory.
type constant []evidence.Mismatch

func (c constant) Appraise(*evidence.Verified) []evidence.Mismatch { return c }

func claimsOf(ms []evidence.Mismatch) (names []string) {
	for _, m := range ms {
		names = append(names, m.Claim)
	}
	return names
}

func TestAllAndAny(t *testing.T) {
	yes, a, bc := constant{}, constant{{Claim: "a"}}, constant{{Claim: "b"}, {Claim: "c"}}
	for _, tt := range []struct {
		name string
		rule policy.Rule
		want []string
	}{
		{"All of none", policy.All{}, []string{"policy"}},
		{"All of a nil", policy.All{yes, nil}, []string{"policy"}},
		{"All of one that accepts", policy.All{yes}, nil},
		{"All reports everything in order", policy.All{bc, yes, a}, []string{"b", "c", "a"}},
		{"Any of none", policy.Any{}, []string{"policy"}},
		{"Any of a nil", policy.Any{nil}, []string{"policy"}},
		{"Any of nil and one that accepts", policy.Any{nil, yes}, nil},
		{"Any of one that accepts", policy.Any{bc, a, yes}, nil},
		{"Any reports the closest", policy.Any{bc, a, bc}, []string{"a"}},
		{"Any reports the first of equals", policy.Any{constant{{Claim: "x"}}, a}, []string{"x"}},
		{"nested", policy.Any{policy.All{bc, a}, policy.All{a, yes}}, []string{"a"}},
	} {
		if got := claimsOf(tt.rule.Appraise(verified("f", 1))); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	for name, rule := range map[string]policy.Rule{"All": policy.All{yes}, "Any": policy.Any{yes}} {
		if len(rule.Appraise(nil)) == 0 {
			t.Errorf("%s accepts no evidence at all", name)
		}
	}
}

func TestAnyNamesTheAlternative(t *testing.T) {
	far, near := constant{{Claim: "a"}, {Claim: "b"}}, constant{{Claim: "c"}}
	if ms := (policy.Any{near}).Appraise(verified("f", 1)); ms[0].Rule != "" {
		t.Errorf("the only alternative has the name %q", ms[0].Rule)
	}
	if ms := (policy.Any{far, near}).Appraise(verified("f", 1)); ms[0].Rule != "alternative 2 of 2" {
		t.Errorf("the closest is %q", ms[0].Rule)
	}
	if ms := (policy.Any{far, policy.Any{far, near}}).Appraise(verified("f", 1)); ms[0].Rule != "alternative 2 of 2 alternative 2 of 2" {
		t.Errorf("the closest of the closest is %q", ms[0].Rule)
	}
	if near[0].Rule != "" {
		t.Error("a rule's own mismatches were written to")
	}
}

func TestDigest(t *testing.T) {
	if d := (&policy.Policy{}).Digest(); d != [32]byte{} {
		t.Errorf("of no document: %x", d)
	}
	if d := (&policy.Policy{Document: []byte("x")}).Digest(); d != sha256.Sum256([]byte("x")) {
		t.Errorf("of x: %x", d)
	}
}
