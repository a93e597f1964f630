package tdx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
)

// genuineEvidence is a genuine quote, from go-tdx-guest, without the text that is
// appended there.
func genuineEvidence() evidence.Evidence {
	quote, _ := bytes.CutSuffix(testdata.RawQuote, []byte("\nextra bytes(only for testing purpose)\n"))
	return evidence.Evidence{Format: tdx.Format, Raw: quote}
}

// in2023 is when go-tdx-guest's quote could be verified.
func in2023() time.Time { return time.Date(2023, 7, 1, 0, 0, 0, 0, time.UTC) }

func Example() {
	verifier, err := tdx.NewVerifier(tdx.Config{
		Anchors: tdx.Intel(),
		Source:  files{}, // TCB Info, QE identity and CRLs; here there are none
		Time:    in2023,

		SkipRevocationUnsafe: true, // and so the result says that it was not checked
		SkipTCBUnsafe:        true, // and this too
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ev := genuineEvidence()
	q, err := tdx.ParseQuote(ev.Raw)
	if err != nil {
		fmt.Println(err)
		return
	}
	data := q.ReportData()
	want, err := evidence.NewBinding(data[:]) // what a challenger knows, here from the quote
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := verifier.Verify(context.Background(), ev, want)
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, _ := tdx.ClaimsOf(got)
	fmt.Println("version", claims.Version(), "platform", claims.PCK.FMSPC, claims.PCK.CA, "bound:", got.Bound, "skipped:", got.Skipped)
	fmt.Println("a debugger may look in:", claims.Attributes()&tdx.TUD != 0)
	// Output:
	// version 4 platform 50806f000000 platform bound: true skipped: [revocation tcb]
	// a debugger may look in: false
}

func ExampleVerifier_Verify_refused() {
	verifier, err := tdx.NewVerifier(tdx.Config{Anchors: tdx.Intel(), Source: files{}, Time: in2023})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = verifier.Verify(context.Background(), genuineEvidence(), evidence.UncheckedBindingUnsafe())
	fmt.Println(errors.Is(err, evidence.Unavailable), err)
	var e *evidence.Error
	if errors.As(err, &e) {
		fmt.Println(e.Check, e.Field)
	}
	// Output:
	// true tdx-quote: Root CA CRL: unavailable: evidence: no such collateral
	// revocation Root CA CRL
}

func ExampleParseQuote() {
	q, err := tdx.ParseQuote(genuineEvidence().Raw)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("nothing of this is verified:", q.Version(), q.TEETCBSVN().ModuleVersion(), q.TEETCBSVN().Module())
	_, err = tdx.ParseQuote([]byte("no quote"))
	fmt.Println(err)
	// Output:
	// nothing of this is verified: 4 0 3
	// tdx-quote: Quote: malformed: 8 bytes
}
