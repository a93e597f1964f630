package abi

import (
	"encoding/hex"
	"testing"
)

// The offsets printed in AMD 56860, table ATTESTATION_REPORT.
func TestReportOffsets(t *testing.T) {
	fields := []struct {
		name      string
		got, want int
		size      int // with the reserved bytes that follow
	}{
		{"VERSION", Version, 0x000, 4},
		{"GUEST_SVN", GuestSVN, 0x004, 4},
		{"POLICY", Policy, 0x008, 8},
		{"FAMILY_ID", FamilyID, 0x010, 16},
		{"IMAGE_ID", ImageID, 0x020, 16},
		{"VMPL", VMPL, 0x030, 4},
		{"SIGNATURE_ALGO", SignatureAlgo, 0x034, 4},
		{"CURRENT_TCB", CurrentTCB, 0x038, 8},
		{"PLATFORM_INFO", PlatformInfo, 0x040, 8},
		{"KEY_INFO", KeyInfo, 0x048, 4 + 4},
		{"REPORT_DATA", ReportData, 0x050, 64},
		{"MEASUREMENT", Measurement, 0x090, 48},
		{"HOST_DATA", HostData, 0x0C0, 32},
		{"ID_KEY_DIGEST", IDKeyDigest, 0x0E0, 48},
		{"AUTHOR_KEY_DIGEST", AuthorKeyDigest, 0x110, 48},
		{"REPORT_ID", ReportID, 0x140, 32},
		{"REPORT_ID_MA", ReportIDMA, 0x160, 32},
		{"REPORTED_TCB", ReportedTCB, 0x180, 8},
		{"CPUID_FAM_ID", CPUFamily, 0x188, 1},
		{"CPUID_MOD_ID", CPUModel, 0x189, 1},
		{"CPUID_STEP", CPUStepping, 0x18A, 1 + 21},
		{"CHIP_ID", ChipID, 0x1A0, 64},
		{"COMMITTED_TCB", CommittedTCB, 0x1E0, 8},
		{"CURRENT_BUILD", CurrentBuild, 0x1E8, 1},
		{"CURRENT_MINOR", CurrentMinor, 0x1E9, 1},
		{"CURRENT_MAJOR", CurrentMajor, 0x1EA, 1 + 1},
		{"COMMITTED_BUILD", CommittedBuild, 0x1EC, 1},
		{"COMMITTED_MINOR", CommittedMinor, 0x1ED, 1},
		{"COMMITTED_MAJOR", CommittedMajor, 0x1EE, 1 + 1},
		{"LAUNCH_TCB", LaunchTCB, 0x1F0, 8},
		{"LAUNCH_MIT_VECTOR", LaunchMitigations, 0x1F8, 8},
		{"CURRENT_MIT_VECTOR", CurrentMitigations, 0x200, 8 + 152},
		{"R", SignatureR, 0x2A0, 72},
		{"S", SignatureS, 0x2E8, 72 + 368},
		{"end", ReportSize, 0x4A0, 0},
	}
	for i, f := range fields {
		if f.got != f.want {
			t.Errorf("%s at %#x, want %#x", f.name, f.got, f.want)
		}
		if i > 0 && fields[i-1].want+fields[i-1].size != f.want {
			t.Errorf("%s does not follow %s", f.name, fields[i-1].name)
		}
	}
	if SignedSize != 0x2A0 || SignatureSize != 512 || ReportSize != 1184 {
		t.Error("sizes")
	}
}

func TestReserved(t *testing.T) {
	common := []Range{{0x04C, 0x050}, {0x1EB, 0x1EC}, {0x1EF, 0x1F0}, {0x2D0, 0x2E8}, {0x318, 0x330}, {0x330, 0x4A0}}
	for version, own := range map[uint32][]Range{
		2: {{0x188, 0x1A0}, {0x1F8, 0x2A0}},
		3: {{0x18B, 0x1A0}, {0x1F8, 0x2A0}},
		4: {{0x18B, 0x1A0}, {0x1F8, 0x2A0}},
		5: {{0x18B, 0x1A0}, {0x208, 0x2A0}},
	} {
		var want, got [ReportSize]bool
		mark := func(in *[ReportSize]bool, rs []Range) {
			for _, r := range rs {
				for i := r.From; i < r.To; i++ {
					in[i] = true
				}
			}
		}
		mark(&want, append(own, common...))
		rs := Reserved(version)
		mark(&got, rs[:])
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("version %d, byte %#x: reserved %v, want %v", version, i, got[i], want[i])
			}
		}
	}
}

func TestTCBOrders(t *testing.T) {
	all := TCB{FMC: 1, Bootloader: 2, TEE: 3, Firmware: 4, Microcode: 5}
	for _, c := range []struct {
		order Order
		tcb   TCB
		want  string
	}{
		{OrderMilan, TCB{Bootloader: 2, TEE: 3, Firmware: 4, Microcode: 5}, "0203000000000405"},
		{OrderTurin, all, "0102030400000005"},
	} {
		b := c.order.Pack(all)
		if got := hex.EncodeToString(b[:]); got != c.want {
			t.Errorf("order %d packs to %s, want %s", c.order, got, c.want)
		}
		if got, ok := c.order.Unpack(b); !ok || got != c.tcb {
			t.Errorf("order %d unpacks to %v %v, want %v", c.order, got, ok, c.tcb)
		}
	}
	for order, reserved := range map[Order][]int{OrderMilan: {2, 3, 4, 5}, OrderTurin: {4, 5, 6}} {
		for _, i := range reserved {
			var b [8]byte
			b[i] = 1
			if _, ok := order.Unpack(b); ok {
				t.Errorf("order %d: reserved byte %d is taken", order, i)
			}
		}
	}
	if _, ok := Order(0).Unpack([8]byte{}); ok {
		t.Error("the zero Order unpacks")
	}
}

func TestGUIDs(t *testing.T) {
	for want, got := range map[string]string{
		"63da758de6644564adc5f4b93be8accd": GUIDVCEK,
		"a8074bc2a25a483eaae639c045a0b8a1": GUIDVLEK,
		"4ab7b379bbac4fe4a02f05aef327c782": GUIDASK,
		"c0b406a4a803495297433fb6014cd0ae": GUIDARK,
		"92f81bc358114d3d97ffd19f88dc67ea": GUIDCRL,
	} {
		if hex.EncodeToString([]byte(got)) != want {
			t.Errorf("got %x, want %s", got, want)
		}
	}
}
