package tdx_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

func TestFakeIsAccepted(t *testing.T) {
	for _, c := range []struct {
		claim string
		edit  func(*fake)
	}{
		{"version 5, TD report 1.5", func(*fake) {}},
		{"version 5, TD report 1.0", func(f *fake) { f.bodyType = abi.BodyTD10 }},
		{"version 4", func(f *fake) { f.version = abi.V4 }},
		{"Processor CA", func(f *fake) { f.setCA(tdx.ProcessorCA) }},
		{"no authentication data", func(f *fake) { f.auth = nil }},
		{"much authentication data", func(f *fake) { f.auth = make([]byte, 65535) }},
		{"a member that Intel adds", func(f *fake) { f.info["more"] = object{"x": []any{1, nil}} }},
		{"FMSPC in upper case", func(f *fake) { f.info["fmspc"] = strings.ToUpper(f.info["fmspc"].(string)) }},
	} {
		t.Run(c.claim, func(t *testing.T) {
			f := newFake(t)
			c.edit(f)
			got := f.claims()
			if got.TCB.Status != tdx.UpToDate || got.PCK.CA != f.kind || got.Version() != f.version {
				t.Errorf("%s, %v, version %d", got.TCB.Status, got.PCK.CA, got.Version())
			}
		})
	}
}

// What the evidence may be refused for before the Source is asked.
func TestVerifyRefusesQuotes(t *testing.T) {
	for _, c := range []struct {
		claim  string
		quote  func(*fake) []byte
		reason evidence.Reason
		check  string
	}{
		{"another root", func(f *fake) []byte {
			q := newFake(f.t)
			return q.quote()
		}, evidence.Untrusted, "chain"},
		{"a CA that the root did not sign", func(f *fake) []byte {
			forged := newFake(f.t)
			f.ca, f.pck = forged.ca, forged.pck
			return f.quote()
		}, evidence.Untrusted, "chain"},
		{"a PCK that the CA did not sign", func(f *fake) []byte {
			forged := newFake(f.t)
			f.pck = forged.pck
			return f.quote()
		}, evidence.Untrusted, "chain"},
		{"a PCK that the root signed", func(f *fake) []byte {
			tmpl := leafTemplate(abi.NamePCK)
			tmpl.ExtraExtensions = []pkix.Extension{{Id: oid(abi.SGXExtension), Value: pckExtension(f.kind)}}
			f.pck = f.issue(f.root, tmpl)
			return f.quote()
		}, evidence.Untrusted, "chain"},
		{"a PCK that the TCB signer signed", func(f *fake) []byte {
			f.ca = f.signer
			f.setPCK(pckExtension(f.kind))
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a CA of another name", func(f *fake) []byte {
			f.ca = f.issue(f.root, caTemplate("Intel SGX PCK Another CA", 0))
			f.setPCK(pckExtension(f.kind))
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a CA that is none", func(f *fake) []byte {
			f.ca = f.issue(f.root, leafTemplate(abi.NamePlatformCA))
			f.setPCK(pckExtension(f.kind))
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a PCK of another name", func(f *fake) []byte {
			tmpl := leafTemplate(abi.NameTCBSigning)
			tmpl.ExtraExtensions = []pkix.Extension{{Id: oid(abi.SGXExtension), Value: pckExtension(f.kind)}}
			f.pck = f.issue(f.ca, tmpl)
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a PCK that is a CA", func(f *fake) []byte {
			tmpl := caTemplate(abi.NamePCK, 0)
			tmpl.ExtraExtensions = []pkix.Extension{{Id: oid(abi.SGXExtension), Value: pckExtension(f.kind)}}
			f.pck = f.issue(f.ca, tmpl)
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a PCK without the extension", func(f *fake) []byte {
			f.setPCK(nil)
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a PCK of the Processor CA with a platform instance", func(f *fake) []byte {
			f.setCA(tdx.ProcessorCA)
			f.setPCK(pckExtension(tdx.PlatformCA))
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a PCK of the Platform CA without", func(f *fake) []byte {
			f.setPCK(pckExtension(tdx.ProcessorCA))
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"an enclave that the PCK did not sign", func(f *fake) []byte {
			f.pck.key = newKey(f.t)
			return f.quote()
		}, evidence.BadSignature, "qe-report"},
		{"an attestation key that the enclave did not report", func(f *fake) []byte {
			qe := make([]byte, abi.QEReportSize)
			return f.quoteWith(qe, f.sign(f.pck.key, qe), pemOf(f.pck, f.ca, f.root))
		}, evidence.Untrusted, "attestation-key"},
		{"an enclave that reported more than the key", func(f *fake) []byte {
			raw := f.quote()
			q := bytes.Index(raw, f.qe[:abi.QEReportData])
			qe := bytes.Clone(raw[q : q+abi.QEReportSize])
			qe[abi.QEReportSize-1] = 1
			return f.quoteWith(qe, f.sign(f.pck.key, qe), pemOf(f.pck, f.ca, f.root))
		}, evidence.Untrusted, "attestation-key"},
		{"a quote that another key signed", func(f *fake) []byte {
			raw := f.quote()
			n := len(f.signed()) + 4
			copy(raw[n:], f.sign(newKey(f.t), raw[:n-4]))
			return raw
		}, evidence.BadSignature, "signature"},
		{"another REPORTDATA", func(f *fake) []byte {
			f.body[abi.ReportData] ^= 1
			return f.quote()
		}, evidence.NotBound, "binding"},
		{"two certificates", func(f *fake) []byte { return f.withChain(pemOf(f.pck, f.ca)) }, evidence.Malformed, "certificate"},
		{"four certificates", func(f *fake) []byte { return f.withChain(pemOf(f.pck, f.ca, f.root, f.root)) }, evidence.Malformed, "certificate"},
		{"text before the certificates", func(f *fake) []byte { return f.withChain(append([]byte("x\n"), pemOf(f.pck, f.ca, f.root)...)) }, evidence.Malformed, "certificate"},
		{"a malformed certificate before the certificates", func(f *fake) []byte {
			return f.withChain(append([]byte("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), pemOf(f.pck, f.ca, f.root)...))
		}, evidence.Malformed, "certificate"},
		{"two zero bytes after them", func(f *fake) []byte { return f.withChain(append(pemOf(f.pck, f.ca, f.root), 0, 0)) }, evidence.Malformed, "certificate"},
		{"certificates out of order", func(f *fake) []byte { return f.withChain(pemOf(f.ca, f.pck, f.root)) }, evidence.Untrusted, "chain"},
		{"no certificates", func(f *fake) []byte { return f.withChain(nil) }, evidence.Malformed, "certificate"},
		{"a chain that is too long", func(f *fake) []byte {
			return f.withChain(append(pemOf(f.pck, f.ca, f.root), bytes.Repeat([]byte("\n"), 16<<10)...))
		}, evidence.Malformed, "certificate"},
		{"PEM of another type", func(f *fake) []byte {
			return f.withChain(bytes.ReplaceAll(pemOf(f.pck, f.ca, f.root), []byte("CERTIFICATE"), []byte("PUBLIC KEY")))
		}, evidence.Malformed, "certificate"},
		{"PEM with a header", func(f *fake) []byte {
			return f.withChain(append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: f.pck.cert.Raw}), pemOf(f.ca, f.root)...))
		}, evidence.Malformed, "certificate"},
		{"a certificate that is none", func(f *fake) []byte {
			return f.withChain(append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}}), pemOf(f.ca, f.root)...))
		}, evidence.Malformed, "certificate"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			f := newFake(t)
			cfg := f.config()
			raw := c.quote(f)
			cfg.Source = panics{}
			got, err := f.verifyQuote(cfg, raw)
			wantRefused(t, got, err, c.reason, c.check)
		})
	}
}

// withChain returns a quote with other certificates.
func (f *fake) withChain(chain []byte) []byte {
	qe := make([]byte, abi.QEReportSize)
	return f.quoteWith(qe, f.sign(f.pck.key, qe), chain)
}

// panics is a Source that must not be asked.
type panics struct{}

func (panics) Get(context.Context, string) ([]evidence.Collateral, error) {
	panic("the Source is asked about evidence that is refused")
}

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

// What the Source may have that is none of the collateral asked for.
func TestVerifyRefusesCollateral(t *testing.T) {
	info, identity, rootCRL, pckCRL := tdx.TCBInfoName(fakeFMSPC), tdx.QEIdentityName(), tdx.RootCRLName(), tdx.PCKCRLName(tdx.PlatformCA)
	checkOf := map[string]string{info: "tcb", identity: "tcb", rootCRL: "revocation", pckCRL: "revocation"}
	for _, name := range []string{info, identity, rootCRL, pckCRL} {
		for _, c := range []struct {
			claim  string
			edit   func(f *fake, s files)
			reason evidence.Reason
		}{
			{"not there", func(_ *fake, s files) { delete(s, name) }, evidence.Unavailable},
			{"no answers", func(_ *fake, s files) { s[name] = []evidence.Collateral{} }, evidence.Unavailable},
			{"empty", func(_ *fake, s files) { s[name][0].Data = nil }, evidence.Unavailable},
			{"garbage", func(_ *fake, s files) { s[name][0].Data = []byte("{garbage") }, evidence.Unavailable},
			{"too long", func(_ *fake, s files) { s[name][0].Data = padded(s[name][0].Data, 2<<20) }, evidence.Unavailable},
			{"trailing data", func(_ *fake, s files) { s[name][0].Data = append(s[name][0].Data, '0') }, evidence.Unavailable},
			{"forged", func(_ *fake, s files) { flip(s[name][0].Data, len(s[name][0].Data)/3) }, evidence.Unavailable},
			{"of another PKI", func(f *fake, s files) { s[name] = newFake(f.t).source()[name] }, evidence.Unavailable},
			{"another document", func(_ *fake, s files) {
				other := map[string]string{info: identity, identity: info, rootCRL: pckCRL, pckCRL: rootCRL}[name]
				s[name] = s[other]
			}, evidence.Unavailable},
		} {
			t.Run(name+" "+c.claim, func(t *testing.T) {
				f := newFake(t)
				cfg := f.config()
				c.edit(f, cfg.Source.(files))
				got, err := f.verifyQuote(cfg, f.quote())
				wantRefused(t, got, err, c.reason, checkOf[name])
			})
		}
		t.Run(name+" with white space", func(t *testing.T) {
			f := newFake(t)
			cfg := f.config()
			c := &cfg.Source.(files)[name][0]
			c.Data = padded(c.Data, 100)
			if _, err := f.verifyQuote(cfg, f.quote()); err != nil {
				t.Error(err)
			}
		})
		t.Run(name+" behind too much garbage", func(t *testing.T) {
			f := newFake(t)
			cfg := f.config()
			s := cfg.Source.(files)
			s[name] = append(make([]evidence.Collateral, 16), s[name]...)
			got, err := f.verifyQuote(cfg, f.quote())
			wantRefused(t, got, err, evidence.Unavailable, checkOf[name])
		})
		t.Run(name+" found beside garbage", func(t *testing.T) {
			f := newFake(t)
			cfg := f.config()
			s := cfg.Source.(files)
			s[name] = append([]evidence.Collateral{{Data: []byte("{")}, {Data: []byte{0x30}, Issuer: []byte("x")}}, s[name]...)
			if _, err := f.verifyQuote(cfg, f.quote()); err != nil {
				t.Error(err)
			}
		})
	}
	for _, c := range []struct {
		claim  string
		issuer func(*fake) []byte
	}{
		{"no issuer", func(*fake) []byte { return nil }},
		{"no root", func(f *fake) []byte { return pemOf(f.signer) }},
		{"three", func(f *fake) []byte { return pemOf(f.signer, f.root, f.root) }},
		{"another root", func(f *fake) []byte { return pemOf(f.signer, newFake(f.t).root) }},
		{"a signer of another root", func(f *fake) []byte { return pemOf(newFake(f.t).signer, f.root) }},
		{"an issuer that is too long", func(f *fake) []byte {
			return append(append(pemOf(f.signer), bytes.Repeat([]byte("\n"), 16<<10)...), pemOf(f.root)...)
		}},
		{"the PCK CA", func(f *fake) []byte { return pemOf(f.ca, f.root) }},
		{"the PCK", func(f *fake) []byte { return pemOf(f.pck, f.root) }},
		{"garbage", func(*fake) []byte { return []byte("-----BEGIN CERTIFICATE-----\n") }},
	} {
		for _, name := range []string{info, identity} {
			t.Run(name+" issued by "+c.claim, func(t *testing.T) {
				f := newFake(t)
				cfg := f.config()
				cfg.Source.(files)[name][0].Issuer = c.issuer(f)
				got, err := f.verifyQuote(cfg, f.quote())
				wantRefused(t, got, err, evidence.Unavailable, "tcb")
			})
		}
	}
}

// padded returns data with n bytes of white space, as it is taken: after a document
// in JSON, or a list in PEM.
func padded(data []byte, n int) []byte {
	if data[0] == 0x30 {
		data = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: data})
	}
	return append(bytes.Clone(data), bytes.Repeat([]byte(" "), n)...)
}

func flip(b []byte, i int) { b[i] ^= 1 }

// A Source that fails is not one that has nothing.
func TestVerifySaysWhyTheSourceFailed(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	outage := errors.New("no route to Intel")
	cfg.Source = failing{outage}
	got, err := f.verifyQuote(cfg, f.quote())
	wantRefused(t, got, err, evidence.Unavailable, "revocation")
	if !errors.Is(err, outage) {
		t.Errorf("the cause is lost: %v", err)
	}
}

type failing struct{ err error }

func (s failing) Get(context.Context, string) ([]evidence.Collateral, error) { return nil, s.err }

func TestVerifyRefusesDocuments(t *testing.T) {
	levels := func(o object) []any { return o["tcbLevels"].([]any) }
	first := func(o object) object { return levels(o)[0].(object) }
	platform := func(f *fake) object { return f.info }
	module := func(f *fake) object { return f.info["tdxModuleIdentities"].([]any)[0].(object) }
	identity := func(f *fake) object { return f.identity }
	type edit func(*fake)
	cases := map[string]edit{
		"info: another id":                   func(f *fake) { f.info["id"] = "SGX" },
		"info: version 2":                    func(f *fake) { f.info["version"] = 2 },
		"info: version 4":                    func(f *fake) { f.info["version"] = 4 },
		"info: tcbType 1":                    func(f *fake) { f.info["tcbType"] = 1 },
		"info: no tcbType":                   func(f *fake) { delete(f.info, "tcbType") },
		"info: another FMSPC":                func(f *fake) { f.info["fmspc"] = "90c06f010204" },
		"info: a short FMSPC":                func(f *fake) { f.info["fmspc"] = "90c06f0102" },
		"info: another PCEID":                func(f *fake) { f.info["pceId"] = "0001" },
		"info: no module":                    func(f *fake) { delete(f.info, "tdxModule") },
		"info: no levels":                    func(f *fake) { f.info["tcbLevels"] = []any{} },
		"info: too many levels":              func(f *fake) { f.info["tcbLevels"] = make300(levels(f.info)[0]) },
		"info: two levels of one TCB":        func(f *fake) { f.info["tcbLevels"] = append(levels(f.info), levels(f.info)[0]) },
		"info: 15 components":                func(f *fake) { tcbOf(first(f.info))["sgxtcbcomponents"] = svns()[1:] },
		"info: 17 components":                func(f *fake) { tcbOf(first(f.info))["tdxtcbcomponents"] = append(svns(), object{"svn": 0}) },
		"info: a component without svn":      func(f *fake) { tcbOf(first(f.info))["sgxtcbcomponents"].([]any)[3] = object{} },
		"info: an svn of 256":                func(f *fake) { tcbOf(first(f.info))["sgxtcbcomponents"].([]any)[3] = object{"svn": 256} },
		"info: a negative svn":               func(f *fake) { tcbOf(first(f.info))["sgxtcbcomponents"].([]any)[3] = object{"svn": -1} },
		"info: no pcesvn":                    func(f *fake) { delete(tcbOf(first(f.info)), "pcesvn") },
		"info: null for an object":           func(f *fake) { first(f.info)["tcb"] = nil },
		"info: an advisory that is no name":  func(f *fake) { first(f.info)["advisoryIDs"] = []any{"INTEL\n"} },
		"info: an advisory that is too long": func(f *fake) { first(f.info)["advisoryIDs"] = []any{strings.Repeat("A", 65)} },
		"info: too many advisories":          func(f *fake) { first(f.info)["advisoryIDs"] = make300("INTEL-SA-1") },
		"module: another name":               func(f *fake) { module(f)["id"] = "TDX-01" },
		"module: no digits":                  func(f *fake) { module(f)["id"] = "TDX_" },
		"module: twice":                      func(f *fake) { f.info["tdxModuleIdentities"] = []any{module(f), module(f)} },
		"module: too many":                   func(f *fake) { f.info["tdxModuleIdentities"] = make300(module(f)) },
		"module: SWHardeningNeeded":          func(f *fake) { first(module(f))["tcbStatus"] = "SWHardeningNeeded" },
		"module: mrsigner of another size":   func(f *fake) { module(f)["mrsigner"] = "00" },
		"module: attributes not hexadecimal": func(f *fake) { module(f)["attributes"] = "zz00000000000000" },
		"identity: of an SGX enclave":        func(f *fake) { f.identity["id"] = "QE" },
		"identity: version 1":                func(f *fake) { f.identity["version"] = 1 },
		"identity: no isvprodid":             func(f *fake) { delete(f.identity, "isvprodid") },
		"identity: no mask":                  func(f *fake) { delete(f.identity, "attributesMask") },
	}
	for part, of := range map[string]func(*fake) object{"info": platform, "identity": identity} {
		for claim, edit := range map[string]func(object){
			"no issueDate":              func(o object) { delete(o, "issueDate") },
			"issueDate of null":         func(o object) { o["issueDate"] = nil },
			"issueDate of another form": func(o object) { o["issueDate"] = "2026-02-20" },
			"no nextUpdate":             func(o object) { delete(o, "nextUpdate") },
			"nextUpdate not after":      func(o object) { o["nextUpdate"] = o["issueDate"] },
			"no evaluation number":      func(o object) { delete(o, "tcbEvaluationDataNumber") },
			"a member in another case":  func(o object) { o["TcbLevels"] = []any{} },
		} {
			cases[part+": "+claim] = func(f *fake) { edit(of(f)) }
		}
	}
	for part, of := range map[string]func(*fake) object{"info": platform, "module": module, "identity": identity} {
		for claim, edit := range map[string]func(object){
			"an unknown status":    func(l object) { l["tcbStatus"] = "Fine" },
			"NotSupported":         func(l object) { l["tcbStatus"] = "NotSupported" },
			"status in lower case": func(l object) { l["tcbStatus"] = "uptodate" },
			"no status":            func(l object) { delete(l, "tcbStatus") },
			"no date":              func(l object) { delete(l, "tcbDate") },
			"no tcb":               func(l object) { delete(l, "tcb") },
		} {
			cases[part+": a level with "+claim] = func(f *fake) { edit(first(of(f))) }
		}
	}
	for part, of := range map[string]func(*fake) object{"module": module, "identity": identity} {
		cases[part+": no levels"] = func(f *fake) { delete(of(f), "tcbLevels") }
		cases[part+": too many levels"] = func(f *fake) { of(f)["tcbLevels"] = make300(first(of(f))) }
		cases[part+": two levels of one svn"] = func(f *fake) { of(f)["tcbLevels"] = append(levels(of(f)), first(of(f))) }
		cases[part+": no isvsvn"] = func(f *fake) { first(of(f))["tcb"] = object{} }
	}
	for claim, edit := range cases {
		t.Run(claim, func(t *testing.T) {
			f := newFake(t)
			edit(f)
			got, err := f.verify()
			wantRefused(t, got, err, evidence.Unavailable, "tcb")
		})
	}
}

func tcbOf(level object) object { return level["tcb"].(object) }

func make300(x any) []any {
	list := make([]any, 300)
	for i := range list {
		list[i] = x
	}
	return list
}

// What two readers could read differently is refused, whoever signed it.
func TestVerifyRefusesAmbiguousDocuments(t *testing.T) {
	f := newFake(t)
	body, err := json.Marshal(f.info)
	if err != nil {
		t.Fatal(err)
	}
	name := tdx.TCBInfoName(fakeFMSPC)
	for _, c := range []struct {
		claim string
		c     evidence.Collateral
	}{
		{"a duplicate member", f.rawDocument("tcbInfo", bytes.Replace(body, []byte(`"id":`), []byte(`"id":"TDX","id":`), 1))},
		{"a duplicate member in another case", f.rawDocument("tcbInfo", bytes.Replace(body, []byte(`"id":`), []byte(`"ID":"TDX","id":`), 1))},
		{"invalid UTF-8", f.rawDocument("tcbInfo", bytes.Replace(body, []byte(`BIOS`), []byte("BIO\xff"), 1))},
		{"a third member beside", edited(f.rawDocument("tcbInfo", body), `{"tcbInfo":`, `{"more":1,"tcbInfo":`)},
		{"two documents", edited(f.rawDocument("tcbInfo", body), `{"tcbInfo":`, `{"tcbInfo":{},"tcbInfo":`)},
		{"two signatures", edited(f.rawDocument("tcbInfo", body), `,"signature":`, `,"signature":"00","signature":`)},
		{"another name", edited(f.rawDocument("tcbInfo", body), `{"tcbInfo":`, `{"TcbInfo":`)},
		{"a short signature", edited(f.rawDocument("tcbInfo", body), `"}`, ``, `00"}`, ``)},
		{"a signature that is a number", edited(f.rawDocument("tcbInfo", body), `,"signature":"`, `,"signature":1,"x":"`)},
	} {
		cfg := f.config()
		cfg.Source.(files)[name] = []evidence.Collateral{c.c}
		got, err := f.verifyQuote(cfg, f.quote())
		t.Run(c.claim, func(t *testing.T) { wantRefused(t, got, err, evidence.Unavailable, "tcb") })
	}
	// The signature is over the bytes as they stand, whatever white space is in them.
	var spaced bytes.Buffer
	if err := json.Indent(&spaced, body, " ", "\t"); err != nil {
		t.Fatal(err)
	}
	cfg := f.config()
	cfg.Source.(files)[name] = []evidence.Collateral{f.rawDocument("tcbInfo", spaced.Bytes())}
	if _, err := f.verifyQuote(cfg, f.quote()); err != nil {
		t.Errorf("with white space: %v", err)
	}
}

// edited replaces texts in a document after it was signed.
func edited(c evidence.Collateral, texts ...string) evidence.Collateral {
	c.Data = []byte(strings.NewReplacer(texts...).Replace(string(c.Data)))
	return c
}

func TestVerifyRefusesForeignEnclavesAndModules(t *testing.T) {
	for _, c := range []struct {
		claim, field string
		edit         func(*fake)
	}{
		{"MISCSELECT", "MISCSELECT", func(f *fake) { f.qe[abi.QEMiscSelect] = 1 }},
		{"an enclave under debug", "ATTRIBUTES", func(f *fake) { f.qe[abi.QEAttributes] |= 2 }},
		{"an enclave of another signer", "MRSIGNER", func(f *fake) { f.qe[abi.QEMRSigner] ^= 1 }},
		{"another enclave of Intel's", "ISVPRODID", func(f *fake) { f.qe[abi.QEISVProdID] = 1 }},
		{"a module of another signer", "MRSIGNERSEAM", func(f *fake) { f.body[abi.MRSignerSEAM] = 1 }},
		{"a module with attributes", "SEAMATTRIBUTES", func(f *fake) { f.body[abi.SEAMAttributes] = 1 }},
		{"a module with attributes that the identity passes over", "SEAMATTRIBUTES", func(f *fake) {
			f.body[abi.SEAMAttributes] = 1
			f.info["tdxModuleIdentities"].([]any)[0].(object)["attributesMask"] = strings.Repeat("00", 8)
		}},
		{"a module without attributes that its identity has", "SEAMATTRIBUTES", func(f *fake) {
			f.info["tdxModuleIdentities"].([]any)[0].(object)["attributes"] = "0100000000000000"
		}},
		{"a module of another signer, of no known version", "MRSIGNERSEAM", func(f *fake) { f.body[abi.MRSignerSEAM], f.body[abi.SVNModuleVersion] = 1, 9 }},
	} {
		t.Run(c.claim, func(t *testing.T) {
			f := newFake(t)
			c.edit(f)
			got, err := f.verify()
			if e := wantRefused(t, got, err, evidence.Untrusted, "tcb"); e.Field != c.field {
				t.Errorf("field %s", e.Field)
			}
			cfg := f.config()
			cfg.SkipTCBUnsafe = true
			got, err = f.verifyQuote(cfg, f.quote())
			if err != nil || len(got.Skipped) != 1 || got.Skipped[0] != "tcb" {
				t.Errorf("without TCB: %v", err)
			}
		})
	}
	// Bits outside of the mask are free.
	f := newFake(t)
	f.qe[abi.QEAttributes], f.qe[abi.QEAttributes+8] = 0x15, 0xE7
	if _, err := f.verify(); err != nil {
		t.Errorf("attributes outside of the mask: %v", err)
	}
}

// Every bit of a quote counts, but for the dress of the certificates: what their
// PEM decodes to is verified, not how it is written.
func TestVerifyRefusesEveryFlippedBit(t *testing.T) {
	for name, step := range map[string]int{"dstack_quote_report_v4": 1, "gtg_sample_v5": 7} {
		g := genuineQuote(t, name)
		raw := g.raw(t)
		v := newVerifier(t, tdx.Config{Anchors: tdx.Intel(), Source: genuineSet(t, benchSet, fmspcOf(t, g.FMSPC)), Time: at(g.with(t, benchSet).UseTime)})
		want := evidence.UncheckedBindingUnsafe() // else REPORTDATA is refused before its signature is
		if _, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw}, want); err != nil {
			t.Fatal(err)
		}
		chain, free := bytes.Index(raw, []byte("-----BEGIN")), 0
		for bit := 0; bit < 8*len(raw); bit += step {
			bad := bytes.Clone(raw)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: bad}, want); err != nil {
				continue
			}
			if bit/8 >= chain && bytes.Equal(certificates(bad[chain:]), certificates(raw[chain:])) {
				free++
				continue
			}
			t.Errorf("%s: bit %d flipped: accepted", name, bit)
		}
		if free > 16 { // the unused bits of base64 before "=", and spaces for line ends
			t.Errorf("%s: %d bits of the PEM are free", name, free)
		}
	}
}

// certificates returns all certificates in text.
func certificates(text []byte) []byte {
	var all []byte
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return all
		}
		all, text = append(all, block.Bytes...), rest
	}
}

func TestVerifyRefusesEvidence(t *testing.T) {
	f := newFake(t)
	raw := f.quote()
	v := newVerifier(t, f.config())
	want := bound(t, raw)
	for _, c := range []struct {
		claim  string
		ev     evidence.Evidence
		want   evidence.Binding
		reason evidence.Reason
		check  string
	}{
		{"under another format", evidence.Evidence{Format: "snp-report", Raw: raw}, want, evidence.Unsupported, "format"},
		{"with layers", evidence.Evidence{Format: tdx.Format, Raw: raw, Layers: []evidence.Evidence{{}}}, want, evidence.Malformed, "format"},
		{"with an item of no known type", evidence.Evidence{Format: tdx.Format, Raw: raw, Items: []evidence.Item{{Type: "x"}}}, want, evidence.Malformed, "items"},
		{"with no Binding", evidence.Evidence{Format: tdx.Format, Raw: raw}, evidence.Binding{}, evidence.NotBound, "binding"},
		{"nothing", evidence.Evidence{Format: tdx.Format}, want, evidence.Malformed, "size"},
		{"too long", evidence.Evidence{Format: tdx.Format, Raw: append(bytes.Clone(raw), make([]byte, tdx.MaxQuoteSize)...)}, want, evidence.Malformed, "size"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			got, err := v.Verify(t.Context(), c.ev, c.want)
			wantRefused(t, got, err, c.reason, c.check)
		})
	}
}

// One Verifier serves many: with platforms it knows, forgets, and refuses.
func TestVerifyConcurrently(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	cfg.CacheSize = 2
	v := newVerifier(t, cfg)
	var good [][]byte
	for range 3 {
		f.attestation = newKey(t)
		good = append(good, f.quote())
	}
	bad := bytes.Clone(good[0])
	flip(bad, 60)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 8 {
				raw, ok := good[(i+j)%len(good)], true
				if (i+j)%5 == 0 {
					raw, ok = bad, false
				}
				got, err := v.Verify(context.Background(), evidence.Evidence{Format: tdx.Format, Raw: raw}, evidence.UncheckedBindingUnsafe())
				if (err == nil) != ok || (got != nil) != ok {
					t.Errorf("accepted: %v", err)
				}
				if ok {
					for range got.Claims.All() {
						continue
					}
				}
			}
		})
	}
	wg.Wait()
}

// What was not compared is not said to be bound.
func TestUncheckedIsNotBound(t *testing.T) {
	f := newFake(t)
	raw := f.quote()
	v := newVerifier(t, f.config())
	for want, checked := range map[evidence.Binding]bool{bound(t, raw): true, evidence.UncheckedBindingUnsafe(): false} {
		got, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw}, want)
		if err != nil || got.Bound != checked {
			t.Errorf("bound %v, want %v: %v", got.Bound, checked, err)
		}
	}
}

// A result shares no memory with the evidence or with other results.
func TestVerifyOwnsItsResult(t *testing.T) {
	f := newFake(t)
	f.top()["advisoryIDs"] = []any{"INTEL-SA-00001"}
	v, raw := newVerifier(t, f.config()), f.quote()
	before := bytes.Clone(raw)
	one, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw}, bound(t, raw))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, before) {
		t.Error("the evidence is modified")
	}
	c, _ := tdx.ClaimsOf(one)
	mrtd := c.MRTD()
	for i := range raw {
		raw[i] = 0xFF
	}
	c.PCK.Serial[0] ^= 0xFF
	c.TCB.Platform.Advisories[0] = "none"
	two, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: before}, bound(t, before))
	if err != nil {
		t.Fatal(err)
	}
	d, _ := tdx.ClaimsOf(two)
	if c.MRTD() != mrtd || d.PCK.Serial[0] == c.PCK.Serial[0] || d.TCB.Platform.Advisories[0] != "INTEL-SA-00001" {
		t.Error("memory is shared")
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	f := newFake(t)
	expired := caTemplate(abi.NameRoot, 1)
	other := f.issue(authority{}, caTemplate("Another Root CA", 1))
	for _, c := range []struct {
		field string
		edit  func(*tdx.Config)
	}{
		{"Anchors", func(c *tdx.Config) { c.Anchors = nil }},
		{"Anchors[0]", func(c *tdx.Config) { c.Anchors = [][]byte{nil} }},
		{"Anchors[0]", func(c *tdx.Config) { c.Anchors = [][]byte{other.cert.Raw} }},
		{"Anchors[0]", func(c *tdx.Config) { c.Anchors = [][]byte{f.signer.cert.Raw} }},
		{"Anchors[0]", func(c *tdx.Config) { c.Anchors = [][]byte{f.issue(f.root, expired).cert.Raw} }},
		{"Anchors[1]", func(c *tdx.Config) { c.Anchors = [][]byte{f.root.cert.Raw, f.root.cert.Raw} }},
		{"Source", func(c *tdx.Config) { c.Source = nil }},
		{"StaleGrace", func(c *tdx.Config) { c.StaleGrace = -1 }},
		{"CacheSize", func(c *tdx.Config) { c.CacheSize = -1 }},
	} {
		cfg := f.config()
		c.edit(&cfg)
		if v, err := tdx.NewVerifier(cfg); err == nil || v != nil || !strings.Contains(err.Error(), "Config."+c.field) {
			t.Errorf("%s: %v", c.field, err)
		}
	}
}

// sizes are read as unsigned, wherever they stand.
func TestHostileSizes(t *testing.T) {
	f := newFake(t)
	raw := f.quote()
	n := len(f.signed())
	cert := n + 4 + 64 + 64 + 2
	auth := cert + 4 + abi.QEReportSize + abi.SignatureSize
	for at, width := range map[int]int{n: 4, cert: 4, auth: 2, auth + 2 + len(f.auth) + 2: 4} {
		for _, size := range []uint32{0, 1, 3, 0x7F, 0x80, 0x86, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF} {
			bad := bytes.Clone(raw)
			copy(bad[at:at+width], binary.LittleEndian.AppendUint32(nil, size))
			if _, err := tdx.ParseQuote(bad); !errors.Is(err, evidence.Malformed) && !errors.Is(err, evidence.Unsupported) {
				t.Errorf("size %#x at %d: %v", size, at, err)
			}
		}
	}
}
