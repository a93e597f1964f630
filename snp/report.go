package snp

import (
	"encoding/binary"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp/internal/abi"
)

// Report is a view of an unverified report: ATTESTATION_REPORT of AMD 56860,
// 1184 bytes. It shares memory with the bytes it was parsed from. Claims made by
// it are hearsay. The zero Report claims zeros.
type Report struct {
	b    *[abi.ReportSize]byte
	line Line // from CPUID; none for version 2 until its VEK is verified
}

// ParseReport checks length, version, processor, reserved bytes, enumerations
// and the order of TCBs. Errors wrap an [*evidence.Error] that is Malformed or
// Unsupported. It does not allocate, unless it fails.
func ParseReport(b []byte) (Report, error) {
	if len(b) != abi.ReportSize {
		return Report{}, fail(checkSize, evidence.Malformed, "ATTESTATION_REPORT", fmt.Errorf("%d bytes, not %d", len(b), abi.ReportSize))
	}
	r := Report{b: (*[abi.ReportSize]byte)(b)}
	if v := r.Version(); v < abi.MinVersion || v > abi.MaxVersion {
		return Report{}, fail(checkVersion, evidence.Unsupported, "VERSION", fmt.Errorf("version %d", v))
	}
	if family, model, _, ok := r.CPU(); ok {
		if r.line = lineOf(family, model); r.line == 0 {
			return Report{}, fail(checkProcessor, evidence.Unsupported, "CPUID_FAM_ID", fmt.Errorf("family %#x, model %#x", family, model))
		}
	}
	if err := r.checkReserved(); err != nil {
		return Report{}, err
	}
	if err := r.checkEnumerations(); err != nil {
		return Report{}, err
	}
	if err := r.checkTCBOrder(); err != nil {
		return Report{}, err
	}
	return r, nil
}

func (r Report) checkReserved() error {
	for _, x := range abi.Reserved(r.Version()) {
		var or byte
		for _, c := range r.b[x.From:x.To] {
			or |= c
		}
		if or != 0 {
			return fail(checkReserved, evidence.Malformed, fmt.Sprintf("RESERVED_%#x", x.From), nil)
		}
	}
	if p := r.Policy(); p&abi.PolicyReserved1 == 0 || p&^abi.PolicyKnown != 0 {
		return fail(checkReserved, evidence.Malformed, "POLICY", nil)
	}
	if r.keyInfo()&^abi.KeyInfoKnown != 0 {
		return fail(checkReserved, evidence.Malformed, "KEY_INFO", nil)
	}
	if r.line == 0 {
		return nil // version 2: until the line is known no byte of a TCB is known to be reserved
	}
	return r.checkTCBs(checkReserved)
}

// checkTCBs reports whether the TCBs are TCBs of r's line.
func (r Report) checkTCBs(check string) error {
	for _, at := range [...]int{abi.CurrentTCB, abi.ReportedTCB, abi.CommittedTCB, abi.LaunchTCB} {
		if _, ok := decodeTCB(r.line, r.rawTCB(at)); !ok {
			return fail(check, evidence.Malformed, tcbField(at), nil)
		}
	}
	return nil
}

func tcbField(at int) string {
	switch at {
	case abi.CurrentTCB:
		return "CURRENT_TCB"
	case abi.ReportedTCB:
		return "REPORTED_TCB"
	case abi.CommittedTCB:
		return "COMMITTED_TCB"
	}
	return "LAUNCH_TCB"
}

func (r Report) checkEnumerations() error {
	if a := r.u32(abi.SignatureAlgo); a != abi.AlgoECDSAP384SHA384 {
		return fail(checkEnumerations, evidence.Unsupported, "SIGNATURE_ALGO", fmt.Errorf("algorithm %d", a))
	}
	switch r.signingKey() {
	case abi.SigningVCEK, abi.SigningVLEK, abi.SigningNone:
	default:
		return fail(checkEnumerations, evidence.Malformed, "SIGNING_KEY", nil)
	}
	switch vmpl := r.VMPL(); {
	case vmpl == abi.HostVMPL:
		return fail(checkEnumerations, evidence.Unsupported, "VMPL", fmt.Errorf("the host asked for this report, not the guest"))
	case vmpl > abi.MaxVMPL:
		return fail(checkEnumerations, evidence.Malformed, "VMPL", nil)
	}
	return nil
}

// checkTCBOrder reports whether reported ≤ committed ≤ current. Every byte of a
// TCB is a component or zero, so this needs no line.
func (r Report) checkTCBOrder() error {
	reported, committed, current := r.rawTCB(abi.ReportedTCB), r.rawTCB(abi.CommittedTCB), r.rawTCB(abi.CurrentTCB)
	for i := range reported {
		switch {
		case reported[i] > committed[i]:
			return fail(checkTCBOrder, evidence.Malformed, "REPORTED_TCB", fmt.Errorf("above COMMITTED_TCB"))
		case committed[i] > current[i]:
			return fail(checkTCBOrder, evidence.Malformed, "COMMITTED_TCB", fmt.Errorf("above CURRENT_TCB"))
		}
	}
	return nil
}

// Version is VERSION, 2 to 5.
func (r Report) Version() uint32 { return r.u32(abi.Version) }

// GuestSVN is GUEST_SVN, from the ID block.
func (r Report) GuestSVN() uint32 { return r.u32(abi.GuestSVN) }

// Policy is POLICY.
func (r Report) Policy() GuestPolicy { return GuestPolicy(r.u64(abi.Policy)) }

// FamilyID is FAMILY_ID, from the ID block.
func (r Report) FamilyID() [16]byte { return [16]byte(r.at(abi.FamilyID, 16)) }

// ImageID is IMAGE_ID, from the ID block.
func (r Report) ImageID() [16]byte { return [16]byte(r.at(abi.ImageID, 16)) }

// VMPL is the privilege level that asked for the report, 0 (highest) to 3.
func (r Report) VMPL() uint32 { return r.u32(abi.VMPL) }

// Platform is PLATFORM_INFO.
func (r Report) Platform() PlatformInfo { return PlatformInfo(r.u64(abi.PlatformInfo)) }

// ReportData is REPORT_DATA, which the guest chose.
func (r Report) ReportData() [64]byte { return [64]byte(r.at(abi.ReportData, 64)) }

// Measurement is MEASUREMENT: the launch digest, SHA-384.
func (r Report) Measurement() [48]byte { return [48]byte(r.at(abi.Measurement, 48)) }

// HostData is HOST_DATA, which the host chose at launch.
func (r Report) HostData() [32]byte { return [32]byte(r.at(abi.HostData, 32)) }

// IDKeyDigest is ID_KEY_DIGEST, SHA-384; zero without an ID block.
func (r Report) IDKeyDigest() [48]byte { return [48]byte(r.at(abi.IDKeyDigest, 48)) }

// AuthorKeyDigest is AUTHOR_KEY_DIGEST, SHA-384; zero unless AUTHOR_KEY_EN, as
// it means nothing then.
func (r Report) AuthorKeyDigest() [48]byte {
	if r.keyInfo()&abi.KeyInfoAuthorKeyEn == 0 {
		return [48]byte{}
	}
	return [48]byte(r.at(abi.AuthorKeyDigest, 48))
}

// ReportID is REPORT_ID: the firmware's own name for this guest.
func (r Report) ReportID() [32]byte { return [32]byte(r.at(abi.ReportID, 32)) }

// ReportIDMA is REPORT_ID_MA: the REPORT_ID of the migration agent, all bits
// set without one.
func (r Report) ReportIDMA() [32]byte { return [32]byte(r.at(abi.ReportIDMA, 32)) }

// SigningKey is SIGNING_KEY of KEY_INFO, or none.
func (r Report) SigningKey() KeyKind {
	switch {
	case r.b == nil:
		return 0
	case r.signingKey() == abi.SigningVCEK:
		return VCEK
	case r.signingKey() == abi.SigningVLEK:
		return VLEK
	}
	return 0
}

// ChipID is CHIP_ID as the report has it: zero if the host masked it, which a
// VLEK's reports may be. [Claims.Chip] is what the VCEK's certificate says.
func (r Report) ChipID() ChipID { return ChipID(r.at(abi.ChipID, abi.HwIDSize)) }

// CurrentTCB is CURRENT_TCB: what runs now. As the other TCBs it is zero if the
// Line is not known: in a Report of version 2 before it is verified.
func (r Report) CurrentTCB() TCB { return r.tcb(abi.CurrentTCB) }

// ReportedTCB is REPORTED_TCB: what the VEK is derived from.
func (r Report) ReportedTCB() TCB { return r.tcb(abi.ReportedTCB) }

// CommittedTCB is COMMITTED_TCB: what the platform can't be rolled back behind.
func (r Report) CommittedTCB() TCB { return r.tcb(abi.CommittedTCB) }

// LaunchTCB is LAUNCH_TCB: what ran when the guest was launched or imported.
func (r Report) LaunchTCB() TCB { return r.tcb(abi.LaunchTCB) }

// CurrentVersion is the version of the firmware that runs now.
func (r Report) CurrentVersion() FirmwareVersion {
	return FirmwareVersion{r.u8(abi.CurrentMajor), r.u8(abi.CurrentMinor), r.u8(abi.CurrentBuild)}
}

// CommittedVersion is the version of the firmware that is committed.
func (r Report) CommittedVersion() FirmwareVersion {
	return FirmwareVersion{r.u8(abi.CommittedMajor), r.u8(abi.CommittedMinor), r.u8(abi.CommittedBuild)}
}

// Mitigations returns LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR, or false before
// version 5. AMD's bulletins say what the bits stand for.
func (r Report) Mitigations() (launch, current uint64, ok bool) {
	if r.Version() < abi.VersionMitigations {
		return 0, 0, false
	}
	return r.u64(abi.LaunchMitigations), r.u64(abi.CurrentMitigations), true
}

// CPU returns the combined family and model and the stepping of what the report
// says it ran on, or false for version 2.
func (r Report) CPU() (family, model, stepping uint8, ok bool) {
	if r.Version() < abi.VersionCPUID {
		return 0, 0, 0, false
	}
	return r.u8(abi.CPUFamily), r.u8(abi.CPUModel), r.u8(abi.CPUStepping), true
}

func (r Report) keyInfo() uint32 { return r.u32(abi.KeyInfo) }

func (r Report) signingKey() uint32 {
	return r.keyInfo() >> abi.KeyInfoSigningShift & abi.KeyInfoSigningMask
}

func (r Report) tcb(at int) TCB {
	t, _ := decodeTCB(r.line, r.rawTCB(at))
	return t
}

func (r Report) rawTCB(at int) [8]byte { return [8]byte(r.at(at, 8)) }
func (r Report) u8(at int) uint8       { return r.at(at, 1)[0] }
func (r Report) u32(at int) uint32     { return binary.LittleEndian.Uint32(r.at(at, 4)) }
func (r Report) u64(at int) uint64     { return binary.LittleEndian.Uint64(r.at(at, 8)) }

// at returns n bytes of the report, which are zeros in the zero Report.
func (r Report) at(offset, n int) []byte {
	if r.b == nil {
		return make([]byte, n)
	}
	return r.b[offset : offset+n]
}
