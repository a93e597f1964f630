package collateral

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/google/go-sev-guest/verify/testdata"
	intel "github.com/google/go-tdx-guest/testing/testdata"

	"github.com/teebroker/teebroker/internal/pki"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
)

// guidVCEK marks a VCEK in a certificate table: AMD 56421.
var guidVCEK = [16]byte{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}

// list returns a list that names the ARK of Milan as its issuer. Nobody here
// looks at who signed it.
func listOf(t testing.TB) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1)}, &x509.Certificate{
		Subject:      pkix.Name{CommonName: "ARK-Milan"},
		KeyUsage:     x509.KeyUsageCRLSign,
		SubjectKeyId: []byte{1},
	}, key)
	if err != nil || snp.NamesOf(der) == nil {
		t.Fatal("no list:", err)
	}
	return der
}

// Whatever a file holds, what is filed is a certificate or a list that has the
// name by its own words, and no list is from a certificate table.
func FuzzSort(f *testing.F) {
	vcek := snptest.Entry{GUID: guidVCEK, Data: testdata.VcekBytes}
	crl := listOf(f)
	inPEM := pem.EncodeToMemory(&pem.Block{Type: pki.List, Bytes: crl})
	for _, file := range [][]byte{
		nil, []byte("-----BEGIN "), crl, inPEM, vcek.Data, vcek.PEM().Data, slices.Concat(inPEM, vcek.PEM().Data),
		snptest.CertTable(vcek.PEM(), snptest.Entry{GUID: [16]byte{1}, Data: inPEM}),
		snptest.CertTable(snptest.Entry{GUID: vcek.GUID, Data: crl}),
		intel.TcbInfoBody, intel.QeIdentityBody, intel.PckCrlBody, intel.RootCrlBody,
		fmt.Appendf(nil, "%x\n", intel.RootCrlBody), []byte("Chain: -----BEGIN%20CERTIFICATE-----%0A"),
	} {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		all := found{named: map[string][]candidate{}}
		names := all.add(file)
		if len(names) != len(all.named) || !slices.IsSorted(names) {
			t.Errorf("%q for %d names", names, len(all.named))
		}
		sorted, err := all.sorted()
		if err != nil && len(all.issuers) <= maxIssuers {
			t.Error(err)
		}
		for name, cs := range sorted {
			for _, c := range cs {
				if !slices.Contains(names, name) || !slices.Contains(append(snp.NamesOf(c.Data), tdx.NamesOf(c.Data)...), name) {
					t.Errorf("filed as %s", name)
				}
				_, err := x509.ParseCertificate(c.Data)
				if plain := bytes.Equal(c.Data, file) || bytes.IndexByte(file, 0) < 0; err != nil && !plain {
					t.Error("a list from a file that is neither PEM nor the list")
				}
			}
		}
	})
}
