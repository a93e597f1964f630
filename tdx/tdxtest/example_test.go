package tdxtest_test

import (
	"context"
	"fmt"
	"slices"

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

// The event log of a TD, and logs that do not say what its registers were extended
// with.
func ExampleEventLog() {
	log := tdxtest.EventLog{
		{RTMR: 0, Data: []byte("firmware")},
		{RTMR: 0, Data: []byte("its configuration")},
		{RTMR: 2, Type: 0x0D, Data: []byte("the name of an image"), Digest: [48]byte{1}},
		{RTMR: 3, Name: "app-id", Data: []byte{1}},
	}
	intel := tdxtest.NewIntel()
	platform := intel.Platform(tdx.PlatformCA)
	v, err := tdx.NewVerifier(tdx.Config{Anchors: intel.Anchors(), Source: intel.Source()})
	if err != nil {
		fmt.Println(err)
		return
	}
	want := evidence.UncheckedBindingUnsafe()
	verify := func(claim string, along func([]evidence.Item) []evidence.Item) {
		got, err := v.Verify(context.Background(), platform.Quote(tdxtest.TD{Log: log, Items: along}, want), want)
		fmt.Printf("%s: %v\n", claim, err)
		if c, ok := tdx.ClaimsOf(got); ok {
			for _, e := range c.Events {
				fmt.Printf("  RTMR%d %s %q\n", e.RTMR, e.Name, e.Data)
			}
		}
	}
	verify("as it is", nil)
	verify("an event dropped", func([]evidence.Item) []evidence.Item { return log[1:].Items() })
	verify("a wrong digest", func([]evidence.Item) []evidence.Item {
		bad := slices.Clone(log)
		bad[1].Digest = [48]byte{2}
		return bad.Items()
	})
	verify("cut short", func(items []evidence.Item) []evidence.Item {
		items[0].Data = items[0].Data[:len(items[0].Data)-1]
		return items
	})
	// Output:
	// as it is: <nil>
	//   RTMR0  "firmware"
	//   RTMR0  "its configuration"
	//   RTMR2  ""
	//   RTMR3 app-id "\x01"
	// an event dropped: tdx-quote: RTMR0: bad-signature: not what the event log makes of it
	// a wrong digest: tdx-quote: RTMR0: bad-signature: not what the event log makes of it
	// cut short: tdx-quote: tdx-ccel: malformed: cut short
}
