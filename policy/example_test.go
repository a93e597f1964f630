package policy_test

import (
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
)

func ExampleAppraise() {
	// What a Verifier of some format returned.
	got := &evidence.Verified{Format: "toy", Bound: true, Claims: claims{
		{"toy.svn", evidence.Uint(3)},
		{"toy.debug", evidence.Bool(true)},
	}}
	prod := &policy.Policy{Name: "prod", Version: "7", Require: map[evidence.Format]policy.Rule{
		"toy": policy.All{
			policy.Claim{Name: "toy.svn", Op: evidence.AtLeast, Want: evidence.Uint(2)},
			policy.Claim{Name: "toy.debug", Op: evidence.Equal, Want: evidence.Bool(false)},
		},
	}}
	a := policy.Appraise([]*evidence.Verified{got}, prod)
	fmt.Println(a.Accepted())
	for m := range a.Mismatches() {
		fmt.Println(m.Rule, "asked for", m.Claim, m.Op, m.Want, "and got", m.Got)
	}
	// Output:
	// false
	// prod@7 asked for toy.debug equal false and got true
}

func ExampleParse() {
	_, err := policy.Parse([]byte(`{
		"policy": "teebroker/1", "name": "prod", "version": "7", "scope": "global",
		"require": {"f": [{"svn": 2}], "f": [{"svn": 0}]}
	}`), decoders)
	fmt.Println(err)
	// Output:
	// policy: document: require: json: duplicate member "f"
}

func ExampleClaim() {
	v := &evidence.Verified{Claims: claims{{"toy.line", evidence.Text("Genoa")}}}
	notMilan := policy.Claim{Name: "toy.line", Op: evidence.NotIn, Want: evidence.List(evidence.Text("Milan"))}
	fmt.Println(len(notMilan.Appraise(v)))

	// What is absent is not none of something: it is refused.
	fmt.Println(notMilan.Appraise(&evidence.Verified{}))
	// Output:
	// 0
	// [toy.line: got absent, want none of [Milan]]
}
