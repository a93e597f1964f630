package tdx

import (
	"encoding/hex"

	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// BodyType says what a quote is about: the body type of a quote of version 5.
type BodyType uint16

// The BodyTypes. A quote of version 4 has a TD10.
const (
	TD10 BodyType = abi.BodyTD10 // TD report of TDX 1.0
	TD15 BodyType = abi.BodyTD15 // TD report of TDX 1.5
)

// size returns the size of a body in bytes, 0 for one that is not handled.
func (t BodyType) size() uint32 {
	switch t {
	case TD10:
		return abi.TD10Size
	case TD15:
		return abi.TD15Size
	}
	return 0
}

// Attributes is the TDATTRIBUTES field: what the host was asked for when the TD
// was made. Intel TDX Module ABI, section ATTRIBUTES.
type Attributes uint64

// The bits of Attributes. Any of TUD means that the TD is under debug, so that
// the host may see into it. KnownAttributes is all of them; a quote may have
// others, which newer modules define.
const (
	Debug         Attributes = 1 << 0
	HGSPlusProf   Attributes = 1 << 4
	PerfProf      Attributes = 1 << 5
	PMTProf       Attributes = 1 << 6
	ICSSD         Attributes = 1 << 16
	LASS          Attributes = 1 << 27
	SEPTVEDisable Attributes = 1 << 28
	Migratable    Attributes = 1 << 29
	PKS           Attributes = 1 << 30
	KL            Attributes = 1 << 31
	TPA           Attributes = 1 << 62
	Perfmon       Attributes = 1 << 63

	TUD Attributes = 0xFF

	KnownAttributes = Debug | HGSPlusProf | PerfProf | PMTProf | ICSSD | LASS | SEPTVEDisable | Migratable | PKS | KL | TPA | Perfmon
)

// SVN is TEE_TCB_SVN or TEE_TCB_SVN_2: security versions by component.
type SVN [abi.SVNs]uint8

// Module returns the security version of the TDX module.
func (s SVN) Module() uint8 { return s[abi.SVNModule] }

// ModuleVersion returns the major version of the TDX module: 0 is TDX 1.0, 1 is
// TDX 1.5. Security versions compare within one of them.
func (s SVN) ModuleVersion() uint8 { return s[abi.SVNModuleVersion] }

// FMSPC names a kind of platform, for which Intel publishes one TCB Info: 6 bytes.
type FMSPC [6]byte

// String returns f in lower-case hexadecimal.
func (f FMSPC) String() string { return hex.EncodeToString(f[:]) }

// CA is the kind of CA that issued a PCK certificate.
type CA uint8

// The CAs. The zero CA is none.
const (
	PlatformCA  CA = 1 + iota // of platforms with several processor packages
	ProcessorCA               // of platforms with one
)

// String returns the word by which Intel's PCS knows c.
func (c CA) String() string {
	switch c {
	case PlatformCA:
		return "platform"
	case ProcessorCA:
		return "processor"
	}
	return "none"
}

// commonName returns the name in the certificate of c.
func (c CA) commonName() string {
	switch c {
	case PlatformCA:
		return abi.NamePlatformCA
	case ProcessorCA:
		return abi.NameProcessorCA
	}
	return ""
}

// SGXType says how a platform protects the memory of enclaves.
type SGXType uint8

// The SGXTypes.
const (
	SGXStandard SGXType = iota
	SGXScalable
	SGXScalableWithIntegrity
)

// String returns t in the words of Intel's profile.
func (t SGXType) String() string {
	switch t {
	case SGXStandard:
		return "standard"
	case SGXScalable:
		return "scalable"
	case SGXScalableWithIntegrity:
		return "scalable with integrity"
	}
	return "none"
}
