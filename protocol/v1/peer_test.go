package v1_test

import (
	"context"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// peers is a Verifier that notes who sent the evidence.
type peers struct {
	evidence.Verifier
	seen []string
}

func (p *peers) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	peer, _ := evidence.Peer(ctx)
	p.seen = append(p.seen, peer)
	return p.Verifier.Verify(ctx, ev, want)
}

// A Source that asks a vendor can tell who makes it ask.
func TestVerifierKnowsThePeer(t *testing.T) {
	p := &peers{}
	w := newWorld(t, func(_ *world, c *teebroker.Config, _ *v1.Config) {
		p.Verifier = c.Verifier
		c.Verifier = p
	})
	c := w.client(nil)
	_, _ = c.Release(t.Context(), w.request(w.session(), c)) // of nobody, once it is verified
	if len(p.seen) != 1 || p.seen[0] != "127.0.0.1" {
		t.Errorf("verified for %q", p.seen)
	}
}
