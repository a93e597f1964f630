package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/cli"
	guestside "github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/guest/state"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// wrappedFile has the wrapped key of the state in its directory, for who makes a
// backup of it. It is not presented: the broker has it, and after a crash it may
// be that of the boot before.
const wrappedFile = "wrapped.json"

// open returns what is asked for: the secret, or the state that is under it.
func (r *release) open(ctx context.Context, c *v1.Client, s *guestside.Session, resp teebroker.Response) ([]byte, error) {
	if r.state == "" {
		return s.Open(ctx, resp)
	}
	o, err := s.OpenEpoch(ctx, resp)
	if err != nil {
		return nil, err
	}
	value, err := r.boot(ctx, c, o)
	if err != nil {
		return nil, &localError{err} // another release would supersede this one
	}
	return value, nil
}

// boot follows the rules for guests: nothing of the state is used before the ack.
func (r *release) boot(ctx context.Context, c *v1.Client, o *guestside.Opened) ([]byte, error) {
	defer o.Clear()
	cfg := state.Config{Slots: state.Dir(r.state), Confirm: c.Confirm, EveryWrite: r.every, Inspect: r.inspect}
	next, proof := o.Next, o.PCR()
	defer clear(proof[:])
	p, err := state.Prepare(cfg, o, func() ([]byte, error) {
		b := make([]byte, 32)
		rand.Read(b)
		return b, nil
	})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	st, err := r.confirm(ctx, p)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	r.confirmed = next
	if w := st.Wrapped(); w != nil {
		err = cli.WriteFile(filepath.Join(r.state, wrappedFile), append(w, '\n'), 0o600)
	} else {
		err = remove(filepath.Join(r.state, wrappedFile)) // that of an epoch that is over
	}
	if err != nil {
		return nil, err
	}
	return r.use(ctx, st, proof)
}

// keep returns the state, or what takes its place.
func (r *release) keep(ctx context.Context, st *state.State, _ [32]byte) ([]byte, error) {
	if r.stateIn == "" {
		return st.Value(), nil
	}
	value, err := cli.ReadFile(r.stateIn, 32<<20)
	if err != nil {
		return nil, err
	}
	if err := st.Save(ctx, value); err != nil {
		return nil, err
	}
	return value, nil
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// confirm says the same until it is acknowledged, or refused.
func (r *release) confirm(ctx context.Context, p *state.Pending) (*state.State, error) {
	var last error
	for i := range freshTries {
		if i > 0 {
			if err := r.sleep(ctx, pause<<min(i-1, 4)); err != nil {
				break
			}
		}
		st, err := p.Confirm(ctx)
		if err == nil {
			return st, nil
		}
		if last = err; !again(err) && !errors.Is(err, state.NotAcknowledged) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("not acknowledged: nothing runs from this state: %w", last)
}
