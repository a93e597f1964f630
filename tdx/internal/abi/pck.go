package abi

// SGXExtension is the extension of a PCK certificate, a SEQUENCE of SEQUENCE {OID,
// value}, and sgx is the same OID as DER has it. All below it are a byte longer
// for each step.
const (
	SGXExtension = "1.2.840.113741.1.13.1"
	sgx          = "\x2A\x86\x48\x86\xF8\x4D\x01\x0D\x01"
)

// OIDs in the extension, as DER has them.
const (
	OIDPPID       = sgx + "\x01"    // OCTET STRING of 16
	OIDTCB        = sgx + "\x02"    // SEQUENCE as above: components 1 to 16, then
	OIDPCESVN     = OIDTCB + "\x11" // INTEGER
	OIDCPUSVN     = OIDTCB + "\x12" // OCTET STRING of 16
	OIDPCEID      = sgx + "\x03"    // OCTET STRING of 2
	OIDFMSPC      = sgx + "\x04"    // OCTET STRING of 6
	OIDSGXType    = sgx + "\x05"    // ENUMERATED
	OIDInstanceID = sgx + "\x06"    // OCTET STRING of 16; from the Platform CA only

	OIDConfiguration   = sgx + "\x07" // SEQUENCE as above, of BOOLEAN; from the Platform CA only
	OIDDynamicPlatform = OIDConfiguration + "\x01"
	OIDCachedKeys      = OIDConfiguration + "\x02"
	OIDSMTEnabled      = OIDConfiguration + "\x03"
)

// OIDComponent returns the OID of the security version, an INTEGER, of component
// i, which counts from 0.
func OIDComponent(i int) string { return OIDTCB + string(rune(i+1)) }

// Common names in the certificates of Intel. The rest of each name is the same.
const (
	NameRoot        = "Intel SGX Root CA"
	NamePlatformCA  = "Intel SGX PCK Platform CA"
	NameProcessorCA = "Intel SGX PCK Processor CA"
	NamePCK         = "Intel SGX PCK Certificate"
	NameTCBSigning  = "Intel SGX TCB Signing"
)
