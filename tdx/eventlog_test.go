package tdx

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
)

// CCELEvent is an event as a log has it.
type CCELEvent struct {
	Index, Type uint32
	Digest      [48]byte
	Data        []byte
}

// Measured returns the event of data that was hashed.
func Measured(index uint32, data string) CCELEvent {
	return CCELEvent{index, 0x80000007, sha512.Sum384([]byte(data)), []byte(data)}
}

// specEvent is a first event with one algorithm.
func specEvent(alg, size uint16) []byte {
	spec := append([]byte(specIDEvent), 0, 0, 0, 0, 0, 2, 0, 2)
	spec = binary.LittleEndian.AppendUint32(spec, 1)
	spec = binary.LittleEndian.AppendUint16(spec, alg)
	spec = binary.LittleEndian.AppendUint16(spec, size)
	return append(spec, 2, 'v', 'i')
}

// header returns a log of nothing but the first event.
func header(spec []byte) []byte {
	b := append(binary.LittleEndian.AppendUint32([]byte{1, 0, 0, 0}, evNoAction), make([]byte, 20)...)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(spec))), spec...)
}

func (e CCELEvent) bytes(count uint32, alg uint16) []byte {
	b := binary.LittleEndian.AppendUint32(nil, e.Index)
	b = binary.LittleEndian.AppendUint32(b, e.Type)
	b = binary.LittleEndian.AppendUint32(b, count)
	b = append(binary.LittleEndian.AppendUint16(b, alg), e.Digest[:]...)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(e.Data))), e.Data...)
}

// CCELOf returns the log of es.
func CCELOf(es ...CCELEvent) []byte {
	b := header(specEvent(algSHA384, 48))
	for _, e := range es {
		b = append(b, e.bytes(1, algSHA384)...)
	}
	return b
}

// RuntimeEventJSON returns the event of a name and payload as a log has it.
func RuntimeEventJSON(name, payload string) string {
	e := logEvent{Event: Event{Name: name, Data: []byte(payload)}}
	return fmt.Sprintf(`{"imr":3,"event_type":134217729,"digest":"%x","event":%q,"event_payload":"%x"}`, e.runtimeDigest(), name, payload)
}

// GenuineLog is an event log of the shared vectors.
type GenuineLog struct {
	File, Quote string
	Replays     []int `json:"rtmrs_matching_replay"`
}

// GenuineLogs returns the event logs of the manifest.
func GenuineLogs(t testing.TB) []GenuineLog {
	t.Helper()
	var manifest struct {
		Logs []GenuineLog `json:"event_logs"`
	}
	vectors.JSON(t, "tdx/manifest.json", &manifest)
	if len(manifest.Logs) < 3 {
		t.Fatalf("only %d event logs in the manifest", len(manifest.Logs))
	}
	return manifest.Logs
}

// Item returns l as it comes along with a quote.
func (l GenuineLog) Item(t testing.TB) evidence.Item {
	t.Helper()
	b := vectors.Read(t, "tdx/"+l.File)
	if path.Ext(l.File) != ".json" {
		return evidence.Item{Type: CCEL, Data: b}
	}
	var report struct {
		Log string `json:"event_log"`
	}
	if err := json.Unmarshal(b, &report); err != nil {
		t.Fatal(err)
	}
	return evidence.Item{Type: RuntimeLog, Data: []byte(report.Log)}
}

// quoteCalled returns the quote of the manifest that is called name.
func quoteCalled(t testing.TB, name string) Quote {
	t.Helper()
	var manifest struct {
		Quotes []struct{ Name, File string }
	}
	vectors.JSON(t, "tdx/manifest.json", &manifest)
	for _, g := range manifest.Quotes {
		if g.Name == name {
			q, err := ParseQuote(vectors.Read(t, "tdx/"+g.File))
			if err != nil {
				t.Fatal(err)
			}
			return q
		}
	}
	t.Fatalf("no quote %s", name)
	return Quote{}
}

// Genuine logs make of the registers what the manifest says.
func TestReplayGenuineLogs(t *testing.T) {
	for _, g := range GenuineLogs(t) {
		l, err := openItems([]evidence.Item{g.Item(t)})
		if err != nil {
			t.Fatal(err)
		}
		q := quoteCalled(t, g.Quote)
		want, got, covered := q.RTMRs(), l.RTMRs(), l.covers()
		var replays []int
		all := true
		for i := range got {
			if covered[i] && got[i] == want[i] {
				replays = append(replays, i)
			}
			all = all && (!covered[i] || got[i] == want[i])
		}
		if !slices.Equal(replays, g.Replays) {
			t.Errorf("%s makes %v, want %v", g.File, replays, g.Replays)
		}
		events, err := q.checkEvents(l)
		if (err == nil) != all || err != nil && (!errors.Is(err, evidence.BadSignature) || events != nil) {
			t.Errorf("%s: %v", g.File, err)
		}
	}
}

func TestParseCCEL(t *testing.T) {
	one, two := Measured(1, "one"), Measured(4, "two")
	unmeasured := CCELEvent{Index: 0, Type: evNoAction, Data: []byte("x")}
	good := CCELOf(one, unmeasured, two)
	edit := func(at int, b byte) []byte {
		bad := bytes.Clone(good)
		bad[at] = b
		return bad
	}
	spec := specEvent(algSHA384, 48)
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
		{"as long as can be", pad(0xFF, MaxEventLogSize-len(good)), 2, nil},
		{"longer", pad(0xFF, MaxEventLogSize-len(good)+1), 0, evidence.Malformed},
		{"no events", CCELOf(), 0, nil},
		{"nothing", nil, 0, evidence.Malformed},
		{"padding only", make([]byte, 100), 0, evidence.Malformed},
		{"index 0", CCELOf(Measured(0, "x")), 0, evidence.Malformed},
		{"index 5", CCELOf(Measured(5, "x")), 0, evidence.Malformed},
		{"index 5, not measured", CCELOf(CCELEvent{Index: 5, Type: evNoAction}), 0, evidence.Malformed},
		{"two digests", append(CCELOf(), one.bytes(2, algSHA384)...), 0, evidence.Malformed},
		{"no digest", append(CCELOf(), one.bytes(0, algSHA384)...), 0, evidence.Malformed},
		{"SHA-256", append(CCELOf(), one.bytes(1, 0x000B)...), 0, evidence.Malformed},
		{"first event measured", edit(4, 4), 0, evidence.Malformed},
		{"first event with a digest", edit(8, 1), 0, evidence.Malformed},
		{"first event of another name", edit(32, 's'), 0, evidence.Malformed},
		{"first event longer", header(append(bytes.Clone(spec), 0)), 0, evidence.Malformed},
		{"first event shorter", header(spec[:len(spec)-1]), 0, evidence.Malformed},
		{"first event without vendor info", header(spec[:len(spec)-3]), 0, evidence.Malformed},
		{"two algorithms", edit(32+24, 2), 0, evidence.Unsupported},
		{"logs of SHA-256", header(specEvent(0x000B, 32)), 0, evidence.Unsupported},
		{"SHA-384 of another size", header(specEvent(algSHA384, 32)), 0, evidence.Unsupported},
	} {
		l, err := ParseCCEL(tt.log)
		if !errors.Is(err, tt.reason) || len(l.events) != tt.events {
			t.Errorf("%s: %d events, %v", tt.name, len(l.events), err)
		}
	}
	empty := len(CCELOf())
	first := len(CCELOf(one))
	second := len(CCELOf(one, unmeasured))
	for n := range good {
		_, err := ParseCCEL(good[:n])
		whole := n == empty || n == first || n == second
		// A cut of what is zero looks like padding.
		if err == nil && !whole && !padding(good[empty:n]) && !padding(good[first:max(n, first)]) && !padding(good[second:max(n, second)]) {
			t.Errorf("%d bytes of a log are a log", n)
		}
	}
	l, err := ParseCCEL(good)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		rtmr uint8
		data string
	}{{0, "one"}, {3, "two"}} {
		if e := l.events[i]; e.RTMR != want.rtmr || string(e.Data) != want.data || e.Digest != sha512.Sum384([]byte(want.data)) {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

func TestParseRuntimeLog(t *testing.T) {
	good := RuntimeEventJSON("app-id", "\x01")
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
		{"empty payload", RuntimeEventJSON("ready", ""), 1, nil},
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
		{"too long", good + strings.Repeat(" ", MaxEventLogSize), 0, evidence.Malformed},
	} {
		l, err := ParseRuntimeLog([]byte("[" + tt.log + "]"))
		if !errors.Is(err, tt.reason) || len(l.events) != tt.events {
			t.Errorf("%s: %d events, %v", tt.name, len(l.events), err)
		}
	}
	for _, not := range []string{``, `null`, `{}`, good} {
		if _, err := ParseRuntimeLog([]byte(not)); !errors.Is(err, evidence.Malformed) {
			t.Errorf("%s: %v", not, err)
		}
	}
}

// Only what is hashed is said to be verified.
func TestVerifiedEvents(t *testing.T) {
	hashed := logEvent{kind: 4, Event: Event{Digest: sha512.Sum384([]byte("x")), Data: []byte("x")}}
	described := logEvent{kind: 4, Event: Event{Digest: [48]byte{1}, Data: []byte("x")}}
	named := logEvent{kind: runtimeEvent, Event: Event{RTMR: 3, Name: "a", Data: []byte("b")}}
	named.Digest = sha512.Sum384([]byte("\x01\x00\x00\x08:a:b"))
	if e, err := hashed.verified(); err != nil || string(e.Data) != "x" || e.Digest != hashed.Digest {
		t.Errorf("hashed: %+v, %v", e, err)
	}
	if e, err := described.verified(); err != nil || e.Data != nil || e.Digest != described.Digest {
		t.Errorf("described: %+v, %v", e, err)
	}
	if e, err := named.verified(); err != nil || e.Name != "a" || string(e.Data) != "b" {
		t.Errorf("named: %+v, %v", e, err)
	}
	for what, edit := range map[string]func(*logEvent){
		"name":    func(e *logEvent) { e.Name = "c" },
		"payload": func(e *logEvent) { e.Data = []byte("c") },
		"digest":  func(e *logEvent) { e.Digest[47] ^= 1 },
	} {
		bad := named
		edit(&bad)
		if _, err := bad.verified(); !errors.Is(err, evidence.BadSignature) {
			t.Errorf("another %s: %v", what, err)
		}
	}
}

func FuzzParseCCEL(f *testing.F) {
	f.Add(CCELOf(Measured(1, "one"), Measured(4, "two")))
	f.Add(append(CCELOf(), 0xFF, 0xFF))
	for _, g := range GenuineLogs(f) {
		if i := g.Item(f); i.Type == CCEL {
			f.Add(i.Data[:18101])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseCCEL(b)
		checkParsed(t, l, err)
		if err != nil || len(b) > MaxEventLogSize-10 {
			return
		}
		// Nothing that was padded is another log: but a log may have ended with
		// what looks like padding of the other kind.
		padded, err := ParseCCEL(append(bytes.Clone(b), make([]byte, 10)...))
		if err == nil && padded.RTMRs() != l.RTMRs() {
			t.Error("padding is extended")
		}
	})
}

func FuzzParseRuntimeLog(f *testing.F) {
	f.Add([]byte("[" + RuntimeEventJSON("app-id", "\x01") + "]"))
	for _, g := range GenuineLogs(f) {
		if i := g.Item(f); i.Type == RuntimeLog {
			f.Add(i.Data)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseRuntimeLog(b)
		checkParsed(t, l, err)
	})
}

// checkParsed checks what holds of every log.
func checkParsed(t *testing.T, l EventLog, err error) {
	t.Helper()
	if err != nil {
		if l.events != nil || !errors.Is(err, evidence.Malformed) && !errors.Is(err, evidence.Unsupported) {
			t.Errorf("%d events beside %v", len(l.events), err)
		}
		return
	}
	for i, covered := range l.covers() {
		if (l.RTMRs()[i] != [48]byte{}) != covered {
			t.Errorf("RTMR%d: covered %v", i, covered)
		}
	}
	for _, e := range l.events {
		if got, err := e.verified(); err == nil && (got.Name != "" && got.RTMR != 3 || got.RTMR != e.RTMR || got.Digest != e.Digest) {
			t.Errorf("%+v of %+v", got, e)
		}
	}
}
