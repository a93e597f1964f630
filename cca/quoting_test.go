package cca_test

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

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
)

// Certificates that came with the Evidence are not quoted: errors go to logs.
func TestErrorsDoNotQuoteCertificates(t *testing.T) {
	const marker = "chosen by a stranger"
	p, vendor, want := ccatest.NewPlatform(), ccatest.NewVendor(simulatedNow()), bindingOf(t, []byte("x"))
	issue := func(template, by *x509.Certificate, of *ecdsa.PublicKey) []byte {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), simulatedNow().AddDate(-1, 0, 0), simulatedNow().AddDate(1, 0, 0)
		der, err := x509.CreateCertificate(rand.Reader, template, by, of, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	uri := append([]byte{0x86, byte(len(marker) + 4)}, "%zz "+marker...)
	odd := &x509.Certificate{ExtraExtensions: []pkix.Extension{{
		Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: append([]byte{0x30, byte(len(uri))}, uri...),
	}}}
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: marker}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature}
	for name, chain := range map[string][][]byte{
		"malformed":        {issue(odd, odd, &p.Key.PublicKey)},
		"by somebody else": {issue(leaf, ca, &p.Key.PublicKey), issue(ca, ca, &p.Key.PublicKey)},
	} {
		p.Chain = chain
		v := newVerifier(t, cca.Config{Authorities: []cca.Authority{vendor.Authority(p.Implementation)}})
		got, err := v.Verify(t.Context(), p.Token(ccatest.Realm{}, want), want)
		if got != nil || err == nil || strings.Contains(err.Error(), marker) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
