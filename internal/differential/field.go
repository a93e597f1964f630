package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// Offsets of ATTESTATION_REPORT, from AMD 56860. They are stated here and not
// taken from package snp: a fault in its layout is to show.
const (
	offsetVersion      = 0x000
	offsetKeyInfo      = 0x048
	offsetReportData   = 0x050
	offsetReportID     = 0x140
	offsetCurrentTCB   = 0x038
	offsetPlatformInfo = 0x040
	offsetReportedTCB  = 0x180
	offsetFamily       = 0x188
	offsetModel        = 0x189
	offsetStepping     = 0x18A
	offsetChipID       = 0x1A0
	offsetCommittedTCB = 0x1E0
	offsetCurrent      = 0x1E8 // build, minor, major
	offsetCommitted    = 0x1EC // build, minor, major
	offsetLaunchTCB    = 0x1F0
	offsetMitigations  = 0x1F8
	offsetR            = 0x2A0
	offsetS            = 0x2E8
	reportSize         = 0x4A0
)

// A field is a part of a report with a way to change it that says what it did.
type field struct {
	name     string
	at, size int
	change   func(r *rand.Rand, b []byte) string
}

// fields returns every field, and what is between them.
func fields() []field {
	return []field{
		{"VERSION", offsetVersion, 4, number(0, 1, 2, 3, 4, 5, 6, 7, 0xFFFFFFFF)},
		{"GUEST_SVN", 0x004, 4, number(0, 1, 0xFFFFFFFF)},
		{"POLICY", 0x008, 8, bits(0, 7, 8, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 32, 63)},
		{"FAMILY_ID", 0x010, 16, octets},
		{"IMAGE_ID", 0x020, 16, octets},
		{"VMPL", 0x030, 4, number(0, 1, 2, 3, 4, 0xFF, 0xFFFFFFFE, 0xFFFFFFFF)},
		{"SIGNATURE_ALGO", 0x034, 4, number(0, 1, 2, 0x101, 0xFFFFFFFF)},
		{"CURRENT_TCB", offsetCurrentTCB, 8, version},
		{"PLATFORM_INFO", offsetPlatformInfo, 8, bits(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 63)},
		{"KEY_INFO", offsetKeyInfo, 4, number(0, 1, 2, 3, 4, 5, 6, 8, 0x0C, 0x14, 0x18, 0x1C, 0x1D, 0x20, 0x24, 0x80000000)},
		{"RESERVED_4C", 0x04C, 4, octets},
		{"REPORT_DATA", offsetReportData, 64, octets},
		{"MEASUREMENT", 0x090, 48, octets},
		{"HOST_DATA", 0x0C0, 32, octets},
		{"ID_KEY_DIGEST", 0x0E0, 48, octets},
		{"AUTHOR_KEY_DIGEST", 0x110, 48, octets},
		{"REPORT_ID", offsetReportID, 32, octets},
		{"REPORT_ID_MA", 0x160, 32, octets},
		{"REPORTED_TCB", offsetReportedTCB, 8, version},
		{"CPUID_FAM_ID", offsetFamily, 1, number(0, 0x0F, 0x17, 0x19, 0x1A, 0x1B, 0xFF)},
		{"CPUID_MOD_ID", offsetModel, 1, number(0x00, 0x01, 0x02, 0x0F, 0x10, 0x11, 0x12, 0x18, 0x1F, 0x20, 0x61, 0x90, 0xA0, 0xA1, 0xAF, 0xB0, 0xFF)},
		{"CPUID_STEP", offsetStepping, 1, number(0, 1, 2, 3, 0x0F, 0x10, 0x11, 0xFF)},
		{"RESERVED_18B", 0x18B, 21, octets},
		{"CHIP_ID", offsetChipID, 64, octets},
		{"COMMITTED_TCB", offsetCommittedTCB, 8, version},
		{"CURRENT_BUILD to MAJOR", offsetCurrent, 3, version},
		{"RESERVED_1EB", 0x1EB, 1, octets},
		{"COMMITTED_BUILD to MAJOR", offsetCommitted, 3, version},
		{"RESERVED_1EF", 0x1EF, 1, octets},
		{"LAUNCH_TCB", offsetLaunchTCB, 8, version},
		{"LAUNCH_MIT_VECTOR", offsetMitigations, 8, number(0, 1, 0x3F, 1<<63, 1<<64-1)},
		{"CURRENT_MIT_VECTOR", 0x200, 8, number(0, 1, 0x3F, 1<<63, 1<<64-1)},
		{"RESERVED_208", 0x208, 152, octets},
	}
}

// number sets a little-endian number to one of ns.
func number(ns ...uint64) func(*rand.Rand, []byte) string {
	return func(r *rand.Rand, b []byte) string {
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], ns[r.IntN(len(ns))])
		copy(b, n[:])
		return fmt.Sprintf("= %#x", binary.LittleEndian.Uint64(n[:]))
	}
}

// bits flips one of several bits of a little-endian number.
func bits(places ...int) func(*rand.Rand, []byte) string {
	return func(r *rand.Rand, b []byte) string {
		place := places[r.IntN(len(places))]
		b[place/8] ^= 1 << (place % 8)
		return fmt.Sprintf("bit %d flipped", place)
	}
}

// version changes one byte of a version: mostly by one.
func version(r *rand.Rand, b []byte) string {
	i := r.IntN(len(b))
	if r.IntN(2) == 0 { // in a TCB the others are reserved
		i = []int{0, 1, len(b) - 2, len(b) - 1}[r.IntN(4)]
	}
	switch r.IntN(8) {
	case 0:
		b[i] = 0
	case 1:
		b[i] = 0x7F
	case 2:
		b[i] = 0x80
	case 3:
		b[i] = 0xFF
	case 4, 5:
		b[i]++
	default:
		b[i]--
	}
	return fmt.Sprintf("byte %d = %#x", i, b[i])
}

// octets changes what has no inner form.
func octets(r *rand.Rand, b []byte) string {
	fill := func(v byte) {
		for i := range b {
			b[i] = v
		}
	}
	switch r.IntN(5) {
	case 0:
		fill(0)
		return "= 0"
	case 1:
		fill(0xFF)
		return "= 0xFF…"
	case 2:
		if len(b) > 8 { // as a chip of another line has it
			clear(b[8:])
			return "= first 8 bytes of it"
		}
		fill(1)
		return "= 0x01…"
	case 3:
		i := r.IntN(len(b))
		b[i] = byte(r.Uint32())
		return fmt.Sprintf("byte %d = %#x", i, b[i])
	default:
		return bits(r.IntN(8*len(b)))(r, b)
	}
}
