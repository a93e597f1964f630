package policy

import (
	"reflect"
	"slices"

	"github.com/teebroker/teebroker/evidence"
)

// Claim is a Rule on one claim of any format by its stable name, as docs/claims.md
// lists them. A claim that is absent is refused whatever Op is, so is a Want
// that is absent, empty or not comparable with the claim:
//
//	Equal     the claim is Want
//	In        Want is a list and the claim is one of it
//	NotIn     Want is a list of values of the claim's kind and the claim is none of it
//	AtLeast   both are numbers and the claim is not lower
//	AtMost    both are numbers and the claim is not higher
//
// The zero Claim accepts nothing.
type Claim struct {
	Name string
	Op   evidence.Op
	Want evidence.Value
}

// Appraise implements [Rule].
func (c Claim) Appraise(v *evidence.Verified) []evidence.Mismatch {
	got := c.of(v)
	if c.holds(got) {
		return nil
	}
	return []evidence.Mismatch{{Claim: c.Name, Got: got, Op: c.Op, Want: c.Want}}
}

// of returns the claim that c is about, or the absent Value.
func (c Claim) of(v *evidence.Verified) evidence.Value {
	if v == nil || v.Claims == nil {
		return evidence.Value{}
	}
	// A nil pointer to some format's Claims makes no claims either.
	if r := reflect.ValueOf(v.Claims); r.Kind() == reflect.Pointer && r.IsNil() {
		return evidence.Value{}
	}
	for name, value := range v.Claims.All() {
		if name == c.Name {
			return value
		}
	}
	return evidence.Value{}
}

// holds reports whether got stands in the relation to Want that c asks for.
func (c Claim) holds(got evidence.Value) bool {
	switch c.Op {
	case evidence.Equal:
		return got.Equal(c.Want)
	case evidence.In:
		list, _ := c.Want.List()
		return slices.ContainsFunc(list, got.Equal)
	case evidence.NotIn:
		// A value of another kind differs from got and rules nothing out.
		list, _ := c.Want.List()
		unfit := func(w evidence.Value) bool { return !got.SameKind(w) || got.Equal(w) }
		return len(list) > 0 && !slices.ContainsFunc(list, unfit)
	case evidence.AtLeast:
		n, ok := got.Uint()
		least, known := c.Want.Uint()
		return ok && known && n >= least
	case evidence.AtMost:
		n, ok := got.Uint()
		most, known := c.Want.Uint()
		return ok && known && n <= most
	}
	return false
}
