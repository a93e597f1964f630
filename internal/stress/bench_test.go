//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha512"
	"encoding/json"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// databases runs f for each kind.
func databases(b *testing.B, f func(b *testing.B, dialect sqlstore.Dialect)) {
	b.Run("sqlite", func(b *testing.B) { f(b, sqlstore.SQLite) })
	b.Run("postgres", func(b *testing.B) { f(b, sqlstore.PostgreSQL) })
}

// cpu is the time that this process has computed for.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// crowd runs f for 0 to n-1 on as many goroutines.
func crowd(b testing.TB, callers, n int, f func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkReleaseCrypto is the cryptography that no release can do without, on
// all cores: to verify a report under a chain that is known, to seal, to sign the
// receipt, and to encrypt what is stored.
func BenchmarkReleaseCrypto(b *testing.B) {
	p, err := simulated()
	check(b, err)
	d := testDatabase(b, sqlstore.SQLite, p)
	cipher, err := store.NewAES([32]byte{1})
	check(b, err)
	key, err := keywrap.Generate(keywrap.MLKEM768X25519)
	check(b, err)
	want, err := evidence.NewBinding(bytes.Repeat([]byte{1}, 64))
	check(b, err)
	ev := p.evidence([16]byte{1}, want)
	plain, info := make([]byte, 700), make([]byte, 85)
	_, err = p.verifier.Verify(b.Context(), ev, want)
	check(b, err)
	began := cpu()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, err := p.verifier.Verify(b.Context(), ev, want)
			check(b, err)
			box, err := key.Recipient().Seal(plain, info)
			check(b, err)
			sealed, err := json.Marshal(box)
			check(b, err)
			digest := sha512.Sum384(sealed)
			_, err = d.identity.Sign(rand.Reader, digest[:], crypto.SHA384)
			check(b, err)
			for range 2 {
				_, err = cipher.Seal(b.Context(), sealed, info)
				check(b, err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "releases/s")
	b.ReportMetric(float64((cpu()-began).Microseconds())/float64(b.N), "cpu-us/release")
}

// callers is how many guests ask at a time where it is not a storm.
const callers = 64

// BenchmarkRelease is releases over loopback, of guests that have a nonce and
// evidence from before. An op is one release.
func BenchmarkRelease(b *testing.B) {
	databases(b, func(b *testing.B, dialect sqlstore.Dialect) {
		s := newService(b, dialect, nil)
		free := make(chan *booting, callers)
		for _, g := range s.launch(callers) {
			free <- g
		}
		s.releases(b, func(req teebroker.Request) (func() error, error) {
			body, err := v1.MarshalRequest(req)
			return func() error {
				g := <-free
				defer func() { free <- g }()
				g.body = body
				return g.release()
			}, err
		})
	})
}

// BenchmarkReleaseEngine is the same without HTTP.
func BenchmarkReleaseEngine(b *testing.B) {
	databases(b, func(b *testing.B, dialect sqlstore.Dialect) {
		s := newService(b, dialect, nil)
		s.releases(b, func(req teebroker.Request) (func() error, error) {
			return func() error {
				_, err := s.Answer(b.Context(), req)
				return err
			}, nil
		})
	})
}

// releases measures what ask returns for one request each.
func (s *service) releases(b *testing.B, ask func(teebroker.Request) (func() error, error)) {
	asks := make([]func() error, b.N)
	crowd(b, runtime.NumCPU(), b.N, func(i int) error {
		req, err := newMachine(b, s.replica, [16]byte{1}).request(b.Context(), s.replica)
		if err == nil {
			asks[i], err = ask(req)
		}
		return err
	})
	took := make([]time.Duration, b.N)
	began := cpu()
	b.ReportAllocs()
	b.ResetTimer()
	crowd(b, callers, b.N, func(i int) error {
		began := time.Now()
		err := asks[i]()
		took[i] = time.Since(began)
		return err
	})
	b.StopTimer()
	report(b, took, cpu()-began, b.Elapsed())
}

func report(b *testing.B, took []time.Duration, busy, elapsed time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/elapsed.Seconds(), "releases/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(busy.Microseconds())/float64(len(took)), "cpu-us/release")
}

// BenchmarkBootStorm is 1,000 guests that boot at once, each on a connection of
// its own: it takes a nonce, has its platform sign, and asks for the secret. An op
// is one storm; what the platforms sign is part of it.
func BenchmarkBootStorm(b *testing.B) {
	const guests = 1000
	databases(b, func(b *testing.B, dialect sqlstore.Dialect) {
		s := newService(b, dialect, nil)
		var took []time.Duration
		var busy, elapsed time.Duration
		for b.Loop() {
			b.StopTimer()
			storm := s.launch(guests)
			b.StartTimer()
			began, used := time.Now(), cpu()
			crowd(b, guests, guests, func(i int) error { return storm[i].boot() })
			elapsed, busy = elapsed+time.Since(began), busy+cpu()-used
			b.StopTimer()
			for _, g := range storm {
				g.end(b)
				took = append(took, g.took)
			}
			b.StartTimer()
		}
		report(b, took, busy, elapsed)
	})
}

// boot is all that a guest does, and how long that takes.
func (g *booting) boot() error {
	began := time.Now()
	b, err := g.post(v1.PathNonce, nil)
	if err != nil {
		return err
	}
	var c struct{ Nonce strictjson.Digest }
	if err = json.Unmarshal(b, &c); err == nil {
		err = g.prepare(nonce.Nonce(c.Nonce))
	}
	if err == nil {
		err = g.release()
	}
	g.took = time.Since(began)
	return err
}

// held is a Verifier that keeps guests waiting.
type held struct {
	evidence.Verifier
	until chan struct{}
}

func (h held) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	<-h.until
	return h.Verifier.Verify(ctx, ev, want)
}

// BenchmarkWaiting is the memory that 1,000 guests take in a broker while they wait
// for it. What the kernel keeps for their connections is not in it.
func BenchmarkWaiting(b *testing.B) {
	const guests = 1000
	var each uint64
	for b.Loop() {
		until := make(chan struct{})
		s := newService(b, sqlstore.SQLite, func(c *teebroker.Config) { c.Verifier = held{c.Verifier, until} })
		storm := s.launch(guests)
		for _, g := range storm {
			c, err := s.Challenge(b.Context(), nonce.ProfileV1)
			check(b, err)
			check(b, g.prepare(c.Nonce))
		}
		before := inUse()
		for _, g := range storm {
			check(b, g.send(v1.PathRelease, g.body))
		}
		for s.active.Load() < guests {
			runtime.Gosched()
		}
		each = (inUse() - before) / guests
		close(until)
		for _, g := range storm {
			var err error
			g.answer, err = g.receive()
			check(b, err)
			g.end(b)
		}
	}
	b.ReportMetric(float64(each), "bytes/guest")
}

// inUse is the memory that is in use when it no longer grows, in bytes.
func inUse() uint64 {
	for last := uint64(0); ; {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		now := m.HeapInuse + m.StackInuse
		if now <= last+last/1000 {
			return now
		}
		last = now
	}
}
