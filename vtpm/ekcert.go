package vtpm

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// ekRoots are whom EK certificates have to chain to.
type ekRoots struct {
	roots, intermediates *x509.CertPool
	any                  bool
}

// newEKRoots sorts certificates by whether they are their own issuer.
func newEKRoots(ders [][]byte) (ekRoots, error) {
	r := ekRoots{roots: x509.NewCertPool(), intermediates: x509.NewCertPool()}
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return ekRoots{}, err
		case !c.IsCA:
			return ekRoots{}, errors.New("not a CA")
		case c.CheckSignatureFrom(c) == nil:
			r.roots.AddCert(c)
			r.any = true
		default:
			r.intermediates.AddCert(c)
		}
	}
	if len(ders) > 0 && !r.any {
		return ekRoots{}, errors.New("no root among them")
	}
	return r, nil
}

// ekChain is an EK certificate that was verified.
type ekChain struct {
	leaf, root [32]byte // SHA-256 of the DER
	notAfter   time.Time
}

// ekUsage is tcg-kp-EKCertificate: TCG EK Credential Profile, section 3.2.16.
func ekUsage() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 23, 133, 8, 1} }

// subjectAltName names manufacturer and model of the TPM. It is critical, and
// x509 knows nothing of directory names.
func subjectAltName() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 17} }

// verify verifies the certificate of key at now. There is no revocation: few who
// issue such certificates publish lists.
func (r ekRoots) verify(der []byte, key crypto.PublicKey, now time.Time) (ekChain, error) {
	cert, err := x509.ParseCertificate(der)
	switch {
	case err != nil:
		return ekChain{}, fail(checkEKCert, evidence.Malformed, EKCertificate, err)
	case key == nil || KeyDigest(cert.PublicKey) != KeyDigest(key):
		return ekChain{}, fail(checkEKCert, evidence.Untrusted, EKCertificate, errors.New("of another key than the EK"))
	case !slices.ContainsFunc(cert.UnknownExtKeyUsage, ekUsage().Equal):
		return ekChain{}, fail(checkEKCert, evidence.Untrusted, EKCertificate, errors.New("not a certificate of an EK"))
	case !r.any:
		return ekChain{}, fail(checkEKCert, evidence.Untrusted, EKCertificate, errors.New("no roots are configured"))
	}
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(cert.UnhandledCriticalExtensions, subjectAltName().Equal)
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: r.roots, Intermediates: r.intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ekChain{}, fail(checkEKCert, evidence.Stale, EKCertificate, err)
	case err != nil:
		return ekChain{}, fail(checkEKCert, evidence.Untrusted, EKCertificate, err)
	}
	chain := ekChain{leaf: sha256.Sum256(cert.Raw), notAfter: cert.NotAfter}
	for _, c := range chains[0] {
		chain.root = sha256.Sum256(c.Raw)
		if c.NotAfter.Before(chain.notAfter) {
			chain.notAfter = c.NotAfter
		}
	}
	return chain, nil
}
