package evidence

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Value is the value of a claim: bool, uint64, string, bytes, a time or a list
// of these. The zero Value means that the claim is absent.
type Value struct{ v any }

// Bool returns the Value of b.
func Bool(b bool) Value { return Value{b} }

// Uint returns the Value of n.
func Uint(n uint64) Value { return Value{n} }

// Text returns the Value of s.
func Text(s string) Value { return Value{s} }

// Time returns the Value of t, in UTC.
func Time(t time.Time) Value { return Value{t.UTC()} }

// List returns the Value that is a list of vs. It keeps a copy.
func List(vs ...Value) Value { return Value{append([]Value{}, vs...)} }

// Bytes returns the Value of a copy of b.
func Bytes(b []byte) Value { return Value{append([]byte{}, b...)} }

// IsZero reports whether the claim is absent.
func (v Value) IsZero() bool { return v.v == nil }

// Equal reports whether v and w are of one kind and equal. Two absent Values
// are not: a comparison with nothing never holds.
func (v Value) Equal(w Value) bool {
	switch x := v.v.(type) {
	case nil:
		return false
	case []byte:
		y, ok := w.v.([]byte)
		return ok && bytes.Equal(x, y)
	case time.Time:
		y, ok := w.v.(time.Time)
		return ok && x.Equal(y)
	case []Value:
		y, ok := w.v.([]Value)
		return ok && slices.EqualFunc(x, y, Value.Equal)
	}
	return v.v == w.v
}

// SameKind reports whether v and w are both numbers, or both bytes, and so on.
// That two Values differ says something only if they are. The kind of an
// absent Value is that of none.
func (v Value) SameKind(w Value) bool {
	return v.v != nil && reflect.TypeOf(v.v) == reflect.TypeOf(w.v)
}

// Uint returns the number that v is, or false.
func (v Value) Uint() (uint64, bool) { n, ok := v.v.(uint64); return n, ok }

// Bytes returns a copy of the bytes that v is, or false.
func (v Value) Bytes() ([]byte, bool) {
	b, ok := v.v.([]byte)
	return bytes.Clone(b), ok
}

// List returns a copy of the list that v is, or false.
func (v Value) List() ([]Value, bool) {
	l, ok := v.v.([]Value)
	return slices.Clone(l), ok
}

// String returns v as people, logs and policy documents write it: bytes in
// lower-case hexadecimal, times in RFC 3339.
func (v Value) String() string {
	switch x := v.v.(type) {
	case nil:
		return "absent"
	case []byte:
		return hex.EncodeToString(x)
	case time.Time:
		return x.Format(time.RFC3339)
	case []Value:
		s := make([]string, len(x))
		for i := range x {
			s[i] = x[i].String()
		}
		return "[" + strings.Join(s, " ") + "]"
	}
	return fmt.Sprint(v.v)
}

// MarshalJSON encodes v as String does, but booleans, integers and lists as such.
func (v Value) MarshalJSON() ([]byte, error) {
	switch x := v.v.(type) {
	case nil, bool, uint64, []Value:
		return json.Marshal(x)
	}
	return json.Marshal(v.String())
}
