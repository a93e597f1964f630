package snptest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"slices"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/internal/abi"
)

// Guest is what a report says. The zero Guest is a strict policy's happy path.
type Guest struct {
	Measurement [48]byte
	HostData    [32]byte
	VMPL        uint32
	Policy      snp.GuestPolicy // if zero, 0x30000
	Version     uint32          // if zero, 5; versions without a layout get the nearest
	Key         snp.KeyKind     // if zero, VCEK

	// ReportID is what the firmware calls this launch. If zero, it is made of the
	// chip, Measurement and HostData: every report of a Guest has the same.
	ReportID [32]byte

	// What an ID block says. An AuthorKey also sets AUTHOR_KEY_EN.
	GuestSVN          uint32
	FamilyID, ImageID [16]byte
	IDKey, AuthorKey  [48]byte

	Edit  func(report []byte)        // before signing; sees all 1184 bytes
	Fault func(signed []byte) []byte // after signing
}

// Report returns signed Evidence with data as REPORT_DATA and the certificate table.
//
// The signing key is that of the reported TCB, whatever Edit writes. REPORT_DATA
// is zero if data is not [evidence.Binding.Checked].
func (c *Chip) Report(g Guest, data evidence.Binding) evidence.Evidence {
	g = g.withDefaults()
	report := c.layOut(g, data)
	if g.Edit != nil {
		g.Edit(report)
	}
	if !c.MaskChipKey {
		sign384(report, c.vek(g.Key, c.Reported).key)
	}
	if g.Fault != nil {
		report = g.Fault(report)
	}
	table := CertTable(c.Entries(g.Key)...)
	return evidence.Evidence{Format: snp.Format, Raw: report, Items: []evidence.Item{{Type: snp.CertTable, Data: table}}}
}

func (g Guest) withDefaults() Guest {
	if g.Policy == 0 {
		g.Policy = snp.SMT | abi.PolicyReserved1
	}
	if g.Version == 0 {
		g.Version = abi.MaxVersion
	}
	if g.Key == 0 {
		g.Key = snp.VCEK
	}
	return g
}

func (c *Chip) reportID(g Guest) []byte {
	if g.ReportID == [32]byte{} {
		g.ReportID = sha256.Sum256(slices.Concat(c.id[:], g.Measurement[:], g.HostData[:]))
	}
	return g.ReportID[:]
}

// layOut returns the unsigned report: 56860, table 23.
func (c *Chip) layOut(g Guest, data evidence.Binding) []byte {
	r := make(report, abi.ReportSize)
	r.put32(abi.Version, g.Version)
	r.put32(abi.GuestSVN, g.GuestSVN)
	r.put64(abi.Policy, uint64(g.Policy))
	r.put(abi.FamilyID, g.FamilyID[:])
	r.put(abi.ImageID, g.ImageID[:])
	r.put32(abi.VMPL, g.VMPL)
	r.put32(abi.SignatureAlgo, abi.AlgoECDSAP384SHA384)
	r.put64(abi.PlatformInfo, uint64(c.Platform))
	r.put32(abi.KeyInfo, c.keyInfo(g))
	r.put(abi.ReportData, data.Bytes())
	r.put(abi.Measurement, g.Measurement[:])
	r.put(abi.HostData, g.HostData[:])
	r.put(abi.IDKeyDigest, g.IDKey[:])
	r.put(abi.AuthorKeyDigest, g.AuthorKey[:])
	r.put(abi.ReportID, c.reportID(g))
	r.put(abi.ReportIDMA, slices.Repeat([]byte{0xFF}, abi.ReportedTCB-abi.ReportIDMA)) // no migration agent
	c.layOutTCBs(r)
	if g.Version >= abi.VersionCPUID {
		r.put(abi.CPUFamily, []byte{c.Family})
		r.put(abi.CPUModel, []byte{c.Model})
		r.put(abi.CPUStepping, []byte{c.Stepping})
	}
	if g.Key == snp.VCEK && !c.MaskChipID {
		r.put(abi.ChipID, c.id[:])
	}
	if g.Version >= abi.VersionMitigations {
		r.put64(abi.LaunchMitigations, c.LaunchMitigations)
		r.put64(abi.CurrentMitigations, c.CurrentMitigations)
	}
	return r
}

// layOutTCBs writes security versions and the version of the firmware, 1.55.
func (c *Chip) layOutTCBs(r report) {
	order := abi.OrderMilan
	if c.line == snp.Turin {
		order = abi.OrderTurin
	}
	for at, tcb := range map[int]snp.TCB{abi.CurrentTCB: c.Current, abi.ReportedTCB: c.Reported, abi.CommittedTCB: c.Committed, abi.LaunchTCB: c.Launch} {
		packed := order.Pack(abi.TCB{FMC: tcb.FMC, Bootloader: tcb.Bootloader, TEE: tcb.TEE, Firmware: tcb.Firmware, Microcode: tcb.Microcode})
		r.put(at, packed[:])
	}
	r.put(abi.CurrentBuild, []byte{c.build})
	r.put(abi.CurrentMinor, []byte{55})
	r.put(abi.CurrentMajor, []byte{1})
	r.put(abi.CommittedBuild, []byte{c.build})
	r.put(abi.CommittedMinor, []byte{55})
	r.put(abi.CommittedMajor, []byte{1})
}

func (c *Chip) keyInfo(g Guest) uint32 {
	info := uint32(abi.SigningVCEK)
	if g.Key == snp.VLEK {
		info = abi.SigningVLEK
	}
	info <<= abi.KeyInfoSigningShift
	if c.MaskChipKey {
		info |= abi.KeyInfoMaskChipKey
	}
	if g.AuthorKey != [48]byte{} {
		info |= abi.KeyInfoAuthorKeyEn
	}
	return info
}

// report is a report that is being written.
type report []byte

func (r report) put(at int, b []byte)   { copy(r[at:], b) }
func (r report) put32(at int, n uint32) { binary.LittleEndian.PutUint32(r[at:], n) }
func (r report) put64(at int, n uint64) { binary.LittleEndian.PutUint64(r[at:], n) }

// sign384 writes the signature of r: R and S, each little-endian.
func sign384(r report, key *ecdsa.PrivateKey) {
	digest := sha512.Sum384(r[:abi.SignedSize])
	var sig struct{ R, S *big.Int }
	must(asn1.Unmarshal(must(ecdsa.SignASN1(rand.Reader, key, digest[:])), &sig))
	clear(r[abi.SignedSize:])
	r.putScalar(abi.SignatureR, sig.R)
	r.putScalar(abi.SignatureS, sig.S)
}

func (r report) putScalar(at int, n *big.Int) {
	b := n.FillBytes(make([]byte, abi.ScalarUsed))
	slices.Reverse(b)
	r.put(at, b)
}
