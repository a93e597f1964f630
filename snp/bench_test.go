package snp_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"testing"

	gosevabi "github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// The lower bound of any verification: one signature on P-384.
func BenchmarkFloor(b *testing.B) {
	raw, vek := seed()
	c := parseCertificate(b, vek)
	sig, err := gosevabi.ReportToSignatureDER(raw)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha512.Sum384(raw[:0x2A0])
	key := c.PublicKey.(*ecdsa.PublicKey)
	b.ReportAllocs()
	for b.Loop() {
		if !ecdsa.VerifyASN1(key, digest[:], sig) {
			b.Fatal("does not verify")
		}
	}
}

// A fresh report with a VEK that is known, revocation included.
func BenchmarkVerifyWarm(b *testing.B) {
	s := simulate(snp.Genoa)
	s.crl(snp.VCEK, simulatedAMD().IssueCRL(snptest.CRL{Line: snp.Genoa}))
	v, ev, want := newVerifier(b, s.cfg), s.evidence(b), bindingOf(b, "nonce and key")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), ev, want); err != nil {
			b.Fatal(err)
		}
	}
}

// rotating is a Source whose list is another each time, so that no list is known.
type rotating struct {
	lists [][]evidence.Collateral
	next  *int
}

func (r rotating) Get(context.Context, string) ([]evidence.Collateral, error) {
	*r.next++
	return r.lists[*r.next%len(r.lists)], nil
}

// VEK and CRL parsed and verified in each round: the memory holds one VEK, and
// fewer lists than are used in turn.
func BenchmarkVerifyCold(b *testing.B) {
	s := simulate(snp.Genoa)
	var lists [][]evidence.Collateral
	for i := range 17 {
		list := simulatedAMD().IssueCRL(snptest.CRL{Line: snp.Genoa, NextUpdate: simulatedNow().AddDate(0, 1, i)})
		lists = append(lists, []evidence.Collateral{{Data: list}})
	}
	s.cfg.Source, s.cfg.CacheSize = rotating{lists, new(int)}, 1
	want := bindingOf(b, "nonce and key")
	evs := []evidence.Evidence{s.evidence(b), simulatedAMD().Chip(snp.Genoa).Report(snptest.Guest{}, want)}
	v := newVerifier(b, s.cfg)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, err := v.Verify(b.Context(), evs[i%2], want); err != nil {
			b.Fatal(err)
		}
	}
}

// listGetter answers every request with one list.
type listGetter []byte

func (g listGetter) Get(string) ([]byte, error) { return g, nil }

// What go-sev-guest does with the same evidence and the same CRL: verify and validate.
func BenchmarkGoSevGuest(b *testing.B) {
	s := simulate(snp.Genoa)
	ev := s.evidence(b)
	anchors := s.cfg.Anchors[0]
	root := &trust.AMDRootCerts{
		ProductLine: "Genoa",
		ProductCerts: &trust.ProductCerts{
			Ark: parseCertificate(b, anchors.ARK), Ask: parseCertificate(b, anchors.ASK), Asvk: parseCertificate(b, anchors.ASVK),
		},
	}
	options := &verify.Options{
		CheckRevocations:    true,
		DisableCertFetching: true,
		Getter:              listGetter(simulatedAMD().IssueCRL(snptest.CRL{Line: snp.Genoa})),
		Now:                 simulatedNow(),
		TrustedRoots:        map[string][]*trust.AMDRootCerts{"Genoa": {root}},
	}
	demands := &validate.Options{
		GuestPolicy: gosevabi.SnpPolicy{SMT: true},
		ReportData:  ev.Raw[0x050:0x090],
		MinimumTCB:  kds.TCBParts{SnpSpl: 1},
	}
	both := append(append([]byte{}, ev.Raw...), ev.Items[0].Data...)
	b.ReportAllocs()
	for b.Loop() {
		a, err := gosevabi.ReportCertsToProto(both)
		if err != nil {
			b.Fatal(err)
		}
		if err := verify.SnpAttestation(a, options); err != nil {
			b.Fatal(err)
		}
		if err := validate.SnpAttestation(a, demands); err != nil {
			b.Fatal(err)
		}
	}
}

func parseCertificate(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A valid header, the rest random.
func BenchmarkGarbage(b *testing.B) {
	s := simulate(snp.Genoa)
	v, ev, want := newVerifier(b, s.cfg), s.evidence(b), bindingOf(b, "nonce and key")
	rand.Read(ev.Raw[0x050:])
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), ev, want); err == nil {
			b.Fatal("accepted")
		}
	}
}

// Garbage is refused without a signature check, however much of the report is right.
func TestGarbageCostsNoSignatureCheck(t *testing.T) {
	s := simulate(snp.Genoa)
	v, want := newVerifier(t, s.cfg), bindingOf(t, "nonce and key")
	for _, from := range []int{0x000, 0x040, 0x050, 0x090, 0x180, 0x1A0} {
		ev := s.evidence(t)
		rand.Read(ev.Raw[from:])
		_, err := v.Verify(t.Context(), ev, want)
		var e *evidence.Error
		if !errors.As(err, &e) || e.Check == "signature" || e.Check == "chain" {
			t.Errorf("random from %#x: %v", from, err)
		}
	}
}

func TestWarmAllocations(t *testing.T) {
	s := simulate(snp.Genoa)
	s.crl(snp.VCEK, simulatedAMD().IssueCRL(snptest.CRL{Line: snp.Genoa}))
	v, ev, want := newVerifier(t, s.cfg), s.evidence(t), bindingOf(t, "nonce and key")
	n := testing.AllocsPerRun(10, func() {
		if _, err := v.Verify(t.Context(), ev, want); err != nil {
			t.Error(err)
		}
	})
	if n > 50 {
		t.Errorf("%v allocations", n)
	}
}
