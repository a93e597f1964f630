package tdx

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/refvalues"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// DecodeReferenceValues decodes one object of a policy document, strictly.
// Members are called as the fields of [ReferenceValues], in snake_case:
// docs/policy-tdx.md lists them with their types. Members left out of a complete
// object accept nothing and demand nothing; those left out of a partial one
// constrain nothing. A partial object is for a Policy that narrows another.
func DecodeReferenceValues(object []byte, partial bool) (ReferenceValues, error) {
	var rv ReferenceValues
	if partial {
		rv = unconstrained()
	}
	has, err := refvalues.Object(object, rv.members())
	if err != nil {
		return ReferenceValues{}, fmt.Errorf("tdx: reference values: %w", err)
	}
	// Floors that somebody wrote are not waived by those that nobody wrote.
	rv.AllowAnyModule = rv.AllowAnyModule && (has["allow_any_module"] || !has["modules"])
	return rv, nil
}

// unconstrained returns the ReferenceValues that accept every claim, but for what
// none accept: a TCB that is Revoked or was not appraised.
func unconstrained() ReferenceValues {
	return ReferenceValues{
		MRTD:                 evidence.Anything[[48]byte](),
		RTMR0:                evidence.Anything[[48]byte](),
		RTMR1:                evidence.Anything[[48]byte](),
		RTMR2:                evidence.Anything[[48]byte](),
		RTMR3:                evidence.Anything[[48]byte](),
		MRConfigID:           evidence.Anything[[48]byte](),
		MROwner:              evidence.Anything[[48]byte](),
		MROwnerConfig:        evidence.Anything[[48]byte](),
		BodyTypes:            evidence.Anything[BodyType](),
		AllowDebug:           true,
		AllowMigration:       true,
		AllowServiceTDs:      evidence.Anything[[48]byte](),
		AllowAttributes:      ^KnownAttributes,
		AllowXFAM:            math.MaxUint64,
		MRSEAM:               evidence.Anything[[48]byte](),
		AllowAnyModule:       true,
		Statuses:             evidence.Anything[Status](),
		Advisories:           evidence.Anything[string](),
		MaxCollateralAge:     math.MaxInt64,
		PPIDs:                evidence.Anything[[16]byte](),
		PlatformInstances:    evidence.Anything[[16]byte](),
		AllowDynamicPlatform: true,
		AllowCachedKeys:      true,
		AllowSMT:             true,
	}
}

// members returns the members of the object that is decoded into rv, one for
// each field.
func (rv *ReferenceValues) members() []refvalues.Member {
	return []refvalues.Member{
		{Name: "mrtd", Decode: refvalues.Set(&rv.MRTD, refvalues.Fixed)},
		{Name: "rtmr0", Decode: refvalues.Set(&rv.RTMR0, refvalues.Fixed)},
		{Name: "rtmr1", Decode: refvalues.Set(&rv.RTMR1, refvalues.Fixed)},
		{Name: "rtmr2", Decode: refvalues.Set(&rv.RTMR2, refvalues.Fixed)},
		{Name: "rtmr3", Decode: refvalues.Set(&rv.RTMR3, refvalues.Fixed)},
		{Name: "mrconfigid", Decode: refvalues.Set(&rv.MRConfigID, refvalues.Fixed)},
		{Name: "mrowner", Decode: refvalues.Set(&rv.MROwner, refvalues.Fixed)},
		{Name: "mrownerconfig", Decode: refvalues.Set(&rv.MROwnerConfig, refvalues.Fixed)},
		{Name: "rtmr_events", Decode: refvalues.List(&rv.RTMREvents, registerEventsOf)},
		{Name: "runtime_events", Decode: refvalues.List(&rv.RuntimeEvents, runtimeEventOf)},
		{Name: "body_types", Decode: refvalues.Set(&rv.BodyTypes, bodyTypeOf)},
		{Name: "allow_debug", Decode: refvalues.Value(&rv.AllowDebug, refvalues.Plain)},
		{Name: "allow_migration", Decode: refvalues.Value(&rv.AllowMigration, refvalues.Plain)},
		{Name: "allow_service_tds", Decode: refvalues.Set(&rv.AllowServiceTDs, refvalues.Fixed)},
		{Name: "require_attributes", Decode: refvalues.Bits(&rv.RequireAttributes, attributeOf)},
		{Name: "deny_attributes", Decode: refvalues.Bits(&rv.DenyAttributes, attributeOf)},
		{Name: "allow_attributes", Decode: refvalues.Bits(&rv.AllowAttributes, unnamedAttributeOf)},
		{Name: "allow_xfam", Decode: bitsOrAll(&rv.AllowXFAM)},
		{Name: "require_xfam", Decode: refvalues.Bits(&rv.RequireXFAM, refvalues.NumberedBit)},
		{Name: "mrseam", Decode: refvalues.Set(&rv.MRSEAM, refvalues.Fixed)},
		{Name: "modules", Decode: refvalues.List(&rv.Modules, moduleOf)},
		{Name: "allow_any_module", Decode: refvalues.Value(&rv.AllowAnyModule, refvalues.Plain)},
		{Name: "statuses", Decode: refvalues.Set(&rv.Statuses, statusOf)},
		{Name: "out_of_date_grace", Decode: refvalues.Value(&rv.OutOfDateGrace, secondsOf)},
		{Name: "advisories", Decode: refvalues.Set(&rv.Advisories, advisoryOf)},
		{Name: "deny_advisories", Decode: refvalues.List(&rv.DenyAdvisories, advisoryOf)},
		{Name: "min_tcb_date", Decode: refvalues.Value(&rv.MinTCBDate, refvalues.Plain)},
		{Name: "min_evaluation_data_number", Decode: refvalues.Value(&rv.MinEvaluationDataNumber, refvalues.Plain)},
		{Name: "max_collateral_age", Decode: refvalues.Value(&rv.MaxCollateralAge, secondsOf)},
		{Name: "ppids", Decode: refvalues.Set(&rv.PPIDs, refvalues.Fixed)},
		{Name: "platform_instances", Decode: refvalues.Set(&rv.PlatformInstances, refvalues.Fixed)},
		{Name: "deny_ppids", Decode: refvalues.List(&rv.DenyPPIDs, refvalues.Fixed)},
		{Name: "deny_pck_serials", Decode: refvalues.List(&rv.DenyPCKSerials, serialOf)},
		{Name: "allow_dynamic_platform", Decode: refvalues.Value(&rv.AllowDynamicPlatform, refvalues.Plain)},
		{Name: "allow_cached_keys", Decode: refvalues.Value(&rv.AllowCachedKeys, refvalues.Plain)},
		{Name: "allow_smt", Decode: refvalues.Value(&rv.AllowSMT, refvalues.Plain)},
	}
}

func registerEventsOf(raw json.RawMessage) (r RegisterEvents, err error) {
	err = refvalues.Whole(raw, []refvalues.Member{
		{Name: "rtmr", Decode: refvalues.Value(&r.RTMR, refvalues.Plain)},
		{Name: "digests", Decode: refvalues.Set(&r.Digests, refvalues.Fixed)},
	})
	if err == nil && r.RTMR >= abi.RTMRs {
		err = fmt.Errorf("RTMR%d, not 0 to 3", r.RTMR)
	}
	return r, err
}

func runtimeEventOf(raw json.RawMessage) (r RuntimeEvent, err error) {
	err = refvalues.Whole(raw, []refvalues.Member{
		{Name: "name", Decode: refvalues.Value(&r.Name, refvalues.Plain)},
		{Name: "payloads", Decode: refvalues.Set(&r.Payloads, payloadOf)},
	})
	if err == nil && (r.Name == "" || strings.Contains(r.Name, ":")) {
		err = errors.New("not the name of an event")
	}
	return r, err
}

// payloadOf decodes the hexadecimal of a payload, which may be empty.
func payloadOf(raw json.RawMessage) (string, error) {
	b, err := refvalues.Plain[strictjson.Hex](raw)
	return string(b), err
}

func bodyTypeOf(raw json.RawMessage) (BodyType, error) {
	n, err := refvalues.Plain[uint16](raw)
	if err == nil && BodyType(n).size() == 0 {
		err = fmt.Errorf("body type %d, not %d or %d", n, TD10, TD15)
	}
	return BodyType(n), err
}

func attributeOf(raw json.RawMessage) (Attributes, error) {
	return refvalues.Bit(raw, attributeFlags())
}

func unnamedAttributeOf(raw json.RawMessage) (Attributes, error) {
	return refvalues.UnnamedBit(raw, attributeFlags())
}

// bitsOrAll decodes a list of numbers of bits, or "*" for all.
func bitsOrAll(into *uint64) func(json.RawMessage) error {
	bits := refvalues.Bits(into, refvalues.NumberedBit)
	return func(raw json.RawMessage) error {
		if string(raw) == `"*"` {
			*into = math.MaxUint64
			return nil
		}
		return bits(raw)
	}
}

func moduleOf(raw json.RawMessage) (f ModuleFloor, err error) {
	err = refvalues.Whole(raw, []refvalues.Member{
		{Name: "version", Decode: refvalues.Value(&f.Version, refvalues.Plain)},
		{Name: "min_svn", Decode: refvalues.Value(&f.MinSVN, refvalues.Plain)},
	})
	return f, err
}

func statusOf(raw json.RawMessage) (Status, error) {
	name, err := refvalues.Plain[string](raw)
	if err != nil {
		return "", err
	}
	switch s := Status(name); s {
	case UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded,
		RelaunchAdvised, RelaunchAdvisedConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded, NotSupported:
		return s, nil
	case Revoked:
		return "", fmt.Errorf("%s is never accepted", Revoked)
	}
	return "", fmt.Errorf("unknown name %.40q", name)
}

// secondsOf decodes a number of seconds.
func secondsOf(raw json.RawMessage) (time.Duration, error) {
	n, err := refvalues.Plain[uint32](raw)
	return time.Duration(n) * time.Second, err
}

func advisoryOf(raw json.RawMessage) (string, error) {
	id, err := refvalues.Plain[string](raw)
	if err == nil && !isText(id) {
		err = errors.New("not the name of an advisory")
	}
	return id, err
}

// serialOf decodes the hexadecimal of a serial number: RFC 5280, section 4.1.2.2.
func serialOf(raw json.RawMessage) ([]byte, error) {
	b, err := refvalues.Octets(raw)
	if err == nil && len(b) > 21 { // 20, and perhaps a zero in front
		err = fmt.Errorf("%d bytes", len(b))
	}
	return b, err
}
