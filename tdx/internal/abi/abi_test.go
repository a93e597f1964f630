package abi

import (
	"encoding/asn1"
	"encoding/hex"
	"testing"
)

type field struct {
	name      string
	got, want int
	size      int // with the reserved bytes that follow
}

// held fails t unless fields are where they are printed and leave no gap.
func held(t *testing.T, fields []field) {
	t.Helper()
	for i, f := range fields {
		if f.got != f.want {
			t.Errorf("%s at %d, want %d", f.name, f.got, f.want)
		}
		if i > 0 && fields[i-1].want+fields[i-1].size != f.want {
			t.Errorf("%s does not follow %s", f.name, fields[i-1].name)
		}
	}
}

// The offsets printed in the Quoting Library API, appendix A.
func TestQuoteOffsets(t *testing.T) {
	held(t, []field{
		{"version", Version, 0, 2},
		{"attestation key type", KeyType, 2, 2},
		{"TEE type", TEEType, 4, 4},
		{"reserved", HeaderReserved, 8, 4},
		{"QE vendor ID", VendorID, 12, 16},
		{"user data", UserData, 28, 20},
		{"body of version 4", BodyV4, 48, 0},
		{"body type", BodyType, 48, 2},
		{"body size", BodySize, 50, 4},
		{"body of version 5", BodyV5, 54, 0},
	})
}

func TestTDReportOffsets(t *testing.T) {
	held(t, []field{
		{"TEE_TCB_SVN", TEETCBSVN, 0, SVNs},
		{"MRSEAM", MRSEAM, 16, MRSize},
		{"MRSIGNERSEAM", MRSignerSEAM, 64, 48},
		{"SEAMATTRIBUTES", SEAMAttributes, 112, 8},
		{"TDATTRIBUTES", TDAttributes, 120, 8},
		{"XFAM", XFAM, 128, 8},
		{"MRTD", MRTD, 136, 48},
		{"MRCONFIGID", MRConfigID, 184, 48},
		{"MROWNER", MROwner, 232, 48},
		{"MROWNERCONFIG", MROwnerConfig, 280, 48},
		{"RTMR0", RTMR0, 328, RTMRs * MRSize},
		{"REPORTDATA", ReportData, 520, 64},
		{"end of 1.0", TD10Size, 584, 0},
		{"TEE_TCB_SVN_2", TEETCBSVN2, 584, 16},
		{"MRSERVICETD", MRServiceTD, 600, 48},
		{"end of 1.5", TD15Size, 648, 0},
	})
}

func TestEnclaveReportOffsets(t *testing.T) {
	held(t, []field{
		{"CPUSVN", QECPUSVN, 0, 16},
		{"MISCSELECT", QEMiscSelect, 16, 4 + 28},
		{"ATTRIBUTES", QEAttributes, 48, 16},
		{"MRENCLAVE", QEMREnclave, 64, 32 + 32},
		{"MRSIGNER", QEMRSigner, 128, 32 + 96},
		{"ISVPRODID", QEISVProdID, 256, 2},
		{"ISVSVN", QEISVSVN, 258, 2 + 60},
		{"REPORTDATA", QEReportData, 320, 64},
		{"end", QEReportSize, 384, 0},
	})
}

func TestVendorID(t *testing.T) {
	if got := hex.EncodeToString([]byte(IntelVendorID)); got != "939a7233f79c4ca9940a0db3957f0607" {
		t.Error(got)
	}
}

func TestOIDs(t *testing.T) {
	for der, want := range map[string]string{
		sgx:                SGXExtension,
		OIDPPID:            "1.2.840.113741.1.13.1.1",
		OIDComponent(0):    "1.2.840.113741.1.13.1.2.1",
		OIDComponent(15):   "1.2.840.113741.1.13.1.2.16",
		OIDPCESVN:          "1.2.840.113741.1.13.1.2.17",
		OIDCPUSVN:          "1.2.840.113741.1.13.1.2.18",
		OIDPCEID:           "1.2.840.113741.1.13.1.3",
		OIDFMSPC:           "1.2.840.113741.1.13.1.4",
		OIDSGXType:         "1.2.840.113741.1.13.1.5",
		OIDInstanceID:      "1.2.840.113741.1.13.1.6",
		OIDDynamicPlatform: "1.2.840.113741.1.13.1.7.1",
		OIDCachedKeys:      "1.2.840.113741.1.13.1.7.2",
		OIDSMTEnabled:      "1.2.840.113741.1.13.1.7.3",
	} {
		var id asn1.ObjectIdentifier
		if _, err := asn1.Unmarshal(append([]byte{asn1.TagOID, byte(len(der))}, der...), &id); err != nil || id.String() != want {
			t.Errorf("%v, want %s: %v", id, want, err)
		}
	}
}
