package checkpoint_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/checkpoint"
)

// fake is a database that a test changes as it likes.
type fake struct {
	mu         sync.Mutex
	opened     uint64 // generation
	generation uint64
	chains     map[checkpoint.Key][]store.RecordEntry
	tokens     map[checkpoint.Key][]byte
	fails      error // of everything that is read
	puts       error
}

func newFake() *fake {
	return &fake{opened: 1, generation: 1, chains: map[checkpoint.Key][]store.RecordEntry{}, tokens: map[checkpoint.Key][]byte{}}
}

// copy returns the database as it is, opened again.
func (f *fake) copy() *fake {
	c := newFake()
	c.opened, c.generation, c.tokens = f.generation, f.generation, maps.Clone(f.tokens)
	for key, es := range f.chains {
		c.chains[key] = slices.Clone(es)
	}
	return c
}

func (f *fake) Generation() uint64 { return f.opened }

func (f *fake) Position(context.Context) (store.Position, error) {
	p := store.Position{Generation: f.generation}
	for key, es := range f.chains {
		last := es[len(es)-1]
		p.Heads = append(p.Heads, store.Head{Tenant: key.Tenant, Chain: key.Chain, Mark: store.Mark{Seq: last.Seq, Hash: last.Hash}, Time: last.Time})
	}
	return p, f.fails
}

func (f *fake) Record(_ context.Context, tenant string, c teebroker.Chain, after uint64, limit int) ([]store.RecordEntry, error) {
	var es []store.RecordEntry
	for _, e := range f.chains[checkpoint.Key{Tenant: tenant, Chain: c}] {
		if e.Seq > after && len(es) < limit {
			es = append(es, e)
		}
	}
	return es, f.fails
}

func (f *fake) Checkpoints(context.Context, string) ([][]byte, error) {
	return slices.Collect(maps.Values(f.tokens)), f.fails
}

func (f *fake) PutCheckpoints(_ context.Context, cs []store.Checkpoint) error {
	if f.puts != nil {
		return f.puts
	}
	for _, c := range cs {
		f.tokens[checkpoint.Key{Tenant: c.Tenant, Chain: c.Chain}] = c.Token
	}
	return nil
}

// add adds n entries to the decisions of tenant.
func (f *fake) add(tenant string, n int, text string) store.Mark {
	key := checkpoint.Key{Tenant: tenant, Chain: teebroker.Decisions}
	var last store.RecordEntry
	if es := f.chains[key]; len(es) > 0 {
		last = es[len(es)-1]
	}
	for range n {
		last = last.Follow(teebroker.Entry{Chain: teebroker.Decisions, Tenant: tenant, Kind: "policy", Body: []byte(text)}, f.generation, time.Unix(1000, 0))
		f.chains[key] = append(f.chains[key], last)
	}
	return store.Mark{Seq: last.Seq, Hash: last.Hash}
}

// process is a broker process: its directory, its log, its clock.
type process struct {
	*testing.T
	dir      string
	identity *ecdsa.PrivateKey
	now      time.Time
	log      []string
}

func newProcess(t *testing.T) *process {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &process{t, t.TempDir(), key, time.Unix(2_000_000_000, 0), nil}
}

func (p *process) id() [32]byte {
	id, err := jws.Thumbprint(&p.identity.PublicKey)
	if err != nil {
		p.Fatal(err)
	}
	return id
}

func (p *process) file() checkpoint.File { return checkpoint.In(p.dir, p.id()) }

// start is a start of the process.
func (p *process) start(f *fake, allow bool) (*checkpoint.Keeper, error) {
	p.Helper()
	k, err := checkpoint.New(checkpoint.Config{
		Identity: p.identity, Dir: p.dir, AllowMissing: allow,
		Time: func() time.Time { return p.now }, Report: func(text string) { p.log = append(p.log, text) },
	})
	if err != nil {
		p.Fatal(err)
	}
	if _, err := k.Seen("acme", teebroker.Decisions); err == nil {
		p.Error("it may be used before anything was compared")
	}
	return k, k.Start(p.Context(), f)
}

func (p *process) starts(f *fake) *checkpoint.Keeper {
	p.Helper()
	k, err := p.start(f, false)
	if err != nil || k.Stopped() != nil {
		p.Fatal(err, k.Stopped())
	}
	return k
}

// refuses wants a start or look to end with err and nothing to be released.
func (p *process) refuses(k *checkpoint.Keeper, err error, want checkpoint.Error, text string) {
	p.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		p.Errorf("%v, want %v, %q", err, want, text)
	}
	if _, err := k.Seen("acme", teebroker.Decisions); err == nil || k.Stopped() == nil {
		p.Error("it goes on")
	}
}

// A checkpoint of each chain that went on is kept, in the file and in the database,
// each names the one before, and nothing is written when nothing happened.
func TestKeep(t *testing.T) {
	p, f := newProcess(t), newFake()
	p.starts(f)
	if s, err := p.file().Read(); err != nil || len(s) != 0 || len(p.log) != 1 {
		t.Fatalf("of nothing: %v, %v, %q", s, err, p.log)
	}
	head := f.add("acme", 3, "{}")
	f.add("other", 1, "{}")
	k := p.starts(f)
	s, err := p.file().Read()
	key := checkpoint.Key{Tenant: "acme", Chain: teebroker.Decisions}
	first := s[key]
	if err != nil || len(s) != 2 || first.Seq != 3 || first.Head != head.Hash || first.Generation != 1 || first.Time != p.now.UnixMilli() ||
		first.Issuer != p.id() || first.Previous != [32]byte{} || string(f.tokens[key]) != string(first.Token) {
		t.Fatalf("%+v, %v", s, err)
	}
	if seen, err := k.Seen("acme", teebroker.Decisions); seen != head || err != nil {
		t.Errorf("seen %+v, %v", seen, err)
	}
	before, err := os.ReadFile(p.file().Path())
	if err != nil {
		t.Fatal(err)
	}
	p.now = p.now.Add(time.Hour)
	if err := k.Look(t.Context()); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile(p.file().Path()); err != nil || string(before) != string(after) {
		t.Errorf("another file for nothing: %v", err)
	}
	head = f.add("acme", 1, "{}")
	k.Committed("acme", teebroker.Decisions, head)
	if seen, err := k.Seen("acme", teebroker.Decisions); seen != head || err != nil {
		t.Errorf("seen %+v, %v", seen, err)
	}
	tokens, err := k.Newest(t.Context(), "acme") // on request
	if err != nil || len(tokens) != 1 {
		t.Fatal(tokens, err)
	}
	c, err := teebroker.VerifyCheckpoint(tokens[0], p.id())
	if err != nil || c.Seq != 4 || c.Head != head.Hash || c.Previous != sha256.Sum256(first.Token) {
		t.Errorf("%+v, %v", c, err)
	}
	f.add("acme", 1, "{}") // by another process, which is looked for after a second
	for _, seq := range []uint64{4, 5} {
		tokens, err := k.Newest(t.Context(), "acme")
		if err != nil || len(tokens) != 1 {
			t.Fatal(tokens, err)
		}
		if c, err := teebroker.VerifyCheckpoint(tokens[0], p.id()); err != nil || c.Seq != seq {
			t.Errorf("%+v, %v", c, err)
		}
		p.now = p.now.Add(2 * time.Second)
	}
	info, err := os.Stat(p.file().Path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if tokens, err := k.Newest(t.Context(), "nobody"); err != nil || len(tokens) != 0 {
		t.Errorf("%q, %v", tokens, err)
	}
}

// Whatever is done to the database, a process that runs and one that is started
// again notice it, stop, say so once, and go on when the right one is back.
func TestDiffers(t *testing.T) {
	key := checkpoint.Key{Tenant: "acme", Chain: teebroker.Decisions}
	for name, tt := range map[string]struct {
		change func(f *fake)
		text   string
	}{
		"yesterday's":          {func(f *fake) { f.chains[key] = f.chains[key][:2] }, "end at entry 2, and 5 was seen"},
		"an empty one":         {func(f *fake) { clear(f.chains); clear(f.tokens) }, "end at entry 0, and 5 was seen"},
		"a forked one":         {func(f *fake) { f.chains[key] = f.chains[key][:4]; f.add("acme", 1, "[]") }, "entry 5 of decisions of tenant acme is another one"},
		"a forked longer one":  {func(f *fake) { f.chains[key] = f.chains[key][:4]; f.add("acme", 4, "[]") }, "entry 5 of decisions of tenant acme is another one"},
		"an older generation":  {func(f *fake) { f.generation, f.opened = 0, 0 }, "of generation 0, and 1 was seen"},
		"entries that are new": {func(f *fake) { f.add("acme", 3, "{}"); f.chains[key][6].Body = []byte("[]") }, "entry 7 of decisions of tenant acme does not follow"},
		"one that is missing":  {func(f *fake) { f.add("acme", 3, "{}"); f.chains[key] = slices.Delete(f.chains[key], 6, 7) }, "does not follow"},
		"a silent generation":  {func(f *fake) { f.generation++; f.opened++ }, "no checkpoint says that the broker's operator restored it"},
	} {
		t.Run(name, func(t *testing.T) {
			p, f := newProcess(t), newFake()
			f.add("acme", 5, "{}")
			running := p.starts(f)
			p.log = nil
			right := f.copy()
			tt.change(f)
			again, err := p.start(f, false)
			p.refuses(again, err, checkpoint.ErrDiffers, tt.text)
			if len(p.log) != 1 || !strings.Contains(p.log[0], "nothing is released") || !strings.Contains(p.log[0], "broker restore") {
				t.Errorf("log %q", p.log)
			}
			text := tt.text
			if strings.Contains(name, "generation") { // it began with another
				text = "start the broker again"
			}
			p.refuses(running, running.Look(t.Context()), checkpoint.ErrDiffers, text)
			p.refuses(running, running.Look(t.Context()), checkpoint.ErrDiffers, text)
			if len(p.log) != 2 {
				t.Errorf("log %q", p.log)
			}
			if tokens, err := running.Newest(t.Context(), "acme"); err != nil || len(tokens) != 1 {
				t.Errorf("what was kept: %q, %v", tokens, err)
			}
			f.chains, f.tokens, f.generation, f.opened = right.chains, right.tokens, 1, 1
			p.log = nil
			for _, k := range []*checkpoint.Keeper{running, again} {
				if err := k.Look(t.Context()); err != nil || k.Stopped() != nil {
					t.Errorf("with the right one: %v, %v", err, k.Stopped())
				}
			}
			if !strings.Contains(strings.Join(p.log, "\n"), "again; releases go on") {
				t.Errorf("log %q", p.log)
			}
		})
	}
}

// What a store notices in a transaction stops everything, and a Look that began
// before it does not undo that.
func TestWitnessStops(t *testing.T) {
	p, f := newProcess(t), newFake()
	head := f.add("acme", 2, "{}")
	k := p.starts(f)
	err := k.Differs("acme", teebroker.Decisions, head, store.Mark{Seq: 1})
	p.refuses(k, err, checkpoint.ErrDiffers, "end at entry 1, and 2 was seen")
	if err := k.Look(t.Context()); err != nil || k.Stopped() != nil {
		t.Error(err, k.Stopped())
	}
}

// A replica that lags has not what this process committed, or what another process
// signed. It is taken when it has caught up.
func TestReplicaLags(t *testing.T) {
	p, primary := newProcess(t), newFake()
	primary.add("acme", 3, "{}")
	k := p.starts(primary)
	replica := primary.copy()
	k.Committed("acme", teebroker.Decisions, primary.add("acme", 1, "{}"))
	if err := k.Start(t.Context(), replica); !errors.Is(err, checkpoint.ErrDiffers) || k.Stopped() == nil {
		t.Error(err)
	}
	replica.chains = primary.copy().chains
	if err := k.Look(t.Context()); err != nil || k.Stopped() != nil {
		t.Error(err)
	}
	// Another process, on the primary, saw more, and its checkpoint came first.
	other := &process{t, t.TempDir(), p.identity, p.now, nil}
	primary.add("acme", 2, "{}")
	if _, err := other.start(primary, true); err != nil {
		t.Fatal(err)
	}
	replica.tokens = maps.Clone(primary.tokens)
	p.refuses(k, k.Look(t.Context()), checkpoint.ErrDiffers, "end at entry 4, and 6 was seen")
	replica.chains = primary.copy().chains
	if err := k.Look(t.Context()); err != nil || k.Stopped() != nil {
		t.Error(err)
	}
	// What the other signed is kept as it is.
	s, err := p.file().Read()
	if key := (checkpoint.Key{Tenant: "acme", Chain: teebroker.Decisions}); err != nil || string(s[key].Token) != string(primary.tokens[key]) {
		t.Errorf("%v, %v", s, err)
	}
}

// Where checkpoints are missing though some were made, nothing begins unless the
// operator says so. One that is lost under a process that runs is made again.
func TestMissing(t *testing.T) {
	p, f := newProcess(t), newFake()
	f.add("acme", 3, "{}")
	k := p.starts(f)
	if err := os.Remove(p.file().Path()); err != nil {
		t.Fatal(err)
	}
	p.log = nil
	if err := k.Look(t.Context()); err != nil || len(p.log) != 1 || !strings.Contains(p.log[0], "was gone, and is written again") {
		t.Errorf("%v, %q", err, p.log)
	}
	if s, err := p.file().Read(); err != nil || len(s) != 1 {
		t.Errorf("%v, %v", s, err)
	}
	if err := os.Remove(p.file().Path()); err != nil {
		t.Fatal(err)
	}
	again, err := p.start(f, false)
	p.refuses(again, err, checkpoint.ErrMissing, p.file().Path())
	if _, err := os.Stat(p.file().Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it began: %v", err)
	}
	if again, err = p.start(f, true); err != nil || again.Stopped() != nil {
		t.Error(err)
	}
	p.starts(f)
	// What nobody ever made, does not miss: a database of an earlier version.
	old := newFake()
	old.add("acme", 3, "{}")
	(&process{t, t.TempDir(), p.identity, p.now, nil}).starts(old)
}

// What the operator restored is accepted once; the same put back later is not.
func TestRestored(t *testing.T) {
	p, f := newProcess(t), newFake()
	f.add("acme", 3, "{}")
	f.add("gone", 1, "{}")
	running := p.starts(f)
	yesterday := f.copy()
	delete(yesterday.chains, checkpoint.Key{Tenant: "gone", Chain: teebroker.Decisions})
	f.add("acme", 2, "{}")
	if err := running.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The command, and what it leaves in the record.
	yesterday.generation = 2
	yesterday.add("acme", 1, "restored")
	if err := checkpoint.Restored(t.Context(), yesterday, p.identity, p.now); err != nil {
		t.Fatal(err)
	}
	// A process that runs has to be started again.
	p.refuses(running, running.Start(t.Context(), yesterday), checkpoint.ErrDiffers, "start the broker again")
	yesterday.opened = 2
	restored := yesterday.copy()
	p.log = nil
	p.starts(yesterday)
	if text := strings.Join(p.log, "\n"); len(p.log) != 2 || !strings.Contains(text, "decisions of tenant acme were seen up to entry 5 in generation 1, and end at 4 in generation 2") ||
		!strings.Contains(text, "tenant gone were seen up to entry 1 in generation 1, and end at 0") {
		t.Errorf("log %q", p.log)
	}
	yesterday.add("acme", 3, "{}")
	p.log = nil
	p.starts(yesterday)
	if len(p.log) != 0 {
		t.Errorf("log %q", p.log)
	}
	k, err := p.start(restored, false)
	p.refuses(k, err, checkpoint.ErrDiffers, "end at entry 4, and 7 was seen")
	k, err = p.start(f, false) // the one from before the restore
	p.refuses(k, err, checkpoint.ErrDiffers, "of generation 1, and 2 was seen")
	// A restore that another broker signed is none.
	evil := newProcess(t)
	forged := f.copy()
	forged.generation, forged.opened = 3, 3
	if err := checkpoint.Restored(t.Context(), forged, evil.identity, p.now); err != nil {
		t.Fatal(err)
	}
	k, err = p.start(forged, false)
	p.refuses(k, err, checkpoint.ErrDiffers, "no checkpoint says")
}

// What can't be kept or compared stops releases after a minute, and not before.
func TestLate(t *testing.T) {
	p, f := newProcess(t), newFake()
	k := p.starts(f)
	k.Committed("acme", teebroker.Decisions, f.add("acme", 1, "{}"))
	f.fails = errors.New("out of reach")
	p.now = p.now.Add(checkpoint.MaxAge)
	if err := k.Look(t.Context()); err == nil || k.Stopped() != nil {
		t.Errorf("%v, %v", err, k.Stopped())
	}
	p.now = p.now.Add(time.Second)
	if err := k.Stopped(); !errors.Is(err, checkpoint.ErrLate) {
		t.Error(err)
	}
	if _, err := k.Seen("acme", teebroker.Decisions); !errors.Is(err, checkpoint.ErrLate) {
		t.Error(err)
	}
	f.fails = nil
	f.puts = errors.New("out of reach") // which only others miss
	if err := k.Look(t.Context()); err == nil || k.Stopped() != nil {
		t.Errorf("%v, %v", err, k.Stopped())
	}
	p.now = p.now.Add(time.Hour) // and nothing happens
	if err := k.Stopped(); err != nil {
		t.Error(err)
	}
	// A directory that is not there any more.
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	k.Committed("acme", teebroker.Decisions, f.add("acme", 1, "{}"))
	if err := k.Look(t.Context()); err == nil {
		t.Error("kept nowhere")
	}
	p.now = p.now.Add(checkpoint.MaxAge + 1)
	if err := k.Stopped(); !errors.Is(err, checkpoint.ErrLate) {
		t.Error(err)
	}
}

// Commits while it looks are neither lost nor taken for another history.
func TestRace(t *testing.T) {
	p := newProcess(t)
	f := &locked{fake: newFake()}
	k, err := checkpoint.New(checkpoint.Config{Identity: p.identity, Dir: p.dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Start(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			tenant := fmt.Sprint("t", i)
			for range 20 {
				if _, err := k.Seen(tenant, teebroker.Decisions); err != nil {
					t.Error(err)
				}
				f.mu.Lock()
				m := f.add(tenant, 1, "{}")
				f.mu.Unlock()
				k.Committed(tenant, teebroker.Decisions, m)
			}
		})
	}
	for range 10 {
		if err := k.Look(t.Context()); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if err := k.Look(t.Context()); err != nil {
		t.Error(err)
	}
	s, err := p.file().Read()
	if err != nil || len(s) != 4 {
		t.Fatal(s, err)
	}
	for _, c := range s {
		if c.Seq != 20 {
			t.Errorf("%s: %d", c.Tenant, c.Seq)
		}
	}
}

// locked is a fake for concurrent use.
type locked struct{ *fake }

func (l *locked) Position(ctx context.Context) (store.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fake.Position(ctx)
}

func (l *locked) Record(ctx context.Context, tenant string, c teebroker.Chain, after uint64, limit int) ([]store.RecordEntry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fake.Record(ctx, tenant, c, after, limit)
}
