package snp

import "github.com/teebroker/teebroker/evidence"

// ReferenceValues are the claims a Relying Party accepts: a policy.Rule. The
// zero ReferenceValues accepts nothing; start from [Baseline]. They are not
// modified while in use.
type ReferenceValues struct {
	// What runs in the guest, and who says so. A digest that a report does not
	// have is its zero value, which a Set must name to accept.
	Measurements evidence.Set[[48]byte]
	VMPLs        evidence.Set[uint32]
	HostData     evidence.Set[[32]byte]
	IDKeys       evidence.Set[[48]byte]
	AuthorKeys   evidence.Set[[48]byte]
	FamilyIDs    evidence.Set[[16]byte]
	ImageIDs     evidence.Set[[16]byte]
	MinGuestSVN  uint32

	// What it runs on, and which key said so. The zero Line and the zero KeyKind
	// are in no Set. The chip behind a VLEK is not known: it is in no Set but
	// Anything, and refused if there are any DenyChips, as it could be one.
	Lines     evidence.Set[Line]
	Keys      evidence.Set[KeyKind]
	Chips     evidence.Set[ChipID]
	DenyChips []ChipID
	CSPs      evidence.Set[string] // of a VLEK; a VCEK has none and is not asked

	// Floors are minimum TCBs by processor. A processor that no Floor names is
	// refused; all Floors that name it must be met.
	Floors []Floor

	// TCBFloors are Floors as data, which count as those in Floors. Rows that are
	// [Unconfirmed] count only with AllowUnconfirmedFloors: a processor that no other
	// row names is then accepted by a number that nobody looked up.
	TCBFloors              TCBFloors
	AllowUnconfirmedFloors bool

	// V2Floors are minimum TCBs for reports of version 2, which do not name
	// their processor. A Line that is not here is refused in version 2: its
	// floor has to hold for every stepping at once.
	V2Floors []LineFloor

	// AllowAnyTCB accepts processors that no Floor names, at any TCB, and
	// AllowAnyV2TCB reports of version 2 of a Line without a floor. Firmware and
	// microcode with known holes are then accepted. They are for documents that
	// narrow another one, which has floors.
	AllowAnyTCB, AllowAnyV2TCB bool

	// What the guest may permit to the host. All other permissions, and bits
	// of POLICY not known here, are refused. With debug the host reads and
	// writes the guest's memory, with migration the migration agent's owner
	// does, CXL memory is outside of the package, and SMT leaves the guest
	// beside strangers on a core.
	AllowDebug, AllowMigration, AllowCXL, AllowSMT bool

	// MinABI is the least firmware interface that the guest must have asked
	// for, compared by major and then minor. RequirePolicy and RequirePlatform
	// are bits that must be set, DenyPlatform bits that must not. Zero demands
	// nothing.
	MinABI          ABI
	RequirePolicy   GuestPolicy
	RequirePlatform PlatformInfo
	DenyPlatform    PlatformInfo

	// AllowPlatform are bits beyond [KnownPlatformInfo] that may be set; others
	// are refused. What they stand for is not known here.
	AllowPlatform PlatformInfo

	// MinLaunchMitigations and MinCurrentMitigations are bits that the
	// mitigation vectors must have; reports before version 5 have none.
	MinLaunchMitigations, MinCurrentMitigations uint64

	// RequireCommitted refuses firmware that is not committed: current TCB
	// other than committed TCB. That reported ≤ committed ≤ current is a check.
	RequireCommitted bool
}

// Minimum is the least TCBs accepted, component by component. All three have
// the Line of what they are compared with: a TCB of no Line accepts nothing.
type Minimum struct{ Reported, Committed, Launch TCB }

// Floor is the Minimum for one range of processors. Security versions do not
// compare between steppings: Genoa, Genoa-X and Bergamo are one Line.
type Floor struct {
	Family             uint8 // combined family, as in a report: 0x19, 0x1A
	MinModel, MaxModel uint8 // combined models, both included
	Steppings          evidence.Set[uint8]
	Minimum
}

// LineFloor is the Minimum for a Line.
type LineFloor struct {
	Line Line
	Minimum
}

// Baseline returns ReferenceValues for guests at VMPL 0 with one of the
// measurements, at the floors or above: any Line with a floor, VCEK only, no
// debug, migration or CXL. Host data, ID and author keys, family and image ids
// and chips are not constrained, and version 2 is refused.
//
// Baseline permits SMT, as deployed guests do. That leaves open what a sibling
// thread can do and see: StackWarp and SMT side channels on microcode that
// is not fixed. To close it, clear AllowSMT and add SMTEnabled to DenyPlatform.
// It does not ask for AliasCheckComplete either, which older firmware lacks.
func Baseline(floors []Floor, measurements ...[48]byte) ReferenceValues {
	return ReferenceValues{
		Measurements: evidence.OneOf(measurements...),
		VMPLs:        evidence.OneOf[uint32](0),
		HostData:     evidence.Anything[[32]byte](),
		IDKeys:       evidence.Anything[[48]byte](),
		AuthorKeys:   evidence.Anything[[48]byte](),
		FamilyIDs:    evidence.Anything[[16]byte](),
		ImageIDs:     evidence.Anything[[16]byte](),
		Lines:        evidence.Anything[Line](),
		Chips:        evidence.Anything[ChipID](),
		Keys:         evidence.OneOf(VCEK),
		Floors:       floors,
		AllowSMT:     true,
	}
}
