// Package names has the grammars of names in the release protocol, section 1.
package names

import "strings"

// Tenant reports whether s is 1 to 64 of [a-z0-9-].
func Tenant(s string) bool { return consists(s, "-") }

// Purpose reports whether s is 1 to 64 of [a-z0-9._/-]. It takes the grammar
// literally, as the binding does: "../x//." is a Purpose. Whoever registers a
// purpose refuses more.
func Purpose(s string) bool { return consists(s, "._/-") }

// consists reports whether s is 1 to 64 lower-case letters, digits and others.
func consists(s, others string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 64
}
