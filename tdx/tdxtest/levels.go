package tdxtest

import (
	"strings"
	"time"

	"github.com/teebroker/teebroker/tdx"
)

// EvaluationDataNumber is the tcbEvaluationDataNumber of what an Intel publishes.
const EvaluationDataNumber = 18

// What is up to date, and was so on genuine platforms at that evaluation.
const (
	currentPCESVN = 13
	currentQE     = 4

	qeProduct = 2
	qeSigner  = "DC9E2A7C6F948F17474E34A7FC43ED030F7C1563F1BABDDF6340C82E0E54A8C5"
)

func currentComponents() [16]uint8 { return [16]uint8{3, 3, 2, 2, 4, 1, 0, 5} }
func currentModule() tdx.SVN       { return tdx.SVN{6, 1, 3} } // TDX 1.5

// days is how long a document or list is valid.
const days = 30

// TCBInfo returns the TCB Info that n publishes for platforms of kind f, to be
// changed and signed.
//
// New platforms are at its highest level. The one below is OutOfDate: one less in
// each of the components 0, 1 and 4 of SGX and the microcode of TDX. Modules of
// TDX 1.5 are UpToDate from 6 and OutOfDate from 4, those of TDX 2.0, whose
// version is 3, UpToDate from 3.
func (n *Intel) TCBInfo(f tdx.FMSPC) TCBInfo {
	module := Module{MRSIGNER: zeros(48), Attributes: zeros(8), AttributesMask: strings.Repeat("FF", 8)}
	advisories := []string{"INTEL-SA-01036", "INTEL-SA-01099"}
	now, before := time.Date(2024, 11, 13, 0, 0, 0, 0, time.UTC), time.Date(2024, 3, 13, 0, 0, 0, 0, time.UTC)
	outdated := NewLevel(tdx.OutOfDate, before, [16]uint8{2, 2, 2, 2, 3, 1, 0, 5}, currentPCESVN, [16]uint8{5, 0, 2})
	outdated.Advisories = append([]string{"INTEL-SA-01079"}, advisories...)
	return TCBInfo{
		ID:         "TDX",
		Version:    3,
		Issued:     n.issued(),
		NextUpdate: n.issued().AddDate(0, 0, days),
		FMSPC:      strings.ToUpper(f.String()),
		PCEID:      zeros(2),
		Number:     EvaluationDataNumber,
		Module:     module,
		Modules: []ModuleIdentity{
			{ID: "TDX_03", Module: module, Levels: []EnclaveLevel{{TCB: EnclaveTCB{3}, Date: now, Status: tdx.UpToDate}}},
			{ID: "TDX_01", Module: module, Levels: []EnclaveLevel{
				{TCB: EnclaveTCB{6}, Date: now, Status: tdx.UpToDate},
				{TCB: EnclaveTCB{4}, Date: before, Status: tdx.OutOfDate, Advisories: advisories},
			}},
		},
		Levels: []PlatformLevel{
			NewLevel(tdx.UpToDate, now, currentComponents(), currentPCESVN, [16]uint8{5, 0, 3}),
			outdated,
		},
	}
}

// QEIdentity returns the QE identity that n publishes, to be changed and signed.
// Its only level is that of new platforms.
func (n *Intel) QEIdentity() QEIdentity {
	return QEIdentity{
		ID:             "TD_QE",
		Version:        2,
		Issued:         n.issued(),
		NextUpdate:     n.issued().AddDate(0, 0, days),
		Number:         EvaluationDataNumber,
		MiscSelect:     zeros(4),
		MiscSelectMask: "FFFFFFFF",
		Attributes:     "11" + zeros(15),
		AttributesMask: "FBFFFFFFFFFFFFFF" + zeros(8),
		MRSIGNER:       qeSigner,
		ISVProdID:      qeProduct,
		Levels:         []EnclaveLevel{{TCB: EnclaveTCB{currentQE}, Date: time.Date(2024, 11, 13, 0, 0, 0, 0, time.UTC), Status: tdx.UpToDate}},
	}
}

// NewLevel returns a level of a platform, its components named as Intel does. The
// date is tcbDate.
func NewLevel(status tdx.Status, date time.Time, sgx [16]uint8, pcesvn uint16, tdx [16]uint8) PlatformLevel {
	return PlatformLevel{
		TCB: PlatformTCB{
			SGX: components(sgx, []Component{
				{Category: "BIOS", Type: "Early Microcode Update"},
				{Category: "OS/VMM", Type: "SGX Late Microcode Update"},
				{Category: "OS/VMM", Type: "TXT SINIT"},
				{Category: "BIOS"},
				{Category: "BIOS"},
				{Category: "BIOS"},
				{},
				{Category: "OS/VMM", Type: "SEAMLDR ACM"},
			}),
			PCESVN: pcesvn,
			TDX: components(tdx, []Component{
				{Category: "OS/VMM", Type: "TDX Module"},
				{Category: "OS/VMM", Type: "TDX Module"},
				{Category: "OS/VMM", Type: "TDX Late Microcode Update"},
			}),
		},
		Date:   date,
		Status: status,
	}
}

// components returns names, and what has none, with svns.
func components(svns [16]uint8, names []Component) []Component {
	cs := make([]Component, len(svns))
	copy(cs, names)
	for i, svn := range svns {
		cs[i].SVN = int(svn)
	}
	return cs
}

// zeros returns n zero bytes in hexadecimal.
func zeros(n int) string { return strings.Repeat("00", n) }
