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

// A document that its chain did not sign goes no further than the Source: a Cache
// behind it need not find out.
func TestSourceRefuses(t *testing.T) {
	f := tdxtest.FMSPC(tdx.PlatformCA)
	right := intel.SignTCBInfo(intel.TCBInfo(f))
	other := tdxtest.NewIntel().SignTCBInfo(intel.TCBInfo(f))
	changed := bytes.Replace(right.Data, []byte(`"OutOfDate"`), []byte(`"UpToDate"`), 1)
	for name, tt := range map[string]struct {
		c    evidence.Collateral
		want error
	}{
		"what is right":          {right, nil},
		"another signer's chain": {evidence.Collateral{Data: right.Data, Issuer: other.Issuer}, evidence.Unavailable},
		"another status":         {evidence.Collateral{Data: changed, Issuer: right.Issuer}, evidence.Unavailable},
		"of another platform":    {intel.SignTCBInfo(intel.TCBInfo(tdxtest.FMSPC(tdx.ProcessorCA))), evidence.Unavailable},
		"a QE identity":          {intel.SignQEIdentity(intel.QEIdentity()), evidence.Unavailable},
	} {
		s := pcstest.New(intel)
		s.Publish(tdx.TCBInfoName(f), tt.c)
		got, err := source(t, s.Client(), nil).Get(t.Context(), tdx.TCBInfoName(f))
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) || (got == nil) != (err != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
