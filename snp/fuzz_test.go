package snp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-sev-guest/verify/testdata"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

// wantTyped fails t unless err is nil with a result or typed without.
func wantTyped(t *testing.T, got *evidence.Verified, err error) {
	t.Helper()
	var e *evidence.Error
	if (got == nil) == (err == nil) || err != nil && (!errors.As(err, &e) || !hasCheck(e.Check)) {
		t.Errorf("%v, %v", got, err)
	}
}

// seed is a DEBUG guest's genuine report with its VCEK.
func seed() (report, vek []byte) { return testdata.AttestationBytes[:1184], testdata.VcekBytes }

// fuzzTime is in the validity of the seed.
func fuzzTime() time.Time { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) }

// fuzzVerifier returns a Verifier without revocation.
func fuzzVerifier(t testing.TB) *snp.Verifier {
	return newVerifier(t, snp.Config{Anchors: snp.AMD(), Source: files{}, Time: fuzzTime, SkipRevocationUnsafe: true})
}

func FuzzVerify(f *testing.F) {
	report, vek := seed()
	f.Add(report, snp.VEK, vek)
	f.Add(report, snp.CertTable, certTable(entry{vcekGUID, vek}))
	f.Add(wellFormed(5), "", []byte{})
	v := fuzzVerifier(f)
	f.Fuzz(func(t *testing.T, raw []byte, item string, data []byte) {
		ev := evidence.Evidence{Format: snp.Format, Raw: raw, Items: []evidence.Item{{Type: item, Data: data}}}
		got, err := v.Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe())
		wantTyped(t, got, err)
		if err == nil && string(raw) != string(report) {
			t.Error("accepted a report that AMD's firmware did not make")
		}
	})
}

func FuzzCertTable(f *testing.F) {
	_, vek := seed()
	f.Add(certTable(entry{vcekGUID, vek}))
	f.Add(certTable(entry{arkGUID, nil}, entry{vlekGUID, vek}, entry{otherGUID(1), []byte("x")}))
	f.Add(make([]byte, 24))
	f.Fuzz(func(t *testing.T, b []byte) {
		if veks, err := snp.TableVEKs(b); err == nil && len(veks) > 2 {
			t.Errorf("%d VEKs", len(veks))
		}
	})
}

func FuzzVEK(f *testing.F) {
	report, vek := seed()
	f.Add(vek)
	v := fuzzVerifier(f)
	f.Fuzz(func(t *testing.T, der []byte) {
		_ = snp.NamesOf(der)
		ev := evidence.Evidence{Format: snp.Format, Raw: report, Items: []evidence.Item{{Type: snp.VEK, Data: der}}}
		got, err := v.Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe())
		wantTyped(t, got, err)
	})
}

func FuzzCRL(f *testing.F) {
	report, vek := seed()
	for _, line := range []snp.Line{snp.Milan, snp.Genoa} {
		f.Add(forgedCRL(f, line))
	}
	ev := evidence.Evidence{Format: snp.Format, Raw: report, Items: []evidence.Item{{Type: snp.VEK, Data: vek}}}
	lists := files{}
	v := newVerifier(f, snp.Config{Anchors: snp.AMD(), Source: lists, Time: fuzzTime})
	f.Fuzz(func(t *testing.T, der []byte) {
		_ = snp.NamesOf(der)
		lists[snp.CRLName(snp.Milan, snp.VCEK)] = []evidence.Collateral{{Data: der}}
		got, err := v.Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe())
		wantRefused(t, got, err, evidence.Unavailable, "revocation")
	})
}

// forgedCRL returns a list in the name of the ARK of line, by another key.
func forgedCRL(t testing.TB, line snp.Line) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ark := *parseCertificate(t, snp.AMD()[line-snp.Milan].ARK)
	ark.PublicKey = &key.PublicKey
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: fuzzTime().AddDate(0, 0, -1), NextUpdate: fuzzTime().AddDate(0, 1, 0)}
	der, err := x509.CreateRevocationList(rand.Reader, list, &ark, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
