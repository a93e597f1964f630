package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest/state"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// One boot after the other: each opens what the one before left.
func TestBoots(t *testing.T) {
	w, d := newWorld(t, "boot"), &disk{}
	w.grown(d, " one")
	w.grown(d, " two")
	s, err := w.start(d, nil).boot()
	w.check(err)
	if got := string(s.Value()); got != "fresh one two" {
		t.Errorf("state %q", got)
	}
	st, err := w.Epoch(t.Context(), tenant, instance, purpose)
	if err != nil || st.State != "CURRENT" || st.Epoch != 4 || st.High != 4 {
		t.Errorf("%+v, %v", st, err)
	}
	s.Close()
	if err := s.Save(t.Context(), nil); !errors.Is(err, state.Ended) {
		t.Errorf("save after close: %v", err)
	}
}

// Whatever disk of before the host puts back, it is not opened.
func TestRestoredDisks(t *testing.T) {
	w, d := newWorld(t, "boot"), &disk{}
	var old []*disk
	for i := range 3 {
		old = append(old, d.copy())
		w.grown(d, fmt.Sprint(" ", i))
		old = append(old, d.copy())
	}
	for i, o := range old[:5] { // the last one is d
		if _, err := w.start(o, nil).prepare(); !errors.Is(err, state.NoState) {
			t.Errorf("disk %d: %v", i, err)
		}
	}
	s, err := w.start(d, nil).boot()
	if err != nil || string(s.Value()) != "fresh 0 1 2" {
		t.Fatalf("the right disk: %v", err)
	}
}

// Two guests of one disk, started one after the other at each point: the later
// release may confirm, the earlier one runs nothing and writes nothing that is
// ever opened.
func TestClones(t *testing.T) {
	w, d := newWorld(t, "boot"), &disk{}
	w.grown(d, " one")
	a, b := w.start(d, nil), w.start(d.copy(), nil)
	pa, err := a.prepare()
	w.check(err)
	pb, err := b.prepare()
	w.check(err)
	if s, err := pa.Confirm(t.Context()); s != nil || !errors.Is(err, teebroker.Superseded) {
		t.Errorf("the first clone: %v", err)
	}
	sb, err := pb.Confirm(t.Context())
	w.check(err)
	if _, err := a.release(); !errors.Is(err, teebroker.Superseded) {
		t.Errorf("the first clone asks again: %v", err)
	}
	w.check(sb.Save(t.Context(), []byte("of b")))
	// A third one, while b runs: b is superseded, and a's disk is nobody's.
	if _, err := w.start(a.disk, nil).prepare(); !errors.Is(err, state.NoState) {
		t.Errorf("the disk of the clone that lost: %v", err)
	}
	s, err := w.start(b.disk, nil).boot()
	if err != nil || string(s.Value()) != "of b" {
		t.Errorf("the disk of the one that won: %v", err)
	}
}

// The blob that a guest shows has to be the current one.
func TestPresented(t *testing.T) {
	w, d := newWorld(t, "boot"), &disk{}
	s, err := w.start(d, w.first).boot()
	w.check(err)
	second := s.Wrapped()
	if _, err := w.start(d, w.first).prepare(); !errors.Is(err, teebroker.EpochDead) {
		t.Errorf("the blob before: %v", err)
	}
	m := w.start(d, second)
	p, err := m.prepare()
	w.check(err)
	o, err := m.release() // the same key again gets the same
	w.check(err)
	if _, err := w.start(d, o.NextWrapped).prepare(); !errors.Is(err, teebroker.EpochPending) {
		t.Errorf("a pending blob: %v", err)
	}
	if _, err := p.Confirm(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := m.release(); !errors.Is(err, teebroker.Gone) {
		t.Errorf("stored bytes after the confirm: %v", err)
	}
}

// What is between drops, changes, repeats and forges: the guest runs nothing
// until the broker's own ack, and then the same state.
func TestMessages(t *testing.T) {
	w, d := newWorld(t, "boot"), &disk{}
	w.grown(d, " one")
	m := w.start(d, nil)
	var sent []teebroker.Confirm
	var acks []teebroker.Acknowledged
	lost := errors.New("lost")
	deliver := func(c teebroker.Confirm, mac []byte) teebroker.Acknowledged {
		sent = append(sent, c)
		a, err := w.broker.Confirm(t.Context(), c, mac)
		w.check(err)
		acks = append(acks, a)
		return a
	}
	steps := []func(c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error){
		func(teebroker.Confirm, []byte) (teebroker.Acknowledged, error) { return teebroker.Acknowledged{}, lost },
		func(c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error) {
			return teebroker.Acknowledged{Confirm: c, Result: teebroker.ConfirmedResult, MAC: mac}, nil
		},
		func(c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error) {
			c2 := c
			c2.State = strictjson.Digest{1}
			if _, err := w.broker.Confirm(t.Context(), c2, mac); !errors.Is(err, teebroker.Denied) {
				t.Errorf("a changed confirm: %v", err)
			}
			if _, err := w.broker.Confirm(t.Context(), c, mac[:31]); !errors.Is(err, teebroker.MalformedRequest) {
				t.Errorf("a short mac: %v", err)
			}
			return teebroker.Acknowledged{}, lost
		},
		func(c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error) {
			deliver(c, mac)
			return teebroker.Acknowledged{}, lost // after the broker had it
		},
		func(c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error) {
			a := deliver(c, mac)
			a.Result = "held"
			return a, nil
		},
		func(c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error) {
			a := deliver(c, mac)
			a.Epoch++
			return a, nil
		},
	}
	n := 0
	m.net = func(_ context.Context, c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error) {
		if n < len(steps) {
			n++
			return steps[n-1](c, mac)
		}
		return deliver(c, mac), nil
	}
	p, err := m.prepare()
	w.check(err)
	for range steps {
		if s, err := p.Confirm(t.Context()); s != nil || err == nil {
			t.Fatal("it runs")
		}
	}
	s, err := p.Confirm(t.Context())
	if err != nil || string(s.Value()) != "fresh one" {
		t.Fatalf("%v", err)
	}
	for i := range acks {
		if sent[i] != sent[0] || !bytes.Equal(acks[i].MAC, acks[0].MAC) || !bytes.Equal(acks[i].Receipt, acks[0].Receipt) {
			t.Error("an ack is another than the first one")
		}
	}
	r, err := teebroker.VerifyReceipt(acks[0].Receipt, w.broker.ID())
	if err != nil || r.Kind != teebroker.KindConfirm || r.State != sent[0].State || r.Epoch != sent[0].Epoch || r.Release != sent[0].Release || r.PCR == (strictjson.Digest{}) {
		t.Errorf("receipt %+v, %v", r, err)
	}
}

// The host writes over the disk while the guest waits for its ack: the next boot
// finds nothing, and says so.
func TestDiskLostBeforeAck(t *testing.T) {
	w, d := newWorld(t, "boot"), &disk{}
	w.grown(d, " one")
	before := d.copy()
	p, err := w.start(d, nil).prepare()
	w.check(err)
	*d = *before.copy()
	_, err = p.Confirm(t.Context())
	w.check(err)
	if _, err := w.start(before, nil).prepare(); !errors.Is(err, state.NoState) {
		t.Errorf("%v", err)
	}
}

// A backup comes back only if its owner says so: the key of its epoch is wrapped
// anew, under a number of its own.
func TestRecovery(t *testing.T) {
	w, d := newWorld(t, "boot"), &disk{}
	w.grown(d, " one")
	backup := d.copy() // state of epoch 2
	w.grown(d, " two")
	live, err := w.start(d, nil).boot()
	w.check(err)
	if _, err := w.start(backup.copy(), nil).prepare(); !errors.Is(err, state.NoState) {
		t.Fatalf("before the recovery: %v", err)
	}
	b, err := w.broker.Renew(t.Context(), tenant, instance, purpose, 2, nil)
	w.check(err)
	_, err = w.Recover(t.Context(), tenant, instance, purpose, b, 2)
	w.check(err)
	if _, err := w.start(d.copy(), nil).prepare(); !errors.Is(err, state.NoState) {
		t.Errorf("the disk of who was live: %v", err)
	}
	s, err := w.start(backup, nil).boot()
	if err != nil || string(s.Value()) != "fresh one" {
		t.Fatalf("recovered: %v", err)
	}
	w.check(s.Save(t.Context(), []byte("and on")))
	s, err = w.start(backup, nil).boot()
	if err != nil || string(s.Value()) != "and on" {
		t.Fatalf("after the recovery: %v", err)
	}
	live.Close()
	for n, want := range map[uint64]error{0: teebroker.MalformedRequest, 77: teebroker.NotAuthorized} {
		if _, err := w.broker.Renew(t.Context(), tenant, instance, purpose, n, nil); !errors.Is(err, want) {
			t.Errorf("epoch %d: %v", n, err)
		}
	}
	if _, err := w.broker.Renew(t.Context(), tenant, instance, purpose, 2, w.first); !errors.Is(err, teebroker.ForeignBlob) {
		t.Errorf("another blob: %v", err)
	}
}

// Write mode: the host may choose between the last settled state and the write in
// flight, and nothing else. Each checkpoint may get lost.
func TestEveryWrite(t *testing.T) {
	for failing := range 5 {
		w, d := newWorld(t, "write"), &disk{}
		m := w.start(d, nil)
		calls := 0
		m.net = func(ctx context.Context, c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error) {
			a, err := w.broker.Confirm(ctx, c, mac)
			if c.Seq > 2 && failing > 0 { // the second write
				calls++
				switch failing {
				case 1: // the broker never has the first checkpoint
					return teebroker.Acknowledged{}, teebroker.Superseded
				case 2: // it has, and the answer is lost once
					if calls == 1 {
						return teebroker.Acknowledged{}, teebroker.Unavailable
					}
				case 3: // all answers are lost
					return teebroker.Acknowledged{}, teebroker.Unavailable
				case 4: // those of the settling one
					if c.Settled {
						return teebroker.Acknowledged{}, teebroker.Unavailable
					}
				}
			}
			return a, err
		}
		cfg := m.config()
		cfg.EveryWrite = true
		o, err := m.release()
		w.check(err)
		p, err := state.Prepare(cfg, o, func() ([]byte, error) { return []byte("fresh"), nil })
		w.check(err)
		s, err := p.Confirm(t.Context())
		w.check(err)
		disks := []*disk{d.copy()}
		w.check(s.Save(t.Context(), []byte("first")))
		disks = append(disks, d.copy())
		err = s.Save(t.Context(), []byte("second"))
		if (err == nil) != (failing == 0 || failing == 2) {
			t.Errorf("%d: %v", failing, err)
		}
		if err != nil {
			if err := s.Save(t.Context(), []byte("third")); !errors.Is(err, state.Ended) {
				t.Errorf("%d: a save after a failed one: %v", failing, err)
			}
		}
		s.Close()
		if _, err := w.start(disks[0], nil).prepare(); !errors.Is(err, state.NoState) {
			t.Errorf("%d: the state before the last settled one: %v", failing, err)
		}
		if failing == 0 || failing == 2 {
			if _, err := w.start(disks[1], nil).prepare(); !errors.Is(err, state.NoState) {
				t.Errorf("%d: an earlier settled state: %v", failing, err)
			}
		}
		got, err := w.start(d, nil).boot()
		if err != nil {
			t.Fatalf("%d: the disk as it is: %v", failing, err)
		}
		want := map[int]string{0: "second", 1: "first", 2: "second", 3: "first", 4: "second"}[failing]
		if string(got.Value()) != want {
			t.Errorf("%d: %q, want %q", failing, got.Value(), want)
		}
	}
}

// The broker is killed at every call, before or after it did its work: the guest
// asks again with the same key, and gets on with the state it should have; or
// starts again, when an answer was lost.
func TestKilledBroker(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			w, d := newWorld(t, "boot"), &disk{}
			w.grown(d, " one")
			w.calls, w.at, w.after = 0, at, after
			m := w.start(d, nil)
			var s *state.State
			p, err := m.prepare()
			if err != nil {
				if !errors.Is(err, teebroker.Unavailable) {
					t.Fatalf("call %d: %v", at, err)
				}
				p, err = m.prepare() // a new nonce, the same key
			}
			w.check(err)
			if s, err = p.Confirm(t.Context()); err != nil {
				if s, err = p.Confirm(t.Context()); err != nil {
					t.Fatalf("call %d: confirm again: %v", at, err)
				}
			}
			if string(s.Value()) != "fresh one" {
				t.Errorf("call %d: %q", at, s.Value())
			}
			done := w.calls < at
			w.at = 0
			w.grown(d, " two")
			st, err := w.Epoch(t.Context(), tenant, instance, purpose)
			if err != nil || st.Epoch != 4 || st.High != 4 {
				t.Errorf("call %d: numbers were wasted: %+v", at, st)
			}
			if done {
				if at < 4 {
					t.Fatalf("only %d calls", at-1)
				}
				break
			}
		}
	}
}

// Fresh state is made once, and only for a broker that is pinned.
func TestFresh(t *testing.T) {
	w := newWorld(t, "boot")
	o, err := w.start(&disk{}, nil).release()
	w.check(err)
	o.Pinned = false
	if _, err := state.Prepare(state.Config{Slots: &disk{}, Confirm: w.broker.Confirm}, o, func() ([]byte, error) {
		t.Error("made")
		return nil, nil
	}); !errors.Is(err, state.NotPinned) {
		t.Errorf("%v", err)
	}
	if !bytes.Equal(o.Key, make([]byte, len(o.Key))) || !bytes.Equal(o.NextKey, make([]byte, 32)) {
		t.Error("keys are not cleared")
	}
	d := &disk{}
	_, err = w.start(d, nil).boot()
	w.check(err)
	if _, err := w.start(&disk{}, nil).prepare(); !errors.Is(err, state.NoState) {
		t.Errorf("an empty disk later: %v", err)
	}
}

// Held is between, and passes.
func TestHeld(t *testing.T) {
	w, d := newWorld(t, "boot"), &disk{}
	p, err := w.start(d, nil).prepare()
	w.check(err)
	w.check(second(w.Hold(t.Context(), tenant, instance, purpose)))
	if _, err := p.Confirm(t.Context()); !errors.Is(err, teebroker.Held) {
		t.Errorf("confirm: %v", err)
	}
	if _, err := w.start(d, nil).release(); !errors.Is(err, teebroker.Held) {
		t.Errorf("release: %v", err)
	}
	w.check(second(w.Resume(t.Context(), tenant, instance, purpose)))
	w.check(second(p.Confirm(t.Context())))
}

// Two files, each whole or as it was.
func TestDir(t *testing.T) {
	w, d := newWorld(t, "boot"), state.Dir(t.TempDir())
	for i := range 3 {
		m := w.start(nil, nil)
		o, err := m.release()
		w.check(err)
		p, err := state.Prepare(state.Config{Slots: d, Confirm: w.broker.Confirm}, o, func() ([]byte, error) { return []byte{0}, nil })
		w.check(err)
		s, err := p.Confirm(t.Context())
		w.check(err)
		if got := s.Value(); got[0] != byte(i) {
			t.Errorf("boot %d: %d", i, got)
		}
		w.check(s.Save(t.Context(), []byte{byte(i + 1)}))
	}
}

// The proof in a PCR is what the receipt names.
func TestPCR(t *testing.T) {
	w := newWorld(t, "boot")
	m := w.start(&disk{}, nil)
	o, err := m.release()
	w.check(err)
	r, err := w.Released(t.Context(), o.Release)
	w.check(err)
	if teebroker.PCRValue(o.PCR()) != teebroker.PCRValue(teebroker.PCRDigest(r.ConfirmKey, o.Release)) {
		t.Error("not what the receipt has")
	}
}

// What proves a boot is gone with the acknowledgement, unless it is still needed to
// announce what is written.
func TestConfirmKeyErased(t *testing.T) {
	for mode, gone := range map[string]bool{"boot": true, "write": false} {
		w := newWorld(t, mode)
		m := w.start(&disk{}, nil)
		o, err := m.release()
		w.check(err)
		cfg := m.config()
		cfg.EveryWrite = mode == "write"
		key := o.ConfirmKey
		p, err := state.Prepare(cfg, o, func() ([]byte, error) { return []byte("fresh"), nil })
		w.check(err)
		if bytes.Equal(key, make([]byte, 32)) {
			t.Errorf("%s: gone before the confirm", mode)
		}
		s, err := p.Confirm(t.Context())
		w.check(err)
		if bytes.Equal(key, make([]byte, 32)) != gone {
			t.Errorf("%s: the key is %x", mode, key)
		}
		w.check(s.Save(t.Context(), []byte("next")))
	}
}

func second[T any](_ T, err error) error { return err }
