package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/logger"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

func TestMain(m *testing.M) {
	logger.Init("go-sev-guest", false, false, io.Discard)
	os.Exit(m.Run())
}

// theLab is the lab of all tests: its keys take long to make.
var theLab = sync.OnceValues(newLab)

func testLab(t *testing.T) *lab {
	t.Helper()
	l, err := theLab()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// with returns l with cases judged by a verifier that newVerifier returns instead of ours.
func (l *lab) with(newVerifier func(snp.Config) (evidence.Verifier, error)) *lab {
	worlds := map[*world]*world{}
	move := func(bases []*base) []*base {
		var moved []*base
		for _, b := range bases {
			w := b.world
			if worlds[w] == nil {
				worlds[w] = &world{
					name: w.name, anchors: w.anchors, roots: w.roots, revocation: w.revocation, pool: w.pool, lists: w.lists,
					newVerifier: newVerifier, verifiers: map[time.Time]evidence.Verifier{},
				}
			}
			c := *b
			c.world = worlds[w]
			moved = append(moved, &c)
		}
		return moved
	}
	return &lab{genuine: move(l.genuine), simulated: move(l.simulated)}
}

func (p plan) text(t *testing.T, l *lab) string {
	t.Helper()
	var b strings.Builder
	p.run(t.Context(), l).table(&b)
	return b.String()
}

// What nobody changed is accepted by us, and by go-sev-guest but for a known reason.
func TestUnchanged(t *testing.T) {
	l := testLab(t)
	agreed := 0
	for _, b := range slices.Concat(l.genuine, l.simulated) {
		c := b.unchanged()
		r := l.judge(c)
		switch {
		case r.class == bothAccept:
			agreed++
		case r.class != onlyWeAccept || r.detail != "processor model" && r.detail != "product name of version 2":
			t.Errorf("%s: we say %v, it says %v (%s)", b.name, r.ours, r.theirs, r.detail)
		}
	}
	if agreed < 12 {
		t.Errorf("both accept %d of the reports only", agreed)
	}
}

// A short run explains all and gets to every check that can refuse.
func TestShortRun(t *testing.T) {
	got := plan{seed: 1, n: 1000, workers: 2}.run(t.Context(), testLab(t))
	for _, k := range got.kept {
		t.Error(k.text)
	}
	if got.cases != 1000 || got.classes[bothAccept] < 100 || got.classes[onlyWeAccept] == 0 {
		t.Errorf("%d cases: %v", got.cases, got.classes)
	}
	for _, c := range snp.Checks() {
		if c.Name != "format" && got.details[bothRefuse][c.Name] == 0 {
			t.Errorf("nothing that both refuse got to check %q", c.Name)
		}
	}
}

// The same cases with the same verdicts, however many do the work and wherever it was interrupted.
func TestDeterminism(t *testing.T) {
	l := testLab(t)
	one := plan{seed: 5, n: 200, workers: 1}.text(t, l)
	if many := (plan{seed: 5, n: 200, workers: 7}).text(t, l); many != one {
		t.Errorf("one worker:\n%s\nseven:\n%s", one, many)
	}
	if other := (plan{seed: 6, n: 200, workers: 7}).text(t, l); other == one {
		t.Error("another seed gives the same")
	}
	sum := newTally()
	for _, p := range []plan{{seed: 5, n: 80, workers: 3}, {seed: 5, start: 80, n: 200, workers: 2}} {
		part := p.run(t.Context(), l)
		sum.cases += part.cases
		for c := range part.classes {
			sum.classes[c] += part.classes[c]
			for d, n := range part.details[c] {
				sum.details[c][d] += n
			}
		}
	}
	var b strings.Builder
	if sum.table(&b); b.String() != one {
		t.Errorf("at once:\n%s\nin two parts:\n%s", one, b.String())
	}
	a, c := l.generate(5, 17), l.generate(5, 17)
	if !bytes.Equal(a.report, c.report) || !slices.Equal(a.changes, c.changes) {
		t.Error("a case is not the same twice")
	}
}

// lax is a Verifier without some of our checks.
type lax struct {
	v    evidence.Verifier
	left func(check string) bool
}

func (l lax) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	got, err := l.v.Verify(ctx, ev, want)
	var e *evidence.Error
	if errors.As(err, &e) && l.left(e.Check) {
		return &evidence.Verified{}, nil
	}
	return got, err
}

func without(left func(string) bool) func(snp.Config) (evidence.Verifier, error) {
	return func(cfg snp.Config) (evidence.Verifier, error) {
		v, err := snp.NewVerifier(cfg)
		return lax{v, left}, err
	}
}

// A check that is left out shows, and what is printed is enough to find it again.
func TestPlantedFaults(t *testing.T) {
	l := testLab(t)
	all := plan{seed: 1, n: 60, workers: 2}.run(t.Context(), l.with(without(func(string) bool { return true })))
	if all.failures < 20 || len(all.kept) != keptFailures {
		t.Fatalf("accepting everything: %d failures, %d kept", all.failures, len(all.kept))
	}
	for _, part := range []string{"seed 1, case ", "clock: ", "change: ", "report: ", "table: ", "asked: ", "roots: "} {
		if !strings.Contains(all.kept[0].text, part) {
			t.Errorf("no %q in:\n%s", part, all.kept[0].text)
		}
	}
	var out strings.Builder
	if (plan{seed: 1, n: 60}).report(&out, l, all) != unexplained || !strings.Contains(out.String(), "UNEXPLAINED: seed 1") {
		t.Errorf("reported as\n%s", out.String())
	}
	for _, check := range []string{"signature", "chain", "validity", "revocation", "tcb", "reserved", "binding"} {
		p := plan{seed: 1, n: 300, workers: 2}
		if p.run(t.Context(), l.with(without(func(c string) bool { return c == check }))).failures == 0 {
			t.Errorf("without check %q nothing shows", check)
		}
	}
}

// A verdict that is none is a failure, whatever go-sev-guest says.
func TestNoVerdict(t *testing.T) {
	for name, v := range map[string]evidence.Verifier{"panic": nothing{panics: true}, "neither result nor error": nothing{}} {
		l := testLab(t).with(func(snp.Config) (evidence.Verifier, error) { return v, nil })
		if got := (plan{seed: 1, n: 4, workers: 1}).run(t.Context(), l); got.failures != 4 {
			t.Errorf("%s: %d failures", name, got.failures)
		}
	}
}

type nothing struct{ panics bool }

func (n nothing) Verify(context.Context, evidence.Evidence, evidence.Binding) (*evidence.Verified, error) {
	if n.panics {
		panic("planted")
	}
	return nil, nil
}

// An explanation needs both: the property and the error it gives.
func TestExplanationsAreNarrow(t *testing.T) {
	l := testLab(t)
	for i := range uint64(300) {
		c := l.generate(9, i)
		if ours(c) != nil {
			continue
		}
		if name, ok := explain(c, errors.New("something else")); ok && name != "other table entry" {
			t.Errorf("case %d: %q explains any error", i, name)
		}
	}
	b := l.simulated[0]
	c := b.unchanged()
	for _, text := range []string{
		"could not be verified by any trusted roots. Last error: <nil>", "report signature verification error", "unknown product name",
		"unknown AMD SEV product", "reserved platform info bit 6", "unrecognized platform info bit", "TCB part is", "committed build number",
		"committed API version", "ASK was revoked", "x509: malformed certificate", "x509: malformed crl", "trailing bytes",
	} {
		if name, ok := explain(c, errors.New(text)); ok {
			t.Errorf("%q: explained by %q without its property", text, name)
		}
	}
	if _, ok := explain(c, errors.Join(errors.New("committed build number"), errors.New("x"))); ok {
		t.Error("half of an error is enough")
	}
}

func TestInterrupted(t *testing.T) {
	l := testLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := plan{tee: "snp", seed: 3, start: 7, n: 20, workers: 2}
	got := p.run(ctx, l)
	var out strings.Builder
	if p.report(&out, l, got) != explained || got.cases != 0 {
		t.Errorf("%d cases", got.cases)
	}
	if want := "go run ./internal/differential -tee snp -seed 3 -start 7 -n 20\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("no %q at the end of\n%s", want, out.String())
	}
}

func TestParse(t *testing.T) {
	p, err := parse([]string{"-tee", "snp", "-seed", "4", "-start", "2", "-n", "9"}, io.Discard)
	if err != nil || p.seed != 4 || p.start != 2 || p.n != 9 {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := parse([]string{"-tee", "tdx"}, io.Discard); err != nil || p.tee != "tdx" {
		t.Errorf("%+v, %v", p, err)
	}
	for _, args := range [][]string{{"-tee", "cca"}, {"x"}, {"-n", "-1"}, {"-start", "9", "-n", "8"}, {"-x"}} {
		if status := program(t.Context(), args, io.Discard, io.Discard); status != unusable {
			t.Errorf("%v: status %d", args, status)
		}
	}
	var out strings.Builder
	if status := program(t.Context(), []string{"-h"}, &out, io.Discard); status != explained || !strings.Contains(out.String(), "-seed") {
		t.Errorf("help: %d\n%s", status, out.String())
	}
}

// rows returns the first cells of the first table after a heading of the page.
func rows(t *testing.T, heading string) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/differential.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("no heading %q", heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	var first []string
	for line := range strings.Lines(rest) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			first = append(first, strings.Trim(cells[1], " `"))
		}
	}
	if len(first) < 3 {
		t.Fatalf("%q has no table", heading)
	}
	return first[2:]
}

// The page has every explanation, and only these.
func TestPage(t *testing.T) {
	want := map[string]bool{}
	for _, x := range explanations() {
		want[x.name] = true
	}
	got := map[string]bool{}
	for _, name := range rows(t, "We accept, it refuses") {
		got[name] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("the page has %v, the program %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}
