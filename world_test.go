package teebroker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store/memory"
)

const (
	tenant  = "acme"
	purpose = "disk/root"
	secret  = "the owner's secret"
)

var instance = [16]byte{15: 1}

// world is a broker with memory stores, fake hardware, one registered instance
// with a secret, and a clock that a test moves.
type world struct {
	testing.TB
	*memory.Store
	broker *teebroker.Broker
	cfg    teebroker.Config

	mu  sync.Mutex
	now time.Time
}

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// newWorld returns a world whose Config edit has changed, if it isn't nil.
func newWorld(t testing.TB, edit func(*teebroker.Config)) *world {
	t.Helper()
	w := &world{TB: t, now: start()}
	w.Store = memory.New(w.time)
	identity, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	w.check(err)
	issuer, err := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}, Time: w.time})
	w.check(err)
	w.cfg = teebroker.Config{
		Verifier: w.verifier(nil), Issuer: issuer, Nonces: w.Store, Directory: w.Store, Secrets: w.Store,
		Ledger: w.Store, Kept: w.Store, Identity: identity, Time: w.time,
	}
	if edit != nil {
		edit(&w.cfg)
	}
	w.broker, err = teebroker.New(w.cfg)
	w.check(err)
	w.check(w.Register(t.Context(), w.instance()))
	for _, p := range []string{purpose, "kbs/key/1", "kbs/key/2"} {
		w.check(w.PutSecret(t.Context(), tenant, instance, p, []byte(secret)))
	}
	return w
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// verifier verifies fake evidence; edit may spoil its results.
func (w *world) verifier(edit func(*evidence.Verified)) evidence.Verifier {
	return faketee.Verifier{NotAfter: w.now.AddDate(1, 0, 0), Edit: edit}
}

// instance is as strict as there is.
func (w *world) instance() teebroker.Instance {
	id := teebroker.LaunchID(tenant, instance)
	kbs := []nonce.Profile{nonce.ProfileSVSM, nonce.ProfileCoCo}
	return teebroker.Instance{
		Tenant: tenant, ID: instance, Policies: []*policy.Policy{measured("good")},
		Launch:   teebroker.LaunchClaim{Name: "snp.host_data", Want: id[:]},
		Suites:   keywrap.Allow{Suites: []keywrap.Suite{keywrap.X25519, keywrap.MLKEM768X25519, keywrap.JWEP521, keywrap.JWEP256}},
		Profiles: map[string][]nonce.Profile{"kbs/key/1": kbs, "kbs/key/2": kbs},
	}
}

// measured is a policy that accepts one measurement.
func measured(m string) *policy.Policy {
	return &policy.Policy{
		Name: "test", Version: "1", Document: []byte("measured " + m),
		Require: map[evidence.Format]policy.Rule{
			faketee.Format: policy.Claim{Name: "snp.measurement", Op: evidence.Equal, Want: evidence.Text(m)},
		},
	}
}

// authorize gives one use of everything for an hour, but for what edit changes.
func (w *world) authorize(edit func(*teebroker.Authorization)) {
	w.Helper()
	a := teebroker.Authorization{
		Tenant: tenant, Instance: instance, Purposes: []string{purpose, "kbs/key/1", "kbs/key/2"},
		NotAfter: w.time().Add(time.Hour), Profiles: []nonce.Profile{nonce.ProfileV1, nonce.ProfileSVSM, nonce.ProfileCoCo},
	}
	if edit != nil {
		edit(&a)
	}
	w.check(w.Authorize(w.Context(), a))
}

// honest is the guest that the instance is registered for.
func honest() faketee.Guest {
	id := teebroker.LaunchID(tenant, instance)
	return faketee.Guest{Measurement: "good", HostData: id[:]}
}

func (w *world) key(s keywrap.Suite) keywrap.Opener {
	w.Helper()
	k, err := keywrap.Generate(s)
	w.check(err)
	return k
}

// session is what a guest with a new key asks, but for what edit changes.
func (w *world) session(edit func(*guest.Config)) *guest.Session {
	w.Helper()
	id := w.broker.ID()
	cfg := guest.Config{Tenant: tenant, Instance: instance, Purpose: purpose, Broker: id[:], Key: w.key(keywrap.X25519)}
	if edit != nil {
		edit(&cfg)
	}
	s, err := guest.New(cfg)
	w.check(err)
	return s
}

// request is a new request of s with fresh evidence of g.
func (w *world) request(s *guest.Session, g faketee.Guest) teebroker.Request {
	w.Helper()
	c, err := w.broker.Challenge(w.Context(), nonce.ProfileV1)
	w.check(err)
	b, err := s.Bind(c.Nonce, faketee.Format)
	w.check(err)
	return s.Request(c.Nonce, g.Evidence(b))
}

func (w *world) answer(req teebroker.Request) (teebroker.Response, error) {
	return w.broker.Answer(w.Context(), req)
}

// opens fails unless r has the secret for s.
func (w *world) opens(s *guest.Session, r teebroker.Response) {
	w.Helper()
	got, err := s.Open(w.Context(), r)
	if err != nil || string(got) != secret {
		w.Errorf("opened %q, %v", got, err)
	}
}

// refusedWith fails unless err is want, and nothing came with it.
func (w *world) refusedWith(what string, r teebroker.Response, err, want error) {
	w.Helper()
	if !errors.Is(err, want) || r.Sealed != nil || r.Receipt != nil {
		w.Errorf("%s: %v, want %v", what, err, want)
	}
}

func (w *world) entries(c teebroker.Chain) []teebroker.Entry {
	w.Helper()
	es, err := w.Record(w.Context(), tenant, c)
	w.check(err)
	return es
}

// hooked is a Verifier that runs a function before each Verify.
type hooked struct {
	evidence.Verifier
	before func()
}

func (h hooked) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	h.before()
	return h.Verifier.Verify(ctx, ev, want)
}
