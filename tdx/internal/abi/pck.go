package abi

// The extension of a PCK certificate is a SEQUENCE of SEQUENCE {OID, value}.
const (
	OIDSGX        = "1.2.840.113741.1.13.1"
	OIDPPID       = OIDSGX + ".1" // OCTET STRING of 16
	OIDTCB        = OIDSGX + ".2" // SEQUENCE as above: components 1 to 16, then
	OIDPCESVN     = OIDTCB + ".17"
	OIDCPUSVN     = OIDTCB + ".18" // OCTET STRING of 16
	OIDPCEID      = OIDSGX + ".3"  // OCTET STRING of 2
	OIDFMSPC      = OIDSGX + ".4"  // OCTET STRING of 6
	OIDSGXType    = OIDSGX + ".5"  // ENUMERATED
	OIDInstanceID = OIDSGX + ".6"  // OCTET STRING of 16; from the Platform CA only

	OIDConfiguration   = OIDSGX + ".7" // SEQUENCE as above, of BOOLEAN; from the Platform CA only
	OIDDynamicPlatform = OIDConfiguration + ".1"
	OIDCachedKeys      = OIDConfiguration + ".2"
	OIDSMTEnabled      = OIDConfiguration + ".3"
)

// Common names in the certificates of Intel. The rest of each name is the same.
const (
	NameRoot        = "Intel SGX Root CA"
	NamePlatformCA  = "Intel SGX PCK Platform CA"
	NameProcessorCA = "Intel SGX PCK Processor CA"
	NamePCK         = "Intel SGX PCK Certificate"
	NameTCBSigning  = "Intel SGX TCB Signing"
)
