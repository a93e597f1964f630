package tdx

import (
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// A testCase changes one thing, in the quote or in what is asked of it.
type testCase struct {
	field string // of ReferenceValues
	name  string
	quote func(*fields)
	rv    func(*ReferenceValues)
	want  string // the mismatches, nothing if accepted
}

// putting returns an edit that writes b at an offset of the body.
func putting(at int, b ...byte) func(*fields) { return func(f *fields) { f.put(at, b...) } }

// with returns an edit that flips bits of the attributes.
func with(bits Attributes) func(*fields) { return func(f *fields) { f.attributes(bits) } }

// digestCases are those of a Set of one register.
func digestCases(field, claim string, at int, set func(*ReferenceValues) *evidence.Set[[48]byte]) []testCase {
	edit := func(s evidence.Set[[48]byte]) func(*ReferenceValues) {
		return func(r *ReferenceValues) { *set(r) = s }
	}
	return []testCase{
		{field, "another", putting(at, 99), nil, claim},
		{field, "last byte", putting(at+47, 1), nil, claim},
		{field, "zeros", putting(at, 0), nil, claim},
		{field, "zeros, asked for", putting(at, 0), edit(evidence.OneOf([48]byte{})), ""},
		{field, "one of two", putting(at, 99), edit(evidence.OneOf([48]byte{1}, [48]byte{99})), ""},
		{field, "anything", putting(at, 99), edit(evidence.Anything[[48]byte]()), ""},
		{field, "none", nil, edit(evidence.Set[[48]byte]{}), claim},
	}
}

func registerCases() []testCase {
	type rv = ReferenceValues
	return slices.Concat(
		digestCases("MRTD", "tdx.mrtd", abi.MRTD, func(r *rv) *evidence.Set[[48]byte] { return &r.MRTD }),
		digestCases("RTMR0", "tdx.rtmr0", abi.RTMR0, func(r *rv) *evidence.Set[[48]byte] { return &r.RTMR0 }),
		digestCases("RTMR1", "tdx.rtmr1", abi.RTMR0+48, func(r *rv) *evidence.Set[[48]byte] { return &r.RTMR1 }),
		digestCases("RTMR2", "tdx.rtmr2", abi.RTMR0+96, func(r *rv) *evidence.Set[[48]byte] { return &r.RTMR2 }),
		digestCases("RTMR3", "tdx.rtmr3", abi.RTMR0+144, func(r *rv) *evidence.Set[[48]byte] { return &r.RTMR3 }),
		digestCases("MRConfigID", "tdx.mrconfigid", abi.MRConfigID, func(r *rv) *evidence.Set[[48]byte] { return &r.MRConfigID }),
		digestCases("MROwner", "tdx.mrowner", abi.MROwner, func(r *rv) *evidence.Set[[48]byte] { return &r.MROwner }),
		digestCases("MROwnerConfig", "tdx.mrownerconfig", abi.MROwnerConfig, func(r *rv) *evidence.Set[[48]byte] { return &r.MROwnerConfig }),
		digestCases("MRSEAM", "tdx.mrseam", abi.MRSEAM, func(r *rv) *evidence.Set[[48]byte] { return &r.MRSEAM }),
	)
}

func eventCases() []testCase {
	type rv = ReferenceValues
	id := func(payloads evidence.Set[string]) func(*rv) {
		return func(r *rv) { r.RuntimeEvents = []RuntimeEvent{{"app-id", payloads}} }
	}
	registers := func(rs ...RegisterEvents) func(*rv) { return func(r *rv) { r.RTMREvents = rs } }
	noEvents := func(f *fields) { f.Events = nil }
	digests := evidence.OneOf([48]byte{20}, [48]byte{21}, [48]byte{22}, [48]byte{24})
	another := func(e Event) func(*fields) { return func(f *fields) { f.Events = append(f.Events, e) } }
	return []testCase{
		{"RTMREvents", "another", another(Event{RTMR: 1, Digest: [48]byte{99}}), nil, "tdx.rtmr1.events"},
		{"RTMREvents", "another of another register", another(Event{RTMR: 2, Digest: [48]byte{99}}), nil, ""},
		{"RTMREvents", "one again", another(Event{RTMR: 1, Digest: [48]byte{20}}), nil, ""},
		{"RTMREvents", "all of two registers", nil, registers(RegisterEvents{1, digests}, RegisterEvents{3, digests}), ""},
		{"RTMREvents", "the second rule", another(Event{RTMR: 3, Digest: [48]byte{99}, Name: "other"}), registers(RegisterEvents{1, digests}, RegisterEvents{3, digests}), "tdx.rtmr3.events"},
		{"RTMREvents", "none", nil, registers(RegisterEvents{RTMR: 1}), "tdx.rtmr1.events"},
		{"RTMREvents", "no events of the register", nil, registers(RegisterEvents{2, evidence.Anything[[48]byte]()}), "tdx.rtmr2.events: got absent, want one of []"},
		{"RTMREvents", "no events at all", noEvents, func(r *rv) { r.RuntimeEvents = nil }, "tdx.rtmr1.events"},
		{"RTMREvents", "no events, and nothing asked", noEvents, func(r *rv) { r.RTMREvents, r.RuntimeEvents = nil, nil }, ""},
		{"RuntimeEvents", "another payload", func(f *fields) { f.Events[2].Data = []byte{99} }, nil, "tdx.runtime_events: got [[app-id 63]], want one of [[app-id 17]]"},
		{"RuntimeEvents", "one of two", func(f *fields) { f.Events[2].Data = []byte{99} }, id(evidence.OneOf("\x17", "\x63")), ""},
		{"RuntimeEvents", "any payload", func(f *fields) { f.Events[2].Data = []byte{99} }, id(evidence.Anything[string]()), ""},
		{"RuntimeEvents", "no payload", nil, id(evidence.Set[string]{}), "tdx.runtime_events: got [[app-id 17]], want one of []"},
		{"RuntimeEvents", "an empty payload", nil, func(r *rv) { r.RuntimeEvents = []RuntimeEvent{{"ready", evidence.OneOf("")}} }, ""},
		{"RuntimeEvents", "twice", another(Event{RTMR: 3, Name: "app-id", Data: []byte{23}}), nil, "tdx.runtime_events: got [[app-id 17] [app-id 17]], want one of [[app-id 17]]"},
		{"RuntimeEvents", "twice, once with another payload", another(Event{RTMR: 3, Name: "app-id", Data: []byte{99}}), nil, "tdx.runtime_events: got [[app-id 17] [app-id 63]], want one of [[app-id 17]]"},
		{"RuntimeEvents", "twice, once in disguise", another(Event{RTMR: 3, Digest: [48]byte{23}}), nil, "tdx.runtime_events"},
		{"RuntimeEvents", "something else in another register", another(Event{RTMR: 2, Digest: [48]byte{23}}), nil, ""},
		{"RuntimeEvents", "not there", func(f *fields) { f.Events = f.Events[:2] }, nil, "tdx.runtime_events: got absent, want one of [[app-id 17]]"},
		{"RuntimeEvents", "the second rule", nil, func(r *rv) {
			r.RuntimeEvents = append(r.RuntimeEvents, RuntimeEvent{"compose-hash", evidence.Anything[string]()})
		}, "tdx.runtime_events: got absent, want one of []"},
		{"RuntimeEvents", "of no name", func(f *fields) { f.Events = f.Events[:1] }, func(r *rv) { r.RuntimeEvents = []RuntimeEvent{{"", evidence.Anything[string]()}} }, "tdx.runtime_events"},
	}
}

func attributeCases() []testCase {
	type rv = ReferenceValues
	td10 := func(f *fields) { f.kind = TD10; f.raw[abi.Version] = abi.V4 }
	return []testCase{
		{"BodyTypes", "another", td10, nil, "tdx.body_type: got 2, want one of [3]"},
		{"BodyTypes", "one of two", td10, func(r *rv) { r.BodyTypes = evidence.OneOf(TD10, TD15) }, ""},
		{"BodyTypes", "none", nil, func(r *rv) { r.BodyTypes = evidence.Set[BodyType]{} }, "tdx.body_type: got 3, want one of []"},

		{"AllowDebug", "debug", with(Debug), nil, "tdx.td_attributes.debug: got true, want equal false"},
		{"AllowDebug", "the rest of TUD", with(HGSPlusProf | PerfProf | PMTProf), nil, "tdx.td_attributes.hgs_plus_prof; tdx.td_attributes.perf_prof; tdx.td_attributes.pmt_prof"},
		{"AllowDebug", "allowed", with(Debug | HGSPlusProf | PerfProf | PMTProf), func(r *rv) { r.AllowDebug = true }, ""},
		{"AllowDebug", "a bit of TUD that has no name", with(1 << 7), func(r *rv) { r.AllowDebug = true }, "tdx.td_attributes: got 1342177408, want equal 1342177280"},
		{"AllowDebug", "a bit of TUD that has no name, allowed as such", with(1 << 7), func(r *rv) { r.AllowAttributes = 1 << 7 }, "tdx.td_attributes"},
		{"AllowDebug", "a bit of TUD that has no name, allowed as both", with(1 << 7), func(r *rv) { r.AllowDebug, r.AllowAttributes = true, 1<<7 }, ""},
		{"AllowDebug", "denied all the same", with(Debug), func(r *rv) { r.AllowDebug, r.DenyAttributes = true, Debug }, "tdx.td_attributes.debug"},
		{"AllowMigration", "migratable", with(Migratable), nil, "tdx.td_attributes.migratable: got true, want equal false"},
		{"AllowMigration", "migratable, debug allowed", with(Migratable), func(r *rv) { r.AllowDebug = true }, "tdx.td_attributes.migratable"},
		{"AllowMigration", "allowed", with(Migratable), func(r *rv) { r.AllowMigration = true }, ""},
		{"AllowServiceTDs", "bound", putting(abi.MRServiceTD, 13), nil, "tdx.mrservicetd"},
		{"AllowServiceTDs", "bound, last byte", putting(abi.MRServiceTD+47, 13), nil, "tdx.mrservicetd"},
		{"AllowServiceTDs", "bound, migration allowed", putting(abi.MRServiceTD, 13), func(r *rv) { r.AllowMigration = true }, "tdx.mrservicetd"},
		{"AllowServiceTDs", "another", putting(abi.MRServiceTD, 13), func(r *rv) { r.AllowServiceTDs = evidence.OneOf([48]byte{14}) }, "tdx.mrservicetd"},
		{"AllowServiceTDs", "allowed", putting(abi.MRServiceTD, 13), func(r *rv) { r.AllowServiceTDs = evidence.OneOf([48]byte{13}) }, ""},
		{"AllowServiceTDs", "not used", nil, func(r *rv) { r.AllowServiceTDs = evidence.OneOf([48]byte{13}) }, ""},

		{"RequireAttributes", "missing", with(SEPTVEDisable), nil, "tdx.td_attributes.sept_ve_disable: got false, want equal true"},
		{"RequireAttributes", "not demanded", with(SEPTVEDisable), func(r *rv) { r.RequireAttributes = 0 }, ""},
		{"RequireAttributes", "several", nil, func(r *rv) { r.RequireAttributes = LASS | KL | 1<<40 }, "tdx.td_attributes.lass; tdx.td_attributes.kl; tdx.td_attributes: got 1342177280, want equal 1100853805056"},
		{"RequireAttributes", "does not allow", with(Debug), func(r *rv) { r.RequireAttributes = Debug }, "tdx.td_attributes.debug: got true, want equal false"},
		{"DenyAttributes", "set", with(Perfmon), nil, "tdx.td_attributes.perfmon: got true, want equal false"},
		{"DenyAttributes", "not denied", with(Perfmon), func(r *rv) { r.DenyAttributes = 0 }, ""},
		{"DenyAttributes", "others", with(ICSSD | LASS | KL | TPA), nil, ""},
		{"AllowAttributes", "unknown", with(1 << 40), nil, "tdx.td_attributes: got 1100853805056, want equal 1342177280"},
		{"AllowAttributes", "unknown, allowed", with(1 << 40), func(r *rv) { r.AllowAttributes = 1 << 40 }, ""},
		{"AllowAttributes", "unknown, another allowed", with(1 << 41), func(r *rv) { r.AllowAttributes = 1 << 40 }, "tdx.td_attributes"},
		{"AllowAttributes", "allowed and denied", with(1 << 40), func(r *rv) { r.AllowAttributes, r.DenyAttributes = 1<<40, 1<<40 }, "tdx.td_attributes"},

		{"AllowXFAM", "another", func(f *fields) { f.flip(abi.XFAM, 1<<19) }, nil, "tdx.xfam: got 918247, want equal 393959"},
		{"AllowXFAM", "fewer", func(f *fields) { f.flip(abi.XFAM, 1<<17|1<<18) }, nil, ""},
		{"AllowXFAM", "the last bit", func(f *fields) { f.flip(abi.XFAM, 1<<63) }, nil, "tdx.xfam"},
		{"AllowXFAM", "none", nil, func(r *rv) { r.AllowXFAM, r.RequireXFAM = 0, 0 }, "tdx.xfam: got 393959, want equal 0"},
		{"RequireXFAM", "missing", func(f *fields) { f.flip(abi.XFAM, 1) }, nil, "tdx.xfam: got 393958, want equal 393959"},
		{"RequireXFAM", "not demanded", func(f *fields) { f.flip(abi.XFAM, 1) }, func(r *rv) { r.RequireXFAM = 0 }, ""},
	}
}

func moduleCases() []testCase {
	type rv = ReferenceValues
	floors := func(fs ...ModuleFloor) func(*rv) { return func(r *rv) { r.Modules = fs } }
	return []testCase{
		{"Modules", "lower at launch", putting(abi.TEETCBSVN, 6), nil, "tdx.module.svn: got 6, want at least 7"},
		{"Modules", "lower now", putting(abi.TEETCBSVN2, 6), nil, "tdx.module.current_svn: got 6, want at least 7"},
		{"Modules", "higher", putting(abi.TEETCBSVN, 255), nil, ""},
		{"Modules", "now of no report 1.0", func(f *fields) { f.kind = TD10; f.put(abi.TEETCBSVN2, 0) }, func(r *rv) { r.BodyTypes = evidence.OneOf(TD10) }, ""},
		{"Modules", "another version at launch", putting(abi.TEETCBSVN, 99, 3), nil, "tdx.module.version: got 3, want one of [1]"},
		{"Modules", "another version now", putting(abi.TEETCBSVN2, 99, 3), nil, "tdx.module.current_version: got 3, want one of [1]"},
		{"Modules", "each at its own floor", putting(abi.TEETCBSVN2, 3, 3), floors(ModuleFloor{3, 3}, ModuleFloor{1, 7}), ""},
		{"Modules", "all that name the version", nil, floors(ModuleFloor{1, 7}, ModuleFloor{1, 8}), "tdx.module.svn: got 7, want at least 8"},
		{"Modules", "none", nil, floors(), "tdx.module.version: got 1, want one of []; tdx.module.current_version"},
		{"AllowAnyModule", "none", nil, func(r *rv) { r.Modules, r.AllowAnyModule = nil, true }, ""},
		{"AllowAnyModule", "a floor that names it", putting(abi.TEETCBSVN, 6), func(r *rv) { r.AllowAnyModule = true }, "tdx.module.svn"},
		{"AllowAnyModule", "another version", putting(abi.TEETCBSVN, 0, 0), func(r *rv) { r.AllowAnyModule = true }, ""},
	}
}

func tcbCases() []testCase {
	type rv = ReferenceValues
	status := func(s Status) func(*fields) { return func(f *fields) { f.TCB.Status = s } }
	parts := func(whole, platform, module, qe Status) func(*fields) {
		return func(f *fields) {
			f.TCB.Status, f.TCB.Platform.Status, f.TCB.Module.Status, f.TCB.QE.Status = whole, platform, module, qe
		}
	}
	accepting := func(ss ...Status) func(*rv) { return func(r *rv) { r.Statuses = evidence.OneOf(ss...) } }
	anything := func(r *rv) { r.Statuses = evidence.Anything[Status]() }
	grace := func(d time.Duration, ss ...Status) func(*rv) {
		return func(r *rv) { r.OutOfDateGrace, r.Statuses = d, evidence.OneOf(append(ss, UpToDate)...) }
	}
	platformOld := parts(OutOfDate, OutOfDate, UpToDate, UpToDate)
	// Platform and module are 100 days old, and the quoting enclave 90.
	return []testCase{
		{"Statuses", "another", status(SWHardeningNeeded), nil, "tdx.tcb.status: got SWHardeningNeeded, want one of [UpToDate]"},
		{"Statuses", "one of two", status(SWHardeningNeeded), accepting(UpToDate, SWHardeningNeeded), ""},
		{"Statuses", "none", nil, accepting(), "tdx.tcb.status: got UpToDate, want one of []"},
		{"Statuses", "OutOfDate, in the list", platformOld, accepting(OutOfDate), ""},
		{"Statuses", "RelaunchAdvised is not OutOfDate", parts(RelaunchAdvised, UpToDate, OutOfDate, UpToDate), accepting(OutOfDate), "tdx.tcb.status"},
		{"Statuses", "NotSupported", status(NotSupported), nil, "tdx.tcb.status"},
		{"Statuses", "NotSupported, in the list", status(NotSupported), accepting(NotSupported), ""},
		{"Statuses", "Revoked, in the list", parts(Revoked, Revoked, UpToDate, UpToDate), accepting(Revoked), "tdx.tcb.status: got Revoked, want none of [Revoked]; tdx.tcb.platform"},
		{"Statuses", "Revoked, anything", status(Revoked), anything, "tdx.tcb.status"},
		{"Statuses", "a revoked module below the list", parts(NotSupported, NotSupported, Revoked, UpToDate), anything, "tdx.tcb.module: got Revoked, want none of [Revoked]"},
		{"Statuses", "a revoked enclave below the list", parts(NotSupported, NotSupported, UpToDate, Revoked), anything, "tdx.tcb.qe: got Revoked, want none of [Revoked]"},
		{"Statuses", "not appraised", func(f *fields) { f.TCB = TCB{} }, anything, "tdx.tcb.status: got absent, want one of []"},

		{"OutOfDateGrace", "zero", platformOld, grace(0), "tdx.tcb.status: got OutOfDate, want one of [UpToDate]"},
		{"OutOfDateGrace", "zero, of now", func(f *fields) { platformOld(f); f.TCB.Platform.Date = checkedAt }, grace(0), "tdx.tcb.status"},
		{"OutOfDateGrace", "long enough", platformOld, grace(100 * day), ""},
		{"OutOfDateGrace", "too short", platformOld, grace(100*day - 1), "tdx.tcb.status; tdx.tcb.platform.date"},
		{"OutOfDateGrace", "what it was to be", platformOld, grace(10 * day), "tdx.tcb.status; tdx.tcb.platform.date: got 2025-11-21T12:00:00Z, want at least 2026-02-19T12:00:00Z"},
		{"OutOfDateGrace", "negative", platformOld, grace(-1), "tdx.tcb.status"},
		{"OutOfDateGrace", "UpToDate is not listed", platformOld, func(r *rv) { r.OutOfDateGrace, r.Statuses = 100*day, evidence.OneOf(SWHardeningNeeded) }, "tdx.tcb.status: got OutOfDate, want one of [SWHardeningNeeded]"},
		{"OutOfDateGrace", "an old part that is not out of date", parts(OutOfDate, UpToDate, UpToDate, OutOfDate), grace(90 * day), ""},
		{"OutOfDateGrace", "module and enclave", parts(OutOfDate, UpToDate, OutOfDate, OutOfDate), grace(100 * day), ""},
		{"OutOfDateGrace", "the enclave only", parts(OutOfDate, UpToDate, OutOfDate, OutOfDate), grace(95 * day), "tdx.tcb.status; tdx.tcb.module.date"},
		{"OutOfDateGrace", "the enclave past it", parts(OutOfDate, UpToDate, UpToDate, OutOfDate), grace(day), "tdx.tcb.status; tdx.tcb.qe.date"},
		{"OutOfDateGrace", "configuration is another matter", parts(OutOfDateConfigurationNeeded, OutOfDateConfigurationNeeded, UpToDate, UpToDate), grace(100 * day), "tdx.tcb.status"},
		{"OutOfDateGrace", "configuration, in the list", parts(OutOfDateConfigurationNeeded, OutOfDateConfigurationNeeded, OutOfDate, UpToDate), grace(100*day, ConfigurationNeeded), ""},
		{"OutOfDateGrace", "hardening is another matter", parts(OutOfDate, SWHardeningNeeded, OutOfDate, UpToDate), grace(100 * day), "tdx.tcb.status"},
		{"OutOfDateGrace", "hardening, in the list", parts(OutOfDate, SWHardeningNeeded, OutOfDate, UpToDate), grace(100*day, SWHardeningNeeded), ""},
		{"OutOfDateGrace", "relaunch advised", parts(RelaunchAdvised, UpToDate, OutOfDate, UpToDate), grace(100 * day), ""},
		{"OutOfDateGrace", "relaunch advised, too short", parts(RelaunchAdvised, UpToDate, OutOfDate, UpToDate), grace(day), "tdx.tcb.status; tdx.tcb.module.date"},
		{"OutOfDateGrace", "configuration for what runs now", parts(RelaunchAdvisedConfigurationNeeded, OutOfDate, OutOfDate, UpToDate), grace(100 * day), "tdx.tcb.status"},
		{"OutOfDateGrace", "configuration for what runs now, in the list", parts(RelaunchAdvisedConfigurationNeeded, OutOfDate, OutOfDate, UpToDate), grace(100*day, ConfigurationNeeded), ""},
		{"OutOfDateGrace", "configuration for both, in the list", parts(RelaunchAdvisedConfigurationNeeded, ConfigurationNeeded, OutOfDate, UpToDate), grace(100*day, ConfigurationNeeded), ""},
		{"OutOfDateGrace", "both for what runs now", parts(RelaunchAdvisedConfigurationNeeded, SWHardeningNeeded, OutOfDate, UpToDate), grace(100*day, SWHardeningNeeded, ConfigurationNeeded), "tdx.tcb.status"},
		{"OutOfDateGrace", "both for what runs now, in the list", parts(RelaunchAdvisedConfigurationNeeded, SWHardeningNeeded, OutOfDate, UpToDate), grace(100*day, ConfigurationAndSWHardeningNeeded), ""},
		{"OutOfDateGrace", "an unknown module runs now", parts(NotSupported, UpToDate, OutOfDate, UpToDate), grace(100 * day), "tdx.tcb.status"},
		{"OutOfDateGrace", "revoked", parts(Revoked, OutOfDate, Revoked, UpToDate), grace(100 * day), "tdx.tcb.status; tdx.tcb.module"},
		{"OutOfDateGrace", "no date", func(f *fields) { platformOld(f); f.TCB.Platform.Date = time.Time{} }, grace(1<<63 - 1), "tdx.tcb.status; tdx.tcb.platform.date: got absent, want at least 1733-11-20T12:12:43Z"},
		{"OutOfDateGrace", "a date to come", func(f *fields) { platformOld(f); f.at = daysAgo(101) }, grace(100 * day), "tdx.tcb.status; tdx.tcb.platform.date"},
		{"OutOfDateGrace", "nobody knows when", func(f *fields) { platformOld(f); f.at = time.Time{} }, grace(1<<63 - 1), "tdx.tcb.status; tdx.tcb.platform.date"},

		{"Advisories", "another", func(f *fields) { f.TCB.Module.Advisories = []string{"INTEL-SA-00004", "INTEL-SA-00001"} }, nil, "tdx.tcb.advisories: got [INTEL-SA-00004], want one of [INTEL-SA-00001 INTEL-SA-00002]"},
		{"Advisories", "fewer", func(f *fields) { f.TCB.Platform.Advisories, f.TCB.QE.Advisories = nil, nil }, nil, ""},
		{"Advisories", "none", nil, func(r *rv) { r.Advisories = evidence.Set[string]{} }, "tdx.tcb.advisories: got [INTEL-SA-00001 INTEL-SA-00002], want one of []"},
		{"Advisories", "anything", func(f *fields) { f.TCB.Module.Advisories = []string{"INTEL-SA-00004"} }, func(r *rv) { r.Advisories = evidence.Anything[string]() }, ""},
		{"DenyAdvisories", "denied", nil, func(r *rv) { r.DenyAdvisories = []string{"INTEL-SA-00003", "INTEL-SA-00002"} }, "tdx.tcb.advisories: got [INTEL-SA-00002], want none of [INTEL-SA-00003 INTEL-SA-00002]"},
		{"DenyAdvisories", "denied in lower case", nil, func(r *rv) { r.DenyAdvisories = []string{"intel-sa-00001"} }, "tdx.tcb.advisories"},
		{"DenyAdvisories", "others", nil, func(r *rv) { r.DenyAdvisories = nil }, ""},
		{"MinTCBDate", "earlier", func(f *fields) { f.TCB.Date = daysAgo(101) }, nil, "tdx.tcb.date: got 2025-11-20T12:00:00Z, want at least 2025-11-21T12:00:00Z"},
		{"MinTCBDate", "later", func(f *fields) { f.TCB.Date = daysAgo(1) }, nil, ""},
		{"MinTCBDate", "none", func(f *fields) { f.TCB.Date = time.Time{} }, nil, "tdx.tcb.date: got absent, want at least 2025-11-21T12:00:00Z"},
		{"MinTCBDate", "none demanded", func(f *fields) { f.TCB.Date = time.Time{} }, func(r *rv) { r.MinTCBDate = time.Time{} }, ""},
		{"MinEvaluationDataNumber", "lower", func(f *fields) { f.TCB.EvaluationDataNumber = 17 }, nil, "tdx.tcb.evaluation_data_number: got 17, want at least 18"},
		{"MinEvaluationDataNumber", "higher", func(f *fields) { f.TCB.EvaluationDataNumber = 19 }, nil, ""},
		{"MaxCollateralAge", "older", func(f *fields) { f.CollateralAge = 2 * time.Hour }, nil, "tdx.collateral.age: got 7200, want at most 3600"},
		{"MaxCollateralAge", "current", func(f *fields) { f.CollateralAge = 0 }, func(r *rv) { r.MaxCollateralAge = 0 }, ""},
		{"MaxCollateralAge", "not current", nil, func(r *rv) { r.MaxCollateralAge = 0 }, "tdx.collateral.age: got 3600, want at most 0"},
		{"MaxCollateralAge", "negative", func(f *fields) { f.CollateralAge = 0 }, func(r *rv) { r.MaxCollateralAge = -1 }, "tdx.collateral.age: got 0, want at most 0"},
	}
}

func platformCases() []testCase {
	type rv = ReferenceValues
	processor := func(f *fields) {
		f.PCK.CA, f.PCK.PlatformInstance, f.PCK.Configuration = ProcessorCA, [16]byte{}, Configuration{}
	}
	config := func(c Configuration) func(*fields) { return func(f *fields) { f.PCK.Configuration = c } }
	instances := func(is ...[16]byte) func(*rv) {
		return func(r *rv) { r.PlatformInstances = evidence.OneOf(is...) }
	}
	return []testCase{
		{"PPIDs", "another", func(f *fields) { f.PCK.PPID[15] = 1 }, nil, "tdx.ppid: got 0a000000000000000000000000000001, want one of [0a000000000000000000000000000000]"},
		{"PPIDs", "one of two", nil, func(r *rv) { r.PPIDs = evidence.OneOf([16]byte{99}, [16]byte{10}) }, ""},
		{"PPIDs", "none", nil, func(r *rv) { r.PPIDs = evidence.Set[[16]byte]{} }, "tdx.ppid"},
		{"PlatformInstances", "another", nil, instances([16]byte{99}), "tdx.platform_instance: got 0b000000000000000000000000000000, want one of [63000000000000000000000000000000]"},
		{"PlatformInstances", "one of two", nil, instances([16]byte{99}, [16]byte{11}), ""},
		{"PlatformInstances", "none", nil, instances(), "tdx.platform_instance"},
		{"PlatformInstances", "not said", processor, instances([16]byte{}), "tdx.platform_instance: got absent, want one of [00000000000000000000000000000000]"},
		{"PlatformInstances", "not said, anything", processor, func(r *rv) { r.PlatformInstances = evidence.Anything[[16]byte]() }, ""},
		{"DenyPPIDs", "denied", nil, func(r *rv) { r.DenyPPIDs = [][16]byte{{12}, {10}} }, "tdx.ppid: got 0a000000000000000000000000000000, want none of [0c000000000000000000000000000000 0a000000000000000000000000000000]"},
		{"DenyPPIDs", "others", nil, func(r *rv) { r.DenyPPIDs = nil }, ""},
		{"DenyPCKSerials", "denied", nil, func(r *rv) { r.DenyPCKSerials = [][]byte{{0xA0, 1}} }, "tdx.pck.serial: got a001, want none of [a001]"},
		{"DenyPCKSerials", "denied as in DER", nil, func(r *rv) { r.DenyPCKSerials = [][]byte{{1}, {0, 0xA0, 1}} }, "tdx.pck.serial"},
		{"DenyPCKSerials", "others", nil, func(r *rv) { r.DenyPCKSerials = [][]byte{{1}, {0xA0}, {0xA0, 1, 0}} }, ""},

		{"AllowDynamicPlatform", "dynamic", nil, func(r *rv) { r.AllowDynamicPlatform = false }, "tdx.pck.dynamic_platform: got true, want equal false"},
		{"AllowDynamicPlatform", "not dynamic", config(Configuration{CachedKeys: true, SMTEnabled: true}), func(r *rv) { r.AllowDynamicPlatform = false }, ""},
		{"AllowDynamicPlatform", "not said", processor, func(r *rv) {
			r.AllowDynamicPlatform, r.PlatformInstances = false, evidence.Anything[[16]byte]()
		}, "tdx.pck.dynamic_platform: got absent, want equal false"},
		{"AllowCachedKeys", "cached", nil, func(r *rv) { r.AllowCachedKeys = false }, "tdx.pck.cached_keys: got true, want equal false"},
		{"AllowCachedKeys", "not cached", config(Configuration{DynamicPlatform: true, SMTEnabled: true}), func(r *rv) { r.AllowCachedKeys = false }, ""},
		{"AllowSMT", "SMT", nil, func(r *rv) { r.AllowSMT = false }, "tdx.pck.smt_enabled: got true, want equal false"},
		{"AllowSMT", "no SMT", config(Configuration{DynamicPlatform: true, CachedKeys: true}), func(r *rv) { r.AllowSMT = false }, ""},

		{"", "everything is wrong", func(f *fields) { *f = fields{kind: TD10} }, nil, "tdx.mrtd; tdx.rtmr0; tdx.rtmr1; tdx.rtmr2; tdx.rtmr3; tdx.mrconfigid; tdx.mrowner; tdx.mrownerconfig; tdx.body_type; tdx.rtmr1.events; tdx.runtime_events; tdx.td_attributes.sept_ve_disable; tdx.xfam; tdx.mrseam; tdx.module.version; tdx.tcb.status; tdx.ppid; tdx.platform_instance"},
	}
}
