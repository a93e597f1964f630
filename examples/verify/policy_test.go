package main

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/internal/vectors"
)

// document is a policy for reports of version 2 from a Milan, with members added.
func document(scope, members string) []byte {
	return fmt.Appendf(nil, `{"policy": "teebroker/1", "name": "prod", "version": "7", "scope": %q, "require": {"snp-report": [{
		"measurements": "*", "host_data": "*", "vmpls": [0], "id_keys": "*", "author_keys": "*", "family_ids": "*", "image_ids": "*",
		"lines": ["Milan"], "keys": ["VCEK"], "chips": "*", "allow_smt": true,
		"v2_floors": [{"line": "Milan", "reported": "*", "committed": "*", "launch": "*"}]%s}]}}`, scope, members)
}

func TestPolicy(t *testing.T) {
	v := genuine(t)["gosev-milan-v2-vcek"] // a DEBUG guest
	signed := hex.EncodeToString(vectors.Read(t, "snp/"+v.Report)[0x50:0x90])
	strict, lenient := document("global", ""), document("global", `, "allow_debug": true`)
	genuine := []string{"-allow-no-revocation"}
	for _, test := range []struct {
		name     string
		document []byte
		args     []string
		accepted bool
		claims   []string // of the mismatches
	}{
		{"no debug", strict, genuine, false, []string{"snp.policy.debug"}},
		{"debug allowed, no binding asked for", lenient, genuine, true, nil},
		{"debug allowed, bound", lenient, append(genuine, "-binding", signed), true, nil},
		{"debug allowed, bound to something else", lenient, append(genuine, "-binding", "01"), false, []string{"bound"}},
		{"no debug, bound", strict, append(genuine, "-binding", signed), false, []string{"snp.policy.debug"}},
		{"not authentic", lenient, nil, false, nil},
		{"a narrower document alone", document("instance", ""), genuine, false, []string{"scope"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"-policy", write(t, "policy.json", test.document), "-endorsements", v.vek(t), "-at", v.within()}, test.args...)
			status, a := ask(t, append(args, v.report(t))...)
			if a.Accepted == nil || *a.Accepted != test.accepted || (status == 0) != test.accepted {
				t.Errorf("status %d, accepted %v", status, a.Accepted)
			}
			var claims []string
			for _, m := range a.Mismatches {
				claims = append(claims, m.Claim)
			}
			if !slices.Equal(claims, test.claims) {
				t.Errorf("mismatches of %v, want %v", claims, test.claims)
			}
			if a.Authentic != (test.args != nil) {
				t.Errorf("authentic %v: a policy can't change that", a.Authentic)
			}
		})
	}
}

func TestMismatchIsExplained(t *testing.T) {
	v := genuine(t)["gosev-milan-v2-vcek"]
	args := []string{"-policy", write(t, "policy.json", document("global", "")), "-allow-no-revocation", "-endorsements", v.vek(t), "-at", v.within()}

	_, a := ask(t, append(args, v.report(t))...)
	if want := (gotWant{"snp.policy.debug", true, "equal", false, "prod@7"}); len(a.Mismatches) != 1 || a.Mismatches[0] != want {
		t.Errorf("%+v, want %+v", a.Mismatches, want)
	}

	status, text := say(t, append(args, v.report(t))...)
	if status != 1 || !strings.HasPrefix(text, "GENUINE, NOT ACCEPTED AMD SEV-SNP report\n") {
		t.Errorf("status %d: %s", status, text)
	}
	for _, part := range []string{
		"unchecked: the policy judged everything else", "prod@7",
		"Not acceptable\n  snp.policy.debug  got true  want equal false  prod@7\n",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
}
