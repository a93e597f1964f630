package vtpm

import "github.com/teebroker/teebroker/evidence"

// Names of checks; see [Checks].
const (
	checkFormat    = "format"
	checkItems     = "items"
	checkQuote     = "quote"
	checkMagic     = "magic"
	checkType      = "type"
	checkSelection = "selection"
	checkScheme    = "scheme"
	checkBinding   = evidence.BindingCheck
	checkPCRs      = "pcrs"
	checkManifest  = "manifest"
	checkEK        = "ek"
	checkAK        = "ak"
	checkSignature = "signature"
	checkPlatform  = "platform"
	checkVMPL      = "vmpl"
	checkEKCert    = "ek-certificate"
	checkLink      = "link"
	checkProof     = "proof"
	checkEventLog  = "event-log"
	checkIMA       = "ima"
)

// Checks lists what Verify checks, in order. Before "signature" nothing costs
// cryptography but hashing; logs are looked at last, when somebody vouches for
// what they are compared with.
func Checks() []evidence.Check {
	return []evidence.Check{
		{Name: checkFormat, Doc: "the evidence is a TPM quote and rests on one report at most"},
		{Name: checkItems, Doc: "what came along is of known types, at most one of each, well formed, and makes one way to the platform"},
		{Name: checkQuote, Doc: "the quote is TPM2B_ATTEST and TPMT_SIGNATURE and nothing else"},
		{Name: checkMagic, Doc: "magic is TPM_GENERATED_VALUE"},
		{Name: checkType, Doc: "type is TPM_ST_ATTEST_QUOTE"},
		{Name: checkSelection, Doc: "one PCR at least is selected, every bank once and of a hash that is handled"},
		{Name: checkScheme, Doc: "the signature is RSASSA or ECDSA with a hash that is handled"},
		{Name: checkBinding, Doc: "extraData is the binding, or of a binding of 64 bytes its SHA-256"},
		{Name: checkPCRs, Doc: "the PCR values are exactly those selected, and pcrDigest is their digest"},
		{Name: checkManifest, Doc: "what the report vouches for is of a known version and has the key"},
		{Name: checkEK, Doc: "the EK is of template L-1 or L-2"},
		{Name: checkAK, Doc: "the AK is a restricted signing key that was made in its TPM and can't leave it"},
		{Name: checkSignature, Doc: "the AK signed the quote"},
		{Name: checkPlatform, Doc: "the report below verifies, and is of exactly this manifest or runtime data"},
		{Name: checkVMPL, Doc: "a report of SEV-SNP was asked for at VMPL 0, by what runs the TPM"},
		{Name: checkEKCert, Doc: "an EK certificate is of the EK, valid now, and chains to a configured root"},
		{Name: checkLink, Doc: "the AK was shown to be in the TPM of the EK"},
		{Name: checkProof, Doc: "it is known which release the PCR of the proof shows"},
		{Name: checkEventLog, Doc: "an event log makes of the PCRs what the quote says"},
		{Name: checkIMA, Doc: "an IMA list makes of PCR 10 what the quote says, and its boot aggregate is of the quoted PCRs"},
	}
}

// fail returns the error of a check.
func fail(check string, reason evidence.Reason, field string, cause error) *evidence.Error {
	return &evidence.Error{Format: Format, Reason: reason, Check: check, Field: field, Err: cause}
}
