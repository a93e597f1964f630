package v1_test

import (
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

func BenchmarkParseRequest(b *testing.B) {
	body, err := v1.MarshalRequest(sample(b))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v1.ParseRequest(body, v1.Suites()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChallenge is what HTTP over loopback costs with next to nothing behind it.
func BenchmarkChallenge(b *testing.B) {
	w := newWorld(b, func(_ *world, _ *teebroker.Config, c *v1.Config) { c.PerSource = v1.Rate{Burst: 1}; c.Observe = nil })
	c := w.client(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Challenge(b.Context(), nonce.ProfileV1); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBoot is a whole release of a new guest over loopback: key, nonce,
// evidence of fake hardware, release, secret. State is in memory.
func BenchmarkBoot(b *testing.B) {
	w := newWorld(b, func(_ *world, _ *teebroker.Config, c *v1.Config) { c.PerSource = v1.Rate{Burst: 1}; c.Observe = nil })
	launch := teebroker.LaunchID("acme", instance)
	w.check(w.store.Register(b.Context(), teebroker.Instance{
		Tenant: "acme", ID: instance, Policies: []*policy.Policy{measured("good")},
		Launch: teebroker.LaunchClaim{Name: "snp.host_data", Want: launch[:]},
		Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.X25519}},
	}))
	w.check(w.store.PutSecret(b.Context(), "acme", instance, "disk", []byte("secret")))
	w.check(w.store.Authorize(b.Context(), teebroker.Authorization{
		Tenant: "acme", Instance: instance, Purposes: []string{"disk"}, Uses: 1 << 20, NotAfter: w.time().Add(time.Hour),
	}))
	c := w.client(nil)
	b.ReportAllocs()
	for b.Loop() {
		s := w.session()
		r, err := c.Release(b.Context(), w.request(s, c))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Open(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}
