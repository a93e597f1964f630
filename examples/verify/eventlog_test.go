package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// tdxLog is an event log of the manifest in a file, and what the manifest says of
// it: the quote and the registers that replay.
type tdxLog struct {
	path, quote string
	replays     []int
	negative    bool
}

func genuineLogs(t *testing.T) (logs []tdxLog) {
	t.Helper()
	var manifest struct {
		Logs []struct {
			File, Quote, Note string
			Replays           []int `json:"rtmrs_matching_replay"`
		} `json:"event_logs"`
	}
	vectors.JSON(t, "tdx/manifest.json", &manifest)
	for _, l := range manifest.Logs {
		path := vectors.Path(t, "tdx/"+l.File)
		if filepath.Ext(path) == ".json" { // the log is a member of what dstack answered
			var answer struct {
				Log string `json:"event_log"`
			}
			vectors.JSON(t, "tdx/"+l.File, &answer)
			path = write(t, "log.json", []byte(answer.Log))
		}
		logs = append(logs, tdxLog{path, l.Quote, l.Replays, strings.HasPrefix(l.Note, "NEGATIVE")})
	}
	if len(logs) != 3 {
		t.Fatalf("%d event logs in the manifest, want 3", len(logs))
	}
	return logs
}

// Genuine logs replay as the manifest says, and the claims have what was measured.
func TestGenuineEventLogs(t *testing.T) {
	quotes := map[string]tdxVector{}
	for _, v := range tdxVectors(t) {
		quotes[v.Name] = v
	}
	for _, l := range genuineLogs(t) {
		t.Run(filepath.Base(l.path), func(t *testing.T) {
			v := quotes[l.quote]
			// A log counts whatever is known of the platform, and one of these quotes
			// has no collateral that is complete.
			got, a := ask(t, "-endorsements", l.path, "-allow-no-revocation", "-allow-no-tcb",
				"-at", v.NotBefore.AddDate(0, 0, 1).Format(time.RFC3339), vectors.Path(t, "tdx/"+v.File))
			if l.negative {
				want(t, got, a, "bad-signature", "event-log")
				if a.Field != "RTMR0" {
					t.Errorf("field %s", a.Field)
				}
				return
			}
			if got != 0 || !a.Authentic || a.outcome("event-log") != "passed" {
				t.Fatalf("status %d, %+v", got, a)
			}
			for i, claim := range []string{"tdx.rtmr0.events", "tdx.rtmr1.events", "tdx.rtmr2.events", "tdx.rtmr3.events"} {
				events, _ := a.Claims[claim].([]any)
				if (len(events) > 0) != slices.Contains(l.replays, i) {
					t.Errorf("%s: %d events, the manifest has %v", claim, len(events), l.replays)
				}
			}
		})
	}
}

// With complete collateral, the log of a genuine quote is among its claims.
func TestGenuineQuoteWithLogAndCollateral(t *testing.T) {
	for _, l := range genuineLogs(t) {
		if l.quote != "dstack_quote_report_v4" {
			continue
		}
		for _, v := range tdxVectors(t) {
			for _, c := range v.Collateral {
				if v.Name != l.quote || c.Set != "dcapqvl_2026_02_90c06f" {
					continue
				}
				got, a := ask(t, "-endorsements", filepath.Join(vectors.Path(t, "tdx/collateral"), c.Set)+","+l.path,
					"-at", c.UseTime.Format(time.RFC3339), vectors.Path(t, "tdx/"+v.File))
				runtime, _ := a.Claims["tdx.runtime_events"].([]any)
				if got != 0 || a.Claims["tdx.tcb.status"] != "UpToDate" || len(runtime) == 0 || a.outcome("event-log") != "passed" {
					t.Errorf("status %d, %d runtime events: %s", got, len(runtime), a.Detail)
				}
				return
			}
		}
	}
	t.Error("no such log")
}

// Logs of a simulated TD are found by what they hold, wherever they are, and each
// way to change one is refused.
func TestSimulatedEventLogs(t *testing.T) {
	events := tdxtest.EventLog{
		{RTMR: 0, Data: []byte("firmware")},
		{RTMR: 1, Data: []byte("kernel")},
		{RTMR: 3, Name: "app-id", Data: []byte("broker")},
	}
	f := simulateTD(t, tdxtest.TD{Log: events})
	items := events.Items()
	if len(items) != 2 || items[0].Type != tdx.CCEL || items[1].Type != tdx.RuntimeLog {
		t.Fatalf("items %v", items)
	}
	ccel, runtime := items[0].Data, items[1].Data
	both := folderWith(t, ccel) + "," + write(t, "log", runtime)
	for _, test := range []struct {
		name          string
		logs          string
		reason, check string // "" is a yes
	}{
		{"both", both, "", ""},
		{"the same twice", both + "," + write(t, "again", ccel), "", ""},
		{"firmware alone", write(t, "log", ccel), "", ""},
		{"runtime alone", write(t, "log", runtime), "", ""},
		{"an event too many", write(t, "log", append(slices.Clone(events), events[0]).CCEL()), "bad-signature", "event-log"},
		{"an event of another name", write(t, "log", []byte(strings.Replace(string(runtime), "app-id", "app-ie", 1))), "bad-signature", "event-log"},
		{"cut short", write(t, "log", ccel[:len(ccel)-1]), "malformed", "items"},
		{"no runtime log", write(t, "log", []byte(`[{"imr": 9}]`)), "malformed", "items"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, a := ask(t, "-roots", f.roots, "-endorsements", f.collateral+","+test.logs, "-binding", hex.EncodeToString(signedFor), f.quote)
			if test.reason != "" {
				want(t, got, a, test.reason, test.check)
				return
			}
			if got != 0 || a.Binding != "ok" {
				t.Errorf("status %d, %+v", got, a)
			}
		})
	}
	got, a := ask(t, "-roots", f.roots, "-endorsements", f.collateral+","+both, f.quote)
	text, err := json.Marshal(a.Claims["tdx.runtime_events"])
	if payload := hex.EncodeToString([]byte("broker")); got != 0 || err != nil || string(text) != `[["app-id","`+payload+`"]]` {
		t.Errorf("status %d, runtime events %s, %v", got, text, err)
	}
}

// Of two different logs of a kind somebody has to say which one it is.
func TestTwoEventLogs(t *testing.T) {
	f := simulateTD(t, tdxtest.TD{})
	logs := write(t, "one", tdxtest.EventLog{{Data: []byte("one")}}.CCEL()) + "," + write(t, "two", tdxtest.EventLog{{Data: []byte("two")}}.CCEL())
	var stdout, stderr bytes.Buffer
	if got := run([]string{"-json", "-endorsements", logs, f.quote}, &stdout, &stderr); got != 2 || !strings.Contains(stderr.String(), "second event log") {
		t.Errorf("status %d: %s%s", got, stdout.String(), stderr.String())
	}
	// A log is of TDX only.
	v := genuine(t)["oak-turin-oc"]
	if got, a := ask(t, "-endorsements", v.vek(t)+","+logs, "-allow-no-revocation", "-at", v.within(), v.report(t)); got != 0 {
		t.Errorf("a report among logs: status %d, %s", got, a.Detail)
	}
}
