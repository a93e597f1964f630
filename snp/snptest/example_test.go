package snptest_test

import (
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// A guest of a simulated Turin has a report made.
func ExampleChip_Report() {
	amd := snptest.NewAMD()
	chip := amd.Chip(snp.Turin)

	nonce, err := evidence.NewBinding([]byte("sixteen bytes or more"))
	if err != nil {
		fmt.Println(err)
		return
	}
	ev := chip.Report(snptest.Guest{Measurement: [48]byte{0xAB}}, nonce)

	report, err := snp.ParseReport(ev.Raw)
	if err != nil {
		fmt.Println(err)
		return
	}
	data, measured := report.ReportData(), report.Measurement()
	fmt.Println("version", report.Version())
	fmt.Println("bound:", nonce.MatchPadded(&data))
	fmt.Printf("measured %x…\n", measured[:2])
	fmt.Println("beside it:", ev.Items[0].Type)
	// Output:
	// version 5
	// bound: true
	// measured ab00…
	// beside it: snp-cert-table
}
