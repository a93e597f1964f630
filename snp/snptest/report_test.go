package snptest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"math/big"
	"strings"
	"testing"

	gabi "github.com/google/go-sev-guest/abi"
	pb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/internal/abi"
)

func binding(t testing.TB, b ...byte) evidence.Binding {
	t.Helper()
	data, err := evidence.NewBinding(b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// attestation is what go-sev-guest reads in ev.
func attestation(t *testing.T, ev evidence.Evidence) *pb.Attestation {
	t.Helper()
	a, err := gabi.ReportCertsToProto(append(bytes.Clone(ev.Raw), ev.Items[0].Data...))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Another reader of reports finds every value that was asked for, and no byte
// set that is reserved.
func TestReportIsReadByOthers(t *testing.T) {
	chip := amd.Chip(snp.Genoa)
	chip.Current = snp.TCB{Line: snp.Genoa, Bootloader: 11, TEE: 1, Firmware: 0x1A, Microcode: 0x55}
	chip.Launch = snp.TCB{Line: snp.Genoa, Bootloader: 9, Firmware: 0x17, Microcode: 0x50}
	chip.Committed = snp.TCB{Line: snp.Genoa, Bootloader: 11, Firmware: 0x19, Microcode: 0x54}
	chip.Platform = snp.SMTEnabled | snp.AliasCheckComplete
	chip.LaunchMitigations, chip.CurrentMitigations = 0x3, 0xB
	chip.Model, chip.Stepping = 0xA0, 0x02
	g := Guest{
		Measurement: [48]byte{1, 2}, HostData: [32]byte{3, 4}, VMPL: 2, Policy: snp.SMT | snp.SingleSocket | 1<<17 | 0x137,
		GuestSVN: 0x01020304, FamilyID: [16]byte{5, 6}, ImageID: [16]byte{7, 8}, IDKey: [48]byte{9}, AuthorKey: [48]byte{10},
	}
	for version := range uint32(4) {
		g.Version = version + 2
		id := chip.ID()
		got := attestation(t, chip.Report(g, binding(t, 11, 12))).Report
		data := [64]byte{11, 12}
		want := &pb.Report{
			Version: g.Version, GuestSvn: g.GuestSVN, Policy: uint64(g.Policy), FamilyId: g.FamilyID[:], ImageId: g.ImageID[:],
			Vmpl: g.VMPL, SignatureAlgo: 1, CurrentTcb: 0x551A00000000010B, PlatformInfo: 0x21, SignerInfo: 1,
			ReportData: data[:], Measurement: g.Measurement[:], HostData: g.HostData[:], IdKeyDigest: g.IDKey[:], AuthorKeyDigest: g.AuthorKey[:],
			ReportId: got.ReportId, ReportIdMa: bytes.Repeat([]byte{0xFF}, 32), ReportedTcb: 0x541900000000000A, ChipId: id[:],
			CommittedTcb: 0x541900000000000B, CurrentBuild: 43, CurrentMinor: 55, CurrentMajor: 1, CommittedBuild: 43, CommittedMinor: 55, CommittedMajor: 1,
			LaunchTcb: 0x5017000000000009, Signature: got.Signature,
		}
		if g.Version >= 3 {
			want.Cpuid1EaxFms = gabi.FmsToCpuid1Eax(0x19, 0xA0, 0x02)
		}
		if g.Version >= 5 {
			want.LaunchMitVector, want.CurrentMitVector = 0x3, 0xB
		}
		if got.String() != want.String() {
			t.Errorf("version %d:\n%v\nwant\n%v", g.Version, got, want)
		}
		if bytes.Equal(got.ReportId, make([]byte, 32)) {
			t.Error("no report id")
		}
	}
}

// Turin has TCB_VERSION in another order, and 8 bytes of CHIP_ID.
func TestTurinReport(t *testing.T) {
	chip := amd.Chip(snp.Turin)
	got := attestation(t, chip.Report(Guest{}, binding(t, 1))).Report
	if got.ReportedTcb != 0x5100000004010101 {
		t.Errorf("TCB %#x", got.ReportedTcb)
	}
	id := chip.ID()
	if !bytes.Equal(got.ChipId, id[:]) || bytes.Equal(id[:8], make([]byte, 8)) || !bytes.Equal(id[8:], make([]byte, 56)) {
		t.Errorf("CHIP_ID %x", got.ChipId)
	}
}

// The zero Guest is the happy path.
func TestZeroGuest(t *testing.T) {
	got := attestation(t, amd.Chip(snp.Milan).Report(Guest{}, evidence.Binding{})).Report
	if got.Version != 5 || got.Policy != 0x30000 || got.Vmpl != 0 || got.SignerInfo != 0 || !bytes.Equal(got.ReportData, make([]byte, 64)) {
		t.Errorf("%v", got)
	}
}

// go-sev-guest verifies what we make of the Lines it knows how to read, with
// the CRL of the Source.
func TestGoSevGuestAccepts(t *testing.T) {
	for _, line := range []snp.Line{snp.Milan, snp.Genoa} {
		chip := amd.Chip(line)
		for version := uint32(2); version <= 5; version++ {
			for _, kind := range []snp.KeyKind{snp.VCEK, snp.VLEK} {
				if version == 2 && line == snp.Genoa && kind == snp.VCEK {
					continue // it asks for a stepping in productName, which AMD's have not
				}
				ev := chip.Report(Guest{Version: version, Key: kind}, binding(t, 1))
				if err := goSevGuest(t, ev, line); err != nil {
					t.Errorf("%v version %d key %d: %v", line, version, kind, err)
				}
				ev.Raw[abi.ReportData] ^= 1
				if err := goSevGuest(t, ev, line); err == nil {
					t.Errorf("%v version %d key %d: accepted with a bit flipped", line, version, kind)
				}
			}
		}
	}
}

func goSevGuest(t *testing.T, ev evidence.Evidence, line snp.Line) error {
	t.Helper()
	anchors := amd.Anchors(line)[0]
	return verify.SnpAttestation(attestation(t, ev), &verify.Options{
		CheckRevocations:    true,
		DisableCertFetching: true,
		Getter:              getter{t},
		Now:                 clock,
		TrustedRoots: map[string][]*trust.AMDRootCerts{line.String(): {{
			ProductLine:  line.String(),
			ProductCerts: &trust.ProductCerts{Ark: parse(t, anchors.ARK), Ask: parse(t, anchors.ASK), Asvk: parse(t, anchors.ASVK)},
		}}},
	})
}

// getter is AMD's server for go-sev-guest.
type getter struct{ t *testing.T }

func (g getter) Get(url string) ([]byte, error) {
	name, ok := strings.CutPrefix(url, "https://kdsintf.amd.com")
	if !ok {
		return nil, errors.New("not AMD's server")
	}
	got, err := amd.Source().Get(g.t.Context(), name)
	if err != nil {
		return nil, err
	}
	return got[0].Data, nil
}

func TestEditAndFault(t *testing.T) {
	chip := amd.Chip(snp.Milan)
	ev := chip.Report(Guest{Edit: func(r []byte) { r[abi.KeyInfo+4] = 1 }}, binding(t, 1))
	if ev.Raw[abi.KeyInfo+4] != 1 || !signs(chip.Key(), ev.Raw) {
		t.Error("Edit is not signed")
	}
	ev = chip.Report(Guest{Edit: func(r []byte) {
		for i := range r[abi.SignedSize:] {
			r[abi.SignedSize+i] = 0xFF
		}
	}}, binding(t, 1))
	if _, err := snp.ParseReport(ev.Raw); err != nil {
		t.Errorf("Edit reaches into the signature: %v", err)
	}
	ev = chip.Report(Guest{Fault: func(r []byte) []byte { return append(r, 0) }}, binding(t, 1))
	if len(ev.Raw) != abi.ReportSize+1 || !signs(chip.Key(), ev.Raw) {
		t.Error("Fault is not what is returned")
	}
	ev = chip.Report(Guest{Version: 6}, binding(t, 1))
	if binary.LittleEndian.Uint32(ev.Raw) != 6 || !signs(chip.Key(), ev.Raw) {
		t.Error("no version 6")
	}
}

func TestMasks(t *testing.T) {
	chip := amd.Chip(snp.Milan)
	chip.MaskChipID = true
	if ev := chip.Report(Guest{}, binding(t, 1)); !bytes.Equal(ev.Raw[abi.ChipID:abi.CommittedTCB], make([]byte, 64)) || !signs(chip.Key(), ev.Raw) {
		t.Error("CHIP_ID is not masked")
	}
	chip = amd.Chip(snp.Milan)
	chip.MaskChipKey = true
	if ev := chip.Report(Guest{}, binding(t, 1)); ev.Raw[abi.KeyInfo] != abi.KeyInfoMaskChipKey || !bytes.Equal(ev.Raw[abi.SignedSize:], make([]byte, abi.SignatureSize)) {
		t.Error("there is a signature")
	}
	if ev := amd.Chip(snp.Milan).Report(Guest{Key: snp.VLEK}, binding(t, 1)); !bytes.Equal(ev.Raw[abi.ChipID:abi.CommittedTCB], make([]byte, 64)) {
		t.Error("CHIP_ID beside a VLEK")
	}
}

// signs reports whether the signature of report is by key.
func signs(key *ecdsa.PublicKey, report []byte) bool {
	digest := sha512.Sum384(report[:abi.SignedSize])
	return ecdsa.Verify(key, digest[:], scalar(report[abi.SignatureR:]), scalar(report[abi.SignatureS:]))
}

func scalar(b []byte) *big.Int { return gabi.AmdBigInt(b[:abi.ScalarSize]) }

// A key of another TCB, CSP, kind or chip is another key; the same is the same.
func TestKeys(t *testing.T) {
	chip := amd.Chip(snp.Genoa)
	seen := map[string]string{}
	key := func(name string, c *Chip, kind snp.KeyKind) {
		t.Helper()
		cert := parse(t, c.Entries(kind)[0].Data)
		pub := string(cert.RawSubjectPublicKeyInfo)
		if other, ok := seen[pub]; ok {
			t.Errorf("%s has the key of %s", name, other)
		}
		seen[pub] = name
	}
	key("VCEK", chip, snp.VCEK)
	key("VLEK", chip, snp.VLEK)
	key("another chip", amd.Chip(snp.Genoa), snp.VCEK)
	first := chip.Key()
	chip.CSP = "CN=other"
	key("VLEK of another CSP", chip, snp.VLEK)
	chip.Reported.Microcode++
	key("VCEK of another TCB", chip, snp.VCEK)
	chip.Reported.Microcode--
	if !first.Equal(chip.Key()) {
		t.Error("the same TCB has another key")
	}
}

func TestFloors(t *testing.T) {
	chip := amd.Chip(snp.Turin)
	chip.Launch.Firmware--
	f, f2 := chip.Floor(), chip.V2Floor()
	if f.Family != 0x1A || f.MinModel != 0x02 || f.MaxModel != 0x02 || !f.Steppings.Has(1) || f.Steppings.Has(2) {
		t.Errorf("%+v", f)
	}
	want := snp.Minimum{Reported: chip.Reported, Committed: chip.Committed, Launch: chip.Launch}
	if f.Minimum != want || f2.Minimum != want || f2.Line != snp.Turin {
		t.Errorf("%+v, %+v", f, f2)
	}
}

func TestCertTable(t *testing.T) {
	chip := amd.Chip(snp.Milan)
	table := new(gabi.CertTable)
	if err := table.Unmarshal(chip.Certificates()); err != nil {
		t.Fatal(err)
	}
	for i, guid := range []string{gabi.VcekGUID, gabi.AskGUID, gabi.ArkGUID} {
		got, err := table.GetByGUIDString(guid)
		if err != nil || !bytes.Equal(got, chip.Entries(snp.VCEK)[i].Data) {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	if _, err := x509.ParseCertificate(chip.Entries(snp.VLEK)[0].Data); err != nil {
		t.Error(err)
	}
	if e := chip.Entries(snp.VCEK)[0].PEM(); !bytes.HasPrefix(e.Data, []byte("-----BEGIN CERTIFICATE-----")) {
		t.Error("not PEM")
	}
	if empty := CertTable(); !bytes.Equal(empty, make([]byte, 24)) {
		t.Errorf("%x", empty)
	}
}
