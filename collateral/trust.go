package collateral

import (
	"bytes"
	"crypto/x509"
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
	var err error
	switch x.kind {
	case TCBInfo, QEIdentity:
		err = t.verifyDocument(c)
	case VEK:
		err = t.verifyVEK(x.der)
	case CRL:
		err = t.verifyCRL(name, x)
	default:
		err = errors.New("of no kind")
	}
	return x, err
}

// verifyDocument asks for a signer in the chain that came along, and for a root
// that is an anchor, whatever else came.
func (t *trust) verifyDocument(c evidence.Collateral) error {
	certs := slices.DeleteFunc(certificatesOf(c.Issuer), func(cert *x509.Certificate) bool {
		return bytes.Equal(cert.RawSubject, cert.RawIssuer)
	})
	if len(tdx.TCBIssuers(c.Data, append(certs, t.intel...))) == 0 {
		return errors.New("not signed below an anchor")
	}
	return nil
}

func (t *trust) verifyVEK(der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	return anyOf(t.veks, func(ca *x509.Certificate) error { return pki.CheckSignature(cert, ca, byAMD) })
}

func (t *trust) verifyCRL(name string, x item) error {
	if isAMD(name) {
		return anyOf(t.lists, func(ark *x509.Certificate) error { return signedList(x.der, ark, byAMD) })
	}
	if name == tdx.RootCRLName() {
		return anyOf(t.intel, func(root *x509.Certificate) error { return signedList(x.der, root, byIntel) })
	}
	return anyOf(t.intel, func(root *x509.Certificate) error {
		return anyOf(certificatesOf(x.Issuer), func(ca *x509.Certificate) error {
			if !ca.IsCA {
				return errors.New("not a CA")
			}
			if err := pki.CheckSignature(ca, root, byIntel); err != nil {
				return err
			}
			return signedList(x.der, ca, byIntel)
		})
	})
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
