package snp

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/internal/pki"
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

// NamesOf returns the names under which a Verifier may ask its Source for der: a
// VCEK, a VLEK or a revocation list, in DER. It is nil for anything else. A list
// does not say for which kind of key it is, so it has both names of its Line.
//
// Nothing is verified. It is for Sources that sort out files by what they hold.
func NamesOf(der []byte) []string {
	if len(der) > maxCRL {
		return nil
	}
	if c, err := x509.ParseCertificate(der); err == nil {
		return vekNames(c)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil
	}
	for _, line := range lines() {
		if list.Issuer.CommonName == rootName(line) {
			return []string{CRLName(line, VCEK), CRLName(line, VLEK)}
		}
	}
	return nil
}

// vekNames returns the name of c if it is a VEK of any Line.
func vekNames(c *x509.Certificate) []string {
	for _, line := range lines() {
		for _, kind := range []KeyKind{VCEK, VLEK} {
			if c.Issuer.CommonName != issuerName(line, kind) {
				continue
			}
			k, err := parseVEK(c, line, kind)
			switch {
			case err != nil:
				return nil
			case kind == VLEK:
				return []string{VLEKName(k.tcb)}
			}
			return []string{VCEKName(k.chip, k.tcb)}
		}
	}
	return nil
}

// TableVEKs returns the VCEK and the VLEK of a certificate table, as far as it
// has them, in DER. It is an error if table is not well formed, or empty. Nothing
// is verified. It shares memory with table.
func TableVEKs(table []byte) ([][]byte, error) {
	t, err := parseTable(table)
	if err != nil {
		return nil, fmt.Errorf("snp: certificate table: %w", err)
	}
	if len(table) == 0 {
		return nil, errors.New("snp: certificate table: empty")
	}
	var veks [][]byte
	for _, data := range (items{table: t}).candidates(VCEK) {
		der, err := pki.DER(data, pki.Certificate)
		if err != nil {
			return nil, fmt.Errorf("snp: certificate table: %w", err)
		}
		veks = append(veks, der)
	}
	return veks, nil
}
