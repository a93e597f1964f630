package snp_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-sev-guest/verify/testdata"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

// genuineEvidence is a genuine report with its VCEK, from go-sev-guest.
func genuineEvidence() evidence.Evidence {
	return evidence.Evidence{
		Format: snp.Format,
		Raw:    testdata.AttestationBytes[:1184],
		Items:  []evidence.Item{{Type: snp.VEK, Data: testdata.VcekBytes}},
	}
}

func Example() {
	verifier, err := snp.NewVerifier(snp.Config{
		Anchors: snp.AMD(),
		Source:  files{}, // VEKs and CRLs; here there are none
		Time:    func() time.Time { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) },

		SkipRevocationUnsafe: true, // and so the result says that it was not checked
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ev := genuineEvidence()
	want, err := evidence.NewBinding(ev.Raw[0x050:0x090]) // what a challenger knows, here from the report
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := verifier.Verify(context.Background(), ev, want)
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, _ := snp.ClaimsOf(got)
	fmt.Println(claims.Line, claims.Key, claims.CurrentVersion(), "bound:", got.Bound, "skipped:", got.Skipped)
	fmt.Println("a debugger may look in:", claims.Policy()&snp.Debug != 0)
	// Output:
	// Milan VCEK 1.49.3 bound: true skipped: [revocation]
	// a debugger may look in: true
}

func ExampleVerifier_Verify_refused() {
	verifier, err := snp.NewVerifier(snp.Config{
		Anchors: snp.AMD(),
		Source:  files{},
		Time:    func() time.Time { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = verifier.Verify(context.Background(), genuineEvidence(), evidence.UncheckedBindingUnsafe())
	var e *evidence.Error
	fmt.Println(errors.Is(err, evidence.Unavailable), errors.As(err, &e))
	fmt.Println(e.Check, e.Field)
	// Output:
	// true true
	// revocation CRL
}

func ExampleParseReport() {
	r, err := snp.ParseReport(genuineEvidence().Raw)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("says, and nothing vouches for it: version", r.Version(), "VMPL", r.VMPL(), "key", r.SigningKey())
	// Output: says, and nothing vouches for it: version 2 VMPL 0 key VCEK
}

func ExampleReport_All() {
	r, err := snp.ParseReport(genuineEvidence().Raw)
	if err != nil {
		fmt.Println(err)
		return
	}
	for name, value := range r.All() {
		if name == "snp.policy.debug" || name == "snp.current_version" {
			fmt.Println(name, value)
		}
	}
	// Output:
	// snp.policy.debug true
	// snp.current_version 1.49.3
}

func ExampleAMD() {
	for _, a := range snp.AMD() {
		sum := sha256.Sum256(a.ARK)
		fmt.Printf("%v %x…\n", a.Line, sum[:8])
	}
	// Output:
	// Milan 69d063b45344d26a…
	// Genoa 4c6598d19c18719c…
	// Turin 1f084161a44bb6d9…
}

func ExampleChecks() {
	for _, c := range snp.Checks()[:3] {
		fmt.Printf("%s: %s\n", c.Name, c.Doc)
	}
	// Output:
	// format: the evidence is an SNP report and rests on no other evidence
	// items: what came along is a VEK and a well-formed certificate table, at most one of each
	// size: the report has exactly 1184 bytes
}

func ExampleVCEKName() {
	chip := snp.ChipID{0x3B, 0x42, 0x2E, 0x2F}
	fmt.Println(snp.VCEKName(chip, snp.TCB{Line: snp.Turin, FMC: 1, Bootloader: 1, TEE: 1, Firmware: 4, Microcode: 81}))
	fmt.Println(snp.VLEKName(snp.TCB{Line: snp.Milan, Bootloader: 4, Firmware: 24, Microcode: 219}))
	fmt.Println(snp.CRLName(snp.Milan, snp.VCEK))
	// Output:
	// /vcek/v1/Turin/3b422e2f00000000?fmcSPL=1&blSPL=1&teeSPL=1&snpSPL=4&ucodeSPL=81
	// /vlek/v1/Milan/cert?blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219
	// /vcek/v1/Milan/crl
}

func ExampleNamesOf() {
	for _, name := range snp.NamesOf(testdata.VcekBytes) {
		path, query, _ := strings.Cut(name, "?")
		fmt.Println(path[:24]+"…", query)
	}
	// Output: /vcek/v1/Milan/3ac3fe21e… blSPL=2&teeSPL=0&snpSPL=5&ucodeSPL=68
}

func ExampleTableVEKs() {
	veks, err := snp.TableVEKs(certTable(entry{vcekGUID, testdata.VcekBytes}))
	fmt.Println(len(veks), err)
	// Output: 1 <nil>
}

func ExampleTCB_AtLeast() {
	floor := snp.TCB{Line: snp.Milan, Bootloader: 4, Firmware: 24, Microcode: 219}
	older := snp.TCB{Line: snp.Milan, Bootloader: 9, Firmware: 23, Microcode: 255}
	fmt.Println(floor.AtLeast(floor), older.AtLeast(floor))
	// Output: true false
}
