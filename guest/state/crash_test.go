package state_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest/state"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// power fails at one operation of a guest, before it did anything or after it did
// all.
type power struct {
	at, n int // 0 for never
	after bool
}

type crashed struct{}

func (p *power) op(f func()) {
	p.n++
	if p.n == p.at && !p.after {
		panic(crashed{})
	}
	f()
	if p.n == p.at {
		panic(crashed{})
	}
}

// failingDisk is a disk of a machine whose power fails.
type failingDisk struct {
	*disk
	*power
}

func (d failingDisk) Read(i int) (b []byte, err error) {
	d.op(func() { b, err = d.disk.Read(i) })
	return b, err
}

func (d failingDisk) Write(i int, b []byte) (err error) {
	d.op(func() { err = d.disk.Write(i, b) })
	return err
}

func (d failingDisk) Erase(i int) (err error) {
	d.op(func() { err = d.disk.Erase(i) })
	return err
}

// life is a boot, and two saves, of a guest whose power may fail. It returns what the
// next boot may find: of before, if it came to no confirm.
func (w *world) life(d *disk, p *power, write bool, before []string, word string) (after []string) {
	w.Helper()
	after = before
	defer func() {
		if r := recover(); r != nil && r != (crashed{}) {
			panic(r)
		}
	}()
	m := w.start(d, nil)
	o, err := m.release()
	w.check(err)
	cfg := state.Config{Slots: failingDisk{d, p}, EveryWrite: write}
	var value string
	var saving []string
	cfg.Confirm = func(ctx context.Context, c teebroker.Confirm, mac []byte) (a teebroker.Acknowledged, err error) {
		p.op(func() {
			if a, err = w.broker.Confirm(ctx, c, mac); err == nil && c.Seq == 0 {
				after = []string{value} // and nothing of before is ever opened again
			} else if err == nil && write {
				after = slices.Clone(saving)
				if c.Settled {
					after = saving[1:]
				}
			}
		})
		return a, err
	}
	// What is found is seen before anything is confirmed.
	cfg.Inspect = func(b []byte) ([32]byte, error) {
		if value = string(b); !slices.Contains(before, value) {
			w.Errorf("found %q, want one of %q", value, before)
		}
		return [32]byte{}, nil
	}
	pending, err := state.Prepare(cfg, o, func() ([]byte, error) { return []byte("fresh"), nil })
	w.check(err)
	s, err := pending.Confirm(w.Context())
	w.check(err)
	for i := range 2 {
		next := fmt.Sprint(value, word, i)
		saving = []string{value, next}
		if !write {
			after = saving
		}
		w.check(s.Save(w.Context(), []byte(next)))
		value, after = next, saving[1:]
	}
	return after
}

// A guest crashes at each of its operations in turn, boot after boot: between any two
// writes, before and after each message. The next boot always gets on, with what was
// there or, if the crash was in the middle of a save, with what was to be.
func TestGuestCrashes(t *testing.T) {
	for _, mode := range []string{"boot", "write"} {
		for _, after := range []bool{false, true} {
			w, d := newWorld(t, mode), &disk{}
			left := []string{"fresh"}
			for at := 1; ; at++ {
				p := &power{at: at, after: after}
				left = w.life(d, p, mode == "write", left, fmt.Sprintf(" %d.", at))
				if p.n < at {
					if at < 8 {
						t.Errorf("%s: only %d operations", mode, p.n)
					}
					break
				}
			}
			if len(left) != 1 {
				t.Errorf("%s: after a boot that did not crash: %q", mode, left)
			}
		}
	}
}

// Acknowledgements are of one release and one message: those of another are none, also
// under this message's fields.
func TestAcksOfOthers(t *testing.T) {
	w, d := newWorld(t, "write"), &disk{}
	var old []teebroker.Acknowledged
	record := func(ctx context.Context, c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error) {
		a, err := w.broker.Confirm(ctx, c, mac)
		old = append(old, a)
		return a, err
	}
	boot := func(net func(context.Context, teebroker.Confirm, []byte) (teebroker.Acknowledged, error)) *state.Pending {
		m := w.start(d, nil)
		m.net = net
		o, err := m.release()
		w.check(err)
		cfg := m.config()
		cfg.EveryWrite = true
		p, err := state.Prepare(cfg, o, func() ([]byte, error) { return []byte("fresh"), nil })
		w.check(err)
		return p
	}
	s, err := boot(record).Confirm(t.Context())
	w.check(err)
	w.check(s.Save(t.Context(), []byte("one")))
	s.Close()
	// The host keeps the confirm of the next boot, and shows what it recorded.
	var shown teebroker.Acknowledged
	p := boot(func(_ context.Context, c teebroker.Confirm, _ []byte) (teebroker.Acknowledged, error) {
		a := shown
		if a.Seq == 99 { // as recorded
			return old[0], nil
		}
		a.Confirm = c
		return a, nil
	})
	for i := range old {
		shown = old[i]
		if _, err := p.Confirm(t.Context()); !errors.Is(err, state.NotAcknowledged) {
			t.Errorf("ack %d of the boot before, with the fields of this one: %v", i, err)
		}
	}
	shown.Seq = 99
	if _, err := p.Confirm(t.Context()); !errors.Is(err, state.NotAcknowledged) {
		t.Errorf("the ack of the boot before: %v", err)
	}
	if st, err := w.Epoch(t.Context(), tenant, instance, purpose); err != nil || st.State != "PENDING" {
		t.Errorf("%+v, %v", st, err)
	}
	// Acks of one checkpoint are none of the next.
	var last teebroker.Acknowledged
	replay := false
	q := boot(func(ctx context.Context, c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error) {
		if replay {
			a := last
			a.Confirm = c
			return a, nil
		}
		a, err := w.broker.Confirm(ctx, c, mac)
		last = a
		return a, err
	})
	s, err = q.Confirm(t.Context())
	w.check(err)
	w.check(s.Save(t.Context(), []byte("two")))
	replay = true
	if err := s.Save(t.Context(), []byte("three")); !errors.Is(err, state.NotAcknowledged) {
		t.Errorf("a checkpoint with the ack of the one before: %v", err)
	}
	if st, err := w.Epoch(t.Context(), tenant, instance, purpose); err != nil || len(st.States) != 1 || st.Seq != 2 {
		t.Errorf("%+v, %v", st, err)
	}
}

// Confirms and checkpoints come repeated and in another order: each that was taken is
// taken again as long as it is the last one, and none changes what was settled.
func TestConfirmsReordered(t *testing.T) {
	w, d := newWorld(t, "write"), &disk{}
	type message struct {
		c   teebroker.Confirm
		mac []byte
	}
	var sent []message
	m := w.start(d, nil)
	m.net = func(ctx context.Context, c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error) {
		sent = append(sent, message{c, mac})
		return w.broker.Confirm(ctx, c, mac)
	}
	o, err := m.release()
	w.check(err)
	cfg := m.config()
	cfg.EveryWrite = true
	p, err := state.Prepare(cfg, o, func() ([]byte, error) { return []byte("fresh"), nil })
	w.check(err)
	s, err := p.Confirm(t.Context())
	w.check(err)
	for i := range 3 {
		w.check(s.Save(t.Context(), fmt.Append(nil, i)))
	}
	status := func() []strictjson.Digest {
		st, err := w.Epoch(t.Context(), tenant, instance, purpose)
		w.check(err)
		return st.States
	}
	settled := status()
	if len(sent) != 7 || len(settled) != 1 {
		t.Fatalf("%d messages, %d states", len(sent), len(settled))
	}
	for i, x := range slices.Backward(sent) {
		_, err := w.broker.Confirm(t.Context(), x.c, x.mac)
		if want := error(teebroker.MalformedRequest); i < len(sent)-1 && !errors.Is(err, want) || i == len(sent)-1 && err != nil {
			t.Errorf("message %d again: %v", i, err)
		}
	}
	if !slices.Equal(status(), settled) {
		t.Error("messages of before changed what is settled")
	}
	// After the next release every one of them is of a guest that is superseded.
	next, err := w.start(d, nil).prepare()
	w.check(err)
	for i, x := range sent {
		if _, err := w.broker.Confirm(t.Context(), x.c, x.mac); !errors.Is(err, teebroker.Superseded) {
			t.Errorf("message %d after a release: %v", i, err)
		}
	}
	if err := s.Save(t.Context(), []byte("late")); !errors.Is(err, teebroker.Superseded) {
		t.Errorf("a save of a superseded guest: %v", err)
	}
	got, err := next.Confirm(t.Context())
	if err != nil || string(got.Value()) != "2" {
		t.Errorf("%v", err)
	}
}

// snapshots is a disk that its host copies after each operation.
type snapshots struct {
	*disk
	all []*disk
}

func (d *snapshots) Write(i int, b []byte) error {
	defer d.snap()
	return d.disk.Write(i, b)
}

func (d *snapshots) Erase(i int) error {
	defer d.snap()
	return d.disk.Erase(i)
}

func (d *snapshots) snap() { d.all = append(d.all, d.disk.copy()) }

// A clone starts from every disk that there ever was, after the guest it is of went on.
// It opens what mode says the host may choose from, and nothing else.
func TestClonesOfEveryMoment(t *testing.T) {
	for mode, may := range map[string][]string{"boot": {"fresh 0.0 0.1", "fresh 0.0 0.1 1.0", "fresh 0.0 0.1 1.0 1.1"}, "write": {"fresh 0.0 0.1 1.0 1.1"}} {
		w, d := newWorld(t, mode), &snapshots{disk: &disk{}}
		d.snap()
		for boot := range 2 {
			m := w.start(nil, nil)
			o, err := m.release()
			w.check(err)
			cfg := state.Config{Slots: d, EveryWrite: mode == "write", Confirm: func(ctx context.Context, c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error) {
				d.snap()
				defer d.snap()
				return w.broker.Confirm(ctx, c, mac)
			}}
			p, err := state.Prepare(cfg, o, func() ([]byte, error) { return []byte("fresh"), nil })
			w.check(err)
			s, err := p.Confirm(t.Context())
			w.check(err)
			for i := range 2 {
				w.check(s.Save(t.Context(), fmt.Appendf(s.Value(), " %d.%d", boot, i)))
			}
		}
		found := map[string]bool{}
		for i, old := range d.all {
			m := w.start(old, nil)
			o, err := m.release()
			w.check(err)
			cfg := m.config()
			cfg.Inspect = func(b []byte) ([32]byte, error) {
				if found[string(b)] = true; !slices.Contains(may, string(b)) {
					t.Errorf("%s, disk %d of %d: opened %q", mode, i, len(d.all), b)
				}
				return [32]byte{}, errors.New("the host turns it off")
			}
			if _, err := state.Prepare(cfg, o, nil); err == nil {
				t.Errorf("%s, disk %d: prepared", mode, i)
			}
		}
		for _, want := range may {
			if !found[want] {
				t.Errorf("%s: no disk has %q, which the host may choose", mode, want)
			}
		}
	}
}

// Who has not the confirm key of a release is told nothing about it, costs the broker
// one look and changes nothing, whatever state the release is in.
func TestStrangersConfirm(t *testing.T) {
	w, d := newWorld(t, "write"), &disk{}
	record := func() int {
		es, err := w.Record(t.Context(), tenant, teebroker.Decisions)
		w.check(err)
		return len(es)
	}
	said := teebroker.Confirm{Epoch: 2, State: strictjson.Digest{1}}
	refused := func(what string) {
		t.Helper()
		before, calls := record(), w.calls
		var texts []string
		for _, id := range [][16]byte{said.Release, {99}} { // another one that there never was
			c := said
			c.Release = id
			for _, mac := range [][]byte{make([]byte, 32), c.MAC(make([]byte, 32)), c.MAC([]byte("guessed"))} {
				_, err := w.broker.Confirm(t.Context(), c, mac)
				texts = append(texts, teebroker.Code(err))
			}
		}
		if slices.ContainsFunc(texts, func(s string) bool { return s != string(teebroker.Denied) }) {
			t.Errorf("%s: a stranger is told %q", what, texts)
		}
		if record() != before || w.calls != calls+len(texts) {
			t.Errorf("%s: %d entries, %d calls of the ledger", what, record()-before, w.calls-calls)
		}
	}
	m := w.start(d, nil)
	o, err := m.release()
	w.check(err)
	said.Release = o.Release
	refused("pending")
	w.check(second(w.Hold(t.Context(), tenant, instance, purpose)))
	refused("held")
	w.check(second(w.Resume(t.Context(), tenant, instance, purpose)))
	p, err := state.Prepare(m.config(), o, func() ([]byte, error) { return []byte("fresh"), nil })
	w.check(err)
	w.check(second(p.Confirm(t.Context())))
	refused("live")
	w.check(second(w.start(d, nil).release()))
	refused("superseded")
	w.check(second(w.Retire(t.Context(), tenant, instance, purpose)))
	refused("retired")
}
