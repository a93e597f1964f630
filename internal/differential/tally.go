package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// keptFailures is how many failures are printed in full.
const keptFailures = 10

// tally counts results. Its methods are safe for concurrent use.
type tally struct {
	mu       sync.Mutex
	began    time.Time
	cases    uint64
	failures uint64
	classes  [failure + 1]uint64
	details  [failure + 1]map[string]uint64
	kept     []kept // failures, those with the lowest index
}

// kept is a failure with all that is needed to look at it.
type kept struct {
	index uint64
	text  string
}

func newTally() *tally {
	t := &tally{began: time.Now()}
	for i := range t.details {
		t.details[i] = map[string]uint64{}
	}
	return t
}

func (t *tally) add(r outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cases++
	t.classes[r.class]++
	t.details[r.class][r.detail]++
	if r.class != failure {
		return
	}
	t.failures++
	t.kept = append(t.kept, kept{r.index, r.reproduce()})
	slices.SortFunc(t.kept, func(a, b kept) int { return int(int64(a.index) - int64(b.index)) })
	t.kept = t.kept[:min(len(t.kept), keptFailures)]
}

// progress says how far p is.
func (t *tally) progress(p plan) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("%d of %d, %.0f/s: both accept %d, both refuse %d, only it accepts %d, only we accept %d, unexplained %d",
		p.start+t.cases, p.n, t.rate(), t.classes[bothAccept], t.classes[bothRefuse], t.classes[onlyTheyAccept], t.classes[onlyWeAccept], t.failures)
}

func (t *tally) rate() float64 { return float64(t.cases) / time.Since(t.began).Seconds() }

// print writes the summary.
func (t *tally) print(w io.Writer, p plan) {
	fmt.Fprintf(w, "\nSeed %d, cases %d up to %d, at %.0f/s:\n", p.seed, p.start, p.start+t.cases, t.rate())
	t.table(w)
	for _, k := range t.kept {
		fmt.Fprintf(w, "\n%s\n", k.text)
	}
}

// table writes what does not depend on time.
func (t *tally) table(w io.Writer) {
	for c, heading := range [...]string{
		bothAccept:     "both accept",
		bothRefuse:     "both refuse; our check",
		onlyTheyAccept: "we refuse and it accepts; our check",
		onlyWeAccept:   "we accept and it refuses; the explanation",
		failure:        "unexplained",
	} {
		fmt.Fprintf(w, "%9d  %s\n", t.classes[c], heading)
		for _, d := range slices.Sorted(maps.Keys(t.details[c])) {
			if d != "" {
				fmt.Fprintf(w, "%9d    %s\n", t.details[c][d], d)
			}
		}
	}
}

// reproduce returns c in full.
func (c *testCase) reproduce(r result) string {
	b64 := base64.StdEncoding.EncodeToString
	lines := []string{
		fmt.Sprintf("UNEXPLAINED: seed %d, case %d, of %s", c.seed, c.index, c.base.name),
		fmt.Sprintf("  we:     %v %s", r.ours, r.detail),
		fmt.Sprintf("  it:     %v", r.theirs),
		fmt.Sprintf("  clock:  %s, roots: %s, lists: %s", c.at.Format(time.RFC3339), c.base.world.name, c.lists.name),
	}
	for _, change := range c.changes {
		lines = append(lines, "  change: "+change)
	}
	for line, der := range c.lists.der {
		lines = append(lines, fmt.Sprintf("  list:   %v %s", line, b64(der)))
	}
	for _, a := range c.base.world.anchors {
		lines = append(lines, fmt.Sprintf("  roots:  %v %s %s %s", a.Line, b64(a.ARK), b64(a.ASK), b64(a.ASVK)))
	}
	return strings.Join(append(lines,
		"  asked:  "+b64(c.want),
		"  report: "+b64(c.report),
		"  table:  "+b64(c.table())), "\n")
}
