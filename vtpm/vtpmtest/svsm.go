package vtpmtest

import (
	"encoding/binary"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/vtpm"
)

// SVSM is a guest with an SVSM that runs a vTPM.
type SVSM struct {
	Chip  *snptest.Chip
	Guest snptest.Guest // what the report says of it; the zero Guest is at VMPL 0
	TPM   Device
	Nonce [vtpm.SVSMNonceSize]byte // what the report is asked for with

	// Services asks for the table of all services instead of the manifest of one.
	Services bool

	// Manifest changes the manifest, or table, before the report is made of it.
	Manifest func([]byte) []byte

	// Items changes what comes along.
	Items func([]evidence.Item) []evidence.Item
}

// UEFIMM is another service than the vTPM: a4453a59-9e1b-4787-a033-1986d6adbe55.
func UEFIMM() Service {
	return Service{[16]byte{0x59, 0x3a, 0x45, 0xa4, 0x1b, 0x9e, 0x87, 0x47, 0xa0, 0x33, 0x19, 0x86, 0xd6, 0xad, 0xbe, 0x55}, make([]byte, 8)}
}

// Service is an entry of a table of services.
type Service struct {
	GUID     [16]byte // in the order of bytes in memory
	Manifest []byte
}

// VTPM returns the service that is a vTPM with the EK of d.
func VTPM(d Device) Service {
	return Service{
		[16]byte{0xeb, 0xf1, 0x76, 0xc4, 0x23, 0x01, 0xa5, 0x45, 0x96, 0x41, 0xb4, 0xe7, 0xdd, 0xe5, 0xbf, 0xe3},
		d.EK()[2:],
	}
}

// Table returns the table of services.
func Table(services ...Service) []byte {
	const head, entry = 24, 24
	at := head + entry*len(services)
	total := at
	for _, s := range services {
		total += len(s.Manifest)
	}
	b := []byte{0xbb, 0x9e, 0x84, 0x63, 0x92, 0x3d, 0x70, 0x46, 0xa1, 0xff, 0x58, 0xf9, 0xc9, 0x4b, 0x87, 0xbb}
	b = binary.LittleEndian.AppendUint32(b, uint32(total))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(services)))
	for _, s := range services {
		b = append(b, s.GUID[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(at))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s.Manifest)))
		at += len(s.Manifest)
	}
	for _, s := range services {
		b = append(b, s.Manifest...)
	}
	return b
}

// Attestation returns the report of the SVSM, and the items that it is of.
func (s SVSM) Attestation() (evidence.Evidence, []evidence.Item) {
	manifest, kind := VTPM(s.TPM).Manifest, vtpm.SVSMManifest
	if s.Services {
		manifest, kind = Table(VTPM(s.TPM), UEFIMM()), vtpm.SVSMServices
	}
	if s.Manifest != nil {
		manifest = s.Manifest(manifest)
	}
	sum := vtpm.SVSMReportData(s.Nonce, manifest)
	return s.Chip.Report(s.Guest, must(evidence.NewBinding(sum[:]))), []evidence.Item{
		{Type: vtpm.SVSMNonce, Data: s.Nonce[:]}, {Type: kind, Data: manifest},
	}
}

// Evidence returns a quote for data with the report of the SVSM below it. more
// comes along.
func (s SVSM) Evidence(q Quote, data evidence.Binding, more ...evidence.Item) evidence.Evidence {
	report, items := s.Attestation()
	raw, pcrs := s.TPM.Quote(q, data)
	items = append(items, evidence.Item{Type: vtpm.AK, Data: s.TPM.AK()}, evidence.Item{Type: vtpm.PCRs, Data: pcrs})
	items = append(items, more...)
	if s.Items != nil {
		items = s.Items(items)
	}
	return evidence.Evidence{Format: vtpm.Format, Raw: raw, Items: items, Layers: []evidence.Evidence{report}}
}
