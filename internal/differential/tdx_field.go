package main

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Offsets of a quote of version 4, from Intel's TDX DCAP Quoting Library API,
// appendix A. They are stated here and not taken from package tdx: a fault in its
// layout is to show.
const (
	offsetTDXBody       = 48
	offsetMRSignerSEAM  = offsetTDXBody + 64
	offsetTDAttributes  = offsetTDXBody + 120
	offsetXFAM          = offsetTDXBody + 128
	offsetTDXReportData = offsetTDXBody + 520
	offsetTDXSize       = offsetTDXBody + 584 // of the signature data
	offsetTDXSignature  = offsetTDXSize + 4
	offsetTDXKey        = offsetTDXSignature + 64
	offsetCertification = offsetTDXKey + 64 // type, 2 bytes, and size
	offsetQEReport      = offsetCertification + 6
	offsetQESignature   = offsetQEReport + 384
	offsetQEAuth        = offsetQESignature + 64 // size, 2 bytes
)

// chainStart returns where the certificates of a quote begin, or -1.
func chainStart(b []byte) int {
	if len(b) < offsetQEAuth+2 {
		return -1
	}
	at := offsetQEAuth + 2 + int(binary.LittleEndian.Uint16(b[offsetQEAuth:])) + 6
	if at > len(b) {
		return -1
	}
	return at
}

// chainEnd returns where they end, or -1.
func chainEnd(b []byte) int {
	at := chainStart(b)
	if at < 0 {
		return -1
	}
	end := at + int(binary.LittleEndian.Uint32(b[at-4:]))
	if end > len(b) {
		return -1
	}
	return end
}

// chainOf returns the certificates, or nil.
func chainOf(b []byte) []byte {
	end := chainEnd(b)
	if end < 0 {
		return nil
	}
	return bytes.Clone(b[chainStart(b):end])
}

// withChain returns b with other certificates and the sizes that go with them.
func withChain(b, chain []byte) []byte {
	at, end := chainStart(b), chainEnd(b)
	grown := uint32(len(chain) - (end - at))
	out := slices.Concat(b[:at], chain, b[end:])
	for _, size := range []int{offsetTDXSize, offsetCertification + 2, at - 4} {
		binary.LittleEndian.PutUint32(out[size:], binary.LittleEndian.Uint32(out[size:])+grown)
	}
	return out
}

// tdxFields returns every field of header and body.
func tdxFields() []field {
	const b = offsetTDXBody
	return []field{
		{"VERSION", 0, 2, number(0, 3, 4, 5, 6, 0xFFFF)},
		{"ATTESTATION_KEY_TYPE", 2, 2, number(0, 1, 2, 3, 4, 0xFFFF)},
		{"TEE_TYPE", 4, 4, number(0, 1, 0x80, 0x81, 0x82, 0xFFFFFFFF)},
		{"reserved, or QE_SVN and PCE_SVN", 8, 4, octets},
		{"QE_VENDOR_ID", 12, 16, octets},
		{"USER_DATA", 28, 20, octets},
		{"TEE_TCB_SVN", b, 3, version},
		{"TEE_TCB_SVN", b, 16, octets},
		{"module version", b + 1, 1, number(0, 1, 2, 3, 4, 10, 0xFF)},
		{"MRSEAM", b + 16, 48, octets},
		{"MRSIGNERSEAM", offsetMRSignerSEAM, 48, octets},
		{"SEAMATTRIBUTES", b + 112, 8, bits(0, 1, 31, 63)},
		{"TDATTRIBUTES", offsetTDAttributes, 8, bits(0, 1, 4, 5, 6, 7, 16, 27, 28, 29, 30, 31, 62, 63)},
		{"XFAM", offsetXFAM, 8, bits(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 17, 18, 19, 62, 63)},
		{"MRTD", b + 136, 48, octets},
		{"MRCONFIGID", b + 184, 48, octets},
		{"MROWNER", b + 232, 48, octets},
		{"MROWNERCONFIG", b + 280, 48, octets},
		{"RTMR0 to RTMR3", b + 328, 192, octets},
		{"REPORTDATA", offsetTDXReportData, 64, octets},
	}
}

// qeFields returns every field of the report of the quoting enclave.
func qeFields() []field {
	return []field{
		{"CPUSVN of the QE", 0, 16, octets},
		{"MISCSELECT of the QE", 16, 4, bits(0, 1, 31)},
		{"reserved of the QE", 20, 28, octets},
		{"ATTRIBUTES of the QE", 48, 8, bits(0, 1, 2, 3, 4, 5, 7, 8, 63)},
		{"XFRM of the QE", 56, 8, bits(0, 1, 2, 9, 17, 18)},
		{"MRENCLAVE of the QE", 64, 32, octets},
		{"MRSIGNER of the QE", 128, 32, octets},
		{"ISVPRODID of the QE", 256, 2, number(0, 1, 2, 3, 0xFFFF)},
		{"ISVSVN of the QE", 258, 2, number(0, 1, 3, 4, 5, 0x100, 0xFFFF)},
		{"REPORTDATA of the QE", 320, 64, octets},
		{"end of REPORTDATA of the QE", 352, 32, octets},
	}
}
