package tdx_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// ccelOf returns the log of es.
func ccelOf(es ...tdxtest.Event) []byte { return tdxtest.EventLog(es).CCEL() }

// runtimeLog returns the log of es.
func runtimeLog(es ...tdxtest.Event) []byte { return tdxtest.EventLog(es).JSON() }

// genuineLog is an event log of the shared vectors.
type genuineLog struct {
	File, Quote string
	Replays     []int `json:"rtmrs_matching_replay"`
}

// genuineLogs returns the event logs of the manifest.
func genuineLogs(t testing.TB) []genuineLog {
	t.Helper()
	var manifest struct {
		Logs []genuineLog `json:"event_logs"`
	}
	vectors.JSON(t, "tdx/manifest.json", &manifest)
	if len(manifest.Logs) < 3 {
		t.Fatalf("only %d event logs in the manifest", len(manifest.Logs))
	}
	return manifest.Logs
}

// item returns l as it comes along with a quote.
func (l genuineLog) item(t testing.TB) evidence.Item {
	t.Helper()
	b := vectors.Read(t, "tdx/"+l.File)
	if path.Ext(l.File) != ".json" {
		return evidence.Item{Type: tdx.CCEL, Data: b}
	}
	var report struct {
		Log string `json:"event_log"`
	}
	if err := json.Unmarshal(b, &report); err != nil {
		t.Fatal(err)
	}
	return evidence.Item{Type: tdx.RuntimeLog, Data: []byte(report.Log)}
}

// parse parses i by its type.
func parse(i evidence.Item) (tdx.EventLog, error) {
	if i.Type == tdx.CCEL {
		return tdx.ParseCCEL(i.Data)
	}
	return tdx.ParseRuntimeLog(i.Data)
}

// Genuine logs make of the registers what the manifest says.
func TestReplayGenuineLogs(t *testing.T) {
	for _, g := range genuineLogs(t) {
		l, err := parse(g.item(t))
		if err != nil {
			t.Fatal(err)
		}
		q, err := tdx.ParseQuote(genuineQuote(t, g.Quote).raw(t))
		if err != nil {
			t.Fatal(err)
		}
		want, got := q.RTMRs(), l.RTMRs()
		var replays []int
		for i := range got {
			if got[i] != [48]byte{} && got[i] == want[i] {
				replays = append(replays, i)
			}
		}
		if !slices.Equal(replays, g.Replays) {
			t.Errorf("%s makes %v, want %v", g.File, replays, g.Replays)
		}
	}
}

func TestParseCCEL(t *testing.T) {
	one, two := tdxtest.Event{Data: []byte("one")}, tdxtest.Event{RTMR: 3, Data: []byte("two")}
	unmeasured := tdxtest.Event{RTMR: 255, Type: tdxtest.EventNoAction, Data: []byte("x")} // of index 256, see below
	good := ccelOf(one, unmeasured, two)
	empty, first, second := len(ccelOf()), len(ccelOf(one)), len(ccelOf(one, unmeasured))
	good[first+1] = 0 // index 0
	put := func(at int, bs ...byte) []byte {
		bad := bytes.Clone(good)
		copy(bad[at:], bs)
		return bad
	}
	// Of the first event: where its size is, the number of algorithms, and the one.
	const size, algorithms, algorithm = 28, 32 + 24, 32 + 28
	insert := func(at int, bs ...byte) []byte { return slices.Insert(bytes.Clone(good), at, bs...) }
	spec := byte(empty - size - 4)
	pad := func(b byte, n int) []byte { return append(bytes.Clone(good), bytes.Repeat([]byte{b}, n)...) }
	for _, tt := range []struct {
		name   string
		log    []byte
		events int
		reason error
	}{
		{"three events, of which one is not measured", good, 2, nil},
		{"padded with FF", pad(0xFF, 100), 2, nil},
		{"padded with zeros", pad(0, 1), 2, nil},
		{"padded with ones", pad(1, 100), 0, evidence.Malformed},
		{"something behind the padding", append(pad(0, 100), 1), 0, evidence.Malformed},
		{"padded with both", append(pad(0, 100), 0xFF), 0, evidence.Malformed},
		{"as long as can be", pad(0xFF, tdx.MaxEventLogSize-len(good)), 2, nil},
		{"longer", pad(0xFF, tdx.MaxEventLogSize-len(good)+1), 0, evidence.Malformed},
		{"no events", ccelOf(), 0, nil},
		{"nothing", nil, 0, evidence.Malformed},
		{"padding only", make([]byte, 100), 0, evidence.Malformed},
		{"index 0", put(empty, 0), 0, evidence.Malformed},
		{"index 5", ccelOf(tdxtest.Event{RTMR: 4}), 0, evidence.Malformed},
		{"index 5, not measured", ccelOf(tdxtest.Event{RTMR: 4, Type: tdxtest.EventNoAction}), 0, evidence.Malformed},
		{"index 256, not measured", put(first, 0, 1), 0, evidence.Malformed},
		{"two digests", put(empty+8, 2), 0, evidence.Malformed},
		{"no digest", put(empty+8, 0), 0, evidence.Malformed},
		{"SHA-256", put(empty+12, 0x0B), 0, evidence.Malformed},
		{"first event measured", put(4, 4), 0, evidence.Malformed},
		{"first event with a digest", put(8, 1), 0, evidence.Malformed},
		{"first event of another name", put(32, 's'), 0, evidence.Malformed},
		{"first event longer", slices.Concat(good[:size], []byte{spec + 1}, insert(empty, 0)[size+1:]), 0, evidence.Malformed},
		{"first event without vendor info", slices.Concat(good[:size], []byte{spec - 1}, good[size+1:empty-1], good[empty:]), 0, evidence.Malformed},
		{"first event with more vendor info than there is", put(empty-1, 1), 0, evidence.Malformed},
		{"first event with vendor info", slices.Concat(good[:size], []byte{spec + 2}, good[size+1:empty-1], []byte{2, 'v', 'i'}, good[empty:]), 2, nil},
		{"two algorithms, of which one is not there", put(algorithms, 2), 0, evidence.Malformed},
		{"logs of SHA-256", put(algorithm, 0x0B, 0, 32), 0, evidence.Unsupported},
		{"SHA-384 of another size", put(algorithm+2, 32), 0, evidence.Unsupported},
	} {
		l, err := tdx.ParseCCEL(tt.log)
		if !errors.Is(err, tt.reason) || l.Len() != tt.events {
			t.Errorf("%s: %d events, %v", tt.name, l.Len(), err)
		}
	}
	zeros := func(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
	for n := range good {
		_, err := tdx.ParseCCEL(good[:n])
		whole := n == empty || n == first || n == second
		// A cut of what is zero looks like padding.
		if err == nil && !whole && !zeros(good[min(n, empty):n]) && !zeros(good[min(n, first):n]) && !zeros(good[min(n, second):n]) {
			t.Errorf("%d bytes of a log are a log", n)
		}
	}
	l, err := tdx.ParseCCEL(good)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		rtmr uint8
		data string
	}{{0, "one"}, {3, "two"}} {
		if e := l.Events()[i]; e.RTMR != want.rtmr || string(e.Data) != want.data || e.Digest != sha512.Sum384([]byte(want.data)) {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

func TestParseRuntimeLog(t *testing.T) {
	event := func(name, payload string) string {
		return strings.Trim(string(runtimeLog(tdxtest.Event{RTMR: 3, Type: tdxtest.EventRuntime, Name: name, Data: []byte(payload)})), "[]")
	}
	good := event("app-id", "\x01")
	other := strings.NewReplacer(`"imr":3`, `"imr":0`, "134217729", "10", "app-id", "").Replace(good)
	edit := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	at := strings.Index(good, `"digest":"`) + len(`"digest":"`)
	for _, tt := range []struct {
		name, log string
		events    int
		reason    error
	}{
		{"two events", good + "," + other, 2, nil},
		{"no events", "", 0, nil},
		{"empty payload", event("ready", ""), 1, nil},
		{"imr 4", edit(`"imr":3`, `"imr":4`), 0, evidence.Malformed},
		{"imr -1", edit(`"imr":3`, `"imr":-1`), 0, evidence.Malformed},
		{"a runtime event of RTMR2", edit(`"imr":3`, `"imr":2`), 0, evidence.Malformed},
		{"a colon in the name", edit("app-id", "app:id"), 0, evidence.Malformed},
		{"a runtime event without name", edit("app-id", ""), 0, evidence.Malformed},
		{"another event with a name", edit("134217729", "10"), 0, evidence.Malformed},
		{"an event that is not measured", strings.Replace(other, "10", "3", 1), 0, evidence.Malformed},
		{"digest of 47 bytes", edit(good[at:at+2], ""), 0, evidence.Malformed},
		{"no imr", edit(`"imr":3,`, ``), 0, evidence.Malformed},
		{"no type", edit(`"event_type":134217729,`, ``), 0, evidence.Malformed},
		{"no name", edit(`"event":"app-id",`, ``), 0, evidence.Malformed},
		{"no payload", edit(`,"event_payload":"01"`, ``), 0, evidence.Malformed},
		{"no digest", edit(good[strings.Index(good, `"digest"`):strings.Index(good, `"event":`)], ``), 0, evidence.Malformed},
		{"payload in upper case", edit(`"01"`, `"AA"`), 0, evidence.Malformed},
		{"null", edit(`"01"`, `null`), 0, evidence.Malformed},
		{"an unknown member", edit(`"imr"`, `"version":1,"imr"`), 0, evidence.Malformed},
		{"a duplicate member", edit(`"imr"`, `"imr":3,"imr"`), 0, evidence.Malformed},
		{"a member in another case", edit(`"imr"`, `"IMR"`), 0, evidence.Malformed},
		{"trailing data", good + `] [`, 0, evidence.Malformed},
		{"too long", good + strings.Repeat(" ", tdx.MaxEventLogSize), 0, evidence.Malformed},
	} {
		l, err := tdx.ParseRuntimeLog([]byte("[" + tt.log + "]"))
		if !errors.Is(err, tt.reason) || err == nil && l.Len() != tt.events {
			t.Errorf("%s: %d events, %v", tt.name, l.Len(), err)
		}
	}
	for _, not := range []string{``, `null`, `{}`, good} {
		if _, err := tdx.ParseRuntimeLog([]byte(not)); !errors.Is(err, evidence.Malformed) {
			t.Errorf("%s: %v", not, err)
		}
	}
}

func FuzzParseCCEL(f *testing.F) {
	f.Add(ccelOf(tdxtest.Event{Data: []byte("one")}, tdxtest.Event{RTMR: 3, Data: []byte("two")}))
	f.Add(append(ccelOf(), 0xFF, 0xFF))
	for _, g := range genuineLogs(f) {
		if i := g.item(f); i.Type == tdx.CCEL {
			f.Add(i.Data[:18101])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := tdx.ParseCCEL(b)
		checkParsed(t, l, err)
		if err != nil || len(b) > tdx.MaxEventLogSize-10 {
			return
		}
		// Nothing that was padded is another log: but a log may have ended with
		// what looks like padding of the other kind.
		padded, err := tdx.ParseCCEL(append(bytes.Clone(b), make([]byte, 10)...))
		if err == nil && padded.RTMRs() != l.RTMRs() {
			t.Error("padding is extended")
		}
	})
}

func FuzzParseRuntimeLog(f *testing.F) {
	f.Add(runtimeLog(tdxtest.Event{RTMR: 3, Name: "app-id", Data: []byte{1}}))
	for _, g := range genuineLogs(f) {
		if i := g.item(f); i.Type == tdx.RuntimeLog {
			f.Add(i.Data)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := tdx.ParseRuntimeLog(b)
		checkParsed(t, l, err)
	})
}

// checkParsed checks what holds of every log.
func checkParsed(t *testing.T, l tdx.EventLog, err error) {
	t.Helper()
	if err != nil {
		if l.Len() != 0 || !errors.Is(err, evidence.Malformed) && !errors.Is(err, evidence.Unsupported) {
			t.Errorf("%d events beside %v", l.Len(), err)
		}
		return
	}
	var covered [4]bool
	for _, e := range l.Events() {
		if e.Name != "" && e.RTMR != 3 {
			t.Errorf("%+v", e)
		}
		covered[e.RTMR] = true
	}
	for i, r := range l.RTMRs() {
		if covered[i] && r == [48]byte{} {
			t.Errorf("RTMR%d: not extended", i)
		}
	}
}
