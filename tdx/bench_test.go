package tdx_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-tdx-guest/verify"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
)

// The quotes and the set of the benchmarks: two platforms of one kind, and
// collateral for it.
const (
	benchQuote = "dstack_quote_report_v4"
	otherQuote = "gtg_sample_v5"
	benchSet   = "gtgv5_2026_02_90c06f"
)

// The lower bound of any verification: one signature on P-256.
func BenchmarkFloor(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256(genuineQuote(b, benchQuote).raw(b))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
			b.Fatal("does not verify")
		}
	}
}

func BenchmarkParse(b *testing.B) {
	raw := genuineQuote(b, benchQuote).raw(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tdx.ParseQuote(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// benchConfig returns the configuration of the benchmarks, and evidence of a
// quote with its Binding.
func benchConfig(b *testing.B, name string) (tdx.Config, evidence.Evidence, evidence.Binding) {
	g := genuineQuote(b, name)
	raw := g.raw(b)
	cfg := tdx.Config{Anchors: tdx.Intel(), Source: genuineSet(b, benchSet, fmspcOf(b, g.FMSPC)), Time: at(g.with(b, benchSet).UseTime)}
	return cfg, evidence.Evidence{Format: tdx.Format, Raw: raw}, bound(b, raw)
}

// A fresh quote of a known platform: certificates, quoting enclave and collateral
// were verified before. All are looked up, and time and revocation judged again.
func BenchmarkVerifyWarm(b *testing.B) {
	cfg, ev, want := benchConfig(b, benchQuote)
	v := newVerifier(b, cfg)
	if _, err := v.Verify(b.Context(), ev, want); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), ev, want); err != nil {
			b.Fatal(err)
		}
	}
}

// A quote of a platform never seen, where collateral and CA are known: each of two
// platforms makes the Verifier forget the other.
func BenchmarkVerifyNewPlatform(b *testing.B) {
	cfg, one, wantOne := benchConfig(b, benchQuote)
	_, other, wantOther := benchConfig(b, otherQuote)
	cfg.CacheSize = 1
	v := newVerifier(b, cfg)
	if _, err := v.Verify(b.Context(), other, wantOther); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		ev, want := one, wantOne
		if i%2 == 1 {
			ev, want = other, wantOther
		}
		if _, err := v.Verify(b.Context(), ev, want); err != nil {
			b.Fatal(err)
		}
	}
}

// Nothing is known but the anchors: quote, certificates and collateral are parsed
// and verified in each round.
func BenchmarkVerifyCold(b *testing.B) {
	cfg, ev, want := benchConfig(b, benchQuote)
	v := newVerifier(b, cfg)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Forgetful().Verify(b.Context(), ev, want); err != nil {
			b.Fatal(err)
		}
	}
}

// pcs answers go-tdx-guest from memory as Intel does over HTTPS.
type pcs struct{ files }

func (p pcs) Get(address string) (map[string][]string, []byte, error) {
	name := strings.TrimPrefix(address, "https://api.trustedservices.intel.com")
	if strings.HasSuffix(address, "/IntelSGXRootCA.der") {
		name = tdx.RootCRLName()
	}
	c, err := p.files.Get(context.Background(), name)
	if err != nil {
		return nil, nil, err
	}
	header := map[string][]string{}
	for _, h := range []string{"Tcb-Info-Issuer-Chain", "Sgx-Enclave-Identity-Issuer-Chain", "Sgx-Pck-Crl-Issuer-Chain"} {
		header[h] = []string{url.QueryEscape(string(c[0].Issuer))}
	}
	return header, c[0].Data, nil
}

// The same quote and collateral, revocation included.
func BenchmarkGoTdxGuest(b *testing.B) {
	cfg, ev, _ := benchConfig(b, benchQuote)
	root, err := x509.ParseCertificate(tdx.Intel()[0])
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	b.ReportAllocs()
	for b.Loop() {
		options := &verify.Options{CheckRevocations: true, GetCollateral: true, Getter: pcs{cfg.Source.(files)}, Now: cfg.Time(), TrustedRoots: roots}
		if err := verify.RawTdxQuote(ev.Raw, options); err != nil {
			b.Fatal(err)
		}
	}
}
