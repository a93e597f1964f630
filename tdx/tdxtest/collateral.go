package tdxtest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
)

// TCBInfo is a TCB Info of TDX, API of Intel's PCS, version 4. Members are as
// they are written; binary ones are in hexadecimal.
type TCBInfo struct {
	ID         string           `json:"id"`
	Version    int              `json:"version"`
	Issued     time.Time        `json:"issueDate"`
	NextUpdate time.Time        `json:"nextUpdate"`
	FMSPC      string           `json:"fmspc"`
	PCEID      string           `json:"pceId"`
	TCBType    int              `json:"tcbType"`
	Number     uint32           `json:"tcbEvaluationDataNumber"`
	Module     Module           `json:"tdxModule"`
	Modules    []ModuleIdentity `json:"tdxModuleIdentities,omitempty"`
	Levels     []PlatformLevel  `json:"tcbLevels"`
}

// Module says which TDX modules are Intel's.
type Module struct {
	MRSIGNER       string `json:"mrsigner"`
	Attributes     string `json:"attributes"`
	AttributesMask string `json:"attributesMask"`
}

// ModuleIdentity is a Module of one version and its levels.
type ModuleIdentity struct {
	ID string `json:"id"` // such as "TDX_01"
	Module
	Levels []EnclaveLevel `json:"tcbLevels"`
}

// PlatformLevel is a level of a platform.
type PlatformLevel struct {
	TCB        PlatformTCB `json:"tcb"`
	Date       time.Time   `json:"tcbDate"`
	Status     tdx.Status  `json:"tcbStatus"`
	Advisories []string    `json:"advisoryIDs,omitempty"`
}

// PlatformTCB is the least security versions of a level.
type PlatformTCB struct {
	SGX    []Component `json:"sgxtcbcomponents"`
	PCESVN uint16      `json:"pcesvn"`
	TDX    []Component `json:"tdxtcbcomponents"`
}

// Component is the least security version of a component, and what it is of.
type Component struct {
	SVN      int    `json:"svn"`
	Category string `json:"category,omitempty"`
	Type     string `json:"type,omitempty"`
}

// QEIdentity is an identity of the TD quoting enclave. Members are as those of
// TCBInfo.
type QEIdentity struct {
	ID             string         `json:"id"`
	Version        int            `json:"version"`
	Issued         time.Time      `json:"issueDate"`
	NextUpdate     time.Time      `json:"nextUpdate"`
	Number         uint32         `json:"tcbEvaluationDataNumber"`
	MiscSelect     string         `json:"miscselect"`
	MiscSelectMask string         `json:"miscselectMask"`
	Attributes     string         `json:"attributes"`
	AttributesMask string         `json:"attributesMask"`
	MRSIGNER       string         `json:"mrsigner"`
	ISVProdID      uint16         `json:"isvprodid"`
	Levels         []EnclaveLevel `json:"tcbLevels"`
}

// EnclaveLevel is a level of a module or of a quoting enclave.
type EnclaveLevel struct {
	TCB        EnclaveTCB `json:"tcb"`
	Date       time.Time  `json:"tcbDate"`
	Status     tdx.Status `json:"tcbStatus"`
	Advisories []string   `json:"advisoryIDs,omitempty"`
}

// EnclaveTCB is the least security version of a level.
type EnclaveTCB struct {
	ISVSVN int `json:"isvsvn"`
}

// JSON returns the document, as Intel writes it.
func (i TCBInfo) JSON() []byte { return must(json.Marshal(i)) }

// JSON returns the document, as Intel writes it.
func (q QEIdentity) JSON() []byte { return must(json.Marshal(q)) }

// Members that are signed, by the document that they are in.
const (
	MemberTCBInfo    = "tcbInfo"
	MemberQEIdentity = "enclaveIdentity"
)

// Sign returns the document that has member with the value body, signed as it is,
// whatever it is, and the chain of its signer.
func (n *Intel) Sign(member string, body []byte) evidence.Collateral {
	h := n.authorities()
	return evidence.Collateral{
		Data:   fmt.Appendf(nil, `{"%s":%s,"signature":"%x"}`, member, body, signRaw(h.keys[TCBSigning], body)),
		Issuer: PEM(h.certs[TCBSigning], h.certs[Root]),
	}
}

// SignTCBInfo returns i, signed.
func (n *Intel) SignTCBInfo(i TCBInfo) evidence.Collateral { return n.Sign(MemberTCBInfo, i.JSON()) }

// SignQEIdentity returns q, signed.
func (n *Intel) SignQEIdentity(q QEIdentity) evidence.Collateral {
	return n.Sign(MemberQEIdentity, q.JSON())
}
