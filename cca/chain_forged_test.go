package cca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
)

// authority is a CA that signs whatever it is given.
type authority struct {
	testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	a := authority{t, newKey(t, elliptic.P384()), nil}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: simulatedNow().AddDate(-1, 0, 0), NotAfter: simulatedNow().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	a.cert = a.parse(a.issue(template, template, &a.key.PublicKey))
	return a
}

func (a authority) check(err error) {
	a.Helper()
	if err != nil {
		a.Fatal(err)
	}
}

func (a authority) issue(template, by *x509.Certificate, key any) []byte {
	a.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, by, key, a.key)
	a.check(err)
	return der
}

func (a authority) parse(der []byte) *x509.Certificate {
	a.Helper()
	c, err := x509.ParseCertificate(der)
	a.check(err)
	return c
}

// leaf is the template of a certificate for a CPAK.
func leaf() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: simulatedNow().AddDate(0, -1, 0), NotAfter: simulatedNow().AddDate(0, 1, 0),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

// resign returns der with what edit makes of the part that is signed.
func (a authority) resign(der []byte, edit func(tbs []byte) []byte) []byte {
	a.Helper()
	var c struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	_, err := asn1.Unmarshal(der, &c)
	a.check(err)
	c.TBS = asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: edit(c.TBS.Bytes)}
	tbs, err := asn1.Marshal(c.TBS)
	a.check(err)
	digest := sha512.Sum384(tbs) // the algorithm of a P-384 key, which CreateCertificate chose
	sig, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	a.check(err)
	c.Signature = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	c.TBS = asn1.RawValue{FullBytes: tbs}
	out, err := asn1.Marshal(c)
	a.check(err)
	return out
}

// A key that is denied is denied in every spelling: certificates may write a key in
// more ways than one, and a careless CA signs what it is sent.
func TestDeniedKeyInAnotherSpelling(t *testing.T) {
	a, p, want := newAuthority(t), ccatest.NewPlatform(), bindingOf(t, []byte("x"))
	der := a.issue(leaf(), a.cert, &p.Key.PublicKey)
	plain := a.parse(der).RawSubjectPublicKeyInfo
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.RawValue
	}
	_, err := asn1.Unmarshal(plain, &info)
	a.check(err)
	// A NULL behind the name of the curve, which nobody looks at.
	info.Algorithm = asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(bytes.Clone(info.Algorithm.Bytes), 5, 0)}
	strange, err := asn1.Marshal(info)
	a.check(err)
	p.Chain = [][]byte{a.resign(der, func(tbs []byte) []byte { return bytes.Replace(tbs, plain, strange, 1) })}
	p.Thumbprint = false
	c := a.parse(p.Chain[0])
	if err := c.CheckSignatureFrom(a.cert); err != nil || bytes.Equal(c.RawSubjectPublicKeyInfo, plain) || !p.Key.PublicKey.Equal(c.PublicKey) {
		t.Fatalf("not the certificate of the test: %v", err)
	}
	cfg := cca.Config{Authorities: []cca.Authority{{Certificate: a.cert.Raw, Implementations: evidence.Anything[cca.ImplementationID]()}}}
	got, err := newVerifier(t, cfg).Verify(t.Context(), p.Token(ccatest.Realm{}, want), want)
	if err != nil {
		t.Fatal(err)
	}
	if claims, _ := cca.ClaimsOf(got); claims.CPAK != spki(t, &p.Key.PublicKey) {
		t.Error("the CPAK is called otherwise")
	}
	cfg.DenyKeys = [][32]byte{spki(t, &p.Key.PublicKey)}
	got, err = newVerifier(t, cfg).Verify(t.Context(), p.Token(ccatest.Realm{}, want), want)
	wantRefused(t, got, err, evidence.Revoked, "revocation")
}

// An issuer with a key as long as a token may be is refused before anything is
// verified with it, which would take a second. One of 4096 bits is an issuer.
func TestLargeRSAKey(t *testing.T) {
	a, p, want := newAuthority(t), ccatest.NewPlatform(), bindingOf(t, []byte("x"))
	issuer := leaf()
	issuer.Subject, issuer.KeyUsage, issuer.BasicConstraintsValid, issuer.IsCA = pkix.Name{CommonName: "issuer"}, x509.KeyUsageCertSign, true, true
	signer, err := rsa.GenerateKey(rand.Reader, 4096)
	a.check(err)
	good := a.issue(issuer, a.cert, &signer.PublicKey)
	der, err := x509.CreateCertificate(rand.Reader, leaf(), a.parse(good), &p.Key.PublicKey, signer)
	a.check(err)
	cfg := cca.Config{Authorities: []cca.Authority{{Certificate: a.cert.Raw, Implementations: evidence.Anything[cca.ImplementationID]()}}}
	p.Chain, p.Thumbprint = [][]byte{der, good}, false
	if _, err := newVerifier(t, cfg).Verify(t.Context(), p.Token(ccatest.Realm{}, want), want); err != nil {
		t.Fatal(err)
	}
	for _, bits := range []uint{4097, 8 * 56 << 10} {
		n := new(big.Int).Lsh(big.NewInt(1), bits)
		p.Chain[1] = a.issue(issuer, a.cert, &rsa.PublicKey{N: n.Sub(n, big.NewInt(1)), E: 65537})
		got, err := newVerifier(t, cfg).Verify(t.Context(), p.Token(ccatest.Realm{}, want), want)
		wantRefused(t, got, err, evidence.Malformed, "anchor")
	}
}

// Every bit of a token with certificates counts, of those that no signature of the
// token is over as well: what they say is signed by who issued them.
func TestFlippedBitsOfCertificates(t *testing.T) {
	a, p := newAuthority(t), ccatest.NewPlatform()
	p.Key = newKey(t, elliptic.P256())
	der := a.issue(leaf(), a.cert, &p.Key.PublicKey)
	p.Chain, p.Thumbprint = [][]byte{der}, false
	v := newVerifier(t, cca.Config{Authorities: []cca.Authority{{Certificate: a.cert.Raw, Implementations: evidence.Anything[cca.ImplementationID]()}}})
	ev := p.Token(ccatest.Realm{}, evidence.Binding{})
	if _, err := v.Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe()); err != nil {
		t.Fatal(err)
	}
	raw := ev.Raw
	from := bytes.Index(raw, der)
	for bit := 8 * (from - 8); bit < 8*(from+len(der)); bit += 3 {
		ev.Raw = bytes.Clone(raw)
		ev.Raw[bit/8] ^= 1 << (bit % 8)
		if _, err := v.Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe()); err == nil {
			t.Errorf("bit %d flipped: accepted", bit-8*from)
		}
	}
}
