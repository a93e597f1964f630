package snp

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/refvalues"
)

// DecodeReferenceValues decodes one object of a policy document, strictly.
// Members are called as the fields of [ReferenceValues], in snake_case:
// docs/policy.md lists them with their types. Members left out of a complete
// object accept nothing and demand nothing; those left out of a partial one
// constrain nothing. A partial object is for a Policy that narrows another.
func DecodeReferenceValues(object []byte, partial bool) (ReferenceValues, error) {
	var rv ReferenceValues
	if partial {
		rv = unconstrained()
	}
	has, err := refvalues.Object(object, rv.members())
	if err != nil {
		return ReferenceValues{}, fmt.Errorf("snp: reference values: %w", err)
	}
	// Floors that somebody wrote are not waived by those that nobody wrote.
	rv.AllowAnyTCB = rv.AllowAnyTCB && (has["allow_any_tcb"] || !has["floors"] && !has["tcb_floors"])
	rv.AllowAnyV2TCB = rv.AllowAnyV2TCB && (has["allow_any_v2_tcb"] || !has["v2_floors"])
	return rv, nil
}

// unconstrained returns the ReferenceValues that accept every claim.
func unconstrained() ReferenceValues {
	return ReferenceValues{
		Measurements:   evidence.Anything[[48]byte](),
		VMPLs:          evidence.Anything[uint32](),
		HostData:       evidence.Anything[[32]byte](),
		IDKeys:         evidence.Anything[[48]byte](),
		AuthorKeys:     evidence.Anything[[48]byte](),
		FamilyIDs:      evidence.Anything[[16]byte](),
		ImageIDs:       evidence.Anything[[16]byte](),
		Lines:          evidence.Anything[Line](),
		Keys:           evidence.Anything[KeyKind](),
		Chips:          evidence.Anything[ChipID](),
		CSPs:           evidence.Anything[string](),
		AllowAnyTCB:    true,
		AllowAnyV2TCB:  true,
		AllowDebug:     true,
		AllowMigration: true,
		AllowCXL:       true,
		AllowSMT:       true,
		AllowPlatform:  ^KnownPlatformInfo,
	}
}

// members returns the members of the object that is decoded into rv, one for
// each field.
func (rv *ReferenceValues) members() []refvalues.Member {
	return []refvalues.Member{
		{Name: "measurements", Decode: refvalues.Set(&rv.Measurements, refvalues.Fixed)},
		{Name: "vmpls", Decode: refvalues.Set(&rv.VMPLs, vmplOf)},
		{Name: "host_data", Decode: refvalues.Set(&rv.HostData, refvalues.Fixed)},
		{Name: "id_keys", Decode: refvalues.Set(&rv.IDKeys, refvalues.Fixed)},
		{Name: "author_keys", Decode: refvalues.Set(&rv.AuthorKeys, refvalues.Fixed)},
		{Name: "family_ids", Decode: refvalues.Set(&rv.FamilyIDs, refvalues.Fixed)},
		{Name: "image_ids", Decode: refvalues.Set(&rv.ImageIDs, refvalues.Fixed)},
		{Name: "min_guest_svn", Decode: refvalues.Value(&rv.MinGuestSVN, refvalues.Plain)},
		{Name: "lines", Decode: refvalues.Set(&rv.Lines, lineNamed)},
		{Name: "keys", Decode: refvalues.Set(&rv.Keys, keyNamed)},
		{Name: "chips", Decode: refvalues.Set(&rv.Chips, chipOf)},
		{Name: "deny_chips", Decode: refvalues.List(&rv.DenyChips, chipOf)},
		{Name: "csps", Decode: refvalues.Set(&rv.CSPs, cspOf)},
		{Name: "floors", Decode: refvalues.List(&rv.Floors, floorOf)},
		{Name: "tcb_floors", Decode: refvalues.Value(&rv.TCBFloors, tcbFloorsOf)},
		{Name: "allow_unconfirmed_floors", Decode: refvalues.Value(&rv.AllowUnconfirmedFloors, refvalues.Plain)},
		{Name: "v2_floors", Decode: refvalues.List(&rv.V2Floors, lineFloorOf)},
		{Name: "allow_any_tcb", Decode: refvalues.Value(&rv.AllowAnyTCB, refvalues.Plain)},
		{Name: "allow_any_v2_tcb", Decode: refvalues.Value(&rv.AllowAnyV2TCB, refvalues.Plain)},
		{Name: "allow_debug", Decode: refvalues.Value(&rv.AllowDebug, refvalues.Plain)},
		{Name: "allow_migration", Decode: refvalues.Value(&rv.AllowMigration, refvalues.Plain)},
		{Name: "allow_cxl", Decode: refvalues.Value(&rv.AllowCXL, refvalues.Plain)},
		{Name: "allow_smt", Decode: refvalues.Value(&rv.AllowSMT, refvalues.Plain)},
		{Name: "min_abi", Decode: refvalues.Value(&rv.MinABI, abiOf)},
		{Name: "require_policy", Decode: refvalues.Bits(&rv.RequirePolicy, policyBit)},
		{Name: "require_platform", Decode: refvalues.Bits(&rv.RequirePlatform, platformBit)},
		{Name: "deny_platform", Decode: refvalues.Bits(&rv.DenyPlatform, platformBit)},
		{Name: "allow_platform", Decode: refvalues.Bits(&rv.AllowPlatform, unnamedPlatformBit)},
		{Name: "min_launch_mitigations", Decode: refvalues.Bits(&rv.MinLaunchMitigations, refvalues.NumberedBit)},
		{Name: "min_current_mitigations", Decode: refvalues.Bits(&rv.MinCurrentMitigations, refvalues.NumberedBit)},
		{Name: "require_committed", Decode: refvalues.Value(&rv.RequireCommitted, refvalues.Plain)},
	}
}

func asItIs(raw json.RawMessage) (json.RawMessage, error) { return raw, nil }

func chipOf(raw json.RawMessage) (ChipID, error) {
	chip, err := refvalues.Fixed[ChipID](raw)
	if err == nil && chip == (ChipID{}) {
		err = errors.New("no chip has the id zero")
	}
	return chip, err
}

func vmplOf(raw json.RawMessage) (uint32, error) {
	vmpl, err := refvalues.Plain[uint32](raw)
	if err == nil && vmpl > 3 {
		err = fmt.Errorf("VMPL %d, not 0 to 3", vmpl)
	}
	return vmpl, err
}

func cspOf(raw json.RawMessage) (string, error) {
	csp, err := refvalues.Plain[string](raw)
	if err == nil && csp == "" {
		err = errors.New("no provider has an empty id")
	}
	return csp, err
}

func lineNamed(raw json.RawMessage) (Line, error)   { return refvalues.Named(raw, Milan, Genoa, Turin) }
func keyNamed(raw json.RawMessage) (KeyKind, error) { return refvalues.Named(raw, VCEK, VLEK) }

// abiOf decodes a version such as "1.51".
func abiOf(raw json.RawMessage) (v ABI, err error) {
	s, err := refvalues.Plain[string](raw)
	if err != nil {
		return ABI{}, err
	}
	major, minor, _ := strings.Cut(s, ".")
	if v.Major, err = refvalues.Plain[uint8](json.RawMessage(major)); err == nil {
		v.Minor, err = refvalues.Plain[uint8](json.RawMessage(minor))
	}
	if err != nil || fmt.Sprintf("%d.%d", v.Major, v.Minor) != s {
		return ABI{}, errors.New("not a version such as 1.51")
	}
	return v, nil
}

func policyBit(raw json.RawMessage) (GuestPolicy, error) {
	return refvalues.NamedBit(raw, policyFlags())
}

func platformBit(raw json.RawMessage) (PlatformInfo, error) {
	return refvalues.Bit(raw, platformFlags())
}

func unnamedPlatformBit(raw json.RawMessage) (PlatformInfo, error) {
	return refvalues.UnnamedBit(raw, platformFlags())
}

// floorOf decodes a Floor. Its processors must be of one Line, which is that of
// its TCBs.
func floorOf(raw json.RawMessage) (Floor, error) { return floorWith(raw) }

// floorWith decodes a Floor that has more members.
func floorWith(raw json.RawMessage, more ...refvalues.Member) (f Floor, err error) {
	var tcbs rawMinimum
	if err := refvalues.Whole(raw, append(append([]refvalues.Member{
		{Name: "family", Decode: refvalues.Value(&f.Family, refvalues.Plain)},
		{Name: "min_model", Decode: refvalues.Value(&f.MinModel, refvalues.Plain)},
		{Name: "max_model", Decode: refvalues.Value(&f.MaxModel, refvalues.Plain)},
		{Name: "steppings", Decode: refvalues.Set(&f.Steppings, refvalues.Plain)},
	}, tcbs.members()...), more...)); err != nil {
		return Floor{}, err
	}
	line := lineOf(f.Family, f.MinModel)
	for model := int(f.MinModel); model <= int(f.MaxModel); model++ {
		if lineOf(f.Family, uint8(model)) != line {
			line = 0
		}
	}
	if line == 0 || f.MinModel > f.MaxModel {
		return Floor{}, fmt.Errorf("models %d to %d of family %d are not processors of one line", f.MinModel, f.MaxModel, f.Family)
	}
	f.Minimum, err = tcbs.of(line)
	return f, err
}

// lineFloorOf decodes a LineFloor.
func lineFloorOf(raw json.RawMessage) (f LineFloor, err error) {
	var tcbs rawMinimum
	if err := refvalues.Whole(raw, append([]refvalues.Member{{Name: "line", Decode: refvalues.Value(&f.Line, lineNamed)}}, tcbs.members()...)); err != nil {
		return LineFloor{}, err
	}
	f.Minimum, err = tcbs.of(f.Line)
	return f, err
}

// rawMinimum is a Minimum whose Line is not known yet.
type rawMinimum struct{ reported, committed, launch json.RawMessage }

func (m *rawMinimum) members() []refvalues.Member {
	return []refvalues.Member{
		{Name: "reported", Decode: refvalues.Value(&m.reported, asItIs)},
		{Name: "committed", Decode: refvalues.Value(&m.committed, asItIs)},
		{Name: "launch", Decode: refvalues.Value(&m.launch, asItIs)},
	}
}

// of decodes m for line.
func (m *rawMinimum) of(line Line) (least Minimum, err error) {
	for _, tcb := range []struct {
		name string
		raw  json.RawMessage
		into *TCB
	}{
		{"reported", m.reported, &least.Reported},
		{"committed", m.committed, &least.Committed},
		{"launch", m.launch, &least.Launch},
	} {
		if *tcb.into, err = tcbOn(line, tcb.raw); err != nil {
			return Minimum{}, fmt.Errorf("%s: %w", tcb.name, err)
		}
	}
	return least, nil
}

// tcbOn decodes a TCB of line, of which all components must be there, or "*"
// for the lowest.
func tcbOn(line Line, raw json.RawMessage) (TCB, error) {
	t := TCB{Line: line}
	if string(raw) == `"*"` {
		return t, nil
	}
	members := []refvalues.Member{
		{Name: "bootloader", Decode: refvalues.Value(&t.Bootloader, refvalues.Plain)},
		{Name: "tee", Decode: refvalues.Value(&t.TEE, refvalues.Plain)},
		{Name: "firmware", Decode: refvalues.Value(&t.Firmware, refvalues.Plain)},
		{Name: "microcode", Decode: refvalues.Value(&t.Microcode, refvalues.Plain)},
	}
	if line == Turin {
		members = append(members, refvalues.Member{Name: "fmc", Decode: refvalues.Value(&t.FMC, refvalues.Plain)})
	}
	// Not in the return: Go does not say whether t would be copied before or after.
	err := refvalues.Whole(raw, members)
	return t, err
}
