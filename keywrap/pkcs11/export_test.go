//go:build cgo

package pkcs11

// Occupy takes every session of t, and the result gives them back.
func (t *Token) Occupy() (free func()) {
	for range cap(t.turns) {
		t.turns <- struct{}{}
	}
	return func() { t.giveBack(cap(t.turns)) }
}
