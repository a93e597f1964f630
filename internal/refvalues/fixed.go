package refvalues

import (
	"encoding/json"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// fixed are the sizes of digests and ids.
type fixed interface {
	~[16]byte | ~[32]byte | ~[48]byte | ~[64]byte
}

// Fixed decodes lower-case hexadecimal of exactly the length of T.
func Fixed[T fixed](raw json.RawMessage) (t T, err error) {
	b, err := Plain[strictjson.Hex](raw)
	if err != nil {
		return t, err
	}
	if len(b) != len(t) {
		return t, fmt.Errorf("%d bytes, not %d", len(b), len(t))
	}
	for i := range b {
		t[i] = b[i]
	}
	return t, nil
}

// FixedValue returns the Value that is the bytes of t.
func FixedValue[T fixed](t T) evidence.Value {
	b := make([]byte, len(t))
	for i := range b {
		b[i] = t[i]
	}
	return evidence.Bytes(b)
}

// NumberValue returns the Value that is n.
func NumberValue[T ~uint8 | ~uint16 | ~uint32](n T) evidence.Value { return evidence.Uint(uint64(n)) }

// NameValue returns the Value that is the name of t.
func NameValue[T fmt.Stringer](t T) evidence.Value { return evidence.Text(t.String()) }
