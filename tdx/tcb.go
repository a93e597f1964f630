package tdx

import (
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// Status is how a security version stands to what Intel demands at an evaluation.
type Status string

// The Statuses, spelled as Intel does, from good to bad. The zero Status is none:
// nothing was appraised.
const (
	UpToDate                           Status = "UpToDate"
	SWHardeningNeeded                  Status = "SWHardeningNeeded"                  // software in the TD has to mitigate an issue
	ConfigurationNeeded                Status = "ConfigurationNeeded"                // the platform has to be set up otherwise
	ConfigurationAndSWHardeningNeeded  Status = "ConfigurationAndSWHardeningNeeded"  // both
	RelaunchAdvised                    Status = "RelaunchAdvised"                    // the platform was updated after the TD was launched
	RelaunchAdvisedConfigurationNeeded Status = "RelaunchAdvisedConfigurationNeeded" // and has to be set up otherwise
	OutOfDate                          Status = "OutOfDate"
	OutOfDateConfigurationNeeded       Status = "OutOfDateConfigurationNeeded"
	Revoked                            Status = "Revoked"
	NotSupported                       Status = "NotSupported" // on no level that Intel lists
)

// TCB is how platform, TDX module and quoting enclave stand together: a claim, on
// which an appraisal decides. Its slices belong to the Claims it is part of.
type TCB struct {
	Status Status // of all together

	Platform Level // processor, firmware and what else a PCK certificate speaks of
	Module   Level // of TDX 1.0, which has no level of its own, UpToDate without a Date
	QE       Level

	// Date is the earliest Date of the three: Intel's own libraries leave the
	// module out. It is zero if one of them is NotSupported.
	Date time.Time

	// EvaluationDataNumber is that of TCB Info and QE identity. It grows with each
	// TCB recovery. See Config.MinEvaluationDataNumber.
	EvaluationDataNumber uint32

	// Shortfalls are the security versions below the highest level, of each part
	// that is OutOfDate or worse, and a module of a version that is not listed.
	Shortfalls []Shortfall
}

// Advisories returns the advisories of all three parts, sorted, each once.
func (t TCB) Advisories() []string {
	all := slices.Concat(t.Platform.Advisories, t.Module.Advisories, t.QE.Advisories)
	slices.Sort(all)
	return slices.Compact(all)
}

// versions are the security versions that a quote and what endorses it claim.
type versions struct {
	sgx    [16]uint8
	pcesvn uint16
	launch SVN // TEE_TCB_SVN
	now    SVN // TEE_TCB_SVN_2
	hasNow bool
	qe     uint16
}

func versionsOf(q Quote, e *endorsement) versions {
	have := versions{sgx: e.pck.Components, pcesvn: e.pck.PCESVN, launch: q.TEETCBSVN(), qe: e.qe.ISVSVN}
	have.now, have.hasNow = q.TEETCBSVN2()
	return have
}

// appraise returns how have stands to info and id: Intel's PCS API, version 4,
// sections Get TDX TCB Info and Get Quote Identity, and the algorithm of Intel's
// quote verification library.
func appraise(info *tcbInfo, id *qeIdentity, have versions) TCB {
	t := TCB{
		Platform:             Level{Status: NotSupported, Latest: info.levels[0].Date},
		Module:               info.moduleLevel(have.launch),
		QE:                   levelOf(id.levels, have.qe),
		EvaluationDataNumber: info.number, // which is that of id
	}
	sgx := slices.IndexFunc(info.levels, func(l platformLevel) bool { return l.reachedBySGX(have) })
	if at := slices.IndexFunc(info.levels, func(l platformLevel) bool { return l.reachedBy(have) }); at >= 0 {
		t.Platform = info.levels[at].Level
	}
	t.Status = converge(t.Platform.Status, t.Module.Status)
	if sgx >= 0 && isBetterThanOutOfDate(t.QE.Status) {
		t.Status = info.relaunch(info.levels[sgx].Status, t.Status, t.Module.Status, have)
	}
	t.Status = converge(t.Status, t.QE.Status)
	t.Date = t.date()
	t.Shortfalls = shortfalls(info, id, have, t)
	return t
}

// reachedBySGX reports whether the platform reaches l, the TD left aside.
func (l platformLevel) reachedBySGX(have versions) bool {
	return reaches(have.sgx[:], l.sgx[:]) && have.pcesvn >= l.pcesvn
}

// reachedBy reports whether platform and TD reach l.
func (l platformLevel) reachedBy(have versions) bool {
	from := firstPlatformSVN(have.launch)
	return l.reachedBySGX(have) && reaches(have.launch[from:], l.tdx[from:])
}

// firstPlatformSVN returns the first byte of TEE_TCB_SVN that levels of a platform
// are about. From module version 1 the module, which has the first two bytes, has
// levels of its own.
func firstPlatformSVN(svn SVN) int {
	if svn.ModuleVersion() == 0 {
		return 0
	}
	return abi.SVNMicrocode
}

// reaches reports whether no security version is below its floor.
func reaches(svns, floors []uint8) bool {
	for i := range floors {
		if svns[i] < floors[i] {
			return false
		}
	}
	return true
}

// moduleLevel returns the level of the module that svn names. One of a version
// for which Intel has published nothing is NotSupported.
func (info *tcbInfo) moduleLevel(svn SVN) Level {
	if svn.ModuleVersion() == 0 {
		return Level{Status: UpToDate}
	}
	m, ok := info.modules[svn.ModuleVersion()]
	if !ok {
		return Level{Status: NotSupported}
	}
	return levelOf(m.levels, uint16(svn.Module()))
}

// converge returns the status of a whole of which a part has a status of its own:
// neither replaces the other. A part is UpToDate, OutOfDate, Revoked or
// NotSupported.
func converge(whole, part Status) Status {
	switch {
	case whole == NotSupported || part == NotSupported:
		return NotSupported
	case whole == Revoked || part == Revoked:
		return Revoked
	case part != OutOfDate:
		return whole
	}
	switch whole {
	case UpToDate, SWHardeningNeeded:
		return OutOfDate
	case ConfigurationNeeded, ConfigurationAndSWHardeningNeeded:
		return OutOfDateConfigurationNeeded
	}
	return whole
}

// isBetterThanOutOfDate reports whether s demands no update.
func isBetterThanOutOfDate(s Status) bool {
	switch s {
	case UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded:
		return true
	}
	return false
}

// needsConfiguration reports whether s asks for the platform to be set up otherwise.
func needsConfiguration(s Status) bool {
	switch s {
	case ConfigurationNeeded, ConfigurationAndSWHardeningNeeded, OutOfDateConfigurationNeeded:
		return true
	}
	return false
}

// relaunch returns whole, the status of platform and module, or that a relaunch
// is advised: if all that is out of date is what the TD was launched with, and
// what runs now is at the highest level. Only a TD report 1.5 says what runs now.
func (info *tcbInfo) relaunch(sgx, whole, module Status, have versions) Status {
	outOfDate := whole == OutOfDate || whole == OutOfDateConfigurationNeeded
	if !have.hasNow || !outOfDate || module != OutOfDate || !isBetterThanOutOfDate(sgx) {
		return whole
	}
	top, floor := info.levels[0], uint16(info.levels[0].tdx[abi.SVNModule])
	if v := have.now.ModuleVersion(); v != 0 {
		m, ok := info.modules[v]
		if !ok {
			return NotSupported // a module runs for which Intel has published nothing
		}
		floor = m.levels[0].svn
	}
	switch {
	case uint16(have.now.Module()) < floor || have.now[abi.SVNMicrocode] < top.tdx[abi.SVNMicrocode]:
		return whole
	case needsConfiguration(sgx) || needsConfiguration(whole):
		return RelaunchAdvisedConfigurationNeeded
	}
	return RelaunchAdvised
}

// date returns the earliest date of the parts that have one, or zero if a part is
// on no level.
func (t TCB) date() time.Time {
	var first time.Time
	for _, l := range []Level{t.Platform, t.Module, t.QE} {
		if l.Status == NotSupported {
			return time.Time{}
		}
		if !l.Date.IsZero() && (first.IsZero() || l.Date.Before(first)) {
			first = l.Date
		}
	}
	return first
}

// checkModule reports whether the module that q names is Intel's, by the identity
// of its version. One without an identity is held to that of version 0, so that
// its NotSupported is said of a module of Intel's.
func (info *tcbInfo) checkModule(q Quote) error {
	m, ok := info.moduleOf(q.TEETCBSVN().ModuleVersion())
	if !ok {
		m = &info.module
	}
	attributes := q.at(abi.SEAMAttributes, 8)
	switch {
	case q.MRSignerSEAM() != m.mrsigner:
		return fail(checkTCB, evidence.Untrusted, "MRSIGNERSEAM", nil)
	case !equalMasked(attributes, m.attributesMask[:], m.attributes[:]) || q.SEAMAttributes() != 0:
		return fail(checkTCB, evidence.Untrusted, "SEAMATTRIBUTES", nil)
	}
	return nil
}
