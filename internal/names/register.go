package names

import (
	"slices"
	"strings"
)

// Registrable reports whether s is a Purpose that can be registered: one without
// empty or dot segments, so that it has one spelling as a path too.
func Registrable(s string) bool {
	bad := func(segment string) bool { return segment == "" || segment == "." || segment == ".." }
	return Purpose(s) && !slices.ContainsFunc(strings.Split(s, "/"), bad)
}

// KeyID reports whether s is 1 to 64 of [a-z0-9._-]: the name of a key.
func KeyID(s string) bool { return consists(s, "._-") }
