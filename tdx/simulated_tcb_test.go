package tdx_test

import (
	"fmt"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// Statuses by short names, for tables.
const (
	utd  = tdx.UpToDate
	swh  = tdx.SWHardeningNeeded
	cn   = tdx.ConfigurationNeeded
	cswh = tdx.ConfigurationAndSWHardeningNeeded
	ra   = tdx.RelaunchAdvised
	racn = tdx.RelaunchAdvisedConfigurationNeeded
	ood  = tdx.OutOfDate
	oodc = tdx.OutOfDateConfigurationNeeded
	rev  = tdx.Revoked
	ns   = tdx.NotSupported
)

// What platform, module and QE are together: a row for each of the platform, a
// group for each of the module, and in it UpToDate, OutOfDate, Revoked and
// NotSupported of the QE.
var together = map[tdx.Status]map[tdx.Status][4]tdx.Status{
	utd:  {utd: {utd, ood, rev, ns}, ood: {ood, ood, rev, ns}, rev: {rev, rev, rev, ns}, ns: {ns, ns, ns, ns}},
	swh:  {utd: {swh, ood, rev, ns}, ood: {ood, ood, rev, ns}, rev: {rev, rev, rev, ns}, ns: {ns, ns, ns, ns}},
	cn:   {utd: {cn, oodc, rev, ns}, ood: {oodc, oodc, rev, ns}, rev: {rev, rev, rev, ns}, ns: {ns, ns, ns, ns}},
	cswh: {utd: {cswh, oodc, rev, ns}, ood: {oodc, oodc, rev, ns}, rev: {rev, rev, rev, ns}, ns: {ns, ns, ns, ns}},
	ood:  {utd: {ood, ood, rev, ns}, ood: {ood, ood, rev, ns}, rev: {rev, rev, rev, ns}, ns: {ns, ns, ns, ns}},
	oodc: {utd: {oodc, oodc, rev, ns}, ood: {oodc, oodc, rev, ns}, rev: {rev, rev, rev, ns}, ns: {ns, ns, ns, ns}},
	rev:  {utd: {rev, rev, rev, ns}, ood: {rev, rev, rev, ns}, rev: {rev, rev, rev, ns}, ns: {ns, ns, ns, ns}},
	ns:   {utd: {ns, ns, ns, ns}, ood: {ns, ns, ns, ns}, rev: {ns, ns, ns, ns}, ns: {ns, ns, ns, ns}},
}

// What it is if the module was OutOfDate at launch, a current one runs on current
// microcode and the QE is UpToDate: a row for each status of the platform as such,
// and in it those of the platform as the TD was launched on it.
var relaunched = map[tdx.Status]map[tdx.Status]tdx.Status{
	utd:  {utd: ra, swh: ra, cn: racn, cswh: racn, ood: ra, oodc: racn, rev: rev, ns: ns},
	swh:  {utd: ra, swh: ra, cn: racn, cswh: racn, ood: ra, oodc: racn, rev: rev, ns: ns},
	cn:   {utd: racn, swh: racn, cn: racn, cswh: racn, ood: racn, oodc: racn, rev: rev, ns: ns},
	cswh: {utd: racn, swh: racn, cn: racn, cswh: racn, ood: racn, oodc: racn, rev: rev, ns: ns},
	ood:  {utd: ood, swh: ood, cn: oodc, cswh: oodc, ood: ood, oodc: oodc, rev: rev, ns: ns},
	oodc: {utd: ood, swh: ood, cn: oodc, cswh: oodc, ood: ood, oodc: oodc, rev: rev, ns: ns},
	rev:  {utd: ood, swh: ood, cn: oodc, cswh: oodc, ood: ood, oodc: oodc, rev: rev, ns: ns},
}

// A status of the QE, by the version that has it in cellIdentity.
var cellQEs = []struct {
	svn    uint16
	status tdx.Status
}{{8, utd}, {7, ood}, {4, rev}, {3, ns}}

// A status of the module, by the TEE_TCB_SVN that has it in cellInfo.
var cellModules = []struct {
	svn, version uint8
	status       tdx.Status
}{
	{6, 1, utd},
	{5, 1, ood},
	{2, 1, rev},
	{1, 1, ns},
	{4, 0, utd}, // TDX 1.0 has no level of its own
	{99, 7, ns}, // no identity
}

// cellRunning are what may run, by TEE_TCB_SVN_2.
var cellRunning = []struct {
	name string
	svn  tdx.SVN
	// A relaunch of an OutOfDate module is advised if it is current, and nothing is
	// known of one without identity.
	current, unknown bool
}{
	{"a current module", tdx.SVN{6, 1, 5}, true, false},
	{"a current module of another version", tdx.SVN{3, 3, 9}, true, false},
	{"a current module of version 0", tdx.SVN{4, 0, 5}, true, false},
	{"a module one below", tdx.SVN{5, 1, 5}, false, false},
	{"a module of another version one below", tdx.SVN{2, 3, 5}, false, false},
	{"a module of version 0 one below", tdx.SVN{3, 0, 5}, false, false},
	{"microcode one below", tdx.SVN{6, 1, 4}, false, false},
	{"a module without identity", tdx.SVN{99, 7, 5}, false, true},
}

// The microcode that a TD was launched with, to reach the upper level of cellInfo,
// the lower, or none.
const (
	reachesUpper = 5
	reachesLower = 3
	reachesNone  = 2
)

// cellInfo returns TCB Info by which a platform as such has the status upper, and
// one whose TD was launched with earlier microcode has lower. The order of levels
// is not the one that counts.
func cellInfo(n *tdxtest.Intel, upper, lower tdx.Status) evidence.Collateral {
	info := n.TCBInfo(tdxtest.FMSPC(tdx.PlatformCA))
	date := simulatedNow().AddDate(-1, 0, 0)
	level := func(status tdx.Status, microcode uint8) tdxtest.PlatformLevel {
		return tdxtest.NewLevel(status, date, [16]uint8{1, 1}, 1, [16]uint8{4, 0, microcode})
	}
	info.Levels = []tdxtest.PlatformLevel{level(lower, reachesLower), level(upper, reachesUpper)}
	info.Modules[0].Levels = []tdxtest.EnclaveLevel{{TCB: tdxtest.EnclaveTCB{ISVSVN: 3}, Date: date, Status: utd}}
	info.Modules[1].Levels = []tdxtest.EnclaveLevel{
		{TCB: tdxtest.EnclaveTCB{ISVSVN: 2}, Date: date, Status: rev},
		{TCB: tdxtest.EnclaveTCB{ISVSVN: 6}, Date: date, Status: utd},
		{TCB: tdxtest.EnclaveTCB{ISVSVN: 4}, Date: date, Status: ood},
	}
	return n.SignTCBInfo(info)
}

func cellIdentity(n *tdxtest.Intel) evidence.Collateral {
	id, date := n.QEIdentity(), simulatedNow().AddDate(-1, 0, 0)
	id.Levels = []tdxtest.EnclaveLevel{
		{TCB: tdxtest.EnclaveTCB{ISVSVN: 4}, Date: date, Status: rev},
		{TCB: tdxtest.EnclaveTCB{ISVSVN: 6}, Date: date, Status: ood},
		{TCB: tdxtest.EnclaveTCB{ISVSVN: 8}, Date: date, Status: utd},
	}
	return n.SignQEIdentity(id)
}

// cell is what a quote says of security versions.
type cell struct {
	version           uint16
	launched, running tdx.SVN
	qe                uint16
}

// cells verifies quotes of one platform by one Verifier.
type cells struct {
	t        *testing.T
	intel    *tdxtest.Intel
	platform *tdxtest.Platform
	set      tdxtest.Set
	verifier *tdx.Verifier
	quotes   map[cell]evidence.Evidence // made before
}

func newCells(t *testing.T) *cells {
	n := newSimulatedIntel()
	s := n.Set()
	s[tdx.QEIdentityName()] = []evidence.Collateral{cellIdentity(n)}
	return &cells{
		t: t, intel: n, platform: n.Platform(tdx.PlatformCA), set: s,
		verifier: newVerifier(t, tdx.Config{Anchors: n.Anchors(), Source: s, Time: simulatedNow}),
		quotes:   map[cell]evidence.Evidence{},
	}
}

// publish makes a platform have the statuses of [cellInfo].
func (c *cells) publish(upper, lower tdx.Status) {
	c.set[tdx.TCBInfoName(c.platform.PCK.FMSPC)] = []evidence.Collateral{cellInfo(c.intel, upper, lower)}
}

// tcb returns what is claimed of at.
func (c *cells) tcb(at cell) tdx.TCB {
	c.t.Helper()
	want := simulatedBinding(c.t)
	ev, ok := c.quotes[at]
	if !ok {
		c.platform.Launched, c.platform.Running, c.platform.QE.ISVSVN = at.launched, at.running, at.qe
		ev = c.platform.Quote(tdxtest.TD{Version: at.version}, want)
		c.quotes[at] = ev
	}
	got, err := c.verifier.Verify(c.t.Context(), ev, want)
	if err != nil {
		c.t.Fatal(err)
	}
	claims, _ := tdx.ClaimsOf(got)
	return claims.TCB
}

// check fails the test unless at has a status in all, and in each part.
func (c *cells) check(name string, at cell, want, platform, module, qe tdx.Status) {
	c.t.Helper()
	got := c.tcb(at)
	if got.Platform.Status != platform || got.Module.Status != module || got.QE.Status != qe {
		c.t.Errorf("%s: platform %s, module %s, QE %s; want %s, %s, %s", name, got.Platform.Status, got.Module.Status, got.QE.Status, platform, module, qe)
	}
	if got.Status != want {
		c.t.Errorf("%s: platform %s, module %s, QE %s are %s, want %s", name, platform, module, qe, got.Status, want)
	}
}

// platformStatuses returns those that a level of a platform may have.
func platformStatuses() []tdx.Status { return []tdx.Status{utd, swh, cn, cswh, ood, oodc, rev} }

// A TD report 1.0 does not say what runs: every cell is as the table has it.
func TestEveryCellOfVersion4(t *testing.T) {
	c := newCells(t)
	for _, lower := range append(platformStatuses(), ns) {
		microcode := uint8(reachesLower)
		if c.publish(utd, lower); lower == ns {
			c.publish(utd, ood)
			microcode = reachesNone
		}
		for _, m := range cellModules {
			for i, qe := range cellQEs {
				at := cell{version: abi.V4, launched: tdx.SVN{m.svn, m.version, microcode}, qe: qe.svn}
				c.check("version 4", at, together[lower][m.status][i], lower, m.status, qe.status)
			}
		}
	}
}

// A TD report 1.5 does: a relaunch is advised where that is all there is to do,
// and otherwise every cell is as without it.
func TestEveryCellWithRelaunch(t *testing.T) {
	c := newCells(t)
	for _, upper := range platformStatuses() {
		for _, lower := range platformStatuses() {
			c.publish(upper, lower)
			c.checkRelaunch(upper, lower, reachesLower)
		}
		c.checkRelaunch(upper, ns, reachesNone)
		c.checkRelaunch(upper, upper, reachesUpper)
	}
}

// checkRelaunch checks all modules and QEs on a platform that has the status
// upper, and launched had when the TD was launched.
func (c *cells) checkRelaunch(upper, launched tdx.Status, microcode uint8) {
	c.t.Helper()
	for _, m := range cellModules {
		for i, qe := range cellQEs {
			for j, r := range cellRunning {
				want := together[launched][m.status][i]
				switch advised := relaunched[upper][launched]; {
				case m.status != ood || qe.status != utd:
					if j > 0 {
						continue // the first is the one that counts most
					}
				case r.current:
					want = advised
				case r.unknown && (advised == ra || advised == racn):
					want = ns
				}
				at := cell{version: abi.V5, launched: tdx.SVN{m.svn, m.version, microcode}, running: r.svn, qe: qe.svn}
				c.check(fmt.Sprintf("platform now %s, %s runs", upper, r.name), at, want, launched, m.status, qe.status)
			}
		}
	}
}

// A platform that as such is on no level is NotSupported, whatever else there is.
func TestEveryCellOnNoLevel(t *testing.T) {
	c := newCells(t)
	c.platform.PCK.Components[0] = 0
	for _, status := range platformStatuses() {
		c.publish(status, status)
		for _, m := range cellModules {
			for _, r := range cellRunning {
				at := cell{version: abi.V5, launched: tdx.SVN{m.svn, m.version, reachesUpper}, running: r.svn, qe: 8}
				c.check("on no level", at, ns, ns, m.status, utd)
			}
		}
	}
}
