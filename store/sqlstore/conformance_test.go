package sqlstore_test

import (
	"testing"
	"time"

	"github.com/teebroker/teebroker/store/storetest"
)

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t testing.TB, clock func() time.Time) storetest.Store { return sqlite(t, clock) })
}
