package cca

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/teebroker/teebroker/evidence"
)

// Live is an [evidence.Verifier] whose anchors can be replaced while it is in
// use: it holds the [Verifier] to ask. Each Verify is answered by one Verifier
// from begin to end, the one that was stored last when it began. What a Verifier
// remembers goes with it, so that an anchor that is gone is gone at once.
//
// The zero Live trusts nobody. It must not be copied, and is safe for concurrent use.
type Live struct{ verifier atomic.Pointer[Verifier] }

// Store makes v the Verifier to ask. Nil trusts nobody.
func (l *Live) Store(v *Verifier) { l.verifier.Store(v) }

// Verify implements [evidence.Verifier].
func (l *Live) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	v := l.verifier.Load()
	if v == nil {
		return nil, fail(checkAnchor, evidence.Untrusted, "cca-platform-instance-id", errors.New("no anchors"))
	}
	return v.Verify(ctx, ev, want)
}
