// Package abi states the byte layouts of SEV-SNP once: the attestation report
// and TCB_VERSION (AMD 56860, SEV-SNP Firmware ABI), the certificate table
// (AMD 56421, GHCB) and the extensions of a VEK (AMD 57230). The verifier reads
// by them and the simulated platform writes by them. Numbers are little-endian.
package abi

// Sizes of a report, of the part of it that is signed, and of the whole-report
// signature that follows.
const (
	ReportSize    = 0x4A0
	SignedSize    = 0x2A0
	SignatureSize = ReportSize - SignedSize
)

// Offsets of the fields of ATTESTATION_REPORT.
const (
	Version         = 0x000 // 4 bytes
	GuestSVN        = 0x004 // 4
	Policy          = 0x008 // 8
	FamilyID        = 0x010 // 16
	ImageID         = 0x020 // 16
	VMPL            = 0x030 // 4
	SignatureAlgo   = 0x034 // 4
	CurrentTCB      = 0x038 // 8, TCB_VERSION
	PlatformInfo    = 0x040 // 8
	KeyInfo         = 0x048 // 4
	ReportData      = 0x050 // 64
	Measurement     = 0x090 // 48
	HostData        = 0x0C0 // 32
	IDKeyDigest     = 0x0E0 // 48
	AuthorKeyDigest = 0x110 // 48
	ReportID        = 0x140 // 32
	ReportIDMA      = 0x160 // 32
	ReportedTCB     = 0x180 // 8, TCB_VERSION
	CPUFamily       = 0x188 // 1, from version 3
	CPUModel        = 0x189 // 1, from version 3
	CPUStepping     = 0x18A // 1, from version 3
	ChipID          = 0x1A0 // 64
	CommittedTCB    = 0x1E0 // 8, TCB_VERSION
	CurrentBuild    = 0x1E8 // 1
	CurrentMinor    = 0x1E9 // 1
	CurrentMajor    = 0x1EA // 1
	CommittedBuild  = 0x1EC // 1
	CommittedMinor  = 0x1ED // 1
	CommittedMajor  = 0x1EE // 1
	LaunchTCB       = 0x1F0 // 8, TCB_VERSION

	LaunchMitigations  = 0x1F8 // 8, from version 5
	CurrentMitigations = 0x200 // 8, from version 5

	SignatureR = 0x2A0 // 72, of which P-384 uses 48
	SignatureS = 0x2E8 // 72, of which P-384 uses 48
)

// The versions of ATTESTATION_REPORT laid out here: CPUID comes with
// VersionCPUID, the mitigation vectors with VersionMitigations.
const (
	MinVersion         = 2
	VersionCPUID       = 3
	VersionMitigations = 5
	MaxVersion         = 5
)

// Values of single fields.
const (
	HostVMPL            = 0xFFFFFFFF // VMPL of a report that the host asked for
	MaxVMPL             = 3
	AlgoECDSAP384SHA384 = 1

	PolicyReserved1 = 1 << 17 // must be 1
	PolicyKnown     = 1<<26 - 1

	KeyInfoAuthorKeyEn  = 1 << 0
	KeyInfoMaskChipKey  = 1 << 1
	KeyInfoSigningShift = 2 // SIGNING_KEY is three bits
	KeyInfoSigningMask  = 7
	KeyInfoKnown        = 1<<5 - 1

	SigningVCEK = 0
	SigningVLEK = 1
	SigningNone = 7
)

// ScalarSize is the size of R and S, of which [ScalarUsed] bytes hold a number
// of P-384 and the rest is zero.
const (
	ScalarSize = 72
	ScalarUsed = 48
)

// Range is the bytes from From up to but not including To.
type Range struct{ From, To int }

// Reserved returns the ranges of a report of a version that must be zero, the
// padding of its signature included.
func Reserved(version uint32) [8]Range {
	cpuid := Range{CPUStepping + 1, ChipID}
	if version < VersionCPUID {
		cpuid.From = CPUFamily
	}
	tail := Range{CurrentMitigations + 8, SignedSize}
	if version < VersionMitigations {
		tail.From = LaunchMitigations
	}
	return [...]Range{
		{KeyInfo + 4, ReportData},
		cpuid,
		{CurrentMajor + 1, CommittedBuild},
		{CommittedMajor + 1, LaunchTCB},
		tail,
		{SignatureR + ScalarUsed, SignatureS},
		{SignatureS + ScalarUsed, SignatureS + ScalarSize},
		{SignatureS + ScalarSize, ReportSize},
	}
}
