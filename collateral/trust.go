package collateral

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/pki"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx"
)

// How the vendors' CAs sign.
const (
	byAMD   = x509.SHA384WithRSAPSS
	byIntel = x509.ECDSAWithSHA256
)

// trust tells genuine collateral from forged. It says nothing of time and
// revocation: that is for Verifiers.
type trust struct {
	veks  []*x509.Certificate // ASKs and ASVKs
	lists []*x509.Certificate // ARKs
	intel []*x509.Certificate
}

// newTrust parses anchors, which are what Verifiers take. It needs some, of one
// vendor at least.
func newTrust(amd []snp.Anchors, intel [][]byte) (*trust, error) {
	if len(amd)+len(intel) == 0 {
		return nil, errors.New("collateral: CacheConfig.AMD and CacheConfig.Intel: no anchors, so nothing could be kept")
	}
	// Verifiers know what is an anchor.
	if len(amd) > 0 {
		if _, err := snp.NewVerifier(snp.Config{Anchors: amd, Source: Fixed{}}); err != nil {
			return nil, fmt.Errorf("collateral: CacheConfig.AMD: %w", err)
		}
	}
	if len(intel) > 0 {
		if _, err := tdx.NewVerifier(tdx.Config{Anchors: intel, Source: Fixed{}}); err != nil {
			return nil, fmt.Errorf("collateral: CacheConfig.Intel: %w", err)
		}
	}
	t := &trust{}
	var failed error
	parse := func(ders ...[]byte) (certs []*x509.Certificate) {
		for _, der := range ders {
			c, err := x509.ParseCertificate(slices.Clone(der))
			failed = errors.Join(failed, err)
			certs = append(certs, c)
		}
		return certs
	}
	for _, a := range amd {
		t.veks = append(t.veks, parse(a.ASK, a.ASVK)...)
		t.lists = append(t.lists, parse(a.ARK)...)
	}
	t.intel = parse(intel...)
	return t, failed
}

// verify returns what c is if it answers to name and an anchor stands behind it.
func (t *trust) verify(name string, c evidence.Collateral) (item, error) {
	x, ok := read(c)
	switch {
	case !ok:
		return item{}, errors.New("neither certificate, list nor document")
	case !slices.Contains(x.names, name):
		return item{}, errors.New("of another name")
	case x.ends.IsZero():
		return item{}, errors.New("without an end")
	}
	// What is kept has the one form that Verifiers take: who puts something around
	// genuine data could keep it from them otherwise.
	var err error
	switch x.kind {
	case TCBInfo, QEIdentity:
		x.Issuer, err = t.verifyDocument(c)
	case VEK:
		x.Data, x.Issuer = x.der, nil
		err = t.verifyVEK(x.der)
	case CRL:
		x.Data = x.der
		x.Issuer, err = t.verifyCRL(name, x)
	default:
		err = errors.New("of no kind")
	}
	return x, err
}

// verifyDocument returns the chain from a signer among the certificates that came
// along to an anchor, which vouches for the signer itself: what else came counts for
// nothing, whatever it is called. Of several it is the one that ends last.
func (t *trust) verifyDocument(c evidence.Collateral) ([]byte, error) {
	signers := slices.DeleteFunc(certificatesOf(c.Issuer), func(cert *x509.Certificate) bool {
		return t.byAnchor(cert) != nil
	})
	slices.SortStableFunc(signers, func(a, b *x509.Certificate) int { return b.NotAfter.Compare(a.NotAfter) })
	chains := tdx.TCBIssuers(c.Data, append(signers, t.intel...))
	if len(chains) == 0 {
		return nil, errors.New("not signed below an anchor")
	}
	return chains[0], nil
}

// byAnchor returns nil if an anchor of Intel's signed cert, which is none itself.
func (t *trust) byAnchor(cert *x509.Certificate) error {
	if slices.ContainsFunc(t.intel, cert.Equal) {
		return errors.New("an anchor")
	}
	return anyOf(t.intel, func(root *x509.Certificate) error { return pki.CheckSignature(cert, root, byIntel) })
}

func (t *trust) verifyVEK(der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	return anyOf(t.veks, func(ca *x509.Certificate) error { return pki.CheckSignature(cert, ca, byAMD) })
}

// verifyCRL returns what a list needs beside it: the CA of Intel's that issued it.
func (t *trust) verifyCRL(name string, x item) (issuer []byte, err error) {
	if isAMD(name) {
		return nil, anyOf(t.lists, func(ark *x509.Certificate) error { return signedList(x.der, ark, byAMD) })
	}
	if name == tdx.RootCRLName() {
		return nil, anyOf(t.intel, func(root *x509.Certificate) error { return signedList(x.der, root, byIntel) })
	}
	err = anyOf(certificatesOf(x.Issuer), func(ca *x509.Certificate) error {
		if !ca.IsCA {
			return errors.New("not a CA")
		}
		if err := t.byAnchor(ca); err != nil {
			return err
		}
		issuer = pem.EncodeToMemory(&pem.Block{Type: pki.Certificate, Bytes: ca.Raw})
		return signedList(x.der, ca, byIntel)
	})
	return issuer, err
}

func signedList(der []byte, issuer *x509.Certificate, alg x509.SignatureAlgorithm) error {
	_, err := pki.ParseCRL(der, issuer, alg)
	return err
}

// anyOf returns nil if check does for one of certs, else the last error.
func anyOf(certs []*x509.Certificate, check func(*x509.Certificate) error) error {
	err := errors.New("no anchor or no issuer chain for it")
	for _, c := range certs {
		if err = check(c); err == nil {
			return nil
		}
	}
	return err
}
