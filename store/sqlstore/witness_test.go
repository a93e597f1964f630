package sqlstore_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// witness remembers the ends of chains.
type witness struct {
	mu      sync.Mutex
	last    map[string]store.Mark
	stopped error
	differs []string
}

var errDiffers = errors.New("another history")

func (w *witness) Seen(tenant string, c teebroker.Chain) (store.Mark, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last[tenant+" "+string(c)], w.stopped
}

func (w *witness) Differs(tenant string, c teebroker.Chain, _, _ store.Mark) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.differs = append(w.differs, tenant+" "+string(c))
	return errDiffers
}

func (w *witness) Committed(tenant string, c teebroker.Chain, m store.Mark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.last = map[string]store.Mark{}
	}
	w.last[tenant+" "+string(c)] = m
}

func (w *witness) set(chain string, m store.Mark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last[chain] = m
}

// What a Witness saw has to be there before anything is added, or answered out of
// the database.
func TestWitness(t *testing.T) {
	for name, config := range map[string]func(t *testing.T) sqlstore.Config{
		"sqlite": func(t *testing.T) sqlstore.Config {
			return sqliteConfig(t, filepath.Join(t.TempDir(), "state.db"), nil)
		},
		"postgres": func(t *testing.T) sqlstore.Config { return postgresConfig(t, schema(t), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			w := &witness{}
			cfg := config(t)
			cfg.Witness = w
			p := newParty(t, cfg)
			owned(t, p.Store, "acme", 8)
			if err := p.ask("acme", 2); err != nil {
				t.Fatal(err)
			}
			g := grant("acme", 3)
			g.Generation = 2
			if _, err := release(t.Context(), p.Store, g); err != nil {
				t.Fatal(err)
			}
			at, err := p.Position(t.Context())
			heads := at.Heads
			if err != nil || len(heads) != 1 || heads[0].Mark != w.last["acme decisions"] || heads[0].Seq != 7 || len(w.differs) != 0 {
				t.Fatalf("%+v, %+v, %v, %v", heads, w.last, w.differs, err)
			}
			w.refuses(t, p, g, heads[0].Mark)
		})
	}
}

// refuses shows p marks that it does not have.
func (w *witness) refuses(t *testing.T, p *party, g teebroker.Grant, last store.Mark) {
	ctx := t.Context()
	es, err := p.Record(ctx, "acme", teebroker.Decisions, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	uses := map[string]func() error{
		"a release":        func() error { return p.ask("acme", 1) },
		"a stored outcome": func() error { _, _, err := p.Outcome(ctx, g.Request, "disk"); return err },
		"a commit again":   func() error { _, err := commit(ctx, p.Store, g); return err },
		"an act":           func() error { return p.PutSecret(ctx, "acme", instance, "more", []byte("x")) },
	}
	for name, use := range uses {
		for what, m := range map[string]store.Mark{
			"ahead":                  {Seq: last.Seq + 1, Hash: [32]byte{1}},
			"another head":           {Seq: last.Seq, Hash: [32]byte{1}},
			"another entry before":   {Seq: last.Seq - 1, Hash: last.Hash},
			"another entry long ago": {Seq: 1, Hash: [32]byte{1}},
		} {
			w.set("acme decisions", m)
			w.differs = nil
			if err := use(); err == nil || teebroker.Code(err) != "unavailable" || !slices.Equal(w.differs, []string{"acme decisions"}) {
				t.Errorf("%s with %s: %v", name, what, err)
			}
		}
		w.set("acme decisions", store.Mark{Seq: es[1].Seq, Hash: es[1].Hash})
		w.stopped = errDiffers
		if err := use(); err == nil || teebroker.Code(err) != "unavailable" {
			t.Errorf("%s, stopped: %v", name, err)
		}
		w.stopped = nil
	}
	if got, err := p.Position(ctx); err != nil || got.Heads[0].Mark != last {
		t.Errorf("%+v, %v", got, err)
	}
	// An earlier entry of the same history will do: others go on with it.
	delete(uses, "an act") // which ends authorizations
	for name, use := range uses {
		w.set("acme decisions", store.Mark{Seq: es[1].Seq, Hash: es[1].Hash})
		if err := use(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Of each chain the newest checkpoint is kept, as it was signed.
func TestCheckpoints(t *testing.T) {
	s := sqlite(t, nil)
	ctx := t.Context()
	put := func(tenant string, generation, seq uint64) string {
		c := store.Checkpoint{Token: []byte(strings.Repeat(tenant, int(seq)))}
		c.Tenant, c.Chain, c.Generation, c.Seq = tenant, teebroker.Decisions, generation, seq
		if err := s.PutCheckpoints(ctx, []store.Checkpoint{c}); err != nil {
			t.Fatal(err)
		}
		tokens, err := s.Checkpoints(ctx, tenant)
		if err != nil || len(tokens) != 1 {
			t.Fatal(tokens, err)
		}
		return string(tokens[0])
	}
	for _, tt := range []struct {
		generation, seq uint64
		want            string
	}{{1, 5, "aaaaa"}, {1, 4, "aaaaa"}, {1, 6, "aaaaaa"}, {2, 3, "aaa"}, {1, 9, "aaa"}} {
		if got := put("a", tt.generation, tt.seq); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
	put("b", 1, 1)
	if all, err := s.Checkpoints(ctx, ""); err != nil || len(all) != 2 {
		t.Errorf("%q, %v", all, err)
	}
	for name, edit := range map[string]func(*store.Checkpoint){
		"no entry":   func(c *store.Checkpoint) { c.Seq = 0 },
		"a huge seq": func(c *store.Checkpoint) { c.Seq = 1 << 63 },
		"no token":   func(c *store.Checkpoint) { c.Token = nil },
		"too long":   func(c *store.Checkpoint) { c.Token = make([]byte, 4<<10+1) },
	} {
		c := store.Checkpoint{Token: []byte("x")}
		c.Tenant, c.Chain, c.Generation, c.Seq = "a", teebroker.Decisions, 3, 1
		edit(&c)
		if err := s.PutCheckpoints(ctx, []store.Checkpoint{c}); !errors.Is(err, store.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
