package teebroker_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
)

// An authorized guest gets the secret, a receipt that says what happened, and
// one entry of the record that holds the receipt.
func TestRelease(t *testing.T) {
	for _, suite := range []keywrap.Suite{keywrap.MLKEM768X25519, keywrap.X25519, keywrap.JWEP256} {
		w := newWorld(t, nil)
		w.authorize(nil)
		s := w.session(func(c *guest.Config) { c.Key = w.key(suite) })
		req := w.request(s, honest())
		r, err := w.answer(req)
		w.check(err)
		w.opens(s, r)

		got, err := teebroker.VerifyReceipt(r.Receipt, w.broker.ID())
		w.check(err)
		raw, doc := sha256.Sum256(req.Evidence[0].Raw), measured("good").Digest()
		if got.Kind != teebroker.KindRelease || got.Profile != nonce.ProfileV1 || got.Release != r.Release ||
			got.Tenant != tenant || got.Instance != instance || got.Purpose != purpose || got.Authorization == [16]byte{} ||
			got.Nonce != [32]byte(req.Nonce) || got.Format != faketee.Format || len(got.Evidence) != 1 || got.Evidence[0] != raw ||
			got.Root != faketee.Root() || len(got.Policy) != 1 || got.Policy[0] != doc || got.Verdict != "accepted" ||
			got.Key != req.Recipient.Thumbprint() || got.Suite != suite || got.Sealed != sha256.Sum256(r.Sealed) ||
			got.Blob != [32]byte{} || got.Generation != 1 || got.Simulated || len(got.Weakened) != 0 || !got.Time().Equal(w.now) {
			t.Errorf("receipt %+v", got)
		}
		es := w.entries(teebroker.Decisions)
		if len(es) != 1 || es[0].Kind != teebroker.KindRelease {
			t.Fatalf("entries %v", es)
		}
		var body struct {
			Receipt                          strictjson.Digest `json:"receipt"`
			Release, Instance, Authorization strictjson.UUID
			Request, Key                     strictjson.Digest
			Profile, Purpose                 string
		}
		w.check(json.Unmarshal(es[0].Body, &body))
		if body.Receipt != sha256.Sum256(r.Receipt) || body.Release != r.Release || body.Request != got.Request {
			t.Errorf("entry %s", es[0].Body)
		}
		if len(w.entries(teebroker.Refusals)) != 0 {
			t.Error("refused as well")
		}
	}
}

// Whatever is not as it has to be is refused, with the code for it, and before
// the evidence was accepted a peer can't tell why.
func TestRefusals(t *testing.T) {
	type setup struct {
		cfg  func(*teebroker.Config)
		inst func(*teebroker.Instance)
		auth func(*teebroker.Authorization)
		cli  func(*guest.Config)
		tee  func(*faketee.Guest)
		req  func(*teebroker.Request)
		edit func(*evidence.Verified) // of what the Verifier returns
	}
	layer, err := evidence.NewBinding([]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	below := func(g faketee.Guest) func(*faketee.Guest) {
		return func(top *faketee.Guest) { top.Layers = []evidence.Evidence{g.Evidence(layer)} }
	}
	for _, tt := range []struct {
		name string
		setup
		want   error
		peer   string
		spends bool // the nonce
	}{
		{"no evidence", setup{req: func(r *teebroker.Request) { r.Evidence = nil }}, teebroker.MalformedRequest, "malformed-request", false},
		{"another profile", setup{req: func(r *teebroker.Request) { r.Profile = nonce.ProfileSVSM }}, teebroker.MalformedRequest, "malformed-request", false},
		{"no profile", setup{req: func(r *teebroker.Request) { r.Profile = "" }}, teebroker.MalformedRequest, "malformed-request", false},
		{"parameters of another profile", setup{req: func(r *teebroker.Request) { r.CoCo = &teebroker.CoCo{} }}, teebroker.MalformedRequest, "malformed-request", false},
		{"no recipient", setup{req: func(r *teebroker.Request) { r.Recipient = keywrap.Recipient{} }}, teebroker.MalformedRequest, "malformed-request", false},
		{"no tenant", setup{req: func(r *teebroker.Request) { r.Tenant = "" }}, teebroker.MalformedRequest, "malformed-request", false},
		{"tenant of another grammar", setup{req: func(r *teebroker.Request) { r.Tenant = "Acme" }}, teebroker.MalformedRequest, "malformed-request", false},
		{"no instance", setup{req: func(r *teebroker.Request) { r.Instance = [16]byte{} }}, teebroker.MalformedRequest, "malformed-request", false},
		{"no purpose", setup{req: func(r *teebroker.Request) { r.Purpose = "" }}, teebroker.MalformedRequest, "malformed-request", false},
		{"unknown format", setup{req: func(r *teebroker.Request) { r.Evidence[0].Format = "fake" }}, teebroker.MalformedRequest, "malformed-request", false},
		{"empty wrapped key", setup{req: func(r *teebroker.Request) { r.Wrapped = []byte{} }}, teebroker.MalformedRequest, "malformed-request", false},
		{"too much evidence", setup{req: func(r *teebroker.Request) { r.Evidence[0].Raw = make([]byte, 17<<20) }}, teebroker.TooLarge, "too-large", false},
		{"too many evidences", setup{req: func(r *teebroker.Request) { r.Evidence = make([]evidence.Evidence, 17) }}, teebroker.TooLarge, "too-large", false},
		{"too many items", setup{req: func(r *teebroker.Request) { r.Evidence[0].Items = make([]evidence.Item, 65) }}, teebroker.TooLarge, "too-large", false},
		{"too large an item", setup{req: func(r *teebroker.Request) { r.Evidence[0].Items = []evidence.Item{{Data: make([]byte, 17<<20)}} }}, teebroker.TooLarge, "too-large", false},
		{"too many layers", setup{req: func(r *teebroker.Request) {
			for range 5 {
				r.Evidence = []evidence.Evidence{{Layers: r.Evidence}}
			}
		}}, teebroker.TooLarge, "too-large", false},
		{"too large a wrapped key", setup{req: func(r *teebroker.Request) { r.Wrapped = make([]byte, 65<<10) }}, teebroker.TooLarge, "too-large", false},
		{"foreign broker", setup{cli: func(c *guest.Config) { c.Broker = make([]byte, 32); c.Broker[0] = 1 }}, teebroker.Denied, "denied", false},
		{"broker id of another length", setup{req: func(r *teebroker.Request) { r.Broker = r.Broker[:31] }}, teebroker.Denied, "denied", false},
		{"unknown nonce", setup{req: func(r *teebroker.Request) { r.Nonce[0] ^= 1 }}, teebroker.NonceSpent, "nonce-spent", false},

		{"another instance in the request", setup{req: func(r *teebroker.Request) { r.Instance[0] ^= 1 }}, evidence.NotBound, "not-bound", true},
		{"another tenant in the request", setup{req: func(r *teebroker.Request) { r.Tenant = "evil" }}, evidence.NotBound, "not-bound", true},
		{"another purpose in the request", setup{req: func(r *teebroker.Request) { r.Purpose = "disk/data" }}, evidence.NotBound, "not-bound", true},
		{"broker no longer pinned in the request", setup{req: func(r *teebroker.Request) { r.Broker = nil }}, evidence.NotBound, "not-bound", true},
		{"unsigned", setup{req: func(r *teebroker.Request) { r.Evidence[0].Raw = []byte("{}") }}, evidence.NotBound, "not-bound", true},
		{"not evidence", setup{req: func(r *teebroker.Request) { r.Evidence[0].Raw = nil }}, evidence.Malformed, "malformed", true},

		{"checks left out, whatever a policy allows", setup{inst: allowSkipped, edit: func(v *evidence.Verified) { v.Skipped = []string{"revocation"} }}, teebroker.Denied, "denied", true},
		{"checks left out below", setup{inst: allowSkipped, tee: below(honest()), edit: func(v *evidence.Verified) {
			if len(v.Layers) == 0 {
				v.Skipped = []string{"revocation"}
			}
		}}, teebroker.Denied, "denied", true},
		{"unbound result", setup{edit: func(v *evidence.Verified) { v.Bound = false }}, evidence.NotBound, "not-bound", true},
		{"unbound result below", setup{tee: below(honest()), edit: func(v *evidence.Verified) { v.Bound = len(v.Layers) > 0 }}, evidence.NotBound, "not-bound", true},
		{"zero result", setup{edit: func(v *evidence.Verified) { *v = evidence.Verified{} }}, teebroker.Unavailable, "unavailable", true},
		{"result of no root", setup{edit: func(v *evidence.Verified) { v.Root = [32]byte{} }}, teebroker.Unavailable, "unavailable", true},
		{"result without claims", setup{edit: func(v *evidence.Verified) { v.Claims = nil }}, teebroker.Unavailable, "unavailable", true},
		{"result for another format", setup{edit: func(v *evidence.Verified) { v.Format = "tdx-quote" }}, teebroker.Unavailable, "unavailable", true},
		{"layer dropped by the verifier", setup{tee: below(honest()), edit: func(v *evidence.Verified) { v.Layers = nil }}, teebroker.Unavailable, "unavailable", true},
		{"layer nil from the verifier", setup{tee: below(honest()), edit: func(v *evidence.Verified) {
			if len(v.Layers) > 0 {
				v.Layers[0] = nil
			}
		}}, teebroker.Unavailable, "unavailable", true},
		{"result out of its time", setup{edit: func(v *evidence.Verified) { v.NotAfter = time.Time{} }}, evidence.Stale, "stale", true},
		{"simulated root", setup{cfg: func(c *teebroker.Config) { c.SimulatedRoots = [][32]byte{{9}, faketee.Root()} }}, teebroker.Denied, "denied", true},
		{"simulated root below", setup{tee: below(honest()), cfg: func(c *teebroker.Config) { c.SimulatedRoots = [][32]byte{{7}} }, edit: func(v *evidence.Verified) {
			if len(v.Layers) == 0 {
				v.Root = [32]byte{7}
			}
		}}, teebroker.Denied, "denied", true},

		{"unknown instance", setup{cli: func(c *guest.Config) { c.Instance = [16]byte{2} }}, teebroker.NoInstance, "denied", true},
		{"unknown tenant", setup{cli: func(c *guest.Config) { c.Tenant = "other" }}, teebroker.NoInstance, "denied", true},
		{"unpinned broker", setup{cli: func(c *guest.Config) { c.Broker = nil }}, teebroker.Denied, "denied", true},
		{"purpose of other profiles only", setup{cli: func(c *guest.Config) { c.Purpose = "kbs/key/1" }}, teebroker.ProfileNotAllowed, "denied", true},
		{"purpose of no profile", setup{inst: func(i *teebroker.Instance) { i.Profiles = map[string][]nonce.Profile{purpose: {}} }}, teebroker.ProfileNotAllowed, "denied", true},
		{"suite not of the instance", setup{inst: func(i *teebroker.Instance) { i.Suites.Suites = []keywrap.Suite{keywrap.P384} }}, teebroker.ProfileNotAllowed, "denied", true},
		{"no suites", setup{inst: func(i *teebroker.Instance) { i.Suites = keywrap.Allow{} }}, teebroker.ProfileNotAllowed, "denied", true},
		{"RSA of 2048 bits, which kbs-coco may have", setup{inst: allowRSA(2048), cli: func(c *guest.Config) { c.Key = rsa2048(t) }}, teebroker.ProfileNotAllowed, "denied", true},
		{"RSA without a least size", setup{inst: allowRSA(0), cli: func(c *guest.Config) { c.Key = rsa2048(t) }}, teebroker.ProfileNotAllowed, "denied", true},
		{"no policy", setup{inst: func(i *teebroker.Instance) { i.Policies = nil }}, teebroker.Denied, "denied", true},
		{"narrower policy refuses", setup{inst: func(i *teebroker.Instance) { i.Policies = append(i.Policies, measured("better")) }}, teebroker.Denied, "denied", true},
		{"wrong measurement", setup{tee: func(g *faketee.Guest) { g.Measurement = "bad" }}, teebroker.Denied, "denied", true},
		{"format no policy admits", setup{inst: func(i *teebroker.Instance) {
			i.Policies[0].Require = map[evidence.Format]policy.Rule{"tdx-quote": policy.Claim{}}
		}}, teebroker.Denied, "denied", true},
		{"launch identity of another", setup{tee: func(g *faketee.Guest) { g.HostData = make([]byte, 32); g.HostData[0] = 1 }}, teebroker.LaunchIdentity, "denied", true},
		{"launch identity zero", setup{tee: func(g *faketee.Guest) { g.HostData = make([]byte, 32) }}, teebroker.LaunchIdentity, "denied", true},
		{"launch identity zero wanted and got", setup{tee: func(g *faketee.Guest) { g.HostData = make([]byte, 32) }, inst: func(i *teebroker.Instance) {
			i.Launch = teebroker.LaunchClaim{Name: "snp.host_data", Want: make([]byte, 32)}
		}}, teebroker.LaunchIdentity, "denied", true},
		{"launch identity absent", setup{inst: func(i *teebroker.Instance) { i.Launch = teebroker.LaunchClaim{Name: "snp.absent", Want: []byte{1}} }}, teebroker.LaunchIdentity, "denied", true},
		{"launch identity not registered", setup{inst: func(i *teebroker.Instance) { i.Launch = nil }}, teebroker.LaunchIdentity, "denied", true},
		{"sharing allowed, but a launch claim registered", setup{inst: func(i *teebroker.Instance) { i.AllowSharedLaunchIdentity = true }, tee: func(g *faketee.Guest) { g.HostData = nil }}, teebroker.LaunchIdentity, "denied", true},

		{"not authorized", setup{auth: func(a *teebroker.Authorization) { a.Purposes = []string{"disk/data"} }}, teebroker.NotAuthorized, "denied", true},
		{"chip not in the list", setup{auth: func(a *teebroker.Authorization) { a.Chips = [][]byte{[]byte("chip two")} }}, teebroker.NotAuthorized, "denied", true},
		{"chip masked", setup{auth: func(a *teebroker.Authorization) { a.Chips = [][]byte{faketee.Chip()} }, tee: func(g *faketee.Guest) { g.Chip = make([]byte, 8) }}, teebroker.NotAuthorized, "denied", true},
		{"chip of the layer below another", setup{auth: func(a *teebroker.Authorization) { a.Chips = [][]byte{faketee.Chip(), []byte("chip two")} }, tee: below(faketee.Guest{Measurement: "good", Chip: []byte("chip two")})}, teebroker.NotAuthorized, "denied", true},
		{"no secret", setup{auth: func(a *teebroker.Authorization) { a.Purposes = []string{"disk/data"} }, cli: func(c *guest.Config) { c.Purpose = "disk/data" }}, teebroker.NotAuthorized, "denied", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, func(c *teebroker.Config) {
				if tt.edit != nil {
					c.Verifier = faketee.Verifier{NotAfter: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), Edit: tt.edit}
				}
				apply(tt.cfg, c)
			})
			if tt.inst != nil {
				inst := w.instance()
				tt.inst(&inst)
				w.check(w.Register(t.Context(), inst))
			}
			w.authorize(tt.auth)
			g := honest()
			apply(tt.tee, &g)
			req := w.request(w.session(tt.cli), g)
			apply(tt.req, &req)
			r, err := w.answer(req)
			w.refusedWith("first", r, err, tt.want)
			if got := teebroker.Code(err); got != tt.peer {
				t.Errorf("a peer is told %q, want %q", got, tt.peer)
			}
			if n := len(w.entries(teebroker.Decisions)); n != 0 {
				t.Errorf("%d decisions", n)
			}
			w.spent(req, tt.spends, tt.want)
		})
	}
}

// allowRSA lets RSA keys from bits in, and no others.
func allowRSA(bits int) func(*teebroker.Instance) {
	return func(i *teebroker.Instance) {
		i.Suites = keywrap.Allow{Suites: []keywrap.Suite{keywrap.JWERSA}, MinRSABits: bits}
	}
}

func rsa2048(t *testing.T) keywrap.Opener {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keywrap.FromRSA(k)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// RSA keys have 3072 bits or more, but for kbs-coco and where the instance says
// so, and there 2048.
func TestRSASizes(t *testing.T) {
	small := rsa2048(t)
	large, err := keywrap.Generate(keywrap.JWERSA) // 3072 bits
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		least int
		want  error
	}{{2048, nil}, {3072, teebroker.ProfileNotAllowed}, {0, teebroker.ProfileNotAllowed}, {1, teebroker.ProfileNotAllowed}} {
		w := newWorld(t, nil)
		inst := w.instance()
		allowRSA(tt.least)(&inst)
		w.check(w.Register(t.Context(), inst))
		if _, err := w.broker.Attest(t.Context(), w.legacy(nonce.ProfileCoCo, small, honest())); !errors.Is(err, tt.want) {
			t.Errorf("kbs-coco, at least %d bits: %v", tt.least, err)
		}
	}
	for _, tt := range []struct {
		least int
		want  error
	}{{2048, nil}, {3072, nil}, {4096, teebroker.ProfileNotAllowed}, {1, teebroker.ProfileNotAllowed}} {
		w := newWorld(t, nil)
		inst := w.instance()
		allowRSA(tt.least)(&inst)
		w.check(w.Register(t.Context(), inst))
		w.authorize(nil)
		s := w.session(func(c *guest.Config) { c.Key = large })
		if _, err := w.answer(w.request(s, honest())); !errors.Is(err, tt.want) {
			t.Errorf("v1, at least %d bits: %v", tt.least, err)
		}
	}
}

func allowSkipped(i *teebroker.Instance) { i.Policies[0].AllowSkipped = []string{"revocation"} }

func apply[T any](edit func(*T), v *T) {
	if edit != nil {
		edit(v)
	}
}

// spent fails unless req, refused with want, has spent its nonce or not, and
// its refusal is stored if that decided something.
func (w *world) spent(req teebroker.Request, spends bool, want error) {
	w.Helper()
	if !spends {
		if n := len(w.entries(teebroker.Refusals)); n != 0 {
			w.Errorf("%d refusals recorded", n)
		}
		return
	}
	if _, err := w.cfg.Issuer.Open(nonce.ProfileV1, req.Nonce); err != nil {
		w.Fatal(err)
	}
	if err := w.Redeem(w.Context(), req.Nonce, [32]byte{1}, w.time().Add(time.Minute)); !errors.Is(err, nonce.Spent) {
		w.Errorf("the nonce can be redeemed: %v", err)
	}
	again, err := w.answer(req)
	if errors.Is(want, teebroker.Unavailable) {
		w.refusedWith("again", again, err, teebroker.InProgress)
		return
	}
	w.refusedWith("again", again, err, want)
	refusals, err := w.Record(w.Context(), req.Tenant, teebroker.Refusals)
	w.check(err)
	if len(refusals) != 1 || refusals[0].Kind != teebroker.KindRefusal {
		w.Errorf("refusals %v", refusals)
	}
}

// A weaker instance lets its guests in, and its receipts say what it allows.
func TestWeakened(t *testing.T) {
	w := newWorld(t, func(c *teebroker.Config) {
		c.SimulatedRoots, c.SimulatedState = [][32]byte{faketee.Root()}, true
	})
	inst := w.instance()
	inst.Launch, inst.AllowSharedLaunchIdentity, inst.AllowUnpinnedBroker = nil, true, true
	w.check(w.Register(t.Context(), inst))
	w.authorize(func(a *teebroker.Authorization) { a.Chips = [][]byte{faketee.Chip()} })
	s := w.session(func(c *guest.Config) { c.Broker = nil })
	r, err := w.answer(w.request(s, honest()))
	w.check(err)
	w.opens(s, r)
	got, err := teebroker.VerifyReceipt(r.Receipt, w.broker.ID())
	w.check(err)
	if !got.Simulated || len(got.Weakened) != 2 || got.Weakened[0] != "unpinned-broker" || got.Weakened[1] != "shared-launch-identity" {
		t.Errorf("simulated %v, weakened %v", got.Simulated, got.Weakened)
	}
}

// What policy denies, an owner can read in full.
func TestDeniedError(t *testing.T) {
	w := newWorld(t, nil)
	g := honest()
	g.Measurement = "bad"
	_, err := w.answer(w.request(w.session(nil), g))
	var denied *teebroker.DeniedError
	if !errors.As(err, &denied) {
		t.Fatal(err)
	}
	n := 0
	for m := range denied.Appraisal.Mismatches() {
		n++
		if m.Claim != "snp.measurement" {
			t.Errorf("mismatch %v", m)
		}
	}
	es := w.entries(teebroker.Refusals)
	if n != 1 || len(es) != 1 || !bytes.Contains(es[0].Body, []byte("snp.measurement")) {
		t.Errorf("%d mismatches, entries %v", n, es)
	}
}

// A wrapped key is bound, and foreign where none is registered.
func TestWrapped(t *testing.T) {
	w := newWorld(t, nil)
	w.authorize(nil)
	blob := []byte(`{"protected":"e30","enc":"AAAA","ciphertext":"AAAA"}`)
	s := w.session(func(c *guest.Config) { c.Wrapped = blob })
	req := w.request(s, honest())
	r, err := w.answer(req)
	w.refusedWith("blob", r, err, teebroker.ForeignBlob)
	if teebroker.Code(err) != "denied" {
		t.Error(err)
	}
	req = w.request(s, honest())
	req.Wrapped = bytes.Replace(blob, []byte("AAAA"), []byte("BBBB"), 1)
	r, err = w.answer(req)
	w.refusedWith("another blob", r, err, evidence.NotBound)
}

// A request that another replica answered between the look at its outcome and
// the redemption of its nonce gets that answer.
func TestAnsweredMeanwhile(t *testing.T) {
	w := newWorld(t, nil)
	w.authorize(nil)
	s := w.session(nil)
	req := w.request(s, honest())
	var first teebroker.Response
	cfg := w.cfg
	cfg.Nonces = meanwhile{w.Store, func() {
		var err error
		first, err = w.answer(req)
		w.check(err)
	}}
	late, err := teebroker.New(cfg)
	w.check(err)
	r, err := late.Answer(t.Context(), req)
	w.check(err)
	if !bytes.Equal(r.Receipt, first.Receipt) || len(w.entries(teebroker.Decisions)) != 1 {
		t.Error("another answer")
	}
}

// meanwhile is a nonce.Store before whose Redeem something happens.
type meanwhile struct {
	nonce.Store
	do func()
}

func (m meanwhile) Redeem(ctx context.Context, n nonce.Nonce, id [32]byte, expiry time.Time) error {
	m.do()
	return m.Store.Redeem(ctx, n, id, expiry)
}

// The largest secret that an owner can store is one that a guest can get.
func TestLargestSecret(t *testing.T) {
	w := newWorld(t, nil)
	w.authorize(nil)
	value := bytes.Repeat([]byte{7}, 512<<10)
	w.check(w.PutSecret(t.Context(), tenant, instance, purpose, value))
	s := w.session(nil)
	r, err := w.answer(w.request(s, honest()))
	w.check(err)
	if got, err := s.Open(t.Context(), r); err != nil || !bytes.Equal(got, value) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := w.PutSecret(t.Context(), tenant, instance, purpose, append(value, 7)); err == nil {
		t.Error("a larger one is stored")
	}
}
