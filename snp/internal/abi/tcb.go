package abi

// TCB is the components of a TCB_VERSION.
type TCB struct{ FMC, Bootloader, TEE, Firmware, Microcode uint8 }

// An Order is where TCB_VERSION has its components. The zero Order has none.
type Order uint8

// The Orders.
const (
	OrderMilan Order = 1 + iota // Milan and Genoa
	OrderTurin
)

// Unpack returns the components of b, or false if o is none or a byte that o
// reserves is not zero.
func (o Order) Unpack(b [8]byte) (TCB, bool) {
	var t TCB
	switch o {
	case OrderMilan:
		t = TCB{Bootloader: b[0], TEE: b[1], Firmware: b[6], Microcode: b[7]}
	case OrderTurin:
		t = TCB{FMC: b[0], Bootloader: b[1], TEE: b[2], Firmware: b[3], Microcode: b[7]}
	default:
		return TCB{}, false
	}
	if o.Pack(t) != b {
		return TCB{}, false
	}
	return t, true
}

// Pack returns t as TCB_VERSION. Components that o does not have are dropped.
func (o Order) Pack(t TCB) [8]byte {
	switch o {
	case OrderMilan:
		return [8]byte{0: t.Bootloader, 1: t.TEE, 6: t.Firmware, 7: t.Microcode}
	case OrderTurin:
		return [8]byte{0: t.FMC, 1: t.Bootloader, 2: t.TEE, 3: t.Firmware, 7: t.Microcode}
	}
	return [8]byte{}
}
