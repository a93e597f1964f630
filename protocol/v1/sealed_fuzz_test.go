package v1_test

import (
	"bytes"
	"testing"

	"github.com/teebroker/teebroker"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// Whatever answers a guest, nothing is opened that was not sealed for it.
func FuzzSealedAnswer(f *testing.F) {
	w := newWorld(f, func(_ *world, c *teebroker.Config, _ *v1.Config) { c.RequestKeys = requestKeys(f) })
	o := &owned{world: w}
	sealed, answer, err := o.sealer().Seal(v1.PathNonce, nil)
	w.check(err)
	_, good := o.postSealed(sealed)
	want, err := answer.Open(good)
	w.check(err)
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"v":1,"salt":"AA","ct":"AA"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := answer.Open(b); err == nil && !bytes.Equal(got, want) || err != nil && bytes.Equal(b, good) {
			t.Errorf("%q: %q, %v", b, got, err)
		}
	})
}
