package tdx

import "github.com/teebroker/teebroker/evidence"

// Names of checks; see [Checks].
const (
	checkFormat         = "format"
	checkItems          = "items"
	checkSize           = "size"
	checkVersion        = "version"
	checkHeader         = "header"
	checkVendor         = "qe-vendor"
	checkBody           = "body"
	checkSignatureData  = "signature-data"
	checkPadding        = "padding"
	checkBinding        = evidence.BindingCheck
	checkCertificate    = "certificate"
	checkChain          = "chain"
	checkProfile        = "profile"
	checkQEReport       = "qe-report"
	checkAttestationKey = "attestation-key"
	checkValidity       = "validity"
	checkSignature      = "signature"
	checkEventLog       = "event-log"
	checkRevocation     = "revocation"
	checkTCB            = "tcb"
)

// Checks lists what Verify checks, in order. All before the binding are about
// shape and cost no cryptography; all before the revocation need nothing but the
// evidence, so that nobody is asked for the status of what nobody signed.
//
// A TCB status is no check but a claim: "tcb" fails if there is none to be had,
// or if the enclave or the module is not Intel's.
func Checks() []evidence.Check {
	return []evidence.Check{
		{Name: checkFormat, Doc: "the evidence is a TDX quote and rests on no other evidence"},
		{Name: checkItems, Doc: "nothing came along but event logs, well formed, one of a type"},
		{Name: checkSize, Doc: "the quote is not longer than one can be"},
		{Name: checkVersion, Doc: "the quote is of version 4 or 5"},
		{Name: checkHeader, Doc: "the quote is of a TD and signed with ECDSA P-256, and what the header reserves is zero"},
		{Name: checkVendor, Doc: "the quoting enclave says that it is Intel's"},
		{Name: checkBody, Doc: "the body is a TD report 1.0 or, in version 5, 1.0 or 1.5, of exactly its size"},
		{Name: checkSignatureData, Doc: "the signature data is whole, every length in it fits, and it has a chain of certificates"},
		{Name: checkPadding, Doc: "what follows the signature data is zero"},
		{Name: checkBinding, Doc: "REPORTDATA is the binding"},
		{Name: checkCertificate, Doc: "the chain is three X.509 certificates in PEM: PCK, CA, root"},
		{Name: checkChain, Doc: "the root is a pinned one, it signed the CA, and the CA signed the PCK certificate"},
		{Name: checkProfile, Doc: "the certificates have the names, keys, usage and extensions that Intel issues"},
		{Name: checkQEReport, Doc: "the PCK signed the report of the quoting enclave"},
		{Name: checkAttestationKey, Doc: "that report is for the attestation key: REPORTDATA, all 64 bytes, is its hash and zeros"},
		{Name: checkValidity, Doc: "all three certificates are valid now"},
		{Name: checkSignature, Doc: "the attestation key signed the quote"},
		{Name: checkEventLog, Doc: "event logs that came along make the RTMRs that they have events of what they are"},
		{Name: checkRevocation, Doc: "current lists signed by the root and by the CA revoke neither CA nor PCK certificate"},
		{Name: checkTCB, Doc: "current TCB Info and QE identity, signed by Intel, are for this platform, enclave and module"},
	}
}

// fail returns the error of a check.
func fail(check string, reason evidence.Reason, field string, cause error) *evidence.Error {
	return &evidence.Error{Format: Format, Reason: reason, Check: check, Field: field, Err: cause}
}
