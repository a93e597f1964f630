package ccatest

import (
	"encoding/binary"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// Map is a CBOR map with its pairs in order. It may have a key twice, and is then
// encoded so.
type Map []Pair

// Pair is one member of a Map. Key is a number or a string, or whatever it should
// not be; Value is a number, a string, []byte, bool, []any, a Map, or a
// [cbor.RawMessage] for bytes that are already encoded, well or badly.
type Pair struct{ Key, Value any }

// Get returns the value of the first pair with key, or nil.
func (m Map) Get(key int64) any {
	for _, p := range m {
		if p.Key == key {
			return p.Value
		}
	}
	return nil
}

// With returns m with value under key, in the place of what was there.
func (m Map) With(key int64, value any) Map {
	m = slices.Clone(m)
	for i := range m {
		if m[i].Key == key {
			m[i].Value = value
			return m
		}
	}
	return m.Add(key, value)
}

// Without returns m without key.
func (m Map) Without(key int64) Map {
	return slices.DeleteFunc(slices.Clone(m), func(p Pair) bool { return p.Key == key })
}

// Add returns m with one more pair, also if it has the key already.
func (m Map) Add(key, value any) Map { return append(slices.Clone(m), Pair{key, value}) }

// MarshalCBOR implements [cbor.Marshaler].
func (m Map) MarshalCBOR() ([]byte, error) {
	b := head(0xA0, len(m))
	for _, p := range m {
		for _, v := range []any{p.Key, p.Value} {
			encoded, err := encode(v)
			if err != nil {
				return nil, err
			}
			b = append(b, encoded...)
		}
	}
	return b, nil
}

// encode encodes v. Unlike the encoder of package cbor it takes encoded bytes as
// they are, also if they are not well formed.
func encode(v any) ([]byte, error) {
	switch v := v.(type) {
	case cbor.RawMessage:
		return v, nil
	case Map:
		return v.MarshalCBOR()
	case []any:
		b := head(0x80, len(v))
		for _, e := range v {
			encoded, err := encode(e)
			if err != nil {
				return nil, err
			}
			b = append(b, encoded...)
		}
		return b, nil
	}
	return cbor.Marshal(v)
}

// head returns the head of n items of a major type.
func head(major byte, n int) []byte {
	if n < 24 {
		return []byte{major | byte(n)}
	}
	return binary.BigEndian.AppendUint16([]byte{major | 25}, uint16(n))
}
