// Package checkpoint keeps signed checkpoints of a record outside of its database,
// section 10 of the protocol: a broker by a [Keeper], which stops it when the
// database is behind or differs from what was seen; anybody else, such as an
// owner, in a [File].
package checkpoint

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/store"
)

// An Error is a constant error to match on.
type Error string

// The Errors.
const (
	// ErrDiffers: what was seen is not there. The database is older, or another,
	// or its history was forked.
	ErrDiffers Error = "checkpoint: not the record that was seen"

	// ErrMissing: checkpoints were made of this database, and there are none here.
	ErrMissing Error = "checkpoint: there were checkpoints, and they are missing"

	// ErrFile: a file of checkpoints is malformed, or others may write to it.
	ErrFile Error = "checkpoint: not a file of checkpoints to use"

	// ErrLate: changes were not kept for longer than [MaxAge].
	ErrLate Error = "checkpoint: nothing could be kept for too long"

	errStart Error = "checkpoint: nothing was compared yet"
)

// Error implements error.
func (e Error) Error() string { return string(e) }

// Every is how often a program calls [Keeper.Look]. MaxAge is how long a change may
// be without a checkpoint: after it nothing is released until one is kept.
const (
	Every  = 15 * time.Second
	MaxAge = time.Minute
)

// Source is the database. *sqlstore.Store implements it.
type Source interface {
	Generation() uint64 // when it was opened
	Position(ctx context.Context) (store.Position, error)
	Record(ctx context.Context, tenant string, c teebroker.Chain, after uint64, limit int) ([]store.RecordEntry, error)
	Checkpoints(ctx context.Context, tenant string) ([][]byte, error)
	PutCheckpoints(ctx context.Context, cs []store.Checkpoint) error
}

// Config configures a [Keeper]. Fields without a stated default are required.
type Config struct {
	// Identity is the broker identity key, which signs.
	Identity crypto.Signer

	// Dir is where checkpoints are kept: not where the database is kept by
	// somebody else. It is made if it is not there.
	Dir string

	// AllowMissing begins where nothing is kept although checkpoints were made of
	// the database, with the database as it is: nothing is known then of what it
	// was before.
	AllowMissing bool

	Time   func() time.Time  // if nil, time.Now
	Report func(text string) // is told what an operator has to know; may be nil, must not call the Keeper
}

// Keeper makes checkpoints of a database, keeps the highest of each chain, and
// compares the database with what it saw, which it also remembers between them. It
// is the [store.Witness] of the store, and safe for concurrent use. Until Start,
// and while the database is not the one that was seen, everything that it is asked
// for as a Witness fails.
type Keeper struct {
	cfg  Config
	id   [32]byte
	file File
	src  Source

	looking    sync.Mutex // one Look at a time; guards what follows
	missing    bool       // there was no file
	began      bool       // the first Look came to an end
	looked     map[Key]store.Mark
	generation uint64 // of the database, then

	mu      sync.Mutex
	stopped error
	seen    map[Key]store.Mark
	kept    Set
	commits uint64    // since New
	dirty   time.Time // since when something is not kept, or zero
	at      time.Time // when the last Look began that found nothing wrong
}

var _ store.Witness = (*Keeper)(nil)

// New returns a Keeper of what is kept in cfg.Dir. A file there that is not whole is
// an error that wraps ErrFile.
func New(cfg Config) (*Keeper, error) {
	if cfg.Identity == nil || cfg.Dir == "" {
		return nil, errors.New("checkpoint: Config.Identity and Config.Dir are required")
	}
	pub, err := jws.Public(cfg.Identity)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: Config.Identity: %w", err)
	}
	id, err := jws.Thumbprint(pub)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: Config.Identity: %w", err)
	}
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	if cfg.Report == nil {
		cfg.Report = func(string) {}
	}
	k := &Keeper{
		cfg: cfg, id: id, file: In(cfg.Dir, id), stopped: errStart,
		looked: map[Key]store.Mark{}, seen: map[Key]store.Mark{}, kept: Set{},
	}
	kept, err := k.file.Read()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.missing = true
	case err != nil:
		return nil, err
	default:
		k.kept = kept
	}
	return k, nil
}

// Start is the first Look, at src, which has k as its Witness. After ErrDiffers it
// may be followed by others, which find out whether the right database is back.
func (k *Keeper) Start(ctx context.Context, src Source) error {
	k.looking.Lock()
	k.src = src
	k.looking.Unlock()
	return k.Look(ctx)
}

// Stopped returns why nothing may be added to the record now, or nil.
func (k *Keeper) Stopped() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fault()
}

func (k *Keeper) fault() error {
	if k.stopped == nil && !k.dirty.IsZero() && k.cfg.Time().Sub(k.dirty) > MaxAge {
		return ErrLate
	}
	return k.stopped
}

// Seen implements [store.Witness].
func (k *Keeper) Seen(tenant string, c teebroker.Chain) (store.Mark, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen[Key{tenant, c}], k.fault()
}

// Differs implements [store.Witness].
func (k *Keeper) Differs(tenant string, c teebroker.Chain, seen, head store.Mark) error {
	err := differs(Key{tenant, c}, seen, head)
	k.stop(err)
	return err
}

// Committed implements [store.Witness].
func (k *Keeper) Committed(tenant string, c teebroker.Chain, last store.Mark) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := Key{tenant, c}
	if last.Seq > k.seen[key].Seq {
		k.seen[key] = last
	}
	if k.commits++; k.dirty.IsZero() {
		k.dirty = k.cfg.Time()
	}
}

// differs is what an operator is told.
func differs(key Key, seen, head store.Mark) error {
	if head.Seq < seen.Seq {
		return fmt.Errorf("%w: %s of tenant %s end at entry %d, and %d was seen", ErrDiffers, key.Chain, key.Tenant, head.Seq, seen.Seq)
	}
	return fmt.Errorf("%w: entry %d of %s of tenant %s is another one", ErrDiffers, seen.Seq, key.Chain, key.Tenant)
}

// remedy is what to do about ErrDiffers.
const remedy = "; nothing is released: connect the database that is up to date, or make this one a restored one with broker restore"

// stop stops everything, and says so once.
func (k *Keeper) stop(err error) {
	k.mu.Lock()
	before := k.stopped
	k.stopped = err
	k.mu.Unlock()
	if before == nil || before.Error() != err.Error() {
		k.cfg.Report(err.Error() + remedy)
	}
}

// fresh is how long a Look is good for who asks, unless this process added something.
const fresh = time.Second

// due reports whether there may be something that is newer than what is kept.
func (k *Keeper) due() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	age := k.cfg.Time().Sub(k.at)
	return !k.dirty.IsZero() || age < 0 || age > fresh
}

// Newest returns the newest checkpoints of a tenant, one for each of its chains, as
// they were signed: made now if the record went on since the last second, or if k is stopped those that
// were kept.
func (k *Keeper) Newest(ctx context.Context, tenant string) ([][]byte, error) {
	if k.Stopped() == nil && k.due() {
		if err := k.Look(ctx); err != nil && !errors.Is(err, ErrDiffers) {
			return nil, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var tokens [][]byte
	for _, c := range []teebroker.Chain{teebroker.Decisions, teebroker.Refusals} {
		if kept, ok := k.kept[Key{tenant, c}]; ok {
			tokens = append(tokens, kept.Token)
		}
	}
	return tokens, nil
}
