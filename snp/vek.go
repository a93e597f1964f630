package snp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/teebroker/teebroker/snp/internal/abi"
)

// vek is what the certificate of a VCEK or VLEK says. It is immutable.
type vek struct {
	line                Line
	kind                KeyKind
	tcb                 TCB
	chip                ChipID // of a VCEK
	csp                 string // of a VLEK
	serial              *big.Int
	key                 *ecdsa.PublicKey
	notBefore, notAfter time.Time
}

// parseVEK checks that c is exactly what AMD issues for keys of kind on line:
// AMD 57230, section 3. It does not look at issuer, signature and time.
func parseVEK(c *x509.Certificate, line Line, kind KeyKind) (*vek, error) {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case c.Version != 3:
		return nil, fmt.Errorf("version %d", c.Version)
	case !isAMDName(c.Subject, "SEV-"+kind.String()):
		return nil, errors.New("another subject")
	case !ok || key.Curve != elliptic.P384():
		return nil, errors.New("not a key on P-384")
	}
	k := &vek{line: line, kind: kind, serial: c.SerialNumber, key: key, notBefore: c.NotBefore, notAfter: c.NotAfter}
	if err := k.parseExtensions(c.Extensions); err != nil {
		return nil, err
	}
	return k, nil
}

// isAMDName reports whether n is AMD's name with common name cn, no more and no less.
func isAMDName(n pkix.Name, cn string) bool {
	want := map[string]string{
		"2.5.4.6":  "US",
		"2.5.4.8":  "CA",
		"2.5.4.7":  "Santa Clara",
		"2.5.4.10": "Advanced Micro Devices",
		"2.5.4.11": "Engineering",
		"2.5.4.3":  cn,
	}
	for _, a := range n.Names {
		id := a.Type.String()
		if value, ok := want[id]; !ok || a.Value != any(value) {
			return false
		}
		delete(want, id)
	}
	return len(want) == 0
}

// parseExtensions reads the extensions of k's kind and line. All are required,
// and there may be no other.
func (k *vek) parseExtensions(exts []pkix.Extension) error {
	x := extensions{values: map[string][]byte{}}
	for _, e := range exts { // no two of one kind: crypto/x509 sees to that
		id := e.Id.String()
		if e.Critical {
			x.fail(id, "critical")
		}
		x.values[id] = e.Value
	}
	x.structVersion(k.line)
	x.productName(k.line)
	k.tcb = x.tcb(k.line)
	switch k.kind {
	case VCEK:
		k.chip = x.hwID(k.line)
	case VLEK:
		k.csp = x.text(abi.OIDCSPID)
	}
	for id := range x.values {
		x.fail(id, "not expected")
	}
	return x.err
}

// extensions are the values not yet taken, and the first error.
type extensions struct {
	values map[string][]byte
	err    error
}

func (x *extensions) fail(id, why string) {
	if x.err == nil {
		x.err = fmt.Errorf("extension %s: %s", id, why)
	}
}

// take returns the value of an extension that is required, once.
func (x *extensions) take(id string) []byte {
	v, ok := x.values[id]
	if !ok {
		x.fail(id, "missing")
	}
	delete(x.values, id)
	return v
}

// number takes a canonical INTEGER from 0 to 255.
func (x *extensions) number(id string) uint8 {
	var n int
	if rest, err := asn1.Unmarshal(x.take(id), &n); err != nil || len(rest) != 0 || n < 0 || n > 0xFF {
		x.fail(id, "not an INTEGER of 8 bits")
	}
	return uint8(n)
}

// text takes an IA5String of 1 to 127 printable characters.
func (x *extensions) text(id string) string {
	const tag = 0x16 // encoding/asn1 would take any type of string
	v := x.take(id)
	if len(v) < 3 || v[0] != tag || v[1] > 0x7F || int(v[1]) != len(v)-2 {
		x.fail(id, "not an IA5String")
		return ""
	}
	for _, c := range v[2:] {
		if c < ' ' || c > '~' {
			x.fail(id, "not printable")
		}
	}
	return string(v[2:])
}

func (x *extensions) structVersion(line Line) {
	var want uint8
	if line == Turin {
		want = 1
	}
	if x.number(abi.OIDStructVersion) != want {
		x.fail(abi.OIDStructVersion, "of another line")
	}
}

// productName takes the name of line, after which AMD puts a stepping on some.
func (x *extensions) productName(line Line) {
	name, stepping, _ := strings.Cut(x.text(abi.OIDProductName), "-")
	if name != line.String() || len(stepping) > 2 {
		x.fail(abi.OIDProductName, "of another line")
	}
}

func (x *extensions) tcb(line Line) TCB {
	t := TCB{
		Line:       line,
		Bootloader: x.number(abi.OIDBootloader),
		TEE:        x.number(abi.OIDTEE),
		Firmware:   x.number(abi.OIDFirmware),
		Microcode:  x.number(abi.OIDMicrocode),
	}
	reserved := []string{abi.OIDSPL4, abi.OIDSPL5, abi.OIDSPL6, abi.OIDSPL7}
	if line == Turin {
		t.FMC = x.number(abi.OIDFMC)
		reserved = reserved[1:]
	}
	for _, id := range reserved {
		if x.number(id) != 0 {
			x.fail(id, "not zero")
		}
	}
	return t
}

// hwID takes the bytes of a chip's identity. They may look like DER and are not:
// their number decides.
func (x *extensions) hwID(line Line) ChipID {
	var id ChipID
	v := x.take(abi.OIDHwID)
	copy(id[:], v)
	if len(v) != line.hwIDSize() || id == (ChipID{}) {
		x.fail(abi.OIDHwID, "not the identity of a chip")
	}
	return id
}
