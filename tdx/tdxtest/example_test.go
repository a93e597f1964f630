package tdxtest_test

import (
	"context"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// A Verifier that trusts a simulated vendor, and a TD on one of its platforms.
func Example() {
	intel := tdxtest.NewIntel()
	platform := intel.Platform(tdx.PlatformCA)
	v, err := tdx.NewVerifier(tdx.Config{Anchors: intel.Anchors(), Source: intel.Source()})
	if err != nil {
		fmt.Println(err)
		return
	}
	want, err := evidence.NewBinding([]byte("what the guest is asked to have signed"))
	if err != nil {
		fmt.Println(err)
		return
	}

	got, err := v.Verify(context.Background(), platform.Quote(tdxtest.TD{}, want), want)
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, _ := tdx.ClaimsOf(got)
	fmt.Println(claims.PCK.FMSPC, "by the", claims.PCK.CA, "CA:", claims.TCB.Status)

	platform.Launched[abi.SVNModule] = 4 // an old TDX module
	got, err = v.Verify(context.Background(), platform.Quote(tdxtest.TD{Version: 5}, want), want)
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, _ = tdx.ClaimsOf(got)
	fmt.Println(claims.TCB.Status, claims.TCB.Updates())

	debugged := tdxtest.TD{Fault: func(quote []byte) []byte {
		quote[abi.BodyV4+abi.TDAttributes] |= byte(tdx.Debug)
		return quote
	}}
	_, err = v.Verify(context.Background(), platform.Quote(debugged, want), want)
	fmt.Println(err)
	// Output:
	// 90c06f000000 by the platform CA: UpToDate
	// RelaunchAdvised [relaunch]
	// tdx-quote: Quote Signature: bad-signature
}
