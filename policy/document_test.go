package policy_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

var formats = policy.Decoders{snp.Format: policy.Decoder(snp.DecodeReferenceValues)}

// vendor makes the keys that tests share.
var vendor = sync.OnceValue(snptest.NewAMD)

// claimed returns what g on c claims, as if it had been verified.
func claimed(t testing.TB, c *snptest.Chip, line snp.Line, g snptest.Guest) *evidence.Verified {
	t.Helper()
	r, err := snp.ParseReport(c.Report(g, evidence.Binding{}).Raw)
	if err != nil {
		t.Fatal(err)
	}
	return &evidence.Verified{Format: snp.Format, Bound: true, Claims: &snp.Claims{Report: r, Line: line, Key: snp.VCEK, Chip: c.ID()}}
}

// documented returns the example called name in docs/policy.md.
func documented(t testing.TB, name string) string {
	t.Helper()
	doc, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)<!-- example: " + name + " -->\n```json\n(.*?)```").FindSubmatch(doc)
	if m == nil {
		t.Fatalf("docs/policy.md has no example %s", name)
	}
	return string(m[1])
}

func parse(t testing.TB, doc string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(doc), formats)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func octets[T [48]byte | [32]byte](t testing.TB, text string) (b T) {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(b) {
		t.Fatalf("%s: %v", text, err)
	}
	for i := range raw {
		b[i] = raw[i]
	}
	return b
}

// The examples of docs/policy.md do what the text beside them says.
func TestDocumentedExamples(t *testing.T) {
	global := documented(t, "global")
	hexes := regexp.MustCompile(`"[0-9a-f]{96}"`).FindAllString(global, -1)
	if len(hexes) != 2 {
		t.Fatalf("%d measurements in the example", len(hexes))
	}
	first, second := octets[[48]byte](t, strings.Trim(hexes[0], `"`)), octets[[48]byte](t, strings.Trim(hexes[1], `"`))
	hostData := octets[[32]byte](t, "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")

	chip := map[snp.Line]*snptest.Chip{
		snp.Milan: vendor().Chip(snp.Genoa), // whose keys need not be made: nobody verifies
		snp.Genoa: vendor().Chip(snp.Genoa),
		snp.Turin: vendor().Chip(snp.Turin),
	}
	chip[snp.Milan].Model = 0x01
	// The instance's document names a chip that nobody has.
	turinID := chip[snp.Turin].ID()
	instance := regexp.MustCompile(`"[0-9a-f]{128}"`).ReplaceAllString(documented(t, "instance"), fmt.Sprintf(`"%x"`, turinID))
	noSMT := snptest.Guest{Measurement: first, HostData: hostData, Policy: 1 << 17}

	wide, both := []*policy.Policy{parse(t, global)}, []*policy.Policy{parse(t, global), parse(t, instance)}
	for _, tt := range []struct {
		name   string
		scopes []*policy.Policy
		line   snp.Line
		guest  snptest.Guest
		want   string
	}{
		{"first on Genoa", wide, snp.Genoa, snptest.Guest{Measurement: first}, ""},
		{"first on Turin", wide, snp.Turin, snptest.Guest{Measurement: first}, ""},
		{"first on Milan", wide, snp.Milan, snptest.Guest{Measurement: first}, "prod@7 alternative 1 of 2 snp.line: got Milan, want one of [Genoa Turin]; prod@7 alternative 1 of 2 snp.cpu.model: got 1, want one of [16-31]"},
		{"second on Genoa", wide, snp.Genoa, snptest.Guest{Measurement: second}, "prod@7 alternative 1 of 2 snp.measurement"},
		{"second on Turin", wide, snp.Turin, snptest.Guest{Measurement: second}, ""},
		{"neither", wide, snp.Turin, snptest.Guest{}, "prod@7 alternative 1 of 2 snp.measurement"},
		{"VMPL 2", wide, snp.Turin, snptest.Guest{Measurement: first, VMPL: 2}, "prod@7 alternative 1 of 2 snp.vmpl: got 2, want one of [0]"},
		{"debug", wide, snp.Turin, snptest.Guest{Measurement: first, Policy: 1<<17 | snp.Debug}, "prod@7 alternative 1 of 2 snp.policy.debug: got true, want equal false"},

		{"the instance", both, snp.Turin, noSMT, ""},
		{"the instance with SMT", both, snp.Turin, snptest.Guest{Measurement: first, HostData: hostData}, "instance-0b4a@1 snp.policy.smt: got true, want equal false"},
		{"the instance with another launch identity", both, snp.Turin, snptest.Guest{Measurement: first, Policy: 1 << 17}, "instance-0b4a@1 snp.host_data"},
		{"the instance on another chip", both, snp.Genoa, noSMT, "instance-0b4a@1 snp.chip"},
		{"the instance's document alone", both[1:], snp.Turin, noSMT, "always scope: got absent, want equal global"},
	} {
		a := policy.Appraise(one(claimed(t, chip[tt.line], tt.line, tt.guest)), tt.scopes...)
		var lines, short []string
		for m := range a.Mismatches() {
			lines = append(lines, m.Rule+" "+m.String())
			short = append(short, m.Rule+" "+m.Claim)
		}
		if got := strings.Join(lines, "; "); got != tt.want && strings.Join(short, "; ") != tt.want || a.Accepted() != (tt.want == "") {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// The refusals of the parser reach into the objects of a format.
func TestDocumentIsStrictBelow(t *testing.T) {
	good := documented(t, "global")
	for name, edit := range map[string]func(string) string{
		"unknown member":   func(s string) string { return strings.Replace(s, `"vmpls"`, `"vmpl"`, 1) },
		"case variant":     func(s string) string { return strings.Replace(s, `"vmpls"`, `"VMPLs"`, 1) },
		"duplicate member": func(s string) string { return strings.Replace(s, `"vmpls": [0]`, `"vmpls": [0], "vmpls": "*"`, 1) },
		"null":             func(s string) string { return strings.Replace(s, `"vmpls": [0]`, `"vmpls": null`, 1) },
		"unknown in a TCB": func(s string) string { return strings.Replace(s, `"tee": 0`, `"tee": 0, "snp": 0`, 1) },
	} {
		if _, err := policy.Parse([]byte(edit(good)), formats); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// BenchmarkAppraise judges one report by a global document with twenty
// measurements and by one of the instance.
func BenchmarkAppraise(b *testing.B) {
	var measurements []string
	for i := range uint64(20) {
		m := [48]byte{47: 1}
		binary.BigEndian.PutUint64(m[:], i)
		measurements = append(measurements, fmt.Sprintf(`"%x"`, m))
	}
	doc := regexp.MustCompile(`"[0-9a-f]{96}"`).ReplaceAllString(documented(b, "global"), strings.Join(measurements, ","))
	chip := vendor().Chip(snp.Turin)
	v := claimed(b, chip, snp.Turin, snptest.Guest{Measurement: [48]byte{7: 19, 47: 1}})
	for _, bb := range []struct {
		name   string
		scopes []*policy.Policy
	}{
		{"global", []*policy.Policy{parse(b, doc)}},
		{"instance", []*policy.Policy{parse(b, doc), parse(b, `{"policy":"teebroker/1","name":"i","version":"1","scope":"instance","require":{"snp-report":[{"vmpls":[0]}]}}`)}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			got := one(v)
			b.ReportAllocs()
			for b.Loop() {
				if a := policy.Appraise(got, bb.scopes...); !a.Accepted() {
					b.Fatal(a.Err())
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	doc := []byte(documented(b, "global"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.Parse(doc, formats); err != nil {
			b.Fatal(err)
		}
	}
}
