package tdx

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/refvalues"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// Appraise implements policy.Rule. Mismatches bear the names of [Claims.All].
// Where bits are not acceptable and have no name, the mismatch is with the whole
// field, and what is wanted is the field with those bits changed. Of advisories
// and events it has only those that are not acceptable.
func (rv ReferenceValues) Appraise(v *evidence.Verified) []evidence.Mismatch {
	c, ok := ClaimsOf(v)
	if !ok || v.Format != Format {
		return []evidence.Mismatch{{Claim: "format", Got: formatOf(v), Op: evidence.Equal, Want: evidence.Text(string(Format))}}
	}
	var ms refvalues.Mismatches
	rv.appraiseTD(c, &ms)
	rv.appraiseEvents(c, &ms)
	rv.appraiseAttributes(c, &ms)
	rv.appraiseModule(c, &ms)
	rv.appraiseTCB(c.TCB, v.CheckedAt, &ms)
	if age := c.CollateralAge; age > rv.MaxCollateralAge {
		ms.Add("tdx.collateral.age", secondsValue(age), evidence.AtMost, secondsValue(rv.MaxCollateralAge))
	}
	rv.appraisePlatform(c.PCK, &ms)
	return ms
}

func formatOf(v *evidence.Verified) evidence.Value {
	if v == nil {
		return evidence.Value{}
	}
	return evidence.Text(string(v.Format))
}

// secondsValue returns the Value that is d, not negative, in whole seconds.
func secondsValue(d time.Duration) evidence.Value {
	return evidence.Uint(uint64(max(d, 0) / time.Second))
}

// appraiseTD judges what runs in the TD and what the host said of it.
func (rv *ReferenceValues) appraiseTD(c *Claims, ms *refvalues.Mismatches) {
	refvalues.Among(ms, "tdx.mrtd", c.MRTD(), rv.MRTD, refvalues.FixedValue)
	rtmrs := c.RTMRs()
	refvalues.Among(ms, "tdx.rtmr0", rtmrs[0], rv.RTMR0, refvalues.FixedValue)
	refvalues.Among(ms, "tdx.rtmr1", rtmrs[1], rv.RTMR1, refvalues.FixedValue)
	refvalues.Among(ms, "tdx.rtmr2", rtmrs[2], rv.RTMR2, refvalues.FixedValue)
	refvalues.Among(ms, "tdx.rtmr3", rtmrs[3], rv.RTMR3, refvalues.FixedValue)
	refvalues.Among(ms, "tdx.mrconfigid", c.MRConfigID(), rv.MRConfigID, refvalues.FixedValue)
	refvalues.Among(ms, "tdx.mrowner", c.MROwner(), rv.MROwner, refvalues.FixedValue)
	refvalues.Among(ms, "tdx.mrownerconfig", c.MROwnerConfig(), rv.MROwnerConfig, refvalues.FixedValue)
	if kind := c.BodyType(); kind == 0 || !rv.BodyTypes.Has(kind) {
		ms.Add("tdx.body_type", refvalues.NumberValue(kind), evidence.In, refvalues.Values(rv.BodyTypes.Values(), refvalues.NumberValue))
	}
	if td, _ := c.MRServiceTD(); td != [48]byte{} {
		refvalues.Among(ms, "tdx.mrservicetd", td, rv.AllowServiceTDs, refvalues.FixedValue)
	}
}

// appraiseEvents judges what the registers were extended with.
func (rv *ReferenceValues) appraiseEvents(c *Claims, ms *refvalues.Mismatches) {
	for _, r := range rv.RTMREvents {
		r.appraise(c.Events, ms)
	}
	for _, r := range rv.RuntimeEvents {
		r.appraise(c.Events, ms)
	}
}

// appraise notes the events that are not among r, or that there are none.
func (r RegisterEvents) appraise(events []Event, ms *refvalues.Mismatches) {
	var others []evidence.Value
	any := false
	for _, e := range events {
		if e.RTMR != r.RTMR {
			continue
		}
		any = true
		if !r.Digests.Has(e.Digest) {
			others = append(others, evidence.Bytes(e.Digest[:]))
		}
	}
	if any && others == nil {
		return
	}
	ms.Add(eventsClaim(int(r.RTMR)), listValue(others), evidence.In, refvalues.Values(r.Digests.Values(), refvalues.FixedValue))
}

// appraise notes the events that are or may be of that name, if it is not one with
// one of the payloads.
func (r RuntimeEvent) appraise(events []Event, ms *refvalues.Mismatches) {
	var named []evidence.Value
	good := false
	for _, e := range events {
		switch {
		case e.RTMR == abi.RTMRs-1 && e.Name == "":
			// Who wrote the log is free to leave out of which name an event is.
			named = append(named, evidence.Bytes(e.Digest[:]))
		case e.Name != "" && e.Name == r.Name:
			named = append(named, e.value())
			good = r.Payloads.Has(string(e.Data))
		}
	}
	if good && len(named) == 1 {
		return
	}
	want := refvalues.Values(r.Payloads.Values(), func(p string) evidence.Value {
		return Event{Name: r.Name, Data: []byte(p)}.value()
	})
	ms.Add("tdx.runtime_events", listValue(named), evidence.In, want)
}

// listValue returns the Value that is the list of vs, or that there is none.
func listValue(vs []evidence.Value) evidence.Value {
	if vs == nil {
		return evidence.Value{}
	}
	return evidence.List(vs...)
}

// appraiseAttributes judges what the TD lets the host do, and what the CPU lets
// the TD do.
func (rv *ReferenceValues) appraiseAttributes(c *Claims, ms *refvalues.Mismatches) {
	a := c.Attributes()
	refused := a &^ rv.allowedAttributes()
	missing := rv.RequireAttributes &^ a
	refvalues.Flip(ms, "tdx.td_attributes", a, refused|missing, attributeFlags)

	x := c.XFAM()
	refvalues.Flip(ms, "tdx.xfam", x, x&^rv.AllowXFAM|rv.RequireXFAM&^x, noFlags)
}

// allowedAttributes returns the bits of TDATTRIBUTES that may be set.
func (rv *ReferenceValues) allowedAttributes() Attributes {
	allowed := KnownAttributes | rv.AllowAttributes
	if !rv.AllowDebug {
		allowed &^= TUD
	}
	if !rv.AllowMigration {
		allowed &^= Migratable
	}
	return allowed &^ rv.DenyAttributes
}

func noFlags() []refvalues.Flag[uint64] { return nil }

// appraiseModule judges the TDX module, by measurement and by security version.
func (rv *ReferenceValues) appraiseModule(c *Claims, ms *refvalues.Mismatches) {
	refvalues.Among(ms, "tdx.mrseam", c.MRSEAM(), rv.MRSEAM, refvalues.FixedValue)
	rv.appraiseFloors("tdx.module.", c.TEETCBSVN(), ms)
	if now, ok := c.TEETCBSVN2(); ok {
		rv.appraiseFloors("tdx.module.current_", now, ms)
	}
}

// appraiseFloors judges the module of svn, whose claims begin with prefix.
func (rv *ReferenceValues) appraiseFloors(prefix string, svn SVN, ms *refvalues.Mismatches) {
	named := false
	for _, f := range rv.Modules {
		if f.Version != svn.ModuleVersion() {
			continue
		}
		named = true
		if svn.Module() < f.MinSVN {
			ms.Add(prefix+"svn", refvalues.NumberValue(svn.Module()), evidence.AtLeast, refvalues.NumberValue(f.MinSVN))
		}
	}
	if !named && !rv.AllowAnyModule {
		versions := refvalues.Values(rv.Modules, func(f ModuleFloor) evidence.Value { return refvalues.NumberValue(f.Version) })
		ms.Add(prefix+"version", refvalues.NumberValue(svn.ModuleVersion()), evidence.In, versions)
	}
}

// appraiseTCB judges how platform, module and quoting enclave stand at a time.
func (rv *ReferenceValues) appraiseTCB(t TCB, at time.Time, ms *refvalues.Mismatches) {
	if t.Status == "" { // the rest was not appraised either
		ms.Add("tdx.tcb.status", evidence.Value{}, evidence.In, refvalues.Values(rv.Statuses.Values(), statusValue))
		return
	}
	rv.appraiseStatus(t, at, ms)
	rv.appraiseAdvisories(t.Advisories(), ms)
	if t.Date.Before(rv.MinTCBDate) {
		ms.Add("tdx.tcb.date", dateValue(t.Date), evidence.AtLeast, evidence.Time(rv.MinTCBDate))
	}
	if n := t.EvaluationDataNumber; n < rv.MinEvaluationDataNumber {
		ms.Add("tdx.tcb.evaluation_data_number", refvalues.NumberValue(n), evidence.AtLeast, refvalues.NumberValue(rv.MinEvaluationDataNumber))
	}
}

// appraiseStatus judges the status of all together, and of each part for Revoked:
// of a part it does not show if another is NotSupported.
func (rv *ReferenceValues) appraiseStatus(t TCB, at time.Time, ms *refvalues.Mismatches) {
	for _, s := range [...]struct {
		claim  string
		status Status
	}{
		{"tdx.tcb.status", t.Status},
		{"tdx.tcb.platform", t.Platform.Status},
		{"tdx.tcb.module", t.Module.Status},
		{"tdx.tcb.qe", t.QE.Status},
	} {
		if s.status == Revoked {
			ms.Add(s.claim, statusValue(s.status), evidence.NotIn, evidence.List(statusValue(Revoked)))
		}
	}
	if t.Status == Revoked || rv.Statuses.Has(t.Status) {
		return
	}
	// The status by itself decides what is not accepted for the grace alone.
	if graced := rv.graced(t, at); isBetterThanOutOfDate(graced) && rv.Statuses.Has(graced) {
		return
	}
	ms.Add("tdx.tcb.status", statusValue(t.Status), evidence.In, refvalues.Values(rv.Statuses.Values(), statusValue))
	rv.appraiseGrace(t, at, ms)
}

// graced returns the status that t would have if the parts within their grace
// were not out of date. NotSupported may be for the module that runs now, which is
// no part.
func (rv *ReferenceValues) graced(t TCB, at time.Time) Status {
	if isBetterThanOutOfDate(t.Status) || t.Status == NotSupported {
		return t.Status
	}
	s := rv.gracedLevel(t.Platform, at)
	s = converge(s, rv.gracedLevel(t.Module, at))
	s = converge(s, rv.gracedLevel(t.QE, at))
	if t.Status == RelaunchAdvisedConfigurationNeeded {
		// What has to be set up may be what runs now, of which no part speaks.
		return withConfiguration(s)
	}
	return s
}

// withConfiguration returns s, if it demands no update, with the platform having to
// be set up otherwise.
func withConfiguration(s Status) Status {
	switch s {
	case UpToDate:
		return ConfigurationNeeded
	case SWHardeningNeeded:
		return ConfigurationAndSWHardeningNeeded
	}
	return s
}

func (rv *ReferenceValues) gracedLevel(l Level, at time.Time) Status {
	switch {
	case !rv.inGrace(l, at):
		return l.Status
	case l.Status == OutOfDate:
		return UpToDate
	case l.Status == OutOfDateConfigurationNeeded:
		return ConfigurationNeeded
	}
	return l.Status
}

// inGrace reports whether l is not too old at a time. What is of the future, as
// seen from a time that nobody set, is not known to be young.
func (rv *ReferenceValues) inGrace(l Level, at time.Time) bool {
	age := at.Sub(l.Date)
	return rv.OutOfDateGrace > 0 && !l.Date.IsZero() && 0 <= age && age <= rv.OutOfDateGrace
}

// appraiseGrace says which parts are past the grace, if there is one.
func (rv *ReferenceValues) appraiseGrace(t TCB, at time.Time, ms *refvalues.Mismatches) {
	if rv.OutOfDateGrace <= 0 {
		return
	}
	for _, part := range [...]struct {
		claim string
		Level
	}{
		{"tdx.tcb.platform.date", t.Platform},
		{"tdx.tcb.module.date", t.Module},
		{"tdx.tcb.qe.date", t.QE},
	} {
		outOfDate := part.Status == OutOfDate || part.Status == OutOfDateConfigurationNeeded
		if outOfDate && !rv.inGrace(part.Level, at) {
			ms.Add(part.claim, dateValue(part.Date), evidence.AtLeast, evidence.Time(at.Add(-rv.OutOfDateGrace)))
		}
	}
}

func (rv *ReferenceValues) appraiseAdvisories(got []string, ms *refvalues.Mismatches) {
	var unknown, denied []string
	for _, id := range got {
		if !rv.Advisories.Has(id) {
			unknown = append(unknown, id)
		}
		if slices.ContainsFunc(rv.DenyAdvisories, func(d string) bool { return strings.EqualFold(d, id) }) {
			denied = append(denied, id)
		}
	}
	if unknown != nil {
		ms.Add("tdx.tcb.advisories", texts(unknown), evidence.In, texts(rv.Advisories.Values()))
	}
	if denied != nil {
		ms.Add("tdx.tcb.advisories", texts(denied), evidence.NotIn, texts(rv.DenyAdvisories))
	}
}

// appraisePlatform judges which platform it is and how that is set up.
func (rv *ReferenceValues) appraisePlatform(p PCK, ms *refvalues.Mismatches) {
	refvalues.Among(ms, "tdx.ppid", p.PPID, rv.PPIDs, refvalues.FixedValue)
	if slices.Contains(rv.DenyPPIDs, p.PPID) {
		ms.Add("tdx.ppid", refvalues.FixedValue(p.PPID), evidence.NotIn, refvalues.Values(rv.DenyPPIDs, refvalues.FixedValue))
	}
	if slices.ContainsFunc(rv.DenyPCKSerials, func(d []byte) bool { return sameSerial(d, p.Serial) }) {
		ms.Add("tdx.pck.serial", evidence.Bytes(p.Serial), evidence.NotIn, refvalues.Values(rv.DenyPCKSerials, evidence.Bytes))
	}
	says := p.CA == PlatformCA // instance and configuration
	if !rv.PlatformInstances.IsAnything() && !(says && rv.PlatformInstances.Has(p.PlatformInstance)) {
		got := evidence.Value{}
		if says {
			got = refvalues.FixedValue(p.PlatformInstance)
		}
		ms.Add("tdx.platform_instance", got, evidence.In, refvalues.Values(rv.PlatformInstances.Values(), refvalues.FixedValue))
	}
	for _, s := range [...]struct {
		claim        string
		set, allowed bool
	}{
		{"tdx.pck.dynamic_platform", p.Configuration.DynamicPlatform, rv.AllowDynamicPlatform},
		{"tdx.pck.cached_keys", p.Configuration.CachedKeys, rv.AllowCachedKeys},
		{"tdx.pck.smt_enabled", p.Configuration.SMTEnabled, rv.AllowSMT},
	} {
		switch {
		case s.allowed:
		case !says:
			ms.Add(s.claim, evidence.Value{}, evidence.Equal, evidence.Bool(false))
		case s.set:
			ms.Add(s.claim, evidence.Bool(true), evidence.Equal, evidence.Bool(false))
		}
	}
}

// sameSerial compares serial numbers. In DER a number whose first bit is set has
// a zero byte before it, which people copy.
func sameSerial(a, b []byte) bool {
	return bytes.Equal(bytes.TrimLeft(a, "\x00"), bytes.TrimLeft(b, "\x00"))
}

func statusValue(s Status) evidence.Value { return evidence.Text(string(s)) }

// dateValue returns the Value that is t, or that there is none.
func dateValue(t time.Time) evidence.Value {
	if t.IsZero() {
		return evidence.Value{}
	}
	return evidence.Time(t)
}
