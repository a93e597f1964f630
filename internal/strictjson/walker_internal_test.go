package strictjson

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// Otherwise every object after a large one would cost as much as the large one.
func TestLargeObjectDoesNotLeaveItsMap(t *testing.T) {
	for _, c := range []struct {
		members int
		kept    bool
	}{
		{maxKept, true},
		{maxKept + 1, false},
	} {
		var large strings.Builder
		for i := range c.members {
			fmt.Fprintf(&large, `,"%d":0`, i)
		}
		w := newWalker([]byte("{" + large.String()[1:] + `}{"a":0}`))
		if err := w.walk(nil, 0); err != nil {
			t.Fatal(err)
		}
		before := reflect.ValueOf(w.seen[0]).Pointer()
		if err := w.walk(nil, 0); err != nil {
			t.Fatal(err)
		}
		if kept := reflect.ValueOf(w.seen[0]).Pointer() == before; kept != c.kept {
			t.Errorf("after %d members the map is kept: %v", c.members, kept)
		}
	}
}
