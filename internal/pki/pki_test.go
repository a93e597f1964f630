package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

func now() time.Time { return time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) }

// ca is an issuer with its key.
type ca struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

const alg = x509.ECDSAWithSHA256

func newCA(t testing.TB, name string) ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now().AddDate(-1, 0, 0), NotAfter: now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return ca{c, key}
}

func (c ca) list(t testing.TB, edit func(*x509.RevocationList)) []byte {
	t.Helper()
	l := &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: now(), NextUpdate: now().AddDate(0, 1, 0),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: now()}},
	}
	if edit != nil {
		edit(l)
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, c.Certificate, c.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestCheckSignature(t *testing.T) {
	a, other, sameName := newCA(t, "a"), newCA(t, "b"), newCA(t, "a")
	for _, c := range []struct {
		claim  string
		issuer ca
		alg    x509.SignatureAlgorithm
		ok     bool
	}{
		{"its issuer", a, alg, true},
		{"another name", other, alg, false},
		{"another key of that name", sameName, alg, false},
		{"another algorithm", a, x509.ECDSAWithSHA384, false},
	} {
		if err := CheckSignature(a.Certificate, c.issuer.Certificate, c.alg); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.claim, err)
		}
	}
}

func TestValid(t *testing.T) {
	c := newCA(t, "a")
	for at, want := range map[time.Time]bool{
		c.NotBefore: true, c.NotAfter: true, now(): true,
		c.NotBefore.Add(-1): false, c.NotAfter.Add(1): false,
	} {
		if Valid(c.Certificate, at) != want {
			t.Errorf("%v: %v", at, !want)
		}
	}
}

func TestParseCRL(t *testing.T) {
	a, sameName := newCA(t, "a"), newCA(t, "a")
	c, err := ParseCRL(a.list(t, nil), a.Certificate, alg)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Revokes(big.NewInt(7)) || c.Revokes(big.NewInt(8)) || c.Revokes(big.NewInt(-7)) || c.Revokes(big.NewInt(0)) {
		t.Error("revokes others than it lists")
	}
	for at, want := range map[time.Time]bool{
		now(): true, now().Add(-1): false, c.NextUpdate.Add(-1): true, c.NextUpdate: false,
	} {
		if c.Current(at) != want {
			t.Errorf("%v: %v", at, !want)
		}
	}
	critical := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}
	for claim, der := range map[string][]byte{
		"nothing":              nil,
		"a certificate":        a.Raw,
		"data after it":        append(a.list(t, nil), 0),
		"another key":          sameName.list(t, nil),
		"another issuer":       newCA(t, "b").list(t, nil),
		"a critical extension": a.list(t, func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{critical} }),
		"an entry with a critical extension": a.list(t, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{critical}
		}),
	} {
		if c, err := ParseCRL(der, a.Certificate, alg); err == nil || c != nil {
			t.Errorf("%s: accepted", claim)
		}
	}
	if _, err := ParseCRL(a.list(t, nil), a.Certificate, x509.ECDSAWithSHA512); err == nil {
		t.Error("another algorithm: accepted")
	}
}

func TestDER(t *testing.T) {
	text := string(pem.EncodeToMemory(&pem.Block{Type: Certificate, Bytes: []byte("der")}))
	for _, c := range []struct{ claim, data, want string }{
		{"DER", "0der", "0der"},
		{"PEM", text, "der"},
		{"PEM and padding", text + "\n\x00\x00", "der"},
		{"nothing", "", ""},
	} {
		if got, err := DER([]byte(c.data), Certificate); err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", c.claim, got, err)
		}
	}
	for claim, data := range map[string]string{
		"two blocks":                      text + text,
		"another type":                    string(pem.EncodeToMemory(&pem.Block{Type: List, Bytes: []byte("der")})),
		"headers":                         string(pem.EncodeToMemory(&pem.Block{Type: Certificate, Headers: map[string]string{"a": "b"}, Bytes: []byte("der")})),
		"no end":                          text[:40],
		"data after":                      text + "x",
		"a broken block, then a good one": "-----BEGIN CERTIFICATE-----\n\x00\n" + text,
	} {
		if got, err := DER([]byte(data), Certificate); err == nil {
			t.Errorf("%s: %q", claim, got)
		}
	}
}

func FuzzParseCRL(f *testing.F) {
	a := newCA(f, "a")
	f.Add(a.list(f, nil))
	f.Add(a.Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCRL(b, a.Certificate, alg); (c == nil) == (err == nil) {
			t.Errorf("%v, %v", c, err)
		}
	})
}

func FuzzDER(f *testing.F) {
	f.Add(pem.EncodeToMemory(&pem.Block{Type: Certificate, Bytes: []byte("der")}))
	f.Add([]byte("-----BEGIN "))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := DER(b, Certificate); err == nil && !bytes.HasPrefix(b, []byte("-----BEGIN ")) && !bytes.Equal(got, b) {
			t.Error("DER was changed")
		}
	})
}
