package teebroker_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
)

// legacy is a request of a profile of two requests, with fresh evidence of g.
func (w *world) legacy(p nonce.Profile, key keywrap.Opener, g faketee.Guest) teebroker.Request {
	w.Helper()
	c, err := w.broker.Challenge(w.Context(), p)
	w.check(err)
	req := teebroker.Request{Profile: p, Nonce: c.Nonce, Tenant: tenant, Recipient: key.Recipient()}
	var recipe nonce.Recipe = nonce.SVSM{}
	if p == nonce.ProfileCoCo {
		req.CoCo = &teebroker.CoCo{AdditionalEvidence: "more", Hashes: []crypto.Hash{crypto.SHA384}}
		recipe = nonce.CoCo{Hash: crypto.SHA384, AdditionalEvidence: "more"}
	}
	b, err := recipe.Bind(c.Nonce, key.Recipient())
	w.check(err)
	req.Evidence = []evidence.Evidence{g.Evidence(b)}
	return req
}

// openRaw returns what is sealed in r for a client of a legacy profile, which
// is the secret itself.
func (w *world) openRaw(key keywrap.Opener, r teebroker.Response) string {
	w.Helper()
	var box keywrap.Sealed
	w.check(json.Unmarshal(r.Sealed, &box))
	got, err := key.Open(w.Context(), box, nil)
	w.check(err)
	return string(got)
}

// busy is a Ledger that has no room for some calls.
type busy struct {
	teebroker.Ledger
	calls int
}

func (b *busy) Check(ctx context.Context, g teebroker.Grant) (teebroker.Terms, error) {
	if b.calls > 0 {
		b.calls--
		return teebroker.Terms{}, teebroker.RateLimited
	}
	return b.Ledger.Check(ctx, g)
}

// A limit decides nothing: the same Fetch gets the secret when it is over.
func TestFetchAfterLimit(t *testing.T) {
	limit := &busy{calls: 2}
	w := newWorld(t, func(c *teebroker.Config) { limit.Ledger, c.Ledger = c.Ledger, limit })
	w.authorize(nil)
	key := w.key(keywrap.JWEP256)
	a, err := w.broker.Attest(t.Context(), w.legacy(nonce.ProfileCoCo, key, honest()))
	w.check(err)
	for range 2 {
		if _, err := w.broker.Fetch(t.Context(), a, "kbs/key/1"); !errors.Is(err, teebroker.RateLimited) {
			t.Error(err)
		}
	}
	r, err := w.broker.Fetch(t.Context(), a, "kbs/key/1")
	w.check(err)
	if got := w.openRaw(key, r); got != secret {
		t.Errorf("opened %q", got)
	}
}

func TestTwoRequests(t *testing.T) {
	for p, suite := range map[nonce.Profile]keywrap.Suite{nonce.ProfileSVSM: keywrap.JWEP521, nonce.ProfileCoCo: keywrap.JWEP256} {
		w := newWorld(t, nil)
		w.authorize(nil)
		key := w.key(suite)
		a, err := w.broker.Attest(t.Context(), w.legacy(p, key, honest()))
		w.check(err)
		if a.Profile() != p || a.Instance().ID != instance || !a.Appraisal().Accepted() || len(a.Verified()) != 1 ||
			a.Recipient().Thumbprint() != key.Recipient().Thumbprint() || !a.NotAfter().Equal(w.now.Add(5*time.Minute)) {
			t.Errorf("%s: attestation %+v", p, a)
		}
		id, err := w.broker.Keep(t.Context(), a)
		w.check(err)

		replica, err := teebroker.New(w.cfg) // which did not make it
		w.check(err)
		_, err = replica.Fetch(t.Context(), a, "kbs/key/1")
		if !errors.Is(err, teebroker.Denied) {
			t.Errorf("%s: a replica takes what it did not make: %v", p, err)
		}
		b, err := replica.Resume(t.Context(), id)
		w.check(err)
		if b.RequestID() != a.RequestID() || !b.NotAfter().Equal(a.NotAfter()) {
			t.Errorf("%s: resumed another", p)
		}
		first, err := replica.Fetch(t.Context(), b, "kbs/key/1")
		w.check(err)
		if got := w.openRaw(key, first); got != secret {
			t.Errorf("%s: opened %q", p, got)
		}
		receipt, err := teebroker.VerifyReceipt(first.Receipt, w.broker.ID())
		w.check(err)
		if receipt.Profile != p || receipt.Purpose != "kbs/key/1" || receipt.Kind != teebroker.KindRelease || receipt.Request != a.RequestID() {
			t.Errorf("%s: receipt %+v", p, receipt)
		}
		again, err := w.broker.Fetch(t.Context(), a, "kbs/key/1")
		w.check(err)
		if !bytes.Equal(again.Sealed, first.Sealed) || !bytes.Equal(again.Receipt, first.Receipt) {
			t.Errorf("%s: the same attestation gets other bytes", p)
		}
		second, err := w.broker.Fetch(t.Context(), a, "kbs/key/2")
		w.check(err)
		if second.Release == first.Release {
			t.Errorf("%s: two purposes are one release", p)
		}
		c, err := w.broker.Attest(t.Context(), w.legacy(p, key, honest()))
		w.check(err)
		anew, err := w.broker.Fetch(t.Context(), c, "kbs/key/1")
		w.check(err)
		if !bytes.Equal(anew.Sealed, first.Sealed) || bytes.Equal(anew.Receipt, first.Receipt) {
			t.Errorf("%s: a new handshake with the same key is no redelivery", p)
		}
		if es := w.entries(teebroker.Decisions); len(es) != 3 {
			t.Errorf("%s: %d entries", p, len(es))
		}
		other, err := w.broker.Attest(t.Context(), w.legacy(p, w.key(suite), honest()))
		w.check(err)
		r, err := w.broker.Fetch(t.Context(), other, "kbs/key/1")
		w.refusedWith("another key", r, err, teebroker.OtherKey)
		var body struct{ Instance strictjson.UUID }
		es := w.entries(teebroker.Refusals)
		w.check(json.Unmarshal(es[len(es)-1].Body, &body))
		if body.Instance != instance {
			t.Errorf("%s: the record does not say whose secret was refused: %v", p, body.Instance)
		}
		w.authorize(nil)
		r, err = w.broker.Fetch(t.Context(), other, "kbs/key/1")
		w.refusedWith("refused before", r, err, teebroker.OtherKey)
	}
}

// A device's evidence is bound without additional evidence, and the platform's with it.
func TestDevices(t *testing.T) {
	w := newWorld(t, nil)
	inst := w.instance()
	inst.Policies[0].Require["device"] = policy.Claim{Name: "snp.measurement", Op: evidence.Equal, Want: evidence.Text("gpu")}
	w.check(w.Register(t.Context(), inst))
	key := w.key(keywrap.JWEP256)
	req := w.legacy(nonce.ProfileCoCo, key, honest())
	device, err := nonce.CoCoDevice{Hash: crypto.SHA512}.Bind(req.Nonce, key.Recipient())
	w.check(err)
	req.CoCo.Hashes = append(req.CoCo.Hashes, crypto.SHA512)
	gpu := faketee.Guest{Format: "device", Measurement: "gpu"}
	req.Evidence = append(req.Evidence, gpu.Evidence(device))
	_, err = w.broker.Attest(t.Context(), req)
	w.check(err)

	req = w.legacy(nonce.ProfileCoCo, key, honest())
	req.CoCo.Hashes = append(req.CoCo.Hashes, crypto.SHA512)
	req.Evidence = append(req.Evidence, gpu.Evidence(device)) // of the request before
	if _, err := w.broker.Attest(t.Context(), req); !errors.Is(err, evidence.NotBound) {
		t.Errorf("device evidence recorded before: %v", err)
	}
}

func TestAttestRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		p    nonce.Profile
		edit func(*teebroker.Request)
		want error
	}{
		"v1":                      {nonce.ProfileSVSM, func(r *teebroker.Request) { r.Profile = nonce.ProfileV1 }, teebroker.MalformedRequest},
		"verification only":       {nonce.ProfileSVSM, func(r *teebroker.Request) { r.Profile = nonce.ProfileVerify }, teebroker.ProfileNotAllowed},
		"vtpm":                    {nonce.ProfileSVSM, func(r *teebroker.Request) { r.Profile = nonce.ProfileVTPM }, teebroker.ProfileNotAllowed},
		"no profile":              {nonce.ProfileSVSM, func(r *teebroker.Request) { r.Profile = "" }, teebroker.MalformedRequest},
		"unbound purpose":         {nonce.ProfileSVSM, func(r *teebroker.Request) { r.Purpose = "kbs/key/1" }, teebroker.MalformedRequest},
		"unbound broker":          {nonce.ProfileSVSM, func(r *teebroker.Request) { r.Broker = make([]byte, 32) }, teebroker.MalformedRequest},
		"unbound blob":            {nonce.ProfileSVSM, func(r *teebroker.Request) { r.Wrapped = []byte{} }, teebroker.MalformedRequest},
		"two evidences":           {nonce.ProfileSVSM, func(r *teebroker.Request) { r.Evidence = append(r.Evidence, r.Evidence[0]) }, teebroker.MalformedRequest},
		"nonce of v1":             {nonce.ProfileSVSM, nil, teebroker.NonceSpent},
		"parameters of coco":      {nonce.ProfileSVSM, func(r *teebroker.Request) { r.CoCo = &teebroker.CoCo{} }, teebroker.MalformedRequest},
		"no parameters":           {nonce.ProfileCoCo, func(r *teebroker.Request) { r.CoCo = nil }, teebroker.MalformedRequest},
		"no hash":                 {nonce.ProfileCoCo, func(r *teebroker.Request) { r.CoCo.Hashes = nil }, teebroker.MalformedRequest},
		"hash zero":               {nonce.ProfileCoCo, func(r *teebroker.Request) { r.CoCo.Hashes[0] = 0 }, teebroker.MalformedRequest},
		"more hashes":             {nonce.ProfileCoCo, func(r *teebroker.Request) { r.CoCo.Hashes = append(r.CoCo.Hashes, crypto.SHA256) }, teebroker.MalformedRequest},
		"another hash":            {nonce.ProfileCoCo, func(r *teebroker.Request) { r.CoCo.Hashes[0] = crypto.SHA256 }, evidence.NotBound},
		"other additional":        {nonce.ProfileCoCo, func(r *teebroker.Request) { r.CoCo.AdditionalEvidence = "" }, evidence.NotBound},
		"much additional":         {nonce.ProfileCoCo, func(r *teebroker.Request) { r.CoCo.AdditionalEvidence = string(make([]byte, 17<<20)) }, teebroker.TooLarge},
		"tenant of no grammar":    {nonce.ProfileCoCo, func(r *teebroker.Request) { r.Tenant = "../acme" }, teebroker.MalformedRequest},
		"tenant without instance": {nonce.ProfileCoCo, func(r *teebroker.Request) { r.Tenant = "other" }, teebroker.NoInstance},
	} {
		w := newWorld(t, nil)
		suite := keywrap.JWEP521
		req := w.legacy(tt.p, w.key(suite), honest())
		if name == "nonce of v1" {
			c, err := w.broker.Challenge(t.Context(), nonce.ProfileV1)
			w.check(err)
			req.Nonce = c.Nonce
		}
		apply(tt.edit, &req)
		if a, err := w.broker.Attest(t.Context(), req); !errors.Is(err, tt.want) || a != nil {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	w := newWorld(t, nil)
	inst := w.instance()
	inst.Profiles = nil
	w.check(w.Register(t.Context(), inst))
	if _, err := w.broker.Attest(t.Context(), w.legacy(nonce.ProfileSVSM, w.key(keywrap.JWEP521), honest())); !errors.Is(err, teebroker.ProfileNotAllowed) {
		t.Errorf("an instance of v1 only: %v", err)
	}
}

// Two instances that accept the same launch are nobody.
func TestTwoMatchingInstances(t *testing.T) {
	w := newWorld(t, nil)
	twin := w.instance()
	twin.ID = [16]byte{2}
	w.check(w.Register(t.Context(), twin))
	_, err := w.broker.Attest(t.Context(), w.legacy(nonce.ProfileSVSM, w.key(keywrap.JWEP521), honest()))
	if !errors.Is(err, teebroker.NoInstance) {
		t.Error(err)
	}
}

func TestFetchRefuses(t *testing.T) {
	w := newWorld(t, nil)
	w.authorize(nil)
	ctx := t.Context()
	for name, a := range map[string]*teebroker.Attestation{"nil": nil, "zero": {}} {
		r, err := w.broker.Fetch(ctx, a, "kbs/key/1")
		w.refusedWith(name, r, err, teebroker.Denied)
		if _, err := w.broker.Keep(ctx, a); !errors.Is(err, teebroker.Denied) {
			t.Errorf("kept %s: %v", name, err)
		}
	}
	req := w.legacy(nonce.ProfileSVSM, w.key(keywrap.JWEP521), honest())
	a, err := w.broker.Attest(ctx, req)
	w.check(err)
	clear(req.Evidence[0].Raw) // the caller's buffer is its own
	inst := a.Instance()
	inst.Profiles[purpose] = []nonce.Profile{nonce.ProfileSVSM} // so is this
	a.Verified()[0].Claims = nil
	for p, want := range map[string]error{
		purpose: teebroker.ProfileNotAllowed, "unknown": teebroker.ProfileNotAllowed,
		"": teebroker.MalformedRequest, "Disk": teebroker.MalformedRequest,
	} {
		r, err := w.broker.Fetch(ctx, a, p)
		w.refusedWith(p, r, err, want)
	}
	id, err := w.broker.Keep(ctx, a)
	w.check(err)
	if _, err := w.broker.Resume(ctx, id[1:]); !errors.Is(err, teebroker.Gone) {
		t.Errorf("resumed an unknown id: %v", err)
	}
	w.pass(time.Minute)
	b, err := w.broker.Resume(ctx, id)
	w.check(err)
	if !b.NotAfter().Equal(a.NotAfter()) {
		t.Errorf("resuming lengthens its life to %v", b.NotAfter())
	}
	w.pass(4 * time.Minute)
	if _, err := w.broker.Resume(ctx, id); !errors.Is(err, teebroker.Gone) {
		t.Errorf("resumed too late: %v", err)
	}
	if _, err := w.broker.Keep(ctx, a); !errors.Is(err, teebroker.Gone) {
		t.Errorf("kept too late: %v", err)
	}
	r, err := w.broker.Fetch(ctx, a, "kbs/key/1")
	w.refusedWith("too late", r, err, teebroker.Gone)
}

// Evidence is kept, not the verdict: a policy that changed decides anew.
func TestResumeAppraisesAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.authorize(nil)
	a, err := w.broker.Attest(t.Context(), w.legacy(nonce.ProfileSVSM, w.key(keywrap.JWEP521), honest()))
	w.check(err)
	id, err := w.broker.Keep(t.Context(), a)
	w.check(err)
	inst := w.instance()
	inst.Policies = []*policy.Policy{measured("better")}
	w.check(w.Register(t.Context(), inst))
	if _, err := w.broker.Resume(t.Context(), id); !errors.Is(err, teebroker.Denied) {
		t.Errorf("resumed: %v", err)
	}
	r, err := w.broker.Fetch(t.Context(), a, "kbs/key/1")
	w.refusedWith("fetched under a policy that was replaced", r, err, teebroker.NotAuthorized)
}

// What is kept is read strictly.
func TestKeptIsStrict(t *testing.T) {
	w := newWorld(t, nil)
	a, err := w.broker.Attest(t.Context(), w.legacy(nonce.ProfileCoCo, w.key(keywrap.JWEP256), honest()))
	w.check(err)
	id, err := w.broker.Keep(t.Context(), a)
	w.check(err)
	value, err := w.Get(t.Context(), id)
	w.check(err)
	for old, new := range map[string]string{
		`{"v":1`: `{"v":2`, `"kbs-coco"`: `"v1"`, `"tenant":"acme"`: `"tenant":"acme","x":1`,
		`"suite":"JWE-ECDH-ES+A256KW-P256"`: `"suite":"HPKE-X25519"`, `"nonce":"`: `"nonce":"A`, `"evidence":[`: `"evidence":[],"no":[`,
	} {
		bad := bytes.Replace(value, []byte(old), []byte(new), 1)
		if bytes.Equal(bad, value) {
			t.Fatalf("no %s in %s", old, value)
		}
		w.check(w.Put(t.Context(), old, bad, w.now.Add(time.Hour)))
		if _, err := w.broker.Resume(t.Context(), old); !errors.Is(err, teebroker.Unavailable) {
			t.Errorf("%s: %v", new, err)
		}
	}
}

func TestKeepIsOptional(t *testing.T) {
	w := newWorld(t, func(c *teebroker.Config) { c.Kept = nil })
	a, err := w.broker.Attest(t.Context(), w.legacy(nonce.ProfileSVSM, w.key(keywrap.JWEP521), honest()))
	w.check(err)
	if _, err := w.broker.Keep(t.Context(), a); !errors.Is(err, teebroker.Unavailable) {
		t.Error(err)
	}
	if _, err := w.broker.Resume(t.Context(), "x"); !errors.Is(err, teebroker.Unavailable) {
		t.Error(err)
	}
}

// An Attestation does not outlive what its evidence rests on.
func TestNotAfter(t *testing.T) {
	soon := start().Add(time.Minute)
	w := newWorld(t, func(c *teebroker.Config) { c.Verifier = faketee.Verifier{NotAfter: soon} })
	a, err := w.broker.Attest(t.Context(), w.legacy(nonce.ProfileSVSM, w.key(keywrap.JWEP521), honest()))
	w.check(err)
	if !a.NotAfter().Equal(soon) {
		t.Errorf("NotAfter %v", a.NotAfter())
	}
}

// forgetful is a Kept that keeps for ever.
type forgetful map[string][]byte

func (f forgetful) Put(_ context.Context, id string, value []byte, _ time.Time) error {
	f[id] = value
	return nil
}

func (f forgetful) Get(_ context.Context, id string) ([]byte, error) { return f[id], nil }

// The Broker's own clock ends an Attestation too.
func TestKeptTooLong(t *testing.T) {
	w := newWorld(t, func(c *teebroker.Config) { c.Kept = forgetful{} })
	a, err := w.broker.Attest(t.Context(), w.legacy(nonce.ProfileSVSM, w.key(keywrap.JWEP521), honest()))
	w.check(err)
	id, err := w.broker.Keep(t.Context(), a)
	w.check(err)
	w.pass(5*time.Minute - 1)
	_, err = w.broker.Resume(t.Context(), id)
	w.check(err)
	w.pass(1)
	if _, err := w.broker.Resume(t.Context(), id); !errors.Is(err, teebroker.Gone) {
		t.Error(err)
	}
}
