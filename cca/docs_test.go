package cca_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// verifiedClaims returns the claims of a token that makes them all.
func verifiedClaims(t *testing.T) *cca.Claims {
	t.Helper()
	p := ccatest.NewPlatform()
	got, err := trusting(t, p.Anchor()).Verify(t.Context(), p.Token(ccatest.Realm{Profiles: ccatest.P2024, MEC: cca.MECShared}, evidence.Binding{}), evidence.UncheckedBindingUnsafe())
	if err != nil {
		t.Fatal(err)
	}
	c, ok := cca.ClaimsOf(got)
	if !ok {
		t.Fatal("no claims")
	}
	return c
}

// docs/claims-cca.md names exactly the claims that there are, in their order.
func TestDocsListEveryClaim(t *testing.T) {
	var documented, made []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(cca\\.[a-z0-9_]+)` \\|").FindAllStringSubmatch(readDoc(t, "claims-cca.md"), -1) {
		documented = append(documented, m[1])
	}
	for name := range verifiedClaims(t).All() {
		made = append(made, name)
	}
	if !slices.Equal(documented, made) {
		t.Errorf("documented:\n%s\nmade:\n%s", strings.Join(documented, "\n"), strings.Join(made, "\n"))
	}
}

// docs/claims-cca.md lists the pairs of profiles, and what each needs.
func TestDocsListEveryProfile(t *testing.T) {
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (?:`([^`]+)`|none) \\| (point|COSE_Key) \\| (.+) \\|$").FindAllStringSubmatch(readDoc(t, "claims-cca.md"), -1) {
		rows[m[1]+" with "+m[2]] = m[3] + ", " + m[4]
	}
	for _, p := range ccatest.AllProfiles() {
		want := "COSE_Key, yes"
		switch {
		case p == ccatest.Legacy:
			want = "point, yes"
		case p == ccatest.Mixed:
			want = "COSE_Key, with AllowMixedProfiles"
		case p >= ccatest.P2026:
			want = "COSE_Key, with AllowDraft2026"
		}
		if got := rows[p.String()]; got != want {
			t.Errorf("%v: %q, want %q", p, got, want)
		}
		delete(rows, p.String())
	}
	if len(rows) > 0 {
		t.Errorf("documented and not known: %v", rows)
	}
}

// The example of docs/policy-cca.md is a policy document.
func TestDocsExample(t *testing.T) {
	_, example, ok := strings.Cut(readDoc(t, "policy-cca.md"), "<!-- example: global -->\n```json\n")
	example, _, end := strings.Cut(example, "```")
	if !ok || !end {
		t.Fatal("no example")
	}
	if _, err := policy.Parse([]byte(example), policy.Decoders{cca.Format: policy.Decoder(cca.DecodeReferenceValues)}); err != nil {
		t.Error(err)
	}
}

// Every lifecycle state has its name, and docs/claims-cca.md has them all.
func TestLifecycleStates(t *testing.T) {
	doc := readDoc(t, "claims-cca.md")
	names := map[string]bool{}
	for state := range 256 {
		s := cca.LifecycleState(state)
		if name := s.String(); name != "undefined" {
			names[name] = true
			if state&0x0f != 0 {
				t.Errorf("%#x is %s", state, name)
			}
		}
		if s.Debug() != (state == 0x40 || state == 0x50) || cca.Lifecycle(state<<8|0xff).State() != s {
			t.Errorf("%#x", state)
		}
	}
	for name := range names {
		if !strings.Contains(doc, "`"+name+"`") {
			t.Errorf("%s is not documented", name)
		}
	}
	if len(names) != 7 {
		t.Errorf("%d states", len(names))
	}
}

func TestClaimValues(t *testing.T) {
	p, want := ccatest.NewPlatform(), bindingOf(t, []byte("x"))
	p.Lifecycle = 0x4001
	realm := ccatest.Realm{
		Profiles: ccatest.P2024, Hash: cca.SHA384, RAKHash: cca.SHA512, MEC: cca.MECPrivate, ID: cca.InstanceID{1, 9}, RPV: [64]byte{8},
		RIM: cca.Octets(octets(48)), REM: [4]cca.Octets{1: cca.Octets(octets(48))},
	}
	got, err := trusting(t, p.Anchor()).Verify(t.Context(), p.Token(realm, want), want)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := cca.ClaimsOf(got)
	made := map[string]evidence.Value{}
	for name, value := range c.All() {
		if _, again := made[name]; again {
			t.Errorf("%s twice", name)
		}
		made[name] = value
	}
	zeros := make([]byte, 64)
	key := spki(t, &p.Key.PublicKey)
	for name, want := range map[string]evidence.Value{
		"cca.platform_profile":     evidence.Text("tag:arm.com,2024:cca_platform#2.0.0"),
		"cca.instance_id":          evidence.Bytes(p.Instance[:]),
		"cca.implementation_id":    evidence.Bytes(p.Implementation[:]),
		"cca.lifecycle":            evidence.Uint(0x4001),
		"cca.lifecycle_state":      evidence.Text("non-rot-debug"),
		"cca.debug":                evidence.Bool(true),
		"cca.config":               evidence.Bytes([]byte(p.Config)),
		"cca.platform_hash":        evidence.Text("sha-256"),
		"cca.verification_service": evidence.Text(p.VerificationService),
		"cca.cpak":                 evidence.Bytes(key[:]),
		"cca.realm_profile":        evidence.Text("tag:arm.com,2024:realm#2.0.0"),
		"cca.realm_instance_id":    evidence.Bytes(realm.ID[:]),
		"cca.challenge":            evidence.Bytes(append([]byte("x"), zeros[:63]...)),
		"cca.rpv":                  evidence.Bytes(realm.RPV[:]),
		"cca.realm_hash":           evidence.Text("sha-384"),
		"cca.rim":                  evidence.Bytes(octets(48)),
		"cca.rem0":                 evidence.Bytes(zeros[:48]),
		"cca.rem1":                 evidence.Bytes(octets(48)),
		"cca.rem2":                 evidence.Bytes(zeros[:48]),
		"cca.rem3":                 evidence.Bytes(zeros[:48]),
		"cca.rak_hash":             evidence.Text("sha-512"),
		"cca.mec_policy":           evidence.Text("private"),
		"cca.components": evidence.List(
			evidence.List(evidence.Text("BL"), evidence.Bytes([]byte(p.Components[0].Measurement)), evidence.Bytes([]byte(p.Components[0].SignerID)), evidence.Text("1.2")),
			evidence.List(evidence.Text("RMM"), evidence.Bytes([]byte(p.Components[1].Measurement)), evidence.Bytes([]byte(p.Components[1].SignerID)), evidence.Text("")),
		),
	} {
		if !made[name].Equal(want) {
			t.Errorf("%s is %v, want %v", name, made[name], want)
		}
		delete(made, name)
	}
	if len(made) > 0 {
		t.Errorf("unexpected %v", made)
	}
	if !slices.Equal(c.Components(), p.Components) {
		t.Errorf("components %v", c.Components())
	}
	for range c.All() {
		break // and nothing panics
	}
}

// What a legacy token does not say is absent.
func TestAbsentClaims(t *testing.T) {
	p := ccatest.NewPlatform()
	p.VerificationService = ""
	got, err := trusting(t, p.Anchor()).Verify(t.Context(), p.Token(ccatest.Realm{Profiles: ccatest.Legacy, Form: ccatest.Tag399}, evidence.Binding{}), evidence.UncheckedBindingUnsafe())
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range got.Claims.All() {
		switch name {
		case "cca.realm_profile", "cca.realm_instance_id", "cca.mec_policy", "cca.verification_service":
			t.Errorf("%s is %v", name, value)
		}
	}
}

func TestClaimsOf(t *testing.T) {
	for _, v := range []*evidence.Verified{nil, {}, {Claims: (*cca.Claims)(nil)}} {
		if c, ok := cca.ClaimsOf(v); ok {
			t.Errorf("%v of %v", c, v)
		}
	}
}

// docs/reasons.md has, for each check, the reasons it gives.
func TestDocsListEveryReason(t *testing.T) {
	_, section, _ := strings.Cut(readDoc(t, "reasons.md"), "## The checks of cca-token")
	section, _, _ = strings.Cut(section, "\n## ")
	gives := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\| (.+) \\|$").FindAllStringSubmatch(section, -1) {
		gives[m[1]] = m[2]
	}
	for _, faults := range [][]fault{formFaults(), claimFaults(), keyFaults(t)} {
		for _, f := range faults {
			if !strings.Contains(gives[f.check], "`"+string(f.reason)+"`") {
				t.Errorf("%s gives %s, not %s", f.check, gives[f.check], f.reason)
			}
		}
	}
}
