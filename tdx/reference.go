package tdx

import (
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// ReferenceValues are the claims a Relying Party accepts: a policy.Rule. The
// zero ReferenceValues accepts nothing; start from [Baseline]. They are not
// modified while in use.
type ReferenceValues struct {
	// What runs in the TD, and what the host said of it at launch. A register
	// that nobody extended, and one that the host left alone, is zeros, which a
	// Set must name to accept.
	MRTD                       evidence.Set[[48]byte]
	RTMR0, RTMR1, RTMR2, RTMR3 evidence.Set[[48]byte]
	MRConfigID                 evidence.Set[[48]byte]
	MROwner, MROwnerConfig     evidence.Set[[48]byte]

	// What registers were extended with, for those that no Set can list the values
	// of. Each rule counts, and needs an event log to go by.
	RTMREvents    []RegisterEvents
	RuntimeEvents []RuntimeEvent

	// BodyTypes are the TD reports accepted; the zero BodyType is in no Set. A
	// TD10 says neither which service TDs are bound nor which module runs now.
	BodyTypes evidence.Set[BodyType]

	// AllowDebug accepts any bit of TUD: the host may then see into the TD.
	// AllowMigration accepts MIGRATABLE: a migration TD of the host's choice may
	// then have what is in the TD. AllowServiceTDs are the MRSERVICETD accepted
	// beside zero, which stands for no service TD; a TD10 is not asked.
	AllowDebug, AllowMigration bool
	AllowServiceTDs            evidence.Set[[48]byte]

	// RequireAttributes are bits that must be set, such as [SEPTVEDisable], and
	// DenyAttributes bits that must not. AllowAttributes are bits beyond
	// [KnownAttributes] that may be set; others are refused.
	RequireAttributes, DenyAttributes, AllowAttributes Attributes

	// AllowXFAM are the CPU features that the TD may have and RequireXFAM those
	// that it must. Bits 0 and 1 are always set: zero accepts no TD.
	AllowXFAM, RequireXFAM uint64

	// MRSEAM are the TDX modules accepted. Modules are the least security
	// versions by major version of the module: both the module that the TD was
	// launched with and, in a TD15, the one that runs now have to be of a version
	// in the list and meet all its entries for that version.
	MRSEAM  evidence.Set[[48]byte]
	Modules []ModuleFloor

	// AllowAnyModule accepts modules of versions that are not in Modules. How
	// recent they are is then left to Statuses alone.
	AllowAnyModule bool

	// Statuses are the TCB statuses accepted. Revoked, of any part, is never
	// accepted, nor is a TCB that was not appraised. NotSupported, below
	// everything that Intel lists, is accepted if it is in the Set: leave it out.
	Statuses evidence.Set[Status]

	// OutOfDateGrace is how old the tcbDate of what is out of date may be. A part
	// that is not older counts as if it were not out of date, and the status that
	// follows must be in Statuses. All issues disclosed before the tcbDate are
	// fixed, so that it bounds for how long holes have been public. It is judged
	// at Verified.CheckedAt. Zero gives none.
	OutOfDateGrace time.Duration

	// Advisories are those accepted: all that Intel lists for the TCB have to be in the
	// Set, and none in DenyAdvisories, where case means nothing. Intel lists
	// them for a TCB that is UpToDate, too, where software has to do its part.
	Advisories     evidence.Set[string]
	DenyAdvisories []string

	// MinTCBDate is the earliest TCB.Date accepted, and MinEvaluationDataNumber
	// the least number of TCB Info and QE identity. Zero demands nothing.
	MinTCBDate              time.Time
	MinEvaluationDataNumber uint32

	// MaxCollateralAge is how far past its nextUpdate collateral may have been.
	// Zero accepts only what was current. See Config.StaleGrace.
	MaxCollateralAge time.Duration

	// Which platform it runs on. A Processor CA names no platform instance: it
	// is in no Set but Anything. A platform whose keys are known to others keeps
	// its PPID, while it gets certificates with new serial numbers; these are
	// big-endian, and zeros in front mean nothing.
	PPIDs             evidence.Set[[16]byte]
	PlatformInstances evidence.Set[[16]byte]
	DenyPPIDs         [][16]byte
	DenyPCKSerials    [][]byte

	// What the PCK certificate may say of the platform: that packages may be
	// added, that Intel keeps its keys, and that threads share cores. What a
	// Processor CA does not say is taken to be so.
	AllowDynamicPlatform, AllowCachedKeys, AllowSMT bool
}

// ModuleFloor is the least security version of TDX modules of one major version:
// 0 is TDX 1.0, 1 is TDX 1.5, 3 is TDX 2.0. Security versions of different major
// versions do not compare.
type ModuleFloor struct{ Version, MinSVN uint8 }

// RegisterEvents are the digests that an RTMR, 0 to 3, may have been extended with:
// all of them have to be in Digests, and there has to be one. Their order and
// number are not judged.
type RegisterEvents struct {
	RTMR    uint8
	Digests evidence.Set[[48]byte]
}

// RuntimeEvent is an event that RTMR3 must have been extended with exactly once,
// whatever other runtime events it was extended with. An event of RTMR3 without a
// name is refused: it may be one of this name, which the log does not say. Payloads
// are the bytes accepted, as a string.
type RuntimeEvent struct {
	Name     string
	Payloads evidence.Set[string]
}

// Baseline returns ReferenceValues for TDs that are exactly an image, on a TCB
// that is UpToDate: all of MRTD and RTMR0 to 3 count. No debug, no migration, no
// service TD, only current collateral. To accept several images, or
// registers that differ between machines, as RTMR0 does, edit the result.
//
// MRCONFIGID, MROWNER and MROWNERCONFIG, which the host chooses, CPU features, the
// attributes that are left, advisories and the platform are not constrained, and
// the module is held to what Intel demands for UpToDate. Baseline does not require
// SEPTVEDisable: without it a guest has to handle the exceptions by which the host
// can take pages from it.
//
// Baseline permits SMT, dynamic platforms and cached keys, as deployed platforms
// have them. Whoever has physical access to some platform can make quotes that
// are UpToDate: if that counts, list your platforms in PPIDs or PlatformInstances.
func Baseline(mrtd [48]byte, rtmrs [4][48]byte) ReferenceValues {
	return ReferenceValues{
		MRTD:                 evidence.OneOf(mrtd),
		RTMR0:                evidence.OneOf(rtmrs[0]),
		RTMR1:                evidence.OneOf(rtmrs[1]),
		RTMR2:                evidence.OneOf(rtmrs[2]),
		RTMR3:                evidence.OneOf(rtmrs[3]),
		MRConfigID:           evidence.Anything[[48]byte](),
		MROwner:              evidence.Anything[[48]byte](),
		MROwnerConfig:        evidence.Anything[[48]byte](),
		BodyTypes:            evidence.OneOf(TD10, TD15),
		AllowXFAM:            ^uint64(0),
		MRSEAM:               evidence.Anything[[48]byte](),
		AllowAnyModule:       true,
		Statuses:             evidence.OneOf(UpToDate),
		Advisories:           evidence.Anything[string](),
		PPIDs:                evidence.Anything[[16]byte](),
		PlatformInstances:    evidence.Anything[[16]byte](),
		AllowDynamicPlatform: true,
		AllowCachedKeys:      true,
		AllowSMT:             true,
	}
}
