package memory_test

import (
	"testing"
	"time"

	"github.com/teebroker/teebroker/store/memory"
	"github.com/teebroker/teebroker/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t testing.TB, clock func() time.Time) storetest.Store {
		return memory.New(clock).Owner(storetest.Decoders())
	})
}
