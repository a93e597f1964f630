package tdx

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// PCK is what the PCK certificate of a platform says: Intel SGX PCK Certificate
// and CRL Profile. Its slices belong to the Claims it is part of.
type PCK struct {
	CA     CA
	Serial []byte // serial number of the certificate, big-endian

	PPID       [16]byte  // of the processor package, or of the platform if it has several
	Components [16]uint8 // security versions of the SGX TCB components
	PCESVN     uint16
	CPUSVN     [16]byte
	PCEID      [2]byte
	FMSPC      FMSPC
	SGXType    SGXType

	// These are said by the Platform CA only, and zero otherwise.
	PlatformInstance [16]byte // changes when a processor package is added or replaced
	Configuration    Configuration
}

// Configuration is how a platform of several processor packages is set up.
type Configuration struct {
	DynamicPlatform bool // packages may be added later
	CachedKeys      bool // Intel keeps the platform's keys
	SMTEnabled      bool
}

// parsePCK returns what c says, which a CA of kind ca issued. All members of the
// extension are required, once, and there may be no other: Intel's own library
// holds the extension to its 5 or 7 members, too.
func parsePCK(c *x509.Certificate, ca CA) (PCK, error) {
	p := PCK{CA: ca, Serial: c.SerialNumber.Bytes()}
	var ext []byte
	for _, e := range c.Extensions {
		if e.Id.String() == abi.SGXExtension {
			ext = e.Value // x509 refuses a certificate that has it twice
		}
	}
	if ext == nil {
		return PCK{}, errors.New("no SGX extension")
	}
	err := p.parseExtension(ext) // not in the return: Go does not say when p would be copied
	return p, err
}

// parseExtension reads the value of the SGX extension of a certificate by p.CA.
func (p *PCK) parseExtension(ext []byte) error {
	x, err := newMembers(ext)
	if err != nil {
		return err
	}
	x.octets(abi.OIDPPID, p.PPID[:])
	p.parseTCB(x.sequence(abi.OIDTCB))
	x.octets(abi.OIDPCEID, p.PCEID[:])
	x.octets(abi.OIDFMSPC, p.FMSPC[:])
	if p.SGXType = SGXType(x.number(abi.OIDSGXType, asn1.TagEnum, 0xFF)); p.SGXType > SGXScalableWithIntegrity {
		x.fail(abi.OIDSGXType, "not defined")
	}
	if p.CA == PlatformCA {
		x.octets(abi.OIDInstanceID, p.PlatformInstance[:])
		p.parseConfiguration(x.sequence(abi.OIDConfiguration))
	}
	return x.end()
}

func (p *PCK) parseTCB(x *members) {
	for i := range p.Components {
		p.Components[i] = uint8(x.number(abi.OIDComponent(i), asn1.TagInteger, 0xFF))
	}
	p.PCESVN = uint16(x.number(abi.OIDPCESVN, asn1.TagInteger, 0xFFFF))
	x.octets(abi.OIDCPUSVN, p.CPUSVN[:])
}

func (p *PCK) parseConfiguration(x *members) {
	p.Configuration = Configuration{
		DynamicPlatform: x.boolean(abi.OIDDynamicPlatform),
		CachedKeys:      x.boolean(abi.OIDCachedKeys),
		SMTEnabled:      x.boolean(abi.OIDSMTEnabled),
	}
}

// members are those of a SEQUENCE of SEQUENCE {OID, value} that were not taken
// yet. The first error is kept, and members inside of members are asked for theirs
// in the end.
type members struct {
	list  []memberDER
	inner []*members
	err   error
}

type memberDER struct{ ID, Value asn1.RawValue }

func newMembers(der []byte) (*members, error) {
	x := &members{}
	rest, err := asn1.Unmarshal(der, &x.list)
	if err != nil || len(rest) != 0 {
		return nil, errors.New("not a SEQUENCE of members")
	}
	for _, m := range x.list {
		if m.ID.Class != asn1.ClassUniversal || m.ID.Tag != asn1.TagOID || m.ID.IsCompound {
			return nil, errors.New("not an OID")
		}
	}
	return x, nil
}

func (x *members) fail(id, why string) {
	if x.err == nil {
		x.err = fmt.Errorf("%x: %s", id, why)
	}
}

// take returns the member id, which must have tag. Another of the same id stays,
// and is not expected in the end.
func (x *members) take(id string, tag int) asn1.RawValue {
	i := slices.IndexFunc(x.list, func(m memberDER) bool { return string(m.ID.Bytes) == id })
	if i < 0 {
		x.fail(id, "missing")
		return asn1.RawValue{}
	}
	v := x.list[i].Value
	x.list = slices.Delete(x.list, i, i+1)
	if v.Class != asn1.ClassUniversal || v.Tag != tag || v.IsCompound != (tag == asn1.TagSequence) {
		x.fail(id, "of another type")
		return asn1.RawValue{}
	}
	return v
}

// octets takes an OCTET STRING of exactly the size of dst.
func (x *members) octets(id string, dst []byte) {
	b := x.take(id, asn1.TagOctetString).Bytes
	if len(b) != len(dst) {
		x.fail(id, "of another size")
	}
	copy(dst, b)
}

// number takes an INTEGER or ENUMERATED from 0 to most, in the one way to write
// it: 255 has a zero byte before it.
func (x *members) number(id string, tag int, most uint32) uint32 {
	b := x.take(id, tag).Bytes
	if len(b) == 0 || b[0]&0x80 != 0 || len(b) > 1 && b[0] == 0 && b[1]&0x80 == 0 || len(b) > 3 {
		x.fail(id, "not a number from 0")
		return 0
	}
	var n uint32
	for _, c := range b {
		n = n<<8 | uint32(c)
	}
	if n > most {
		x.fail(id, "out of range")
		return 0
	}
	return n
}

func (x *members) boolean(id string) bool {
	b := x.take(id, asn1.TagBoolean).Bytes
	if !bytes.Equal(b, []byte{0}) && !bytes.Equal(b, []byte{0xFF}) {
		x.fail(id, "not a BOOLEAN")
		return false
	}
	return b[0] != 0
}

// sequence takes a SEQUENCE of members.
func (x *members) sequence(id string) *members {
	in, err := newMembers(x.take(id, asn1.TagSequence).FullBytes)
	if err != nil {
		x.fail(id, err.Error())
		in = &members{}
	}
	x.inner = append(x.inner, in)
	return in
}

// end returns the first error, or that there is a member that nobody took.
func (x *members) end() error {
	for _, m := range x.list {
		x.fail(string(m.ID.Bytes), "not expected")
	}
	for _, in := range x.inner {
		if err := in.end(); err != nil && x.err == nil {
			x.err = err
		}
	}
	return x.err
}
