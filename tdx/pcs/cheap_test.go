package pcs_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/pcs/pcstest"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// Nobody is asked about a quote that the platform of Intel's did not sign for this
// nonce: so the FMSPC in a name is Intel's word, and not that of who sent the quote.
func TestNothingIsAskedForWhatNobodySigned(t *testing.T) {
	p := intel.Platform(tdx.PlatformCA)
	genuine := p.Quote(tdxtest.TD{}, want)
	other, err := evidence.NewBinding([]byte("another nonce"))
	if err != nil {
		t.Fatal(err)
	}
	s := pcstest.New(intel)
	v := verifier(t, source(t, s.Client(), nil))
	refuse := func(name string, ev evidence.Evidence, want evidence.Binding, reason error) {
		t.Helper()
		if _, err := v.Verify(t.Context(), ev, want); !errors.Is(err, reason) {
			t.Errorf("%s: %v, want %v", name, err, reason)
		}
		if n := s.Requests(); n != 0 {
			t.Fatalf("%s: %d requests", name, n)
		}
	}
	refuse("another nonce", genuine, other, evidence.NotBound)
	refuse("no nonce", genuine, evidence.Binding{}, evidence.NotBound)
	refuse("another vendor's", tdxtest.NewIntel().Platform(tdx.PlatformCA).Quote(tdxtest.TD{}, want), want, evidence.Untrusted)
	cut := genuine
	cut.Raw = genuine.Raw[:len(genuine.Raw)-1]
	refuse("cut", cut, want, evidence.Malformed)
	layers := genuine
	layers.Layers = make([]evidence.Evidence, 1)
	refuse("layers", layers, want, evidence.Malformed)
	log := genuine
	log.Items = []evidence.Item{{Type: tdx.RuntimeLog, Data: []byte("[]x")}}
	refuse("a broken event log", log, want, evidence.Malformed)

	unsure := evidence.UncheckedBindingUnsafe()
	for bit := 0; bit < 8*len(genuine.Raw); bit += 61 {
		s := pcstest.New(intel)
		ev := genuine
		ev.Raw = bytes.Clone(genuine.Raw)
		ev.Raw[bit/8] ^= 1 << (bit % 8)
		_, err := verifier(t, source(t, s.Client(), nil)).Verify(t.Context(), ev, unsure)
		if n := s.Requests(); err == nil || n != 0 {
			t.Errorf("bit %d flipped: %v, %d requests", bit, err, n)
		}
	}
}
