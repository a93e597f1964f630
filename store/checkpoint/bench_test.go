package checkpoint_test

import (
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/checkpoint"
)

// What a release pays for being witnessed, without the look at the entry that was
// seen, which is in a statement that is made anyway.
func BenchmarkWitness(b *testing.B) {
	k, err := checkpoint.New(checkpoint.Config{Identity: fixedKey(), Dir: b.TempDir()})
	if err == nil {
		err = k.Start(b.Context(), newFake())
	}
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := uint64(1); b.Loop(); i++ {
		if _, err := k.Seen("acme", teebroker.Decisions); err != nil {
			b.Fatal(err)
		}
		k.Committed("acme", teebroker.Decisions, store.Mark{Seq: i})
	}
}
