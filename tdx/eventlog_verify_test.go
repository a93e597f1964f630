package tdx_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// measured is a log of every register.
func measured() tdxtest.EventLog {
	return tdxtest.EventLog{
		{RTMR: 0, Data: []byte("firmware")},
		{RTMR: 1, Type: 0x80000003, Digest: [48]byte{1}, Data: []byte("an image")},
		{RTMR: 2, Data: []byte("command line")},
		{RTMR: 3, Name: "app-id", Data: []byte{1}},
		{RTMR: 3, Name: "ready"},
	}
}

// A log is believed as far as the registers say, and refused if they say otherwise.
func TestVerifyEventLogs(t *testing.T) {
	all := measured()
	ccel, runtime := all[:3].CCEL(), all[3:].JSON()
	log := func(data []byte) evidence.Item { return evidence.Item{Type: tdx.CCEL, Data: data} }
	json := func(data []byte) evidence.Item { return evidence.Item{Type: tdx.RuntimeLog, Data: data} }
	firmware, image, line, id, ready := all[0], all[1], all[2], all[3], all[4]
	moved := image
	moved.RTMR = 2
	n := newSimulatedIntel()
	for _, tt := range []struct {
		name   string
		items  []evidence.Item
		events int
		reason evidence.Reason
		check  string
		field  string
	}{
		{"no log", nil, 0, "", "", ""},
		{"both", all.Items(), 5, "", "", ""},
		{"both, the other way round", []evidence.Item{json(runtime), log(ccel)}, 5, "", "", ""},
		{"firmware only", []evidence.Item{log(ccel)}, 3, "", "", ""},
		{"runtime only", []evidence.Item{json(runtime)}, 2, "", "", ""},
		{"all in one", []evidence.Item{json(all.JSON())}, 5, "", "", ""},
		{"some registers only", []evidence.Item{log(ccelOf(firmware))}, 1, "", "", ""},
		{"an empty log", []evidence.Item{log(ccelOf())}, 0, "", "", ""},
		{"padded", []evidence.Item{log(append(bytes.Clone(ccel), 0xFF, 0xFF))}, 3, "", "", ""},
		{"an event dropped", []evidence.Item{json(runtimeLog(id))}, 0, evidence.BadSignature, "event-log", "RTMR3"},
		{"an event added", []evidence.Item{log(ccelOf(firmware, firmware, image, line))}, 0, evidence.BadSignature, "event-log", "RTMR0"},
		{"events swapped", []evidence.Item{json(runtimeLog(ready, id))}, 0, evidence.BadSignature, "event-log", "RTMR3"},
		{"an event of another register", []evidence.Item{log(ccelOf(firmware, line, moved))}, 0, evidence.BadSignature, "event-log", "RTMR2"},
		{"a wrong digest", []evidence.Item{log(ccelOf(tdxtest.Event{Data: firmware.Data, Digest: [48]byte{2}}))}, 0, evidence.BadSignature, "event-log", "RTMR0"},
		{"another payload under the digest", []evidence.Item{json(bytes.Replace(runtime, []byte(`"event_payload":"01"`), []byte(`"event_payload":"02"`), 1))}, 0, evidence.BadSignature, "event-log", tdx.RuntimeLog},
		{"another name under the digest", []evidence.Item{json(bytes.Replace(runtime, []byte(`app-id`), []byte(`app-ic`), 1))}, 0, evidence.BadSignature, "event-log", tdx.RuntimeLog},
		{"two of one type", []evidence.Item{log(ccel), log(ccel)}, 0, evidence.Malformed, "items", tdx.CCEL},
		{"two of which one is empty", []evidence.Item{log(ccelOf()), log(ccel)}, 0, evidence.Malformed, "items", tdx.CCEL},
		{"a log under the other's name", []evidence.Item{json(ccel)}, 0, evidence.Malformed, "items", tdx.RuntimeLog},
		{"cut short", []evidence.Item{log(ccel[:len(ccel)-1])}, 0, evidence.Malformed, "items", tdx.CCEL},
		{"a runtime log cut short", []evidence.Item{json(runtime[:len(runtime)-1])}, 0, evidence.Malformed, "items", tdx.RuntimeLog},
		{"too long", []evidence.Item{log(append(bytes.Clone(ccel), make([]byte, tdx.MaxEventLogSize)...))}, 0, evidence.Malformed, "items", tdx.CCEL},
		{"no type", []evidence.Item{{Data: ccel}}, 0, evidence.Malformed, "items", "items"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := simulate(n, tdx.PlatformCA)
			s.td.Log = all
			s.td.Items = func([]evidence.Item) []evidence.Item { return tt.items }
			got, err := s.verify(t)
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

// A register that was extended with something else than name and payload says
// nothing of them, however well the log replays.
func TestRuntimeDigestIsOfNameAndPayload(t *testing.T) {
	s := simulate(newSimulatedIntel(), tdx.PlatformCA)
	s.td.Log = tdxtest.EventLog{{RTMR: 3, Name: "app-id", Data: []byte{1}, Digest: [48]byte{7}}}
	got, err := s.verify(t)
	if e := wantRefused(t, got, err, evidence.BadSignature, "event-log"); e.Field != tdx.RuntimeLog {
		t.Errorf("field %s", e.Field)
	}
}

// Claims have what was hashed, and share nothing with what was sent.
func TestEventsOwnTheirMemory(t *testing.T) {
	s := simulate(newSimulatedIntel(), tdx.PlatformCA)
	s.td.Log = measured()
	var sent []evidence.Item
	s.td.Items = func(items []evidence.Item) []evidence.Item { sent = items; return items }
	v, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range sent {
		clear(i.Data)
	}
	c, _ := tdx.ClaimsOf(v)
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
	for _, l := range genuineLogs(t) {
		g := genuineQuote(t, l.Quote)
		raw, i := g.raw(t), l.item(t)
		q, err := tdx.ParseQuote(raw)
		if err != nil {
			t.Fatal(err)
		}
		v := newVerifier(t, tdx.Config{Anchors: tdx.Intel(), Source: files{}, Time: simulatedNow, SkipRevocationUnsafe: true, SkipTCBUnsafe: true})
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
	s := simulate(newSimulatedIntel(), tdx.PlatformCA)
	s.td.Log = measured()[:3]
	ccel := s.td.Log.CCEL()
	want := evidence.UncheckedBindingUnsafe()
	raw := s.platform.Quote(s.td, want).Raw
	s.cfg.Source = s.set
	v := newVerifier(t, s.cfg)
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
