package snp_test

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// listed makes the Source have the one list.
func listed(edit func(*snptest.CRL)) func(*simulated) {
	return func(s *simulated) {
		c := snptest.CRL{Line: s.line()}
		edit(&c)
		s.crl(snp.VCEK, simulatedAMD().IssueCRL(c))
	}
}

// Serial numbers of the CAs: AMD's.
var (
	askGenoa  = big.NewInt(0x020002)
	asvkGenoa = big.NewInt(0x020101)
)

func TestStrictRevocation(t *testing.T) {
	a := simulatedAMD()
	good := func() []byte { return a.IssueCRL(snptest.CRL{Line: snp.Genoa}) }
	critical := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 0}}
	testRefusals(t, snp.Genoa, []refusal{
		{"the ASK is revoked", listed(func(c *snptest.CRL) { c.Revoked = []*big.Int{big.NewInt(7), askGenoa} }), evidence.Revoked, "revocation", "ASK"},
		{"the ASVK is revoked", func(s *simulated) {
			s.guest.Key = snp.VLEK
			s.crl(snp.VLEK, a.IssueCRL(snptest.CRL{Line: snp.Genoa, Revoked: []*big.Int{asvkGenoa}}))
		}, evidence.Revoked, "revocation", "ASVK"},
		{"a VLEK with a serial number is revoked", func(s *simulated) {
			s.guest.Key = snp.VLEK
			v := s.vekOf()
			v.Serial = big.NewInt(77)
			s.item(a.IssueVEK(s.chip.Key(), v))
			s.crl(snp.VLEK, a.IssueCRL(snptest.CRL{Line: snp.Genoa, Revoked: []*big.Int{big.NewInt(77)}}))
		}, evidence.Revoked, "revocation", "VLEK"},
		{"a VCEK with a serial number is revoked", func(s *simulated) {
			v := s.vekOf()
			v.Serial = big.NewInt(78)
			s.item(a.IssueVEK(s.chip.Key(), v))
			s.crl(snp.VCEK, a.IssueCRL(snptest.CRL{Line: snp.Genoa, Revoked: []*big.Int{big.NewInt(78)}}))
		}, evidence.Revoked, "revocation", "VCEK"},
		{"no list", func(s *simulated) { s.crl(snp.VCEK) }, evidence.Unavailable, "revocation", "CRL"},
		{"no list under this name", func(s *simulated) { s.cfg.Source = files{} }, evidence.Unavailable, "revocation", "CRL"},
		{"only the list for VLEKs", func(s *simulated) {
			s.cfg.Source = files{snp.CRLName(snp.Genoa, snp.VLEK): {{Data: good()}}}
		}, evidence.Unavailable, "revocation", "CRL"},
		{"a Source out of order", func(s *simulated) { s.cfg.Source = broken{} }, evidence.Unavailable, "revocation", "CRL"},
		{"expired", listed(func(c *snptest.CRL) { c.NextUpdate = simulatedNow() }), evidence.Stale, "revocation", "CRL"},
		{"not yet valid", listed(func(c *snptest.CRL) { c.ThisUpdate = simulatedNow().Add(time.Second) }), evidence.Stale, "revocation", "CRL"},
		{"without nextUpdate", listed(func(c *snptest.CRL) {
			c.Edit = func(l *snptest.TBSCertList) { l.NextUpdate = time.Time{} }
		}), evidence.Unavailable, "revocation", "CRL"},
		{"by the ASK", listed(func(c *snptest.CRL) { c.By = snptest.ASK }), evidence.Unavailable, "revocation", "CRL"},
		{"by the ASK, in the name of the ARK", func(s *simulated) {
			s.crl(snp.VCEK, a.Resign(snp.Genoa, snptest.ASK, good(), nil))
		}, evidence.Unavailable, "revocation", "CRL"},
		{"by the ARK of another line", func(s *simulated) {
			s.crl(snp.VCEK, a.IssueCRL(snptest.CRL{Line: snp.Milan}))
		}, evidence.Unavailable, "revocation", "CRL"},
		{"a delta", listed(func(c *snptest.CRL) {
			c.Edit = func(l *snptest.TBSCertList) { l.Extensions = append(l.Extensions, critical) }
		}), evidence.Unavailable, "revocation", "CRL"},
		{"an entry for certificates of another issuer", listed(func(c *snptest.CRL) {
			c.Revoked = []*big.Int{big.NewInt(5)}
			c.Edit = func(l *snptest.TBSCertList) { l.RevokedCertificates[0].Extensions = []pkix.Extension{critical} }
		}), evidence.Unavailable, "revocation", "CRL"},
		{"changed after signing", func(s *simulated) {
			l := good()
			l[len(l)-1] ^= 1
			s.crl(snp.VCEK, l)
		}, evidence.Unavailable, "revocation", "CRL"},
		{"data after the list", func(s *simulated) { s.crl(snp.VCEK, append(good(), 0)) }, evidence.Unavailable, "revocation", "CRL"},
		{"garbage", func(s *simulated) { s.crl(snp.VCEK, []byte("x")) }, evidence.Unavailable, "revocation", "CRL"},
		{"a list of more than 1 MiB", func(s *simulated) {
			text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: good()})
			s.crl(snp.VCEK, append(text, bytes.Repeat([]byte("\n"), 1<<20)...))
		}, evidence.Unavailable, "revocation", "CRL"},
		{"the newest of several revokes", func(s *simulated) {
			older := snptest.CRL{Line: snp.Genoa, ThisUpdate: simulatedNow().AddDate(0, 0, -3)}
			newer := snptest.CRL{Line: snp.Genoa, Revoked: []*big.Int{askGenoa}}
			s.crl(snp.VCEK, a.IssueCRL(older), a.IssueCRL(newer), a.IssueCRL(older))
		}, evidence.Revoked, "revocation", "ASK"},
		{"the oldest of several revokes", func(s *simulated) {
			older := snptest.CRL{Line: snp.Genoa, ThisUpdate: simulatedNow().AddDate(0, 0, -3), Revoked: []*big.Int{askGenoa}}
			s.crl(snp.VCEK, good(), a.IssueCRL(older), good())
		}, evidence.Revoked, "revocation", "ASK"},
		{"a list in the certificate table", func(s *simulated) {
			s.ev = func(ev *evidence.Evidence) {
				ev.Items[0].Data = certTable(entry{vcekGUID, a.IssueVEK(s.chip.Key(), s.vekOf())}, entry{crlGUID, good()})
			}
			s.cfg.Source = files{}
		}, evidence.Unavailable, "revocation", "CRL"},
	})
}

func TestOnlySixteenListsAreTried(t *testing.T) {
	for n, want := range map[int]bool{15: true, 16: false} {
		s := simulate(snp.Genoa)
		lists := slices.Repeat([][]byte{[]byte("x")}, n)
		s.crl(snp.VCEK, append(lists, simulatedAMD().IssueCRL(snptest.CRL{Line: snp.Genoa}))...)
		if _, err := s.verify(t); (err == nil) != want {
			t.Errorf("%d wrong ones before the right one: %v", n, err)
		}
	}
}

func TestRevocationAccepts(t *testing.T) {
	a := simulatedAMD()
	list := a.IssueCRL(snptest.CRL{Line: snp.Genoa})
	for claim, edit := range map[string]func(*simulated){
		"serial number 0, which names no key":       listed(func(c *snptest.CRL) { c.Revoked = []*big.Int{new(big.Int)} }),
		"the serial number of the ASVK, for a VCEK": listed(func(c *snptest.CRL) { c.Revoked = []*big.Int{asvkGenoa} }),
		"PEM": func(s *simulated) {
			s.crl(snp.VCEK, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list}))
		},
		"a good list after bad ones": func(s *simulated) {
			old := snptest.CRL{Line: snp.Genoa, ThisUpdate: simulatedNow().AddDate(0, -2, 0), NextUpdate: simulatedNow().AddDate(0, -1, 0)}
			s.crl(snp.VCEK, []byte("x"), a.IssueCRL(old), list)
		},
		"a list issued at this instant": listed(func(c *snptest.CRL) { c.ThisUpdate = simulatedNow() }),
	} {
		t.Run(claim, func(t *testing.T) {
			s := simulate(snp.Genoa)
			edit(s)
			if _, err := s.verify(t); err != nil {
				t.Error(err)
			}
		})
	}
}

// All lists are relied on, so a result holds no longer than the first that ends:
// another one may not be the list for this kind of key.
func TestResultEndsWithTheFirstList(t *testing.T) {
	end := simulatedNow().AddDate(0, 0, 3)
	for _, first := range []int{0, 1} {
		lists := make([][]byte, 2)
		lists[first] = simulatedAMD().IssueCRL(snptest.CRL{Line: snp.Genoa, NextUpdate: end})
		lists[1-first] = simulatedAMD().IssueCRL(snptest.CRL{Line: snp.Genoa, NextUpdate: end.AddDate(0, 1, 0)})
		s := simulate(snp.Genoa)
		s.crl(snp.VCEK, lists...)
		got, err := s.verify(t)
		if err != nil {
			t.Fatal(err)
		}
		if !got.NotAfter.Equal(end) {
			t.Errorf("holds until %v, want %v", got.NotAfter, end)
		}
	}
}

// A result holds no longer than anything it rests on.
func TestResultEndsWithTheFirstToExpire(t *testing.T) {
	end := simulatedNow().AddDate(0, 0, 3)
	ending := func(der []byte) []byte {
		const form = "060102150405Z"
		was := []byte(simulatedNow().AddDate(20, 0, 0).Format(form))
		return simulatedAMD().Resign(snp.Genoa, snptest.ARK, der, func(tbs []byte) []byte {
			if bytes.Count(tbs, was) != 1 {
				t.Fatal("the end is not where it was")
			}
			return bytes.Replace(tbs, was, []byte(end.Format(form)), 1)
		})
	}
	for name, edit := range map[string]func(*simulated){
		"VCEK": issue(func(v *snptest.VEK) { v.After = end }),
		"ASK":  func(s *simulated) { s.cfg.Anchors[0].ASK = ending(s.cfg.Anchors[0].ASK) },
		"ARK":  func(s *simulated) { s.cfg.Anchors[0].ARK = ending(s.cfg.Anchors[0].ARK) },
	} {
		t.Run(name, func(t *testing.T) {
			s := simulate(snp.Genoa)
			edit(s)
			got, err := s.verify(t)
			if err != nil {
				t.Fatal(err)
			}
			if !got.NotAfter.Equal(end) {
				t.Errorf("holds until %v, want %v", got.NotAfter, end)
			}
			if name == "VCEK" {
				return
			}
			s.cfg.Time = func() time.Time { return end.Add(time.Second) }
			got, err = s.verify(t)
			if e := wantRefused(t, got, err, evidence.Stale, "validity"); e.Field != name {
				t.Errorf("field %s", e.Field)
			}
		})
	}
}

// A list that one ARK signed is no list of another, also once it is known.
func TestListIsRememberedForItsLine(t *testing.T) {
	a := simulatedAMD()
	milan, genoa := simulate(snp.Milan), simulate(snp.Genoa)
	list := []evidence.Collateral{{Data: a.IssueCRL(snptest.CRL{Line: snp.Milan})}}
	v := newVerifier(t, snp.Config{
		Anchors: a.Anchors(snp.Milan, snp.Genoa),
		Source:  overlay{files{snp.CRLName(snp.Milan, snp.VCEK): list, snp.CRLName(snp.Genoa, snp.VCEK): list}, a.Source()},
		Time:    simulatedNow,
	})
	if _, err := v.Verify(t.Context(), milan.evidence(t), bindingOf(t, "nonce and key")); err != nil {
		t.Fatal(err)
	}
	got, err := v.Verify(t.Context(), genoa.evidence(t), bindingOf(t, "nonce and key"))
	wantRefused(t, got, err, evidence.Unavailable, "revocation")
}

// A list of another time is there: who is told otherwise looks in the wrong place.
func TestStaleListIsFound(t *testing.T) {
	for claim, lists := range map[string][][]byte{
		"alone": {}, "after one that nobody can read": {[]byte("x")},
	} {
		s := simulate(snp.Genoa)
		s.crl(snp.VCEK, append(lists, simulatedAMD().IssueCRL(snptest.CRL{Line: snp.Genoa, NextUpdate: simulatedNow()}))...)
		got, err := s.verify(t)
		if e := wantRefused(t, got, err, evidence.Stale, "revocation"); e.Err != nil {
			t.Errorf("%s: %v", claim, err)
		}
	}
}

// What was remembered is judged anew.
func TestMemoryKeepsNoVerdict(t *testing.T) {
	s := simulate(snp.Genoa)
	lists := files{}
	name := snp.CRLName(snp.Genoa, snp.VCEK)
	put := func(c snptest.CRL) { lists[name] = []evidence.Collateral{{Data: simulatedAMD().IssueCRL(c)}} }
	now := simulatedNow()
	s.cfg.Source, s.cfg.Time = lists, func() time.Time { return now }
	v := newVerifier(t, s.cfg)
	verify := func() (*evidence.Verified, error) {
		return v.Verify(t.Context(), s.evidence(t), bindingOf(t, "nonce and key"))
	}
	put(snptest.CRL{Line: snp.Genoa})
	for range 2 {
		if _, err := verify(); err != nil {
			t.Fatal(err)
		}
	}
	now = simulatedNow().AddDate(0, 0, 31)
	got, err := verify()
	wantRefused(t, got, err, evidence.Stale, "revocation")
	now = simulatedNow().AddDate(8, 0, 0)
	got, err = verify()
	wantRefused(t, got, err, evidence.Stale, "validity")
	now = simulatedNow()
	put(snptest.CRL{Line: snp.Genoa, Revoked: []*big.Int{askGenoa}})
	got, err = verify()
	wantRefused(t, got, err, evidence.Revoked, "revocation")
	delete(lists, name)
	got, err = verify()
	wantRefused(t, got, err, evidence.Unavailable, "revocation")
}

func TestSkippedRevocationIsReported(t *testing.T) {
	s := simulate(snp.Genoa)
	s.cfg.Source, s.cfg.SkipRevocationUnsafe = files{}, true
	got, err := s.verify(t)
	if err != nil || len(got.Skipped) != 1 || got.Skipped[0] != "revocation" {
		t.Fatalf("%v, %v", got, err)
	}
	s.guest.Fault = func(b []byte) []byte { b[0x090]++; return b }
	got, err = s.verify(t)
	if e := wantRefused(t, got, err, evidence.BadSignature, "signature"); len(e.Skipped) != 1 || e.Skipped[0] != "revocation" {
		t.Errorf("skipped %v", e.Skipped)
	}
	s.cfg.Anchors = snp.AMD()
	got, err = s.verify(t)
	if e := wantRefused(t, got, err, evidence.Untrusted, "chain"); e.Skipped != nil {
		t.Errorf("a check after the one that failed is said to be skipped: %v", e.Skipped)
	}
}
