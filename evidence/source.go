package evidence

import (
	"context"
	"errors"
)

// A Source supplies collateral by the vendor's own name for it: for AMD the
// path and query of a KDS request, for Intel of a PCS request. Trust anchors
// never come from a Source: they are in the Config of the Verifier. HTTP
// clients, disk caches, offline bundles and test fakes are Sources; package
// collateral has some. Names come from the Verifier, never from Evidence.
type Source interface {
	// Get returns all candidates under name, best first, or an error wrapping
	// ErrNotFound. Whatever it returns is unverified. It may block on I/O.
	Get(ctx context.Context, name string) ([]Collateral, error)
}

// Collateral is one unverified answer of a Source.
type Collateral struct {
	Data   []byte // certificate, CRL or signed document, exactly as published
	Issuer []byte // issuer chain in PEM where the vendor sends it beside Data, else nil
}

// ErrNotFound is wrapped by [Source.Get] for what the Source knows not to exist.
var ErrNotFound = errors.New("evidence: no such collateral")

type peerKey struct{}

// FromPeer returns ctx, for Verify, with a short name of who sent the Evidence,
// such as a network address. Evidence names a chip before anybody knows that the
// chip signed it, so Sources that ask a vendor limit what one peer makes them ask.
func FromPeer(ctx context.Context, peer string) context.Context {
	return context.WithValue(ctx, peerKey{}, peer)
}

// Peer returns the name that [FromPeer] gave to ctx, or false.
func Peer(ctx context.Context) (string, bool) {
	peer, ok := ctx.Value(peerKey{}).(string)
	return peer, ok
}
