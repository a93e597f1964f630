package evidence

import "slices"

// Set is the set of values that a policy accepts for one claim. The zero Set
// accepts nothing.
type Set[T comparable] struct {
	all bool
	in  []T
}

// OneOf returns the Set of vs.
func OneOf[T comparable](vs ...T) Set[T] { return Set[T]{in: slices.Clone(vs)} }

// Anything returns the Set of all values: the claim is not constrained.
func Anything[T comparable]() Set[T] { return Set[T]{all: true} }

// Has reports whether v is in s.
func (s Set[T]) Has(v T) bool { return s.all || slices.Contains(s.in, v) }

// IsAnything reports whether s is the Set of all values.
func (s Set[T]) IsAnything() bool { return s.all }

// Values returns a copy of what was given to [OneOf], or nil.
func (s Set[T]) Values() []T { return slices.Clone(s.in) }
