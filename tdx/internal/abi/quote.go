// Package abi states the byte layouts of TDX attestation once: the quote and its
// signature data (Intel TDX DCAP Quoting Library API, appendix A), the TD report
// in it (Intel TDX Module ABI), the report of the quoting enclave (Intel SDM,
// volume 3D, REPORT) and the extension of a PCK certificate (Intel SGX PCK
// Certificate and CRL Profile). The verifier reads by them and the simulated
// platform writes by them. Numbers are little-endian, those of ECDSA big-endian.
package abi

// HeaderSize is the size of the header of a quote, which is the same in all
// versions.
const HeaderSize = 48

// Offsets of the fields of the header.
const (
	Version        = 0  // 2 bytes
	KeyType        = 2  // 2
	TEEType        = 4  // 4
	HeaderReserved = 8  // 4
	VendorID       = 12 // 16
	UserData       = 28 // 20, of which the quoting enclave uses 16
)

// Values of the header.
const (
	V4 = 4
	V5 = 5

	KeyTypeECDSAP256 = 2
	TEETypeTDX       = 0x81

	IntelVendorID = "\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07"
)

// In version 4 a TD report 1.0 follows the header. In version 5 a descriptor says
// what follows it.
const (
	BodyV4   = HeaderSize
	BodyType = HeaderSize     // 2 bytes
	BodySize = HeaderSize + 2 // 4
	BodyV5   = HeaderSize + 6
)

// Types of bodies.
const (
	BodySGX  = 1
	BodyTD10 = 2
	BodyTD15 = 3
)

// Sizes of bodies: TD reports 1.0 and 1.5.
const (
	TD10Size = 584
	TD15Size = 648
)

// Offsets of the fields of a TD report.
const (
	TEETCBSVN      = 0   // 16 bytes
	MRSEAM         = 16  // 48
	MRSignerSEAM   = 64  // 48
	SEAMAttributes = 112 // 8
	TDAttributes   = 120 // 8
	XFAM           = 128 // 8
	MRTD           = 136 // 48
	MRConfigID     = 184 // 48
	MROwner        = 232 // 48
	MROwnerConfig  = 280 // 48
	RTMR0          = 328 // 48 each, of which there are four
	ReportData     = 520 // 64

	TEETCBSVN2  = 584 // 16, from 1.5
	MRServiceTD = 600 // 48, from 1.5
)

// RTMRs is how many runtime measurement registers there are, and MRSize the size
// of each measurement.
const (
	RTMRs  = 4
	MRSize = 48
)

// Bytes of TEE_TCB_SVN.
const (
	SVNModule        = 0 // ISVSVN of the module
	SVNModuleVersion = 1 // major version of the module
	SVNMicrocode     = 2
	SVNs             = 16
)

// What follows the body: the size of the signature data in 4 bytes, and those.
// They are
//
//	signature of the quote            SignatureSize
//	attestation key, x and y          KeySize
//	type of certification data        2, CertQEReport
//	size of certification data        4
//
// and, as the certification data,
//
//	report of the quoting enclave     QEReportSize
//	signature of that report          SignatureSize
//	size of the authentication data   2
//	authentication data
//	type of certification data        2, CertPCKChain
//	size of certification data        4
//	PCK certificate, CA, root         PEM, which may end in a zero byte
const (
	SignatureSize = 64 // r and s
	KeySize       = 64
	QEReportSize  = 384

	CertPCKChain = 5
	CertQEReport = 6
)

// Offsets of the fields of the report of an enclave.
const (
	QECPUSVN     = 0   // 16 bytes
	QEMiscSelect = 16  // 4
	QEAttributes = 48  // 16
	QEMREnclave  = 64  // 32
	QEMRSigner   = 128 // 32
	QEISVProdID  = 256 // 2
	QEISVSVN     = 258 // 2
	QEReportData = 320 // 64
)
