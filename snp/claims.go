package snp

import (
	"iter"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/refvalues"
	"github.com/teebroker/teebroker/snp/internal/abi"
)

// Claims are the claims of a verified report and of the certificate that
// endorses its signer. Unlike [Report] it owns its memory. It is read-only.
type Claims struct {
	Report      // version, measurement, TCBs as signed
	Line   Line // from CPUID or, for version 2, from the anchor
	Key    KeyKind
	Chip   ChipID // from the VCEK; zero for VLEK
	CSP    string // CSP_ID of the VLEK
}

// ClaimsOf returns the Claims of v, or false if v is not a verified report.
func ClaimsOf(v *evidence.Verified) (*Claims, bool) {
	if v == nil {
		return nil, false
	}
	c, ok := v.Claims.(*Claims)
	return c, ok && c != nil
}

// All implements [evidence.Claims]. It yields the claims of the report and then
// "snp.line", "snp.key" and, as the key has them, "snp.chip" or "snp.csp".
func (c *Claims) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		for name, value := range c.Report.All() {
			if !yield(name, value) {
				return
			}
		}
		_ = yield("snp.line", evidence.Text(c.Line.String())) &&
			yield("snp.key", evidence.Text(c.Key.String())) &&
			(c.Key != VCEK || yield("snp.chip", evidence.Bytes(c.Chip[:]))) &&
			(c.Key != VLEK || yield("snp.csp", evidence.Text(c.CSP)))
	}
}

// All yields the claims of the report under the names that [Claims] uses. Claims
// that the version does not have, and TCBs of no known Line, are left out.
func (r Report) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		for _, group := range [...]func() []claim{r.guestClaims, r.platformClaims, r.tcbClaims} {
			for _, c := range group() {
				if !yield(c.name, c.value) {
					return
				}
			}
		}
	}
}

// claim is one claim under its stable name.
type claim struct {
	name  string
	value evidence.Value
}

func num[T ~uint8 | ~uint32 | ~uint64](name string, n T) claim {
	return claim{name, evidence.Uint(uint64(n))}
}
func octets(name string, b []byte) claim { return claim{name, evidence.Bytes(b)} }

// flags are the claims that bits make, in the order of the bits.
func flags[T ~uint64](prefix string, bits T, names []refvalues.Flag[T]) []claim {
	var cs []claim
	for _, f := range names {
		cs = append(cs, claim{prefix + f.Name, evidence.Bool(bits&f.Bit != 0)})
	}
	return cs
}

func policyFlags() []refvalues.Flag[GuestPolicy] {
	return []refvalues.Flag[GuestPolicy]{
		{Name: "smt", Bit: SMT},
		{Name: "migrate_ma", Bit: MigrateMA},
		{Name: "debug", Bit: Debug},
		{Name: "single_socket", Bit: SingleSocket},
		{Name: "cxl", Bit: CXL},
		{Name: "mem_aes_256_xts", Bit: MemAES256XTS},
		{Name: "rapl_disable", Bit: RAPLDisable},
		{Name: "ciphertext_hiding_dram", Bit: CiphertextHidingDRAM},
		{Name: "page_swap_disable", Bit: PageSwapDisable},
	}
}

func platformFlags() []refvalues.Flag[PlatformInfo] {
	return []refvalues.Flag[PlatformInfo]{
		{Name: "smt_enabled", Bit: SMTEnabled},
		{Name: "tsme_enabled", Bit: TSMEEnabled},
		{Name: "ecc_enabled", Bit: ECCEnabled},
		{Name: "rapl_disabled", Bit: RAPLDisabled},
		{Name: "ciphertext_hiding_dram_enabled", Bit: CiphertextHidingDRAMEnabled},
		{Name: "alias_check_complete", Bit: AliasCheckComplete},
		{Name: "iommu_write_safe", Bit: IOMMUWriteSafe},
		{Name: "tio_enabled", Bit: TIOEnabled},
	}
}

// guestClaims are about the guest, its owner and who asked.
func (r Report) guestClaims() []claim {
	cs := []claim{
		num("snp.version", r.Version()),
		num("snp.guest_svn", r.GuestSVN()),
		num("snp.policy", r.Policy()),
		num("snp.policy.abi_major", r.Policy().ABI().Major),
		num("snp.policy.abi_minor", r.Policy().ABI().Minor),
	}
	cs = append(cs, flags("snp.policy.", r.Policy(), policyFlags())...)
	return append(cs,
		octets("snp.family_id", r.at(abi.FamilyID, 16)),
		octets("snp.image_id", r.at(abi.ImageID, 16)),
		num("snp.vmpl", r.VMPL()),
		octets("snp.report_data", r.at(abi.ReportData, 64)),
		octets("snp.measurement", r.at(abi.Measurement, 48)),
		octets("snp.host_data", r.at(abi.HostData, 32)),
		octets("snp.id_key_digest", r.at(abi.IDKeyDigest, 48)),
		authorKey(r.AuthorKeyDigest()),
		octets("snp.report_id", r.at(abi.ReportID, 32)),
		octets("snp.report_id_ma", r.at(abi.ReportIDMA, 32)),
	)
}

func authorKey(digest [48]byte) claim { return octets("snp.author_key_digest", digest[:]) }

// platformClaims are about the chip and the firmware it runs.
func (r Report) platformClaims() []claim {
	cs := []claim{num("snp.platform", r.Platform())}
	cs = append(cs, flags("snp.platform.", r.Platform(), platformFlags())...)
	if family, model, stepping, ok := r.CPU(); ok {
		cs = append(cs, num("snp.cpu.family", family), num("snp.cpu.model", model), num("snp.cpu.stepping", stepping))
	}
	cs = append(cs,
		octets("snp.chip_id", r.at(abi.ChipID, abi.HwIDSize)),
		claim{"snp.current_version", evidence.Text(r.CurrentVersion().String())},
		claim{"snp.committed_version", evidence.Text(r.CommittedVersion().String())},
	)
	if launch, current, ok := r.Mitigations(); ok {
		cs = append(cs, num("snp.mitigations.launch", launch), num("snp.mitigations.current", current))
	}
	return cs
}

// tcbClaims are the four TCBs, by component.
func (r Report) tcbClaims() []claim {
	var cs []claim
	for _, t := range []struct {
		prefix string
		TCB
	}{
		{"snp.tcb.current.", r.CurrentTCB()},
		{"snp.tcb.reported.", r.ReportedTCB()},
		{"snp.tcb.committed.", r.CommittedTCB()},
		{"snp.tcb.launch.", r.LaunchTCB()},
	} {
		if t.Line == 0 {
			continue
		}
		if t.Line == Turin {
			cs = append(cs, num(t.prefix+"fmc", t.FMC))
		}
		cs = append(cs,
			num(t.prefix+"bootloader", t.Bootloader),
			num(t.prefix+"tee", t.TEE),
			num(t.prefix+"firmware", t.Firmware),
			num(t.prefix+"microcode", t.Microcode),
		)
	}
	return cs
}
