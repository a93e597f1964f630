package epoch_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/epoch"
	"github.com/teebroker/teebroker/internal/strictjson"
)

func digest(n byte) strictjson.Digest  { return strictjson.Digest{n} }
func releaseID(n byte) strictjson.UUID { return strictjson.UUID{n} }

// registered is a row with a first key.
func registered(t testing.TB, mode epoch.Mode) epoch.Row {
	t.Helper()
	r, err := epoch.Row{}.Register(mode, 1, digest(1), true)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// take is a release that must be granted.
func take(t testing.TB, r epoch.Row, id byte) (epoch.Row, epoch.Granted) {
	t.Helper()
	next, g, err := r.Take(releaseID(id), r.Blob, digest(100+id))
	if err != nil {
		t.Fatal(err)
	}
	return next, g
}

// Only what was confirmed, and nothing followed, is live.
func TestShows(t *testing.T) {
	one, _ := take(t, registered(t, epoch.Boot), 1)
	live, err := one.Confirm(epoch.Confirm{Release: releaseID(1), Epoch: 2, State: digest(1)})
	if err != nil {
		t.Fatal(err)
	}
	after, _ := take(t, live, 2)
	held, err := live.Hold()
	if err != nil {
		t.Fatal(err)
	}
	heldPending, err := one.Hold()
	if err != nil {
		t.Fatal(err)
	}
	recovered, err := live.Recover(digest(9), 0)
	if err != nil {
		t.Fatal(err)
	}
	retired, err := live.Retire()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		row     epoch.Row
		release byte
		want    teebroker.ShownState
	}{
		{"pending", one, 1, teebroker.ShownPending},
		{"live", live, 1, teebroker.ShownLive},
		{"followed", after, 1, teebroker.ShownSuperseded},
		{"the one that follows", after, 2, teebroker.ShownPending},
		{"held", held, 1, teebroker.ShownHeld},
		{"held while pending", heldPending, 1, teebroker.ShownHeld},
		{"another, while held", held, 2, teebroker.ShownSuperseded},
		{"recovered", recovered, 1, teebroker.ShownSuperseded},
		{"retired", retired, 1, teebroker.ShownSuperseded},
		{"of nobody", registered(t, epoch.Boot), 0, teebroker.ShownSuperseded},
		{"absent", epoch.Row{}, 1, teebroker.ShownSuperseded},
	} {
		if got := tt.row.Shows(releaseID(tt.release)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// The rows of the table of section 7, one after the other.
func TestTable(t *testing.T) {
	r := registered(t, epoch.Boot)
	if r.Status != epoch.Current || r.Epoch != 1 || r.High != 1 || !r.Initial {
		t.Fatalf("registered: %+v", r)
	}
	one, g := take(t, r, 1)
	if one.Status != epoch.Pending || g.Epoch != 1 || g.Next != 2 || !g.Initial || g.Slot != 1 {
		t.Fatalf("release: %+v %+v", one, g)
	}
	two, g := take(t, one, 2) // another candidate: the first one is superseded
	if g.Epoch != 1 || g.Next != 3 || two.High != 3 {
		t.Fatalf("second release: %+v %+v", two, g)
	}
	wants := func(what string, got epoch.Row, err, want error) {
		t.Helper()
		if !errors.Is(err, want) || !reflect.DeepEqual(got, two) {
			t.Errorf("%s: %v, want %v, and nothing changed: %+v", what, err, want, got)
		}
	}
	got, err := two.Confirm(epoch.Confirm{Release: releaseID(1), Epoch: 2})
	wants("confirm of a superseded release", got, err, teebroker.Superseded)
	got, err = two.Confirm(epoch.Confirm{Release: releaseID(2), Epoch: 2})
	wants("confirm of another epoch", got, err, teebroker.MalformedRequest)
	got, err = two.Confirm(epoch.Confirm{Epoch: 3})
	wants("confirm of no release", got, err, teebroker.Superseded)
	got, err = two.Confirm(epoch.Confirm{Release: releaseID(2), Epoch: 3, Seq: 1})
	wants("checkpoint before the confirm", got, err, teebroker.Superseded)
	got, _, err = two.Take(releaseID(3), digest(102), digest(9))
	wants("a pending blob", got, err, teebroker.EpochPending)
	got, _, err = two.Take(releaseID(3), digest(101), digest(9))
	wants("a dead blob", got, err, teebroker.EpochDead)

	c := epoch.Confirm{Release: releaseID(2), Epoch: 3, State: digest(7)}
	live, err := two.Confirm(c)
	if err != nil || live.Status != epoch.Current || live.Epoch != 3 || live.Blob != digest(102) || live.Initial || live.Live != releaseID(2) || live.States != nil {
		t.Fatalf("confirm: %+v, %v", live, err)
	}
	if again, err := live.Confirm(c); err != nil || !reflect.DeepEqual(again, live) {
		t.Errorf("the same confirm again: %+v, %v", again, err)
	}
	c.State = digest(8)
	if _, err := live.Confirm(c); !errors.Is(err, teebroker.MalformedRequest) {
		t.Errorf("another confirm of the same release: %v", err)
	}
	if _, err := live.Confirm(epoch.Confirm{Release: releaseID(2), Epoch: 3, Seq: 1}); !errors.Is(err, teebroker.MalformedRequest) {
		t.Errorf("checkpoint in boot mode: %v", err)
	}
	if _, _, err := live.Take(releaseID(4), digest(1), digest(9)); !errors.Is(err, teebroker.EpochDead) {
		t.Errorf("the blob before the confirmed boot: %v", err)
	}
}

func TestHoldRecoverRetire(t *testing.T) {
	pending, _ := take(t, registered(t, epoch.Boot), 1)
	held, err := pending.Hold()
	if err != nil || held.Status != epoch.Held {
		t.Fatal(held, err)
	}
	if _, _, err := held.Take(releaseID(2), digest(1), digest(9)); !errors.Is(err, teebroker.Held) {
		t.Errorf("release: %v", err)
	}
	if _, err := held.Confirm(epoch.Confirm{Release: releaseID(1), Epoch: 2}); !errors.Is(err, teebroker.Held) {
		t.Errorf("confirm: %v", err)
	}
	resumed, err := held.Resume()
	if err != nil || !reflect.DeepEqual(resumed, pending) {
		t.Errorf("resume: %+v, %v", resumed, err)
	}
	live, err := resumed.Confirm(epoch.Confirm{Release: releaseID(1), Epoch: 2})
	if err != nil {
		t.Fatal(err)
	}
	back, err := live.Recover(digest(50), 1)
	if err != nil || back.Epoch != 3 || back.High != 3 || back.Slot != 1 || back.Live != (strictjson.UUID{}) {
		t.Fatalf("recover: %+v, %v", back, err)
	}
	if _, err := back.Confirm(epoch.Confirm{Release: releaseID(1), Epoch: 2}); !errors.Is(err, teebroker.Superseded) {
		t.Errorf("confirm of who was live: %v", err)
	}
	next, g := take(t, back, 5)
	if g.Slot != 1 || g.Epoch != 3 || g.Next != 4 {
		t.Errorf("release after a recovery: %+v", g)
	}
	next, err = next.Confirm(epoch.Confirm{Release: releaseID(5), Epoch: 4})
	if err != nil || next.Slot != 0 {
		t.Errorf("the slot of a recovery serves once: %+v, %v", next, err)
	}
	if _, err := back.Recover(digest(51), 9); !errors.Is(err, teebroker.MalformedRequest) {
		t.Errorf("recover of an epoch that never was: %v", err)
	}
	gone, err := next.Retire()
	if err != nil || gone.Status != epoch.Retired {
		t.Fatal(gone, err)
	}
	for what, f := range map[string]func() error{
		"release":  func() error { _, _, err := gone.Take(releaseID(6), [32]byte{}, digest(9)); return err },
		"register": func() error { _, err := gone.Register(epoch.Boot, 99, digest(9), false); return err },
		"recover":  func() error { _, err := gone.Recover(digest(9), 0); return err },
		"resume":   func() error { _, err := gone.Resume(); return err },
		"hold":     func() error { _, err := gone.Hold(); return err },
	} {
		if f() == nil {
			t.Errorf("%s of a retired purpose", what)
		}
	}
}

// A zero Row grants nothing.
func TestAbsent(t *testing.T) {
	var r epoch.Row
	if _, _, err := r.Take(releaseID(1), [32]byte{}, digest(1)); !errors.Is(err, teebroker.NotAuthorized) {
		t.Error(err)
	}
	if _, err := r.Confirm(epoch.Confirm{Release: releaseID(1)}); !errors.Is(err, teebroker.Superseded) {
		t.Error(err)
	}
	if _, err := r.Recover(digest(1), 0); err == nil {
		t.Error("recovered")
	}
}

func TestCheckpoints(t *testing.T) {
	r, _ := take(t, registered(t, epoch.Write), 1)
	say := func(seq uint64, settled bool, state byte) epoch.Confirm {
		return epoch.Confirm{Release: releaseID(1), Epoch: 2, Seq: seq, Settled: settled, State: digest(state)}
	}
	for _, step := range []struct {
		c      epoch.Confirm
		states []strictjson.Digest
	}{
		{say(0, false, 1), []strictjson.Digest{digest(1)}},
		{say(1, false, 2), []strictjson.Digest{digest(2), digest(1)}},
		{say(2, true, 2), []strictjson.Digest{digest(2)}},
		{say(3, false, 3), []strictjson.Digest{digest(3), digest(2)}},
		{say(4, false, 4), []strictjson.Digest{digest(4), digest(2)}}, // the write of 3 was given up
		{say(5, true, 4), []strictjson.Digest{digest(4)}},
	} {
		var err error
		if r, err = r.Confirm(step.c); err != nil || !reflect.DeepEqual(r.States, step.states) {
			t.Fatalf("%+v: %+v, %v", step.c, r.States, err)
		}
		if again, err := r.Confirm(step.c); err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v again: %v", step.c, err)
		}
	}
	for _, c := range []epoch.Confirm{say(5, false, 9), say(4, true, 4), say(7, true, 9), say(0, false, 1)} {
		if _, err := r.Confirm(c); !errors.Is(err, teebroker.MalformedRequest) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	next, g := take(t, r, 2)
	if !reflect.DeepEqual(g.States, r.States) {
		t.Errorf("granted %+v", g)
	}
	if _, err := next.Confirm(say(6, false, 9)); !errors.Is(err, teebroker.Superseded) {
		t.Errorf("checkpoint of a superseded release: %v", err)
	}
}

// Whatever is done in whatever order: a number is never given twice, one release
// at most can confirm or checkpoint, the current epoch goes forward except by the
// owner, and a row survives its JSON.
func TestWalks(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		mode := []epoch.Mode{epoch.Boot, epoch.Write}[rnd.IntN(2)]
		r := registered(t, mode)
		given := map[uint64]byte{1: 0}
		epochs := map[byte]uint64{} // that a release may confirm
		var id byte
		for range 120 {
			before := r
			switch rnd.IntN(8) {
			case 0, 1:
				id++
				next, g, err := r.Take(releaseID(id), r.Blob, digest(100+id))
				if err == nil {
					if by, ok := given[g.Next]; ok {
						t.Fatalf("seed %d: epoch %d given to %d and %d", seed, g.Next, by, id)
					}
					given[g.Next], epochs[id] = id, g.Next
					r = next
				}
			case 2, 3, 4, 5:
				who := byte(rnd.IntN(int(id) + 1))
				c := epoch.Confirm{Release: releaseID(who), Epoch: epochs[who], Seq: uint64(rnd.IntN(3)), State: digest(byte(rnd.IntN(5)))}
				next, err := r.Confirm(c)
				if err == nil && (who == 0 || epochs[who] != next.Epoch || next.Live != releaseID(who) || next.Epoch < r.Epoch) {
					t.Fatalf("seed %d: release %d confirmed: %+v", seed, who, next)
				}
				r = next
			case 6:
				if rnd.IntN(2) == 0 {
					r, _ = r.Hold()
				} else {
					r, _ = r.Resume()
				}
			case 7:
				if next, err := r.Recover(digest(200), r.High); err == nil && rnd.IntN(4) == 0 {
					if _, ok := given[next.Epoch]; ok {
						t.Fatalf("seed %d: epoch %d given again", seed, next.Epoch)
					}
					given[next.Epoch] = 0
					r = next
				}
			}
			if r.High < before.High || len(r.States) > 2 || (r.Live != strictjson.UUID{} && r.Release != strictjson.UUID{}) {
				t.Fatalf("seed %d: %+v", seed, r)
			}
			b, err := json.Marshal(r)
			var back epoch.Row
			if err == nil {
				err = strictjson.Unmarshal(b, &back)
			}
			if err != nil || fmt.Sprint(back) != fmt.Sprint(r) {
				t.Fatalf("seed %d: %+v is read as %+v: %v", seed, r, back, err)
			}
		}
	}
}

// Of every epoch the key is forgotten once, when it is so many numbers back and not
// current, and never while it is.
func TestForgets(t *testing.T) {
	const kept = 3
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		r := registered(t, epoch.Boot)
		forgotten := map[uint64]bool{}
		for id := byte(1); id < 60; id++ {
			before := r
			switch rnd.IntN(4) {
			case 0, 1:
				r, _ = take(t, r, id)
			case 2:
				if next, err := r.Confirm(epoch.Confirm{Release: r.Release, Epoch: r.Next, State: digest(1)}); err == nil {
					r = next
				}
			case 3:
				next, err := r.Recover(digest(id), r.Epoch)
				if err != nil {
					t.Fatal(err)
				}
				r = next
			}
			for _, n := range r.Forgets(before, kept) {
				if forgotten[n] {
					t.Errorf("seed %d: epoch %d is forgotten twice", seed, n)
				}
				forgotten[n] = true
			}
			for n := uint64(1); n <= r.High; n++ {
				if want := n+kept <= r.High && n != r.Epoch; forgotten[n] != want {
					t.Fatalf("seed %d: epoch %d of %d, current %d: forgotten %v", seed, n, r.High, r.Epoch, forgotten[n])
				}
			}
		}
	}
}

// At the end of the numbers nothing is given twice, and nothing wraps around.
func TestNoMoreNumbers(t *testing.T) {
	const last = 1<<64 - 1
	r, err := epoch.Row{}.Register(epoch.Write, last-1, digest(1), true)
	if err != nil {
		t.Fatal(err)
	}
	pending, g := take(t, r, 1)
	if g.Next != last {
		t.Errorf("%+v", g)
	}
	if same, _, err := pending.Take(releaseID(2), [32]byte{}, digest(2)); !errors.Is(err, teebroker.Unavailable) || !reflect.DeepEqual(same, pending) {
		t.Errorf("a number after the last one: %v", err)
	}
	if same, err := pending.Recover(digest(9), 1); !errors.Is(err, teebroker.MalformedRequest) || !reflect.DeepEqual(same, pending) {
		t.Errorf("a recovery after the last one: %v", err)
	}
	live, err := pending.Confirm(epoch.Confirm{Release: releaseID(1), Epoch: last, State: digest(1)})
	if err != nil {
		t.Fatal(err)
	}
	live.Seq, live.Last = last, epoch.Confirm{Release: releaseID(1), Epoch: last, Seq: last, State: digest(2)}
	for _, seq := range []uint64{0, 1, last - 1} {
		c := epoch.Confirm{Release: releaseID(1), Epoch: last, Seq: seq, State: digest(3)}
		if same, err := live.Confirm(c); !errors.Is(err, teebroker.MalformedRequest) || !reflect.DeepEqual(same, live) {
			t.Errorf("checkpoint %d after the last one: %v", seq, err)
		}
	}
	if again, err := live.Confirm(live.Last); err != nil || !reflect.DeepEqual(again, live) {
		t.Errorf("the last one again: %v", err)
	}
}
