package vtpm

import (
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
)

// Item types. Of each there is one at most. What a quote rests on takes one of
// four forms: SVSMNonce with SVSMManifest; SVSMNonce with SVSMServices; HCL; or,
// without a report below, EK with EKCertificate. All but HCL need AK as well.
const (
	AK            = "vtpm-ak"             // TPM2B_PUBLIC of the AK; not with HCL
	PCRs          = "vtpm-pcrs"           // required: values of the selected PCRs, see [Verifier]
	SVSMNonce     = "vtpm-svsm-nonce"     // 64 bytes, which the SVSM was asked for its report with
	SVSMManifest  = "vtpm-svsm-manifest"  // manifest of the vTPM service, version 0
	SVSMServices  = "vtpm-svsm-services"  // table of the manifests of all services
	HCL           = "vtpm-azure-hcl"      // blob of Azure's paravisor, from NV index 0x01400001
	EK            = "vtpm-ek"             // TPM2B_PUBLIC of the EK, where no manifest has it
	EKCertificate = "vtpm-ek-certificate" // of the EK, in DER
	EventLog      = "vtpm-event-log"      // TCG2, crypto-agile, as Linux has it in binary_bios_measurements
	IMAList       = "vtpm-ima-list"       // as Linux has it in ascii_runtime_measurements
)

// What items may have at most, in bytes.
const (
	MaxEventLogSize = 1 << 20
	MaxIMASize      = 32 << 20
	maxEKCert       = 8 << 10
	maxPCRs         = 3 * pcrCount * 64
)

func limits() map[string]int {
	return map[string]int{
		AK: maxPublic + 2, PCRs: maxPCRs, SVSMNonce: SVSMNonceSize, SVSMManifest: maxPublic, SVSMServices: maxManifest,
		HCL: maxHCL, EK: maxPublic + 2, EKCertificate: maxEKCert, EventLog: MaxEventLogSize, IMAList: MaxIMASize,
	}
}

// items is what came along, by type.
type items map[string][]byte

func openItems(is []evidence.Item) (items, error) {
	got, max := items{}, limits()
	for _, i := range is {
		limit, known := max[i.Type]
		switch {
		case !known:
			// The name is the sender's, and may be of any length.
			return nil, fail(checkItems, evidence.Malformed, "items", errors.New("unknown type"))
		case got.has(i.Type):
			return nil, fail(checkItems, evidence.Malformed, i.Type, errors.New("more than one"))
		case len(i.Data) > limit:
			return nil, fail(checkItems, evidence.Malformed, i.Type, fmt.Errorf("%d bytes", len(i.Data)))
		}
		got[i.Type] = i.Data
	}
	return got, got.consistent()
}

func (is items) has(kind string) bool {
	_, ok := is[kind]
	return ok
}

// consistent reports whether the items make exactly one way to the platform.
func (is items) consistent() error {
	svsm := is.has(SVSMNonce)
	ways := 0
	for _, kind := range []string{SVSMManifest, SVSMServices, HCL, EK} {
		if is.has(kind) {
			ways++
		}
	}
	bad := func(field, what string) error {
		return fail(checkItems, evidence.Malformed, field, errors.New(what))
	}
	switch {
	case !is.has(PCRs):
		return bad(PCRs, "missing")
	case ways != 1:
		return bad("items", "not exactly one of manifest, services, HCL blob and EK")
	case svsm != (is.has(SVSMManifest) || is.has(SVSMServices)) || svsm && len(is[SVSMNonce]) != SVSMNonceSize:
		return bad(SVSMNonce, "64 bytes go with a manifest of an SVSM, and with nothing else")
	case is.has(AK) == is.has(HCL):
		return bad(AK, "goes with everything but an HCL blob, which has its own")
	case is.has(EK) && !is.has(EKCertificate):
		return bad(EKCertificate, "missing")
	}
	return nil
}
