package v1_test

import (
	"context"
	"net/http"
	"slices"
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

// BenchmarkStorm is 1,000 guests that boot at once, over loopback and SQLite: each
// takes a nonce and asks for the secret, on two requests of one connection. Keys
// were made before, and answers are opened after. An op is one storm.
func BenchmarkStorm(b *testing.B) {
	const guests = 1000
	o := newOwned(b, func(c *v1.Config) { c.Observe = nil; c.Patience = time.Minute })
	o.provision()
	var took []time.Duration
	var all time.Duration
	for b.Loop() {
		b.StopTimer()
		_, err := o.acme.Authorize(b.Context(), instance, v1.Authorization{Purposes: []string{"disk"}, Uses: guests, NotAfter: o.time().Add(time.Hour)})
		o.check(err)
		storm := make([]booting, guests)
		for i := range storm {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			storm[i] = booting{session: o.session(), client: o.client(func(c *v1.ClientConfig) { c.HTTP = &http.Client{Transport: transport} })}
		}
		b.StartTimer()
		began := time.Now()
		var wg sync.WaitGroup
		for i := range storm {
			wg.Go(func() { storm[i].boot(b.Context()) })
		}
		wg.Wait()
		all += time.Since(began)
		b.StopTimer()
		for _, g := range storm {
			o.check(g.err)
			_, err := g.session.Open(b.Context(), g.response)
			o.check(err)
			took = append(took, g.took)
		}
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/all.Seconds(), "releases/s")
	b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "p99-ms")
}

type booting struct {
	session  *guest.Session
	client   *v1.Client
	response teebroker.Response
	took     time.Duration
	err      error
}

func (g *booting) boot(ctx context.Context) {
	began := time.Now()
	challenge, err := g.client.Challenge(ctx, nonce.ProfileV1)
	if err == nil {
		var binding evidence.Binding
		if binding, err = g.session.Bind(challenge.Nonce, faketee.Format); err == nil {
			launch := teebroker.LaunchID("acme", instance)
			var body []byte
			body, err = v1.MarshalRequest(g.session.Request(challenge.Nonce, faketee.Guest{Measurement: "good", HostData: launch[:]}.Evidence(binding)))
			if err == nil {
				g.response, err = g.client.Release(ctx, body)
			}
		}
	}
	g.took, g.err = time.Since(began), err
}
