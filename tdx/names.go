package tdx

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"time"

	"github.com/teebroker/teebroker/internal/pki"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// QEIdentityName returns the name under which a Verifier asks its Source for the
// identity of the TD quoting enclave. As all these names it is path and query of
// a request to Intel's PCS, version 4, or to a PCCS.
func QEIdentityName() string { return "/tdx/certification/v4/qe/identity" }

// TCBInfoName returns the name under which a Verifier asks its Source for the
// TCB Info of platforms of kind f, TDX module identities included.
func TCBInfoName(f FMSPC) string { return "/tdx/certification/v4/tcb?fmspc=" + f.String() }

// PCKCRLName returns the name under which a Verifier asks its Source for the list
// of PCK certificates that ca revoked. It is "" for no CA.
func PCKCRLName(ca CA) string {
	if ca.commonName() == "" {
		return ""
	}
	return "/sgx/certification/v4/pckcrl?ca=" + ca.String() + "&encoding=der"
}

// RootCRLName returns the name under which a Verifier asks its Source for the
// list of certificates that the root revoked. It is the name at a PCCS; Intel
// has the list itself at https://certificates.trustedservices.intel.com/IntelSGXRootCA.der.
func RootCRLName() string { return "/sgx/certification/v4/rootcacrl" }

// NamesOf returns the names under which a Verifier may ask its Source for data: a
// TCB Info of TDX, an identity of the TD quoting enclave, as Intel publishes them,
// or a revocation list in DER. It is nil for anything else.
//
// Nothing is verified. It is for Sources that sort out files by what they hold.
func NamesOf(data []byte) []string {
	if d, ok := readDocument(data); ok {
		return []string{d.name}
	}
	return listNames(data)
}

// IssuedAt returns when a TCB Info or a QE identity was issued, by its own words:
// zero for anything else. As with [NamesOf], nothing is verified.
func IssuedAt(data []byte) time.Time {
	d, _ := readDocument(data)
	return d.issued
}

// IsTCBIssuer reports whether c is called as one of the two certificates of the
// issuer chain of TCB Info and QE identity: the signer and the root.
func IsTCBIssuer(c *x509.Certificate) bool {
	return c.Subject.CommonName == abi.NameTCBSigning || c.Subject.CommonName == abi.NameRoot
}

// TCBIssuers returns the issuer chains of data, a TCB Info or QE identity, that can
// be made of certs: each a signer of exactly these bytes, valid when they were
// issued, and its root, in PEM as evidence.Collateral.Issuer has them. There may be
// several, because Intel renews certificates for the same key, but 16 at most, and
// none for what is no such document.
//
// That a chain fits says nothing: who its root is remains for a Verifier to judge.
func TCBIssuers(data []byte, certs []*x509.Certificate) (chains [][]byte) {
	d, ok := readDocument(data)
	if !ok {
		return nil
	}
	for _, signer := range certs {
		if signer.Subject.CommonName != abi.NameTCBSigning || !pki.Valid(signer, d.issued) {
			continue
		}
		key, ok := signer.PublicKey.(*ecdsa.PublicKey)
		if !ok || key.Curve != elliptic.P256() || !verifyRaw(key, d.sig, d.body) {
			continue
		}
		for _, root := range certs {
			if root.Subject.CommonName == abi.NameRoot && pki.CheckSignature(signer, root, algorithm) == nil {
				chains = append(chains, chainPEM(signer, root))
			}
			if len(chains) == maxCandidates { // a Verifier looks at no more
				return chains
			}
		}
	}
	return chains
}

// chainPEM returns certs as they are in an issuer chain.
func chainPEM(certs ...*x509.Certificate) (text []byte) {
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: pki.Certificate, Bytes: c.Raw})...)
	}
	return text
}

// unverified is a document that nobody looked at the signature of.
type unverified struct {
	document
	name      string
	body, sig []byte
}

// readDocument returns the TCB Info or QE identity that data is, or false.
func readDocument(data []byte) (unverified, bool) {
	if body, sig, err := splitDocument(data, "tcbInfo"); err == nil {
		info, err := parseTCBInfo(body, nil)
		if err != nil {
			return unverified{}, false
		}
		return unverified{info.document, TCBInfoName(info.fmspc), body, sig}, true
	}
	if body, sig, err := splitDocument(data, "enclaveIdentity"); err == nil {
		id, err := parseQEIdentity(body, nil)
		if err != nil {
			return unverified{}, false
		}
		return unverified{id.document, QEIdentityName(), body, sig}, true
	}
	return unverified{}, false
}

// listNames returns the name of the list that der is.
func listNames(der []byte) []string {
	if len(der) > maxCRL {
		return nil
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil
	}
	switch list.Issuer.CommonName {
	case abi.NameRoot:
		return []string{RootCRLName()}
	case abi.NamePlatformCA:
		return []string{PCKCRLName(PlatformCA)}
	case abi.NameProcessorCA:
		return []string{PCKCRLName(ProcessorCA)}
	}
	return nil
}
