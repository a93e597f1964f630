package vtpm

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// Digits are read as encoding/hex reads them, but for capitals, wherever they are.
func TestAppendHex(t *testing.T) {
	for size := range 20 {
		good := []byte("0123456789abcdef0f9a")[:size]
		for at := range max(size, 1) {
			for c := range 256 {
				digits := bytes.Clone(good)
				if size > 0 {
					digits[at] = byte(c)
				}
				want, err := hex.DecodeString(string(digits))
				ok := err == nil && hex.EncodeToString(want) == string(digits)
				got, did := appendHex([]byte{7}, digits)
				if did != ok || ok && !bytes.Equal(got, append([]byte{7}, want...)) {
					t.Fatalf("%q: %x, %v, want %x, %v", digits, got, did, want, ok)
				}
			}
		}
	}
}
