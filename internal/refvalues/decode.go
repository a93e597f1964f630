// Package refvalues has what the reference values of all formats have in common:
// how an object of a policy document is read, and how mismatches are written down.
package refvalues

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// A Member is one member of an object and how it is decoded.
type Member struct {
	Name   string
	Decode func(json.RawMessage) error
}

// Object decodes object by members, strictly, and returns which of them it has.
func Object(object []byte, members []Member) (has map[string]bool, err error) {
	var raw map[string]json.RawMessage
	if err := strictjson.Unmarshal(object, &raw); err != nil {
		return nil, err
	}
	has = map[string]bool{}
	for _, m := range members {
		text, ok := raw[m.Name]
		if !ok {
			continue
		}
		if err := m.Decode(text); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
		has[m.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		if !has[name] {
			return nil, fmt.Errorf("unknown member %.40q", name)
		}
	}
	return has, nil
}

// Whole is Object for an object that must have all members.
func Whole(object []byte, members []Member) error {
	has, err := Object(object, members)
	if err != nil {
		return err
	}
	for _, m := range members {
		if !has[m.Name] {
			return fmt.Errorf("%s is missing", m.Name)
		}
	}
	return nil
}

// Value decodes one value.
func Value[T any](into *T, decode func(json.RawMessage) (T, error)) func(json.RawMessage) error {
	return func(raw json.RawMessage) (err error) {
		*into, err = decode(raw)
		return err
	}
}

// List decodes a list.
func List[T any](into *[]T, decode func(json.RawMessage) (T, error)) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		elements, err := Plain[[]json.RawMessage](raw)
		if err != nil {
			return err
		}
		ts := make([]T, len(elements))
		for i, element := range elements {
			if ts[i], err = decode(element); err != nil {
				return fmt.Errorf("element %d: %w", i+1, err)
			}
		}
		*into = ts
		return nil
	}
}

// Set decodes a list, or "*" for anything.
func Set[T comparable](into *evidence.Set[T], decode func(json.RawMessage) (T, error)) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		if string(raw) == `"*"` {
			*into = evidence.Anything[T]()
			return nil
		}
		var ts []T
		if err := List(&ts, decode)(raw); err != nil {
			return err
		}
		*into = evidence.OneOf(ts...)
		return nil
	}
}

// Plain decodes what encoding/json knows.
func Plain[T any](raw json.RawMessage) (t T, err error) {
	err = strictjson.Unmarshal(raw, &t)
	return t, err
}

// Named decodes the name of one of ts.
func Named[T fmt.Stringer](raw json.RawMessage, ts ...T) (t T, err error) {
	name, err := Plain[string](raw)
	if err != nil {
		return t, err
	}
	for _, t := range ts {
		if t.String() == name {
			return t, nil
		}
	}
	return t, fmt.Errorf("unknown name %.40q", name)
}

// Octets decodes lower-case hexadecimal of one of sizes; of any but none, if none
// are given.
func Octets(raw json.RawMessage, sizes ...int) ([]byte, error) {
	b, err := Plain[strictjson.Hex](raw)
	switch {
	case err != nil:
		return nil, err
	case len(sizes) > 0 && !slices.Contains(sizes, len(b)):
		return nil, fmt.Errorf("%d bytes, not one of %d", len(b), sizes)
	case len(b) == 0:
		return nil, errors.New("no bytes")
	}
	return b, nil
}
