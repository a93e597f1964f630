package tdx_test

import (
	"testing"

	"github.com/teebroker/teebroker/tdx"
)

// What the certificate says is claimed, and what only a Platform CA says by no
// other. Faults of its extension are in memberFaults.
func TestPCK(t *testing.T) {
	f := newFake(t)
	p := f.claims().PCK
	want := tdx.Configuration{DynamicPlatform: true, SMTEnabled: true}
	if p.PPID != f.platform.PCK.PPID || p.PlatformInstance == [16]byte{} || p.PlatformInstance != f.platform.PCK.PlatformInstance ||
		p.FMSPC != fakeFMSPC || p.Components[7] != 255 || p.PCESVN != 0x1234 || p.Configuration != want || p.CA != tdx.PlatformCA {
		t.Errorf("%+v", p)
	}
	f.setCA(tdx.ProcessorCA)
	p = f.claims().PCK
	if p.PlatformInstance != [16]byte{} || p.Configuration != (tdx.Configuration{}) || p.CA != tdx.ProcessorCA {
		t.Errorf("%+v", p)
	}
}
