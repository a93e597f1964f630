package keylime_test

import (
	"context"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/protocol/keylime"
	"github.com/teebroker/teebroker/snp/snptest"
)

// edited is a Verifier whose results are not what they should be.
type edited struct {
	evidence.Verifier
	edit func(*evidence.Verified)
}

func (e edited) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	v, err := e.Verifier.Verify(ctx, ev, want)
	if err == nil {
		e.edit(v)
	}
	return v, err
}

// What a Broker does not take for a result is none here.
func TestUnsoundIsRefused(t *testing.T) {
	w, c := simulated(), newCaller(t)
	data := body(c.snp(t, w, snptest.Guest{}))
	now := time.Now()
	for name, v := range map[string]struct {
		edit func(*evidence.Verified)
		id   string // if empty, it is valid
	}{
		"as it is":       {func(*evidence.Verified) {}, ""},
		"without a root": {func(v *evidence.Verified) { v.Root = [32]byte{} }, "vcek_fetch"},
		"with a layer": {func(v *evidence.Verified) {
			v.Layers = []*evidence.Verified{{Format: v.Format, Claims: v.Claims, Bound: true}}
		}, "vcek_fetch"},
		"without claims":   {func(v *evidence.Verified) { v.Claims = nil }, "vcek_fetch"},
		"that has ended":   {func(v *evidence.Verified) { v.NotAfter = now }, "stale"},
		"that never began": {func(v *evidence.Verified) { v.NotAfter = time.Time{} }, "stale"},
	} {
		h := w.handler(t, func(cfg *keylime.Config) {
			cfg.Verifier, cfg.Time = edited{cfg.Verifier, v.edit}, func() time.Time { return now }
		})
		_, _, r := post(t, h, data)
		if r.Valid != (v.id == "") || v.id != "" && r.ids()[0] != "tee_attestation."+v.id {
			t.Errorf("a result %s: %+v", name, r)
		}
	}
}
