package tdx

import (
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// An Update is what has to be done for a security version to rise.
type Update string

// The Updates.
const (
	UpdateFirmware Update = "bios or microcode" // of the platform; Shortfall.Name says which as Intel does
	UpdatePCE      Update = "pce"               // the provisioning certification enclave, on the host
	UpdateModule   Update = "tdx module"
	UpdateQE       Update = "quoting enclave"
	Relaunch       Update = "relaunch" // the platform is updated: the TD has to be launched again
)

// A Shortfall is a security version below the highest level that Intel lists, or a
// module of a version for which Intel lists none. Of that, Field is
// "tdxModuleIdentities.id", and Have and Want are major versions: Want is the
// highest one listed, which may be the lower of the two.
type Shortfall struct {
	Field      string // as in Intel's documents, such as "sgxtcbcomponents[7]"
	Name       string // what Intel calls the component, such as "BIOS Early Microcode Update"; "" if nothing
	Have, Want uint16
	Update     Update
}

// String returns one line for a log.
func (s Shortfall) String() string {
	name := ""
	if s.Name != "" {
		name = " (" + s.Name + ")"
	}
	return fmt.Sprintf("%s%s: %d, needs %d: %s", s.Field, name, s.Have, s.Want, s.Update)
}

// Updates returns what has to be done for the Shortfalls, sorted, each once.
func (t TCB) Updates() []Update {
	var us []Update
	for _, s := range t.Shortfalls {
		us = append(us, s.Update)
	}
	slices.Sort(us)
	return slices.Compact(us)
}

// shortfalls returns what is short in the parts of t that demand an update.
func shortfalls(info *tcbInfo, id *qeIdentity, have versions, t TCB) []Shortfall {
	var list []Shortfall
	add := func(field, name string, have, want uint16, update Update) {
		if have < want {
			list = append(list, Shortfall{field, name, have, want, update})
		}
	}
	module, firmware := UpdateModule, UpdateFirmware
	if t.Status == RelaunchAdvised || t.Status == RelaunchAdvisedConfigurationNeeded {
		module, firmware = Relaunch, Relaunch // of what the TD was launched with
	}
	if top := info.levels[0]; !isBetterThanOutOfDate(t.Platform.Status) {
		for i := range top.sgx {
			add(fmt.Sprintf("sgxtcbcomponents[%d]", i), info.sgx[i], uint16(have.sgx[i]), uint16(top.sgx[i]), UpdateFirmware)
		}
		add("pcesvn", "", have.pcesvn, top.pcesvn, UpdatePCE)
		for i := firstPlatformSVN(have.launch); i < len(top.tdx); i++ {
			update := firmware
			if i < abi.SVNMicrocode {
				update = module
			}
			add(fmt.Sprintf("tdxtcbcomponents[%d]", i), info.tdx[i], uint16(have.launch[i]), uint16(top.tdx[i]), update)
		}
	}
	if m := info.modules[have.launch.ModuleVersion()]; m != nil && !isBetterThanOutOfDate(t.Module.Status) {
		add("tdxModuleIdentities.isvsvn", "", uint16(have.launch.Module()), m.levels[0].svn, module)
	}
	if v, ok := info.unlisted(have, t); ok {
		list = append(list, Shortfall{"tdxModuleIdentities.id", moduleName(v), uint16(v), uint16(info.newestModule()), UpdateModule})
	}
	if !isBetterThanOutOfDate(t.QE.Status) {
		add("enclaveIdentity.isvsvn", "", have.qe, id.levels[0].svn, UpdateQE)
	}
	return list
}

// unlisted returns the version of the module for which Intel lists nothing, if
// that makes t NotSupported: the module that launched the TD or, if no part is
// NotSupported by itself, the one that runs now.
func (info *tcbInfo) unlisted(have versions, t TCB) (uint8, bool) {
	version := have.launch.ModuleVersion()
	parts := converge(converge(t.Platform.Status, t.Module.Status), t.QE.Status)
	if parts != NotSupported && t.Status == NotSupported {
		version = have.now.ModuleVersion()
	}
	_, listed := info.moduleOf(version)
	return version, !listed
}

// newestModule returns the highest version of a module that Intel lists.
func (info *tcbInfo) newestModule() (version uint8) {
	for v := range info.modules {
		version = max(version, v)
	}
	return version
}

// moduleName returns what Intel's identities call a module of a version.
func moduleName(version uint8) string { return fmt.Sprintf("TDX_%02X", version) }
