package snp_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

func TestParseGenuineReports(t *testing.T) {
	for _, g := range genuineReports(t) {
		t.Run(g.Name, func(t *testing.T) {
			r, err := snp.ParseReport(g.report(t))
			if err != nil {
				t.Fatal(err)
			}
			launch, current, _ := r.Mitigations()
			for _, c := range []struct{ name, got, want string }{
				{"version", fmt.Sprint(r.Version()), fmt.Sprint(g.ReportVersion)},
				{"policy", fmt.Sprintf("%#x", uint64(r.Policy())), g.Policy},
				{"platform", fmt.Sprintf("%#x", uint64(r.Platform())), g.PlatformInfo},
				{"vmpl", fmt.Sprint(r.VMPL()), fmt.Sprint(g.VMPL)},
				{"signer", r.SigningKey().String(), g.Signer},
				{"firmware", r.CurrentVersion().String(), g.FWCurrent},
				{"mitigations", fmt.Sprintf("%#x/%#x", launch, current), g.Mitigations},
			} {
				if c.got != c.want {
					t.Errorf("%s is %s, want %s", c.name, c.got, c.want)
				}
			}
			if want := (snp.TCB{}); r.Version() == 2 && r.ReportedTCB() != want {
				t.Error("a report of version 2 has a TCB before its line is known")
			}
			if got := r.ReportedTCB(); r.Version() > 2 && (got != tcbOf(t, g) || got.Line.String() != g.Product) {
				t.Errorf("reported TCB %v, want %v of %s", got, tcbOf(t, g), g.Product)
			}
		})
	}
}

// tcbOf decodes the TCB of the manifest, which is the bytes of the report.
func tcbOf(t *testing.T, g genuine) snp.TCB {
	t.Helper()
	b, err := hex.DecodeString(g.ReportedTCB)
	if err != nil || len(b) != 8 {
		t.Fatalf("TCB of %d bytes: %v", len(b), err)
	}
	switch g.Product {
	case "Turin":
		return snp.TCB{Line: snp.Turin, FMC: b[0], Bootloader: b[1], TEE: b[2], Firmware: b[3], Microcode: b[7]}
	case "Genoa":
		return snp.TCB{Line: snp.Genoa, Bootloader: b[0], TEE: b[1], Firmware: b[6], Microcode: b[7]}
	}
	return snp.TCB{Line: snp.Milan, Bootloader: b[0], TEE: b[1], Firmware: b[6], Microcode: b[7]}
}

// wellFormed returns a report of a version that parses: on Milan, at TCB zero.
func wellFormed(version uint32) []byte {
	b := make([]byte, 1184)
	binary.LittleEndian.PutUint32(b[0x000:], version)
	binary.LittleEndian.PutUint64(b[0x008:], 0x30000)
	binary.LittleEndian.PutUint32(b[0x034:], 1)
	if version >= 3 {
		b[0x188], b[0x189], b[0x18A] = 0x19, 0x01, 0x01
	}
	return b
}

func TestParseReportRefuses(t *testing.T) {
	set := func(at int, bs ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], bs); return b }
	}
	for _, c := range []struct {
		claim   string
		version uint32
		edit    func([]byte) []byte
		reason  evidence.Reason
		check   string
		field   string
	}{
		{"nothing", 5, func([]byte) []byte { return nil }, evidence.Malformed, "size", "ATTESTATION_REPORT"},
		{"a byte short", 5, func(b []byte) []byte { return b[:1183] }, evidence.Malformed, "size", "ATTESTATION_REPORT"},
		{"a byte more", 5, func(b []byte) []byte { return append(b, 0) }, evidence.Malformed, "size", "ATTESTATION_REPORT"},
		{"version 0", 0, nil, evidence.Unsupported, "version", "VERSION"},
		{"version 1", 1, nil, evidence.Unsupported, "version", "VERSION"},
		{"version 6", 6, nil, evidence.Unsupported, "version", "VERSION"},
		{"version 0x105", 0x105, nil, evidence.Unsupported, "version", "VERSION"},
		{"Naples", 3, set(0x188, 0x17, 0x01), evidence.Unsupported, "processor", "CPUID_FAM_ID"},
		{"family 19h, a model between Milan and Genoa's", 3, set(0x188, 0x19, 0x20), evidence.Unsupported, "processor", "CPUID_FAM_ID"},
		{"family 19h, a model above Siena's", 3, set(0x188, 0x19, 0xB0), evidence.Unsupported, "processor", "CPUID_FAM_ID"},
		{"family 1Ah, a model above Turin Dense's", 3, set(0x188, 0x1A, 0x12), evidence.Unsupported, "processor", "CPUID_FAM_ID"},
		{"Venice", 5, set(0x188, 0x1A, 0x50), evidence.Unsupported, "processor", "CPUID_FAM_ID"},
		{"reserved after KEY_INFO", 5, set(0x04C, 1), evidence.Malformed, "reserved", "RESERVED_0x4c"},
		{"CPUID in version 2", 2, set(0x188, 0x19), evidence.Malformed, "reserved", "RESERVED_0x188"},
		{"reserved after CPUID", 3, set(0x18B, 1), evidence.Malformed, "reserved", "RESERVED_0x18b"},
		{"mitigations in version 3", 3, set(0x1F8, 1), evidence.Malformed, "reserved", "RESERVED_0x1f8"},
		{"mitigations in version 4", 4, set(0x207, 1), evidence.Malformed, "reserved", "RESERVED_0x1f8"},
		{"an ETCB of version 6", 5, set(0x220, 1), evidence.Malformed, "reserved", "RESERVED_0x208"},
		{"R of more than 384 bits", 5, set(0x2D0, 1), evidence.Malformed, "reserved", "RESERVED_0x2d0"},
		{"S of more than 384 bits", 5, set(0x32F, 1), evidence.Malformed, "reserved", "RESERVED_0x318"},
		{"bytes after the signature", 5, set(0x49F, 1), evidence.Malformed, "reserved", "RESERVED_0x330"},
		{"POLICY without bit 17", 5, set(0x00A, 1), evidence.Malformed, "reserved", "POLICY"},
		{"POLICY bit 26", 5, set(0x00B, 4), evidence.Malformed, "reserved", "POLICY"},
		{"KEY_INFO bit 5", 5, set(0x048, 0x20), evidence.Malformed, "reserved", "KEY_INFO"},
		{"a reserved byte of CURRENT_TCB", 3, set(0x03A, 1), evidence.Malformed, "reserved", "CURRENT_TCB"},
		{"a reserved byte of LAUNCH_TCB", 3, set(0x1F5, 1), evidence.Malformed, "reserved", "LAUNCH_TCB"},
		{"no algorithm", 5, set(0x034, 0), evidence.Unsupported, "enumerations", "SIGNATURE_ALGO"},
		{"another algorithm", 5, set(0x034, 2), evidence.Unsupported, "enumerations", "SIGNATURE_ALGO"},
		{"a reserved SIGNING_KEY", 5, set(0x048, 2<<2), evidence.Malformed, "enumerations", "SIGNING_KEY"},
		{"a report for the host", 5, set(0x030, 0xFF, 0xFF, 0xFF, 0xFF), evidence.Unsupported, "enumerations", "VMPL"},
		{"VMPL 4", 5, set(0x030, 4), evidence.Malformed, "enumerations", "VMPL"},
		{"reported above committed", 2, set(0x180, 1), evidence.Malformed, "tcb-order", "REPORTED_TCB"},
		{"committed above current", 5, set(0x1E7, 1), evidence.Malformed, "tcb-order", "COMMITTED_TCB"},
	} {
		b := wellFormed(c.version)
		if c.edit != nil {
			b = c.edit(b)
		}
		r, err := snp.ParseReport(b)
		var e *evidence.Error
		if !errors.As(err, &e) || e.Reason != c.reason || e.Check != c.check || e.Field != c.field || e.Format != snp.Format {
			t.Errorf("%s: got %#v, want %s of check %s, field %s", c.claim, err, c.reason, c.check, c.field)
		}
		documented(t, c.check, c.reason)
		if r != (snp.Report{}) {
			t.Errorf("%s: a report comes with the error", c.claim)
		}
	}
}

func TestParseReportAccepts(t *testing.T) {
	for version := uint32(2); version <= 5; version++ {
		if _, err := snp.ParseReport(wellFormed(version)); err != nil {
			t.Errorf("version %d: %v", version, err)
		}
	}
	for _, c := range []struct {
		claim         string
		family, model uint8
		want          snp.Line
	}{
		{"Milan", 0x19, 0x00, snp.Milan},
		{"Milan's last", 0x19, 0x0F, snp.Milan},
		{"Genoa", 0x19, 0x10, snp.Genoa},
		{"Genoa's last", 0x19, 0x1F, snp.Genoa},
		{"Bergamo and Siena", 0x19, 0xA0, snp.Genoa},
		{"Bergamo and Siena's last", 0x19, 0xAF, snp.Genoa},
		{"Turin", 0x1A, 0x00, snp.Turin},
		{"Turin Dense", 0x1A, 0x11, snp.Turin},
	} {
		b := wellFormed(5)
		b[0x188], b[0x189] = c.family, c.model
		r, err := snp.ParseReport(b)
		if got := r.CurrentTCB().Line; err != nil || got != c.want {
			t.Errorf("%s: line %v, %v; want %v", c.claim, got, err, c.want)
		}
	}
	for vmpl := range byte(4) {
		b := wellFormed(5)
		b[0x030] = vmpl
		if r, err := snp.ParseReport(b); err != nil || r.VMPL() != uint32(vmpl) {
			t.Errorf("VMPL %d: %v", vmpl, err)
		}
	}
	for i := range 64 {
		b := wellFormed(5)
		b[0x040+i/8] = 1 << (i % 8)
		if _, err := snp.ParseReport(b); err != nil {
			t.Errorf("PLATFORM_INFO bit %d is a matter of policy: %v", i, err)
		}
	}
}

func TestReportFields(t *testing.T) {
	b := wellFormed(5)
	for i, at := range []int{0x004, 0x010, 0x020, 0x050, 0x090, 0x0C0, 0x0E0, 0x110, 0x140, 0x160, 0x1A0} {
		b[at] = byte(i + 1)
	}
	copy(b[0x1E8:], []byte{40, 55, 1, 0, 39, 54, 2})
	b[0x1F8], b[0x200] = 0x0B, 0x3F
	b[0x18A] = 2
	r, err := snp.ParseReport(b)
	if err != nil {
		t.Fatal(err)
	}
	family, model, stepping, _ := r.CPU()
	launch, current, _ := r.Mitigations()
	fid, iid, rd, m, hd, idk := r.FamilyID(), r.ImageID(), r.ReportData(), r.Measurement(), r.HostData(), r.IDKeyDigest()
	rid, ma, chip := r.ReportID(), r.ReportIDMA(), r.ChipID()
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"GUEST_SVN", r.GuestSVN(), uint32(1)},
		{"FAMILY_ID", fid[0], byte(2)},
		{"IMAGE_ID", iid[0], byte(3)},
		{"REPORT_DATA", rd[0], byte(4)},
		{"MEASUREMENT", m[0], byte(5)},
		{"HOST_DATA", hd[0], byte(6)},
		{"ID_KEY_DIGEST", idk[0], byte(7)},
		{"AUTHOR_KEY_DIGEST without AUTHOR_KEY_EN", r.AuthorKeyDigest(), [48]byte{}},
		{"REPORT_ID", rid[0], byte(9)},
		{"REPORT_ID_MA", ma[0], byte(10)},
		{"CHIP_ID", chip[0], byte(11)},
		{"current version", r.CurrentVersion().String(), "1.55.40"},
		{"committed version", r.CommittedVersion().String(), "2.54.39"},
		{"CPU", [3]uint8{family, model, stepping}, [3]uint8{0x19, 0x01, 2}},
		{"mitigations", [2]uint64{launch, current}, [2]uint64{0x0B, 0x3F}},
	} {
		if c.got != c.want {
			t.Errorf("%s is %v, want %v", c.name, c.got, c.want)
		}
	}
	b[0x048] = 1 // AUTHOR_KEY_EN
	if author := r.AuthorKeyDigest(); author[0] != 8 {
		t.Error("AUTHOR_KEY_DIGEST with AUTHOR_KEY_EN")
	}
}

func TestTCBsHaveTheOrderOfTheLine(t *testing.T) {
	for _, c := range []struct {
		family uint8
		raw    []byte
		want   snp.TCB
	}{
		{0x19, []byte{1, 2, 0, 0, 0, 0, 3, 4}, snp.TCB{Line: snp.Milan, Bootloader: 1, TEE: 2, Firmware: 3, Microcode: 4}},
		{0x1A, []byte{1, 2, 3, 4, 0, 0, 0, 5}, snp.TCB{Line: snp.Turin, FMC: 1, Bootloader: 2, TEE: 3, Firmware: 4, Microcode: 5}},
	} {
		b := wellFormed(5)
		b[0x188] = c.family
		for _, at := range []int{0x038, 0x180, 0x1E0, 0x1F0} {
			copy(b[at:], c.raw)
		}
		b[0x03F]++ // CURRENT_TCB: microcode
		b[0x1F7]-- // LAUNCH_TCB: microcode
		r, err := snp.ParseReport(b)
		if err != nil {
			t.Fatal(err)
		}
		current, launch := c.want, c.want
		current.Microcode++
		launch.Microcode--
		if r.ReportedTCB() != c.want || r.CommittedTCB() != c.want || r.CurrentTCB() != current || r.LaunchTCB() != launch {
			t.Errorf("%v: %v %v %v %v", c.want.Line, r.ReportedTCB(), r.CommittedTCB(), r.CurrentTCB(), r.LaunchTCB())
		}
	}
}

func TestZeroReportClaimsZeros(t *testing.T) {
	var r snp.Report
	if _, _, _, ok := r.CPU(); ok {
		t.Error("CPU")
	}
	if _, _, ok := r.Mitigations(); ok {
		t.Error("Mitigations")
	}
	if r.Version() != 0 || r.Policy() != 0 || r.SigningKey() != 0 || r.Measurement() != [48]byte{} || r.ReportedTCB() != (snp.TCB{}) {
		t.Error("not zeros")
	}
	for range (&snp.Claims{Line: snp.Turin}).All() {
		continue
	}
}

func TestReportIsAView(t *testing.T) {
	b := wellFormed(5)
	before := bytes.Clone(b)
	r, err := snp.ParseReport(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, before) {
		t.Error("ParseReport modified its input")
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = snp.ParseReport(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	b[0x090] = 7
	if m := r.Measurement(); m[0] != 7 {
		t.Error("the Report does not share memory with what it was parsed from")
	}
}

func TestTCBAtLeast(t *testing.T) {
	floor := snp.TCB{Line: snp.Turin, FMC: 1, Bootloader: 2, TEE: 3, Firmware: 4, Microcode: 5}
	for _, c := range []struct {
		claim string
		edit  func(*snp.TCB)
		want  bool
	}{
		{"equal", func(*snp.TCB) {}, true},
		{"higher", func(t *snp.TCB) { t.Microcode++ }, true},
		{"lower FMC", func(t *snp.TCB) { t.FMC-- }, false},
		{"lower bootloader", func(t *snp.TCB) { t.Bootloader-- }, false},
		{"lower TEE", func(t *snp.TCB) { t.TEE-- }, false},
		{"lower firmware, higher all else", func(t *snp.TCB) { *t = snp.TCB{snp.Turin, 9, 9, 9, 3, 9} }, false},
		{"lower microcode", func(t *snp.TCB) { t.Microcode-- }, false},
		{"another line", func(t *snp.TCB) { t.Line = snp.Genoa }, false},
		{"no line", func(t *snp.TCB) { t.Line = 0 }, false},
	} {
		tcb := floor
		c.edit(&tcb)
		if got := tcb.AtLeast(floor); got != c.want {
			t.Errorf("%s: %v", c.claim, got)
		}
	}
	if (snp.TCB{}).AtLeast(snp.TCB{}) {
		t.Error("a TCB of no line is at least a floor of none")
	}
}

func FuzzParseReport(f *testing.F) {
	for version := uint32(0); version <= 6; version++ {
		f.Add(wellFormed(version))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := snp.ParseReport(b)
		if err == nil && (len(b) != 1184 || r.Version() < 2 || r.Version() > 5 || r.VMPL() > 3) {
			t.Error("parsed what is no report")
		}
		if err != nil && !errors.Is(err, evidence.Malformed) && !errors.Is(err, evidence.Unsupported) {
			t.Errorf("neither malformed nor unsupported: %v", err)
		}
		for name, value := range r.All() {
			if name == "" || value.IsZero() {
				t.Errorf("claim %q: %v", name, value)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	raw, _ := seed()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := snp.ParseReport(raw); err != nil {
			b.Fatal(err)
		}
	}
}
