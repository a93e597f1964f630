package tdx_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// simulatedNow is when everything simulated is made and verified.
func simulatedNow() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

// simulated is one verification of simulated evidence. Tests change what they are
// about and leave the rest, which is accepted.
type simulated struct {
	intel    *tdxtest.Intel
	platform *tdxtest.Platform
	td       tdxtest.TD
	set      tdxtest.Set
	cfg      tdx.Config               // without the Source, which is set
	source   evidence.Source          // instead of set
	ev       func(*evidence.Evidence) // after the quote is made
	want     func() evidence.Binding  // instead of what was signed
}

// simulate returns what is accepted, on a new platform of ca.
func simulate(n *tdxtest.Intel, ca tdx.CA) *simulated {
	return &simulated{
		intel:    n,
		platform: n.Platform(ca),
		set:      n.Set(tdxtest.FMSPC(ca)),
		cfg:      tdx.Config{Anchors: n.Anchors(), Time: simulatedNow},
	}
}

// newSimulatedIntel returns a vendor at simulatedNow.
func newSimulatedIntel() *tdxtest.Intel {
	n := tdxtest.NewIntel()
	n.Time = simulatedNow
	return n
}

func simulatedBinding(t testing.TB) evidence.Binding {
	t.Helper()
	b, err := evidence.NewBinding([]byte("nonce and key"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *simulated) verify(t testing.TB) (*evidence.Verified, error) {
	t.Helper()
	want := simulatedBinding(t)
	ev := s.platform.Quote(s.td, want)
	if s.ev != nil {
		s.ev(&ev)
	}
	if s.want != nil {
		want = s.want()
	}
	cfg := s.cfg
	if cfg.Source = s.source; s.source == nil {
		cfg.Source = s.set
	}
	return newVerifier(t, cfg).Verify(t.Context(), ev, want)
}

// info replaces the TCB Info by one that edit changed.
func (s *simulated) info(edit func(*tdxtest.TCBInfo)) {
	info := s.intel.TCBInfo(s.platform.PCK.FMSPC)
	edit(&info)
	s.set[s.infoName()] = []evidence.Collateral{s.intel.SignTCBInfo(info)}
}

// identity replaces the QE identity by one that edit changed.
func (s *simulated) identity(edit func(*tdxtest.QEIdentity)) {
	id := s.intel.QEIdentity()
	edit(&id)
	s.set[tdx.QEIdentityName()] = []evidence.Collateral{s.intel.SignQEIdentity(id)}
}

// list replaces the list called name.
func (s *simulated) list(name string, c tdxtest.CRL) {
	s.set[name] = []evidence.Collateral{s.intel.SignCRL(c)}
}

func (s *simulated) infoName() string { return tdx.TCBInfoName(s.platform.PCK.FMSPC) }
func (s *simulated) listName() string { return tdx.PCKCRLName(s.platform.PCK.CA) }

// chain makes the quote have ders as its certificates.
func (s *simulated) chain(ders ...[]byte) {
	s.td.Data = func(d *tdxtest.SignatureData) { d.Chain = tdxtest.PEM(ders...) }
}

// leaf makes the quote have another PCK certificate.
func (s *simulated) leaf(edit func(*tdxtest.Certificate)) {
	s.chain(s.platform.Certificate(edit), s.intel.Certificate(tdxtest.PlatformCA, nil), s.intel.Certificate(tdxtest.Root, nil))
}

// ca makes the quote have another certificate of the Platform CA.
func (s *simulated) ca(edit func(*tdxtest.Certificate)) {
	s.chain(s.platform.Certificate(nil), s.intel.Certificate(tdxtest.PlatformCA, edit), s.intel.Certificate(tdxtest.Root, nil))
}

// Both CAs, both versions and both bodies, and every claim of the platform.
func TestVerifySimulatedQuotes(t *testing.T) {
	n := newSimulatedIntel()
	for _, ca := range []tdx.CA{tdx.PlatformCA, tdx.ProcessorCA} {
		for _, td := range []tdxtest.TD{{Version: abi.V4}, {Version: abi.V5, Body: tdx.TD10}, {Version: abi.V5, Body: tdx.TD15}} {
			t.Run(fmt.Sprintf("%v CA, version %d, body %d", ca, td.Version, td.Body), func(t *testing.T) {
				s := simulate(n, ca)
				s.td = td
				s.td.MRTD, s.td.RTMRs[3], s.td.MRServiceTD = [48]byte{1}, [48]byte{2}, [48]byte{3}
				got, err := s.verify(t)
				if err != nil {
					t.Fatal(err)
				}
				wantSimulated(t, got, s)
			})
		}
	}
}

func wantSimulated(t *testing.T, got *evidence.Verified, s *simulated) {
	t.Helper()
	c, ok := tdx.ClaimsOf(got)
	if !ok {
		t.Fatal("no claims")
	}
	if fmt.Sprint(c.PCK) != fmt.Sprint(s.platform.PCK) || c.QE != s.platform.QE {
		t.Errorf("got %v %v, want %v %v", c.PCK, c.QE, s.platform.PCK, s.platform.QE)
	}
	if c.TCB.Status != tdx.UpToDate || c.TCB.EvaluationDataNumber != tdxtest.EvaluationDataNumber {
		t.Errorf("TCB is %+v", c.TCB)
	}
	svn2, has2 := c.TEETCBSVN2()
	service, _ := c.MRServiceTD()
	if has15 := s.td.Body == tdx.TD15; has2 != has15 || has15 && (svn2 != s.platform.Running || service != s.td.MRServiceTD) {
		t.Errorf("TEE_TCB_SVN_2 %v, %v, MRSERVICETD %x", svn2, has2, service)
	}
	if c.Version() != s.td.Version || c.MRTD() != s.td.MRTD || c.RTMRs() != s.td.RTMRs || c.TEETCBSVN() != s.platform.Launched {
		t.Errorf("version %d, MRTD %x, RTMRs %x", c.Version(), c.MRTD(), c.RTMRs())
	}
}

// One Verifier serves everyone at once, also when it forgets what it verified.
// Run with -race.
func TestVerifySimulatedConcurrently(t *testing.T) {
	const goroutines, platforms = 64, 8
	n := newSimulatedIntel()
	v := newVerifier(t, tdx.Config{Anchors: n.Anchors(), Source: n.Source(), Time: simulatedNow, CacheSize: platforms / 2})
	want := simulatedBinding(t)
	var ps []*tdxtest.Platform
	for i := range platforms {
		p := n.Platform([]tdx.CA{tdx.PlatformCA, tdx.ProcessorCA}[i%2])
		p.PCK.FMSPC[5] = byte(i)
		ps = append(ps, p)
	}
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			p := ps[i%platforms]
			ev := p.Quote(tdxtest.TD{Version: uint16(abi.V4 + i%2), MRTD: [48]byte{byte(i)}}, want)
			for range 4 {
				got, err := v.Verify(t.Context(), ev, want)
				if err != nil {
					t.Error(err)
					return
				}
				if c, _ := tdx.ClaimsOf(got); c.MRTD() != [48]byte{byte(i)} || c.PCK.PPID != p.PCK.PPID || c.TCB.Status != tdx.UpToDate {
					t.Errorf("the claims of another: %v", c.PCK)
				}
			}
			bad := p.Quote(tdxtest.TD{Fault: func(q []byte) []byte { q[abi.BodyV4+abi.MRTD] ^= 1; return q }}, want)
			if _, err := v.Verify(t.Context(), bad, want); err == nil {
				t.Error("a forged quote is accepted")
			}
		})
	}
	wg.Wait()
}

// number makes TCB Info and QE identity be of an evaluation.
func (s *simulated) number(n uint32) {
	s.info(func(i *tdxtest.TCBInfo) { i.Number = n })
	s.identity(func(q *tdxtest.QEIdentity) { q.Number = n })
}
