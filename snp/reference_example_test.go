package snp_test

import (
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

func ExampleReferenceValues() {
	// What is known of a Genoa by the firmware that its owner wants to see at least.
	least := snp.TCB{Line: snp.Genoa, Bootloader: 10, Firmware: 25, Microcode: 84}
	rv := snp.Baseline([]snp.Floor{{
		Family: 0x19, MinModel: 0x10, MaxModel: 0x1F, Steppings: evidence.OneOf[uint8](1),
		Minimum: snp.Minimum{Reported: least, Committed: least, Launch: least},
	}}, [48]byte{1})
	rv.AllowSMT = false
	rv.DenyPlatform = snp.SMTEnabled
	rv.Lines = evidence.OneOf(snp.Genoa, snp.Turin)

	// A Verifier makes these; here they claim zeros, signed by a Milan's VLEK.
	got := &evidence.Verified{Format: snp.Format, Claims: &snp.Claims{Line: snp.Milan, Key: snp.VLEK, CSP: "CN=csp.example"}}
	for _, m := range rv.Appraise(got) {
		if m.Claim != "snp.measurement" {
			fmt.Println(m)
		}
	}
	// Output:
	// snp.line: got Milan, want one of [Genoa Turin]
	// snp.key: got VLEK, want one of [VCEK]
	// snp.csp: got CN=csp.example, want one of []
	// snp.version: got 0, want at least 2
}

func ExampleDecodeReferenceValues() {
	rv, err := snp.DecodeReferenceValues([]byte(`{"vmpls": [0, 2], "allow_debug": false, "host_data": "*"}`), false)
	fmt.Println(rv.VMPLs.Values(), rv.AllowDebug, rv.HostData.IsAnything(), err)

	// What a complete object leaves out accepts nothing.
	fmt.Println(rv.Measurements.Values(), rv.Measurements.IsAnything())

	_, err = snp.DecodeReferenceValues([]byte(`{"allow_debugging": false}`), false)
	fmt.Println(err)
	// Output:
	// [0 2] false true <nil>
	// [] false
	// snp: reference values: unknown member "allow_debugging"
}
