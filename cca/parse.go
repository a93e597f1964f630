package cca

import (
	"github.com/teebroker/teebroker/cca/internal/wire"
	"github.com/teebroker/teebroker/evidence"
)

// digestSizes are the lengths of digests whose algorithm is not said beside them.
func digestSizes() []int { return []int{32, 48, 64} }

// parseClaims reads the payloads of both tokens.
func (t *Token) parseClaims(admitted admission) error {
	platform := recordOf(t.platform.payload, platformToken, platformItems)
	realm := recordOf(t.realm.payload, realmToken, realmItems)
	if err := t.parseProfile(&platform, &realm, admitted); err != nil {
		return err
	}
	t.parsePlatform(&platform)
	if platform.err != nil {
		return platform.err
	}
	t.parseRealm(&realm)
	return realm.err
}

// parseProfile reads the profiles, which say what else has to be there.
func (t *Token) parseProfile(platform, realm *record, admitted admission) error {
	t.claims.PlatformProfile = platform.text(wire.Profile, "cca-platform-profile")
	t.claims.RealmProfile = realm.optionalText(wire.Profile, "cca-realm-profile")
	for _, r := range []*record{platform, realm} {
		if r.err != nil {
			return r.err
		}
	}
	var err error
	t.profile, err = admitted.profile(t.claims.PlatformProfile, t.claims.RealmProfile)
	return err
}

// parsePlatform reads the claims of the platform token. Others are ignored, as
// EAT demands.
func (t *Token) parsePlatform(r *record) {
	c := &t.claims
	t.binder = r.octets(t.profile.binder, t.profile.binderField(), digestSizes()...)
	c.ImplementationID = implementationID(r.octets(wire.Implementation, "cca-platform-implementation-id", len(ImplementationID{})))
	c.InstanceID = r.id(wire.UEID, "cca-platform-instance-id")
	c.Config = Octets(r.value(wire.Config, "cca-platform-config", kindBytes).data)
	if c.Config == "" {
		r.refuse(evidence.Malformed, "cca-platform-config", "empty")
	}
	c.Lifecycle = Lifecycle(r.number(wire.Lifecycle, "cca-platform-lifecycle", 1<<16-1))
	c.VerificationService = r.optionalText(wire.VerificationService, "cca-platform-verification-service")
	c.PlatformHash = r.hash(wire.PlatformHash, "cca-platform-hash-algo-id")
	c.components = r.components(c.PlatformHash)
	if t.profile.clientID && r.number(wire.ClientID, "cca-platform-client-id", 1<<31) != wire.ClientRMSD {
		r.refuse(evidence.Unsupported, "cca-platform-client-id", "not made for the realm management security domain")
	}
}

func implementationID(s string) (id ImplementationID) {
	copy(id[:], s)
	return id
}

// components reads the sw-components. Their digests are by the algorithm that
// each names, or else by that of the platform.
func (r *record) components(platform Hash) []Component {
	const field = "cca-platform-sw-components"
	list := r.value(wire.Components, field, kindArray)
	if list.len() == 0 {
		r.refuse(evidence.Malformed, field, "empty")
	}
	cs := make([]Component, 0, list.len())
	for i := range list.len() {
		it := list.element(i)
		if it.kind != kindMap {
			r.refuse(evidence.Malformed, field, "a component that is not a map")
			return nil
		}
		c := record{m: it, err: r.err}
		cs = append(cs, c.component(platform, field))
		r.err = c.err
	}
	return cs
}

// component reads one of the sw-components.
func (r *record) component(h Hash, field string) Component {
	if name, ok := r.optional(wire.ComponentHash, field, kindText); ok {
		h = r.hashOf(name, field)
	}
	return Component{
		Type:        r.optionalText(wire.ComponentType, field),
		Measurement: Octets(r.octets(wire.ComponentMeasurement, field, h.Size())),
		SignerID:    Octets(r.octets(wire.ComponentSignerID, field, digestSizes()...)),
		Version:     r.optionalText(wire.ComponentVersion, field),
	}
}

// parseRealm reads the claims of the realm token, likewise.
func (t *Token) parseRealm(r *record) {
	c := &t.claims
	copy(c.Challenge[:], r.octets(wire.Challenge, "cca-realm-challenge", len(c.Challenge)))
	copy(c.RPV[:], r.octets(wire.RPV, "cca-realm-personalization-value", len(c.RPV)))
	c.RealmHash = r.hash(wire.RealmHash, "cca-realm-hash-algo-id")
	c.RIM = Octets(r.octets(wire.RIM, "cca-realm-initial-measurement", t.profile.measurementSizes(c.RealmHash)...))
	c.REM = r.rems(len(c.RIM))
	c.RAKHash = r.hash(wire.RAKHash, "cca-realm-public-key-hash-algo-id")
	t.rak = r.value(wire.RAK, "cca-realm-public-key", kindBytes).data
	if t.profile.realmID {
		c.RealmInstanceID = r.id(wire.UEID, "cca-realm-instance-id")
		c.MECPolicy = r.mecPolicy()
	}
	// Whoever does not know of the devices would take the realm for one without.
	if r.has(wire.Devices) {
		r.refuse(evidence.Unsupported, "cca-realm-devices-token-hash", "a realm with devices")
	}
}

// rems reads the four extensible measurements, each of size bytes.
func (r *record) rems(size int) (rems [4]Octets) {
	const field = "cca-realm-extensible-measurements"
	list := r.value(wire.REM, field, kindArray)
	if list.len() != len(rems) {
		r.refuse(evidence.Malformed, field, "%d of them", list.len())
		return rems
	}
	for i := range rems {
		it := list.element(i)
		if it.kind != kindBytes {
			r.refuse(evidence.Malformed, field, "of another type")
		}
		rems[i] = Octets(r.sized(it, field, size))
	}
	return rems
}

// mecPolicy reads the memory encryption policy: a number in the RMM
// specification, a text in drafts of the token. It may be left out.
func (r *record) mecPolicy() MECPolicy {
	it, ok := r.m.at(wire.MECPolicy)
	switch {
	case !ok:
		return 0
	case it.is(0), it.kind == kindText && it.data == "shared":
		return MECShared
	case it.is(1), it.kind == kindText && it.data == "private":
		return MECPrivate
	}
	r.refuse(evidence.Malformed, "cca-realm-mec-policy", "neither shared nor private")
	return 0
}
