package names_test

import (
	"strings"
	"testing"

	"github.com/teebroker/teebroker/internal/names"
)

func TestRegistrable(t *testing.T) {
	for s, want := range map[string]bool{
		"disk": true, "disk/root": true, "default/key/1": true, "a.b": true, "...": true, ".hidden": true, "-": true,
		"": false, "/": false, "/disk": false, "disk/": false, "a//b": false, ".": false, "..": false,
		"a/./b": false, "a/../b": false, "../a": false, "Disk": false, "a b": false,
		strings.Repeat("a", 64): true, strings.Repeat("a", 65): false,
	} {
		if got := names.Registrable(s); got != want {
			t.Errorf("Registrable(%q) = %v", s, got)
		}
	}
}
