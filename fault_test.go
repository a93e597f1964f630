package teebroker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/store/memory"
)

var errDisk = errors.New("disk on fire")

// faulty is a Store one of whose calls fails: before it did anything, or after
// it did all, when the caller can't know.
type faulty struct {
	*memory.Store
	mu    sync.Mutex
	calls []string
	at    int // which call fails, from 1; 0 for none
	after bool
}

// call runs f and returns its error, or that of a fault.
func (s *faulty) call(name string, f func() error) error {
	s.mu.Lock()
	s.calls = append(s.calls, name)
	fails := len(s.calls) == s.at
	s.mu.Unlock()
	if fails && !s.after {
		return errDisk
	}
	if err := f(); err != nil || !fails {
		return err
	}
	return fmt.Errorf("connection lost: %w", errDisk)
}

func (s *faulty) Redeem(ctx context.Context, n nonce.Nonce, id [32]byte, expiry time.Time) error {
	return s.call("Redeem", func() error { return s.Store.Redeem(ctx, n, id, expiry) })
}

func (s *faulty) Instance(ctx context.Context, l teebroker.Lookup) (i teebroker.Instance, err error) {
	err = s.call("Instance", func() error { i, err = s.Store.Instance(ctx, l); return err })
	return i, err
}

func (s *faulty) Secret(ctx context.Context, i teebroker.Instance, p string) (b []byte, err error) {
	err = s.call("Secret", func() error { b, err = s.Store.Secret(ctx, i, p); return err })
	return b, err
}

func (s *faulty) Outcome(ctx context.Context, id [32]byte, p string) (o teebroker.Outcome, ok bool, err error) {
	err = s.call("Outcome", func() error { o, ok, err = s.Store.Outcome(ctx, id, p); return err })
	return o, ok, err
}

func (s *faulty) Check(ctx context.Context, g teebroker.Grant) (t teebroker.Terms, err error) {
	err = s.call("Check", func() error { t, err = s.Store.Check(ctx, g); return err })
	return t, err
}

func (s *faulty) Commit(ctx context.Context, g teebroker.Grant, r teebroker.Response, e teebroker.Entry) (out teebroker.Response, err error) {
	err = s.call("Commit", func() error { out, err = s.Store.Commit(ctx, g, r, e); return err })
	return out, err // with what was stored, as a careless Ledger might
}

func (s *faulty) Refuse(ctx context.Context, id [32]byte, p, code string, e teebroker.Entry) error {
	return s.call("Refuse", func() error { return s.Store.Refuse(ctx, id, p, code, e) })
}

// Whichever call fails, whether or not it did its work: no sealed bytes leave
// with an error, the guest gets its secret in the end with the same key, once,
// and no other key does.
func TestFaults(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			s := &faulty{at: at, after: after}
			w := newWorld(t, func(c *teebroker.Config) {
				s.Store = c.Ledger.(*memory.Store)
				c.Ledger, c.Nonces, c.Directory, c.Secrets = s, s, s, s
			})
			w.authorize(nil)
			g := w.session(nil)
			req := w.request(g, honest())
			r, err := w.answer(req)
			if len(s.calls) < at {
				if at < 7 {
					t.Fatalf("only %v", s.calls)
				}
				break
			}
			name := fmt.Sprintf("%s fails, after=%v", s.calls[at-1], after)
			w.refusedWith(name, r, err, teebroker.Unavailable)
			if !errors.Is(err, errDisk) {
				t.Errorf("%s: the cause is lost: %v", name, err)
			}
			w.recovers(name, g, req)
		}
	}
}

// recovers fails unless the guest of g gets its secret by the rules for guests:
// the identical request, then a new nonce with the same key.
func (w *world) recovers(name string, g *guest.Session, req teebroker.Request) {
	w.Helper()
	r, err := w.answer(req)
	if err != nil {
		if code := teebroker.Code(err); code != "in-progress" && code != "nonce-spent" {
			w.Errorf("%s: again: %v", name, err)
		}
		r, err = w.answer(w.request(g, honest()))
	}
	if err != nil {
		w.Errorf("%s: with a new nonce: %v", name, err)
		return
	}
	w.opens(g, r)
	other, err := w.answer(w.request(w.session(nil), honest()))
	w.refusedWith(name+": another key", other, err, teebroker.OtherKey)
	releases := 0
	for _, e := range w.entries(teebroker.Decisions) {
		if e.Kind == teebroker.KindRelease {
			releases++
		}
	}
	if releases != 1 {
		w.Errorf("%s: %d releases recorded", name, releases)
	}
}

// If the refusal can't be stored, it is still the answer.
func TestRefuseFails(t *testing.T) {
	s := &faulty{}
	w := newWorld(t, func(c *teebroker.Config) {
		s.Store = c.Ledger.(*memory.Store)
		c.Ledger = s
	})
	g := honest()
	g.Measurement = "bad"
	s.at = 2 // Outcome, Refuse
	r, err := w.answer(w.request(w.session(nil), g))
	w.refusedWith("refused", r, err, teebroker.Denied)
	if len(s.calls) != 2 || s.calls[1] != "Refuse" {
		t.Errorf("calls %v", s.calls)
	}
}

// The nonce is durable before any evidence is looked at.
func TestNonceFirst(t *testing.T) {
	s := &faulty{at: 2} // Outcome, Redeem
	verified := false
	w := newWorld(t, func(c *teebroker.Config) {
		s.Store = c.Ledger.(*memory.Store)
		c.Ledger, c.Nonces = s, s
		c.Verifier = hooked{c.Verifier, func() { verified = true }}
	})
	w.authorize(nil)
	r, err := w.answer(w.request(w.session(nil), honest()))
	w.refusedWith("Redeem failed", r, err, teebroker.Unavailable)
	if verified {
		t.Error("evidence was verified for a nonce that may not be redeemed")
	}
}

// A Ledger or Directory that misbehaves gets nobody a secret, nor a hint.
func TestMisbehaved(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(*teebroker.Config, *memory.Store)
		want error
	}{
		"ledger has an empty outcome": {func(c *teebroker.Config, s *memory.Store) { c.Ledger = emptyOutcome{s} }, teebroker.Unavailable},
		"ledger commits to nothing":   {func(c *teebroker.Config, s *memory.Store) { c.Ledger = commits{s, teebroker.Response{}} }, teebroker.Unavailable},
		"ledger commits to no bytes": {func(c *teebroker.Config, s *memory.Store) {
			c.Ledger = commits{s, teebroker.Response{Receipt: []byte("r")}}
		}, teebroker.Unavailable},
		"ledger never settles": {func(c *teebroker.Config, s *memory.Store) { c.Ledger = always{s} }, teebroker.Unavailable},
		"directory has another instance": {func(c *teebroker.Config, s *memory.Store) {
			c.Directory = directory{s, func(i *teebroker.Instance) { i.ID[0]++ }, nil}
		}, teebroker.NoInstance},
		"directory has no instance": {func(c *teebroker.Config, s *memory.Store) {
			c.Directory = directory{s, func(i *teebroker.Instance) { *i = teebroker.Instance{} }, nil}
		}, teebroker.NoInstance},
		"directory has another tenant": {func(c *teebroker.Config, s *memory.Store) {
			c.Directory = directory{s, func(i *teebroker.Instance) { i.Tenant = "other" }, nil}
		}, teebroker.NoInstance},
		"directory has a nil policy": {func(c *teebroker.Config, s *memory.Store) {
			c.Directory = directory{s, func(i *teebroker.Instance) { i.Policies = append(i.Policies, nil) }, nil}
		}, teebroker.Denied},
		"policy without a document": {func(c *teebroker.Config, s *memory.Store) {
			c.Directory = directory{s, func(i *teebroker.Instance) { i.Policies[0].Document = nil }, nil}
		}, teebroker.Denied},
		"directory tells of epochs":     {func(c *teebroker.Config, s *memory.Store) { c.Directory = directory{s, nil, teebroker.Superseded} }, teebroker.Unavailable},
		"secret is empty":               {func(c *teebroker.Config, s *memory.Store) { c.Secrets = noSecret{} }, teebroker.NotAuthorized},
		"verifier fails in its own way": {func(c *teebroker.Config, s *memory.Store) { c.Verifier = broken{errDisk} }, teebroker.Unavailable},
		"verifier has no reason":        {func(c *teebroker.Config, s *memory.Store) { c.Verifier = broken{&evidence.Error{}} }, teebroker.Unavailable},
		"verifier returns nothing":      {func(c *teebroker.Config, s *memory.Store) { c.Verifier = broken{} }, teebroker.Unavailable},
	} {
		w := newWorld(t, func(c *teebroker.Config) { tt.edit(c, c.Ledger.(*memory.Store)) })
		w.authorize(nil)
		r, err := w.answer(w.request(w.session(nil), honest()))
		w.refusedWith(name, r, err, tt.want)
	}
}

type emptyOutcome struct{ teebroker.Ledger }

func (emptyOutcome) Outcome(context.Context, [32]byte, string) (teebroker.Outcome, bool, error) {
	return teebroker.Outcome{}, true, nil
}

// commits has committed r before, whatever it is given.
type commits struct {
	teebroker.Ledger
	r teebroker.Response
}

func (c commits) Commit(context.Context, teebroker.Grant, teebroker.Response, teebroker.Entry) (teebroker.Response, error) {
	return c.r, nil
}

// What is answered is what was committed, not what was prepared.
func TestAnswersWhatWasCommitted(t *testing.T) {
	first := teebroker.Response{Release: [16]byte{1}, Sealed: []byte("first"), Receipt: []byte("first")}
	w := newWorld(t, func(c *teebroker.Config) { c.Ledger = commits{c.Ledger, first} })
	w.authorize(nil)
	r, err := w.answer(w.request(w.session(nil), honest()))
	w.check(err)
	if r.Release != first.Release || string(r.Sealed) != "first" || string(r.Receipt) != "first" {
		t.Errorf("%+v", r)
	}
}

// asks records what a Ledger is asked.
type asks struct {
	teebroker.Ledger
	g *teebroker.Grant
}

func (a asks) Check(ctx context.Context, g teebroker.Grant) (teebroker.Terms, error) {
	*a.g = g
	return a.Ledger.Check(ctx, g)
}

// A Ledger hears of the chip only if it is known and the only one.
func TestGrantChip(t *testing.T) {
	for _, chip := range [][]byte{[]byte("chip two"), make([]byte, 8), {}} {
		var got teebroker.Grant
		w := newWorld(t, func(c *teebroker.Config) { c.Ledger = asks{c.Ledger, &got} })
		w.authorize(nil)
		g := honest()
		g.Chip = chip
		_, err := w.answer(w.request(w.session(nil), g))
		w.check(err)
		if masked := len(bytes.Trim(chip, "\x00")) == 0; masked != (got.Chip == nil) || !masked && !bytes.Equal(got.Chip, chip) {
			t.Errorf("chip %q: a Grant of %q", chip, got.Chip)
		}
	}
}

type always struct{ teebroker.Ledger }

func (always) Commit(_ context.Context, _ teebroker.Grant, r teebroker.Response, _ teebroker.Entry) (teebroker.Response, error) {
	return r, teebroker.ErrAgain
}

type directory struct {
	teebroker.Directory
	edit func(*teebroker.Instance)
	err  error
}

func (d directory) Instance(ctx context.Context, l teebroker.Lookup) (teebroker.Instance, error) {
	i, err := d.Directory.Instance(ctx, l)
	apply(d.edit, &i)
	return i, errors.Join(err, d.err)
}

type noSecret struct{}

func (noSecret) Secret(context.Context, teebroker.Instance, string) ([]byte, error) { return nil, nil }

type broken struct{ err error }

func (b broken) Verify(context.Context, evidence.Evidence, evidence.Binding) (*evidence.Verified, error) {
	return nil, b.err
}

// Of many requests with one nonce one is answered; of many keys that race for
// one use one gets the secret; of many retries of one key all get the same.
func TestRaces(t *testing.T) {
	const n = 16
	race := func(w *world, ask func(i int) (teebroker.Response, error)) (released [][]byte) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				r, err := ask(i)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					released = append(released, r.Sealed)
				} else if r.Sealed != nil {
					w.Errorf("sealed bytes with %v", err)
				}
			})
		}
		wg.Wait()
		return released
	}
	same := func(w *world, bs [][]byte) {
		w.Helper()
		for _, b := range bs {
			if string(b) != string(bs[0]) {
				w.Error("two releases")
			}
		}
	}
	t.Run("identical requests", func(t *testing.T) {
		w := newWorld(t, nil)
		w.authorize(nil)
		s := w.session(nil)
		req := w.request(s, honest())
		got := race(w, func(int) (teebroker.Response, error) {
			for {
				r, err := w.answer(req)
				if !errors.Is(err, teebroker.InProgress) {
					return r, err
				}
			}
		})
		if len(got) != n {
			t.Errorf("%d of %d answered", len(got), n)
		}
		same(w, got)
		if es := w.entries(teebroker.Decisions); len(es) != 1 {
			t.Errorf("%d entries", len(es))
		}
	})
	t.Run("one nonce, many keys", func(t *testing.T) {
		w := newWorld(t, nil)
		w.authorize(func(a *teebroker.Authorization) { a.Uses = n })
		c, err := w.broker.Challenge(t.Context(), nonce.ProfileV1)
		w.check(err)
		reqs := make([]teebroker.Request, n)
		for i := range reqs {
			s := w.session(nil)
			b, err := s.Bind(c.Nonce, faketee.Format)
			w.check(err)
			reqs[i] = s.Request(c.Nonce, honest().Evidence(b))
		}
		if got := race(w, func(i int) (teebroker.Response, error) { return w.answer(reqs[i]) }); len(got) != 1 {
			t.Errorf("%d answered", len(got))
		}
	})
	t.Run("one use, many keys", func(t *testing.T) {
		w := newWorld(t, nil)
		w.authorize(nil)
		reqs := make([]teebroker.Request, n)
		for i := range reqs {
			reqs[i] = w.request(w.session(nil), honest())
		}
		if got := race(w, func(i int) (teebroker.Response, error) { return w.answer(reqs[i]) }); len(got) != 1 {
			t.Errorf("%d answered", len(got))
		}
	})
	t.Run("one key, many nonces", func(t *testing.T) {
		w := newWorld(t, nil)
		w.authorize(nil)
		s := w.session(nil)
		reqs := make([]teebroker.Request, n)
		for i := range reqs {
			reqs[i] = w.request(s, honest())
		}
		got := race(w, func(i int) (teebroker.Response, error) { return w.answer(reqs[i]) })
		if len(got) != n {
			t.Errorf("%d answered", len(got))
		}
		same(w, got)
		if es := w.entries(teebroker.Decisions); len(es) != n {
			t.Errorf("%d entries", len(es))
		}
	})
}
