package kbs

import (
	"encoding/binary"
	"encoding/json"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

// reportJSON is ATTESTATION_REPORT as clients of Confidential Containers take it
// apart. Everything is there that was signed but for reserved bytes: a report in
// which those are not zero can't be put together again, and its signature then
// does not verify.
type reportJSON struct {
	Version     uint32   `json:"version"`
	GuestSVN    uint32   `json:"guest_svn"`
	Policy      uint64   `json:"policy"`
	FamilyID    octets   `json:"family_id"`
	ImageID     octets   `json:"image_id"`
	VMPL        uint32   `json:"vmpl"`
	SigAlgo     uint32   `json:"sig_algo"`
	CurrentTCB  tcbJSON  `json:"current_tcb"`
	PlatInfo    uint64   `json:"plat_info"`
	KeyInfo     uint32   `json:"key_info"`
	ReportData  octets   `json:"report_data"`
	Measurement octets   `json:"measurement"`
	HostData    octets   `json:"host_data"`
	IDKey       octets   `json:"id_key_digest"`
	AuthorKey   octets   `json:"author_key_digest"`
	ReportID    octets   `json:"report_id"`
	ReportIDMA  octets   `json:"report_id_ma"`
	ReportedTCB tcbJSON  `json:"reported_tcb"`
	Family      *uint8   `json:"cpuid_fam_id"`
	Model       *uint8   `json:"cpuid_mod_id"`
	Stepping    *uint8   `json:"cpuid_step"`
	ChipID      octets   `json:"chip_id"`
	Committed   tcbJSON  `json:"committed_tcb"`
	Current     firmware `json:"current"`
	CommittedFW firmware `json:"committed"`
	LaunchTCB   tcbJSON  `json:"launch_tcb"`
	LaunchMit   *uint64  `json:"launch_mit_vector"`
	CurrentMit  *uint64  `json:"current_mit_vector"`
	Signature   struct {
		R octets `json:"r"`
		S octets `json:"s"`
	} `json:"signature"`
}

type tcbJSON struct {
	FMC        *uint8 `json:"fmc"`
	Bootloader uint8  `json:"bootloader"`
	TEE        uint8  `json:"tee"`
	SNP        uint8  `json:"snp"`
	Microcode  uint8  `json:"microcode"`
}

type firmware struct {
	Major uint8 `json:"major"`
	Minor uint8 `json:"minor"`
	Build uint8 `json:"build"`
}

type snpEvidence struct {
	Report reportJSON `json:"attestation_report"`
	Certs  *[]struct {
		Type json.RawMessage `json:"cert_type"`
		Data octets          `json:"data"`
	} `json:"cert_chain"`
}

func fromSNP(raw json.RawMessage) (evidence.Evidence, error) {
	var e snpEvidence
	if err := decode(raw, "the primary_evidence", &e); err != nil {
		return evidence.Evidence{}, err
	}
	report, err := e.Report.bytes()
	if err != nil {
		return evidence.Evidence{}, err
	}
	ev := evidence.Evidence{Format: snp.Format, Raw: report}
	if e.Certs == nil {
		return ev, nil
	}
	// The report says which key signed it: SIGNING_KEY, bits 4:2 of key_info.
	kind := `"VCEK"`
	if e.Report.KeyInfo>>2&7 == 1 {
		kind = `"VLEK"`
	}
	for _, c := range *e.Certs {
		if string(c.Type) == kind {
			ev.Items = append(ev.Items, evidence.Item{Type: snp.VEK, Data: c.Data})
		}
	}
	return ev, nil
}

// Offsets in ATTESTATION_REPORT: AMD 56860, table 23.
const (
	atVersion     = 0x000
	atGuestSVN    = 0x004
	atPolicy      = 0x008
	atFamilyID    = 0x010
	atImageID     = 0x020
	atVMPL        = 0x030
	atSigAlgo     = 0x034
	atCurrentTCB  = 0x038
	atPlatInfo    = 0x040
	atKeyInfo     = 0x048
	atReportData  = 0x050
	atMeasurement = 0x090
	atHostData    = 0x0c0
	atIDKey       = 0x0e0
	atAuthorKey   = 0x110
	atReportID    = 0x140
	atReportIDMA  = 0x160
	atReportedTCB = 0x180
	atCPUID       = 0x188
	atChipID      = 0x1a0
	atCommitted   = 0x1e0
	atCurrent     = 0x1e8
	atCommittedFW = 0x1ec
	atLaunchTCB   = 0x1f0
	atLaunchMit   = 0x1f8
	atCurrentMit  = 0x200
	atSignature   = 0x2a0
	reportSize    = 0x4a0
	scalarSize    = 72
)

// bytes returns the 1184 bytes that the hardware made r of.
func (r reportJSON) bytes() ([]byte, error) {
	b := make([]byte, reportSize)
	for _, f := range []struct {
		name     string
		at, size int
		value    octets
	}{
		{"family_id", atFamilyID, 16, r.FamilyID},
		{"image_id", atImageID, 16, r.ImageID},
		{"report_data", atReportData, 64, r.ReportData},
		{"measurement", atMeasurement, 48, r.Measurement},
		{"host_data", atHostData, 32, r.HostData},
		{"id_key_digest", atIDKey, 48, r.IDKey},
		{"author_key_digest", atAuthorKey, 48, r.AuthorKey},
		{"report_id", atReportID, 32, r.ReportID},
		{"report_id_ma", atReportIDMA, 32, r.ReportIDMA},
		{"chip_id", atChipID, 64, r.ChipID},
		{"signature", atSignature, scalarSize, r.Signature.R},
		{"signature", atSignature + scalarSize, scalarSize, r.Signature.S},
	} {
		if len(f.value) != f.size {
			return nil, malformed("the attestation_report has a "+f.name+" of another length", nil)
		}
		copy(b[f.at:], f.value)
	}
	le := binary.LittleEndian
	le.PutUint32(b[atVersion:], r.Version)
	le.PutUint32(b[atGuestSVN:], r.GuestSVN)
	le.PutUint64(b[atPolicy:], r.Policy)
	le.PutUint32(b[atVMPL:], r.VMPL)
	le.PutUint32(b[atSigAlgo:], r.SigAlgo)
	le.PutUint64(b[atPlatInfo:], r.PlatInfo)
	le.PutUint32(b[atKeyInfo:], r.KeyInfo)
	for at, tcb := range map[int]tcbJSON{
		atCurrentTCB: r.CurrentTCB, atReportedTCB: r.ReportedTCB, atCommitted: r.Committed, atLaunchTCB: r.LaunchTCB,
	} {
		tcb.put(b[at:])
	}
	for i, id := range []*uint8{r.Family, r.Model, r.Stepping} {
		if id != nil {
			b[atCPUID+i] = *id
		}
	}
	copy(b[atCurrent:], []byte{r.Current.Build, r.Current.Minor, r.Current.Major})
	copy(b[atCommittedFW:], []byte{r.CommittedFW.Build, r.CommittedFW.Minor, r.CommittedFW.Major})
	if r.LaunchMit != nil {
		le.PutUint64(b[atLaunchMit:], *r.LaunchMit)
	}
	if r.CurrentMit != nil {
		le.PutUint64(b[atCurrentMit:], *r.CurrentMit)
	}
	return b, nil
}

// put writes t as TCB_VERSION. Only Turin and later have an FMC, and its place
// in front of the others.
func (t tcbJSON) put(b []byte) {
	if t.FMC != nil {
		copy(b, []byte{*t.FMC, t.Bootloader, t.TEE, t.SNP, 0, 0, 0, t.Microcode})
		return
	}
	copy(b, []byte{t.Bootloader, t.TEE, 0, 0, 0, 0, t.SNP, t.Microcode})
}
