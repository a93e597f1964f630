package store

import (
	"time"

	"github.com/teebroker/teebroker"
)

// Mark is where a chain is: its last entry. Seq 0 is before the first one.
type Mark struct {
	Seq  uint64
	Hash [32]byte
}

// Position is how far a store is. One that is behind an earlier Position, or has
// another hash at the same Seq, was put back.
type Position struct {
	Generation uint64 // of the store
	Heads      []Head // by tenant and chain; one without entries is left out
}

// Head is a chain of a tenant and where it ends.
type Head struct {
	Tenant string
	Chain  teebroker.Chain
	Mark
	Time time.Time // of the last entry
}

// Checkpoint is a [teebroker.Checkpoint] as it was signed.
type Checkpoint struct {
	teebroker.Checkpoint
	Token []byte // compact JWS
}

// Witness remembers, outside of a store, how far the chains of its record came, so
// that an older or another state put in the store's place is noticed before
// anything is added to it. A store calls it inside of transactions: it neither
// waits for anything nor calls the store. It is safe for concurrent use.
type Witness interface {
	// Seen returns an entry of a chain that is known to have been durable, the
	// later the better, or Seq 0. With an error the call of the store fails and
	// changes nothing; so does every other that a release begins with, which asks
	// for no tenant in particular, "".
	Seen(tenant string, c teebroker.Chain) (Mark, error)

	// Differs is told that the store has not what Seen returned, and where the
	// chain ends there. It returns the error that the call of the store fails with.
	Differs(tenant string, c teebroker.Chain, seen, head Mark) error

	// Committed is told that the chain now ends with last, durably.
	Committed(tenant string, c teebroker.Chain, last Mark)
}
