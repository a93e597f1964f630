package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store/memory"
)

const (
	releaseInstance = "7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11"
	releaseSecret   = "the owner's secret"
)

// host is what is between guest and broker: it sees every request, and may answer in
// the broker's place.
type host struct {
	broker http.Handler
	bodies [][]byte                                                           // of releases, as they came
	answer func(n int, w http.ResponseWriter, r *http.Request, b []byte) bool // or nil
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	if r.URL.Path == v1.PathRelease {
		h.bodies = append(h.bodies, body)
		if h.answer != nil && h.answer(len(h.bodies), w, r, body) {
			return
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	h.broker.ServeHTTP(w, r)
}

// pass has the broker work on body, and returns what it answers to nobody.
func (h *host) pass(r *http.Request, body []byte) *httptest.ResponseRecorder {
	again := r.Clone(context.Background())
	again.Body = io.NopCloser(bytes.NewReader(body))
	rec := httptest.NewRecorder()
	h.broker.ServeHTTP(rec, again)
	return rec
}

// releaseWorld is a broker that knows a simulated realm of CCA, which is the
// quickest to make, with its host.
func releaseWorld(t *testing.T) (h *host, dir, identity, url string) {
	t.Helper()
	return sealedWorld(t, nil)
}

// sealedWorld is one whose broker has request keys.
func sealedWorld(t *testing.T, requests []teebroker.RequestKey) (h *host, dir, identity, url string) {
	t.Helper()
	dir = t.TempDir()
	p, err := openCCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := cca.NewVerifier(cca.Config{Anchors: []cca.Anchor{p.Anchor()}})
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{tee: teeCCA, dir: dir}
	if err := g.setInstance(releaseInstance); err != nil {
		t.Fatal(err)
	}
	shown, err := g.showCCA()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(shown.Policy)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := policy.Parse(doc, policy.Decoders{cca.Format: policy.Decoder(cca.DecodeReferenceValues)})
	if err != nil {
		t.Fatal(err)
	}
	b := releaseBroker(t, evidence.Verifiers{cca.Format: verifier}, sha256.Sum256(spki(p)), *g.instance, accepted, requests)
	server, err := v1.New(v1.Config{Broker: b, Allow: v1.Suites(), Keys: b.KeysDocument})
	if err != nil {
		t.Fatal(err)
	}
	id := b.ID()
	identity = filepath.Join(dir, "broker.id")
	if err := os.WriteFile(identity, []byte(base64.RawURLEncoding.EncodeToString(id[:])+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h = &host{broker: server}
	ts := httptest.NewServer(h)
	t.Cleanup(ts.Close)
	return h, dir, identity, ts.URL
}

func releaseBroker(t *testing.T, v evidence.Verifier, root [32]byte, instance [16]byte, accepted *policy.Policy, requests []teebroker.RequestKey) *teebroker.Broker {
	t.Helper()
	state := memory.New(nil)
	key, err1 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	issuer, err2 := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	b, err := teebroker.New(teebroker.Config{
		Verifier: v, Issuer: issuer, Nonces: state, Directory: state, Secrets: state, Ledger: state, Identity: key,
		SimulatedRoots: [][32]byte{root}, SimulatedState: true, RequestKeys: requests,
	})
	if err != nil {
		t.Fatal(err)
	}
	launch := make([]byte, 64)
	id := teebroker.LaunchID("default", instance)
	copy(launch, id[:])
	for _, err := range []error{
		state.Register(t.Context(), teebroker.Instance{
			Tenant: "default", ID: instance, Policies: []*policy.Policy{accepted},
			Launch: teebroker.LaunchClaim{Name: "cca.rpv", Want: launch},
			Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.MLKEM768X25519}},
		}),
		state.PutSecret(t.Context(), "default", instance, "disk", []byte(releaseSecret)),
		state.Authorize(t.Context(), teebroker.Authorization{
			Tenant: "default", Instance: instance, Purposes: []string{"disk"}, NotAfter: time.Now().Add(time.Hour),
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// runRelease is attester release without waiting, of a guest that may ask in the clear.
func runRelease(args ...string) (status int, stdout, stderr string) {
	return runSealed(append([]string{"-allow-unsealed"}, args...)...)
}

func runSealed(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	c := releaseCommand(machine{})
	c.Env = nil
	setup := releaseSetup(machine{}, func(ctx context.Context, _ time.Duration) error { return ctx.Err() })
	c.Setup = setup
	status = c.Main(args, &out, &errs)
	return status, out.String(), errs.String()
}

func problem(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"urn:teebroker:%s","title":"x","status":%d,"code":%q,"request":"0"}`, code, status, code)
	return true
}

// distinct counts the different requests.
func distinct(bodies [][]byte) int {
	seen := map[string]bool{}
	for _, b := range bodies {
		seen[string(b)] = true
	}
	return len(seen)
}

// keyOf returns the recipient key in a request.
func keyOf(t *testing.T, body []byte) string {
	t.Helper()
	var j struct {
		Recipient struct {
			Key string `json:"key"`
		} `json:"recipient"`
	}
	if err := json.Unmarshal(body, &j); err != nil || j.Recipient.Key == "" {
		t.Fatal(err)
	}
	return j.Recipient.Key
}

// Whatever goes wrong on the way, the guest gets the secret with the one key that it
// made: the identical bytes first, and new evidence where that can't help.
func TestReleaseRetries(t *testing.T) {
	for _, tt := range []struct {
		name            string
		answer          func(h *host) func(n int, w http.ResponseWriter, r *http.Request, b []byte) bool
		tries, requests int // releases that came, and different ones among them
	}{
		{"nothing goes wrong", nil, 1, 1},
		{"the answer is lost", func(h *host) func(int, http.ResponseWriter, *http.Request, []byte) bool {
			return func(n int, _ http.ResponseWriter, r *http.Request, b []byte) bool {
				if n == 1 {
					h.pass(r, b)
					panic(http.ErrAbortHandler)
				}
				return false
			}
		}, 2, 1},
		{"the outcome is not known, twice", func(*host) func(int, http.ResponseWriter, *http.Request, []byte) bool {
			return func(n int, w http.ResponseWriter, _ *http.Request, _ []byte) bool {
				return n <= 2 && problem(w, 503, "unavailable")
			}
		}, 3, 1},
		{"the outcome is never known for one request", func(*host) func(int, http.ResponseWriter, *http.Request, []byte) bool {
			return func(n int, w http.ResponseWriter, _ *http.Request, _ []byte) bool {
				return n <= sameTries && problem(w, 503, "unavailable")
			}
		}, sameTries + 1, 2},
		{"the nonce was spent by a host that sent something else", func(*host) func(int, http.ResponseWriter, *http.Request, []byte) bool {
			return func(n int, w http.ResponseWriter, _ *http.Request, _ []byte) bool {
				return n == 1 && problem(w, 409, "nonce-spent")
			}
		}, 2, 2},
		{"a broker that is busy", func(*host) func(int, http.ResponseWriter, *http.Request, []byte) bool {
			return func(n int, w http.ResponseWriter, _ *http.Request, _ []byte) bool {
				return n == 1 && problem(w, 429, "rate-limited")
			}
		}, 2, 1},
		{"a proxy in between that is broken", func(*host) func(int, http.ResponseWriter, *http.Request, []byte) bool {
			return func(n int, w http.ResponseWriter, _ *http.Request, _ []byte) bool {
				if n == 1 {
					http.Error(w, "bad gateway", http.StatusBadGateway)
				}
				return n == 1
			}
		}, 2, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, dir, identity, url := releaseWorld(t)
			if tt.answer != nil {
				h.answer = tt.answer(h)
			}
			out := filepath.Join(dir, "secret")
			status, stdout, stderr := runRelease("-tee", "cca", "-simulate", dir, "-broker", url, "-instance", releaseInstance, "-purpose", "disk", "-identity", identity, "-out", out)
			got, err := os.ReadFile(out)
			if status != cli.Yes || err != nil || string(got) != releaseSecret {
				t.Fatalf("status %d, %q, %v\n%s%s", status, got, err, stdout, stderr)
			}
			sum := sha256.Sum256(got)
			if !strings.Contains(stdout, fmt.Sprintf("%x", sum)) {
				t.Error(stdout)
			}
			if info, err := os.Stat(out); err != nil || info.Mode() != 0o600 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
			if len(h.bodies) != tt.tries || distinct(h.bodies) != tt.requests {
				t.Errorf("%d releases, %d different ones", len(h.bodies), distinct(h.bodies))
			}
			for _, b := range h.bodies {
				if keyOf(t, b) != keyOf(t, h.bodies[0]) {
					t.Error("another key")
				}
			}
		})
	}
}

// What the broker refuses is a no at once; what nobody signed is never used.
func TestReleaseRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		args   []string // in place of those that get the secret
		answer func(n int, w http.ResponseWriter, r *http.Request, b []byte) bool
		status int
		says   string
		tries  int
	}{
		{"another purpose", []string{"-purpose", "backup"}, nil, cli.No, "refused: denied", 1},
		{"another instance than it was launched as", []string{"-host-data", "01"}, nil, cli.No, "refused: denied", 1},
		{"another tenant", []string{"-tenant", "acme"}, nil, cli.No, "refused: denied", 1},
		{"no broker pinned", []string{"-identity", ""}, nil, cli.No, "refused: denied", 1},
		{"another broker pinned", []string{"-identity", "other.id"}, nil, cli.No, "refused: denied", 1},
		{"an answer of the host", nil, func(_ int, w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			_, _ = w.Write([]byte(`{"release":"` + releaseInstance + `","sealed":{"suite":"HPKE-P256"},"receipt":"a.b.c"}`))
			return true
		}, cli.Unusable, "no receipt of the pinned broker", 1},
		{"a host that never lets it through", nil, func(_ int, w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			return problem(w, 503, "unavailable")
		}, cli.Unusable, "unavailable", sameTries * freshTries},
		{"an unknown suite", []string{"-suite", "RSA1_5"}, nil, cli.Unusable, "unknown suite", 0},
		{"no instance", []string{"-instance", "x"}, nil, cli.Unusable, "want a UUID", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, dir, identity, url := releaseWorld(t)
			h.answer = tt.answer
			other := filepath.Join(dir, "other.id")
			if err := os.WriteFile(other, []byte(base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))), 0o644); err != nil {
				t.Fatal(err)
			}
			args := []string{"-tee", "cca", "-simulate", dir, "-broker", url, "-instance", releaseInstance, "-purpose", "disk", "-identity", identity}
			for _, a := range tt.args {
				args = append(args, strings.Replace(a, "other.id", other, 1))
			}
			status, stdout, stderr := runRelease(args...)
			if status != tt.status || !strings.Contains(stdout+stderr, tt.says) || len(h.bodies) != tt.tries {
				t.Errorf("status %d after %d releases:\n%s%s", status, len(h.bodies), stdout, stderr)
			}
		})
	}
	status, _, stderr := runRelease("-tee", "cca", "-simulate", t.TempDir(), "-broker", "http://127.0.0.1:1", "-instance", releaseInstance, "-purpose", "disk")
	if status != cli.Unusable || !strings.Contains(stderr, "can't be reached") {
		t.Errorf("a broker that is not there: %d, %s", status, stderr)
	}
}

// A guest that pins the broker seals what it asks, and asks nothing in the clear.
func TestReleaseSealed(t *testing.T) {
	key, err := keywrap.Generate(keywrap.MLKEM768X25519)
	if err != nil {
		t.Fatal(err)
	}
	h, dir, identity, url := sealedWorld(t, []teebroker.RequestKey{{ID: "one", Opener: key}})
	out := filepath.Join(dir, "secret")
	args := []string{"-tee", "cca", "-simulate", dir, "-instance", releaseInstance, "-purpose", "disk", "-out", out}
	status, stdout, stderr := runSealed(append(args, "-broker", url, "-identity", identity)...)
	got, err := os.ReadFile(out)
	if status != cli.Yes || err != nil || string(got) != releaseSecret || len(h.bodies) != 0 {
		t.Errorf("status %d, %q, %v, %d in the clear\n%s%s", status, got, err, len(h.bodies), stdout, stderr)
	}
	h, dir, identity, url = releaseWorld(t)
	args[3] = dir
	status, stdout, stderr = runSealed(append(args, "-broker", url, "-identity", identity)...)
	if status != cli.Unusable || !strings.Contains(stderr, "-allow-unsealed") || len(h.bodies) != 0 {
		t.Errorf("without a request key: status %d, %d in the clear\n%s%s", status, len(h.bodies), stdout, stderr)
	}
}
