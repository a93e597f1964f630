package snp

import (
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/refvalues"
	"github.com/teebroker/teebroker/snp/internal/abi"
)

// Appraise implements policy.Rule. Mismatches bear the names of [Claims.All].
// Where bits are not acceptable and have no name, the mismatch is with the whole
// field, and what is wanted is the field with those bits changed.
func (rv ReferenceValues) Appraise(v *evidence.Verified) []evidence.Mismatch {
	c, ok := ClaimsOf(v)
	if !ok || v.Format != Format {
		return []evidence.Mismatch{{Claim: "format", Got: formatOf(v), Op: evidence.Equal, Want: evidence.Text(string(Format))}}
	}
	var ms refvalues.Mismatches
	rv.appraiseGuest(c, &ms)
	rv.appraiseSigner(c, &ms)
	rv.appraisePolicy(c, &ms)
	rv.appraisePlatform(c, &ms)
	rv.appraiseTCB(c, &ms)
	return ms
}

func formatOf(v *evidence.Verified) evidence.Value {
	if v == nil {
		return evidence.Value{}
	}
	return evidence.Text(string(v.Format))
}

// appraiseGuest judges what runs in the guest and who says so.
func (rv *ReferenceValues) appraiseGuest(c *Claims, ms *refvalues.Mismatches) {
	refvalues.Among(ms, "snp.measurement", c.Measurement(), rv.Measurements, refvalues.FixedValue)
	refvalues.Among(ms, "snp.vmpl", c.VMPL(), rv.VMPLs, refvalues.NumberValue)
	refvalues.Among(ms, "snp.host_data", c.HostData(), rv.HostData, refvalues.FixedValue)
	refvalues.Among(ms, "snp.id_key_digest", c.IDKeyDigest(), rv.IDKeys, refvalues.FixedValue)
	refvalues.Among(ms, "snp.author_key_digest", c.AuthorKeyDigest(), rv.AuthorKeys, refvalues.FixedValue)
	refvalues.Among(ms, "snp.family_id", c.FamilyID(), rv.FamilyIDs, refvalues.FixedValue)
	refvalues.Among(ms, "snp.image_id", c.ImageID(), rv.ImageIDs, refvalues.FixedValue)
	if svn := c.GuestSVN(); svn < rv.MinGuestSVN {
		ms.Add("snp.guest_svn", evidence.Uint(uint64(svn)), evidence.AtLeast, evidence.Uint(uint64(rv.MinGuestSVN)))
	}
}

// appraiseSigner judges who vouches for the report.
func (rv *ReferenceValues) appraiseSigner(c *Claims, ms *refvalues.Mismatches) {
	if c.Line == 0 || !rv.Lines.Has(c.Line) {
		ms.Add("snp.line", refvalues.NameValue(c.Line), evidence.In, refvalues.Values(rv.Lines.Values(), refvalues.NameValue))
	}
	if c.Key == 0 || !rv.Keys.Has(c.Key) {
		ms.Add("snp.key", refvalues.NameValue(c.Key), evidence.In, refvalues.Values(rv.Keys.Values(), refvalues.NameValue))
	}
	if c.Key != VCEK {
		refvalues.Among(ms, "snp.csp", c.CSP, rv.CSPs, evidence.Text)
	}
	rv.appraiseChip(c.Chip, ms)
}

func (rv *ReferenceValues) appraiseChip(chip ChipID, ms *refvalues.Mismatches) {
	known := chip != ChipID{}
	got := func() evidence.Value {
		if !known {
			return evidence.Value{}
		}
		return refvalues.FixedValue(chip)
	}
	if !rv.Chips.Has(chip) || !known && !rv.Chips.IsAnything() {
		ms.Add("snp.chip", got(), evidence.In, refvalues.Values(rv.Chips.Values(), refvalues.FixedValue))
	}
	if len(rv.DenyChips) > 0 && (!known || slices.Contains(rv.DenyChips, chip)) {
		ms.Add("snp.chip", got(), evidence.NotIn, refvalues.Values(rv.DenyChips, refvalues.FixedValue))
	}
}

// appraisePolicy judges what the guest lets the host do and asks of it.
func (rv *ReferenceValues) appraisePolicy(c *Claims, ms *refvalues.Mismatches) {
	p := c.Policy()
	refused := p &^ rv.allowedPolicy()
	missing := rv.RequirePolicy &^ p
	refvalues.Flip(ms, "snp.policy", p, refused|missing, policyFlags)

	switch got, want := p.ABI(), rv.MinABI; {
	case got.Major < want.Major:
		ms.Add("snp.policy.abi_major", evidence.Uint(uint64(got.Major)), evidence.AtLeast, evidence.Uint(uint64(want.Major)))
	case got.Major == want.Major && got.Minor < want.Minor:
		ms.Add("snp.policy.abi_minor", evidence.Uint(uint64(got.Minor)), evidence.AtLeast, evidence.Uint(uint64(want.Minor)))
	}
}

// allowedPolicy returns the bits of POLICY that may be set.
func (rv *ReferenceValues) allowedPolicy() GuestPolicy {
	allowed := GuestPolicy(abi.PolicyKnown)
	for _, permission := range [...]struct {
		bit     GuestPolicy
		allowed bool
	}{
		{Debug, rv.AllowDebug},
		{MigrateMA, rv.AllowMigration},
		{CXL, rv.AllowCXL},
		{SMT, rv.AllowSMT},
	} {
		if !permission.allowed {
			allowed &^= permission.bit
		}
	}
	return allowed
}

// appraisePlatform judges how the platform is set up.
func (rv *ReferenceValues) appraisePlatform(c *Claims, ms *refvalues.Mismatches) {
	p := c.Platform()
	unknown := p &^ (KnownPlatformInfo | rv.AllowPlatform)
	missing := rv.RequirePlatform &^ p
	denied := p & rv.DenyPlatform
	refvalues.Flip(ms, "snp.platform", p, unknown|missing|denied, platformFlags)

	launch, current, ok := c.Mitigations()
	mitigated(ms, "snp.mitigations.launch", launch, ok, rv.MinLaunchMitigations)
	mitigated(ms, "snp.mitigations.current", current, ok, rv.MinCurrentMitigations)
}

// mitigated asks for all bits of least. A report without a vector has none.
func mitigated(ms *refvalues.Mismatches, claim string, vector uint64, ok bool, least uint64) {
	if least&^vector == 0 {
		return
	}
	var got evidence.Value
	if ok {
		got = evidence.Uint(vector)
	}
	ms.Add(claim, got, evidence.Equal, evidence.Uint(vector|least))
}

// appraiseTCB judges the security versions.
func (rv *ReferenceValues) appraiseTCB(c *Claims, ms *refvalues.Mismatches) {
	if _, _, _, ok := c.CPU(); ok {
		rv.appraiseFloors(c, ms)
	} else {
		rv.appraiseV2Floors(c, ms)
	}
	if rv.RequireCommitted {
		compareTCB(ms, "snp.tcb.current.", c.CurrentTCB(), evidence.Equal, c.CommittedTCB())
	}
}

func (rv *ReferenceValues) appraiseFloors(c *Claims, ms *refvalues.Mismatches) {
	family, model, stepping, _ := c.CPU()
	named := false
	for f := range rv.floors {
		if f.Family == family && f.hasModel(model) && f.Steppings.Has(stepping) {
			named = true
			minimum(ms, c, f.Minimum)
		}
	}
	if !named && !rv.AllowAnyTCB {
		rv.noFloor(ms, family, model, stepping)
	}
}

func (f Floor) hasModel(model uint8) bool { return f.MinModel <= model && model <= f.MaxModel }

// noFloor reports the widest of family, model and stepping that no Floor names.
func (rv *ReferenceValues) noFloor(ms *refvalues.Mismatches, family, model, stepping uint8) {
	var families, models, steppings []evidence.Value
	modelNamed := false
	for f := range rv.floors {
		families = append(families, refvalues.NumberValue(f.Family))
		if f.Family != family {
			continue
		}
		models = append(models, evidence.Text(fmt.Sprintf("%d-%d", f.MinModel, f.MaxModel)))
		if f.hasModel(model) {
			modelNamed = true
			for _, s := range f.Steppings.Values() {
				steppings = append(steppings, refvalues.NumberValue(s))
			}
		}
	}
	switch {
	case modelNamed:
		ms.Add("snp.cpu.stepping", refvalues.NumberValue(stepping), evidence.In, evidence.List(steppings...))
	case len(models) > 0:
		ms.Add("snp.cpu.model", refvalues.NumberValue(model), evidence.In, evidence.List(models...))
	default:
		ms.Add("snp.cpu.family", refvalues.NumberValue(family), evidence.In, evidence.List(families...))
	}
}

func (rv *ReferenceValues) appraiseV2Floors(c *Claims, ms *refvalues.Mismatches) {
	if version := c.Version(); version != 2 {
		ms.Add("snp.version", refvalues.NumberValue(version), evidence.AtLeast, evidence.Uint(2))
		return
	}
	var lines []Line
	named := false
	for _, f := range rv.V2Floors {
		lines = append(lines, f.Line)
		if f.Line == c.Line {
			named = true
			minimum(ms, c, f.Minimum)
		}
	}
	switch {
	case named || rv.AllowAnyV2TCB:
	case lines == nil:
		ms.Add("snp.version", evidence.Uint(2), evidence.AtLeast, evidence.Uint(3))
	default:
		ms.Add("snp.line", refvalues.NameValue(c.Line), evidence.In, refvalues.Values(lines, refvalues.NameValue))
	}
}

// minimum asks for the TCBs of m or higher ones.
func minimum(ms *refvalues.Mismatches, c *Claims, m Minimum) {
	compareTCB(ms, "snp.tcb.reported.", c.ReportedTCB(), evidence.AtLeast, m.Reported)
	compareTCB(ms, "snp.tcb.committed.", c.CommittedTCB(), evidence.AtLeast, m.Committed)
	compareTCB(ms, "snp.tcb.launch.", c.LaunchTCB(), evidence.AtLeast, m.Launch)
}

// compareTCB asks that every component of got is at least, or equal to, that of want.
// TCBs of different Lines, or of none, are neither.
func compareTCB(ms *refvalues.Mismatches, prefix string, got TCB, op evidence.Op, want TCB) {
	if got.Line == 0 || got.Line != want.Line {
		ms.Add("snp.line", refvalues.NameValue(got.Line), evidence.Equal, refvalues.NameValue(want.Line))
		return
	}
	for _, part := range [...]struct {
		name      string
		got, want uint8
	}{
		{"fmc", got.FMC, want.FMC},
		{"bootloader", got.Bootloader, want.Bootloader},
		{"tee", got.TEE, want.TEE},
		{"firmware", got.Firmware, want.Firmware},
		{"microcode", got.Microcode, want.Microcode},
	} {
		if part.got < part.want || op == evidence.Equal && part.got != part.want {
			ms.Add(prefix+part.name, refvalues.NumberValue(part.got), op, refvalues.NumberValue(part.want))
		}
	}
}
