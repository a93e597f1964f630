package tdx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// MaxQuoteSize is how many bytes a quote may have, padding included. Genuine ones
// have about 5000, or 8000 with padding.
const MaxQuoteSize = 128 << 10

// Quote is a view of an unverified quote: Intel TDX DCAP Quoting Library API,
// appendix A. It shares memory with the bytes it was parsed from. Claims made by
// it are hearsay. The zero Quote claims zeros.
type Quote struct {
	signed []byte // header to end of body
	body   []byte // the TD report in it
	kind   BodyType
	data   signatureData
}

// signatureData is what follows the signed part of a quote.
type signatureData struct {
	signature   []byte // of the quote
	key         []byte // attestation key
	qeReport    []byte
	qeSignature []byte // of qeReport
	qeAuth      []byte
	chain       []byte // PEM

	// endorsement is all of it but the signature: what does not change from
	// quote to quote of a platform.
	endorsement []byte
}

// ParseQuote checks sizes, version, header, enumerations and padding. Errors wrap
// an [*evidence.Error] that is Malformed or Unsupported. It does not look into
// certificates, and does not allocate, unless it fails.
func ParseQuote(b []byte) (Quote, error) {
	if len(b) < abi.HeaderSize || len(b) > MaxQuoteSize {
		return Quote{}, fail(checkSize, evidence.Malformed, "Quote", fmt.Errorf("%d bytes", len(b)))
	}
	if err := parseHeader(b[:abi.HeaderSize]); err != nil {
		return Quote{}, err
	}
	c := cursor{rest: b[abi.HeaderSize:]}
	q, err := parseBody(b, &c)
	if err != nil {
		return Quote{}, err
	}
	size := c.u32()
	data := c.take(size)
	if !c.ok() {
		return Quote{}, fail(checkSignatureData, evidence.Malformed, "Quote Signature Data Len", errors.New("more than there is"))
	}
	if q.data, err = parseSignatureData(data); err != nil {
		return Quote{}, err
	}
	if !zero(c.rest) {
		return Quote{}, fail(checkPadding, evidence.Malformed, "Quote", errors.New("data after the signature data"))
	}
	return q, nil
}

// parseHeader checks a header, which says nothing else that the body does not.
func parseHeader(h []byte) error {
	version := binary.LittleEndian.Uint16(h[abi.Version:])
	keyType := binary.LittleEndian.Uint16(h[abi.KeyType:])
	tee := binary.LittleEndian.Uint32(h[abi.TEEType:])
	switch {
	case version != abi.V4 && version != abi.V5:
		return fail(checkVersion, evidence.Unsupported, "Version", fmt.Errorf("version %d", version))
	case keyType != abi.KeyTypeECDSAP256:
		return fail(checkHeader, evidence.Unsupported, "Attestation Key Type", fmt.Errorf("type %d", keyType))
	case tee != abi.TEETypeTDX:
		return fail(checkHeader, evidence.Unsupported, "TEE Type", fmt.Errorf("type %#x", tee))
	case !zero(h[abi.HeaderReserved:abi.VendorID]):
		return fail(checkHeader, evidence.Malformed, "Reserved", nil)
	case string(h[abi.VendorID:abi.UserData]) != abi.IntelVendorID:
		return fail(checkVendor, evidence.Unsupported, "QE Vendor ID", nil)
	}
	return nil
}

// parseBody reads what the version has between header and signature data.
func parseBody(b []byte, c *cursor) (Quote, error) {
	q := Quote{kind: TD10}
	if binary.LittleEndian.Uint16(b[abi.Version:]) == abi.V5 {
		q.kind = BodyType(c.u16())
		size := c.u32()
		switch {
		case !c.ok():
			return Quote{}, fail(checkBody, evidence.Malformed, "TD Quote Body Descriptor", errors.New("cut short"))
		case q.kind.size() == 0:
			return Quote{}, fail(checkBody, evidence.Unsupported, "TD Quote Body Type", fmt.Errorf("type %d", q.kind))
		case q.kind.size() != size:
			return Quote{}, fail(checkBody, evidence.Malformed, "Size", fmt.Errorf("%d bytes, not %d", size, q.kind.size()))
		}
	}
	q.body = c.take(q.kind.size())
	if !c.ok() {
		return Quote{}, fail(checkBody, evidence.Malformed, "TD Quote Body", errors.New("cut short"))
	}
	n := len(b) - len(c.rest)
	q.signed = b[:n:n]
	return q, nil
}

func parseSignatureData(b []byte) (signatureData, error) {
	c := cursor{rest: b}
	var d signatureData
	d.signature = c.take(abi.SignatureSize)
	d.endorsement = c.rest
	d.key = c.take(abi.KeySize)
	kind, size := c.u16(), c.u32()
	switch {
	case !c.ok():
		return signatureData{}, fail(checkSignatureData, evidence.Malformed, "Quote Signature Data", errors.New("cut short"))
	case kind != abi.CertQEReport:
		return signatureData{}, fail(checkSignatureData, evidence.Unsupported, "Certification Data Type", fmt.Errorf("type %d", kind))
	case uint64(size) != uint64(len(c.rest)):
		return signatureData{}, fail(checkSignatureData, evidence.Malformed, "Size of Certification Data", errors.New("not what there is"))
	}
	d.qeReport, d.qeSignature = c.take(abi.QEReportSize), c.take(abi.SignatureSize)
	d.qeAuth = c.take(uint32(c.u16()))
	kind, size = c.u16(), c.u32()
	switch {
	case !c.ok():
		return signatureData{}, fail(checkSignatureData, evidence.Malformed, "QE Report Certification Data", errors.New("cut short"))
	case kind != abi.CertPCKChain: // the others name a certificate that did not come along
		return signatureData{}, fail(checkSignatureData, evidence.Unsupported, "QE Certification Data Type", fmt.Errorf("type %d", kind))
	case uint64(size) != uint64(len(c.rest)):
		return signatureData{}, fail(checkSignatureData, evidence.Malformed, "Size of QE Certification Data", errors.New("not what there is"))
	}
	d.chain = c.rest
	return d, nil
}

// zero reports whether b is zeros. If the first byte is and each is like the one
// before it, all are; that comparison is the fast one.
func zero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

// Version is the version of the quote, 4 or 5.
func (q Quote) Version() uint16 {
	if q.signed == nil {
		return 0
	}
	return binary.LittleEndian.Uint16(q.signed[abi.Version:])
}

// BodyType says which TD report the quote has.
func (q Quote) BodyType() BodyType { return q.kind }

// UserData is the user data of the header, 20 bytes. The quoting enclave has its
// own name for the platform in the first 16, some hosts have zeros.
func (q Quote) UserData() [20]byte {
	if q.signed == nil {
		return [20]byte{}
	}
	return [20]byte(q.signed[abi.UserData:])
}

// TEETCBSVN is TEE_TCB_SVN: what ran when the TD was launched.
func (q Quote) TEETCBSVN() SVN { return SVN(q.at(abi.TEETCBSVN, abi.SVNs)) }

// MRSEAM is the measurement of the TDX module, SHA-384.
func (q Quote) MRSEAM() [48]byte { return q.measurement(abi.MRSEAM) }

// MRSignerSEAM is MRSIGNERSEAM, 48 bytes: zero for a module of Intel's.
func (q Quote) MRSignerSEAM() [48]byte { return q.measurement(abi.MRSignerSEAM) }

// SEAMAttributes is SEAMATTRIBUTES.
func (q Quote) SEAMAttributes() uint64 { return q.u64(abi.SEAMAttributes) }

// Attributes is TDATTRIBUTES.
func (q Quote) Attributes() Attributes { return Attributes(q.u64(abi.TDAttributes)) }

// XFAM is the mask of extended CPU features that the TD may use, as XCR0 and
// IA32_XSS have them.
func (q Quote) XFAM() uint64 { return q.u64(abi.XFAM) }

// MRTD is the measurement of the memory that the TD started with, SHA-384.
func (q Quote) MRTD() [48]byte { return q.measurement(abi.MRTD) }

// MRConfigID is MRCONFIGID, 48 bytes, which the host chose at launch.
func (q Quote) MRConfigID() [48]byte { return q.measurement(abi.MRConfigID) }

// MROwner is MROWNER, 48 bytes, which the host chose at launch.
func (q Quote) MROwner() [48]byte { return q.measurement(abi.MROwner) }

// MROwnerConfig is MROWNERCONFIG, 48 bytes, which the host chose at launch.
func (q Quote) MROwnerConfig() [48]byte { return q.measurement(abi.MROwnerConfig) }

// RTMRs are the runtime measurement registers 0 to 3, SHA-384.
func (q Quote) RTMRs() [4][48]byte {
	var rs [abi.RTMRs][48]byte
	for i := range rs {
		rs[i] = q.measurement(abi.RTMR0 + i*abi.MRSize)
	}
	return rs
}

// ReportData is REPORTDATA, which the guest chose.
func (q Quote) ReportData() [64]byte { return [64]byte(q.at(abi.ReportData, 64)) }

// TEETCBSVN2 is TEE_TCB_SVN_2, or false in a TD report 1.0: what runs now. It
// differs from [Quote.TEETCBSVN] after an update that left the TD running.
func (q Quote) TEETCBSVN2() (SVN, bool) {
	if q.kind != TD15 {
		return SVN{}, false
	}
	return SVN(q.at(abi.TEETCBSVN2, abi.SVNs)), true
}

// MRServiceTD is MRSERVICETD, or false in a TD report 1.0: the hash of the service
// TDs bound to the TD, such as a migration TD, and zero without one.
func (q Quote) MRServiceTD() ([48]byte, bool) {
	if q.kind != TD15 {
		return [48]byte{}, false
	}
	return q.measurement(abi.MRServiceTD), true
}

func (q Quote) measurement(at int) [48]byte { return [48]byte(q.at(at, abi.MRSize)) }
func (q Quote) u64(at int) uint64           { return binary.LittleEndian.Uint64(q.at(at, 8)) }

// at returns n bytes of the body, which are zeros in the zero Quote.
func (q Quote) at(offset, n int) []byte {
	if q.body == nil {
		return make([]byte, n)
	}
	return q.body[offset : offset+n]
}

// clone returns the signed part of q in memory of its own.
func (q Quote) clone() Quote {
	signed := bytes.Clone(q.signed)
	return Quote{signed: signed, body: signed[len(signed)-len(q.body):], kind: q.kind}
}
