package tdxtest

import (
	"crypto/ecdsa"
	"encoding/asn1"
	"math/big"

	"github.com/teebroker/teebroker/internal/der"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// Member is a member of the SGX extension of a PCK certificate, or of one of the
// SEQUENCEs in it: an object identifier and a value, which is either DER or, if
// there are any, Members.
type Member struct {
	ID      string // dotted
	Value   []byte
	Members []Member
}

// Members returns the members of the SGX extension that says what p says, in
// Intel's order. Those about a platform instance are left out unless p.CA is the
// Platform CA.
func Members(p tdx.PCK) []Member {
	var tcb []Member
	for i, svn := range p.Components {
		tcb = append(tcb, Member{ID: dotted(abi.OIDComponent(i)), Value: der.Encode(int(svn))})
	}
	tcb = append(tcb,
		Member{ID: dotted(abi.OIDPCESVN), Value: der.Encode(int(p.PCESVN))},
		Member{ID: dotted(abi.OIDCPUSVN), Value: der.Encode(p.CPUSVN[:])},
	)
	ms := []Member{
		{ID: dotted(abi.OIDPPID), Value: der.Encode(p.PPID[:])},
		{ID: dotted(abi.OIDTCB), Members: tcb},
		{ID: dotted(abi.OIDPCEID), Value: der.Encode(p.PCEID[:])},
		{ID: dotted(abi.OIDFMSPC), Value: der.Encode(p.FMSPC[:])},
		{ID: dotted(abi.OIDSGXType), Value: der.Encode(asn1.Enumerated(p.SGXType))},
	}
	if p.CA != tdx.PlatformCA {
		return ms
	}
	return append(ms,
		Member{ID: dotted(abi.OIDInstanceID), Value: der.Encode(p.PlatformInstance[:])},
		Member{ID: dotted(abi.OIDConfiguration), Members: []Member{
			{ID: dotted(abi.OIDDynamicPlatform), Value: der.Encode(p.Configuration.DynamicPlatform)},
			{ID: dotted(abi.OIDCachedKeys), Value: der.Encode(p.Configuration.CachedKeys)},
			{ID: dotted(abi.OIDSMTEnabled), Value: der.Encode(p.Configuration.SMTEnabled)},
		}},
	)
}

// dotted returns an object identifier as people write it, from the content of its
// DER.
func dotted(content string) string {
	var id asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(append([]byte{asn1.TagOID, byte(len(content))}, content...), &id); err != nil {
		panic(err) // a mistake in package abi
	}
	return id.String()
}

// encodeMembers returns the SEQUENCE of ms.
func encodeMembers(ms []Member) []byte {
	type member struct {
		ID    asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	list := []member{}
	for _, m := range ms {
		value := m.Value
		if m.Members != nil {
			value = encodeMembers(m.Members)
		}
		list = append(list, member{der.OID(m.ID), der.Raw(value)})
	}
	return der.Encode(list)
}

// pckCertificate returns what the certificate of key for p says.
func (h *hierarchy) pckCertificate(p tdx.PCK, key *ecdsa.PublicKey) Certificate {
	by := authorityOf(p.CA)
	return Certificate{
		Issuer:     Name(by.commonName()),
		Subject:    Name(abi.NamePCK),
		Serial:     new(big.Int).SetBytes(p.Serial),
		NotBefore:  h.from,
		NotAfter:   h.from.AddDate(7, 0, 0),
		Key:        key,
		Extensions: extensions(&h.keys[by].PublicKey, key, pcs+tdx.PCKCRLName(p.CA), usageSigner, der.Encode(endConstraints{})),
		SGX:        Members(p),
		By:         by,
	}
}

// pcs is where Intel's certificates say that the lists of the CAs are.
const pcs = "https://api.trustedservices.intel.com"
