package refvalues

import "github.com/teebroker/teebroker/evidence"

// Mismatches collects what an appraisal finds.
type Mismatches []evidence.Mismatch

// Add notes that a claim is not as wanted.
func (ms *Mismatches) Add(claim string, got evidence.Value, op evidence.Op, want evidence.Value) {
	*ms = append(*ms, evidence.Mismatch{Claim: claim, Got: got, Op: op, Want: want})
}

// Among asks for one of a Set.
func Among[T comparable](ms *Mismatches, claim string, got T, set evidence.Set[T], value func(T) evidence.Value) {
	if !set.Has(got) {
		ms.Add(claim, value(got), evidence.In, Values(set.Values(), value))
	}
}

// Values returns the list of the values of ts.
func Values[T any](ts []T, value func(T) evidence.Value) evidence.Value {
	vs := make([]evidence.Value, len(ts))
	for i, t := range ts {
		vs[i] = value(t)
	}
	return evidence.List(vs...)
}
