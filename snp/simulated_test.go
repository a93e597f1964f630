package snp_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// simulatedNow is when everything simulated is made and verified.
func simulatedNow() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

// simulatedAMD is the vendor of all tests: its keys take long to make.
var simulatedAMD = sync.OnceValue(func() *snptest.AMD {
	a := snptest.NewAMD()
	a.Time = simulatedNow
	return a
})

func bindingOf(t testing.TB, text string) evidence.Binding {
	t.Helper()
	b, err := evidence.NewBinding([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// overlay is a Source that answers from files first.
type overlay struct {
	files
	under evidence.Source
}

func (o overlay) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	if c, err := o.files.Get(ctx, name); err == nil {
		return c, nil
	}
	return o.under.Get(ctx, name)
}

// broken is a Source that is out of order.
type broken struct{}

func (broken) Get(context.Context, string) ([]evidence.Collateral, error) {
	return nil, context.DeadlineExceeded
}

// simulated is one verification of simulated evidence. Tests change what they
// are about and leave the rest, which is accepted.
type simulated struct {
	chip  *snptest.Chip
	guest snptest.Guest
	cfg   snp.Config
	ev    func(*evidence.Evidence) // after the report is made
}

// simulate returns what is accepted on a new chip of line.
func simulate(line snp.Line) *simulated {
	a := simulatedAMD()
	return &simulated{
		chip: a.Chip(line),
		cfg:  snp.Config{Anchors: a.Anchors(line), Source: a.Source(), Time: simulatedNow},
	}
}

// crl makes the Source have lists, and none else, for keys of kind.
func (s *simulated) crl(kind snp.KeyKind, lists ...[]byte) {
	answers := []evidence.Collateral{}
	for _, l := range lists {
		answers = append(answers, evidence.Collateral{Data: l})
	}
	s.cfg.Source = overlay{files{snp.CRLName(s.line(), kind): answers}, s.cfg.Source}
}

func (s *simulated) line() snp.Line { return s.chip.Reported.Line }

// item makes the Evidence have the one VEK.
func (s *simulated) item(der []byte) {
	s.ev = func(ev *evidence.Evidence) { ev.Items = []evidence.Item{{Type: snp.VEK, Data: der}} }
}

// onlyItems makes the Source have CRLs but no VEK.
func (s *simulated) onlyItems() {
	all := files{}
	for _, kind := range []snp.KeyKind{snp.VCEK, snp.VLEK} {
		name := snp.CRLName(s.line(), kind)
		all[name], _ = s.cfg.Source.Get(context.Background(), name)
	}
	s.cfg.Source = all
}

func (s *simulated) evidence(t testing.TB) evidence.Evidence {
	ev := s.chip.Report(s.guest, bindingOf(t, "nonce and key"))
	if s.ev != nil {
		s.ev(&ev)
	}
	return ev
}

func (s *simulated) verify(t testing.TB) (*evidence.Verified, error) {
	t.Helper()
	return newVerifier(t, s.cfg).Verify(t.Context(), s.evidence(t), bindingOf(t, "nonce and key"))
}

func TestVerifySimulatedReports(t *testing.T) {
	for _, line := range []snp.Line{snp.Milan, snp.Genoa, snp.Turin} {
		for version := uint32(2); version <= 5; version++ {
			for _, kind := range []snp.KeyKind{snp.VCEK, snp.VLEK} {
				t.Run(fmt.Sprintf("%v version %d by %v", line, version, kind), func(t *testing.T) {
					s := simulate(line)
					s.guest = snptest.Guest{Version: version, Key: kind, Measurement: [48]byte{7}}
					s.cfg.Anchors = simulatedAMD().Anchors(snp.Milan, snp.Genoa, snp.Turin)
					got, err := s.verify(t)
					if err != nil {
						t.Fatal(err)
					}
					wantClaims(t, got, s, version, kind)
				})
			}
		}
	}
}

func wantClaims(t *testing.T, got *evidence.Verified, s *simulated, version uint32, kind snp.KeyKind) {
	t.Helper()
	c, ok := snp.ClaimsOf(got)
	if !ok {
		t.Fatal("no claims")
	}
	if c.Version() != version || c.Line != s.line() || c.Key != kind || c.Measurement() != [48]byte{7} {
		t.Errorf("version %d, %v, %v", c.Version(), c.Line, c.Key)
	}
	if c.CurrentTCB() != s.chip.Current || c.ReportedTCB() != s.chip.Reported || c.CommittedTCB() != s.chip.Committed || c.LaunchTCB() != s.chip.Launch {
		t.Errorf("TCBs %v %v %v %v", c.CurrentTCB(), c.ReportedTCB(), c.CommittedTCB(), c.LaunchTCB())
	}
	chip, csp := s.chip.ID(), ""
	if kind == snp.VLEK {
		chip, csp = snp.ChipID{}, s.chip.CSP
	}
	if c.Chip != chip || c.CSP != csp {
		t.Errorf("chip %x, CSP %q", c.Chip, c.CSP)
	}
	if got.Root != sha256.Sum256(simulatedAMD().Anchors(s.line())[0].ARK) || !got.Bound || got.Skipped != nil {
		t.Errorf("root %x, bound %v, skipped %v", got.Root, got.Bound, got.Skipped)
	}
	if want := simulatedNow().AddDate(0, 0, 30); !got.NotAfter.Equal(want) || !got.CheckedAt.Equal(simulatedNow()) {
		t.Errorf("holds until %v, want the end of the CRL, %v", got.NotAfter, want)
	}
}

func TestBergamoIsOfLineGenoa(t *testing.T) {
	s := simulate(snp.Genoa)
	s.chip.Model = 0xA0
	got, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := snp.ClaimsOf(got); c.Line != snp.Genoa {
		t.Errorf("line %v", c.Line)
	}
}

func TestVersion2WithoutItemsFindsItsLine(t *testing.T) {
	for _, line := range []snp.Line{snp.Milan, snp.Genoa, snp.Turin} {
		s := simulate(line)
		s.guest.Version = 2
		s.cfg.Anchors = simulatedAMD().Anchors(snp.Milan, snp.Genoa, snp.Turin)
		s.ev = func(ev *evidence.Evidence) { ev.Items = nil }
		got, err := s.verify(t)
		if err != nil {
			t.Errorf("%v: %v", line, err)
			continue
		}
		if c, _ := snp.ClaimsOf(got); c.Line != line {
			t.Errorf("%v is taken for %v", line, c.Line)
		}
	}
}

func TestChecksAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range snp.Checks() {
		if seen[c.Name] || c.Name == "" || c.Doc == "" {
			t.Errorf("check %q", c.Name)
		}
		seen[c.Name] = true
	}
	if !seen[evidence.BindingCheck] || !seen["revocation"] {
		t.Error("no binding or revocation")
	}
}

func hasCheck(name string) bool {
	return slices.ContainsFunc(snp.Checks(), func(c evidence.Check) bool { return c.Name == name })
}
