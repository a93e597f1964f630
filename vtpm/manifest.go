package vtpm

import (
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
)

// Manifest names what a report is of, and its version.
type Manifest string

// The Manifests.
const (
	// SVSMSingle is the manifest of the vTPM service of an SVSM, version 0: the
	// TPMT_PUBLIC of the EK. SVSM specification, SVSM_ATTEST_SINGLE_SERVICE.
	SVSMSingle Manifest = "svsm-vtpm-0"

	// SVSMAll is the table of the manifests of all services, in which that of the
	// vTPM is as above. SVSM specification, SVSM_ATTEST_SERVICES.
	SVSMAll Manifest = "svsm-services-0"

	// AzureHCL1 and AzureHCL2 are runtime data of the paravisor of Azure, by the
	// version in the header of its blob.
	AzureHCL1 Manifest = "azure-hcl-1"
	AzureHCL2 Manifest = "azure-hcl-2"
)

// SVSMNonceSize is how many bytes the nonce of an SVSM attestation has.
const SVSMNonceSize = 64

// Limits of a table of services, of which there are two today.
const (
	maxServices = 32
	maxManifest = 64 << 10 // bytes
)

// guid is a GUID as UEFI has it in memory: the first three groups little-endian.
type guid [16]byte

// vtpmService is c476f1eb-0123-45a5-9641-b4e7dde5bfe3, the vTPM of an SVSM.
func vtpmService() guid {
	return guid{0xeb, 0xf1, 0x76, 0xc4, 0x23, 0x01, 0xa5, 0x45, 0x96, 0x41, 0xb4, 0xe7, 0xdd, 0xe5, 0xbf, 0xe3}
}

// servicesTable is 63849ebb-3d92-4670-a1ff-58f9c94b87bb, what a table begins with.
func servicesTable() guid {
	return guid{0xbb, 0x9e, 0x84, 0x63, 0x92, 0x3d, 0x70, 0x46, 0xa1, 0xff, 0x58, 0xf9, 0xc9, 0x4b, 0x87, 0xbb}
}

// SVSMReportData returns what an SVSM has in REPORT_DATA when it attests manifest,
// of one service or of all, for nonce: SHA-512 of nonce and manifest.
func SVSMReportData(nonce [SVSMNonceSize]byte, manifest []byte) [64]byte {
	h := sha512.New()
	h.Write(nonce[:])
	h.Write(manifest)
	return [64]byte(h.Sum(nil))
}

// ParseManifest returns the EK in the manifest of the vTPM service of an SVSM, of
// version 0. It has to be of EK template L-1 or L-2. Errors wrap an
// [*evidence.Error].
func ParseManifest(manifest []byte) (Public, error) {
	ek, err := parseArea(manifest)
	if err != nil {
		return Public{}, refield(err, checkManifest, SVSMManifest)
	}
	if err := ek.checkEK(); err != nil {
		return Public{}, err
	}
	return ek, nil
}

// ParseServices returns the EK in a table of the manifests of all services of an
// SVSM, in which there has to be that of the vTPM, once. Services follow each
// other in their order without gaps. Errors wrap an [*evidence.Error].
func ParseServices(table []byte) (Public, error) {
	malformed := func(err error) (Public, error) {
		return Public{}, fail(checkManifest, evidence.Malformed, SVSMServices, err)
	}
	c := cursor{rest: table}
	head := guid(c.takeGUID())
	total, count := c.le32(), c.le32()
	switch {
	case !c.ok() || len(table) > maxManifest:
		return malformed(errors.New("length"))
	case head != servicesTable():
		return Public{}, fail(checkManifest, evidence.Unsupported, SVSMServices, errors.New("not the GUID of a table of services"))
	case uint64(total) != uint64(len(table)):
		return malformed(fmt.Errorf("%d bytes, not %d", len(table), total))
	case count == 0 || count > maxServices:
		return malformed(fmt.Errorf("%d services", count))
	}
	var manifest []byte
	seen := map[guid]bool{}
	next := uint64(servicesHead) + serviceEntry*uint64(count)
	for range count {
		service, offset, size := guid(c.takeGUID()), uint64(c.le32()), uint64(c.le32())
		switch {
		case !c.ok() || offset != next || size > uint64(len(table)) || offset > uint64(len(table))-size:
			return malformed(errors.New("an entry that is not where it should be"))
		case seen[service]:
			return malformed(errors.New("a service twice"))
		case service == vtpmService():
			manifest = table[offset : offset+size]
		}
		seen[service] = true
		next += size
	}
	switch {
	case next != uint64(len(table)):
		return malformed(errors.New("bytes of no service"))
	case !seen[vtpmService()]:
		return malformed(errors.New("no vTPM among the services"))
	}
	return ParseManifest(manifest)
}

// Sizes of a table: its head, and an entry.
const (
	servicesHead = 16 + 4 + 4
	serviceEntry = 16 + 4 + 4
)

func (c *cursor) takeGUID() (g guid) {
	copy(g[:], c.take(len(g)))
	return g
}

func (c *cursor) le32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// refield returns err as a failure of check, about what came along as field.
func refield(err error, check, field string) error {
	var e *evidence.Error
	if !errors.As(err, &e) {
		return err
	}
	return fail(check, e.Reason, field, err)
}
