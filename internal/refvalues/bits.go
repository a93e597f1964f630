package refvalues

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/evidence"
)

// A Flag is one bit of a field, under the name that claims and documents have for it.
type Flag[T ~uint64] struct {
	Name string
	Bit  T
}

// Flip notes the bits of wrong, which should be the other way round in bits: each
// that has a name as the claim of that name below claim, the others as the whole
// field. It calls flags only if there are any.
func Flip[T ~uint64](ms *Mismatches, claim string, bits, wrong T, flags func() []Flag[T]) {
	if wrong == 0 {
		return
	}
	for _, f := range flags() {
		if wrong&f.Bit != 0 {
			set := bits&f.Bit != 0
			ms.Add(claim+"."+f.Name, evidence.Bool(set), evidence.Equal, evidence.Bool(!set))
			wrong &^= f.Bit
		}
	}
	if wrong != 0 {
		ms.Add(claim, evidence.Uint(uint64(bits)), evidence.Equal, evidence.Uint(uint64(bits^wrong)))
	}
}

// Bits decodes a list of bits into the number that has them.
func Bits[T ~uint64](into *T, decode func(json.RawMessage) (T, error)) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		var bits []T
		if err := List(&bits, decode)(raw); err != nil {
			return err
		}
		*into = 0
		for _, bit := range bits {
			*into |= bit
		}
		return nil
	}
}

// NamedBit decodes the name of one of flags.
func NamedBit[T ~uint64](raw json.RawMessage, flags []Flag[T]) (T, error) {
	name, err := Plain[string](raw)
	if err != nil {
		return 0, err
	}
	at := slices.IndexFunc(flags, func(f Flag[T]) bool { return f.Name == name })
	if at < 0 {
		return 0, fmt.Errorf("unknown bit %.40q", name)
	}
	return flags[at].Bit, nil
}

// UnnamedBit decodes the number of a bit that none of flags is.
func UnnamedBit[T ~uint64](raw json.RawMessage, flags []Flag[T]) (T, error) {
	bit, err := NumberedBit(raw)
	if err == nil && slices.ContainsFunc(flags, func(f Flag[T]) bool { return f.Bit == T(bit) }) {
		err = errors.New("a bit that has a name")
	}
	return T(bit), err
}

// Bit decodes the name of one of flags, or the number of a bit that none of them is.
func Bit[T ~uint64](raw json.RawMessage, flags []Flag[T]) (T, error) {
	if raw[0] == '"' {
		return NamedBit(raw, flags)
	}
	return UnnamedBit(raw, flags)
}

// NumberedBit decodes the number of a bit, 0 to 63.
func NumberedBit(raw json.RawMessage) (uint64, error) {
	n, err := Plain[uint8](raw)
	if err == nil && n > 63 {
		err = fmt.Errorf("bit %d, not 0 to 63", n)
	}
	return 1 << n, err
}
