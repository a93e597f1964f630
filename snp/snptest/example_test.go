package snptest_test

import (
	"context"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// A Verifier that trusts a simulated vendor, and a guest on one of its chips.
func Example() {
	amd := snptest.NewAMD()
	chip := amd.Chip(snp.Turin)
	v, err := snp.NewVerifier(snp.Config{Anchors: amd.Anchors(), Source: amd.Source()})
	if err != nil {
		fmt.Println(err)
		return
	}
	want, err := evidence.NewBinding([]byte("what the guest is asked to have signed"))
	if err != nil {
		fmt.Println(err)
		return
	}

	got, err := v.Verify(context.Background(), chip.Report(snptest.Guest{VMPL: 1}, want), want)
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, _ := snp.ClaimsOf(got)
	fmt.Println(claims.Line, claims.Key, "of the chip:", claims.Chip == chip.ID(), "VMPL", claims.VMPL())

	debugged := snptest.Guest{Fault: func(report []byte) []byte { report[0x0A] |= 0x08; return report }}
	_, err = v.Verify(context.Background(), chip.Report(debugged, want), want)
	fmt.Println(err)
	// Output:
	// Turin VCEK of the chip: true VMPL 1
	// snp-report: SIGNATURE: bad-signature
}
