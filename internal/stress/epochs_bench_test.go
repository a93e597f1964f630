//go:build unix

package main

import (
	"context"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/sqlstore"
)

// withEpochs is a service whose instance has a secret and a purpose with epochs, and
// an authorization of both.
func withEpochs(b *testing.B, dialect sqlstore.Dialect) *service {
	b.Helper()
	s := newService(b, dialect, nil)
	s.begin(b, [16]byte{1}, "write")
	_, err := s.Authorize(b.Context(), teebroker.Authorization{
		Tenant: tenant, Instance: [16]byte{1}, Purposes: []string{purpose, stateful}, Uses: store.MaxUses, OutlivesConfirm: true,
		NotAfter: time.Now().Add(time.Hour),
	})
	check(b, err)
	return s
}

// guest is a new guest that asks for p, and what it asks.
func (s *service) guest(p string) (*machine, teebroker.Request) {
	s.Helper()
	key, err := keywrap.Generate(s.d.suite)
	check(s, err)
	id := s.ID()
	g, err := guest.New(guest.Config{Tenant: tenant, Instance: [16]byte{1}, Purpose: p, Broker: id[:], Key: key})
	check(s, err)
	m := &machine{g, s.d, [16]byte{1}}
	req, err := m.request(s.Context(), s.replica)
	check(s, err)
	return m, req
}

// BenchmarkEpochs compares releases of a secret and of a purpose with epochs, one after
// the other in turns, each to a guest of its own: what is between would be anybody's
// noise. An op is one of each.
func BenchmarkEpochs(b *testing.B) {
	databases(b, func(b *testing.B, dialect sqlstore.Dialect) {
		s := withEpochs(b, dialect)
		used := map[string]time.Duration{}
		b.ReportAllocs()
		for b.Loop() {
			for _, p := range []string{purpose, stateful} {
				b.StopTimer()
				_, req := s.guest(p)
				b.StartTimer()
				began := cpu()
				_, err := s.Answer(b.Context(), req)
				used[p] += cpu() - began
				check(b, err)
			}
		}
		b.ReportMetric(float64(used[purpose].Microseconds())/float64(b.N), "cpu-us/release")
		b.ReportMetric(float64(used[stateful].Microseconds())/float64(b.N), "cpu-us/with-epochs")
		b.ReportMetric(float64(used[stateful])/float64(used[purpose]), "ratio")
	})
}

// BenchmarkConfirm is a checkpoint over loopback, by a client of protocol/v1.
func BenchmarkConfirm(b *testing.B) {
	databases(b, func(b *testing.B, dialect sqlstore.Dialect) {
		s := withEpochs(b, dialect)
		m, req := s.guest(stateful)
		a, err := s.Answer(b.Context(), req)
		check(b, err)
		o, err := m.OpenEpoch(b.Context(), a)
		check(b, err)
		c, err := v1.NewClient(v1.ClientConfig{URL: s.http.URL})
		check(b, err)
		said := teebroker.Confirm{Release: o.Release, Epoch: o.Next, State: strictjson.Digest{1}}
		ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
		defer cancel()
		began := cpu()
		b.ReportAllocs()
		for b.Loop() {
			_, err := c.Confirm(ctx, said, said.MAC(o.ConfirmKey))
			check(b, err)
			said.Seq, said.Settled = said.Seq+1, !said.Settled
		}
		b.ReportMetric(float64((cpu()-began).Microseconds())/float64(b.N), "cpu-us/confirm")
	})
}
