package teebroker_test

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

// table returns the rows of the first table after heading in a document, each as
// its cells without back quotes.
func table(t *testing.T, file, heading string) [][]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no heading %q", file, heading)
	}
	var rows [][]string
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "|") {
			if rows != nil {
				break
			}
			continue
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(strings.TrimSpace(line), "|"), "|") {
			cells = append(cells, strings.ReplaceAll(strings.TrimSpace(cell), "`", ""))
		}
		rows = append(rows, cells)
	}
	if len(rows) < 3 {
		t.Fatalf("%s: %q has no table", file, heading)
	}
	return rows[2:]
}

// docs/reasons.md has both vocabularies, and only them.
func TestReasonsPage(t *testing.T) {
	reasons := map[string]bool{}
	for _, row := range table(t, "docs/reasons.md", "Reasons") {
		reasons[row[0]] = true
	}
	want := map[string]bool{}
	for _, r := range []evidence.Reason{
		evidence.Malformed, evidence.Unsupported, evidence.Untrusted, evidence.Revoked,
		evidence.Stale, evidence.BadSignature, evidence.NotBound, evidence.Unavailable,
	} {
		want[string(r)] = true
	}
	if !maps.Equal(reasons, want) {
		t.Errorf("Reasons %v, want %v", slices.Sorted(maps.Keys(reasons)), slices.Sorted(maps.Keys(want)))
	}

	codes := map[string][]string{}
	for _, row := range table(t, "docs/reasons.md", "Codes") {
		codes[row[0]] = row
	}
	for _, w := range words {
		if _, ok := w.err.(teebroker.Refusal); !ok {
			continue
		}
		row := codes[w.code]
		if row == nil || row[2] != w.peer {
			t.Errorf("%s: row %q", w.code, row)
			continue
		}
		if got := teebroker.Status(w.err); row[3] != strconv.Itoa(got) {
			t.Errorf("%s: status %s, want %d", w.code, row[3], got)
		}
		delete(codes, w.code)
	}
	for code := range codes {
		t.Errorf("%s is not a code", code)
	}
}

// docs/reasons.md lists the checks of each format in their order.
func TestChecksPage(t *testing.T) {
	for format, checks := range map[evidence.Format][]evidence.Check{snp.Format: snp.Checks(), cca.Format: cca.Checks()} {
		var got, want []string
		for _, row := range table(t, "docs/reasons.md", "The checks of "+string(format)) {
			got = append(got, row[0])
		}
		for _, c := range checks {
			want = append(want, c.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: checks %v, want %v", format, got, want)
		}
	}
}
