package vtpm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
)

// appendHex appends what lower-case hexadecimal digits stand for, or returns false.
// Lists have megabytes of them, so that it takes eight at a time, the first in the
// lowest byte, and looks at the end whether all were digits. Of a byte, bit 6 is set
// for letters; the upper half is 3 for a digit and 6 for a letter; the lower one is
// at most 9 for a digit, and from 1 to 6 for a letter.
func appendHex(b, digits []byte) ([]byte, bool) {
	const each = 0x0101010101010101
	var bad uint64
	for len(digits) >= 8 {
		x := binary.LittleEndian.Uint64(digits)
		digits = digits[8:]
		letter, upper, lower := x>>6&each, x&(0xF0*each), x&(0x0F*each)
		bad |= upper ^ (0x30*each + 0x30*letter)
		bad |= (lower + 6*each + 3*letter) & (0x10 * each)             // above 9, or 6
		bad |= ((lower + 0x0F*letter) ^ 0x10*letter) & (0x10 * letter) // below 1
		n := lower + 9*letter
		n = (n<<4 | n>>8) & 0x00FF00FF00FF00FF
		n = (n | n>>8) & 0x0000FFFF0000FFFF
		b = binary.LittleEndian.AppendUint32(b, uint32(n|n>>16))
	}
	if bad != 0 || len(digits) > 0 && bytes.ContainsAny(digits, "ABCDEF") {
		return nil, false
	}
	if len(digits) == 0 {
		return b, true
	}
	b, err := hex.AppendDecode(b, digits)
	return b, err == nil
}
