package snp

import (
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/evidence"
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
	var ms mismatches
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
func (rv *ReferenceValues) appraiseGuest(c *Claims, ms *mismatches) {
	among(ms, "snp.measurement", c.Measurement(), rv.Measurements, digestValue)
	among(ms, "snp.vmpl", c.VMPL(), rv.VMPLs, numberValue)
	among(ms, "snp.host_data", c.HostData(), rv.HostData, digestValue)
	among(ms, "snp.id_key_digest", c.IDKeyDigest(), rv.IDKeys, digestValue)
	among(ms, "snp.author_key_digest", c.AuthorKeyDigest(), rv.AuthorKeys, digestValue)
	among(ms, "snp.family_id", c.FamilyID(), rv.FamilyIDs, digestValue)
	among(ms, "snp.image_id", c.ImageID(), rv.ImageIDs, digestValue)
	if svn := c.GuestSVN(); svn < rv.MinGuestSVN {
		ms.add("snp.guest_svn", evidence.Uint(uint64(svn)), evidence.AtLeast, evidence.Uint(uint64(rv.MinGuestSVN)))
	}
}

// appraiseSigner judges who vouches for the report.
func (rv *ReferenceValues) appraiseSigner(c *Claims, ms *mismatches) {
	if c.Line == 0 || !rv.Lines.Has(c.Line) {
		ms.add("snp.line", nameValue(c.Line), evidence.In, list(rv.Lines.Values(), nameValue))
	}
	if c.Key == 0 || !rv.Keys.Has(c.Key) {
		ms.add("snp.key", nameValue(c.Key), evidence.In, list(rv.Keys.Values(), nameValue))
	}
	if c.Key != VCEK {
		among(ms, "snp.csp", c.CSP, rv.CSPs, evidence.Text)
	}
	rv.appraiseChip(c.Chip, ms)
}

func (rv *ReferenceValues) appraiseChip(chip ChipID, ms *mismatches) {
	known := chip != ChipID{}
	got := func() evidence.Value {
		if !known {
			return evidence.Value{}
		}
		return digestValue(chip)
	}
	if !rv.Chips.Has(chip) || !known && !rv.Chips.IsAnything() {
		ms.add("snp.chip", got(), evidence.In, list(rv.Chips.Values(), digestValue))
	}
	if len(rv.DenyChips) > 0 && (!known || slices.Contains(rv.DenyChips, chip)) {
		ms.add("snp.chip", got(), evidence.NotIn, list(rv.DenyChips, digestValue))
	}
}

// appraisePolicy judges what the guest lets the host do and asks of it.
func (rv *ReferenceValues) appraisePolicy(c *Claims, ms *mismatches) {
	p := c.Policy()
	refused := p &^ rv.allowedPolicy()
	missing := rv.RequirePolicy &^ p
	flip(ms, "snp.policy", p, refused|missing, policyFlags)

	switch got, want := p.ABI(), rv.MinABI; {
	case got.Major < want.Major:
		ms.add("snp.policy.abi_major", evidence.Uint(uint64(got.Major)), evidence.AtLeast, evidence.Uint(uint64(want.Major)))
	case got.Major == want.Major && got.Minor < want.Minor:
		ms.add("snp.policy.abi_minor", evidence.Uint(uint64(got.Minor)), evidence.AtLeast, evidence.Uint(uint64(want.Minor)))
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
func (rv *ReferenceValues) appraisePlatform(c *Claims, ms *mismatches) {
	p := c.Platform()
	unknown := p &^ (KnownPlatformInfo | rv.AllowPlatform)
	missing := rv.RequirePlatform &^ p
	denied := p & rv.DenyPlatform
	flip(ms, "snp.platform", p, unknown|missing|denied, platformFlags)

	launch, current, ok := c.Mitigations()
	mitigated(ms, "snp.mitigations.launch", launch, ok, rv.MinLaunchMitigations)
	mitigated(ms, "snp.mitigations.current", current, ok, rv.MinCurrentMitigations)
}

// mitigated asks for all bits of least. A report without a vector has none.
func mitigated(ms *mismatches, claim string, vector uint64, ok bool, least uint64) {
	if least&^vector == 0 {
		return
	}
	var got evidence.Value
	if ok {
		got = evidence.Uint(vector)
	}
	ms.add(claim, got, evidence.Equal, evidence.Uint(vector|least))
}

// appraiseTCB judges the security versions.
func (rv *ReferenceValues) appraiseTCB(c *Claims, ms *mismatches) {
	if _, _, _, ok := c.CPU(); ok {
		rv.appraiseFloors(c, ms)
	} else {
		rv.appraiseV2Floors(c, ms)
	}
	if rv.RequireCommitted {
		ms.tcb("snp.tcb.current.", c.CurrentTCB(), evidence.Equal, c.CommittedTCB())
	}
}

func (rv *ReferenceValues) appraiseFloors(c *Claims, ms *mismatches) {
	family, model, stepping, _ := c.CPU()
	named := false
	for _, f := range rv.Floors {
		if f.Family == family && f.hasModel(model) && f.Steppings.Has(stepping) {
			named = true
			ms.minimum(c, f.Minimum)
		}
	}
	if !named && !rv.AllowAnyTCB {
		rv.noFloor(ms, family, model, stepping)
	}
}

func (f Floor) hasModel(model uint8) bool { return f.MinModel <= model && model <= f.MaxModel }

// noFloor reports the widest of family, model and stepping that no Floor names.
func (rv *ReferenceValues) noFloor(ms *mismatches, family, model, stepping uint8) {
	var families, models, steppings []evidence.Value
	modelNamed := false
	for _, f := range rv.Floors {
		families = append(families, numberValue(f.Family))
		if f.Family != family {
			continue
		}
		models = append(models, evidence.Text(fmt.Sprintf("%d-%d", f.MinModel, f.MaxModel)))
		if f.hasModel(model) {
			modelNamed = true
			for _, s := range f.Steppings.Values() {
				steppings = append(steppings, numberValue(s))
			}
		}
	}
	switch {
	case modelNamed:
		ms.add("snp.cpu.stepping", numberValue(stepping), evidence.In, evidence.List(steppings...))
	case len(models) > 0:
		ms.add("snp.cpu.model", numberValue(model), evidence.In, evidence.List(models...))
	default:
		ms.add("snp.cpu.family", numberValue(family), evidence.In, evidence.List(families...))
	}
}

func (rv *ReferenceValues) appraiseV2Floors(c *Claims, ms *mismatches) {
	if version := c.Version(); version != 2 {
		ms.add("snp.version", numberValue(version), evidence.AtLeast, evidence.Uint(2))
		return
	}
	var lines []Line
	named := false
	for _, f := range rv.V2Floors {
		lines = append(lines, f.Line)
		if f.Line == c.Line {
			named = true
			ms.minimum(c, f.Minimum)
		}
	}
	switch {
	case named || rv.AllowAnyV2TCB:
	case lines == nil:
		ms.add("snp.version", evidence.Uint(2), evidence.AtLeast, evidence.Uint(3))
	default:
		ms.add("snp.line", nameValue(c.Line), evidence.In, list(lines, nameValue))
	}
}

// mismatches collects what an appraisal finds.
type mismatches []evidence.Mismatch

func (ms *mismatches) add(claim string, got evidence.Value, op evidence.Op, want evidence.Value) {
	*ms = append(*ms, evidence.Mismatch{Claim: claim, Got: got, Op: op, Want: want})
}

// among asks for one of a Set.
func among[T comparable](ms *mismatches, claim string, got T, set evidence.Set[T], value func(T) evidence.Value) {
	if !set.Has(got) {
		ms.add(claim, value(got), evidence.In, list(set.Values(), value))
	}
}

// flip reports the bits of wrong, which should be the other way round in bits.
func flip[T ~uint64](ms *mismatches, claim string, bits, wrong T, flags func() []flag[T]) {
	if wrong == 0 {
		return
	}
	for _, f := range flags() {
		if wrong&f.bit != 0 {
			set := bits&f.bit != 0
			ms.add(claim+"."+f.name, evidence.Bool(set), evidence.Equal, evidence.Bool(!set))
			wrong &^= f.bit
		}
	}
	if wrong != 0 {
		ms.add(claim, evidence.Uint(uint64(bits)), evidence.Equal, evidence.Uint(uint64(bits^wrong)))
	}
}

// minimum asks for the TCBs of m or higher ones.
func (ms *mismatches) minimum(c *Claims, m Minimum) {
	ms.tcb("snp.tcb.reported.", c.ReportedTCB(), evidence.AtLeast, m.Reported)
	ms.tcb("snp.tcb.committed.", c.CommittedTCB(), evidence.AtLeast, m.Committed)
	ms.tcb("snp.tcb.launch.", c.LaunchTCB(), evidence.AtLeast, m.Launch)
}

// tcb asks that every component of got is at least, or equal to, that of want.
// TCBs of different Lines, or of none, are neither.
func (ms *mismatches) tcb(prefix string, got TCB, op evidence.Op, want TCB) {
	if got.Line == 0 || got.Line != want.Line {
		ms.add("snp.line", nameValue(got.Line), evidence.Equal, nameValue(want.Line))
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
			ms.add(prefix+part.name, numberValue(part.got), op, numberValue(part.want))
		}
	}
}

// list returns the list of the values of ts.
func list[T any](ts []T, value func(T) evidence.Value) evidence.Value {
	vs := make([]evidence.Value, len(ts))
	for i, t := range ts {
		vs[i] = value(t)
	}
	return evidence.List(vs...)
}

func numberValue[T ~uint8 | ~uint32](n T) evidence.Value { return evidence.Uint(uint64(n)) }

func nameValue[T fmt.Stringer](t T) evidence.Value { return evidence.Text(t.String()) }

func digestValue[T [16]byte | [32]byte | [48]byte | ChipID](t T) evidence.Value {
	b := make([]byte, len(t))
	for i := range b {
		b[i] = t[i]
	}
	return evidence.Bytes(b)
}
