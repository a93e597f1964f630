package snp

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
)

// row returns a row for Turin 1A/02/stepping that asks for microcode.
func row(stepping, microcode uint8, confirmed Confirmation) TCBFloor {
	any := TCB{Line: Turin}
	return TCBFloor{
		Floor:    Floor{0x1A, 2, 2, evidence.OneOf(stepping), Minimum{TCB{Line: Turin, Microcode: microcode}, any, any}},
		Bulletin: "AMD-SB-1", Confirmed: confirmed, Note: "test",
	}
}

// Rows count as floors do: all that name a processor must be met, one at least must
// name it, and what is unconfirmed counts when asked for only.
func TestTCBFloorsAppraise(t *testing.T) {
	c := turin()
	const stepping, has = 1, 6 // of turin
	milan := row(stepping, 0, ByBulletin)
	milan.Family, milan.MinModel, milan.MaxModel = 0x19, 1, 1
	const short = "snp.tcb.reported.microcode"
	for _, tt := range []struct {
		name  string
		rows  []TCBFloor
		allow bool
		more  []Floor
		want  string // claims that mismatch
	}{
		{"no rows", nil, false, nil, "snp.cpu.family"},
		{"no rows, unconfirmed allowed", nil, true, nil, "snp.cpu.family"},
		{"no row for the family", []TCBFloor{milan}, false, nil, "snp.cpu.family"},
		{"no row for the stepping", []TCBFloor{row(stepping+1, 0, ByBulletin)}, false, nil, "snp.cpu.stepping"},
		{"met", []TCBFloor{row(stepping, has, ByBulletin)}, false, nil, ""},
		{"met, by release notes", []TCBFloor{row(stepping, has, ByReleaseNotes)}, false, nil, ""},
		{"not met", []TCBFloor{row(stepping, has+1, ByBulletin)}, false, nil, short},
		{"one of two not met", []TCBFloor{row(stepping, 0, ByBulletin), row(stepping, has+1, ByReleaseNotes)}, false, nil, short},
		{"unconfirmed alone admits nothing", []TCBFloor{row(stepping, 0, Unconfirmed)}, false, nil, "snp.cpu.family"},
		{"unconfirmed alone, allowed", []TCBFloor{row(stepping, 0, Unconfirmed)}, true, nil, ""},
		{"unconfirmed beside another asks nothing", []TCBFloor{row(stepping, 0, ByBulletin), row(stepping, has+1, Unconfirmed)}, false, nil, ""},
		{"unconfirmed beside another, allowed", []TCBFloor{row(stepping, 0, ByBulletin), row(stepping, has+1, Unconfirmed)}, true, nil, short},
		{"of no known confirmation", []TCBFloor{row(stepping, 0, ByReleaseNotes+1)}, false, nil, "snp.cpu.family"},
		{"floors count beside rows", nil, false, []Floor{row(stepping, 0, 0).Floor}, ""},
		{"and must be met", []TCBFloor{row(stepping, 0, ByBulletin)}, false, []Floor{row(stepping, has+1, 0).Floor}, short},
	} {
		rv := unconstrained()
		rv.AllowAnyTCB, rv.Floors = false, tt.more
		rv.TCBFloors.Rows, rv.AllowUnconfirmedFloors = tt.rows, tt.allow
		if ms := rv.Appraise(c.verified()); !sameMismatches(ms, tt.want) {
			t.Errorf("%s: %v, want [%s]", tt.name, ms, tt.want)
		}
	}
}

func TestDecodeTCBFloorsRefuses(t *testing.T) {
	if _, err := DecodeTCBFloors([]byte(tcbFloorsJSON)); err != nil {
		t.Fatal(err)
	}
	many := strings.TrimSuffix(strings.Repeat(`{`+bareFloor+`,"bulletin":"a","confirmed":"bulletin","note":"b"},`, 4097), ",")
	for _, tt := range []struct{ name, old, new, err string }{
		{"another kind", `"teebroker/1"`, `"teebroker/2"`, "tcb_floors"},
		{"no kind", `"tcb_floors":"teebroker/1",`, ``, "tcb_floors is missing"},
		{"no name", `"name":"amd",`, ``, "name is missing"},
		{"empty name", `"amd"`, `""`, "name"},
		{"no version", `"version":"3",`, ``, "version is missing"},
		{"a number for a version", `"3"`, `3`, "version"},
		{"no date", `"date":"2026-06-01",`, ``, "date is missing"},
		{"a time", `2026-06-01`, `2026-06-01T00:00:00Z`, "date"},
		{"no such day", `2026-06-01`, `2026-06-31`, "date"},
		{"no rows", `"rows":` + rowsJSON, `"rows":null`, "null"},
		{"an object for rows", `"rows":` + rowsJSON, `"rows":{}`, "rows"},
		{"more members", `"rows":`, `"signature":"","rows":`, "unknown member"},
		{"a row without bulletin", `"bulletin":"AMD-SB-3019",`, ``, "bulletin is missing"},
		{"an empty bulletin", `"AMD-SB-3019"`, `""`, "bulletin"},
		{"a row that does not say how it is known", `"confirmed":"bulletin",`, ``, "confirmed is missing"},
		{"known in another way", `"confirmed":"bulletin"`, `"confirmed":"yes"`, "confirmed"},
		{"known in another case", `"confirmed":"bulletin"`, `"confirmed":"Bulletin"`, "confirmed"},
		{"known by a bool", `"confirmed":"bulletin"`, `"confirmed":true`, "confirmed"},
		{"a row without note", `,"note":"a blog"`, ``, "note is missing"},
		{"a long note", `a blog`, strings.Repeat("a", 513), "note"},
		{"another member of a row", `"note":"a blog"`, `"note":"a blog","x":1`, "unknown member"},
		{"a row of two lines", `"min_model":2`, `"min_model":2,"min_model":3`, "duplicate"},
		{"models of no line", `"max_model":17`, `"max_model":18`, "one line"},
		{"no launch", `,"launch":`, `,"lunch":`, "unknown member"},
		{"many rows", rowsJSON, "[" + many + "]", ""},
		{"trailing data", `"rows":` + rowsJSON + `}`, `"rows":` + rowsJSON + `}{}`, "trailing"},
		{"too large", `"rows":`, strings.Repeat(" ", 1<<20) + `"rows":`, "more than"},
	} {
		if !strings.Contains(tcbFloorsJSON, tt.old) {
			t.Fatalf("%s: %s is not there", tt.name, tt.old)
		}
		bad := strings.Replace(tcbFloorsJSON, tt.old, tt.new, 1)
		f, err := DecodeTCBFloors([]byte(bad))
		if err == nil || !strings.Contains(err.Error(), tt.err) || f.Rows != nil {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
		if _, err := DecodeReferenceValues([]byte(`{"tcb_floors":`+bad+`}`), false); err == nil {
			t.Errorf("%s: accepted in reference values", tt.name)
		}
	}
}

// What is shipped says of itself that nobody looked it up, and decides nothing.
func TestShippedFloorsAreUnconfirmed(t *testing.T) {
	b, err := os.ReadFile("../docs/tcb-floors.json")
	if err != nil {
		t.Fatal(err)
	}
	f, err := DecodeTCBFloors(b)
	if err != nil || len(f.Rows) == 0 {
		t.Fatalf("%d rows, %v", len(f.Rows), err)
	}
	for i, row := range f.Rows {
		if row.Confirmed != Unconfirmed {
			t.Errorf("row %d is %v", i+1, row.Confirmed)
		}
	}
	rv := unconstrained()
	rv.AllowAnyTCB, rv.TCBFloors = false, f
	if ms := rv.Appraise(turin().verified()); !sameMismatches(ms, "snp.cpu.family") {
		t.Errorf("%v", ms)
	}
}

// docs/tcb-floors.md shows a document that decodes, and names every Confirmation.
func TestTCBFloorsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/tcb-floors.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)<!-- example -->\n```json\n(.*?)```").FindSubmatch(doc)
	if m == nil {
		t.Fatal("no example")
	}
	f, err := DecodeTCBFloors(m[1])
	if err != nil || len(f.Rows) != 2 || f.Rows[0].Confirmed != ByBulletin || f.Date.Year() != 2026 {
		t.Errorf("%+v, %v", f, err)
	}
	for _, c := range []Confirmation{Unconfirmed, ByBulletin, ByReleaseNotes} {
		if !strings.Contains(string(doc), "`"+c.String()+"`") {
			t.Errorf("%v is not documented", c)
		}
	}
}

func ExampleDecodeTCBFloors() {
	f, err := DecodeTCBFloors([]byte(`{
		"tcb_floors": "teebroker/1", "name": "our-fleet", "version": "3", "date": "2026-06-01",
		"rows": [{
			"family": 25, "min_model": 17, "max_model": 17, "steppings": [1],
			"reported": {"bootloader": 9, "tee": 0, "firmware": 21, "microcode": 72}, "committed": "*", "launch": "*",
			"bulletin": "AMD-SB-0000", "confirmed": "bulletin", "note": "an example"
		}]
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, row := range f.Rows {
		fmt.Println(row.Bulletin, row.Confirmed, row.Reported.Microcode)
	}
	// Output: AMD-SB-0000 bulletin 72
}

func FuzzDecodeTCBFloors(f *testing.F) {
	f.Add([]byte(tcbFloorsJSON))
	f.Add([]byte(`{"tcb_floors":"teebroker/1","name":"a","version":"b","date":"2026-06-01","rows":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		floors, err := DecodeTCBFloors(b)
		if err != nil {
			return
		}
		for _, row := range floors.Rows {
			if row.Bulletin == "" || row.Reported.Line == 0 || row.Reported.Line != row.Launch.Line || lineOf(row.Family, row.MaxModel) != row.Committed.Line {
				t.Errorf("%+v", row)
			}
		}
	})
}
