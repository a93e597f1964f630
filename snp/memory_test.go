package snp_test

import (
	"sync"
	"testing"

	"github.com/google/go-sev-guest/verify/testdata"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// go-sev-guest's own test data: the DEBUG guest of the vectors.
func TestVerifyGoSevGuestTestData(t *testing.T) {
	g := genuineReport(t, "gosev-milan-v2-vcek")
	ev := evidence.Evidence{Format: snp.Format, Raw: testdata.AttestationBytes, Items: []evidence.Item{{Type: snp.VEK, Data: testdata.VcekBytes}}}
	got, err := g.verifier(t, nil).Verify(t.Context(), ev, bound(t, ev.Raw))
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := snp.ClaimsOf(got); c.Policy()&snp.Debug == 0 {
		t.Error("not a DEBUG guest")
	}
}

// A buffer that the caller uses again changes neither a result nor what is remembered.
func TestResultsShareNoMemory(t *testing.T) {
	s := simulate(snp.Genoa)
	list := simulatedAMD().IssueCRL(snptest.CRL{Line: snp.Genoa})
	s.crl(snp.VCEK, list)
	v := newVerifier(t, s.cfg)
	ev := s.evidence(t)
	again := s.evidence(t)
	got, err := v.Verify(t.Context(), ev, bindingOf(t, "nonce and key"))
	if err != nil {
		t.Fatal(err)
	}
	before := claimsText(got)
	for _, b := range [][]byte{ev.Raw, ev.Items[0].Data, list} {
		for i := range b {
			b[i] ^= 0xFF
		}
	}
	if after := claimsText(got); after != before {
		t.Errorf("claims changed from %s to %s", before, after)
	}
	for i := range list {
		list[i] ^= 0xFF
	}
	if _, err := v.Verify(t.Context(), again, bindingOf(t, "nonce and key")); err != nil {
		t.Errorf("what was remembered changed: %v", err)
	}
}

func claimsText(v *evidence.Verified) string {
	s := evidence.Bytes(v.Signed).String()
	for name, value := range v.Claims.All() {
		s += " " + name + "=" + value.String()
	}
	return s
}

func TestVerifyModifiesNothing(t *testing.T) {
	s := simulate(snp.Turin)
	ev := s.evidence(t)
	raw, table := string(ev.Raw), string(ev.Items[0].Data)
	if _, err := newVerifier(t, s.cfg).Verify(t.Context(), ev, bindingOf(t, "nonce and key")); err != nil {
		t.Fatal(err)
	}
	if string(ev.Raw) != raw || string(ev.Items[0].Data) != table {
		t.Error("the evidence was modified")
	}
}

// One Verifier, with room for less than it meets, is used by many.
func TestVerifyConcurrently(t *testing.T) {
	s := simulate(snp.Genoa)
	s.cfg.CacheSize = 2
	v := newVerifier(t, s.cfg)
	want := bindingOf(t, "nonce and key")
	var good, bad []evidence.Evidence
	for range 4 {
		c := simulatedAMD().Chip(snp.Genoa)
		good = append(good, c.Report(snptest.Guest{}, want))
		bad = append(bad, c.Report(snptest.Guest{Fault: func(b []byte) []byte { b[0x090]++; return b }}, want))
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 8 {
				if _, err := v.Verify(t.Context(), good[(i+j)%4], want); err != nil {
					t.Error(err)
				}
				if _, err := v.Verify(t.Context(), bad[(i+j)%4], want); err == nil {
					t.Error("a changed report is accepted")
				}
			}
		})
	}
	wg.Wait()
}
