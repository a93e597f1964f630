package tdx_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// A certificate that came with the Evidence is not quoted: errors go to logs.
func TestErrorsDoNotQuoteCertificates(t *testing.T) {
	const marker = "chosen by a stranger"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	uri := append([]byte{0x86, byte(len(marker) + 4)}, "%zz "+marker...)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), ExtraExtensions: []pkix.Extension{{
		Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: append([]byte{0x30, byte(len(uri))}, uri...),
	}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509.ParseCertificate(der); err == nil || !strings.Contains(err.Error(), marker) {
		t.Fatalf("crypto/x509 says %v", err)
	}
	s := simulate(newSimulatedIntel(), tdx.PlatformCA)
	leaf, ca, root := s.platform.Quote(s.td, simulatedBinding(t)), s.intel.Certificate(tdxtest.PlatformCA, nil), s.intel.Certificate(tdxtest.Root, nil)
	good := certificatesOf(t, quoteChain(t, leaf.Raw))[0].Raw
	for name, chain := range map[string][]byte{"leaf": tdxtest.PEM(der, ca, root), "CA": tdxtest.PEM(good, der, root)} {
		s.td.Data = func(d *tdxtest.SignatureData) { d.Chain = chain }
		got, err := s.verify(t)
		wantRefused(t, got, err, evidence.Malformed, "certificate")
		if strings.Contains(err.Error(), marker) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// quoteChain returns the PEM at the end of a quote.
func quoteChain(t *testing.T, raw []byte) []byte {
	t.Helper()
	at := strings.Index(string(raw), "-----BEGIN")
	if at < 0 {
		t.Fatal("no chain")
	}
	return raw[at:]
}
