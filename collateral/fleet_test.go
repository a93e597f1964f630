package collateral_test

import (
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/kds"
	"github.com/teebroker/teebroker/snp/kds/kdstest"
	"github.com/teebroker/teebroker/snp/snptest"
)

// fleet returns evidence of machines, without certificates.
func fleet(chips int) (evs []evidence.Evidence) {
	for range chips {
		evs = append(evs, bare(amd().Chip(snp.Milan)))
	}
	return evs
}

// bare is evidence of a guest that sends no certificates.
func bare(chip *snptest.Chip) evidence.Evidence {
	ev := chip.Report(snptest.Guest{}, fleetNonce())
	ev.Items = nil
	return ev
}

func fleetNonce() evidence.Binding {
	b, err := evidence.NewBinding([]byte("nonce"))
	if err != nil {
		panic(err)
	}
	return b
}

// coldFleet returns a Verifier that knows nothing yet, over a fake key server.
func coldFleet(tb testing.TB) (*snp.Verifier, *kdstest.Server) {
	tb.Helper()
	server := kdstest.New(amd())
	at := func() time.Time { return now }
	// A second attempt because this machine is slow would be a second request.
	source, err := kds.New(kds.Config{
		BaseURL: "https://kds.example", Client: server.Client(), Every: time.Millisecond, Burst: 1000, Timeout: time.Hour,
	})
	if err != nil {
		tb.Fatal(err)
	}
	cache, err := collateral.NewCache(collateral.CacheConfig{Upstream: source, AMD: amd().Anchors(snp.Milan), Time: at})
	if err != nil {
		tb.Fatal(err)
	}
	v, err := snp.NewVerifier(snp.Config{Anchors: amd().Anchors(snp.Milan), Source: cache, Time: at})
	if err != nil {
		tb.Fatal(err)
	}
	return v, server
}

// verifyFleet verifies all evs ten times, all at once, and says how often the
// server was asked.
func verifyFleet(tb testing.TB, v *snp.Verifier, server *kdstest.Server, evs []evidence.Evidence) {
	tb.Helper()
	var wg sync.WaitGroup
	for i := range 10 * len(evs) {
		wg.Go(func() {
			if _, err := v.Verify(tb.Context(), evs[i%len(evs)], fleetNonce()); err != nil {
				tb.Error(err)
			}
		})
	}
	wg.Wait()
	if n, most := server.Requests(), server.Most(); n != len(evs)+1 || most != 1 {
		tb.Errorf("%d requests, up to %d for one name, want one for each of %d chips and one for the list", n, most, len(evs))
	}
}

// A whole fleet that starts at once costs one request for each chip, and one for
// the list.
func TestFleet(t *testing.T) {
	evs := fleet(100)
	v, server := coldFleet(t)
	verifyFleet(t, v, server, evs)
}

// BenchmarkFleet is 10,000 verifications of 1,000 chips at once, of which nothing
// is known. Time is for all of them, and it fails as TestFleet does.
func BenchmarkFleet(b *testing.B) {
	evs := fleet(1000)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		v, server := coldFleet(b)
		b.StartTimer()
		verifyFleet(b, v, server, evs)
	}
}
