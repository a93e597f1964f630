package tdx_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"maps"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

func TestVerifyRefusesInvalidCertificates(t *testing.T) {
	past, future := today.Add(-time.Second), today.Add(time.Second)
	for _, c := range []struct {
		claim string
		edit  func(*fake)
		check string
	}{
		{"PCK expired", func(f *fake) { f.reissuePCK(func(c *x509.Certificate) { c.NotAfter = past }) }, "validity"},
		{"PCK of the future", func(f *fake) { f.reissuePCK(func(c *x509.Certificate) { c.NotBefore = future }) }, "validity"},
		{"CA expired", func(f *fake) { f.reissueCA(func(c *x509.Certificate) { c.NotAfter = past }) }, "validity"},
		{"CA of the future", func(f *fake) { f.reissueCA(func(c *x509.Certificate) { c.NotBefore = future }) }, "validity"},
		{"root expired", func(f *fake) {
			tmpl := caTemplate(abi.NameRoot, 1)
			tmpl.NotAfter = past
			f.setRoot(tmpl)
		}, "validity"},
		{"TCB signer expired", func(f *fake) { f.reissueSigner(func(c *x509.Certificate) { c.NotAfter = past }) }, "tcb"},
		{"TCB signer of the future", func(f *fake) { f.reissueSigner(func(c *x509.Certificate) { c.NotBefore = future }) }, "tcb"},
		{"TCB signer younger than the document", func(f *fake) {
			f.reissueSigner(func(c *x509.Certificate) { c.NotBefore = time.Date(2026, 2, 20, 0, 0, 1, 0, time.UTC) })
		}, "tcb"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			f := newFake(t)
			c.edit(f)
			got, err := f.verify()
			wantRefused(t, got, err, evidence.Stale, c.check)
		})
	}
}

// A result holds until the first certificate expires, if that is before collateral
// has to be replaced.
func TestNotAfterIsOfTheFirstToExpire(t *testing.T) {
	soon := today.Add(time.Hour)
	for name, edit := range map[string]func(*fake){
		"PCK":        func(f *fake) { f.reissuePCK(func(c *x509.Certificate) { c.NotAfter = soon }) },
		"CA":         func(f *fake) { f.reissueCA(func(c *x509.Certificate) { c.NotAfter = soon }) },
		"TCB signer": func(f *fake) { f.reissueSigner(func(c *x509.Certificate) { c.NotAfter = soon }) },
		"root": func(f *fake) {
			tmpl := caTemplate(abi.NameRoot, 1)
			tmpl.NotAfter = soon
			f.setRoot(tmpl)
		},
	} {
		f := newFake(t)
		edit(f)
		got, err := f.verify()
		if err != nil {
			t.Fatal(err)
		}
		if !got.NotAfter.Equal(soon) {
			t.Errorf("%s: holds until %v", name, got.NotAfter)
		}
	}
}

// Certificates that the right issuer signed, for another purpose or of another form.
func TestVerifyRefusesProfiles(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string]func(*x509.Certificate){
		"no basic constraints": func(c *x509.Certificate) { c.BasicConstraintsValid = false },
		"a critical extension": func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oid("1.2.3"), Critical: true, Value: []byte{5, 0}})
		},
		"another organization":   func(c *x509.Certificate) { c.Subject.Organization = []string{"Another Corporation"} },
		"no locality":            func(c *x509.Certificate) { c.Subject.Locality = nil },
		"an organizational unit": func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"SGX"} },
		"a second common name": func(c *x509.Certificate) {
			c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: oid("2.5.4.3"), Value: "x"})
		},
		"another common name": func(c *x509.Certificate) { c.Subject.CommonName += " " },
	}
	signer := map[string]func(*x509.Certificate){
		"a CA by its constraints": func(c *x509.Certificate) { c.IsCA = true },
		"no digital signature":    func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment },
		"a CA by its usage":       func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign },
		"a signer of lists":       func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign },
	}
	ca := map[string]func(*x509.Certificate){
		"no CA by its constraints": func(c *x509.Certificate) { c.IsCA, c.MaxPathLen, c.MaxPathLenZero = false, 0, false },
		"no list signing":          func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign },
		"digital signature too":    func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature },
	}
	maps.Copy(signer, forms)
	maps.Copy(ca, forms)
	refused := func(name string, reason evidence.Reason, check string, edit func(*fake)) {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			edit(f)
			got, err := f.verify()
			wantRefused(t, got, err, reason, check)
		})
	}
	for claim, edit := range signer {
		refused("PCK: "+claim, evidence.Untrusted, "profile", func(f *fake) { f.reissuePCK(edit) })
		refused("TCB signer: "+claim, evidence.Unavailable, "tcb", func(f *fake) { f.reissueSigner(edit) })
	}
	for claim, edit := range ca {
		refused("CA: "+claim, evidence.Untrusted, "profile", func(f *fake) { f.reissueCA(edit) })
		t.Run("root: "+claim, func(t *testing.T) {
			tmpl := caTemplate(abi.NameRoot, 1)
			edit(tmpl)
			f := newFake(t)
			f.root = f.issue(authority{}, tmpl)
			if _, err := tdx.NewVerifier(f.config()); err == nil {
				t.Error("accepted")
			}
		})
	}
	refused("PCK: on P-384", evidence.Untrusted, "profile", func(f *fake) { f.pck = f.certify(p384, f.ca, f.pck.cert) })
	refused("TCB signer: on P-384", evidence.Unavailable, "tcb", func(f *fake) { f.signer = f.certify(p384, f.root, f.signer.cert) })
}

func (f *fake) reissuePCK(edit func(*x509.Certificate)) {
	tmpl := leafTemplate(abi.NamePCK)
	tmpl.ExtraExtensions = []pkix.Extension{{Id: oid(abi.SGXExtension), Value: pckExtension(f.kind)}}
	edit(tmpl)
	f.pck = f.issue(f.ca, tmpl)
}

func (f *fake) reissueCA(edit func(*x509.Certificate)) {
	tmpl := caTemplate(abi.NamePlatformCA, 0)
	edit(tmpl)
	f.ca = f.issue(f.root, tmpl)
	f.setPCK(pckExtension(f.kind))
}

func (f *fake) reissueSigner(edit func(*x509.Certificate)) {
	tmpl := leafTemplate(abi.NameTCBSigning)
	edit(tmpl)
	f.signer = f.issue(f.root, tmpl)
}

func TestVerifyRefusesRevoked(t *testing.T) {
	for _, c := range []struct {
		claim, check string
		edit         func(*fake)
	}{
		{"PCK", "revocation", func(f *fake) { f.pckCRL.RevokedCertificateEntries = revoke(f.pck) }},
		{"CA", "revocation", func(f *fake) { f.rootCRL.RevokedCertificateEntries = revoke(f.ca) }},
		{"TCB signer", "tcb", func(f *fake) { f.rootCRL.RevokedCertificateEntries = revoke(f.signer) }},
	} {
		t.Run(c.claim, func(t *testing.T) {
			f := newFake(t)
			c.edit(f)
			got, err := f.verify()
			wantRefused(t, got, err, evidence.Revoked, c.check)
			cfg := f.config()
			cfg.SkipRevocationUnsafe = true
			got, err = f.verifyQuote(cfg, f.quote())
			if err != nil || len(got.Skipped) != 1 || got.Skipped[0] != "revocation" {
				t.Errorf("without revocation: %v", err)
			}
		})
	}
	// The lists of two issuers are not one: a serial number means nothing in the other's.
	f := newFake(t)
	f.rootCRL.RevokedCertificateEntries, f.pckCRL.RevokedCertificateEntries = revoke(f.pck), revoke(f.ca)
	if _, err := f.verify(); err != nil {
		t.Errorf("serial numbers on the other's list: %v", err)
	}
}
