package kbs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/kbs"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/store/memory"
)

const (
	tenant = "acme"
	secret = "vTPM state key 0123456789abcdef!"
)

var (
	svsm = [16]byte{15: 1} // an instance that an SVSM is
	coco = [16]byte{15: 2} // one of Confidential Containers
)

// measurement of the SVSM of the recordings.
var measurement = sha512.Sum384([]byte("synthetic SVSM launch measurement"))

// world is a broker behind a Handler, with memory stores and a simulated AMD.
type world struct {
	testing.TB
	*memory.Store
	amd     *snptest.AMD
	now     time.Time
	broker  *teebroker.Broker
	handler *kbs.Handler
	cfg     kbs.Config
	refused []error // as Config.Refused got them
}

// vendor is one for all tests: its keys take long to make.
var vendor = sync.OnceValue(snptest.NewAMD)

// chip is of that vendor.
var chip = sync.OnceValue(func() *snptest.Chip { return vendor().Chip(snp.Milan) })

func newWorld(t testing.TB, edit func(*world, *teebroker.Config, *kbs.Config)) *world {
	t.Helper()
	w := &world{TB: t, amd: vendor(), now: time.Now()}
	w.Store = memory.New(func() time.Time { return w.now })
	verifier, err := snp.NewVerifier(snp.Config{Anchors: w.amd.Anchors(snp.Milan), Source: w.amd.Source(), Time: func() time.Time { return w.now }})
	w.check(err)
	issuer, err := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}, Time: func() time.Time { return w.now }})
	w.check(err)
	sessions, err := kbs.NewSessions([32]byte{2})
	w.check(err)
	tokens, err := ear.NewIssuer(ear.IssuerConfig{
		Signer: w.key(elliptic.P256()), Profile: ear.KBS, Life: 5 * time.Minute,
		Verifier: ear.VerifierID{Developer: "teebroker", Build: "test"}, Time: func() time.Time { return w.now },
	})
	w.check(err)
	sample := kbs.Sample{Time: func() time.Time { return w.now }}
	bc := teebroker.Config{
		Verifier: evidence.Verifiers{snp.Format: verifier, kbs.SampleFormat: sample, kbs.SampleDeviceFormat: sample},
		Issuer:   kbs.Issuer(issuer), Nonces: w.Store, Directory: w.Store, Secrets: w.Store, Ledger: w.Store, Kept: w.Store,
		Identity: w.key(elliptic.P384()), Time: func() time.Time { return w.now },
		SimulatedRoots: [][32]byte{kbs.SampleRoot()}, SimulatedState: true,
	}
	hc := kbs.Config{
		Kept: w.Store, Sessions: sessions, Tenant: tenant, Tokens: tokens, AllowSampleEvidenceUnsafe: true,
		Refused: func(_ *http.Request, _ string, err error) { w.refused = append(w.refused, err) },
	}
	if edit != nil {
		edit(w, &bc, &hc)
	}
	w.broker, err = teebroker.New(bc)
	w.check(err)
	hc.Broker = w.broker
	w.cfg = hc
	w.handler, err = kbs.New(hc)
	w.check(err)
	w.register(svsm, teebroker.LaunchClaim{Name: "snp.measurement", Want: measurement[:]}, nonce.ProfileSVSM, "vtpm/state")
	w.register(coco, teebroker.LaunchClaim{Name: "sample.svn", Want: []byte("1")}, nonce.ProfileCoCo, "default/key/1")
	return w
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) key(c elliptic.Curve) *ecdsa.PrivateKey {
	w.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	w.check(err)
	return k
}

// everything accepts evidence of the simulated AMD at VMPL 0 or above, and sample
// evidence with a device.
func everything() *policy.Policy {
	svn := policy.Claim{Name: "sample.svn", Op: evidence.In, Want: evidence.List(evidence.Bytes([]byte("1")), evidence.Bytes([]byte("2")))}
	return &policy.Policy{
		Name: "test", Document: []byte("everything"),
		Optional: map[evidence.Format]policy.Rule{
			snp.Format:             policy.Claim{Name: "snp.policy.debug", Op: evidence.Equal, Want: evidence.Bool(false)},
			kbs.SampleFormat:       svn,
			kbs.SampleDeviceFormat: svn,
		},
	}
}

// register adds an instance with one secret and one use of it.
func (w *world) register(id [16]byte, launch policy.Rule, p nonce.Profile, purposes ...string) {
	w.Helper()
	profiles := map[string][]nonce.Profile{}
	for _, purpose := range purposes {
		profiles[purpose] = []nonce.Profile{p}
	}
	w.check(w.Register(w.Context(), teebroker.Instance{
		Tenant: tenant, ID: id, Policies: []*policy.Policy{everything()}, Launch: launch, Profiles: profiles,
		Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.JWEP256, keywrap.JWEP521, keywrap.JWERSA}, MinRSABits: 2048},
	}))
	for _, purpose := range purposes {
		w.check(w.PutSecret(w.Context(), tenant, id, purpose, []byte(secret)))
	}
	w.authorize(id, p, purposes...)
}

func (w *world) authorize(id [16]byte, p nonce.Profile, purposes ...string) {
	w.Helper()
	w.check(w.Authorize(w.Context(), teebroker.Authorization{
		Tenant: tenant, Instance: id, Purposes: purposes, NotAfter: w.now.Add(time.Hour), Profiles: []nonce.Profile{p},
	}))
}

// send sends one request, with headers as pairs of name and value.
func (w *world) send(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), method, target, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	return answer
}

func must(w *world, cfg kbs.Config) *kbs.Handler {
	w.Helper()
	h, err := kbs.New(cfg)
	w.check(err)
	return h
}
