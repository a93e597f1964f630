// Package state keeps the state of a guest on a disk that the host can copy, put
// back and change: the guest rules of section 7 of the release protocol.
//
//	p, err := state.Prepare(cfg, opened, fresh) // opens one slot, writes the other
//	s, err := p.Confirm(ctx)                    // again until there is a valid ack
//	use(s.Value())                              // only now
//
// Between the release and the ack nothing of the state leaves the package. When
// anything fails for good the guest stops: it has no state that it may run from.
// docs/rollback.md says what follows from it, and what does not.
package state

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest"
)

// An Error is a constant error of this package. All of them mean: run nothing.
type Error string

// The Errors.
const (
	// NoState: no slot has the state that the release names, in one of the
	// versions that it lists: the disk is an older one, a newer one that was
	// never confirmed, or another's.
	NoState Error = "state: the disk does not have the state that the broker names"

	// NotPinned: fresh state, and nobody vouches for who says that it is to be made.
	NotPinned Error = "state: fresh state is made only for a pinned broker"

	// NotAcknowledged: an answer that is not the broker's for what was confirmed.
	NotAcknowledged Error = "state: not an acknowledgement of this release"

	// Ended: a checkpoint failed, or Close was called.
	Ended Error = "state: ended"
)

// Error implements error.
func (e Error) Error() string { return string(e) }

// Slots are the two places of a disk. A write is durable when it returns, and
// whole or not at all. [Dir] is two files.
type Slots interface {
	Read(slot int) ([]byte, error) // nothing if it was never written; slot is 0 or 1
	Write(slot int, b []byte) error
	Erase(slot int) error
}

// Config says where the state is and how a confirm gets to the broker.
type Config struct {
	Slots Slots

	// Confirm carries c and its mac to the broker and the answer back, as
	// protocol/v1.Client.Confirm does. Who carries it is not trusted.
	Confirm func(ctx context.Context, c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error)

	// EveryWrite is for purposes of write mode: each Save is announced before it
	// is written and settled after. It costs two round trips.
	EveryWrite bool

	EK [32]byte // SHA-256 of the endorsement key of the guest's TPM, or zero

	// Inspect, if it is not nil, is shown the state before anything is written or
	// confirmed, and ends the boot with an error: the broker then still names that
	// state, and the next boot opens it. It returns what takes the place of EK, for
	// guests whose TPM is in the state. It does not keep, change or run what it is shown.
	Inspect func(value []byte) (ek [32]byte, err error)
}

// Pending is a boot whose next state is written and not confirmed.
type Pending struct {
	cfg     Config
	o       *guest.Opened
	value   []byte
	written int // slot of the next state
	image   [32]byte
	seal    sealer
}

// Prepare opens the state that o names, and writes it durably under the key of
// the next epoch. If o says that there is none yet, fresh makes it: at most once,
// and only if the broker was pinned. o is the Pending's, and cleared with it.
func Prepare(cfg Config, o *guest.Opened, fresh func() ([]byte, error)) (p *Pending, err error) {
	if cfg.Slots == nil || cfg.Confirm == nil || o == nil {
		return nil, errors.New("state: Config.Slots, Config.Confirm and an Opened are required")
	}
	defer func() {
		if err != nil {
			o.Clear()
		}
	}()
	var value []byte
	at := -1
	if o.Initial {
		if !o.Pinned {
			return nil, NotPinned
		}
		value, err = fresh()
	} else {
		at, value, err = find(cfg.Slots, o)
	}
	if err == nil && cfg.Inspect != nil {
		if cfg.EK, err = cfg.Inspect(value); err != nil {
			clear(value)
			err = fmt.Errorf("state: %w", err)
		}
	}
	if err != nil {
		return nil, err
	}
	p = &Pending{cfg: cfg, o: o, value: value, written: 1 - max(at, 0), seal: sealer{o.Tenant, o.Instance, o.Purpose, o.Next, o.NextKey}}
	b, err := p.seal.seal(0, value)
	if err == nil {
		err = cfg.Slots.Write(p.written, b)
	}
	if err != nil {
		clear(value)
		return nil, fmt.Errorf("state: %w", err)
	}
	p.image = sha256.Sum256(b)
	return p, nil
}

// find returns the state that o names: of those listed the newest, and with no
// list the one that was written last.
func find(slots Slots, o *guest.Opened) (int, []byte, error) {
	open := sealer{o.Tenant, o.Instance, o.Purpose, o.Slot, o.Key}
	at, best, rank := -1, []byte(nil), uint64(0)
	for i := range 2 {
		b, err := slots.Read(i)
		if err != nil {
			return -1, nil, fmt.Errorf("state: %w", err)
		}
		version, value, err := open.open(b)
		if err != nil {
			continue // of another epoch, or nothing
		}
		r := version + 1
		if len(o.States) > 0 {
			r = uint64(len(o.States) - slices.Index(o.States, sha256.Sum256(b)))
			if !slices.Contains(o.States, sha256.Sum256(b)) {
				clear(value)
				continue
			}
		}
		if r > rank {
			clear(best)
			at, best, rank = i, value, r
		} else {
			clear(value)
		}
	}
	if at < 0 {
		return -1, nil, NoState
	}
	return at, best, nil
}

// Confirm confirms, and returns the state once the broker has acknowledged it. It
// may be called again after an error of what carries the messages: the same is
// sent. After teebroker.Superseded the guest stops.
func (p *Pending) Confirm(ctx context.Context) (*State, error) {
	if p.o == nil {
		return nil, Ended
	}
	c := teebroker.Confirm{Release: p.o.Release, Epoch: p.o.Next, State: p.image, EK: p.cfg.EK}
	if err := say(ctx, p.cfg, p.o.ConfirmKey, c); err != nil {
		return nil, err
	}
	// Nothing opens the old state any more, whoever has it.
	if err := p.cfg.Slots.Erase(1 - p.written); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if !p.cfg.EveryWrite {
		// Nothing is said any more, and who has it can make the proof in a PCR again.
		clear(p.o.ConfirmKey)
		p.o.ConfirmKey = nil
	}
	s := &State{cfg: p.cfg, value: p.value, at: p.written, seal: p.seal, last: c, key: p.o.ConfirmKey, wrapped: p.o.NextWrapped}
	clear(p.o.Key)
	p.o, p.value = nil, nil
	return s, nil
}

// Close ends a boot that came to nothing.
func (p *Pending) Close() {
	if p.o != nil {
		p.o.Clear()
		clear(p.value)
		p.o = nil
	}
}

// say sends c and compares the acknowledgement.
func say(ctx context.Context, cfg Config, key []byte, c teebroker.Confirm) error {
	a, err := cfg.Confirm(ctx, c, c.MAC(key))
	switch {
	case err != nil:
		return fmt.Errorf("state: %w", err)
	case a.Confirm != c || a.Result != teebroker.ConfirmedResult || !hmac.Equal(a.MAC, c.Ack(key, a.Result)):
		return NotAcknowledged
	}
	return nil
}

// State is the state of a confirmed boot. It is not safe for concurrent use.
type State struct {
	cfg     Config
	value   []byte
	at      int // slot that has value
	version uint64
	seal    sealer
	last    teebroker.Confirm
	key     []byte
	wrapped []byte
	ended   bool
}

// Value returns a copy of the state, which the caller clears.
func (s *State) Value() []byte { return bytes.Clone(s.value) }

// Wrapped returns what to present at the next boot, or nil. It is no secret.
func (s *State) Wrapped() []byte { return bytes.Clone(s.wrapped) }

// Save writes value, durably. With Config.EveryWrite what depends on it becomes
// visible only after it returned nil, and any error ends the State: the disk has
// what was settled, and perhaps this.
func (s *State) Save(ctx context.Context, value []byte) error {
	if s.ended {
		return Ended
	}
	b, err := s.seal.seal(s.version+1, value)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := s.save(ctx, b); err != nil {
		s.ended = s.ended || s.cfg.EveryWrite
		return err
	}
	clear(s.value)
	s.value, s.version, s.at = bytes.Clone(value), s.version+1, 1-s.at
	return nil
}

func (s *State) save(ctx context.Context, b []byte) error {
	if !s.cfg.EveryWrite {
		if err := s.cfg.Slots.Write(1-s.at, b); err != nil {
			return fmt.Errorf("state: %w", err)
		}
		return nil
	}
	c := s.last
	c.State = sha256.Sum256(b)
	for _, settled := range []bool{false, true} {
		c.Seq, c.Settled = c.Seq+1, settled
		if err := s.say(ctx, c); err != nil {
			return err
		}
		if settled {
			break
		}
		if err := s.cfg.Slots.Write(1-s.at, b); err != nil {
			return fmt.Errorf("state: %w", err)
		}
	}
	return nil
}

// sayTries is how often a checkpoint is sent again whose answer was lost.
const sayTries = 3

func (s *State) say(ctx context.Context, c teebroker.Confirm) (err error) {
	for range sayTries {
		err = say(ctx, s.cfg, s.key, c)
		var r teebroker.Refusal
		if err == nil || ctx.Err() != nil || errors.As(err, &r) && r != teebroker.Unavailable {
			break
		}
	}
	if err == nil {
		s.last = c
	}
	return err
}

// Close ends s and clears what is secret in it. The disk keeps the state.
func (s *State) Close() {
	clear(s.value)
	clear(s.key)
	clear(s.seal.key)
	s.ended, s.value = true, nil
}
