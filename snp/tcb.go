package snp

import "github.com/teebroker/teebroker/snp/internal/abi"

// Line is a product line: the root that endorses a chip, and the layout of its TCB.
type Line uint8

// The Lines. Bergamo and Siena are of line Genoa. The zero Line is none.
const (
	Milan Line = 1 + iota
	Genoa
	Turin
)

// lines returns every Line.
func lines() [3]Line { return [...]Line{Milan, Genoa, Turin} }

// String returns the name by which AMD's certificates and key server know l.
func (l Line) String() string {
	switch l {
	case Milan:
		return "Milan"
	case Genoa:
		return "Genoa"
	case Turin:
		return "Turin"
	}
	return "none"
}

// order returns where TCB_VERSION of l has its components.
func (l Line) order() abi.Order {
	switch l {
	case Milan, Genoa:
		return abi.OrderMilan
	case Turin:
		return abi.OrderTurin
	}
	return 0
}

// hwIDSize returns how many bytes of a ChipID are hwID.
func (l Line) hwIDSize() int {
	if l == Turin {
		return abi.HwIDSizeTurin
	}
	return abi.HwIDSize
}

// lineOf returns the Line of a processor, or none if there is none known. Family
// and model are the combined values of CPUID, as in a report.
func lineOf(family, model uint8) Line {
	switch {
	case family == 0x19 && model <= 0x0F:
		return Milan
	case family == 0x19 && (model>>4 == 0x1 || model>>4 == 0xA):
		return Genoa
	case family == 0x1A && model <= 0x11:
		return Turin
	}
	return 0
}

// TCB is a TCB_VERSION of one Line: the security versions of its parts, which
// AMD calls SPLs. TCBs of different Lines do not compare. AMD 56860, section
// 2.2, and AMD 57230.
type TCB struct {
	Line       Line
	FMC        uint8 // Turin only
	Bootloader uint8
	TEE        uint8
	Firmware   uint8 // of SEV-SNP, AMD's SNP
	Microcode  uint8
}

// AtLeast reports whether t is of floor's Line and no component is lower. A TCB
// of no Line is at least nothing, and nothing is at least it.
func (t TCB) AtLeast(floor TCB) bool {
	return t.Line != 0 && t.Line == floor.Line &&
		t.FMC >= floor.FMC &&
		t.Bootloader >= floor.Bootloader &&
		t.TEE >= floor.TEE &&
		t.Firmware >= floor.Firmware &&
		t.Microcode >= floor.Microcode
}

// raw returns t as in a report.
func (t TCB) raw() [8]byte {
	return t.Line.order().Pack(abi.TCB{FMC: t.FMC, Bootloader: t.Bootloader, TEE: t.TEE, Firmware: t.Firmware, Microcode: t.Microcode})
}

// decodeTCB returns the TCB that b is on line, or false if line is none or a
// byte that it reserves is not zero.
func decodeTCB(line Line, b [8]byte) (TCB, bool) {
	t, ok := line.order().Unpack(b)
	if !ok {
		return TCB{}, false
	}
	return TCB{line, t.FMC, t.Bootloader, t.TEE, t.Firmware, t.Microcode}, true
}
