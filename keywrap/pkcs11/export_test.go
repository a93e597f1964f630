//go:build cgo

package pkcs11

import "context"

// State is the number of the state of t.
func (t *Token) State() int { return t.state.number }

// Reset makes t new if its state is still of this number.
func (t *Token) Reset(ctx context.Context, number int) error { return t.reset(ctx, number) }

// Occupy takes every session of t, and the result gives them back.
func (t *Token) Occupy() (free func()) {
	for range cap(t.turns) {
		t.turns <- struct{}{}
	}
	return func() { t.giveBack(cap(t.turns)) }
}
