package vtpm_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// maker is a vendor of TPMs.
type maker struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newMaker(t testing.TB) maker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := maker{key: key}
	m.cert = m.issue(t, &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		Subject: pkix.Name{CommonName: "TPM vendor"}, NotAfter: time.Now().Add(48 * time.Hour),
	}, key.Public())
	return m
}

// issue returns the certificate of key as template says it.
func (m maker) issue(t testing.TB, template *x509.Certificate, key crypto.PublicKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(1)
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	parent := m.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, m.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ekTemplate is what an EK certificate says: the name of the TPM, in a critical
// extension that x509 does not know, and what the key is for.
func ekTemplate() *x509.Certificate {
	name := pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 23, 133, 2, 1}, Value: "id:12345678"}}}
	der, err := asn1.Marshal(name)
	if err != nil {
		panic(err)
	}
	san, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: der}})
	if err != nil {
		panic(err)
	}
	return &x509.Certificate{
		NotAfter:           time.Now().Add(24 * time.Hour),
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}},
		ExtraExtensions:    []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: san}},
	}
}

// certified returns a quote of tpm with the certificate of its EK and no report.
func certified(tpm *vtpmtest.TPM, cert []byte, want evidence.Binding) evidence.Evidence {
	raw, pcrs := tpm.Quote(vtpmtest.Quote{}, want)
	return evidence.Evidence{Format: vtpm.Format, Raw: raw, Items: []evidence.Item{
		{Type: vtpm.PCRs, Data: pcrs}, {Type: vtpm.AK, Data: tpm.AK()}, {Type: vtpm.EK, Data: tpm.EK()}, {Type: vtpm.EKCertificate, Data: cert},
	}}
}

func (m maker) verifier(t testing.TB, edit func(*vtpm.Config)) *vtpm.Verifier {
	t.Helper()
	w := theWorld()
	cfg := vtpm.Config{Platform: w.verifier, AKs: vtpmtest.AKs{w.ecc}, EKRoots: [][]byte{m.cert.Raw}}
	edit(&cfg)
	v, err := vtpm.NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// withCertificate returns the result for a TPM that a certificate vouches for.
func withCertificate(t testing.TB) (*evidence.Verified, maker) {
	t.Helper()
	w, want, m := theWorld(), sixtyFour(t), newMaker(t)
	cert := m.issue(t, ekTemplate(), w.ecc.EKKey())
	_, got := claimsOf(t, m.verifier(t, func(*vtpm.Config) {}), certified(w.ecc, cert.Raw, want), want)
	return got, m
}

// An EK certificate without a TEE is reported as exactly that, and accepted only by
// who says so twice.
func TestCertificateOnly(t *testing.T) {
	got, m := withCertificate(t)
	c, _ := vtpm.ClaimsOf(got)
	if c.Link != vtpm.LinkCertificate || c.Platform != "" || c.Manifest() != "" || len(got.Layers) != 0 || got.Root != sha256.Sum256(m.cert.Raw) || got.NotAfter.After(time.Now().Add(25*time.Hour)) {
		t.Errorf("%+v, root %x", c, got.Root)
	}
	rv := vtpm.Baseline()
	rv.AllowOtherPCRs = true
	for name, tt := range map[string]struct {
		links  evidence.Set[vtpm.Link]
		allow  bool
		accept bool
	}{
		"baseline":           {rv.Links, false, false},
		"allowed, not named": {rv.Links, true, false},
		"named, not allowed": {evidence.OneOf(vtpm.LinkCertificate), false, false},
		"anything":           {evidence.Anything[vtpm.Link](), false, false},
		"named and allowed":  {evidence.OneOf(vtpm.LinkCertificate), true, true},
	} {
		rv.Links, rv.AllowNoTEE = tt.links, tt.allow
		if ms := rv.Appraise(got); (len(ms) == 0) != tt.accept {
			t.Errorf("%s: %v", name, ms)
		}
	}
}

func TestCertificateRefused(t *testing.T) {
	w, want, m := theWorld(), sixtyFour(t), newMaker(t)
	good := m.issue(t, ekTemplate(), w.ecc.EKKey()).Raw
	issue := func(edit func(*x509.Certificate)) []byte {
		template := ekTemplate()
		edit(template)
		return m.issue(t, template, w.ecc.EKKey()).Raw
	}
	none := func(*vtpm.Config) {}
	for name, tt := range map[string]struct {
		cert   []byte
		cfg    func(*vtpm.Config)
		check  string
		reason evidence.Reason
	}{
		"no roots":      {good, func(c *vtpm.Config) { c.EKRoots = nil }, "ek-certificate", evidence.Untrusted},
		"other roots":   {good, func(c *vtpm.Config) { c.EKRoots = [][]byte{newMaker(t).cert.Raw} }, "ek-certificate", evidence.Untrusted},
		"of another EK": {m.issue(t, ekTemplate(), w.rsa.EKKey()).Raw, none, "ek-certificate", evidence.Untrusted},
		"not of an EK":  {issue(func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }), none, "ek-certificate", evidence.Untrusted},
		"a critical extension": {issue(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}), none, "ek-certificate", evidence.Untrusted},
		"over":                  {issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), none, "ek-certificate", evidence.Stale},
		"not yet":               {good, func(c *vtpm.Config) { c.Time = func() time.Time { return time.Now().Add(-2 * time.Hour) } }, "ek-certificate", evidence.Stale},
		"none":                  {[]byte("x"), none, "ek-certificate", evidence.Malformed},
		"AK that is not linked": {good, func(c *vtpm.Config) { c.AKs = nil }, "link", evidence.Untrusted},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, m.verifier(t, tt.cfg), certified(w.ecc, tt.cert, want), want, tt.check, tt.reason)
		})
	}
	// Beside a report a certificate is no longer enough, and has to be right as well.
	ev := with(w.svsm(w.ecc).Evidence(vtpmtest.Quote{}, want), vtpm.EKCertificate, good)
	c, got := claimsOf(t, m.verifier(t, none), ev, want)
	if c.Link != vtpm.LinkEK || c.EKCertificate != sha256.Sum256(good) || got.Root == sha256.Sum256(m.cert.Raw) || got.NotAfter.After(time.Now().Add(25*time.Hour)) {
		t.Errorf("%+v", c)
	}
	refused(t, w.newVerifier(t, w.ecc), ev, want, "ek-certificate", evidence.Untrusted)
	for _, roots := range [][][]byte{{[]byte("x")}, {good}, {issue(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })}} {
		if v, err := vtpm.NewVerifier(vtpm.Config{Platform: w.verifier, EKRoots: roots}); err == nil || v != nil {
			t.Errorf("roots that are none: %v", err)
		}
	}
}
