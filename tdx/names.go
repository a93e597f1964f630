package tdx

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
