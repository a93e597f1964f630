package snptest

import (
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"

	"github.com/teebroker/teebroker/internal/der"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/internal/abi"
)

// VEK is what a certificate of a VCEK or VLEK says.
type VEK struct {
	Kind   snp.KeyKind // if zero, VCEK
	TCB    snp.TCB     // its Line is the issuer
	Chip   snp.ChipID  // of a VCEK
	CSP    string      // of a VLEK
	Before time.Time   // if zero, one day ago
	After  time.Time   // if zero, in seven years; of a VLEK one
	Serial *big.Int    // if nil, 0 as AMD's

	// By is the CA that is named as issuer and signs. If zero, the ASK for a
	// VCEK and the ASVK for a VLEK.
	By CA

	// Algorithm is SHA384WithRSAPSS, SHA256WithRSAPSS or SHA384WithRSA. If
	// zero, the first, which is the one AMD uses.
	Algorithm x509.SignatureAlgorithm

	// Extensions returns the extensions to use instead of exts, which it may
	// modify. If nil, exts.
	Extensions func(exts []pkix.Extension) []pkix.Extension

	// Edit changes the DER of the TBSCertificate, whose length stays as it is,
	// before it is signed.
	Edit func(tbs []byte)
}

// IssueVEK returns the DER certificate of pub, a key made elsewhere.
func (a *AMD) IssueVEK(pub *ecdsa.PublicKey, v VEK) []byte {
	p := profileOf(v.TCB.Line)
	v = v.withDefaults(a.now())
	exts := vekExtensions(p, v)
	if v.Extensions != nil {
		exts = v.Extensions(exts)
	}
	issuer := a.hierarchy(p.line)[v.By]
	id := algorithm(v.Algorithm)
	tbs := der.Encode(der.Certificate{
		Version:    2,
		Serial:     v.Serial,
		Algorithm:  id,
		Issuer:     issuer.name,
		Validity:   der.NewValidity(v.Before, v.After),
		Subject:    amdName([...]string{snp.VCEK: "SEV-VCEK", snp.VLEK: "SEV-VLEK"}[v.Kind]),
		PublicKey:  der.PublicKey(pub),
		Extensions: exts,
	})
	if v.Edit != nil {
		v.Edit(tbs)
	}
	return sign(tbs, id, issuer.key, v.Algorithm)
}

// withDefaults returns v with its zero fields filled in.
func (v VEK) withDefaults(now time.Time) VEK {
	if v.Kind == 0 {
		v.Kind = snp.VCEK
	}
	years, by := 7, ASK
	if v.Kind == snp.VLEK {
		years, by = 1, ASVK
	}
	if v.By == 0 {
		v.By = by
	}
	if v.Before.IsZero() {
		v.Before = now.AddDate(0, 0, -1)
	}
	if v.After.IsZero() {
		v.After = now.AddDate(years, 0, 0)
	}
	if v.Serial == nil {
		v.Serial = new(big.Int)
	}
	if v.Algorithm == 0 {
		v.Algorithm = x509.SHA384WithRSAPSS
	}
	return v
}

// vekExtensions returns the extensions of v in AMD's order: 57230, table 8 and
// genuine certificates.
func vekExtensions(p profile, v VEK) []pkix.Extension {
	product := p.product
	if v.Kind == snp.VLEK {
		product = p.line.String()
	}
	exts := []pkix.Extension{
		der.Extension(abi.OIDStructVersion, false, der.Encode(p.structVersion)),
		der.Extension(abi.OIDProductName, false, ia5(product)),
	}
	exts = append(exts, splExtensions(v.TCB)...)
	if v.Kind == snp.VLEK {
		return append(exts, der.Extension(abi.OIDCSPID, false, ia5(v.CSP)))
	}
	return append(exts, der.Extension(abi.OIDHwID, false, v.Chip[:hwIDSize(p.line)]))
}

// splExtensions returns the security versions of tcb.
func splExtensions(tcb snp.TCB) []pkix.Extension {
	spl := func(id string, level uint8) pkix.Extension { return der.Extension(id, false, der.Encode(int(level))) }
	fmc := spl(abi.OIDFMC, tcb.FMC)
	bootloader := spl(abi.OIDBootloader, tcb.Bootloader)
	tee := spl(abi.OIDTEE, tcb.TEE)
	firmware := spl(abi.OIDFirmware, tcb.Firmware)
	spl4, spl5, spl6, spl7 := spl(abi.OIDSPL4, 0), spl(abi.OIDSPL5, 0), spl(abi.OIDSPL6, 0), spl(abi.OIDSPL7, 0)
	microcode := spl(abi.OIDMicrocode, tcb.Microcode)
	if tcb.Line == snp.Turin {
		return []pkix.Extension{fmc, bootloader, tee, firmware, spl5, spl6, spl7, microcode}
	}
	return []pkix.Extension{bootloader, tee, spl4, spl5, spl6, spl7, firmware, microcode}
}

// hwIDSize is how many bytes of a ChipID a certificate of line has.
func hwIDSize(line snp.Line) int {
	if line == snp.Turin {
		return abi.HwIDSizeTurin
	}
	return abi.HwIDSize
}
