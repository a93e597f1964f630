package vtpm_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// vouched is a quote of d over extra, with a boot log and a list.
func vouched(t testing.TB, d vtpmtest.Device, extra []byte) vtpm.Vouched {
	t.Helper()
	raw, pcrs := d.Quote(vtpmtest.Quote{Extra: extra}, evidence.Binding{})
	q, err := vtpm.ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	ak, err := vtpm.ParsePublic(d.AK())
	if err != nil {
		t.Fatal(err)
	}
	return vtpm.Vouched{AK: ak, Quote: q, PCRs: pcrs}
}

func TestVouched(t *testing.T) {
	d := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	event := vtpmtest.Event{Index: 7, Data: []byte("one")}
	vtpmtest.Apply(d, event)
	files := []vtpmtest.IMAEntry{vtpmtest.BootAggregate(d), {Path: "/bin/sh"}}
	vtpmtest.Measure(d, files...)
	extra := []byte("a nonce")
	good := vouched(t, d, extra)
	good.EventLog, good.IMA = vtpmtest.EventLog(event), vtpmtest.IMAList(files...)
	c, err := good.Open(extra)
	if err != nil || c.Link != vtpm.LinkUnlinked || len(c.Events) != 1 || c.IMA.Entries != 2 || !c.IMA.BootAggregate {
		t.Fatalf("%+v, %v", c, err)
	}
	if ms := vtpm.Baseline().Appraise(&evidence.Verified{Format: vtpm.Format, Claims: c, Bound: true}); len(ms) == 0 {
		t.Error("a policy accepts a quote that only a caller vouches for")
	}
	other := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	loose := vtpmtest.NewTPM(vtpmtest.ECC, nil, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false })
	for name, v := range map[string]struct {
		edit   func(*vtpm.Vouched)
		extra  []byte
		check  string
		reason evidence.Reason
	}{
		"another nonce":      {func(*vtpm.Vouched) {}, []byte("a nonse"), "binding", evidence.NotBound},
		"no nonce":           {func(v *vtpm.Vouched) { *v = vouched(t, d, []byte{}) }, nil, "binding", evidence.NotBound},
		"another AK":         {func(v *vtpm.Vouched) { v.AK = vouched(t, other, extra).AK }, extra, "signature", evidence.BadSignature},
		"an unrestricted AK": {func(v *vtpm.Vouched) { *v = vouched(t, loose, extra) }, extra, "ak", evidence.Untrusted},
		"no AK":              {func(v *vtpm.Vouched) { v.AK = vtpm.Public{} }, extra, "ak", evidence.Untrusted},
		"no quote":           {func(v *vtpm.Vouched) { v.Quote = vtpm.Quote{ExtraData: extra} }, extra, "quote", evidence.Malformed},
		"other PCRs":         {func(v *vtpm.Vouched) { v.PCRs = bytes.Repeat([]byte{1}, len(v.PCRs)) }, extra, "pcrs", evidence.BadSignature},
		"no PCRs":            {func(v *vtpm.Vouched) { v.PCRs = nil }, extra, "pcrs", evidence.Malformed},
		"another log":        {func(v *vtpm.Vouched) { v.EventLog = vtpmtest.EventLog(event, event) }, extra, "event-log", evidence.BadSignature},
		"an empty log":       {func(v *vtpm.Vouched) { v.EventLog = []byte{} }, extra, "event-log", evidence.Malformed},
		"a long log":         {func(v *vtpm.Vouched) { v.EventLog = make([]byte, vtpm.MaxEventLogSize+1) }, extra, "items", evidence.Malformed},
		"another list":       {func(v *vtpm.Vouched) { v.IMA = vtpmtest.IMAList(files[0]) }, extra, "ima", evidence.BadSignature},
	} {
		bad := good
		v.edit(&bad)
		_, err := bad.Open(v.extra)
		var e *evidence.Error
		if !errors.As(err, &e) || e.Check != v.check || e.Reason != v.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What a view says is not what was signed.
	lying := good
	lying.Quote.ExtraData = []byte("another")
	if c, err := lying.Open([]byte("another")); err == nil {
		t.Errorf("a view that was written to: %+v", c)
	}
}

func ExampleVouched() {
	d := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	raw, pcrs := d.Quote(vtpmtest.Quote{Extra: []byte("nonce of the caller")}, evidence.Binding{})
	quote, err := vtpm.ParseQuote(raw)
	if err != nil {
		fmt.Println(err)
		return
	}
	ak, err := vtpm.ParsePublic(d.AK())
	if err != nil {
		fmt.Println(err)
		return
	}
	v := vtpm.Vouched{AK: ak, Quote: quote, PCRs: pcrs}
	claims, err := v.Open([]byte("nonce of the caller"))
	fmt.Println(claims.Link, err)
	_, err = v.Open([]byte("another nonce"))
	fmt.Println(err)
	// Output:
	// unlinked <nil>
	// vtpm: extraData: not-bound
}

func ExampleHashEK() {
	d := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	ek, err := vtpm.ParsePublic(d.EK())
	if err != nil {
		fmt.Println(err)
		return
	}
	hashed, err := vtpm.HashEK(ek.Area())
	if err != nil {
		fmt.Println(err)
		return
	}
	id, err := vtpm.AgentID(d.EKKey())
	fmt.Println(len(hashed), hashed == id, err)
	_, err = vtpm.HashEK(ek.Area()[1:])
	fmt.Println(err != nil)
	// Output:
	// 64 true <nil>
	// true
}
