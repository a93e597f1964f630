package snp

import (
	"encoding/binary"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp/internal/abi"
)

// fields is a report that is written field by field, and what its endorsements say.
type fields struct {
	raw [abi.ReportSize]byte
	Claims
}

func (f *fields) put(at int, b ...byte)     { copy(f.raw[at:], b) }
func (f *fields) put32(at int, n uint32)    { binary.LittleEndian.PutUint32(f.raw[at:], n) }
func (f *fields) put64(at int, n uint64)    { binary.LittleEndian.PutUint64(f.raw[at:], n) }
func (f *fields) flip(at int, bit uint64)   { f.put64(at, binary.LittleEndian.Uint64(f.raw[at:])^bit) }
func (f *fields) policy(bit GuestPolicy)    { f.flip(abi.Policy, uint64(bit)) }
func (f *fields) platform(bit PlatformInfo) { f.flip(abi.PlatformInfo, uint64(bit)) }

// tcb writes one TCB, or with at zero all four.
func (f *fields) tcb(at int, t TCB) {
	b := t.raw()
	for _, each := range []int{abi.CurrentTCB, abi.ReportedTCB, abi.CommittedTCB, abi.LaunchTCB} {
		if at == 0 || at == each {
			f.put(each, b[:]...)
		}
	}
}

// verified returns what a Verifier would for f.
func (f *fields) verified() *evidence.Verified {
	c := f.Claims
	c.Report = Report{b: &f.raw, line: c.Line}
	return &evidence.Verified{Format: Format, Bound: true, Claims: &c}
}

var turinTCB = TCB{Line: Turin, FMC: 2, Bootloader: 3, TEE: 4, Firmware: 5, Microcode: 6}

// turin returns a report in which every claim has a value of its own.
func turin() *fields {
	f := &fields{Claims: Claims{Line: Turin, Key: VCEK, Chip: ChipID{7}}}
	f.put32(abi.Version, 5)
	f.put32(abi.GuestSVN, 10)
	f.put64(abi.Policy, uint64(abi.PolicyReserved1|SMT|SingleSocket)|1<<8|51)
	f.put64(abi.PlatformInfo, uint64(SMTEnabled|AliasCheckComplete))
	f.put32(abi.KeyInfo, abi.KeyInfoAuthorKeyEn)
	f.put(abi.Measurement, 1)
	f.put(abi.HostData, 2)
	f.put(abi.IDKeyDigest, 3)
	f.put(abi.AuthorKeyDigest, 4)
	f.put(abi.FamilyID, 5)
	f.put(abi.ImageID, 6)
	f.put(abi.CPUFamily, 0x1A, 0x02, 0x01)
	f.put64(abi.LaunchMitigations, 0b011)
	f.put64(abi.CurrentMitigations, 0b111)
	f.tcb(0, turinTCB)
	return f
}

// milanV2 is the same as a report of version 2 on Milan.
func milanV2(f *fields) {
	f.Line = Milan
	f.put32(abi.Version, 2)
	f.put(abi.CPUFamily, 0, 0, 0)
	f.put64(abi.LaunchMitigations, 0)
	f.put64(abi.CurrentMitigations, 0)
	f.tcb(0, milanTCB)
}

var milanTCB = TCB{Line: Milan, Bootloader: 3, TEE: 4, Firmware: 5, Microcode: 6}

// exact returns the ReferenceValues that ask of turin all that can be asked.
func exact() ReferenceValues {
	return ReferenceValues{
		Measurements:          evidence.OneOf([48]byte{1}),
		VMPLs:                 evidence.OneOf[uint32](0),
		HostData:              evidence.OneOf([32]byte{2}),
		IDKeys:                evidence.OneOf([48]byte{3}),
		AuthorKeys:            evidence.OneOf([48]byte{4}),
		FamilyIDs:             evidence.OneOf([16]byte{5}),
		ImageIDs:              evidence.OneOf([16]byte{6}),
		MinGuestSVN:           10,
		Lines:                 evidence.OneOf(Turin),
		Keys:                  evidence.OneOf(VCEK),
		Chips:                 evidence.OneOf(ChipID{7}),
		DenyChips:             []ChipID{{8}},
		Floors:                []Floor{turinFloor(turinTCB)},
		AllowSMT:              true,
		MinABI:                ABI{1, 51},
		RequirePolicy:         SingleSocket,
		RequirePlatform:       AliasCheckComplete,
		DenyPlatform:          TSMEEnabled,
		MinLaunchMitigations:  0b011,
		MinCurrentMitigations: 0b111,
		RequireCommitted:      true,
	}
}

func turinFloor(t TCB) Floor {
	return Floor{0x1A, 0x02, 0x03, evidence.OneOf[uint8](1), Minimum{t, t, t}}
}

// lower returns t with one component changed by n.
func with(t TCB, edit func(*TCB)) TCB { edit(&t); return t }

// TestReferenceValues changes one thing at a time, in the report or in what is
// asked of it. Every field is there with a change that is accepted and with one
// that is not.
func TestReferenceValues(t *testing.T) {
	type rv = ReferenceValues
	floors := func(fs ...Floor) func(*rv) { return func(r *rv) { r.Floors = fs } }
	low := with(turinTCB, func(t *TCB) { t.Microcode = 5 })
	high := with(turinTCB, func(t *TCB) { t.Microcode = 7 })
	atMilan := func(r *rv) {
		r.Lines, r.MinLaunchMitigations, r.MinCurrentMitigations = evidence.OneOf(Milan), 0, 0
	}
	v2 := func(fs ...LineFloor) func(*rv) { return func(r *rv) { atMilan(r); r.V2Floors = fs } }
	vlek := func(f *fields) { f.Key, f.Chip, f.CSP = VLEK, ChipID{}, "CN=csp" }
	forVLEK := func(r *rv) {
		r.Keys, r.Chips, r.DenyChips, r.CSPs = evidence.OneOf(VLEK), evidence.Anything[ChipID](), nil, evidence.OneOf("CN=csp")
	}

	tests := []struct {
		field  string // of ReferenceValues
		name   string
		report func(*fields)
		rv     func(*rv)
		want   string // the mismatches, nothing if accepted
	}{
		{"", "as it is", nil, nil, ""},

		{"Measurements", "another", func(f *fields) { f.put(abi.Measurement, 9) }, nil, "snp.measurement"},
		{"Measurements", "last byte", func(f *fields) { f.put(abi.Measurement+47, 9) }, nil, "snp.measurement"},
		{"Measurements", "one of two", nil, func(r *rv) { r.Measurements = evidence.OneOf([48]byte{9}, [48]byte{1}) }, ""},
		{"Measurements", "none", nil, func(r *rv) { r.Measurements = evidence.Set[[48]byte]{} }, "snp.measurement"},
		{"VMPLs", "another", func(f *fields) { f.put32(abi.VMPL, 1) }, nil, "snp.vmpl: got 1, want one of [0]"},
		{"VMPLs", "one of two", func(f *fields) { f.put32(abi.VMPL, 2) }, func(r *rv) { r.VMPLs = evidence.OneOf[uint32](0, 2) }, ""},
		{"VMPLs", "none", nil, func(r *rv) { r.VMPLs = evidence.Set[uint32]{} }, "snp.vmpl: got 0, want one of []"},
		{"HostData", "another", func(f *fields) { f.put(abi.HostData, 9) }, nil, "snp.host_data"},
		{"HostData", "anything", func(f *fields) { f.put(abi.HostData, 9) }, func(r *rv) { r.HostData = evidence.Anything[[32]byte]() }, ""},
		{"HostData", "none", nil, func(r *rv) { r.HostData = evidence.Set[[32]byte]{} }, "snp.host_data"},
		{"IDKeys", "another", func(f *fields) { f.put(abi.IDKeyDigest, 9) }, nil, "snp.id_key_digest"},
		{"IDKeys", "no ID block", func(f *fields) { f.put(abi.IDKeyDigest, 0) }, nil, "snp.id_key_digest"},
		{"IDKeys", "no ID block, asked for", func(f *fields) { f.put(abi.IDKeyDigest, 0) }, func(r *rv) { r.IDKeys = evidence.OneOf([48]byte{}) }, ""},
		{"IDKeys", "none", nil, func(r *rv) { r.IDKeys = evidence.Set[[48]byte]{} }, "snp.id_key_digest"},
		{"AuthorKeys", "another", func(f *fields) { f.put(abi.AuthorKeyDigest, 9) }, nil, "snp.author_key_digest"},
		{"AuthorKeys", "not enabled", func(f *fields) { f.put32(abi.KeyInfo, 0) }, nil, "snp.author_key_digest"},
		{"AuthorKeys", "anything", func(f *fields) { f.put(abi.AuthorKeyDigest, 9) }, func(r *rv) { r.AuthorKeys = evidence.Anything[[48]byte]() }, ""},
		{"AuthorKeys", "none", nil, func(r *rv) { r.AuthorKeys = evidence.Set[[48]byte]{} }, "snp.author_key_digest"},
		{"FamilyIDs", "another", func(f *fields) { f.put(abi.FamilyID, 9) }, nil, "snp.family_id: got 09000000000000000000000000000000, want one of [05000000000000000000000000000000]"},
		{"FamilyIDs", "one of two", nil, func(r *rv) { r.FamilyIDs = evidence.OneOf([16]byte{9}, [16]byte{5}) }, ""},
		{"FamilyIDs", "none", nil, func(r *rv) { r.FamilyIDs = evidence.Set[[16]byte]{} }, "snp.family_id"},
		{"ImageIDs", "another", func(f *fields) { f.put(abi.ImageID, 9) }, nil, "snp.image_id"},
		{"ImageIDs", "one of two", nil, func(r *rv) { r.ImageIDs = evidence.OneOf([16]byte{9}, [16]byte{6}) }, ""},
		{"ImageIDs", "none", nil, func(r *rv) { r.ImageIDs = evidence.Set[[16]byte]{} }, "snp.image_id"},
		{"MinGuestSVN", "lower", func(f *fields) { f.put32(abi.GuestSVN, 9) }, nil, "snp.guest_svn: got 9, want at least 10"},
		{"MinGuestSVN", "higher", func(f *fields) { f.put32(abi.GuestSVN, 1<<31) }, nil, ""},

		{"Lines", "another", nil, func(r *rv) { r.Lines = evidence.OneOf(Milan, Genoa) }, "snp.line: got Turin, want one of [Milan Genoa]"},
		{"Lines", "one of two", nil, func(r *rv) { r.Lines = evidence.OneOf(Milan, Turin) }, ""},
		{"Lines", "none", nil, func(r *rv) { r.Lines = evidence.Set[Line]{} }, "snp.line: got Turin, want one of []"},
		{"Lines", "of no line", func(f *fields) { f.Line = 0 }, func(r *rv) {
			r.Lines, r.Floors, r.AllowAnyTCB, r.RequireCommitted = evidence.Anything[Line](), nil, true, false
		}, "snp.line: got none, want one of []"},
		{"Keys", "VLEK", vlek, func(r *rv) { forVLEK(r); r.Keys = evidence.OneOf(VCEK) }, "snp.key: got VLEK, want one of [VCEK]"},
		{"Keys", "VLEK, asked for", vlek, forVLEK, ""},
		{"Keys", "none", nil, func(r *rv) { r.Keys = evidence.Set[KeyKind]{} }, "snp.key: got VCEK, want one of []"},
		{"Keys", "of no kind", func(f *fields) { f.Key = 0 }, func(r *rv) { r.Keys, r.CSPs = evidence.Anything[KeyKind](), evidence.Anything[string]() }, "snp.key: got none, want one of []"},
		{"Chips", "another", func(f *fields) { f.Chip = ChipID{9} }, nil, "snp.chip"},
		{"Chips", "last byte", func(f *fields) { f.Chip[63] = 9 }, nil, "snp.chip"},
		{"Chips", "anything", func(f *fields) { f.Chip = ChipID{9} }, func(r *rv) { r.Chips = evidence.Anything[ChipID]() }, ""},
		{"Chips", "none", nil, func(r *rv) { r.Chips = evidence.Set[ChipID]{} }, "snp.chip"},
		{"Chips", "not known", vlek, func(r *rv) { forVLEK(r); r.Chips = evidence.OneOf(ChipID{}) }, "snp.chip: got absent, want one of [" + strings.Repeat("0", 128) + "]"},
		{"DenyChips", "denied", func(f *fields) { f.Chip = ChipID{8} }, func(r *rv) { r.Chips = evidence.Anything[ChipID]() }, "snp.chip"},
		{"DenyChips", "denied although asked for", func(f *fields) { f.Chip = ChipID{8} }, func(r *rv) { r.Chips = evidence.OneOf(ChipID{8}) }, "snp.chip"},
		{"DenyChips", "not known", vlek, func(r *rv) { forVLEK(r); r.DenyChips = []ChipID{{8}} }, "snp.chip: got absent, want none of [08" + strings.Repeat("0", 126) + "]"},
		{"DenyChips", "others", nil, func(r *rv) { r.DenyChips = []ChipID{{8}, {9}} }, ""},
		{"CSPs", "another", func(f *fields) { vlek(f); f.CSP = "CN=other" }, forVLEK, "snp.csp: got CN=other, want one of [CN=csp]"},
		{"CSPs", "none", vlek, func(r *rv) { forVLEK(r); r.CSPs = evidence.Set[string]{} }, "snp.csp: got CN=csp, want one of []"},
		{"CSPs", "not asked of a VCEK", nil, func(r *rv) { r.CSPs = evidence.Set[string]{} }, ""},

		{"Floors", "higher", func(f *fields) { f.tcb(0, high) }, nil, ""},
		{"Floors", "reported too low", func(f *fields) { f.tcb(abi.ReportedTCB, low) }, nil, "snp.tcb.reported.microcode: got 5, want at least 6"},
		{"Floors", "launched too low", func(f *fields) { f.tcb(abi.LaunchTCB, low) }, nil, "snp.tcb.launch.microcode: got 5, want at least 6"},
		{"Floors", "committed too low", func(f *fields) { f.tcb(abi.CommittedTCB, low) }, func(r *rv) { r.RequireCommitted = false }, "snp.tcb.committed.microcode: got 5, want at least 6"},
		{"Floors", "current is not asked", func(f *fields) { f.tcb(abi.CurrentTCB, low) }, func(r *rv) { r.RequireCommitted = false }, ""},
		{"Floors", "FMC", nil, floors(turinFloor(with(turinTCB, func(t *TCB) { t.FMC++ }))), "snp.tcb.reported.fmc: got 2, want at least 3; snp.tcb.committed.fmc: got 2, want at least 3; snp.tcb.launch.fmc: got 2, want at least 3"},
		{"Floors", "boot loader", nil, floors(turinFloor(with(turinTCB, func(t *TCB) { t.Bootloader++ }))), "snp.tcb.reported.bootloader; snp.tcb.committed.bootloader; snp.tcb.launch.bootloader"},
		{"Floors", "TEE", nil, floors(turinFloor(with(turinTCB, func(t *TCB) { t.TEE++ }))), "snp.tcb.reported.tee; snp.tcb.committed.tee; snp.tcb.launch.tee"},
		{"Floors", "firmware", nil, floors(turinFloor(with(turinTCB, func(t *TCB) { t.Firmware++ }))), "snp.tcb.reported.firmware; snp.tcb.committed.firmware; snp.tcb.launch.firmware"},
		{"Floors", "several components, one report", nil, floors(Floor{0x1A, 2, 2, evidence.OneOf[uint8](1), Minimum{with(turinTCB, func(t *TCB) { t.TEE, t.Microcode = 9, 9 }), turinTCB, turinTCB}}), "snp.tcb.reported.tee: got 4, want at least 9; snp.tcb.reported.microcode: got 6, want at least 9"},
		{"Floors", "none", nil, floors(), "snp.cpu.family: got 26, want one of []"},
		{"Floors", "another family", func(f *fields) { f.put(abi.CPUFamily, 0x19) }, nil, "snp.cpu.family: got 25, want one of [26]"},
		{"Floors", "model below", func(f *fields) { f.put(abi.CPUModel, 1) }, nil, "snp.cpu.model: got 1, want one of [2-3]"},
		{"Floors", "model above", func(f *fields) { f.put(abi.CPUModel, 4) }, nil, "snp.cpu.model: got 4, want one of [2-3]"},
		{"Floors", "last model", func(f *fields) { f.put(abi.CPUModel, 3) }, nil, ""},
		{"Floors", "another stepping", func(f *fields) { f.put(abi.CPUStepping, 2) }, nil, "snp.cpu.stepping: got 2, want one of [1]"},
		{"Floors", "any stepping", func(f *fields) { f.put(abi.CPUStepping, 2) }, floors(Floor{0x1A, 2, 2, evidence.Anything[uint8](), Minimum{turinTCB, turinTCB, turinTCB}}), ""},
		{"Floors", "no stepping", nil, floors(Floor{Family: 0x1A, MinModel: 2, MaxModel: 2, Minimum: Minimum{turinTCB, turinTCB, turinTCB}}), "snp.cpu.stepping: got 1, want one of []"},
		{"Floors", "both of two that name it, first", nil, floors(turinFloor(high), turinFloor(turinTCB)), "snp.tcb.reported.microcode; snp.tcb.committed.microcode; snp.tcb.launch.microcode"},
		{"Floors", "both of two that name it, second", nil, floors(turinFloor(turinTCB), turinFloor(high)), "snp.tcb.reported.microcode; snp.tcb.committed.microcode; snp.tcb.launch.microcode"},
		{"Floors", "not one that names another", nil, floors(Floor{0x1A, 3, 3, evidence.OneOf[uint8](1), Minimum{high, high, high}}, turinFloor(turinTCB)), ""},
		{"Floors", "of no line", nil, floors(turinFloor(TCB{})), "snp.line: got Turin, want equal none; snp.line: got Turin, want equal none; snp.line: got Turin, want equal none"},
		{"Floors", "of another line", nil, floors(turinFloor(milanTCB)), "snp.line: got Turin, want equal Milan; snp.line; snp.line"},
		{"Floors", "one of three without a line", nil, floors(Floor{0x1A, 2, 2, evidence.OneOf[uint8](1), Minimum{Reported: turinTCB, Committed: turinTCB}}), "snp.line: got Turin, want equal none"},
		{"AllowAnyTCB", "no floor", nil, func(r *rv) { r.Floors, r.AllowAnyTCB = nil, true }, ""},
		{"AllowAnyTCB", "a floor that does not name it", func(f *fields) { f.put(abi.CPUModel, 4) }, func(r *rv) { r.AllowAnyTCB = true }, ""},
		{"AllowAnyTCB", "a floor that names it", func(f *fields) { f.tcb(0, low) }, func(r *rv) { r.AllowAnyTCB = true }, "snp.tcb.reported.microcode; snp.tcb.committed.microcode; snp.tcb.launch.microcode"},
		{"AllowAnyTCB", "not for version 2", milanV2, func(r *rv) { atMilan(r); r.AllowAnyTCB = true }, "snp.version: got 2, want at least 3"},
		{"V2Floors", "none", milanV2, v2(), "snp.version: got 2, want at least 3"},
		{"V2Floors", "met", milanV2, v2(LineFloor{Milan, Minimum{milanTCB, milanTCB, milanTCB}}), ""},
		{"V2Floors", "not met", func(f *fields) { milanV2(f); f.tcb(abi.ReportedTCB, with(milanTCB, func(t *TCB) { t.Firmware = 4 })) }, v2(LineFloor{Milan, Minimum{milanTCB, milanTCB, milanTCB}}), "snp.tcb.reported.firmware: got 4, want at least 5"},
		{"V2Floors", "another line", milanV2, v2(LineFloor{Genoa, Minimum{milanTCB, milanTCB, milanTCB}}), "snp.line: got Milan, want one of [Genoa]"},
		{"V2Floors", "all that name the line", milanV2, v2(LineFloor{Milan, Minimum{milanTCB, milanTCB, milanTCB}}, LineFloor{Milan, Minimum{milanTCB, milanTCB, with(milanTCB, func(t *TCB) { t.TEE = 9 })}}), "snp.tcb.launch.tee: got 4, want at least 9"},
		{"V2Floors", "of no line", milanV2, v2(LineFloor{Line: Milan}), "snp.line: got Milan, want equal none; snp.line; snp.line"},
		{"V2Floors", "not for version 5", nil, func(r *rv) { r.Floors, r.V2Floors = nil, []LineFloor{{Turin, Minimum{turinTCB, turinTCB, turinTCB}}} }, "snp.cpu.family: got 26, want one of []"},
		{"V2Floors", "floors are not for version 2", milanV2, func(r *rv) {
			atMilan(r)
			r.Floors = []Floor{{0, 0, 0, evidence.Anything[uint8](), Minimum{milanTCB, milanTCB, milanTCB}}}
		}, "snp.version: got 2, want at least 3"},
		{"AllowAnyV2TCB", "no floor", milanV2, func(r *rv) { atMilan(r); r.AllowAnyV2TCB = true }, ""},
		{"AllowAnyV2TCB", "a floor that names it", milanV2, func(r *rv) { v2(LineFloor{Line: Milan})(r); r.AllowAnyV2TCB = true }, "snp.line; snp.line; snp.line"},
		{"AllowAnyV2TCB", "not for version 5", nil, func(r *rv) { r.Floors, r.AllowAnyV2TCB = nil, true }, "snp.cpu.family"},
		{"AllowAnyV2TCB", "not for version 1", func(f *fields) { milanV2(f); f.put32(abi.Version, 1) }, func(r *rv) { atMilan(r); r.AllowAnyV2TCB = true }, "snp.version: got 1, want at least 2"},

		{"TCBFloors", "a row that is met", nil, func(r *rv) { r.Floors, r.TCBFloors.Rows = nil, []TCBFloor{row(1, 6, ByBulletin)} }, ""},
		{"TCBFloors", "a row that is not", nil, func(r *rv) { r.TCBFloors.Rows = []TCBFloor{row(1, 7, ByBulletin)} }, "snp.tcb.reported.microcode: got 6, want at least 7"},
		{"TCBFloors", "a row of another stepping", nil, func(r *rv) { r.Floors, r.TCBFloors.Rows = nil, []TCBFloor{row(2, 6, ByBulletin)} }, "snp.cpu.stepping: got 1, want one of [2]"},
		{"AllowUnconfirmedFloors", "not asked for", nil, func(r *rv) { r.Floors, r.TCBFloors.Rows = nil, []TCBFloor{row(1, 6, Unconfirmed)} }, "snp.cpu.family"},
		{"AllowUnconfirmedFloors", "asked for", nil, func(r *rv) {
			r.Floors, r.TCBFloors.Rows, r.AllowUnconfirmedFloors = nil, []TCBFloor{row(1, 6, Unconfirmed)}, true
		}, ""},

		{"AllowDebug", "debug", func(f *fields) { f.policy(Debug) }, nil, "snp.policy.debug: got true, want equal false"},
		{"AllowDebug", "debug, allowed", func(f *fields) { f.policy(Debug) }, func(r *rv) { r.AllowDebug = true }, ""},
		{"AllowDebug", "not used", nil, func(r *rv) { r.AllowDebug = true }, ""},
		{"AllowMigration", "migration", func(f *fields) { f.policy(MigrateMA) }, nil, "snp.policy.migrate_ma: got true, want equal false"},
		{"AllowMigration", "migration, allowed", func(f *fields) { f.policy(MigrateMA) }, func(r *rv) { r.AllowMigration = true }, ""},
		{"AllowCXL", "CXL", func(f *fields) { f.policy(CXL) }, nil, "snp.policy.cxl: got true, want equal false"},
		{"AllowCXL", "CXL, allowed", func(f *fields) { f.policy(CXL) }, func(r *rv) { r.AllowCXL = true }, ""},
		{"AllowSMT", "SMT", nil, func(r *rv) { r.AllowSMT = false }, "snp.policy.smt: got true, want equal false"},
		{"AllowSMT", "no SMT", func(f *fields) { f.policy(SMT) }, func(r *rv) { r.AllowSMT = false }, ""},
		{"AllowDebug", "others that are allowed", func(f *fields) { f.policy(Debug) }, func(r *rv) { r.AllowMigration, r.AllowCXL = true, true }, "snp.policy.debug"},
		{"AllowSMT", "an unknown permission", func(f *fields) { f.policy(1 << 26) }, nil, "snp.policy: got 68354355, want equal 1245491"},
		{"AllowSMT", "the last bit", func(f *fields) { f.policy(1 << 63) }, func(r *rv) { r.AllowDebug, r.AllowMigration, r.AllowCXL = true, true, true }, "snp.policy"},

		{"MinABI", "minor below", func(f *fields) { f.put(abi.Policy, 50) }, nil, "snp.policy.abi_minor: got 50, want at least 51"},
		{"MinABI", "major below, minor above", func(f *fields) { f.put(abi.Policy, 99, 0) }, nil, "snp.policy.abi_major: got 0, want at least 1"},
		{"MinABI", "major above, minor below", func(f *fields) { f.put(abi.Policy, 0, 2) }, nil, ""},
		{"MinABI", "minor above", func(f *fields) { f.put(abi.Policy, 52) }, nil, ""},
		{"RequirePolicy", "missing", func(f *fields) { f.policy(SingleSocket) }, nil, "snp.policy.single_socket: got false, want equal true"},
		{"RequirePolicy", "not demanded", func(f *fields) { f.policy(SingleSocket) }, func(r *rv) { r.RequirePolicy = 0 }, ""},
		{"RequirePolicy", "several", nil, func(r *rv) { r.RequirePolicy = MemAES256XTS | RAPLDisable | CiphertextHidingDRAM | PageSwapDisable }, "snp.policy.mem_aes_256_xts; snp.policy.rapl_disable; snp.policy.ciphertext_hiding_dram; snp.policy.page_swap_disable"},
		{"RequirePolicy", "offered", func(f *fields) { f.policy(RAPLDisable) }, nil, ""},
		{"RequirePolicy", "does not allow", func(f *fields) { f.policy(Debug) }, func(r *rv) { r.RequirePolicy = Debug }, "snp.policy.debug: got true, want equal false"},
		{"RequirePlatform", "missing", func(f *fields) { f.platform(AliasCheckComplete) }, nil, "snp.platform.alias_check_complete: got false, want equal true"},
		{"RequirePlatform", "not demanded", func(f *fields) { f.platform(AliasCheckComplete) }, func(r *rv) { r.RequirePlatform = 0 }, ""},
		{"RequirePlatform", "without a name", nil, func(r *rv) { r.RequirePlatform = 1 << 8 }, "snp.platform: got 33, want equal 289"},
		{"DenyPlatform", "set", func(f *fields) { f.platform(TSMEEnabled) }, nil, "snp.platform.tsme_enabled: got true, want equal false"},
		{"DenyPlatform", "several", func(f *fields) { f.platform(TSMEEnabled) }, func(r *rv) { r.DenyPlatform = TSMEEnabled | SMTEnabled | TIOEnabled }, "snp.platform.smt_enabled; snp.platform.tsme_enabled"},
		{"DenyPlatform", "others", func(f *fields) {
			f.platform(ECCEnabled | RAPLDisabled | CiphertextHidingDRAMEnabled | IOMMUWriteSafe | TIOEnabled)
		}, nil, ""},
		{"AllowPlatform", "unknown", func(f *fields) { f.platform(1 << 8) }, nil, "snp.platform: got 289, want equal 33"},
		{"AllowPlatform", "unknown, allowed", func(f *fields) { f.platform(1 << 8) }, func(r *rv) { r.AllowPlatform = 1 << 8 }, ""},
		{"AllowPlatform", "unknown, another allowed", func(f *fields) { f.platform(1 << 63) }, func(r *rv) { r.AllowPlatform = 1 << 8 }, "snp.platform"},
		{"AllowPlatform", "denied all the same", func(f *fields) { f.platform(1 << 8) }, func(r *rv) { r.AllowPlatform, r.DenyPlatform = 1<<8, 1<<8 }, "snp.platform: got 289, want equal 33"},

		{"MinLaunchMitigations", "missing", func(f *fields) { f.put64(abi.LaunchMitigations, 0b101) }, nil, "snp.mitigations.launch: got 5, want equal 7"},
		{"MinLaunchMitigations", "more", func(f *fields) { f.put64(abi.LaunchMitigations, 0b111) }, nil, ""},
		{"MinLaunchMitigations", "before version 5", func(f *fields) { f.put32(abi.Version, 4) }, func(r *rv) { r.MinCurrentMitigations = 0 }, "snp.mitigations.launch: got absent, want equal 3"},
		{"MinCurrentMitigations", "missing", func(f *fields) { f.put64(abi.CurrentMitigations, 0b1011) }, nil, "snp.mitigations.current: got 11, want equal 15"},
		{"MinCurrentMitigations", "more", func(f *fields) { f.put64(abi.CurrentMitigations, 1<<63|0b111) }, nil, ""},
		{"MinCurrentMitigations", "before version 5", func(f *fields) { f.put32(abi.Version, 3) }, func(r *rv) { r.MinLaunchMitigations = 0 }, "snp.mitigations.current: got absent, want equal 7"},
		{"MinCurrentMitigations", "before version 5, none demanded", func(f *fields) { f.put32(abi.Version, 3) }, func(r *rv) { r.MinLaunchMitigations, r.MinCurrentMitigations = 0, 0 }, ""},

		{"RequireCommitted", "not committed", func(f *fields) { f.tcb(abi.CurrentTCB, high) }, nil, "snp.tcb.current.microcode: got 7, want equal 6"},
		{"RequireCommitted", "not committed, FMC and firmware", func(f *fields) { f.tcb(abi.CurrentTCB, with(turinTCB, func(t *TCB) { t.FMC, t.Firmware = 9, 9 })) }, nil, "snp.tcb.current.fmc: got 9, want equal 2; snp.tcb.current.firmware: got 9, want equal 5"},
		{"RequireCommitted", "not committed, not demanded", func(f *fields) { f.tcb(abi.CurrentTCB, high) }, func(r *rv) { r.RequireCommitted = false }, ""},
		{"RequireCommitted", "TCBs of no line", func(f *fields) { f.Line = 0 }, func(r *rv) { r.Lines, r.Floors, r.AllowAnyTCB = evidence.Anything[Line](), nil, true }, "snp.line; snp.line: got none, want equal none"},

		{"", "everything is wrong", func(f *fields) { *f = fields{} }, nil, "snp.measurement; snp.host_data; snp.id_key_digest; snp.author_key_digest; snp.family_id; snp.image_id; snp.guest_svn; snp.line; snp.key; snp.csp; snp.chip; snp.chip; snp.policy.single_socket; snp.policy.abi_major; snp.platform.alias_check_complete; snp.mitigations.launch; snp.mitigations.current; snp.version; snp.line"},
	}

	accepted, refused := map[string]bool{}, map[string]bool{}
	for _, tt := range tests {
		f, r := turin(), exact()
		if tt.report != nil {
			tt.report(f)
		}
		if tt.rv != nil {
			tt.rv(&r)
		}
		ms := r.Appraise(f.verified())
		if !sameMismatches(ms, tt.want) {
			t.Errorf("%s, %s:\n got %v\nwant [%s]", tt.field, tt.name, ms, tt.want)
		}
		if tt.want == "" {
			accepted[tt.field] = true
		} else {
			refused[tt.field] = true
		}
		if again := r.Appraise(f.verified()); !reflect.DeepEqual(ms, again) {
			t.Errorf("%s, %s: another answer the second time", tt.field, tt.name)
		}
	}
	for f := range reflect.TypeFor[ReferenceValues]().Fields() {
		if !accepted[f.Name] || !refused[f.Name] {
			t.Errorf("%s: accepted %v, refused %v: both are wanted", f.Name, accepted[f.Name], refused[f.Name])
		}
	}
}

// sameMismatches reports whether ms are want: of each its whole text or its claim.
func sameMismatches(ms []evidence.Mismatch, want string) bool {
	var wants []string
	if want != "" {
		wants = strings.Split(want, "; ")
	}
	return slices.EqualFunc(ms, wants, func(m evidence.Mismatch, want string) bool { return m.String() == want || m.Claim == want })
}

// The zero ReferenceValues, and any that lack one of what must be said, accept nothing.
func TestReferenceValuesZero(t *testing.T) {
	if ms := (ReferenceValues{}).Appraise(turin().verified()); len(ms) == 0 {
		t.Error("the zero ReferenceValues accepts")
	}
	all := unconstrained()
	if ms := all.Appraise(turin().verified()); len(ms) != 0 {
		t.Fatalf("unconstrained: %v", ms)
	}
	f := turin()
	f.policy(SMT | CXL | Debug | MigrateMA)
	f.platform(1<<8 | 1<<63)
	if ms := all.Appraise(f.verified()); len(ms) != 0 {
		t.Fatalf("unconstrained: %v", ms)
	}
	f.policy(1 << 26)
	if ms := all.Appraise(f.verified()); len(ms) == 0 {
		t.Error("unknown bits of POLICY are accepted")
	}
}

// What is not a verified report is a mismatch of the format.
func TestReferenceValuesFormat(t *testing.T) {
	for name, v := range map[string]*evidence.Verified{
		"nothing":            nil,
		"no claims":          {Format: Format},
		"nil claims":         {Format: Format, Claims: (*Claims)(nil)},
		"another's claims":   {Format: Format, Claims: otherClaims{}},
		"another format":     {Format: "tdx-quote", Claims: turin().verified().Claims},
		"a format left open": {Claims: turin().verified().Claims},
	} {
		if ms := unconstrained().Appraise(v); len(ms) != 1 || ms[0].Claim != "format" {
			t.Errorf("%s: %v", name, ms)
		}
	}
	// Claims of no report claim zeros, which are not accepted either.
	v := &evidence.Verified{Format: Format, Claims: &Claims{Line: Turin, Key: VCEK}}
	if ms := unconstrained().Appraise(v); len(ms) == 0 {
		t.Error("claims without a report are accepted")
	}
}

type otherClaims struct{ evidence.Claims }

// Every mismatch names a claim that reports have.
func TestReferenceValuesClaimNames(t *testing.T) {
	known := map[string]bool{}
	for _, key := range []KeyKind{VCEK, VLEK} {
		f := turin()
		f.Key = key
		for name := range f.verified().Claims.(*Claims).All() {
			known[name] = true
		}
	}
	all := ^uint64(0)
	rv := ReferenceValues{
		MinGuestSVN: 99, DenyChips: []ChipID{{7}},
		Floors: []Floor{turinFloor(TCB{Turin, 255, 255, 255, 255, 255})},
		MinABI: ABI{9, 9}, RequirePolicy: ^GuestPolicy(0), RequirePlatform: ^PlatformInfo(0),
		MinLaunchMitigations: all, MinCurrentMitigations: all, RequireCommitted: true,
	}
	appraised := map[string]bool{}
	for _, edit := range []func(*fields){
		nil,
		milanV2,
		func(f *fields) { f.Key = VLEK; f.tcb(abi.CurrentTCB, TCB{Turin, 9, 9, 9, 9, 9}) },
		func(f *fields) { f.put(abi.CPUFamily, 1); f.put(abi.Policy, 0, 9) },
		func(f *fields) { f.put(abi.CPUModel, 9) },
		func(f *fields) { f.put(abi.CPUStepping, 9) },
		func(f *fields) { f.policy(^GuestPolicy(0)); f.platform(^PlatformInfo(0)) },
	} {
		f := turin()
		if edit != nil {
			edit(f)
		}
		for _, m := range rv.Appraise(f.verified()) {
			appraised[m.Claim] = true
			if !known[m.Claim] {
				t.Errorf("%s is no claim", m.Claim)
			}
		}
	}
	// Nobody can ask about what identifies one guest or one report, and versions
	// of firmware are asked for as TCBs.
	silent := []string{"snp.report_data", "snp.report_id", "snp.report_id_ma", "snp.chip_id", "snp.current_version", "snp.committed_version"}
	for name := range known {
		if appraised[name] == slices.Contains(silent, name) {
			t.Errorf("%s: appraised %v", name, appraised[name])
		}
	}
}

func TestBaseline(t *testing.T) {
	floor := turinFloor(turinTCB)
	for _, tt := range []struct {
		name   string
		report func(*fields)
		want   string
	}{
		{"as it is", func(*fields) {}, ""},
		{"other host data, keys, ids and chip", func(f *fields) {
			for _, at := range []int{abi.HostData, abi.IDKeyDigest, abi.AuthorKeyDigest, abi.FamilyID, abi.ImageID} {
				f.put(at, 99)
			}
			f.Chip = ChipID{99}
		}, ""},
		{"no SMT", func(f *fields) { f.policy(SMT) }, ""},
		{"another measurement", func(f *fields) { f.put(abi.Measurement, 99) }, "snp.measurement"},
		{"another VMPL", func(f *fields) { f.put32(abi.VMPL, 1) }, "snp.vmpl"},
		{"debug", func(f *fields) { f.policy(Debug) }, "snp.policy.debug"},
		{"migration", func(f *fields) { f.policy(MigrateMA) }, "snp.policy.migrate_ma"},
		{"CXL", func(f *fields) { f.policy(CXL) }, "snp.policy.cxl"},
		{"VLEK", func(f *fields) { f.Key = VLEK }, "snp.key; snp.csp"},
		{"below the floor", func(f *fields) { f.tcb(abi.LaunchTCB, TCB{Line: Turin}) }, "snp.tcb.launch.fmc; snp.tcb.launch.bootloader; snp.tcb.launch.tee; snp.tcb.launch.firmware; snp.tcb.launch.microcode"},
		{"a processor without floor", func(f *fields) { f.put(abi.CPUModel, 0x11) }, "snp.cpu.model"},
		{"version 2", milanV2, "snp.version"},
	} {
		f := turin()
		tt.report(f)
		if ms := Baseline([]Floor{floor}, [48]byte{1}).Appraise(f.verified()); !sameMismatches(ms, tt.want) {
			t.Errorf("%s: %v, want [%s]", tt.name, ms, tt.want)
		}
	}
	if len(Baseline(nil, [48]byte{1}).Appraise(turin().verified())) == 0 || len(Baseline([]Floor{floor}).Appraise(turin().verified())) == 0 {
		t.Error("a Baseline without floors or measurements accepts")
	}
}

func BenchmarkReferenceValues(b *testing.B) {
	v, rv := turin().verified(), exact()
	b.ReportAllocs()
	for b.Loop() {
		if len(rv.Appraise(v)) != 0 {
			b.Fatal("refused")
		}
	}
}
