package snp

import (
	"fmt"

	"github.com/teebroker/teebroker/snp/internal/abi"
)

// KeyKind says which key signed a report: SIGNING_KEY.
type KeyKind uint8

// The KeyKinds. The zero KeyKind is none.
const (
	VCEK KeyKind = 1 + iota // of one chip at one TCB
	VLEK                    // given to a cloud provider for its chips at one TCB
)

// String returns k in AMD's spelling.
func (k KeyKind) String() string {
	switch k {
	case VCEK:
		return "VCEK"
	case VLEK:
		return "VLEK"
	}
	return "none"
}

// GuestPolicy is the POLICY field: what the owner of the guest asked the
// firmware to hold the host to. AMD 56860, section 4.3.
type GuestPolicy uint64

// The bits of GuestPolicy. SMT, MigrateMA, Debug and CXL are permissions given
// to the host; the others ask something of it.
const (
	SMT                  GuestPolicy = 1 << 16
	MigrateMA            GuestPolicy = 1 << 18
	Debug                GuestPolicy = 1 << 19
	SingleSocket         GuestPolicy = 1 << 20
	CXL                  GuestPolicy = 1 << 21
	MemAES256XTS         GuestPolicy = 1 << 22
	RAPLDisable          GuestPolicy = 1 << 23
	CiphertextHidingDRAM GuestPolicy = 1 << 24
	PageSwapDisable      GuestPolicy = 1 << 25
)

// ABI returns the least firmware ABI the guest asked for.
func (p GuestPolicy) ABI() ABI { return ABI{uint8(p >> 8), uint8(p)} }

// ABI is a version of the firmware interface.
type ABI struct{ Major, Minor uint8 }

// PlatformInfo is the PLATFORM_INFO field: how the platform is set up. AMD
// 56860, table PLATFORM_INFO.
type PlatformInfo uint64

// The bits of PlatformInfo. KnownPlatformInfo is all of them; a report may have
// others, which newer firmware defines.
const (
	SMTEnabled                  PlatformInfo = 1 << 0
	TSMEEnabled                 PlatformInfo = 1 << 1
	ECCEnabled                  PlatformInfo = 1 << 2
	RAPLDisabled                PlatformInfo = 1 << 3
	CiphertextHidingDRAMEnabled PlatformInfo = 1 << 4
	AliasCheckComplete          PlatformInfo = 1 << 5
	IOMMUWriteSafe              PlatformInfo = 1 << 6
	TIOEnabled                  PlatformInfo = 1 << 7

	KnownPlatformInfo PlatformInfo = 1<<8 - 1
)

// FirmwareVersion is the version of the SEV firmware, such as 1.55.40.
type FirmwareVersion struct{ Major, Minor, Build uint8 }

// String returns major, minor and build in decimal with dots between.
func (v FirmwareVersion) String() string {
	return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Build)
}

// ChipID is the hwID of a chip: 64 bytes, of which Turin uses the first 8 and
// leaves the others zero.
type ChipID [abi.HwIDSize]byte
