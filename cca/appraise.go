package cca

import (
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/refvalues"
)

// Appraise implements policy.Rule. Mismatches bear the names of [Claims.All].
func (rv ReferenceValues) Appraise(v *evidence.Verified) []evidence.Mismatch {
	c, ok := ClaimsOf(v)
	if !ok || v.Format != Format {
		return []evidence.Mismatch{{Claim: "format", Got: formatOf(v), Op: evidence.Equal, Want: evidence.Text(string(Format))}}
	}
	var ms refvalues.Mismatches
	rv.appraiseRealm(c, &ms)
	rv.appraisePlatform(c, &ms)
	rv.appraiseLifecycle(c, &ms)
	return ms
}

func formatOf(v *evidence.Verified) evidence.Value {
	if v == nil {
		return evidence.Value{}
	}
	return evidence.Text(string(v.Format))
}

// appraiseRealm judges what the realm is.
func (rv *ReferenceValues) appraiseRealm(c *Claims, ms *refvalues.Mismatches) {
	refvalues.Among(ms, "cca.rim", c.RIM, rv.RIMs, octetsValue)
	refvalues.Among(ms, "cca.rem0", c.REM[0], rv.REM0, octetsValue)
	refvalues.Among(ms, "cca.rem1", c.REM[1], rv.REM1, octetsValue)
	refvalues.Among(ms, "cca.rem2", c.REM[2], rv.REM2, octetsValue)
	refvalues.Among(ms, "cca.rem3", c.REM[3], rv.REM3, octetsValue)
	refvalues.Among(ms, "cca.rpv", c.RPV, rv.RPVs, func(rpv [64]byte) evidence.Value { return evidence.Bytes(rpv[:]) })
	refvalues.Among(ms, "cca.realm_hash", c.RealmHash, rv.RealmHashes, nameValue)
	refvalues.Among(ms, "cca.mec_policy", c.MECPolicy, rv.MECPolicies, mecValue)
}

// appraisePlatform judges what the realm runs on.
func (rv *ReferenceValues) appraisePlatform(c *Claims, ms *refvalues.Mismatches) {
	refvalues.Among(ms, "cca.implementation_id", c.ImplementationID, rv.Implementations, implementationValue)
	refvalues.Among(ms, "cca.instance_id", c.InstanceID, rv.Instances, idValue)
	if !rv.AllowAnyPlatform {
		rv.appraisePlatforms(c, ms)
	}
}

// appraisePlatforms asks for one Platform that matches. If there is none, it
// reports the first of implementation, components and configuration that none of
// those left has.
func (rv *ReferenceValues) appraisePlatforms(c *Claims, ms *refvalues.Mismatches) {
	left := rv.Platforms
	for _, part := range [...]struct {
		claim   string
		got     evidence.Value
		matches func(Platform) bool
		want    func(Platform) evidence.Value
	}{
		{
			"cca.implementation_id", implementationValue(c.ImplementationID),
			func(p Platform) bool { return p.Implementation == c.ImplementationID },
			func(p Platform) evidence.Value { return implementationValue(p.Implementation) },
		},
		{
			"cca.components", componentsValue(c.components),
			func(p Platform) bool { return sameComponents(p.Components, c.components) },
			func(p Platform) evidence.Value { return componentsValue(p.Components) },
		},
		{
			"cca.config", octetsValue(c.Config),
			func(p Platform) bool { return p.hasConfig(c.Config) },
			func(p Platform) evidence.Value { return octetsValue(p.Config) },
		},
	} {
		var matching []Platform
		for _, p := range left {
			if part.matches(p) {
				matching = append(matching, p)
			}
		}
		if matching == nil {
			ms.Add(part.claim, part.got, evidence.In, refvalues.Values(left, part.want))
			return
		}
		left = matching
	}
}

// sameComponents reports whether a and b are the same components, in any order.
// No components are not the same as anything.
func sameComponents(a, b []Component) bool {
	if len(a) == 0 || len(a) != len(b) {
		return false
	}
	count := map[Component]int{}
	for i := range a {
		count[a[i]]++
		count[b[i]]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// hasConfig reports whether config is as p says.
func (p Platform) hasConfig(config Octets) bool {
	if len(p.Config) == 0 || len(p.Config) != len(p.ConfigMask) || len(p.Config) != len(config) {
		return false
	}
	for i := range len(config) {
		if config[i]&p.ConfigMask[i] != p.Config[i] {
			return false
		}
	}
	return true
}

// appraiseLifecycle asks for a secured platform, or one in a debug state if those
// are allowed.
func (rv *ReferenceValues) appraiseLifecycle(c *Claims, ms *refvalues.Mismatches) {
	accepted := []LifecycleState{LifecycleSecured}
	if rv.AllowDebug {
		accepted = append(accepted, LifecycleNonRoTDebug, LifecycleRecoverableDebug)
	}
	refvalues.Among(ms, "cca.lifecycle_state", c.Lifecycle.State(), evidence.OneOf(accepted...), stateValue)
}

func stateValue(s LifecycleState) evidence.Value { return evidence.Text(s.String()) }
