package snp

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
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
	has, err := decodeObject(object, rv.members())
	if err != nil {
		return ReferenceValues{}, fmt.Errorf("snp: reference values: %w", err)
	}
	// Floors that somebody wrote are not waived by those that nobody wrote.
	rv.AllowAnyTCB = rv.AllowAnyTCB && (has["allow_any_tcb"] || !has["floors"])
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

// A member is one member of an object and how it is decoded.
type member struct {
	name   string
	decode func(json.RawMessage) error
}

// members returns the members of the object that is decoded into rv, one for
// each field.
func (rv *ReferenceValues) members() []member {
	return []member{
		{"measurements", setOf(&rv.Measurements, octetsOf)},
		{"vmpls", setOf(&rv.VMPLs, vmplOf)},
		{"host_data", setOf(&rv.HostData, octetsOf)},
		{"id_keys", setOf(&rv.IDKeys, octetsOf)},
		{"author_keys", setOf(&rv.AuthorKeys, octetsOf)},
		{"family_ids", setOf(&rv.FamilyIDs, octetsOf)},
		{"image_ids", setOf(&rv.ImageIDs, octetsOf)},
		{"min_guest_svn", value(&rv.MinGuestSVN, plainOf)},
		{"lines", setOf(&rv.Lines, lineNamed)},
		{"keys", setOf(&rv.Keys, keyNamed)},
		{"chips", setOf(&rv.Chips, chipOf)},
		{"deny_chips", listOf(&rv.DenyChips, chipOf)},
		{"csps", setOf(&rv.CSPs, cspOf)},
		{"floors", listOf(&rv.Floors, floorOf)},
		{"v2_floors", listOf(&rv.V2Floors, lineFloorOf)},
		{"allow_any_tcb", value(&rv.AllowAnyTCB, plainOf)},
		{"allow_any_v2_tcb", value(&rv.AllowAnyV2TCB, plainOf)},
		{"allow_debug", value(&rv.AllowDebug, plainOf)},
		{"allow_migration", value(&rv.AllowMigration, plainOf)},
		{"allow_cxl", value(&rv.AllowCXL, plainOf)},
		{"allow_smt", value(&rv.AllowSMT, plainOf)},
		{"min_abi", value(&rv.MinABI, abiOf)},
		{"require_policy", bitsOf(&rv.RequirePolicy, policyBit)},
		{"require_platform", bitsOf(&rv.RequirePlatform, platformBit)},
		{"deny_platform", bitsOf(&rv.DenyPlatform, platformBit)},
		{"allow_platform", bitsOf(&rv.AllowPlatform, unnamedPlatformBit)},
		{"min_launch_mitigations", bitsOf(&rv.MinLaunchMitigations, numberedBit)},
		{"min_current_mitigations", bitsOf(&rv.MinCurrentMitigations, numberedBit)},
		{"require_committed", value(&rv.RequireCommitted, plainOf)},
	}
}

// decodeObject decodes object by members and returns which of them it has.
func decodeObject(object []byte, members []member) (has map[string]bool, err error) {
	var raw map[string]json.RawMessage
	if err := strictjson.Unmarshal(object, &raw); err != nil {
		return nil, err
	}
	has = map[string]bool{}
	for _, m := range members {
		text, ok := raw[m.name]
		if !ok {
			continue
		}
		if err := m.decode(text); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		has[m.name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		if !has[name] {
			return nil, fmt.Errorf("unknown member %.40q", name)
		}
	}
	return has, nil
}

// decodeWhole is decodeObject of an object that must have all members.
func decodeWhole(object []byte, members []member) error {
	has, err := decodeObject(object, members)
	if err != nil {
		return err
	}
	for _, m := range members {
		if !has[m.name] {
			return fmt.Errorf("%s is missing", m.name)
		}
	}
	return nil
}

// value decodes one value.
func value[T any](into *T, decode func(json.RawMessage) (T, error)) func(json.RawMessage) error {
	return func(raw json.RawMessage) (err error) {
		*into, err = decode(raw)
		return err
	}
}

// listOf decodes a list.
func listOf[T any](into *[]T, decode func(json.RawMessage) (T, error)) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		elements, err := plainOf[[]json.RawMessage](raw)
		if err != nil {
			return err
		}
		ts := make([]T, len(elements))
		for i, element := range elements {
			if ts[i], err = decode(element); err != nil {
				return fmt.Errorf("element %d: %w", i+1, err)
			}
		}
		*into = ts
		return nil
	}
}

// setOf decodes a list, or "*" for anything.
func setOf[T comparable](into *evidence.Set[T], decode func(json.RawMessage) (T, error)) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		if string(raw) == `"*"` {
			*into = evidence.Anything[T]()
			return nil
		}
		var ts []T
		if err := listOf(&ts, decode)(raw); err != nil {
			return err
		}
		*into = evidence.OneOf(ts...)
		return nil
	}
}

// bitsOf decodes a list of bits into the number that has them.
func bitsOf[T ~uint64](into *T, decode func(json.RawMessage) (T, error)) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		var bits []T
		if err := listOf(&bits, decode)(raw); err != nil {
			return err
		}
		*into = 0
		for _, bit := range bits {
			*into |= bit
		}
		return nil
	}
}

// plainOf decodes what encoding/json knows.
func plainOf[T any](raw json.RawMessage) (t T, err error) {
	err = strictjson.Unmarshal(raw, &t)
	return t, err
}

func asItIs(raw json.RawMessage) (json.RawMessage, error) { return raw, nil }

// octetsOf decodes lower-case hexadecimal of exactly the length of T.
func octetsOf[T [16]byte | [32]byte | [48]byte | ChipID](raw json.RawMessage) (t T, err error) {
	b, err := plainOf[strictjson.Hex](raw)
	if err != nil {
		return t, err
	}
	if len(b) != len(t) {
		return t, fmt.Errorf("%d bytes, not %d", len(b), len(t))
	}
	for i := range b {
		t[i] = b[i]
	}
	return t, nil
}

func chipOf(raw json.RawMessage) (ChipID, error) {
	chip, err := octetsOf[ChipID](raw)
	if err == nil && chip == (ChipID{}) {
		err = errors.New("no chip has the id zero")
	}
	return chip, err
}

func vmplOf(raw json.RawMessage) (uint32, error) {
	vmpl, err := plainOf[uint32](raw)
	if err == nil && vmpl > 3 {
		err = fmt.Errorf("VMPL %d, not 0 to 3", vmpl)
	}
	return vmpl, err
}

func cspOf(raw json.RawMessage) (string, error) {
	csp, err := plainOf[string](raw)
	if err == nil && csp == "" {
		err = errors.New("no provider has an empty id")
	}
	return csp, err
}

// named decodes the name of one of ts.
func named[T fmt.Stringer](raw json.RawMessage, ts ...T) (t T, err error) {
	name, err := plainOf[string](raw)
	if err != nil {
		return t, err
	}
	for _, t := range ts {
		if t.String() == name {
			return t, nil
		}
	}
	return t, fmt.Errorf("unknown name %.40q", name)
}

func lineNamed(raw json.RawMessage) (Line, error)   { return named(raw, Milan, Genoa, Turin) }
func keyNamed(raw json.RawMessage) (KeyKind, error) { return named(raw, VCEK, VLEK) }

// abiOf decodes a version such as "1.51".
func abiOf(raw json.RawMessage) (v ABI, err error) {
	s, err := plainOf[string](raw)
	if err != nil {
		return ABI{}, err
	}
	major, minor, _ := strings.Cut(s, ".")
	if v.Major, err = plainOf[uint8](json.RawMessage(major)); err == nil {
		v.Minor, err = plainOf[uint8](json.RawMessage(minor))
	}
	if err != nil || fmt.Sprintf("%d.%d", v.Major, v.Minor) != s {
		return ABI{}, errors.New("not a version such as 1.51")
	}
	return v, nil
}

// flagNamed decodes the name of one of flags.
func flagNamed[T ~uint64](raw json.RawMessage, flags []flag[T]) (T, error) {
	name, err := plainOf[string](raw)
	if err != nil {
		return 0, err
	}
	at := slices.IndexFunc(flags, func(f flag[T]) bool { return f.name == name })
	if at < 0 {
		return 0, fmt.Errorf("unknown bit %.40q", name)
	}
	return flags[at].bit, nil
}

func policyBit(raw json.RawMessage) (GuestPolicy, error) { return flagNamed(raw, policyFlags()) }

// platformBit decodes the name of a bit of PLATFORM_INFO, or the number of one
// that has none.
func platformBit(raw json.RawMessage) (PlatformInfo, error) {
	if raw[0] == '"' {
		return flagNamed(raw, platformFlags())
	}
	return unnamedPlatformBit(raw)
}

func unnamedPlatformBit(raw json.RawMessage) (PlatformInfo, error) {
	bit, err := numberedBit(raw)
	if err == nil && PlatformInfo(bit)&KnownPlatformInfo != 0 {
		err = errors.New("a bit that has a name")
	}
	return PlatformInfo(bit), err
}

// numberedBit decodes the number of a bit, 0 to 63.
func numberedBit(raw json.RawMessage) (uint64, error) {
	n, err := plainOf[uint8](raw)
	if err == nil && n > 63 {
		err = fmt.Errorf("bit %d, not 0 to 63", n)
	}
	return 1 << n, err
}

// floorOf decodes a Floor. Its processors must be of one Line, which is that of
// its TCBs.
func floorOf(raw json.RawMessage) (f Floor, err error) {
	var tcbs rawMinimum
	if err := decodeWhole(raw, append([]member{
		{"family", value(&f.Family, plainOf)},
		{"min_model", value(&f.MinModel, plainOf)},
		{"max_model", value(&f.MaxModel, plainOf)},
		{"steppings", setOf(&f.Steppings, plainOf)},
	}, tcbs.members()...)); err != nil {
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
	if err := decodeWhole(raw, append([]member{{"line", value(&f.Line, lineNamed)}}, tcbs.members()...)); err != nil {
		return LineFloor{}, err
	}
	f.Minimum, err = tcbs.of(f.Line)
	return f, err
}

// rawMinimum is a Minimum whose Line is not known yet.
type rawMinimum struct{ reported, committed, launch json.RawMessage }

func (m *rawMinimum) members() []member {
	return []member{
		{"reported", value(&m.reported, asItIs)},
		{"committed", value(&m.committed, asItIs)},
		{"launch", value(&m.launch, asItIs)},
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
	members := []member{
		{"bootloader", value(&t.Bootloader, plainOf)},
		{"tee", value(&t.TEE, plainOf)},
		{"firmware", value(&t.Firmware, plainOf)},
		{"microcode", value(&t.Microcode, plainOf)},
	}
	if line == Turin {
		members = append(members, member{"fmc", value(&t.FMC, plainOf)})
	}
	return t, decodeWhole(raw, members)
}
