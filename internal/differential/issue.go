package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// An endorsement is a certificate that a case can have, right or wrong, and what
// a report must say to go with it.
type endorsement struct {
	name string
	der  []byte
	key  *ecdsa.PrivateKey // nil if genuine; it is the key of the certificate

	line snp.Line
	kind snp.KeyKind
	tcb  [8]byte
	chip snp.ChipID // of a VCEK
}

// now is when everything simulated is made.
func now() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

// The serial number of the endorsements that a list can revoke.
const serial = 9

// lines returns the lines that are compared.
func lines() []snp.Line { return []snp.Line{snp.Milan, snp.Genoa} }

// derive returns n bytes for a purpose, the same in every process.
func derive(purpose string, n int) []byte {
	b, err := hkdf.Key(sha512.New384, []byte("differential"), nil, purpose, n)
	if err != nil {
		panic(err) // n is a constant that is too great
	}
	return b
}

// deriveKey returns the signing key with a name, the same in every process.
func deriveKey(name string) *ecdsa.PrivateKey {
	for try := 0; ; try++ {
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), derive(fmt.Sprintf("key %s %d", name, try), 48))
		if err == nil {
			return key
		}
	}
}

// issuer makes the endorsements of one line.
type issuer struct {
	amd  *snptest.AMD
	line snp.Line
	tcb  snp.TCB // of the usual endorsements
	made []*endorsement
}

// pool returns the endorsements of line. The first two are the right ones: a VCEK
// and a VLEK for tcb.
func pool(amd *snptest.AMD, line snp.Line, tcb snp.TCB) []*endorsement {
	is := &issuer{amd: amd, line: line, tcb: tcb}
	is.issue("VCEK", "", nil)
	is.issue("VLEK", "", func(v *snptest.VEK) { v.Kind = snp.VLEK })
	is.others()
	is.otherTCBs()
	is.otherTimes()
	is.otherSigners()
	is.otherExtensions()
	return is.made
}

// issue adds an endorsement that change makes of the right VCEK. Its key is the
// right one of its kind, or that called key.
func (is *issuer) issue(name, key string, change func(*snptest.VEK)) {
	v := snptest.VEK{Kind: snp.VCEK, TCB: is.tcb, Chip: chip(is.line, ""), CSP: "CN=cc-simulated.example.com"}
	if change != nil {
		change(&v)
	}
	e := &endorsement{
		name: fmt.Sprintf("%v %s", is.line, name),
		key:  deriveKey(fmt.Sprintf("%v %v %s", is.line, v.Kind, key)),
		line: is.line, kind: v.Kind, tcb: pack(v.TCB),
	}
	if v.Kind == snp.VCEK {
		e.chip = v.Chip
	}
	e.der = is.amd.IssueVEK(&e.key.PublicKey, v)
	is.made = append(is.made, e)
}

// chip returns the identity of a chip of line.
func chip(line snp.Line, name string) snp.ChipID {
	return snp.ChipID(derive(fmt.Sprintf("chip %v %s", line, name), 64))
}

// pack returns t as a report has it; both lines have the same order.
func pack(t snp.TCB) [8]byte {
	return [8]byte{0: t.Bootloader, 1: t.TEE, 6: t.Firmware, 7: t.Microcode}
}

func (is *issuer) others() {
	is.issue("VCEK of another key", "other", nil)
	is.issue("VLEK of another key", "other", func(v *snptest.VEK) { v.Kind = snp.VLEK })
	is.issue("VCEK of another chip", "", func(v *snptest.VEK) { v.Chip = chip(is.line, "other") })
	is.issue("VCEK with a serial number", "", func(v *snptest.VEK) { v.Serial = big.NewInt(serial) })
	is.issue("VLEK with a serial number", "", func(v *snptest.VEK) { v.Kind, v.Serial = snp.VLEK, big.NewInt(serial) })
	is.issue("VLEK of another provider", "", func(v *snptest.VEK) { v.Kind, v.CSP = snp.VLEK, "CN=other.example" })
}

func (is *issuer) otherTCBs() {
	for _, kind := range []snp.KeyKind{snp.VCEK, snp.VLEK} {
		for _, t := range []struct {
			name   string
			change func(*snp.TCB)
		}{
			{"a lower bootloader", func(t *snp.TCB) { t.Bootloader-- }},
			{"a higher bootloader", func(t *snp.TCB) { t.Bootloader++ }},
			{"a higher TEE", func(t *snp.TCB) { t.TEE++ }},
			{"a TEE of 0x7F", func(t *snp.TCB) { t.TEE = 0x7F }},
			{"a TEE of 0x80", func(t *snp.TCB) { t.TEE = 0x80 }},
			{"a lower SNP", func(t *snp.TCB) { t.Firmware-- }},
			{"a higher SNP", func(t *snp.TCB) { t.Firmware++ }},
			{"an SNP of 0xFF", func(t *snp.TCB) { t.Firmware = 0xFF }},
			{"a lower microcode", func(t *snp.TCB) { t.Microcode-- }},
			{"a microcode of 0xFF", func(t *snp.TCB) { t.Microcode = 0xFF }},
			{"a TCB of zeros", func(t *snp.TCB) { *t = snp.TCB{Line: t.Line} }},
		} {
			is.issue(fmt.Sprintf("%v for %s", kind, t.name), "", func(v *snptest.VEK) { v.Kind = kind; t.change(&v.TCB) })
		}
	}
}

func (is *issuer) otherTimes() {
	for _, kind := range []snp.KeyKind{snp.VCEK, snp.VLEK} {
		is.issue(kind.String()+" that expired", "", func(v *snptest.VEK) {
			v.Kind, v.Before, v.After = kind, now().AddDate(-2, 0, 0), now().Add(-time.Second)
		})
		is.issue(kind.String()+" not yet valid", "", func(v *snptest.VEK) { v.Kind, v.Before = kind, now().Add(time.Second) })
		is.issue(kind.String()+" valid for this second", "", func(v *snptest.VEK) { v.Kind, v.Before, v.After = kind, now(), now() })
	}
}

func (is *issuer) otherSigners() {
	is.issue("VCEK of the ASVK", "", func(v *snptest.VEK) { v.By = snptest.ASVK })
	is.issue("VCEK of the ARK", "", func(v *snptest.VEK) { v.By = snptest.ARK })
	is.issue("VLEK of the ASK", "", func(v *snptest.VEK) { v.Kind, v.By = snp.VLEK, snptest.ASK })
	is.issue("VCEK signed with SHA-256", "", func(v *snptest.VEK) { v.Algorithm = x509.SHA256WithRSAPSS })
	is.issue("VCEK signed with PKCS #1 v1.5", "", func(v *snptest.VEK) { v.Algorithm = x509.SHA384WithRSA })
	other := map[snp.Line]snp.Line{snp.Milan: snp.Genoa, snp.Genoa: snp.Milan}[is.line]
	is.resign("VCEK signed by the ASK of another line", other, snptest.ASK)
	is.resign("VCEK signed by the ASVK in the name of the ASK", is.line, snptest.ASVK)
}

// resign adds the right VCEK with a signature by another key.
func (is *issuer) resign(name string, line snp.Line, by snptest.CA) {
	e := *is.made[0]
	e.name = fmt.Sprintf("%v %s", is.line, name)
	e.der = is.amd.Resign(line, by, e.der, nil)
	is.made = append(is.made, &e)
}

// Arcs of 1.3.6.1.4.1.3704.1: AMD 57230, section 3.
var (
	oidStructVersion = amdOID(1)
	oidProductName   = amdOID(2)
	oidSPL4          = amdOID(3, 4)
	oidHwID          = amdOID(4)
	oidCSPID         = amdOID(5)
)

func amdOID(arcs ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arcs...)
}

func (is *issuer) otherExtensions() {
	product := func(name string) func([]pkix.Extension) []pkix.Extension {
		return set(oidProductName, ia5(name))
	}
	add := func(x pkix.Extension) func([]pkix.Extension) []pkix.Extension {
		return func(exts []pkix.Extension) []pkix.Extension { return append(exts, x) }
	}
	for _, kind := range []snp.KeyKind{snp.VCEK, snp.VLEK} {
		for _, x := range []struct {
			name   string
			change func([]pkix.Extension) []pkix.Extension
		}{
			{"for product " + is.line.String(), product(is.line.String())},
			{"for product " + is.line.String() + "-B1", product(is.line.String() + "-B1")},
			{"for product " + is.line.String() + "-C9", product(is.line.String() + "-C9")},
			{"for product Milan-B0", product("Milan-B0")},
			{"for product Genoa-B2", product("Genoa-B2")},
			{"for product Rome-A0", product("Rome-A0")},
			{"of structVersion 1", set(oidStructVersion, []byte{2, 1, 1})},
			{"with spl_4", set(oidSPL4, []byte{2, 1, 1})},
			{"without spl_4", remove(oidSPL4)},
			{"with a key identifier of its issuer", add(pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 35}, Value: []byte{0x30, 0}})},
			{"with an extension nobody knows", add(pkix.Extension{Id: amdOID(77), Value: []byte{5, 0}})},
			{"with a critical extension", func(exts []pkix.Extension) []pkix.Extension { exts[0].Critical = true; return exts }},
			{"with an extension twice", func(exts []pkix.Extension) []pkix.Extension { return append(exts, exts[0]) }},
		} {
			is.issue(kind.String()+" "+x.name, "", func(v *snptest.VEK) { v.Kind, v.Extensions = kind, x.change })
		}
	}
	id := chip(is.line, "")
	is.issue("VCEK with hwID in an OCTET STRING", "", func(v *snptest.VEK) { v.Extensions = set(oidHwID, append([]byte{4, 64}, id[:]...)) })
	is.issue("VCEK with hwID of 8 bytes", "", func(v *snptest.VEK) { v.Extensions = set(oidHwID, id[:8]) })
	is.issue("VCEK without hwID", "", func(v *snptest.VEK) { v.Extensions = remove(oidHwID) })
	is.issue("VCEK with CSP_ID", "", func(v *snptest.VEK) { v.Extensions = add(pkix.Extension{Id: oidCSPID, Value: ia5("CN=x")}) })
	is.issue("VLEK with hwID", "", func(v *snptest.VEK) { v.Kind, v.Extensions = snp.VLEK, add(pkix.Extension{Id: oidHwID, Value: id[:]}) })
	is.issue("VLEK without CSP_ID", "", func(v *snptest.VEK) { v.Kind, v.Extensions = snp.VLEK, remove(oidCSPID) })
	is.issue("VLEK with CSP_ID empty", "", func(v *snptest.VEK) { v.Kind, v.CSP = snp.VLEK, "" })
}

func ia5(s string) []byte { return append([]byte{asn1.TagIA5String, byte(len(s))}, s...) }

// set returns what replaces the value of an extension.
func set(id asn1.ObjectIdentifier, value []byte) func([]pkix.Extension) []pkix.Extension {
	return func(exts []pkix.Extension) []pkix.Extension {
		for i := range exts {
			if exts[i].Id.Equal(id) {
				exts[i].Value = value
			}
		}
		return exts
	}
}

// remove returns what leaves an extension out.
func remove(id asn1.ObjectIdentifier) func([]pkix.Extension) []pkix.Extension {
	return func(exts []pkix.Extension) []pkix.Extension {
		var kept []pkix.Extension
		for _, x := range exts {
			if !x.Id.Equal(id) {
				kept = append(kept, x)
			}
		}
		return kept
	}
}

// listsOf returns the lists that a simulated case can have, the usual ones first.
func listsOf(amd *snptest.AMD) []*lists {
	issue := func(name string, change func(*snptest.CRL)) *lists {
		l := &lists{name, map[snp.Line][]byte{}}
		for _, line := range lines() {
			c := snptest.CRL{Line: line, ThisUpdate: now().AddDate(-10, 0, 0), NextUpdate: now().AddDate(30, 0, 0)}
			change(&c)
			l.der[line] = amd.IssueCRL(c)
		}
		return l
	}
	of := func(name string, der func(snp.Line) []byte) *lists {
		l := &lists{name, map[snp.Line][]byte{}}
		for _, line := range lines() {
			l.der[line] = der(line)
		}
		return l
	}
	revoke := func(numbers ...int64) func(*snptest.CRL) {
		return func(c *snptest.CRL) {
			for _, n := range numbers {
				c.Revoked = append(c.Revoked, big.NewInt(n))
			}
		}
	}
	usual := issue("nothing revoked", func(*snptest.CRL) {})
	return []*lists{
		usual,
		issue("ASKs revoked", revoke(0x010001, 0x020002)),
		issue("ASVKs revoked", revoke(0x010101, 0x020101)),
		issue("ARKs revoked", revoke(0x010000, 0x020000)),
		issue("the serial number revoked", revoke(serial)),
		issue("serial number 0 revoked", revoke(0)),
		issue("other numbers revoked", revoke(1, 2, 3, 0x010002, 0x7FFFFFFF)),
		issue("current this month", func(c *snptest.CRL) { c.ThisUpdate, c.NextUpdate = now().AddDate(0, 0, -1), now().AddDate(0, 1, 0) }),
		issue("expired", func(c *snptest.CRL) { c.NextUpdate = now() }),
		issue("of the next second", func(c *snptest.CRL) { c.ThisUpdate = now().Add(time.Second) }),
		issue("of this second", func(c *snptest.CRL) { c.ThisUpdate = now() }),
		issue("without end", func(c *snptest.CRL) { c.Edit = func(t *snptest.TBSCertList) { t.NextUpdate = time.Time{} } }),
		issue("with a critical extension", func(c *snptest.CRL) {
			c.Edit = func(t *snptest.TBSCertList) {
				t.Extensions = append(t.Extensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}})
			}
		}),
		issue("of the ASK", func(c *snptest.CRL) { c.By = snptest.ASK }),
		of("signed by the ASK in the name of the ARK", func(line snp.Line) []byte { return amd.Resign(line, snptest.ASK, usual.der[line], nil) }),
		of("of the other line", func(line snp.Line) []byte {
			return usual.der[map[snp.Line]snp.Line{snp.Milan: snp.Genoa, snp.Genoa: snp.Milan}[line]]
		}),
		of("cut off", func(line snp.Line) []byte { return usual.der[line][:100] }),
		of("with a byte more", func(line snp.Line) []byte { return append(bytes.Clone(usual.der[line]), 0) }),
		of("nothing", func(snp.Line) []byte { return nil }),
		of("in PEM", func(line snp.Line) []byte { return toPEM("X509 CRL", usual.der[line]) }),
	}
}
