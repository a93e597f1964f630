package cca

import "github.com/teebroker/teebroker/evidence"

// ReferenceValues are the claims a Relying Party accepts: a policy.Rule. The zero
// ReferenceValues accepts nothing; start from [Baseline]. They are not modified
// while in use.
//
// The lifecycle has to be secured, whatever they say; see AllowDebug.
type ReferenceValues struct {
	// What the realm is. Measurements are as long as the realm's algorithm says,
	// so a value of another length is never equal. The realm itself extends REMs,
	// after it was started; they are compared by value.
	RIMs                   evidence.Set[Octets]
	REM0, REM1, REM2, REM3 evidence.Set[Octets]
	RPVs                   evidence.Set[[64]byte]
	RealmHashes            evidence.Set[Hash]
	MECPolicies            evidence.Set[MECPolicy] // zero stands for tokens that do not say

	// Platforms are firmware and configuration, as vendors publish them. One of
	// them has to match in all that it says.
	Platforms []Platform

	// AllowAnyPlatform accepts firmware and configuration that no Platform names.
	// Firmware with known holes, and firmware that reads what realms have in
	// memory, is then accepted. It is for documents that narrow another one,
	// which has Platforms.
	AllowAnyPlatform bool

	// Which machine it runs on.
	Implementations evidence.Set[ImplementationID]
	Instances       evidence.Set[InstanceID]

	// AllowDebug accepts platforms in a debug state: whoever holds the platform
	// may then read and change what realms have in memory. The claims
	// "cca.lifecycle_state" and "cca.debug" say so. States before secured, and
	// after, are refused always.
	AllowDebug bool
}

// Platform is what a vendor says one platform should report: all of its firmware
// at once, not a choice for each component, and its configuration.
type Platform struct {
	Implementation ImplementationID

	// Config and ConfigMask are as long as the configuration, and it has to be
	// Config in the bits that ConfigMask has set. Config must have no others set.
	Config, ConfigMask Octets

	// Components are all there are, in any order. There must be one at least.
	Components []Component
}

// Baseline returns ReferenceValues for realms that started as one of rims and
// were not extended since, on one of platforms. Personalization value, algorithm,
// MEC policy and instance are not constrained. Debug states are refused.
//
// Realms that measure what they load into REMs need those set.
func Baseline(platforms []Platform, rims ...Octets) ReferenceValues {
	return ReferenceValues{
		RIMs:            evidence.OneOf(rims...),
		REM0:            Unextended(),
		REM1:            Unextended(),
		REM2:            Unextended(),
		REM3:            Unextended(),
		RPVs:            evidence.Anything[[64]byte](),
		RealmHashes:     evidence.Anything[Hash](),
		MECPolicies:     evidence.Anything[MECPolicy](),
		Platforms:       platforms,
		Implementations: evidence.Anything[ImplementationID](),
		Instances:       evidence.Anything[InstanceID](),
	}
}

// Unextended returns the values of a REM that nobody extended: zeros, as many as
// a digest has bytes.
func Unextended() evidence.Set[Octets] {
	var zeros []Octets
	for _, size := range digestSizes() {
		zeros = append(zeros, Octets(make([]byte, size)))
	}
	return evidence.OneOf(zeros...)
}
