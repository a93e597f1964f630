//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/epoch"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
)

// clones are guests of one disk that race over brokers which share a database, and
// the owner among them.
type clones struct {
	*crash
	brokers  []*replica
	instance [16]byte

	mu     sync.Mutex
	opened map[strictjson.UUID]*guest.Opened
	acked  map[teebroker.Confirm]bool
}

// Clones, confirms, checkpoints, holds, resumes and recoveries race over two brokers.
// Whatever came of it is one history, which the record has: every number is given
// once, each guest opened what was current at its turn, nothing was taken of who was
// superseded or while it was held, and what was acknowledged is there once.
func TestClonesRace(t *testing.T) {
	each(t, func(t *testing.T, d *database) {
		c := &crash{T: t, d: d, now: time.Now().Truncate(time.Second)}
		x := &clones{crash: c, opened: map[strictjson.UUID]*guest.Opened{}, acked: map[teebroker.Confirm]bool{}}
		x.instance = c.begin().instance
		for range 2 {
			r, err := d.open(t.Context(), nil, nil)
			check(t, err)
			defer func() { check(t, r.close()) }()
			x.brokers = append(x.brokers, r)
		}
		guests, boots := 5, 6
		if raced {
			guests, boots = 3, 3
		}
		var wg, owner sync.WaitGroup
		turns := make(chan struct{}, guests*boots)
		owner.Go(func() { x.own(t.Context(), rand.New(rand.NewPCG(1, 1)), turns) })
		for i := range guests {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(2, uint64(i)))
				for range boots {
					if err := x.boot(t.Context(), rnd); err != nil {
						t.Errorf("guest %d: %v", i, err)
					}
					turns <- struct{}{}
				}
			})
		}
		wg.Wait()
		close(turns)
		owner.Wait()
		x.judge()
	})
}

func (x *clones) some(rnd *rand.Rand) *replica { return x.brokers[rnd.IntN(len(x.brokers))] }

// boot is a guest that boots, confirms and says what it writes, until it is
// superseded.
func (x *clones) boot(ctx context.Context, rnd *rand.Rand) error {
	m := x.stateful(x.some(rnd), x.instance)
	a, err := teebroker.Response{}, error(teebroker.Held)
	// The owner resumes, or recovers; and who lost a race too often asks again.
	for errors.Is(err, teebroker.Held) || errors.Is(err, teebroker.ErrAgain) {
		var req teebroker.Request
		if req, err = m.request(ctx, x.some(rnd)); err != nil {
			return err
		}
		a, err = x.some(rnd).Answer(ctx, req)
	}
	if err != nil {
		return lost(err)
	}
	o, err := m.OpenEpoch(ctx, a)
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.opened[o.Release] = o
	x.mu.Unlock()
	for seq := range uint64(rnd.IntN(5)) {
		said := teebroker.Confirm{Release: o.Release, Epoch: o.Next, Seq: seq, Settled: seq%2 == 0 && seq > 0, State: strictjson.Digest{9, byte(seq)}}
		for {
			a, err := x.some(rnd).Broker.Confirm(ctx, said, said.MAC(o.ConfirmKey))
			if errors.Is(err, teebroker.Held) {
				continue
			}
			if err != nil {
				return lost(err)
			}
			if !slices.Equal(a.MAC, said.Ack(o.ConfirmKey, a.Result)) {
				return errors.New("not an acknowledgement")
			}
			break
		}
		x.mu.Lock()
		x.acked[said] = true
		x.mu.Unlock()
	}
	return nil
}

// lost returns nil for what may become of a guest in this race.
func lost(err error) error {
	for _, may := range []error{teebroker.Superseded, teebroker.NotAuthorized, teebroker.OtherKey} {
		if errors.Is(err, may) {
			return nil // by another guest, or by a recovery, which ends authorizations
		}
	}
	return err
}

// own holds and resumes, and recovers what is dead, now and then.
func (x *clones) own(all context.Context, rnd *rand.Rand, turns <-chan struct{}) {
	for range turns {
		r := x.some(rnd)
		var err error
		switch rnd.IntN(6) {
		case 0, 1:
			if _, err = r.Hold(all, tenant, x.instance, stateful); err == nil {
				_, err = x.some(rnd).Store.Resume(all, tenant, x.instance, stateful)
			}
		case 2:
			var s store.EpochStatus
			if s, err = r.Epoch(all, tenant, x.instance, stateful); err != nil {
				break
			}
			dead := s.Epoch - uint64(rnd.IntN(int(min(s.Epoch, 3))))
			var b teebroker.Blob
			if b, err = r.Renew(all, tenant, x.instance, stateful, dead, nil); err == nil {
				_, err = x.some(rnd).Recover(all, tenant, x.instance, stateful, b, dead)
			}
			if errors.Is(err, store.Conflict) || errors.Is(err, teebroker.NotAuthorized) {
				err = nil // its number was given meanwhile
			}
		}
		if err != nil {
			x.Errorf("the owner: %v", err)
		}
	}
}

// judge replays the record, and compares it with what guests were told and with where
// the epochs are.
func (x *clones) judge() {
	var row epoch.Row
	acked, opened := len(x.acked), 0
	kinds := map[teebroker.Kind]int{}
	for _, e := range x.entries() {
		kinds[e.Kind]++
		next, err := x.apply(e, row)
		if err != nil {
			x.Fatalf("entry %d, %s: %v, of %+v", e.Seq, e.Kind, err, row)
		}
		row = next
	}
	if opened += kinds[teebroker.KindRelease]; len(x.opened) > opened || len(x.acked) > 0 || kinds[teebroker.KindConfirm] < acked {
		x.Errorf("%d opened, %d released; %d acknowledged, of which the record lacks %d", len(x.opened), opened, acked, len(x.acked))
	}
	got, err := x.brokers[0].Epoch(x.Context(), tenant, x.instance, stateful)
	want := store.StatusOf(row)
	got.Blob, want.Blob = strictjson.Digest{}, strictjson.Digest{} // which no entry of a release has
	if err != nil || !reflect.DeepEqual(got, want) {
		x.Errorf("%+v, and by the record %+v, %v", got, want, err)
	}
	if _, err := x.brokers[1].audit(x.Context()); err != nil {
		x.Error(err)
	}
	x.Logf("%v", kinds)
}

func (x *clones) entries() (all []store.RecordEntry) {
	for after := uint64(0); ; {
		es, err := x.brokers[0].Record(x.Context(), tenant, teebroker.Decisions, after, 1000)
		check(x, err)
		if len(es) == 0 {
			return all
		}
		after = es[len(es)-1].Seq
		all = append(all, es...)
	}
}

// apply is the event that e is of, with the state machine.
func (x *clones) apply(e store.RecordEntry, row epoch.Row) (epoch.Row, error) {
	var body struct {
		store.Act
		Release strictjson.UUID   `json:"release"`
		Confirm teebroker.Confirm `json:"confirm"`
	}
	if err := strictjson.UnmarshalKnown(e.Body, &body); err != nil {
		return row, err
	}
	switch e.Kind {
	case store.KindEpoch:
		return row.Register(epoch.Write, body.Epoch, body.Digest, body.Initial)
	case store.KindHold:
		return row.Hold()
	case store.KindResume:
		return row.Resume()
	case store.KindRecover:
		next, err := row.Recover([32]byte{1}, body.Slot)
		if err == nil && next.Epoch != body.Epoch {
			err = fmt.Errorf("epoch %d", body.Epoch)
		}
		return next, err
	case teebroker.KindConfirm:
		delete(x.acked, body.Confirm)
		if row.Last == body.Confirm {
			return row, errors.New("it is there twice")
		}
		return row.Confirm(body.Confirm)
	case teebroker.KindRelease:
		next, g, err := row.Take(body.Release, [32]byte{}, [32]byte{1})
		if o := x.opened[body.Release]; err == nil && o != nil &&
			(o.Epoch != g.Epoch || o.Next != g.Next || o.Slot != g.Slot || o.Initial != g.Initial || !slices.Equal(o.States, g.States)) {
			err = fmt.Errorf("its guest opened %d of slot %d, to write %d", o.Epoch, o.Slot, o.Next)
		}
		return next, err
	}
	return row, nil
}
