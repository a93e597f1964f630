package tdx

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"

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
		if len(e.Id) == strings.Count(abi.SGXExtension, ".")+1 && e.Id.String() == abi.SGXExtension {
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
	all, rest, ok := nextElement(ext)
	if !ok || all.tag != tagSequence || len(rest) != 0 {
		return errors.New("not a SEQUENCE")
	}
	x, err := newMembers(all.content)
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

// memberDER is an OID as DER has it, and a value.
type memberDER struct {
	id    []byte
	value element
}

// newMembers reads the content of a SEQUENCE of members.
func newMembers(content []byte) (*members, error) {
	x := &members{list: make([]memberDER, 0, abi.SVNs+2)}
	for len(content) > 0 {
		member, rest, ok := nextElement(content)
		id, value, ok2 := nextElement(member.content)
		v, end, ok3 := nextElement(value)
		if !ok || !ok2 || !ok3 || len(end) != 0 || member.tag != tagSequence || id.tag != asn1.TagOID {
			return nil, errors.New("not a member")
		}
		x.list = append(x.list, memberDER{id.content, v})
		content = rest
	}
	return x, nil
}

// element is one of DER: X.690, section 8.1.
type element struct {
	tag     byte // class, whether it is constructed, and number
	content []byte
}

// tagSequence is the tag of a SEQUENCE, which is constructed.
const tagSequence = asn1.TagSequence | 0x20

// nextElement returns the element that der begins with, and what follows. Of the
// ways to write a length it takes the shortest, as DER does, and none above 64 KiB.
func nextElement(der []byte) (e element, rest []byte, ok bool) {
	if len(der) < 2 {
		return element{}, nil, false
	}
	head, n := 2, int(der[1])
	switch {
	case n == 0x81 && len(der) > 2:
		head, n = 3, int(der[2])
		ok = n >= 0x80
	case n == 0x82 && len(der) > 3:
		head, n = 4, int(der[2])<<8|int(der[3])
		ok = n >= 0x100
	default:
		ok = n < 0x80
	}
	if !ok || len(der)-head < n {
		return element{}, nil, false
	}
	return element{der[0], der[head : head+n]}, der[head+n:], true
}

func (x *members) fail(id, why string) {
	if x.err == nil {
		x.err = fmt.Errorf("%x: %s", id, why)
	}
}

// take returns the content of the member id, which must have tag. Another of the
// same id stays, and is not expected in the end.
func (x *members) take(id string, tag byte) []byte {
	i := slices.IndexFunc(x.list, func(m memberDER) bool { return string(m.id) == id })
	if i < 0 {
		x.fail(id, "missing")
		return nil
	}
	v := x.list[i].value
	x.list = slices.Delete(x.list, i, i+1)
	if v.tag != tag {
		x.fail(id, "of another type")
		return nil
	}
	return v.content
}

// octets takes an OCTET STRING of exactly the size of dst.
func (x *members) octets(id string, dst []byte) {
	b := x.take(id, asn1.TagOctetString)
	if len(b) != len(dst) {
		x.fail(id, "of another size")
	}
	copy(dst, b)
}

// number takes an INTEGER or ENUMERATED from 0 to most, in the one way to write
// it: 255 has a zero byte before it.
func (x *members) number(id string, tag byte, most uint32) uint32 {
	b := x.take(id, tag)
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
	b := x.take(id, asn1.TagBoolean)
	if !bytes.Equal(b, []byte{0}) && !bytes.Equal(b, []byte{0xFF}) {
		x.fail(id, "not a BOOLEAN")
		return false
	}
	return b[0] != 0
}

// sequence takes a SEQUENCE of members.
func (x *members) sequence(id string) *members {
	in, err := newMembers(x.take(id, tagSequence))
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
		x.fail(string(m.id), "not expected")
	}
	for _, in := range x.inner {
		if err := in.end(); err != nil && x.err == nil {
			x.err = err
		}
	}
	return x.err
}
