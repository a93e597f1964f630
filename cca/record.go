package cca

import (
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/cca/internal/wire"
	"github.com/teebroker/teebroker/evidence"
)

// record reads the members of a map. The first that is not as it has to be is
// its err; what is read after that means nothing.
type record struct {
	m   item
	err error
}

// recordOf returns the record that s is, which is called field and expected to
// have so many items.
func recordOf(s, field string, expected int) record {
	m, err := decode(s, expected)
	if err == nil && m.kind != kindMap {
		err = errors.New("not a map")
	}
	if err != nil {
		return record{err: fail(checkClaims, evidence.Malformed, field, err)}
	}
	return record{m: m}
}

// refuse notes that field is at fault.
func (r *record) refuse(reason evidence.Reason, field, format string, args ...any) {
	if r.err == nil {
		r.err = fail(checkClaims, reason, field, fmt.Errorf(format, args...))
	}
}

// value returns the value under label, which must be there and of kind.
func (r *record) value(label int64, field string, k kind) item {
	it, ok := r.optional(label, field, k)
	if !ok {
		r.refuse(evidence.Malformed, field, "missing")
	}
	return it
}

// optional returns the value under label, which must be of kind if it is there.
func (r *record) optional(label int64, field string, k kind) (item, bool) {
	it, ok := r.m.at(label)
	if ok && it.kind != k {
		r.refuse(evidence.Malformed, field, "of another type")
		return item{}, true
	}
	return it, ok
}

// has reports whether there is a value under label.
func (r *record) has(label int64) bool {
	_, ok := r.m.at(label)
	return ok
}

// octets returns a byte string of one of sizes.
func (r *record) octets(label int64, field string, sizes ...int) string {
	return r.sized(r.value(label, field, kindBytes), field, sizes...)
}

// sized returns the content of a byte string that has one of sizes.
func (r *record) sized(it item, field string, sizes ...int) string {
	if r.err == nil && !slices.Contains(sizes, len(it.data)) {
		r.refuse(evidence.Malformed, field, "%d bytes", len(it.data))
	}
	return it.data
}

// text returns a text that must be there.
func (r *record) text(label int64, field string) string {
	return r.value(label, field, kindText).data
}

// optionalText returns a text, which is empty if it is not there.
func (r *record) optionalText(label int64, field string) string {
	it, _ := r.optional(label, field, kindText)
	return it.data
}

// number returns a number from 0 to most.
func (r *record) number(label int64, field string, most uint64) uint64 {
	it := r.value(label, field, kindUint)
	if it.arg > most {
		r.refuse(evidence.Malformed, field, "over %d", most)
	}
	return it.arg
}

// hash returns the Hash that a text names.
func (r *record) hash(label int64, field string) Hash {
	return r.hashOf(r.value(label, field, kindText), field)
}

// hashOf returns the Hash that name is the name of.
func (r *record) hashOf(name item, field string) Hash {
	h := hashNamed(name.data)
	if h == 0 {
		r.refuse(evidence.Unsupported, field, "an unknown algorithm")
	}
	return h
}

// id returns an InstanceID.
func (r *record) id(label int64, field string) InstanceID {
	s := r.octets(label, field, len(InstanceID{}))
	if r.err == nil && s[0] != wire.UEIDTypeRAND {
		r.refuse(evidence.Malformed, field, "not a UEID of type RAND")
	}
	if r.err != nil {
		return InstanceID{}
	}
	return InstanceID([]byte(s))
}
