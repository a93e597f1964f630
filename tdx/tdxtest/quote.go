package tdxtest

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// TD is what a quote says of a TD. The zero TD is a strict policy's happy path.
type TD struct {
	Version uint16       // of the quote; if zero, 4; others than 4 have a body descriptor
	Body    tdx.BodyType // if zero, TD10 for version 4 and TD15 for others

	Attributes  tdx.Attributes // if zero, SEPTVEDisable
	XFAM        uint64         // if zero, 0x600E7
	MRTD        [48]byte
	MRConfigID  [48]byte
	MROwner     [48]byte
	OwnerConfig [48]byte    // MROWNERCONFIG
	RTMRs       [4][48]byte // of those that Log has no event of
	MRServiceTD [48]byte    // of a TD15
	Log         EventLog    // makes RTMRs what they are, and comes along

	Edit  func(signed []byte)       // before signing; sees header to end of body
	QE    func(report []byte)       // the report of the quoting enclave, before the PCK signs it
	Data  func(*SignatureData)      // after all signing
	Fault func(quote []byte) []byte // after all else

	// Items returns what comes along instead of the items of Log, of which it may
	// change the bytes.
	Items func([]evidence.Item) []evidence.Item
}

// SignatureData is what follows the signed part of a quote, in its order. Lengths
// are written as they are.
type SignatureData struct {
	Signature   []byte // r and s, as the other one
	Key         []byte // attestation key: x and y
	Type        uint16 // of all that follows
	QEReport    []byte
	QESignature []byte
	QEAuth      []byte
	QEType      uint16 // of Chain
	Chain       []byte // PEM: PCK certificate, CA, root
}

// Quote returns signed Evidence with data as REPORTDATA, which is zero if data is
// not [evidence.Binding.Checked], and the event log of td, if there is one.
//
// What the quote says of the body, its type and its size follow td.Body; a type
// that is not handled gets the body of a TD10.
func (p *Platform) Quote(td TD, data evidence.Binding) evidence.Evidence {
	td = td.withDefaults()
	signed := p.layOut(td, data)
	if td.Edit != nil {
		td.Edit(signed)
	}
	d := p.endorse(td)
	d.Signature = signRaw(p.attest, signed)
	if td.Data != nil {
		td.Data(&d)
	}
	encoded := d.encode()
	raw := binary.LittleEndian.AppendUint32(signed, uint32(len(encoded)))
	raw = append(raw, encoded...)
	if td.Fault != nil {
		raw = td.Fault(raw)
	}
	return evidence.Evidence{Format: tdx.Format, Raw: raw, Items: td.items()}
}

func (td TD) withDefaults() TD {
	if td.Version == 0 {
		td.Version = abi.V4
	}
	if td.Body == 0 {
		td.Body = tdx.TD10
		if td.Version != abi.V4 {
			td.Body = tdx.TD15
		}
	}
	if td.Attributes == 0 {
		td.Attributes = tdx.SEPTVEDisable
	}
	if td.XFAM == 0 {
		td.XFAM = 0x600E7
	}
	return td
}

// layOut returns the unsigned part: Intel TDX DCAP Quoting Library API, appendix A.
func (p *Platform) layOut(td TD, data evidence.Binding) []byte {
	start, size := abi.BodyV4, abi.TD10Size
	if td.Version != abi.V4 {
		start = abi.BodyV5
	}
	if td.Body == tdx.TD15 {
		size = abi.TD15Size
	}
	q := make(fields, start+size)
	name := p.Name()
	q.put16(abi.Version, td.Version)
	q.put16(abi.KeyType, abi.KeyTypeECDSAP256)
	q.put32(abi.TEEType, abi.TEETypeTDX)
	q.put(abi.VendorID, []byte(abi.IntelVendorID))
	q.put(abi.UserData, name[:])
	if td.Version != abi.V4 {
		q.put16(abi.BodyType, uint16(td.Body))
		q.put32(abi.BodySize, uint32(size))
	}
	p.layOutBody(q[start:], td, data)
	return q
}

// layOutBody writes the TD report: Intel TDX Module ABI, TDREPORT_STRUCT.
func (p *Platform) layOutBody(b fields, td TD, data evidence.Binding) {
	b.put(abi.TEETCBSVN, p.Launched[:])
	b.put(abi.MRSEAM, p.MRSEAM[:])
	b.put64(abi.TDAttributes, uint64(td.Attributes))
	b.put64(abi.XFAM, td.XFAM)
	b.put(abi.MRTD, td.MRTD[:])
	b.put(abi.MRConfigID, td.MRConfigID[:])
	b.put(abi.MROwner, td.MROwner[:])
	b.put(abi.MROwnerConfig, td.OwnerConfig[:])
	for i, r := range td.registers() {
		b.put(abi.RTMR0+i*abi.MRSize, r[:])
	}
	b.put(abi.ReportData, data.Bytes())
	if len(b) == abi.TD15Size {
		b.put(abi.TEETCBSVN2, p.Running[:])
		b.put(abi.MRServiceTD, td.MRServiceTD[:])
	}
}

// endorse returns the signature data but for the signature of the quote.
func (p *Platform) endorse(td TD) SignatureData {
	point := must(p.attest.PublicKey.Bytes())
	d := SignatureData{
		Key:    point[1:], // after the byte that says that x and y follow
		Type:   abi.CertQEReport,
		QEAuth: p.derive("authentication data", 32),
		QEType: abi.CertPCKChain,
		Chain:  append(p.Chain(nil), 0),
	}
	d.QEReport = p.qeReport(sha256.Sum256(slices.Concat(d.Key, d.QEAuth)))
	if td.QE != nil {
		td.QE(d.QEReport)
	}
	d.QESignature = signRaw(p.pck, d.QEReport)
	return d
}

// qeReport returns the report of the quoting enclave for a key: Intel SDM, volume
// 3D, REPORT.
func (p *Platform) qeReport(key [32]byte) []byte {
	r := make(fields, abi.QEReportSize)
	r.put(abi.QECPUSVN, p.PCK.CPUSVN[:])
	r.put(abi.QEMiscSelect, p.QE.MiscSelect[:])
	r.put(abi.QEAttributes, p.QE.Attributes[:])
	r.put(abi.QEMREnclave, p.QE.MRENCLAVE[:])
	r.put(abi.QEMRSigner, p.QE.MRSIGNER[:])
	r.put16(abi.QEISVProdID, p.QE.ISVProdID)
	r.put16(abi.QEISVSVN, p.QE.ISVSVN)
	r.put(abi.QEReportData, key[:])
	return r
}

// encode returns d with the lengths of its parts.
func (d SignatureData) encode() []byte {
	inner := slices.Concat(d.QEReport, d.QESignature)
	inner = binary.LittleEndian.AppendUint16(inner, uint16(len(d.QEAuth)))
	inner = append(inner, d.QEAuth...)
	inner = binary.LittleEndian.AppendUint16(inner, d.QEType)
	inner = binary.LittleEndian.AppendUint32(inner, uint32(len(d.Chain)))
	inner = append(inner, d.Chain...)
	b := slices.Concat(d.Signature, d.Key)
	b = binary.LittleEndian.AppendUint16(b, d.Type)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(inner)))
	return append(b, inner...)
}

// fields is a structure that is being written.
type fields []byte

func (f fields) put(at int, b []byte)   { copy(f[at:], b) }
func (f fields) put16(at int, n uint16) { binary.LittleEndian.PutUint16(f[at:], n) }
func (f fields) put32(at int, n uint32) { binary.LittleEndian.PutUint32(f[at:], n) }
func (f fields) put64(at int, n uint64) { binary.LittleEndian.PutUint64(f[at:], n) }
