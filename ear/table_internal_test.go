package ear

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
)

// claim is a documented one: its name and kind.
type claim struct{ name, kind string }

func documentedClaims(t *testing.T) (all []claim) {
	t.Helper()
	for _, page := range []string{"claims.md", "claims-tdx.md", "claims-cca.md"} {
		b, err := os.ReadFile("../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?m)^\\| `((?:snp|tdx|cca)\\.[a-z0-9_.]+)` \\| ([^|]+) \\|").FindAllStringSubmatch(string(b), -1) {
			all = append(all, claim{m[1], m[2]})
		}
	}
	return all
}

// docs/ear.md has the table, row by row.
func TestDocsTable(t *testing.T) {
	b, err := os.ReadFile("../docs/ear.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "| Claim | Category | Value | Whatever policies accept |\n|---|---|---|---|\n")
	section, _, _ = strings.Cut(section, "\n\n")
	var want []string
	for _, r := range table() {
		always := ""
		if !r.is.IsZero() {
			always = fmt.Sprintf("if it is `%v`", r.is)
			if r.not {
				always = strings.Replace(always, "is", "is not", 1)
			}
		}
		want = append(want, strings.TrimSuffix(fmt.Sprintf("| `%s` | `%s` | %d | %s", r.claim, r.category, r.value, always), " ")+" |")
	}
	if section != strings.Join(want, "\n") {
		t.Errorf("the table of docs/ear.md should be\n%s", strings.Join(want, "\n"))
	}
}

// Every claim has a row, no row is without a claim, and no row comes after one that
// takes all of its claims.
func TestTableCoversClaims(t *testing.T) {
	rows := table()
	own := []string{"bound", "layer.bound", "skipped"} // of appraisal, whatever the evidence
	used := make([]bool, len(rows))
	for _, c := range documentedClaims(t) {
		at := slices.IndexFunc(rows, func(r row) bool { return r.of(c.name) })
		if at < 0 {
			t.Errorf("%s has no row", c.name)
			continue
		}
		used[at] = true
		for i, r := range rows {
			if r.is.IsZero() || r.claim != c.name {
				continue
			}
			used[i] = true
			kind := "bool"
			if r.is.SameKind(evidence.Text("")) {
				kind = "text"
			}
			if c.kind != kind {
				t.Errorf("%s is %s, not %s", c.name, c.kind, kind)
			}
		}
	}
	for i, r := range rows {
		if !used[i] && !slices.Contains(own, r.claim) {
			t.Errorf("%s: no claim is of this row", r.claim)
		}
		if r.category < 0 || r.category >= categories || tier(r.value) > Warning {
			t.Errorf("%s refused is %v %d", r.claim, r.category, r.value)
		}
	}
}

// Tiers are those of AR4SI section 2.3.3, for every value.
func TestTierOfValues(t *testing.T) {
	for v := -128; v <= 127; v++ {
		want := Contraindicated
		switch {
		case v == -1 || v == 0 || v == 1:
			want = None
		case v >= 2 && v <= 31 || v >= -32 && v <= -2:
			want = Affirming
		case v >= 32 && v <= 95 || v >= -96 && v <= -33:
			want = Warning
		}
		if got := tier(int8(v)); got != want {
			t.Errorf("%d is %v, want %v", v, got, want)
		}
	}
}

// A value is only ever lowered, and of two of one tier the first stays.
func TestLower(t *testing.T) {
	var v Vector
	for _, step := range []struct{ value, want int8 }{{3, 3}, {2, 3}, {33, 33}, {2, 33}, {32, 33}, {96, 96}, {33, 96}, {99, 96}} {
		if v.lower(Executables, step.value); v[Executables] != step.want {
			t.Errorf("after %d: %d, want %d", step.value, v[Executables], step.want)
		}
	}
}
