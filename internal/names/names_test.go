package names_test

import (
	"strings"
	"testing"

	"github.com/teebroker/teebroker/internal/names"
)

// Every byte is in a grammar or not, alone and at the end of a name.
func TestAlphabet(t *testing.T) {
	const alnum = "abcdefghijklmnopqrstuvwxyz0123456789"
	for _, g := range []struct {
		name     string
		is       func(string) bool
		alphabet string
	}{
		{"tenant", names.Tenant, alnum + "-"},
		{"purpose", names.Purpose, alnum + "._/-"},
		{"key id", names.KeyID, alnum + "._-"},
	} {
		for c := range 256 {
			b := string([]byte{byte(c)})
			want := strings.Contains(g.alphabet, b)
			if g.is(b) != want || g.is("a"+b) != want || g.is(b+"a") != want {
				t.Errorf("%s: byte %#02x: want %v", g.name, c, want)
			}
		}
	}
}

func TestLength(t *testing.T) {
	for n, want := range map[int]bool{0: false, 1: true, 64: true, 65: false, 1024: false} {
		s := strings.Repeat("a", n)
		if names.Tenant(s) != want || names.Purpose(s) != want {
			t.Errorf("%d characters: want %v", n, want)
		}
	}
}
