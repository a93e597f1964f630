package cca

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/cca/internal/wire"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/refvalues"
)

// DecodeReferenceValues decodes one object of a policy document, strictly.
// Members are called as the fields of [ReferenceValues], in snake_case:
// docs/policy-cca.md lists them with their types. Members left out of a complete
// object accept nothing and demand nothing; those left out of a partial one
// constrain nothing. A partial object is for a Policy that narrows another.
func DecodeReferenceValues(object []byte, partial bool) (ReferenceValues, error) {
	var rv ReferenceValues
	if partial {
		rv = unconstrained()
	}
	has, err := refvalues.Object(object, rv.members())
	if err != nil {
		return ReferenceValues{}, fmt.Errorf("cca: reference values: %w", err)
	}
	// Platforms that somebody wrote are not waived by those that nobody wrote.
	rv.AllowAnyPlatform = rv.AllowAnyPlatform && (has["allow_any_platform"] || !has["platforms"])
	return rv, nil
}

// unconstrained returns the ReferenceValues that accept every claim, but for the
// lifecycles that none accept.
func unconstrained() ReferenceValues {
	return ReferenceValues{
		RIMs:             evidence.Anything[Octets](),
		REM0:             evidence.Anything[Octets](),
		REM1:             evidence.Anything[Octets](),
		REM2:             evidence.Anything[Octets](),
		REM3:             evidence.Anything[Octets](),
		RPVs:             evidence.Anything[[64]byte](),
		RealmHashes:      evidence.Anything[Hash](),
		MECPolicies:      evidence.Anything[MECPolicy](),
		AllowAnyPlatform: true,
		Implementations:  evidence.Anything[ImplementationID](),
		Instances:        evidence.Anything[InstanceID](),
		AllowDebug:       true,
	}
}

// members returns the members of the object that is decoded into rv, one for
// each field.
func (rv *ReferenceValues) members() []refvalues.Member {
	return []refvalues.Member{
		{Name: "rims", Decode: refvalues.Set(&rv.RIMs, digestOf)},
		{Name: "rem0", Decode: refvalues.Set(&rv.REM0, digestOf)},
		{Name: "rem1", Decode: refvalues.Set(&rv.REM1, digestOf)},
		{Name: "rem2", Decode: refvalues.Set(&rv.REM2, digestOf)},
		{Name: "rem3", Decode: refvalues.Set(&rv.REM3, digestOf)},
		{Name: "rpvs", Decode: refvalues.Set(&rv.RPVs, rpvOf)},
		{Name: "realm_hashes", Decode: refvalues.Set(&rv.RealmHashes, hashOf)},
		{Name: "mec_policies", Decode: refvalues.Set(&rv.MECPolicies, mecOf)},
		{Name: "platforms", Decode: refvalues.List(&rv.Platforms, platformOf)},
		{Name: "allow_any_platform", Decode: refvalues.Value(&rv.AllowAnyPlatform, refvalues.Plain[bool])},
		{Name: "implementations", Decode: refvalues.Set(&rv.Implementations, implementationOf)},
		{Name: "instances", Decode: refvalues.Set(&rv.Instances, instanceOf)},
		{Name: "allow_debug", Decode: refvalues.Value(&rv.AllowDebug, refvalues.Plain[bool])},
	}
}

func digestOf(raw json.RawMessage) (Octets, error) {
	b, err := refvalues.Octets(raw, digestSizes()...)
	return Octets(b), err
}

func octetsOf(raw json.RawMessage) (Octets, error) {
	b, err := refvalues.Octets(raw)
	return Octets(b), err
}

func rpvOf(raw json.RawMessage) (rpv [64]byte, err error) {
	b, err := refvalues.Octets(raw, len(rpv))
	copy(rpv[:], b)
	return rpv, err
}

func implementationOf(raw json.RawMessage) (id ImplementationID, err error) {
	b, err := refvalues.Octets(raw, len(id))
	copy(id[:], b)
	return id, err
}

func instanceOf(raw json.RawMessage) (id InstanceID, err error) {
	b, err := refvalues.Octets(raw, len(id))
	copy(id[:], b)
	if err == nil && id[0] != wire.UEIDTypeRAND {
		err = errors.New("does not begin with 01, the type RAND")
	}
	return id, err
}

func hashOf(raw json.RawMessage) (Hash, error) { return refvalues.Named(raw, SHA256, SHA384, SHA512) }

func mecOf(raw json.RawMessage) (MECPolicy, error) {
	return refvalues.Named(raw, MECPolicy(0), MECShared, MECPrivate)
}

// platformOf decodes a Platform, of which all members must be there.
func platformOf(raw json.RawMessage) (p Platform, err error) {
	err = refvalues.Whole(raw, []refvalues.Member{
		{Name: "implementation", Decode: refvalues.Value(&p.Implementation, implementationOf)},
		{Name: "config", Decode: refvalues.Value(&p.Config, octetsOf)},
		{Name: "config_mask", Decode: refvalues.Value(&p.ConfigMask, octetsOf)},
		{Name: "components", Decode: refvalues.List(&p.Components, componentOf)},
	})
	switch {
	case err != nil:
	case len(p.Config) != len(p.ConfigMask):
		err = errors.New("config and config_mask differ in length")
	case !p.hasConfig(p.Config):
		err = errors.New("config has a bit that config_mask has not")
	case len(p.Components) == 0:
		err = errors.New("components: none")
	}
	if err != nil {
		return Platform{}, err
	}
	return p, nil
}

// componentOf decodes a Component, of which all members must be there.
func componentOf(raw json.RawMessage) (c Component, err error) {
	err = refvalues.Whole(raw, []refvalues.Member{
		{Name: "type", Decode: refvalues.Value(&c.Type, refvalues.Plain[string])},
		{Name: "measurement", Decode: refvalues.Value(&c.Measurement, digestOf)},
		{Name: "signer_id", Decode: refvalues.Value(&c.SignerID, digestOf)},
		{Name: "version", Decode: refvalues.Value(&c.Version, refvalues.Plain[string])},
	})
	if err != nil {
		return Component{}, err
	}
	return c, nil
}
