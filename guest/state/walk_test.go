package state_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest/state"
)

// guestRun is one boot of a walk.
type guestRun struct {
	id      int
	disk    *disk
	pending *state.Pending
	running *state.State
	base    string // what it opened, once it runs
}

// The host starts guests on any disk there ever was, at any time; delivers
// confirms late, often or never, in any order; and its guests go on saving. The
// owner holds and resumes. Whatever it does: who confirms opened what the last
// confirmed boot left, or saved since, and nothing of anybody else.
func TestHostWalks(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		w := newWorld(t, "boot")
		disks := []*disk{{}}
		var runs []*guestRun
		var last *guestRun
		held, confirmed := false, 0
		for step := range 90 {
			switch rnd.IntN(10) {
			case 0, 1, 2: // a guest, on a disk or on a copy of one
				d := disks[rnd.IntN(len(disks))]
				if last != nil && rnd.IntN(2) == 0 {
					d = last.disk
				}
				if rnd.IntN(2) == 0 {
					d = d.copy()
				}
				p, err := w.start(d, nil).prepare()
				switch {
				case err == nil:
					runs = append(runs, &guestRun{id: len(runs), disk: d, pending: p})
					disks = append(disks, d)
				case errors.Is(err, state.NoState), held && errors.Is(err, teebroker.Held):
				default:
					t.Fatalf("seed %d, step %d: %v", seed, step, err)
				}
			case 3, 4, 5, 6: // a confirm, late or again
				if len(runs) == 0 {
					break
				}
				r := runs[len(runs)-1-min(rnd.IntN(3), len(runs)-1)]
				if r.pending == nil || r.running != nil {
					break
				}
				s, err := r.pending.Confirm(t.Context())
				if errors.Is(err, teebroker.Superseded) || held && errors.Is(err, teebroker.Held) {
					break
				}
				if err != nil || held {
					t.Fatalf("seed %d, step %d: held %v: %v", seed, step, held, err)
				}
				r.running, r.base = s, string(s.Value())
				if last != nil {
					since, ok := strings.CutPrefix(r.base, last.base)
					if !ok || strings.ReplaceAll(since, fmt.Sprintf("[%d]", last.id), "") != "" {
						t.Fatalf("seed %d, step %d: guest %d runs from %q after guest %d, which began with %q", seed, step, r.id, r.base, last.id, last.base)
					}
				}
				last = r
				confirmed++
			case 7, 8: // whoever runs saves, superseded or not
				if len(runs) == 0 {
					break
				}
				if r := runs[rnd.IntN(len(runs))]; r.running != nil {
					w.check(r.running.Save(t.Context(), append(r.running.Value(), fmt.Sprintf("[%d]", r.id)...)))
					disks = append(disks, r.disk.copy())
				}
			case 9:
				if held = !held; held {
					w.check(second(w.Hold(t.Context(), tenant, instance, purpose)))
				} else {
					w.check(second(w.Resume(t.Context(), tenant, instance, purpose)))
				}
			}
		}
		if held {
			w.check(second(w.Resume(t.Context(), tenant, instance, purpose)))
		}
		if confirmed == 0 {
			continue
		}
		// Disks are shared in a walk as no two machines share one: any copy of the
		// last one that has its state will do.
		found := false
		for i := len(disks) - 1; i >= 0 && !found; i-- {
			s, err := w.start(disks[i].copy(), nil).boot()
			if err != nil && !errors.Is(err, state.NoState) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			found = err == nil && strings.HasPrefix(string(s.Value()), last.base)
		}
		if !found {
			t.Logf("seed %d: the host lost the state of the last boot", seed)
		}
	}
}
