package tdx_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// extended makes the registers of f what the logs make of them.
func (f *fake) extended(logs ...tdx.EventLog) {
	for _, l := range logs {
		for i, r := range l.RTMRs() {
			if r != [48]byte{} {
				copy(f.body[abi.RTMR0+i*abi.MRSize:], r[:])
			}
		}
	}
}

// measured returns a log of every register and one of the runtime, and makes the
// registers what they are after both.
func (f *fake) measured() (ccel, runtime []byte) {
	ccel = tdx.CCELOf(
		tdx.Measured(1, "firmware"),
		tdx.CCELEvent{Index: 2, Type: 0x80000003, Digest: [48]byte{1}, Data: []byte("an image")},
		tdx.Measured(3, "command line"),
	)
	runtime = fmt.Appendf(nil, "[%s,%s]", tdx.RuntimeEventJSON("app-id", "\x01"), tdx.RuntimeEventJSON("ready", ""))
	for _, parse := range []func() (tdx.EventLog, error){
		func() (tdx.EventLog, error) { return tdx.ParseCCEL(ccel) },
		func() (tdx.EventLog, error) { return tdx.ParseRuntimeLog(runtime) },
	} {
		l, err := parse()
		if err != nil {
			f.t.Fatal(err)
		}
		f.extended(l)
	}
	return ccel, runtime
}

// allItems returns logs with events of all registers.
func (f *fake) allItems() []evidence.Item {
	ccel, runtime := f.measured()
	return []evidence.Item{{Type: tdx.CCEL, Data: ccel}, {Type: tdx.RuntimeLog, Data: runtime}}
}

// A log is believed as far as the registers say, and refused if they say otherwise.
func TestVerifyEventLogs(t *testing.T) {
	f := newFake(t)
	ccel, runtime := f.measured()
	raw := f.quote()
	log := func(data []byte) evidence.Item { return evidence.Item{Type: tdx.CCEL, Data: data} }
	json := func(data []byte) evidence.Item { return evidence.Item{Type: tdx.RuntimeLog, Data: data} }
	one, two := tdx.RuntimeEventJSON("app-id", "\x01"), tdx.RuntimeEventJSON("ready", "")
	firmware, image, line := tdx.Measured(1, "firmware"), tdx.CCELEvent{Index: 2, Digest: [48]byte{1}}, tdx.Measured(3, "command line")
	for _, tt := range []struct {
		name   string
		items  []evidence.Item
		events int
		reason evidence.Reason
		check  string
		field  string
	}{
		{"no log", nil, 0, "", "", ""},
		{"both", []evidence.Item{log(ccel), json(runtime)}, 5, "", "", ""},
		{"both, the other way round", []evidence.Item{json(runtime), log(ccel)}, 5, "", "", ""},
		{"firmware only", []evidence.Item{log(ccel)}, 3, "", "", ""},
		{"runtime only", []evidence.Item{json(runtime)}, 2, "", "", ""},
		{"some registers only", []evidence.Item{log(tdx.CCELOf(firmware))}, 1, "", "", ""},
		{"an empty log", []evidence.Item{log(tdx.CCELOf())}, 0, "", "", ""},
		{"an event dropped", []evidence.Item{json([]byte("[" + one + "]"))}, 0, evidence.BadSignature, "event-log", "RTMR3"},
		{"an event added", []evidence.Item{log(tdx.CCELOf(firmware, firmware, image, line))}, 0, evidence.BadSignature, "event-log", "RTMR0"},
		{"events swapped", []evidence.Item{json([]byte("[" + two + "," + one + "]"))}, 0, evidence.BadSignature, "event-log", "RTMR3"},
		{"an event of another register", []evidence.Item{log(tdx.CCELOf(firmware, line, tdx.CCELEvent{Index: 3, Digest: [48]byte{1}}))}, 0, evidence.BadSignature, "event-log", "RTMR2"},
		{"another payload under the digest", []evidence.Item{json(bytes.Replace(runtime, []byte(`"event_payload":"01"`), []byte(`"event_payload":"02"`), 1))}, 0, evidence.BadSignature, "event-log", tdx.RuntimeLog},
		{"another name under the digest", []evidence.Item{json(bytes.Replace(runtime, []byte(`app-id`), []byte(`app-ic`), 1))}, 0, evidence.BadSignature, "event-log", tdx.RuntimeLog},
		{"two of one type", []evidence.Item{log(ccel), log(ccel)}, 0, evidence.Malformed, "items", tdx.CCEL},
		{"two of which one is empty", []evidence.Item{log(tdx.CCELOf()), log(ccel)}, 0, evidence.Malformed, "items", tdx.CCEL},
		{"a log under the other's name", []evidence.Item{json(ccel)}, 0, evidence.Malformed, "items", tdx.RuntimeLog},
		{"too long", []evidence.Item{log(append(bytes.Clone(ccel), make([]byte, tdx.MaxEventLogSize)...))}, 0, evidence.Malformed, "items", tdx.CCEL},
		{"no type", []evidence.Item{{Data: ccel}}, 0, evidence.Malformed, "items", "items"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want, err := evidence.NewBinding([]byte("nonce and key"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := newVerifier(t, f.config()).Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw, Items: tt.items}, want)
			if tt.reason != "" {
				if e := wantRefused(t, got, err, tt.reason, tt.check); e.Field != tt.field {
					t.Errorf("field %s", e.Field)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c, _ := tdx.ClaimsOf(got)
			if len(c.Events) != tt.events {
				t.Errorf("%d events", len(c.Events))
			}
		})
	}
}

// Claims have what was hashed, and share nothing with what was sent.
func TestEventsOwnTheirMemory(t *testing.T) {
	f := newFake(t)
	ccel, runtime := f.measured()
	f.items = []evidence.Item{{Type: tdx.CCEL, Data: ccel}, {Type: tdx.RuntimeLog, Data: runtime}}
	c := f.claims()
	clear(ccel)
	clear(runtime)
	var got []string
	for _, e := range c.Events {
		got = append(got, fmt.Sprintf("%d %s %q", e.RTMR, e.Name, e.Data))
	}
	if want := []string{`0  "firmware"`, `1  ""`, `2  "command line"`, `3 app-id "\x01"`, `3 ready ""`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Genuine logs beside the genuine quotes they are of.
func TestVerifyGenuineEventLogs(t *testing.T) {
	for _, l := range tdx.GenuineLogs(t) {
		g := genuineQuote(t, l.Quote)
		raw, i := g.raw(t), l.Item(t)
		q, err := tdx.ParseQuote(raw)
		if err != nil {
			t.Fatal(err)
		}
		v := newVerifier(t, tdx.Config{Anchors: tdx.Intel(), Source: files{}, Time: at(today), SkipRevocationUnsafe: true, SkipTCBUnsafe: true})
		got, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw, Items: []evidence.Item{i}}, bound(t, raw))
		if len(l.Replays) < 3 {
			wantRefused(t, got, err, evidence.BadSignature, "event-log")
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", l.File, err)
		}
		rv := tdx.ReferenceValues{RuntimeEvents: []tdx.RuntimeEvent{{Name: "app-id", Payloads: evidence.OneOf("\x37\x63\xbc\x34\x55\x2c\xf3\xa2\x7f\xf7\x1a\xd5\xf7\xa9\x04\x71\x56\x2a\x1a\x2d")}}}
		refused := slices.ContainsFunc(rv.Appraise(got), func(m evidence.Mismatch) bool { return m.Claim == "tdx.runtime_events" })
		if refused != (i.Type == tdx.CCEL) || q.RTMRs() == [4][48]byte{} {
			t.Errorf("%s: app-id refused %v", l.File, refused)
		}
	}
}

// Every flipped bit of a log is refused, or changes nothing that is said of it.
func TestFlippedBitsOfEventLogs(t *testing.T) {
	f := newFake(t)
	ccel, _ := f.measured()
	f.items = []evidence.Item{{Type: tdx.CCEL, Data: ccel}}
	raw := f.quote()
	v := newVerifier(t, f.config())
	want := evidence.UncheckedBindingUnsafe()
	verify := func(log []byte) (*evidence.Verified, error) {
		return v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw, Items: []evidence.Item{{Type: tdx.CCEL, Data: log}}}, want)
	}
	good, err := verify(ccel)
	if err != nil {
		t.Fatal(err)
	}
	whole, _ := tdx.ClaimsOf(good)
	for bit := range 8 * len(ccel) {
		bad := bytes.Clone(ccel)
		bad[bit/8] ^= 1 << (bit % 8)
		got, err := verify(bad)
		if err != nil {
			continue
		}
		// Index, type and description of what was measured are not hashed, nor is
		// the header; data that is not what was hashed is left out.
		c, _ := tdx.ClaimsOf(got)
		for i, e := range c.Events {
			at := slices.IndexFunc(whole.Events, func(w tdx.Event) bool { return w.RTMR == e.RTMR && w.Digest == e.Digest })
			if at < 0 || e.Data != nil && !bytes.Equal(e.Data, whole.Events[at].Data) {
				t.Errorf("bit %d flipped: event %d is %+v", bit, i, e)
			}
		}
	}
}

func ExampleEventLog_RTMRs() {
	l, err := tdx.ParseRuntimeLog([]byte(`[]`))
	fmt.Println(l.RTMRs() == [4][48]byte{}, err)
	// Output: true <nil>
}
