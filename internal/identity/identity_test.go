package identity_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/identity"
	"github.com/teebroker/teebroker/store"
)

const tenant = "acme"

var (
	mine, another = [16]byte{1}, [16]byte{2}
	now           = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	hashed        = string(bytes.Repeat([]byte("a"), 64))
)

func ek(n byte) [32]byte { return sha256.Sum256([]byte{n}) }

func ak(n byte) []byte { return append([]byte{0, 0x0b}, bytes.Repeat([]byte{n}, 32)...) }

func bound(n byte, s store.Sighting) store.Bound {
	return store.Bound{Tenant: tenant, Instance: mine, Public: []byte{n}, AgentID: hashed, AK: ak(1), Seen: s}
}

// at is a place and counts.
func at(chip, run byte, reset, restart uint32, clock uint64) store.Sighting {
	return store.Sighting{Chip: []byte{chip}, Run: []byte{run}, ResetCount: reset, RestartCount: restart, Clock: clock}
}

func confirmed(release, n byte) teebroker.Confirm {
	return teebroker.Confirm{Release: [16]byte{release}, Epoch: uint64(release) + 1, EK: ek(n)}
}

// world is the identities of a tenant, kept as a store keeps them.
type world struct {
	t         *testing.T
	ids       []store.Identity
	ephemeral bool
}

func (w *world) view(instance [16]byte, ek [32]byte) identity.View {
	v := identity.View{Now: now, Tenant: tenant, Instance: instance, Ephemeral: w.ephemeral}
	for _, x := range w.ids {
		if x.EK == ek {
			v.Has = &x
		} else if x.Instance == instance && x.State != store.IdentitySuperseded {
			v.Rest = append(v.Rest, x)
		}
	}
	return v
}

// keep returns why c was suspicious.
func (w *world) keep(c identity.Change, err error) store.Suspicion {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, x := range c.Write {
		kept := false
		for i := range w.ids {
			if w.ids[i].EK == x.EK {
				w.ids[i], kept = x, true
			}
		}
		if !kept {
			w.ids = append(w.ids, x)
		}
	}
	return c.Why
}

func (w *world) bind(b store.Bound) store.Suspicion {
	w.t.Helper()
	return w.keep(w.view(b.Instance, b.EK()).Bind(b))
}

func (w *world) see(n byte, s store.Sighting) store.Suspicion {
	w.t.Helper()
	return w.keep(w.view(mine, ek(n)).See(s))
}

func (w *world) states() map[[32]byte]store.IdentityState {
	got := map[[32]byte]store.IdentityState{}
	for _, x := range w.ids {
		got[x.EK] = x.State
	}
	return got
}

func (w *world) want(states ...store.IdentityState) {
	w.t.Helper()
	want := map[[32]byte]store.IdentityState{}
	for i, s := range states {
		want[ek(byte(i+1))] = s
	}
	if got := w.states(); !reflect.DeepEqual(got, want) {
		w.t.Errorf("%v, want %v", got, want)
	}
}

// What is seen of one TPM in its starts, and what of that is suspicious.
func TestSightings(t *testing.T) {
	const ms = 1000 * 60 * 5 // MaxDelay
	type step struct {
		s       store.Sighting
		release byte // a confirm before it, if not 0
		why     store.Suspicion
	}
	first := step{s: at(1, 1, 5, 2, ms*2)}
	for name, steps := range map[string][]step{
		"the same again":                        {first, first},
		"time goes on":                          {first, {s: at(1, 1, 5, 2, ms*3)}},
		"a quote that was late":                 {first, {s: at(1, 1, 5, 2, ms)}},
		"the clock went back":                   {first, {s: at(1, 1, 5, 2, ms-1), why: store.Backwards}},
		"late after late":                       {first, {s: at(1, 1, 5, 2, ms)}, {s: at(1, 1, 5, 2, ms-1), why: store.Backwards}},
		"a resume":                              {first, {s: at(1, 1, 5, 3, 0)}},
		"the restart count went back":           {first, {s: at(1, 1, 5, 1, ms*3), why: store.Backwards}},
		"a reset":                               {first, {s: at(1, 1, 6, 0, 0)}},
		"the reset count went back":             {first, {s: at(1, 1, 4, 9, ms*9), why: store.Backwards}},
		"another chip":                          {first, {s: at(2, 1, 5, 2, ms*2), why: store.TwoPlaces}},
		"another chip, and a resume":            {first, {s: at(2, 1, 5, 3, ms*2), why: store.TwoPlaces}},
		"another guest":                         {first, {s: at(1, 2, 5, 2, ms*2), why: store.TwoPlaces}},
		"a masked chip":                         {first, {s: store.Sighting{Run: []byte{1}, ResetCount: 5, RestartCount: 2, Clock: ms * 2}, why: store.TwoPlaces}},
		"a start elsewhere":                     {first, {s: at(2, 2, 6, 0, 0)}},
		"a start elsewhere, and the one before": {first, {s: at(2, 2, 6, 0, 0)}, {s: first.s, why: store.Backwards}},
		"two starts of one state":               {first, {s: at(2, 2, 6, 0, 0)}, {s: at(1, 3, 6, 0, 0), why: store.TwoPlaces}},

		"a release":                         {first, {release: 1, s: at(2, 2, 6, 0, 0)}},
		"a release of a state not saved":    {first, {release: 1, s: at(2, 2, 5, 0, 0)}},
		"a release of an old state":         {first, {release: 1, s: at(2, 2, 4, 0, 0), why: store.Backwards}},
		"a move without a release":          {{release: 1, s: at(1, 1, 1, 0, 0)}, {s: at(2, 2, 2, 0, 0), why: store.TwoPlaces}},
		"a reset without a release":         {{release: 1, s: at(1, 1, 1, 0, 0)}, {s: at(1, 1, 2, 0, 0)}},
		"a release, and the one before it":  {{release: 1, s: at(1, 1, 1, 0, 0)}, {release: 2, s: at(2, 2, 1, 0, 0)}, {s: at(1, 1, 1, 0, 0), why: store.TwoPlaces}},
		"the same release says it again":    {{release: 1, s: at(1, 1, 1, 0, 0)}, {release: 1, s: at(2, 2, 1, 0, 0), why: store.TwoPlaces}},
		"a start elsewhere after a release": {first, {release: 1, s: at(2, 2, 6, 0, 0)}, {release: 2, s: at(1, 3, 7, 0, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{t: t}
			w.bind(bound(1, steps[0].s))
			if steps[0].release != 0 {
				w.ids = nil
			}
			for i, s := range steps {
				if s.release != 0 {
					if why := w.keep(w.view(mine, ek(1)).Confirm(confirmed(s.release, 1))); why != "" {
						t.Fatalf("confirm %d: %s", i, why)
					}
				}
				if why := w.see(1, s.s); why != s.why {
					t.Fatalf("sighting %d: %q, want %q", i, why, s.why)
				}
			}
			if last := steps[len(steps)-1]; last.why != "" {
				w.want(store.IdentityHeld)
				for what, f := range map[string]func() (identity.Change, error){
					"see":      func() (identity.Change, error) { return w.view(mine, ek(1)).See(steps[0].s) },
					"bind":     func() (identity.Change, error) { return w.view(mine, ek(1)).Bind(bound(1, steps[0].s)) },
					"bind new": func() (identity.Change, error) { return w.view(mine, ek(7)).Bind(bound(7, steps[0].s)) },
					"confirm":  func() (identity.Change, error) { return w.view(mine, ek(1)).Confirm(confirmed(9, 1)) },
					"register": func() (identity.Change, error) { return w.view(mine, ek(1)).Register(store.Agent{ID: "a"}, nil) },
				} {
					if c, err := f(); !errors.Is(err, teebroker.Held) || c.Write != nil {
						t.Errorf("%s while held: %v", what, err)
					}
				}
			}
		})
	}
}

// Which EKs an instance may have.
func TestEKs(t *testing.T) {
	s := at(1, 1, 1, 0, 0)
	t.Run("persistent", func(t *testing.T) {
		w := &world{t: t}
		w.bind(bound(1, s))
		if why := w.bind(bound(2, s)); why != store.OtherEK {
			t.Errorf("%q", why)
		}
		w.want(store.IdentityHeld, store.IdentityHeld)
		if string(w.ids[1].Public) != "\x02" {
			t.Error("the owner is not told what the other EK is")
		}
		w.keep(w.view(mine, ek(2)).Resume())
		w.want(store.IdentitySuperseded, store.IdentityLive)
		if _, err := w.view(mine, ek(1)).Bind(bound(1, s)); !errors.Is(err, teebroker.Superseded) {
			t.Errorf("the EK that the owner gave up: %v", err)
		}
	})
	t.Run("ephemeral", func(t *testing.T) {
		w := &world{t: t, ephemeral: true}
		w.bind(bound(1, s))
		w.bind(bound(2, s))
		w.want(store.IdentitySuperseded, store.IdentityLive)
		for what, f := range map[string]func() (identity.Change, error){
			"bind":     func() (identity.Change, error) { return w.view(mine, ek(1)).Bind(bound(1, s)) },
			"see":      func() (identity.Change, error) { return w.view(mine, ek(1)).See(s) },
			"confirm":  func() (identity.Change, error) { return w.view(mine, ek(1)).Confirm(confirmed(1, 1)) },
			"register": func() (identity.Change, error) { return w.view(mine, ek(1)).Register(store.Agent{ID: "a"}, nil) },
			"another instance": func() (identity.Change, error) {
				return w.view(another, ek(1)).Confirm(confirmed(1, 1))
			},
		} {
			if _, err := f(); !errors.Is(err, teebroker.Superseded) {
				t.Errorf("%s: %v", what, err)
			}
		}
		w.want(store.IdentitySuperseded, store.IdentityLive)
	})
	t.Run("one release, two EKs", func(t *testing.T) {
		w := &world{t: t, ephemeral: true}
		w.keep(w.view(mine, ek(1)).Confirm(confirmed(1, 1)))
		if why := w.keep(w.view(mine, ek(2)).Confirm(confirmed(1, 2))); why != store.OtherEK {
			t.Errorf("%q", why)
		}
		w.want(store.IdentityHeld, store.IdentityHeld)
	})
	t.Run("two instances", func(t *testing.T) {
		w := &world{t: t, ephemeral: true}
		w.bind(bound(1, s))
		b := bound(2, s)
		b.Instance = another
		w.bind(b)
		c, err := w.view(another, ek(1)).Confirm(confirmed(1, 1))
		if why := w.keep(c, err); why != store.OtherInstance || !reflect.DeepEqual(c.Hold, [][16]byte{another, mine}) {
			t.Errorf("%q, %v", why, c.Hold)
		}
		w.want(store.IdentityHeld, store.IdentityHeld)
		es, err := c.Entries(tenant, "x", store.Act{})
		if err != nil || len(es) != 2 || es[0].Kind != store.KindCloneSuspect {
			t.Errorf("%v, %v", es, err)
		}
	})
}

// A release that confirms begins a start; what it says later does not.
func TestConfirm(t *testing.T) {
	w := &world{t: t}
	w.keep(w.view(mine, ek(1)).Confirm(confirmed(1, 1)))
	w.bind(bound(1, at(1, 1, 1, 0, 0)))
	w.keep(w.view(mine, ek(1)).Register(store.Agent{ID: "a"}, nil))
	has := w.ids[0]
	if has.Release != [16]byte{1} || has.Epoch != 2 || !has.Placed || has.Registered.IsZero() {
		t.Fatalf("%+v", has)
	}
	later := confirmed(2, 1)
	later.Seq = 1
	for _, said := range []teebroker.Confirm{confirmed(1, 1), later} {
		w.keep(w.view(mine, ek(1)).Confirm(said))
		if !reflect.DeepEqual(w.ids[0], has) {
			t.Errorf("%+v", w.ids[0])
		}
	}
	w.keep(w.view(mine, ek(1)).Confirm(confirmed(2, 1)))
	if x := w.ids[0]; x.Release != [16]byte{2} || x.Epoch != 3 || x.Placed || !x.Registered.IsZero() || x.Agent != "a" || len(x.AKs) != 1 {
		t.Errorf("%+v", x)
	}
}

// An agent registers once in a start, and is of one EK for ever.
func TestRegister(t *testing.T) {
	w := &world{t: t, ephemeral: true}
	w.bind(bound(1, at(1, 1, 1, 0, 0)))
	register := func(n byte, a store.Agent, of *store.Identity) error {
		c, err := w.view(mine, ek(n)).Register(a, of)
		if err == nil {
			w.keep(c, err)
		}
		return err
	}
	conflict := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, store.Conflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	conflict("the hash of another EK", register(1, store.Agent{ID: string(bytes.Repeat([]byte("b"), 64))}, nil))
	if err := register(1, store.Agent{ID: hashed}, &w.ids[0]); err != nil {
		t.Fatal(err)
	}
	conflict("again", register(1, store.Agent{ID: hashed}, &w.ids[0]))
	conflict("another agent", register(1, store.Agent{ID: "a"}, nil))
	w.see(1, at(1, 1, 2, 0, 0))
	conflict("another agent in the next start", register(1, store.Agent{ID: "a"}, nil))
	if err := register(1, store.Agent{ID: hashed}, &w.ids[0]); err != nil {
		t.Errorf("in the next start: %v", err)
	}
	first := w.ids[0]
	w.keep(w.view(mine, ek(2)).Confirm(confirmed(1, 2)))
	conflict("the agent of another EK", register(2, store.Agent{ID: "a"}, &first))
	if err := register(2, store.Agent{ID: "a", Public: []byte{2}, AgentID: hashed}, nil); err != nil || string(w.ids[1].Public) != "\x02" {
		t.Errorf("%v, %x", err, w.ids[1].Public)
	}
	if err := register(3, store.Agent{ID: "b"}, nil); !errors.Is(err, store.NotFound) {
		t.Errorf("an EK that is not known: %v", err)
	}
}

// After the owner's word nothing of before counts.
func TestResume(t *testing.T) {
	w := &world{t: t}
	w.bind(bound(1, at(1, 1, 5, 0, 0)))
	w.keep(w.view(mine, ek(1)).Register(store.Agent{ID: "a"}, nil))
	if _, err := w.view(mine, ek(1)).Resume(); !errors.Is(err, store.Conflict) {
		t.Errorf("resumed what is live: %v", err)
	}
	w.see(1, at(2, 1, 5, 0, 0))
	for what, v := range map[string]identity.View{"of another instance": w.view(another, ek(1)), "unknown": w.view(mine, ek(2))} {
		if _, err := v.Resume(); !errors.Is(err, store.NotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.keep(w.view(mine, ek(1)).Resume())
	if x := w.ids[0]; x.State != store.IdentityLive || x.Why != "" || x.Seen != nil || len(x.AKs) != 0 || x.Agent != "a" || !x.Registered.IsZero() || len(x.Public) == 0 {
		t.Errorf("%+v", x)
	}
	if why := w.see(1, at(3, 3, 0, 0, 0)); why != "" {
		t.Errorf("the first sighting after it: %s", why)
	}
}

// Of AKs the latest are kept, each once.
func TestAKs(t *testing.T) {
	w := &world{t: t}
	for n := range byte(store.MaxAKs + 2) {
		b := bound(1, at(1, 1, 1, 0, uint64(n)))
		b.AK = ak(n)
		w.bind(b)
	}
	b := bound(1, at(1, 1, 1, 0, 99))
	b.AK = ak(2)
	w.bind(b)
	x := w.ids[0]
	if len(x.AKs) != store.MaxAKs || x.Has(ak(1)) || !x.Has(ak(2)) || !x.Has(ak(store.MaxAKs+1)) || !bytes.Equal(x.AKs[store.MaxAKs-1].Name, ak(2)) {
		t.Errorf("%d: %v", len(x.AKs), x.AKs)
	}
	c := x.Clone()
	c.AKs[0].Name[2]++
	c.Seen.Chip[0]++
	c.Public[0]++
	if bytes.Equal(c.AKs[0].Name, x.AKs[0].Name) || x.Seen.Chip[0] != 1 || x.Public[0] != 1 {
		t.Error("a clone shares memory")
	}
}
