package tdx_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// A Head says what the document does, and what is no document has none.
func TestHeadOf(t *testing.T) {
	n := tdxtest.NewIntel()
	info, id := n.TCBInfo(tdxtest.FMSPC(tdx.PlatformCA)), n.QEIdentity()
	from := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	info.Number, info.Issued, info.NextUpdate = 21, from, from.AddDate(0, 0, 30)
	id.Number, id.Issued, id.NextUpdate = 22, from.AddDate(0, 0, 1), from.AddDate(0, 0, 31)
	for _, tt := range []struct {
		data []byte
		want tdx.Head
	}{
		{n.SignTCBInfo(info).Data, tdx.Head{Name: tdx.TCBInfoName(tdxtest.FMSPC(tdx.PlatformCA)), Issued: from, NextUpdate: from.AddDate(0, 0, 30), EvaluationDataNumber: 21}},
		{n.SignQEIdentity(id).Data, tdx.Head{Name: tdx.QEIdentityName(), Issued: from.AddDate(0, 0, 1), NextUpdate: from.AddDate(0, 0, 31), EvaluationDataNumber: 22}},
	} {
		if got, ok := tdx.HeadOf(tt.data); !ok || got != tt.want {
			t.Errorf("%+v, %v, want %+v", got, ok, tt.want)
		}
	}
	for _, data := range [][]byte{nil, []byte("{}"), n.CRL(tdxtest.CRL{}), append(n.SignTCBInfo(info).Data, 'x')} {
		if got, ok := tdx.HeadOf(data); ok || got != (tdx.Head{}) {
			t.Errorf("%.40q: %+v", data, got)
		}
	}
}

func ExampleHeadOf() {
	n := tdxtest.NewIntel() // in place of Intel
	head, ok := tdx.HeadOf(n.SignQEIdentity(n.QEIdentity()).Data)
	fmt.Println(head.Name, head.EvaluationDataNumber, ok)
	// Output: /tdx/certification/v4/qe/identity 18 true
}
