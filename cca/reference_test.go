package cca

import (
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
)

func zeros(n int) Octets { return Octets(make([]byte, n)) }

func fill(b byte, n int) Octets { return Octets(strings.Repeat(string(rune(b)), n)) }

// someClaims returns the claims of a realm that was just started.
func someClaims() *Claims {
	return &Claims{
		PlatformProfile: "p", InstanceID: InstanceID{1, 2}, ImplementationID: ImplementationID{3},
		Lifecycle: 0x3003, Config: "\xcf\x01", PlatformHash: SHA256, VerificationService: "v", CPAK: [32]byte{4},
		RealmProfile: "r", RealmInstanceID: InstanceID{1, 5}, Challenge: [64]byte{6}, RPV: [64]byte{7}, RealmHash: SHA256,
		RIM: fill('r', 32), REM: [4]Octets{zeros(32), zeros(32), zeros(32), zeros(32)}, RAKHash: SHA512, MECPolicy: MECPrivate,
		components: []Component{
			{"BL", fill('b', 32), fill('s', 32), "1"},
			{"RMM", fill('m', 32), fill('s', 32), ""},
		},
	}
}

func somePlatform() Platform {
	return Platform{Implementation: ImplementationID{3}, Config: "\xcf\x00", ConfigMask: "\xff\xf0", Components: someClaims().Components()}
}

func verified(c *Claims) *evidence.Verified { return &evidence.Verified{Format: Format, Claims: c} }

// claimsOf returns the names of what is not accepted.
func claimsOf(ms []evidence.Mismatch) string {
	var names []string
	for _, m := range ms {
		names = append(names, m.Claim)
	}
	return strings.Join(names, " ")
}

func TestAppraise(t *testing.T) {
	for _, tt := range []struct {
		name  string
		edit  func(*ReferenceValues, *Claims)
		wrong string
	}{
		{"baseline", func(*ReferenceValues, *Claims) {}, ""},
		{"another RIM", func(_ *ReferenceValues, c *Claims) { c.RIM = fill('x', 32) }, "cca.rim"},
		{"no RIMs", func(rv *ReferenceValues, _ *Claims) { rv.RIMs = evidence.Set[Octets]{} }, "cca.rim"},
		{"a longer RIM", func(_ *ReferenceValues, c *Claims) { c.RIM += "r" }, "cca.rim"},
		{"REM 0", func(_ *ReferenceValues, c *Claims) { c.REM[0] = fill('x', 32) }, "cca.rem0"},
		{"REM 1", func(_ *ReferenceValues, c *Claims) { c.REM[1] = fill('x', 32) }, "cca.rem1"},
		{"REM 2", func(_ *ReferenceValues, c *Claims) { c.REM[2] = fill('x', 32) }, "cca.rem2"},
		{"REM 3", func(_ *ReferenceValues, c *Claims) { c.REM[3] = fill('x', 32) }, "cca.rem3"},
		{"REMs that were extended as wanted", func(rv *ReferenceValues, c *Claims) {
			c.REM[3] = fill('x', 32)
			rv.REM3 = evidence.OneOf(fill('x', 32))
		}, ""},
		{"REMs of 64 bytes", func(_ *ReferenceValues, c *Claims) { c.REM = [4]Octets{zeros(64), zeros(64), zeros(64), zeros(64)} }, ""},
		{"another RPV", func(rv *ReferenceValues, _ *Claims) { rv.RPVs = evidence.OneOf([64]byte{8}) }, "cca.rpv"},
		{"another realm hash", func(rv *ReferenceValues, _ *Claims) { rv.RealmHashes = evidence.OneOf(SHA384, SHA512) }, "cca.realm_hash"},
		{"shared encryption", func(rv *ReferenceValues, c *Claims) {
			rv.MECPolicies = evidence.OneOf(MECPrivate)
			c.MECPolicy = MECShared
		}, "cca.mec_policy"},
		{"no MEC policy", func(rv *ReferenceValues, c *Claims) {
			rv.MECPolicies = evidence.OneOf(MECPrivate)
			c.MECPolicy = 0
		}, "cca.mec_policy"},
		{"no MEC policy, as wanted", func(rv *ReferenceValues, c *Claims) {
			rv.MECPolicies = evidence.OneOf(MECPolicy(0))
			c.MECPolicy = 0
		}, ""},
		{"another implementation", func(rv *ReferenceValues, _ *Claims) { rv.Implementations = evidence.OneOf(ImplementationID{4}) }, "cca.implementation_id"},
		{"another instance", func(rv *ReferenceValues, _ *Claims) { rv.Instances = evidence.OneOf(InstanceID{1, 3}) }, "cca.instance_id"},

		{"no platforms", func(rv *ReferenceValues, _ *Claims) { rv.Platforms = nil }, "cca.implementation_id"},
		{"no platforms, allowed", func(rv *ReferenceValues, _ *Claims) { rv.Platforms, rv.AllowAnyPlatform = nil, true }, ""},
		{"a platform of another implementation", func(rv *ReferenceValues, _ *Claims) { rv.Platforms[0].Implementation[0]++ }, "cca.implementation_id"},
		{"a component less", func(_ *ReferenceValues, c *Claims) { c.components = c.components[:1] }, "cca.components"},
		{"a component more", func(_ *ReferenceValues, c *Claims) { c.components = append(c.components, c.components[0]) }, "cca.components"},
		{"a component twice for another", func(_ *ReferenceValues, c *Claims) { c.components[1] = c.components[0] }, "cca.components"},
		{"another order", func(_ *ReferenceValues, c *Claims) { slices.Reverse(c.components) }, ""},
		{"another measurement", func(_ *ReferenceValues, c *Claims) { c.components[1].Measurement = fill('x', 32) }, "cca.components"},
		{"another signer", func(_ *ReferenceValues, c *Claims) { c.components[1].SignerID = fill('x', 32) }, "cca.components"},
		{"another type", func(_ *ReferenceValues, c *Claims) { c.components[1].Type = "RMM2" }, "cca.components"},
		{"another version", func(_ *ReferenceValues, c *Claims) { c.components[0].Version = "" }, "cca.components"},
		{"measurement and signer changed over", func(_ *ReferenceValues, c *Claims) {
			c.components[1].Measurement, c.components[1].SignerID = c.components[1].SignerID, c.components[1].Measurement
		}, "cca.components"},
		{"no components wanted", func(rv *ReferenceValues, _ *Claims) { rv.Platforms[0].Components = nil }, "cca.components"},
		{"no components wanted and none there", func(rv *ReferenceValues, c *Claims) { rv.Platforms[0].Components, c.components = nil, nil }, "cca.components"},
		{"configuration outside of the mask", func(_ *ReferenceValues, c *Claims) { c.Config = "\xcf\x0f" }, ""},
		{"configuration inside of the mask", func(_ *ReferenceValues, c *Claims) { c.Config = "\xcf\x11" }, "cca.config"},
		{"longer configuration", func(_ *ReferenceValues, c *Claims) { c.Config = "\xcf\x01\x00" }, "cca.config"},
		{"shorter configuration", func(_ *ReferenceValues, c *Claims) { c.Config = "\xcf" }, "cca.config"},
		{"no configuration wanted", func(rv *ReferenceValues, c *Claims) {
			rv.Platforms[0].Config, rv.Platforms[0].ConfigMask, c.Config = "", "", ""
		}, "cca.config"},
		{"no mask", func(rv *ReferenceValues, _ *Claims) { rv.Platforms[0].ConfigMask = "" }, "cca.config"},
		{"the second platform", func(rv *ReferenceValues, _ *Claims) {
			rv.Platforms = []Platform{{Implementation: ImplementationID{3}}, somePlatform()}
		}, ""},
		{"firmware of one platform and configuration of another", func(rv *ReferenceValues, _ *Claims) {
			a, b := somePlatform(), somePlatform()
			a.Config, b.Components = "\x00\x00", b.Components[:1]
			rv.Platforms = []Platform{a, b}
		}, "cca.config"},
		{"firmware of another implementation", func(rv *ReferenceValues, _ *Claims) {
			a, b := somePlatform(), somePlatform()
			a.Components, b.Implementation = a.Components[:1], ImplementationID{4}
			rv.Platforms = []Platform{a, b}
		}, "cca.components"},

		{"lifecycle unknown", func(rv *ReferenceValues, c *Claims) { c.Lifecycle, rv.AllowDebug = 0x0000, true }, "cca.lifecycle_state"},
		{"lifecycle assembly", func(rv *ReferenceValues, c *Claims) { c.Lifecycle, rv.AllowDebug = 0x1000, true }, "cca.lifecycle_state"},
		{"lifecycle provisioning", func(rv *ReferenceValues, c *Claims) { c.Lifecycle, rv.AllowDebug = 0x2000, true }, "cca.lifecycle_state"},
		{"lifecycle non-RoT debug", func(_ *ReferenceValues, c *Claims) { c.Lifecycle = 0x4000 }, "cca.lifecycle_state"},
		{"lifecycle recoverable debug", func(_ *ReferenceValues, c *Claims) { c.Lifecycle = 0x50ff }, "cca.lifecycle_state"},
		{"lifecycle decommissioned", func(rv *ReferenceValues, c *Claims) { c.Lifecycle, rv.AllowDebug = 0x6000, true }, "cca.lifecycle_state"},
		{"lifecycle above", func(rv *ReferenceValues, c *Claims) { c.Lifecycle, rv.AllowDebug = 0x7000, true }, "cca.lifecycle_state"},
		{"lifecycle between", func(rv *ReferenceValues, c *Claims) { c.Lifecycle, rv.AllowDebug = 0x3130, true }, "cca.lifecycle_state"},
		{"non-RoT debug, allowed", func(rv *ReferenceValues, c *Claims) { c.Lifecycle, rv.AllowDebug = 0x4000, true }, ""},
		{"recoverable debug, allowed", func(rv *ReferenceValues, c *Claims) { c.Lifecycle, rv.AllowDebug = 0x5000, true }, ""},
		{"all secured ones", func(_ *ReferenceValues, c *Claims) { c.Lifecycle = 0x30ff }, ""},
	} {
		rv, c := Baseline([]Platform{somePlatform()}, fill('r', 32)), someClaims()
		tt.edit(&rv, c)
		ms := rv.Appraise(verified(c))
		if got := claimsOf(ms); got != tt.wrong {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.wrong)
		}
		made := map[string]evidence.Value{}
		for name, value := range c.All() {
			made[name] = value
		}
		for _, m := range ms {
			if got := made[m.Claim]; m.Op != evidence.In || !m.Got.Equal(got) && !(m.Got.IsZero() && got.IsZero()) {
				t.Errorf("%s: mismatch %v of a claim that is %v", tt.name, m, got)
			}
		}
	}
}

// A mismatch says what would have been accepted.
func TestMismatchSaysWhatIsWanted(t *testing.T) {
	rv, c := Baseline([]Platform{somePlatform()}, fill('r', 32)), someClaims()
	c.Lifecycle, c.Config = 0x4000, "\xaa\xaa"
	ms := rv.Appraise(verified(c))
	if len(ms) != 2 || ms[0].String() != "cca.config: got aaaa, want one of [cf00]" || ms[1].String() != "cca.lifecycle_state: got non-rot-debug, want one of [secured]" {
		t.Error(ms)
	}
}

func TestZeroReferenceValuesAcceptNothing(t *testing.T) {
	want := "cca.rim cca.rem0 cca.rem1 cca.rem2 cca.rem3 cca.rpv cca.realm_hash cca.mec_policy cca.implementation_id cca.instance_id cca.implementation_id"
	if got := claimsOf(ReferenceValues{}.Appraise(verified(someClaims()))); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAppraiseRefusesWhatIsNoToken(t *testing.T) {
	rv := unconstrained()
	for _, v := range []*evidence.Verified{
		nil, {}, {Format: Format}, {Format: Format, Claims: (*Claims)(nil)}, {Format: "snp-report", Claims: someClaims()},
	} {
		if got := claimsOf(rv.Appraise(v)); got != "format" {
			t.Errorf("%+v: %q", v, got)
		}
	}
	if got := rv.Appraise(verified(someClaims())); got != nil {
		t.Errorf("unconstrained: %v", got)
	}
}

func TestUnextended(t *testing.T) {
	s := Unextended()
	for n := range 70 {
		if want := n == 32 || n == 48 || n == 64; s.Has(zeros(n)) != want {
			t.Errorf("%d zeros: %v", n, !want)
		}
	}
	if s.Has(fill('x', 32)) {
		t.Error("an extended one")
	}
}
