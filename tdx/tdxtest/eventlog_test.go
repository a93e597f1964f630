package tdxtest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"path"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/tdx"
)

// decodeCCEL returns the events of a genuine log, and how long they are.
func decodeCCEL(b []byte) (l EventLog, size int) {
	u32 := func() uint32 {
		n := binary.LittleEndian.Uint32(b[size:])
		size += 4
		return n
	}
	size = 4 + 4 + 20
	size += int(u32())
	for b[size] != 0xFF {
		e := Event{RTMR: uint8(u32() - 1), Type: u32()}
		u32() // digests
		e.Digest = [48]byte(b[size+2:])
		size += 2 + 48
		n := int(u32())
		e.Data = b[size : size+n]
		size += n
		l = append(l, e)
	}
	return l, size
}

// decodeRuntimeLog returns the events of a genuine log.
func decodeRuntimeLog(t *testing.T, b []byte) (l EventLog) {
	t.Helper()
	var es []map[string]any
	if err := json.Unmarshal(b, &es); err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		digest, err := hex.DecodeString(e["digest"].(string))
		if err != nil {
			t.Fatal(err)
		}
		data, err := hex.DecodeString(e["event_payload"].(string))
		if err != nil {
			t.Fatal(err)
		}
		l = append(l, Event{RTMR: uint8(e["imr"].(float64)), Type: uint32(e["event_type"].(float64)), Name: e["event"].(string), Data: data, Digest: [48]byte(digest)})
	}
	return l
}

// Genuine logs come out as they went in, digests of runtime events follow from
// name and payload, and the registers are what the manifest says.
func TestEventLogsAreIntels(t *testing.T) {
	var manifest struct {
		Logs []struct {
			File, Quote string
			Replays     []int `json:"rtmrs_matching_replay"`
		} `json:"event_logs"`
	}
	vectors.JSON(t, "tdx/manifest.json", &manifest)
	for _, g := range manifest.Logs {
		raw := vectors.Read(t, "tdx/"+g.File)
		var l EventLog
		if path.Ext(g.File) == ".json" {
			var report struct {
				Log string `json:"event_log"`
			}
			vectors.JSON(t, "tdx/"+g.File, &report)
			l = decodeRuntimeLog(t, []byte(report.Log))
			for i := range l {
				if l[i].Name != "" {
					l[i].Type, l[i].Digest = 0, [48]byte{}
				}
			}
			if got := l.JSON(); string(got) != report.Log {
				t.Errorf("%s is another:\n%s", g.File, got)
			}
		} else {
			var size int
			if l, size = decodeCCEL(raw); !bytes.Equal(l.CCEL(), raw[:size]) {
				t.Errorf("%s is another", g.File)
			}
		}
		q, err := tdx.ParseQuote(vectors.Read(t, "tdx/quotes/"+g.Quote+".bin"))
		if err != nil {
			t.Fatal(err)
		}
		got, want := l.RTMRs(), q.RTMRs()
		for _, i := range g.Replays {
			if got[i] != want[i] {
				t.Errorf("%s: RTMR%d is %x, want %x", g.File, i, got[i], want[i])
			}
		}
	}
	if len(manifest.Logs) < 3 {
		t.Errorf("only %d logs", len(manifest.Logs))
	}
}

// The registers of a quote are what its log makes of them, or else as they are set.
func TestLogMakesRegisters(t *testing.T) {
	log := EventLog{
		{RTMR: 0, Data: []byte("firmware")},
		{RTMR: 1, Type: EventNoAction, Data: []byte("nothing")},
		{RTMR: 3, Name: "app-id", Data: []byte{1}},
		{RTMR: 3, Name: "system-ready"},
	}
	set := [4][48]byte{{1}, {2}, {3}, {4}}
	ev := intel.Platform(tdx.PlatformCA).Quote(TD{Log: log, RTMRs: set}, binding(t, 1))
	q, err := tdx.ParseQuote(ev.Raw)
	if err != nil {
		t.Fatal(err)
	}
	made := log.RTMRs()
	if got := q.RTMRs(); got != [4][48]byte{made[0], set[1], set[2], made[3]} {
		t.Errorf("registers %x", got)
	}
	if len(ev.Items) != 2 {
		t.Fatalf("%d items", len(ev.Items))
	}
	var replayed [4][48]byte
	for i, parse := range []func([]byte) (tdx.EventLog, error){tdx.ParseCCEL, tdx.ParseRuntimeLog} {
		l, err := parse(ev.Items[i].Data)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range l.RTMRs() {
			if r != [48]byte{} {
				replayed[i] = r
			}
		}
	}
	if replayed != made {
		t.Errorf("replayed %x, made %x", replayed, made)
	}
	none := func([]evidence.Item) []evidence.Item { return nil }
	if ev := intel.Platform(tdx.PlatformCA).Quote(TD{Log: log, Items: none}, binding(t, 1)); ev.Items != nil {
		t.Errorf("%d items where there are to be none", len(ev.Items))
	}
}
