package tdx_test

import (
	"slices"
	"testing"
	"time"

	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

func (f *fake) levels() []any        { return f.info["tcbLevels"].([]any) }
func (f *fake) top() object          { return f.levels()[1].(object) }
func (f *fake) module() object       { return f.info["tdxModuleIdentities"].([]any)[0].(object) }
func (f *fake) moduleLevels() []any  { return f.module()["tcbLevels"].([]any) }
func (f *fake) qeLevels() []any      { return f.identity["tcbLevels"].([]any) }
func (f *fake) setQE(svn uint16)     { f.platform.QE.ISVSVN = svn }
func (f *fake) setModule(svn byte)   { f.platform.Launched[abi.SVNModule] = svn }
func (f *fake) setStatus(s string)   { f.top()["tcbStatus"] = s }
func (f *fake) setRunning(b ...byte) { copy(f.platform.Running[:], b) }

// Which level a platform reaches.
func TestPlatformLevel(t *testing.T) {
	const u, o, n = tdx.UpToDate, tdx.OutOfDate, tdx.NotSupported
	for _, c := range []struct {
		claim string
		edit  func(*fake)
		want  tdx.Status
	}{
		{"all reached", func(*fake) {}, u},
		{"one SGX component short", func(f *fake) { tcbOf(f.top())["sgxtcbcomponents"] = svns(3, 3, 2, 2, 5) }, o},
		{"the last SGX component short", func(f *fake) {
			tcbOf(f.top())["sgxtcbcomponents"] = append(svns()[:15], object{"svn": 1})
		}, o},
		{"PCESVN short by its low byte", func(f *fake) { tcbOf(f.top())["pcesvn"] = 0x1235 }, o},
		{"PCESVN reached by its high byte", func(f *fake) { tcbOf(f.top())["pcesvn"] = 0x0FFF }, u},
		{"microcode short", func(f *fake) { f.platform.Launched[abi.SVNMicrocode] = 2 }, o},
		{"the last TDX component short", func(f *fake) {
			tcbOf(f.top())["tdxtcbcomponents"] = append(svns(5, 0, 3)[:15], object{"svn": 1})
		}, o},
		{"from module version 1 the first two components mean nothing", func(f *fake) { tcbOf(f.top())["tdxtcbcomponents"] = svns(200, 200, 3) }, u},
		{"module version 0 needs the first", func(f *fake) { f.td.Version = abi.V4; copy(f.platform.Launched[:], []byte{4, 0, 3}) }, o},
		{"module version 0 has it", func(f *fake) { f.td.Version = abi.V4; copy(f.platform.Launched[:], []byte{5, 0, 3}) }, u},
		{"below all", func(f *fake) { f.platform.Launched[abi.SVNMicrocode] = 0 }, n},
		{"an SVN of 255 is more than 254", func(f *fake) {
			tcbOf(f.top())["sgxtcbcomponents"] = svns(3, 3, 2, 2, 4, 1, 0, 255)
		}, u},
	} {
		f := newFake(t)
		c.edit(f)
		f.setRunning(f.platform.Launched[:]...)
		if got := f.claims().TCB; got.Platform.Status != c.want || got.Status != c.want {
			t.Errorf("%s: %s, together %s; want %s", c.claim, got.Platform.Status, got.Status, c.want)
		}
	}
}

func TestModuleLevel(t *testing.T) {
	for _, c := range []struct {
		claim        string
		svn, version byte
		want         tdx.Status
	}{
		{"version 0 has no level", 5, 0, tdx.UpToDate},
		{"at the highest", 5, 1, tdx.UpToDate},
		{"above it", 255, 1, tdx.UpToDate},
		{"below it", 4, 1, tdx.OutOfDate},
		{"below all", 1, 1, tdx.NotSupported},
		{"of no known version", 255, 2, tdx.NotSupported},
	} {
		f := newFake(t)
		copy(f.platform.Launched[:], []byte{c.svn, c.version, 3})
		f.setRunning(f.platform.Launched[:]...)
		if got := f.claims().TCB; got.Module.Status != c.want || got.Status != c.want {
			t.Errorf("%s: %s, together %s; want %s", c.claim, got.Module.Status, got.Status, c.want)
		}
	}
	f := newFake(t)
	f.module()["id"] = "tdx_01"
	if got := f.claims().TCB.Module.Status; got != tdx.UpToDate {
		t.Errorf("name in lower case: %s", got)
	}
	f = newFake(t)
	delete(f.info, "tdxModuleIdentities")
	if got := f.claims().TCB.Module.Status; got != tdx.NotSupported {
		t.Errorf("no identities: %s", got)
	}
}

// A relaunch is advised if that is all that is needed.
func TestRelaunch(t *testing.T) {
	old := func(f *fake) { f.setModule(4) } // the module that launched the TD, OutOfDate
	for _, c := range []struct {
		claim string
		edit  func(*fake)
		want  tdx.Status
	}{
		{"module updated", func(*fake) {}, tdx.RelaunchAdvised},
		{"microcode updated too", func(f *fake) { f.platform.Launched[abi.SVNMicrocode] = 2; f.setRunning(5, 1, 3) }, tdx.RelaunchAdvised},
		{"another version of the module, with an identity", func(f *fake) {
			v3 := object{}
			for k, v := range f.module() {
				v3[k] = v
			}
			v3["id"], v3["tcbLevels"] = "TDX_03", []any{level("UpToDate", "2025-06-01", object{"isvsvn": 2})}
			f.info["tdxModuleIdentities"] = append(f.info["tdxModuleIdentities"].([]any), v3)
			f.setRunning(2, 3, 3)
		}, tdx.RelaunchAdvised},
		{"another version of the module, without", func(f *fake) { f.setRunning(9, 3, 3) }, tdx.NotSupported},
		{"version 0 runs, high enough", func(f *fake) { f.setRunning(5, 0, 3) }, tdx.RelaunchAdvised},
		{"version 0 runs, too low", func(f *fake) { f.setRunning(4, 0, 3) }, tdx.OutOfDate},
		{"platform needs software hardening", func(f *fake) { f.setStatus("SWHardeningNeeded") }, tdx.RelaunchAdvised},
		{"platform needs configuration", func(f *fake) { f.setStatus("ConfigurationNeeded") }, tdx.RelaunchAdvisedConfigurationNeeded},
		{"platform needs both", func(f *fake) { f.setStatus("ConfigurationAndSWHardeningNeeded") }, tdx.RelaunchAdvisedConfigurationNeeded},
		{"the launch was of a configuration", func(f *fake) {
			f.platform.Launched[abi.SVNMicrocode] = 2
			f.setRunning(5, 1, 3)
			f.levels()[0].(object)["tcbStatus"] = "OutOfDateConfigurationNeeded"
		}, tdx.RelaunchAdvisedConfigurationNeeded},
		{"the platform needs configuration, the launch was of a level that does not", func(f *fake) {
			f.setStatus("ConfigurationNeeded")
			f.platform.Launched[abi.SVNMicrocode] = 2
		}, tdx.RelaunchAdvisedConfigurationNeeded},
		{"module not updated", func(f *fake) { f.setRunning(4, 1, 3) }, tdx.OutOfDate},
		{"microcode that runs is too low", func(f *fake) { f.setRunning(5, 1, 2) }, tdx.OutOfDate},
		{"the platform itself is out of date", func(f *fake) { tcbOf(f.top())["pcesvn"] = 0x1235 }, tdx.OutOfDate},
		{"the module was up to date, the microcode not", func(f *fake) { f.setModule(5); f.platform.Launched[abi.SVNMicrocode] = 2 }, tdx.OutOfDate},
		{"the module is revoked", func(f *fake) { f.moduleLevels()[0].(object)["tcbStatus"] = "Revoked" }, tdx.Revoked},
		{"the module is of no level", func(f *fake) { f.setModule(1) }, tdx.NotSupported},
		{"the platform is revoked", func(f *fake) { f.setStatus("Revoked") }, tdx.Revoked},
		{"QE out of date", func(f *fake) { f.setQE(4) }, tdx.OutOfDate},
		{"QE revoked", func(f *fake) { f.setQE(1) }, tdx.Revoked},
		{"QE of no level", func(f *fake) { f.setQE(0) }, tdx.NotSupported},
		{"TD report 1.0 can't tell", func(f *fake) { f.td.Body = tdx.TD10 }, tdx.OutOfDate},
		{"TD report 1.0 can't tell, whatever the floor", func(f *fake) {
			f.td.Body = tdx.TD10
			tcbOf(f.top())["tdxtcbcomponents"] = svns()
		}, tdx.OutOfDate},
	} {
		f := newFake(t)
		old(f)
		f.setRunning(5, 1, 3)
		c.edit(f)
		if got := f.claims().TCB; got.Status != c.want {
			t.Errorf("%s: %s, want %s (%s, %s, %s)", c.claim, got.Status, c.want, got.Platform.Status, got.Module.Status, got.QE.Status)
		}
	}
}

func TestDates(t *testing.T) {
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		claim               string
		platform, module, q string
		want                string
	}{
		{"the platform's is first", "2025-01-01", "2025-02-01", "2025-03-01", "2025-01-01"},
		{"the module's is first", "2025-02-01", "2025-01-01", "2025-03-01", "2025-01-01"},
		{"the enclave's is first", "2025-02-01", "2025-03-01", "2025-01-01", "2025-01-01"},
	} {
		f := newFake(t)
		f.top()["tcbDate"] = c.platform + "T00:00:00Z"
		f.moduleLevels()[1].(object)["tcbDate"] = c.module + "T00:00:00Z"
		f.qeLevels()[1].(object)["tcbDate"] = c.q + "T00:00:00Z"
		tcb := f.claims().TCB
		if !tcb.Date.Equal(day(c.want)) || !tcb.Platform.Date.Equal(day(c.platform)) || !tcb.Module.Date.Equal(day(c.module)) || !tcb.QE.Date.Equal(day(c.q)) {
			t.Errorf("%s: %v of %v, %v, %v", c.claim, tcb.Date, tcb.Platform.Date, tcb.Module.Date, tcb.QE.Date)
		}
	}
	f := newFake(t)
	f.setQE(0)
	f.setModule(4)
	tcb := f.claims().TCB
	if !tcb.Date.IsZero() || !tcb.QE.Date.IsZero() || !tcb.QE.Latest.Equal(day("2025-04-01")) {
		t.Errorf("on no level: %v", tcb)
	}
	if !tcb.Module.Date.Equal(day("2024-01-01")) || !tcb.Module.Latest.Equal(day("2025-06-01")) {
		t.Errorf("module behind: %v", tcb.Module)
	}
}

func TestAdvisories(t *testing.T) {
	f := newFake(t)
	f.platform.Launched[abi.SVNMicrocode] = 2
	f.setModule(4)
	f.setRunning(f.platform.Launched[:]...)
	f.moduleLevels()[0].(object)["advisoryIDs"] = []any{"INTEL-SA-00003", "INTEL-SA-00001"}
	f.qeLevels()[1].(object)["advisoryIDs"] = []any{"INTEL-SA-00004"} // also where UpToDate
	tcb := f.claims().TCB
	if got, want := tcb.Advisories(), []string{"INTEL-SA-00001", "INTEL-SA-00002", "INTEL-SA-00003", "INTEL-SA-00004"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := tcb.Platform.Advisories, []string{"INTEL-SA-00002", "INTEL-SA-00001"}; !slices.Equal(got, want) {
		t.Errorf("platform: got %v, want %v", got, want)
	}
}

// Which security version is short, by how much, and what has to be done.
func TestShortfalls(t *testing.T) {
	for _, c := range []struct {
		claim   string
		edit    func(*fake)
		want    []string
		updates []tdx.Update
	}{
		{"up to date", func(*fake) {}, nil, nil},
		{"up to date, but not at the highest level", func(f *fake) {
			f.info["tcbLevels"] = append(f.levels(), level("UpToDate", "2025-05-01", object{"sgxtcbcomponents": svns(9), "pcesvn": 0, "tdxtcbcomponents": svns()}))
		}, nil, nil},
		{
			"microcode", func(f *fake) { f.platform.Launched[abi.SVNMicrocode] = 2 },
			[]string{"tdxtcbcomponents[2] (BIOS): 2, needs 3: bios or microcode"},
			[]tdx.Update{tdx.UpdateFirmware},
		},
		{
			"BIOS and PCE", func(f *fake) {
				tcbOf(f.top())["sgxtcbcomponents"], tcbOf(f.top())["pcesvn"] = svns(4, 3, 9), 0x1240
			},
			[]string{"sgxtcbcomponents[0] (BIOS): 3, needs 4: bios or microcode", "sgxtcbcomponents[2] (BIOS): 2, needs 9: bios or microcode", "pcesvn: 4660, needs 4672: pce"},
			[]tdx.Update{tdx.UpdateFirmware, tdx.UpdatePCE},
		},
		{
			"module", func(f *fake) { f.setModule(3); f.setRunning(3) },
			[]string{"tdxModuleIdentities.isvsvn: 3, needs 5: tdx module"},
			[]tdx.Update{tdx.UpdateModule},
		},
		{
			"module of version 0", func(f *fake) { copy(f.platform.Launched[:], []byte{3, 0, 3}); f.setRunning(3, 0, 3) },
			[]string{"tdxtcbcomponents[0] (BIOS): 3, needs 5: tdx module"},
			[]tdx.Update{tdx.UpdateModule},
		},
		{
			"module of no known version", func(f *fake) { copy(f.platform.Launched[:], []byte{3, 9, 3}) },
			[]string{"tdxModuleIdentities.id (TDX_09): 9, needs 1: tdx module"},
			[]tdx.Update{tdx.UpdateModule},
		},
		{
			"module of no known version, on a platform that is short", func(f *fake) { copy(f.platform.Launched[:], []byte{3, 9, 2}) },
			[]string{"tdxtcbcomponents[2] (BIOS): 2, needs 3: bios or microcode", "tdxModuleIdentities.id (TDX_09): 9, needs 1: tdx module"},
			[]tdx.Update{tdx.UpdateFirmware, tdx.UpdateModule},
		},
		{
			"a module runs of no known version", func(f *fake) { f.setModule(4); f.setRunning(9, 2, 3) },
			[]string{"tdxModuleIdentities.isvsvn: 4, needs 5: tdx module", "tdxModuleIdentities.id (TDX_02): 2, needs 1: tdx module"},
			[]tdx.Update{tdx.UpdateModule},
		},
		{
			"relaunch", func(f *fake) { copy(f.platform.Launched[:], []byte{4, 1, 2}) },
			[]string{"tdxtcbcomponents[2] (BIOS): 2, needs 3: relaunch", "tdxModuleIdentities.isvsvn: 4, needs 5: relaunch"},
			[]tdx.Update{tdx.Relaunch},
		},
		{
			"quoting enclave", func(f *fake) { f.setQE(4) },
			[]string{"enclaveIdentity.isvsvn: 4, needs 6: quoting enclave"},
			[]tdx.Update{tdx.UpdateQE},
		},
		{
			"on no level", func(f *fake) { f.platform.Launched[abi.SVNMicrocode] = 0 },
			[]string{"tdxtcbcomponents[2] (BIOS): 0, needs 3: bios or microcode"},
			[]tdx.Update{tdx.UpdateFirmware},
		},
	} {
		f := newFake(t)
		c.edit(f)
		tcb := f.claims().TCB
		var got []string
		for _, s := range tcb.Shortfalls {
			got = append(got, s.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s (%s):\n got %q\nwant %q", c.claim, tcb.Status, got, c.want)
		}
		if !slices.Equal(tcb.Updates(), c.updates) {
			t.Errorf("%s: updates %q", c.claim, tcb.Updates())
		}
	}
}
