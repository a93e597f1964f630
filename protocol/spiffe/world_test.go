package spiffe

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store/memory"
)

const domain = "example.org"

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newKey(c elliptic.Curve) *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(c, rand.Reader)) }

// newKeys returns the keys of an authority whose certificate is good for a year.
func newKeys(name string) Keys {
	k, now := newKey(elliptic.P384()), time.Now()
	return Keys{k, must(NewCertificate(name, k, now.Add(-time.Hour), now.AddDate(1, 0, 0))), newKey(elliptic.P256())}
}

// world is a broker on fake hardware with an authority, and one instance.
type world struct {
	testing.TB
	*memory.Store
	authority *Authority
	broker    *teebroker.Broker
	evidence  time.Time // until when it is good
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func me(purpose string) Request {
	r := Request{Tenant: "acme", Instance: [16]byte{15: 1}, Purpose: purpose}
	if purpose == PurposeJWT {
		r.Audience = []string{"db.example.org"}
	}
	return r
}

// newWorld returns a world whose authority edit has changed, if it is not nil.
func newWorld(t testing.TB, edit func(*world, *Config)) *world {
	t.Helper()
	w := &world{TB: t, Store: memory.New(nil), evidence: time.Now().AddDate(1, 0, 0)}
	cfg := Config{TrustDomain: domain, Keys: []Keys{newKeys(domain)}}
	if edit != nil {
		edit(w, &cfg)
	}
	var err error
	w.authority, err = New(cfg)
	w.check(err)
	w.broker, err = teebroker.New(teebroker.Config{
		Verifier: faketee.Verifier{NotAfter: w.evidence}, Issuer: must(nonce.NewHMAC(nonce.Config{Key: [32]byte{1}})), Nonces: w.Store,
		Directory: w.Store, Secrets: w.Store, Ledger: w.Store, Identity: newKey(elliptic.P384()), Credentials: w.authority,
	})
	w.check(err)
	r := me(PurposeX509)
	id := teebroker.LaunchID(r.Tenant, r.Instance)
	w.check(w.Register(t.Context(), teebroker.Instance{
		Tenant: r.Tenant, ID: r.Instance,
		Policies: []*policy.Policy{{
			Name: "test", Version: "1", Document: []byte("measured"),
			Require: map[evidence.Format]policy.Rule{faketee.Format: policy.Claim{Name: "snp.measurement", Op: evidence.Equal, Want: evidence.Text("good")}},
		}},
		Launch: teebroker.LaunchClaim{Name: "snp.host_data", Want: id[:]},
		Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.X25519}},
	}))
	return w
}

func (w *world) authorize(purposes ...string) {
	w.Helper()
	r := me(PurposeX509)
	w.check(w.Authorize(w.Context(), teebroker.Authorization{Tenant: r.Tenant, Instance: r.Instance, Purposes: purposes, NotAfter: time.Now().Add(time.Hour)}))
}

// ask is one boot of a guest that presents this, and what it opens.
func (w *world) ask(purpose string, presented []byte) ([]byte, error) {
	w.Helper()
	id, r := w.broker.ID(), me(purpose)
	s, err := guest.New(guest.Config{
		Tenant: r.Tenant, Instance: r.Instance, Purpose: purpose, Broker: id[:], Key: must(keywrap.Generate(keywrap.X25519)), Wrapped: presented,
	})
	w.check(err)
	c, err := w.broker.Challenge(w.Context(), nonce.ProfileV1)
	w.check(err)
	b, err := s.Bind(c.Nonce, faketee.Format)
	w.check(err)
	launch := teebroker.LaunchID(r.Tenant, r.Instance)
	resp, err := w.broker.Answer(w.Context(), s.Request(c.Nonce, faketee.Guest{Measurement: "good", HostData: launch[:]}.Evidence(b)))
	if err != nil {
		return nil, err
	}
	return s.Open(w.Context(), resp)
}

// bundle is what others fetch.
func (w *world) bundle() *spiffebundle.Bundle {
	w.Helper()
	b, err := w.authority.Bundle()
	w.check(err)
	return must(spiffebundle.Read(spiffeid.RequireTrustDomainFromString(domain), bytes.NewReader(b)))
}

// credential asks the authority as a broker does.
func (w *world) credential(presented []byte, r Request) ([]byte, error) {
	w.Helper()
	p, err := keywrap.ParseWrapped(presented)
	w.check(err)
	return w.authority.Credential(context.Background(), teebroker.CredentialRequest{
		Tenant: r.Tenant, Instance: r.Instance, Purpose: r.Purpose, Presented: p, NotAfter: w.evidence,
	})
}

func wrapped(protected, enc, ciphertext []byte) keywrap.Wrapped {
	return keywrap.Wrapped{Protected: protected, Enc: enc, Ciphertext: ciphertext}
}
