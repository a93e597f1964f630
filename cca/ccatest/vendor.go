package ccatest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"time"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/evidence"
)

// Vendor certifies the CPAKs of its platforms: a root, and a CA under it that
// signs. Its methods are safe for concurrent use.
type Vendor struct{ root, ca *signer }

// signer is a key with its certificate.
type signer struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// Certificate is how a Vendor certifies a key. The zero Certificate is a good one,
// valid from a day before it is made for a year.
type Certificate struct {
	NotBefore, NotAfter time.Time
	Edit                func(template *x509.Certificate) // before signing
	Signer              *Vendor                          // whose CA signs, under the name of the right one
}

// NewVendor returns a vendor whose certificates are valid at now.
func NewVendor(now time.Time) *Vendor {
	root := newCA(now, "simulated CCA root", nil)
	return &Vendor{root, newCA(now, "simulated CCA issuer", root)}
}

// newCA returns a CA that issuer signed, or itself if there is none.
func newCA(now time.Time, name string, issuer *signer) *signer {
	key := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.AddDate(0, 0, -1),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	by := issuer
	if by == nil {
		by = &signer{key, template}
	}
	return &signer{key, issue(template, &key.PublicKey, by)}
}

// issue returns the certificate of key that by signs.
func issue(template *x509.Certificate, key *ecdsa.PublicKey, by *signer) *x509.Certificate {
	template.SerialNumber = new(big.Int).SetBytes(must(key.Bytes())[:16])
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, by.cert, key, by.key))))
}

// Authority returns the trust anchor for v, for the implementations given. The
// caller owns it.
func (v *Vendor) Authority(implementations ...cca.ImplementationID) cca.Authority {
	return cca.Authority{Certificate: slices.Clone(v.root.cert.Raw), Implementations: evidence.OneOf(implementations...)}
}

// CA returns SHA-256 of the SubjectPublicKeyInfo of the CA that signs.
func (v *Vendor) CA() [32]byte { return sha256.Sum256(v.ca.cert.RawSubjectPublicKeyInfo) }

// Certify returns a chain for key: its certificate, as c says, and that of the CA.
func (v *Vendor) Certify(key *ecdsa.PublicKey, now time.Time, c Certificate) [][]byte {
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "simulated CPAK"},
		NotBefore: now.AddDate(0, 0, -1),
		NotAfter:  now.AddDate(1, 0, 0),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
	if !c.NotBefore.IsZero() {
		template.NotBefore = c.NotBefore
	}
	if !c.NotAfter.IsZero() {
		template.NotAfter = c.NotAfter
	}
	if c.Edit != nil {
		c.Edit(template)
	}
	by := v.ca
	if c.Signer != nil {
		by = &signer{c.Signer.ca.key, &x509.Certificate{RawSubject: v.ca.cert.RawSubject, SubjectKeyId: v.ca.cert.SubjectKeyId, PublicKey: c.Signer.ca.cert.PublicKey}}
	}
	return [][]byte{issue(template, key, by).Raw, slices.Clone(v.ca.cert.Raw)}
}
