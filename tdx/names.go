package tdx

import (
	"crypto/x509"

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
	if body, _, err := splitDocument(data, "tcbInfo"); err == nil {
		if info, err := parseTCBInfo(body, nil); err == nil {
			return []string{TCBInfoName(info.fmspc)}
		}
		return nil
	}
	if body, _, err := splitDocument(data, "enclaveIdentity"); err == nil {
		if _, err := parseQEIdentity(body, nil); err == nil {
			return []string{QEIdentityName()}
		}
		return nil
	}
	return listNames(data)
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
