package cca

import (
	"errors"

	"github.com/teebroker/teebroker/cca/internal/wire"
	"github.com/teebroker/teebroker/evidence"
)

// profile is what two profiles that go together demand.
type profile struct {
	platform, realm string

	rak      rakForm
	binder   int64 // label of the platform claim that has the digest of the RAK
	clientID bool  // the platform token says for whom it was made
	realmID  bool  // the realm token has an instance-id and may have a MEC policy
	wide     bool  // measurements may have all 64 bytes that the RMM has for them

	mixed, draft bool // only if the Config allows it
}

// binderField returns the name of the claim labelled binder.
func (p profile) binderField() string {
	if p.binder == wire.WorkloadBinding {
		return "cca-platform-workload-binding"
	}
	return "cca-platform-challenge"
}

// measurementSizes returns how long the measurements of a realm may be that names
// h: as its digests are. Legacy tokens are found that have 64 bytes whatever they
// name.
func (p profile) measurementSizes(h Hash) []int {
	if p.wide {
		return []int{h.Size(), SHA512.Size()}
	}
	return []int{h.Size()}
}

// rakForm is how a realm token writes the RAK.
type rakForm uint8

const (
	rakPoint rakForm = iota // uncompressed point, 97 bytes
	rakCOSE                 // COSE_Key
)

// profiles returns all that go together. A profile alone says nothing: the same
// realm profile is found beside several platform profiles.
//
// The rows of 2026 are second-hand: neither document was at hand. That the binder
// moves to claim 2408, and that the rest is as in 2024, has to be confirmed in
// draft-ffm-rats-cca-token-04 and RMM 2.0 before their option goes away.
func profiles() [8]profile {
	return [...]profile{
		{platform: wire.PlatformLegacy, realm: "", rak: rakPoint, binder: wire.Challenge, wide: true},
		{platform: wire.Platform2023, realm: wire.Realm2023, rak: rakCOSE, binder: wire.Challenge},
		{platform: wire.Platform2023, realm: wire.Realm2024, rak: rakCOSE, binder: wire.Challenge, realmID: true},
		{platform: wire.Platform2024, realm: wire.Realm2024, rak: rakCOSE, binder: wire.Challenge, clientID: true, realmID: true},
		{platform: wire.PlatformLegacy, realm: wire.Realm2023, rak: rakCOSE, binder: wire.Challenge, mixed: true},
		{platform: wire.Platform2026, realm: wire.Realm2026, rak: rakCOSE, binder: wire.WorkloadBinding, clientID: true, realmID: true, draft: true},
		{platform: wire.Platform2026 + wire.DelegatedDraft, realm: wire.Realm2026, rak: rakCOSE, binder: wire.WorkloadBinding, clientID: true, realmID: true, draft: true},
		{platform: wire.Platform2026 + wire.DelegatedRMM, realm: wire.Realm2026, rak: rakCOSE, binder: wire.WorkloadBinding, clientID: true, realmID: true, draft: true},
	}
}

// admission is what a Config admits beside what is always admitted.
type admission struct{ mixed, draft, certificates bool }

// profile returns the profile of two tokens.
func (a admission) profile(platform, realm string) (profile, error) {
	for _, p := range profiles() {
		switch {
		case p.platform != platform || p.realm != realm:
		case p.mixed && !a.mixed:
			return profile{}, fail(checkProfile, evidence.Unsupported, "eat_profile", errors.New("legacy platform with a realm of 2023"))
		case p.draft && !a.draft:
			return profile{}, fail(checkProfile, evidence.Unsupported, "eat_profile", errors.New("the draft of 2026"))
		default:
			return p, nil
		}
	}
	return profile{}, fail(checkProfile, evidence.Unsupported, "eat_profile", errors.New("platform and realm that do not go together"))
}
