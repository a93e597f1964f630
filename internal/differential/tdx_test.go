package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
)

var theTDXLab = sync.OnceValues(newTDXLab)

func testTDXLab(t *testing.T) *tdxLab {
	t.Helper()
	l, err := theTDXLab()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// with returns l with cases judged by a verifier that newVerifier returns instead of ours.
func (l *tdxLab) with(newVerifier func(tdx.Config) (evidence.Verifier, error)) *tdxLab {
	worlds := map[*tdxWorld]*tdxWorld{}
	move := func(bases []*tdxBase) []*tdxBase {
		var moved []*tdxBase
		for _, b := range bases {
			w := b.world
			if worlds[w] == nil {
				worlds[w] = &tdxWorld{
					name: w.name, anchors: w.anchors, roots: w.roots, platforms: w.platforms, sets: w.sets,
					newVerifier: newVerifier, verifiers: map[time.Time]evidence.Verifier{},
				}
			}
			c := *b
			c.world = worlds[w]
			moved = append(moved, &c)
		}
		return moved
	}
	return &tdxLab{genuine: move(l.genuine), simulated: move(l.simulated)}
}

// Both say of what nobody changed what is known of it.
func TestTDXUnchanged(t *testing.T) {
	l := testTDXLab(t)
	want := map[string]struct {
		class  class
		detail string
	}{
		"simulated platform, up to date":                      {bothAccept, ""},
		"simulated processor, up to date":                     {onlyWeAccept, "Processor CA"},
		"go-tdx-guest's quote with go-tdx-guest's collateral": {bothRefuse, checkStatus},
		"dstack_quote_report_v4 with gtgv5_2026_02_90c06f":    {bothAccept, ""},
		"dstack_quote_report_v4 with dcapqvl_2026_02_90c06f":  {onlyWeAccept, "FMSPC in capitals"},
		"dcapqvl_sample_v4 with dcapqvl_2025_06_b0c06f":       {onlyWeAccept, "FMSPC in capitals"},
		"trustee_quote4_v4_debug with gtg_2023_06_50806f":     {bothAccept, ""},
	}
	for _, b := range slices.Concat(l.genuine, l.simulated) {
		r := b.unchanged().judge()
		if w, ok := want[b.name]; !ok || r.class != w.class || r.detail != w.detail {
			t.Errorf("%s: we say %v, it says %v (%d, %q)", b.name, r.ours, r.theirs, r.class, r.detail)
		}
	}
}

// A short run explains all and gets to every check that can refuse.
func TestTDXShortRun(t *testing.T) {
	got := plan{seed: 1, n: 1500, workers: 2}.run(t.Context(), testTDXLab(t))
	for _, k := range got.kept {
		t.Error(k.text)
	}
	if got.cases != 1500 || got.classes[bothAccept] < 100 || got.classes[onlyWeAccept] == 0 {
		t.Errorf("%d cases: %v", got.cases, got.classes)
	}
	// Nothing comes along with these quotes: go-tdx-guest reads no event logs.
	alone := []string{"format", "items", "event-log"}
	for _, c := range tdx.Checks() {
		if !slices.Contains(alone, c.Name) && got.details[bothRefuse][c.Name] == 0 {
			t.Errorf("nothing that both refuse got to check %q", c.Name)
		}
	}
}

func TestTDXDeterminism(t *testing.T) {
	l := testTDXLab(t)
	text := func(p plan) string {
		var b strings.Builder
		p.run(t.Context(), l).table(&b)
		return b.String()
	}
	one := text(plan{seed: 5, n: 150, workers: 1})
	if many := text(plan{seed: 5, n: 150, workers: 7}); many != one {
		t.Errorf("one worker:\n%s\nseven:\n%s", one, many)
	}
	if other := text(plan{seed: 6, n: 150, workers: 7}); other == one {
		t.Error("another seed gives the same")
	}
	a, c := l.generate(5, 17), l.generate(5, 17)
	if !bytes.Equal(a.raw, c.raw) || !slices.Equal(a.changes, c.changes) {
		t.Error("a case is not the same twice")
	}
}

// A check that is left out shows, and what is printed is enough to find it again.
func TestTDXPlantedFaults(t *testing.T) {
	l := testTDXLab(t)
	left := func(which func(string) bool) *tdxLab {
		return l.with(func(cfg tdx.Config) (evidence.Verifier, error) {
			v, err := tdx.NewVerifier(cfg)
			return laxTDX{v, which}, err
		})
	}
	all := plan{seed: 1, n: 60, workers: 2}.run(t.Context(), left(func(string) bool { return true }))
	if all.failures < 20 || len(all.kept) != keptFailures {
		t.Fatalf("accepting everything: %d failures, %d kept", all.failures, len(all.kept))
	}
	for _, part := range []string{"seed 1, case ", "clock: ", "change: ", "quote: ", tdx.QEIdentityName() + ": ", "asked: ", "root: "} {
		if !strings.Contains(all.kept[0].text, part) {
			t.Errorf("no %q in:\n%s", part, all.kept[0].text)
		}
	}
	for _, check := range []string{"signature", "chain", "validity", "revocation", "tcb", "qe-report", "attestation-key", "binding"} {
		p := plan{seed: 1, n: 400, workers: 2}
		if p.run(t.Context(), left(func(c string) bool { return c == check })).failures == 0 {
			t.Errorf("without check %q nothing shows", check)
		}
	}
}

// laxTDX is a Verifier without some of our checks: what they refuse is UpToDate.
type laxTDX struct {
	v    evidence.Verifier
	left func(check string) bool
}

func (l laxTDX) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	got, err := l.v.Verify(ctx, ev, want)
	var e *evidence.Error
	if errors.As(err, &e) && l.left(e.Check) {
		return &evidence.Verified{Format: tdx.Format, Claims: &tdx.Claims{TCB: tdx.TCB{Status: tdx.UpToDate}}}, nil
	}
	return got, err
}

// An explanation needs both: the property and the error it gives.
func TestTDXExplanationsAreNarrow(t *testing.T) {
	l := testTDXLab(t)
	for i := range uint64(200) {
		c := l.generate(9, i)
		if oursTDX(c) != nil {
			continue
		}
		if name, ok := explainBy(tdxExplanations(), c, errors.New("something else")); ok {
			t.Errorf("case %d: %q explains any error", i, name)
		}
	}
	c := l.simulated[0].unchanged()
	for _, text := range []string{
		`unable to validate Intermediate CA certificate: "Intel SGX PCK Processor CA" is not expected`, "FMSPC from PCK Certificate(",
		"QE Identity reported by Intel PCS failed TCB status check: TCB Status is not", "TDX Module TCB Status is not",
		"failed TCB status check: TCB Status is not", "could not find a TDX Module Identity (", "MRSIGNERSEAM value from TD Quote Body",
		"is not equal to TdxModule.Attributes field", "unauthorized tdAttributes", "unauthorized xfam",
		"unexpected trailing bytes were found in PCK Certificate Chain",
		"could not parse PEM formatted root certificate in Tcb-Info-Issuer-Chain",
		"could not parse PEM formatted root certificate in Sgx-Enclave-Identity-Issuer-Chain",
		"Sgx-Pck-Crl-Issuer-Chain", "unable to parse DER bytes of CRL",
	} {
		if name, ok := explainBy(tdxExplanations(), c, errors.New(text)); ok {
			t.Errorf("%q: explained by %q without its property", text, name)
		}
	}
}

// Each explanation is of evidence that we accept and go-tdx-guest refuses.
func TestEachTDXExplanation(t *testing.T) {
	l := testTDXLab(t)
	w := l.simulated[0].world
	platform := func(name string) func(*tdxCase) {
		return func(c *tdxCase) {
			i := slices.IndexFunc(w.platforms, func(p *tdxPlatform) bool { return p.name == name })
			if i < 0 {
				t.Fatalf("no platform %s", name)
			}
			c.platform = w.platforms[i]
		}
	}
	set := func(name string) func(*tdxCase) {
		return func(c *tdxCase) {
			i := slices.IndexFunc(w.sets, func(s *tdxSet) bool { return s.name == name })
			if i < 0 {
				t.Fatalf("no set %s", name)
			}
			c.set = w.sets[i]
		}
	}
	nothing := func([]byte) {}
	seen := map[string]bool{}
	for i, x := range []struct {
		name  string
		made  func(*tdxCase)
		body  func([]byte)
		spoil func(*tdxCase)
	}{
		{"Processor CA", platform("processor, up to date"), nothing, nil},
		{"FMSPC in capitals", set("TCB Info with FMSPC in capitals"), nothing, nil},
		{"order of levels", set("TCB Info with levels the other way round"), nothing, nil},
		{"order of levels", set("TCB Info with module levels the other way round"), nothing, nil},
		{"order of levels", set("QE identity with a lower level first"), nothing, nil},
		{"name of a module", set("TCB Info with modules in small letters"), nothing, nil},
		{"identity of a module", set("TCB Info with another signer of modules of version 0"), nothing, nil},
		{"identity of a module", set("TCB Info with attributes of modules of version 0"), nothing, nil},
		{"TD attributes", nil, func(b []byte) { b[offsetTDAttributes+3] |= 1 << 5 }, nil},
		{"XFAM", nil, func(b []byte) { b[offsetXFAM+7] |= 1 << 7 }, nil},
		{"end of a chain", nil, nothing, func(c *tdxCase) { c.raw = withChain(c.raw, append(bytes.TrimRight(chainOf(c.raw), "\x00"), '\n')) }},
		{"chain of a list", set("lists without chain"), nothing, nil},
		{"CRL in PEM", set("lists in PEM"), nothing, nil},
	} {
		t.Run(fmt.Sprint(i, " ", x.name), func(t *testing.T) {
			seen[x.name] = true
			b := l.simulated[0]
			c := &tdxCase{base: b, platform: b.platform, set: b.set, at: b.at, want: b.want}
			if x.made != nil {
				x.made(c)
			}
			c.build(x.body, nothing)
			if x.spoil != nil {
				x.spoil(c)
			}
			if r := c.judge(); r.class != onlyWeAccept || r.detail != x.name {
				t.Errorf("we say %v, it says %v: %q", r.ours, r.theirs, r.detail)
			}
		})
	}
	for _, x := range tdxExplanations() {
		if !seen[x.name] {
			t.Errorf("no case for %q", x.name)
		}
	}
}

// The page has every explanation, and only these.
func TestTDXPage(t *testing.T) {
	want := map[string]bool{}
	for _, x := range tdxExplanations() {
		want[x.name] = true
	}
	got := map[string]bool{}
	for _, name := range rows(t, "TDX: we accept, it refuses") {
		got[name] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("the page has %v, the program %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// A clock that moved is the same clock for both, and the layout is the one that
// simulated quotes have.
func TestTDXSameClock(t *testing.T) {
	c := testTDXLab(t).simulated[0].unchanged()
	if chainEnd(c.raw) != len(c.raw) || !bytes.Equal(c.raw[offsetTDXReportData:offsetTDXReportData+64], c.want) {
		t.Error("offsets are wrong")
	}
	for at, valid := range map[time.Time]bool{
		issued().AddDate(0, 0, 30):                  true,
		issued().AddDate(0, 0, 30).Add(time.Second): false,
	} {
		c.at = at
		if o, th := oursTDX(c), theirsTDX(c); (o == nil) != valid || (th == nil) != valid {
			t.Errorf("at %v: we say %v, it says %v", at, o, th)
		}
	}
}
