package v1_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
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
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store/memory"
)

var instance = [16]byte{15: 1}

// world is a server in front of a broker with fake hardware and stores in memory,
// and a clock that a test moves.
type world struct {
	testing.TB
	identity *ecdsa.PrivateKey
	store    *memory.Store
	broker   *teebroker.Broker
	server   *v1.Server
	http     *httptest.Server

	mu     sync.Mutex
	now    time.Time
	events []v1.Event
}

func start() time.Time { return time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC) }

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

func (w *world) last() v1.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.events[len(w.events)-1]
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// verifier is that of fake hardware.
func verifier() evidence.Verifier { return faketee.Verifier{NotAfter: start().AddDate(1, 0, 0)} }

// newWorld serves a broker, with what edit has changed.
func newWorld(t testing.TB, edit func(*world, *teebroker.Config, *v1.Config)) *world {
	t.Helper()
	w := &world{TB: t, now: start()}
	w.store = memory.New(w.time)
	identity, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	w.check(err)
	w.identity = identity
	issuer, err := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}, Time: w.time})
	w.check(err)
	engine := teebroker.Config{
		Verifier: verifier(), Issuer: issuer, Nonces: w.store, Directory: w.store, Secrets: w.store,
		Ledger: w.store, Identity: identity, Time: w.time,
	}
	cfg := v1.Config{
		Allow: v1.Suites(), Time: w.time,
		Observe: func(e v1.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
	}
	if edit != nil {
		edit(w, &engine, &cfg)
	}
	w.broker, err = teebroker.New(engine)
	w.check(err)
	cfg.Broker = w.broker
	w.server, err = v1.New(cfg)
	w.check(err)
	w.http = httptest.NewServer(w.server)
	t.Cleanup(w.http.Close)
	return w
}

// measured accepts one measurement.
func measured(m string) *policy.Policy {
	return &policy.Policy{
		Name: "test", Version: "1", Document: []byte("measured " + m),
		Require: map[evidence.Format]policy.Rule{
			faketee.Format: policy.Claim{Name: "snp.measurement", Op: evidence.Equal, Want: evidence.Text(m)},
		},
	}
}

func (w *world) client(edit func(*v1.ClientConfig)) *v1.Client {
	w.Helper()
	cfg := v1.ClientConfig{URL: w.http.URL}
	if edit != nil {
		edit(&cfg)
	}
	c, err := v1.NewClient(cfg)
	w.check(err)
	return c
}

// session is a guest of instance with a new key, which pins the broker.
func (w *world) session() *guest.Session {
	w.Helper()
	return w.sessionOf("disk")
}

func (w *world) sessionOf(purpose string) *guest.Session {
	w.Helper()
	key, err := keywrap.Generate(keywrap.X25519)
	w.check(err)
	id := w.broker.ID()
	s, err := guest.New(guest.Config{Tenant: "acme", Instance: instance, Purpose: purpose, Broker: id[:], Key: key})
	w.check(err)
	return s
}

// request is what the guest sends that was launched as its instance.
func (w *world) request(s *guest.Session, c *v1.Client) []byte {
	w.Helper()
	challenge, err := c.Challenge(w.Context(), nonce.ProfileV1)
	w.check(err)
	binding, err := s.Bind(challenge.Nonce, faketee.Format)
	w.check(err)
	launch := teebroker.LaunchID("acme", instance)
	ev := faketee.Guest{Measurement: "good", HostData: launch[:]}.Evidence(binding)
	b, err := v1.MarshalRequest(s.Request(challenge.Nonce, ev))
	w.check(err)
	return b
}

// code returns the code of an error of a Client.
func code(err error) string {
	var p *v1.Problem
	if errors.As(err, &p) {
		return p.Code
	}
	if err != nil {
		return "no problem: " + err.Error()
	}
	return ""
}

// get returns status and header of an answer to a bare request.
func (w *world) get(method, path string, header http.Header) *http.Response {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), method, w.http.URL+path, nil)
	w.check(err)
	for k, vs := range header {
		req.Header[k] = vs
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	w.check(err)
	resp.Body.Close()
	return resp
}

// newServer serves h and returns its URL.
func newServer(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
