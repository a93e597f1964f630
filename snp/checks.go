package snp

import "github.com/teebroker/teebroker/evidence"

// Names of checks; see [Checks].
const (
	checkFormat       = "format"
	checkItems        = "items"
	checkSize         = "size"
	checkVersion      = "version"
	checkProcessor    = "processor"
	checkReserved     = "reserved"
	checkEnumerations = "enumerations"
	checkTCBOrder     = "tcb-order"
	checkBinding      = evidence.BindingCheck
	checkSigned       = "signed"
	checkEndorsement  = "endorsement"
	checkCertificate  = "certificate"
	checkChain        = "chain"
	checkProfile      = "profile"
	checkKey          = "signing-key"
	checkLine         = "line"
	checkTCB          = "tcb"
	checkChip         = "chip"
	checkValidity     = "validity"
	checkRevocation   = "revocation"
	checkSignature    = "signature"
)

// Checks lists what Verify checks, in order. All before the binding are about
// shape and cost no cryptography; "endorsement" to "validity" are made for each
// VEK at hand until one passes, and why the one that came furthest failed is
// reported. VLEKs that pass are gone through until one signed the report.
func Checks() []evidence.Check {
	return []evidence.Check{
		{Name: checkFormat, Doc: "the evidence is an SNP report and rests on no other evidence"},
		{Name: checkItems, Doc: "what came along is a VEK and a well-formed certificate table, at most one of each"},
		{Name: checkSize, Doc: "the report has exactly 1184 bytes"},
		{Name: checkVersion, Doc: "the report is of version 2 to 5"},
		{Name: checkProcessor, Doc: "the processor that the report names, from version 3, is of a known line"},
		{Name: checkReserved, Doc: "all that the version reserves is zero, and bit 17 of POLICY is one"},
		{Name: checkEnumerations, Doc: "SIGNATURE_ALGO is ECDSA P-384 with SHA-384, SIGNING_KEY is defined, VMPL is one of a guest"},
		{Name: checkTCBOrder, Doc: "REPORTED_TCB is not above COMMITTED_TCB, nor that above CURRENT_TCB"},
		{Name: checkBinding, Doc: "REPORT_DATA is the binding"},
		{Name: checkSigned, Doc: "the firmware signed: MASK_CHIP_KEY is clear, SIGNING_KEY names a key, R and S are not zero"},
		{Name: checkEndorsement, Doc: "there is a certificate for the key that signed, from the evidence or the source"},
		{Name: checkCertificate, Doc: "the certificate is one X.509 certificate in DER or PEM"},
		{Name: checkChain, Doc: "a pinned ASK or ASVK signed the certificate, with RSA-PSS and SHA-384"},
		{Name: checkProfile, Doc: "the certificate has exactly the names, key and extensions of a VCEK or VLEK of its line"},
		{Name: checkKey, Doc: "the certificate is for the kind of key that SIGNING_KEY names"},
		{Name: checkLine, Doc: "the certificate is for the line of the processor that the report names"},
		{Name: checkTCB, Doc: "the certificate is for exactly REPORTED_TCB, and all TCBs are of its line"},
		{Name: checkChip, Doc: "the certificate of a VCEK is for exactly CHIP_ID"},
		{Name: checkValidity, Doc: "ARK, ASK or ASVK, and the certificate are valid now"},
		{Name: checkRevocation, Doc: "a current list signed by the ARK revokes neither ASK or ASVK nor the certificate"},
		{Name: checkSignature, Doc: "the key of the certificate signed the report"},
	}
}

// fail returns the error of a check.
func fail(check string, reason evidence.Reason, field string, cause error) *evidence.Error {
	return &evidence.Error{Format: Format, Reason: reason, Check: check, Field: field, Err: cause}
}
