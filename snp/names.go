package snp

import (
	"encoding/hex"
	"fmt"
)

// VCEKName returns the name under which a Verifier asks its Source for the VCEK
// of chip at tcb: path and query of a request to AMD's key server, AMD 57230,
// section 4. It is "" for a TCB of no Line.
func VCEKName(chip ChipID, tcb TCB) string {
	if tcb.Line == 0 {
		return ""
	}
	return "/vcek/v1/" + tcb.Line.String() + "/" + hex.EncodeToString(chip[:tcb.Line.hwIDSize()]) + tcb.query()
}

// VLEKName returns the name under which a Verifier asks its Source for a VLEK at
// tcb. AMD's key server gives VLEKs to cloud providers only, so this is for
// Sources that have them by other ways. It is "" for a TCB of no Line.
func VLEKName(tcb TCB) string {
	if tcb.Line == 0 {
		return ""
	}
	return "/vlek/v1/" + tcb.Line.String() + "/cert" + tcb.query()
}

// CRLName returns the name under which a Verifier asks its Source for the list
// of revoked keys of kind and their CA, which the ARK of line signs. It is "" for no Line or no KeyKind.
func CRLName(line Line, kind KeyKind) string {
	if line == 0 {
		return ""
	}
	switch kind {
	case VCEK:
		return "/vcek/v1/" + line.String() + "/crl"
	case VLEK:
		return "/vlek/v1/" + line.String() + "/crl"
	}
	return ""
}

// query returns t as parameters of a request.
func (t TCB) query() string {
	fmc := ""
	if t.Line == Turin {
		fmc = fmt.Sprintf("fmcSPL=%d&", t.FMC)
	}
	return fmt.Sprintf("?%sblSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", fmc, t.Bootloader, t.TEE, t.Firmware, t.Microcode)
}
