package cca_test

import (
	"sync"
	"testing"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
)

func TestLive(t *testing.T) {
	p, want := ccatest.NewPlatform(), bindingOf(t, []byte("x"))
	ev := p.Token(ccatest.Realm{}, want)
	var live cca.Live
	got, err := live.Verify(t.Context(), ev, want)
	wantRefused(t, got, err, evidence.Untrusted, "anchor")

	live.Store(trusting(t, p.Anchor()))
	if _, err := live.Verify(t.Context(), ev, want); err != nil {
		t.Fatal(err)
	}
	// The platform token is known by now. That counts for nothing any more.
	live.Store(newVerifier(t, cca.Config{Anchors: []cca.Anchor{p.Anchor()}, DenyInstances: []cca.InstanceID{p.Instance}}))
	got, err = live.Verify(t.Context(), ev, want)
	wantRefused(t, got, err, evidence.Revoked, "revocation")
	live.Store(trusting(t, ccatest.NewPlatform().Anchor()))
	got, err = live.Verify(t.Context(), ev, want)
	wantRefused(t, got, err, evidence.Untrusted, "anchor")
	live.Store(nil)
	got, err = live.Verify(t.Context(), ev, want)
	wantRefused(t, got, err, evidence.Untrusted, "anchor")
}

// Under replacement each answer is that of one snapshot.
func TestLiveConcurrently(t *testing.T) {
	p, want := ccatest.NewPlatform(), bindingOf(t, []byte("x"))
	ev := p.Token(ccatest.Realm{}, want)
	trusts, denies := trusting(t, p.Anchor()), newVerifier(t, cca.Config{Anchors: []cca.Anchor{p.Anchor()}, DenyInstances: []cca.InstanceID{p.Instance}})
	var live cca.Live
	live.Store(trusts)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 10 {
				if i == 0 {
					live.Store(denies)
					live.Store(trusts)
					continue
				}
				if got, err := live.Verify(t.Context(), ev, want); err != nil {
					wantRefused(t, got, err, evidence.Revoked, "revocation")
				}
			}
		})
	}
	wg.Wait()
}
