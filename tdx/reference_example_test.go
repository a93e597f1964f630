package tdx_test

import (
	"fmt"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
)

func ExampleReferenceValues() {
	// An image whose RTMR0 depends on the machine, and that extends RTMR3 itself.
	rv := tdx.Baseline([48]byte{1}, [4][48]byte{{}, {2}, {3}, {}})
	rv.RTMR0 = evidence.Anything[[48]byte]()
	rv.RequireAttributes = tdx.SEPTVEDisable
	rv.OutOfDateGrace = 30 * 24 * time.Hour // to install what Intel released

	// A Verifier makes these; here they claim zeros, of a platform that is out of date.
	checked := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	got := &evidence.Verified{Format: tdx.Format, CheckedAt: checked, Claims: &tdx.Claims{TCB: tdx.TCB{
		Status:   tdx.OutOfDate,
		Platform: tdx.Level{Status: tdx.OutOfDate, Date: checked.AddDate(-1, 0, 0)},
		Module:   tdx.Level{Status: tdx.UpToDate},
		QE:       tdx.Level{Status: tdx.UpToDate},
	}}}
	for _, m := range rv.Appraise(got) {
		if len(m.String()) < 100 { // leave out the registers
			fmt.Println(m)
		}
	}
	// Output:
	// tdx.body_type: got 0, want one of [2 3]
	// tdx.td_attributes.sept_ve_disable: got false, want equal true
	// tdx.tcb.status: got OutOfDate, want one of [UpToDate]
	// tdx.tcb.platform.date: got 2025-03-01T00:00:00Z, want at least 2026-01-30T00:00:00Z
}

func ExampleDecodeReferenceValues() {
	rv, err := tdx.DecodeReferenceValues([]byte(`{"statuses": ["UpToDate", "SWHardeningNeeded"], "allow_smt": true, "mrowner": "*"}`), false)
	fmt.Println(rv.Statuses.Values(), rv.AllowSMT, rv.MROwner.IsAnything(), err)

	// What a complete object leaves out accepts nothing.
	fmt.Println(rv.MRTD.Values(), rv.MRTD.IsAnything())

	_, err = tdx.DecodeReferenceValues([]byte(`{"statuses": ["Revoked"]}`), false)
	fmt.Println(err)
	// Output:
	// [UpToDate SWHardeningNeeded] true true <nil>
	// [] false
	// tdx: reference values: statuses: element 1: Revoked is never accepted
}
