// Package der writes certificates and revocation lists for the simulated vendors
// of tests. It makes what crypto/x509 does not: names, serial numbers and
// extensions in the form of each vendor, and certificates that are wrong.
//
// Its functions panic if they are given what can't be encoded.
package der

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Signed is a certificate or a revocation list.
type Signed struct {
	TBS       asn1.RawValue
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

// NewSigned returns what tbs is, with sig over it by the algorithm id.
func NewSigned(tbs []byte, id asn1.RawValue, sig []byte) []byte {
	return Encode(Signed{Raw(tbs), id, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
}

// Open returns the parts of a certificate or revocation list.
func Open(der []byte) Signed {
	var s Signed
	if rest, err := asn1.Unmarshal(der, &s); err != nil || len(rest) != 0 {
		panic(fmt.Sprintf("der: neither certificate nor list: %v", err))
	}
	return s
}

// Certificate is a TBSCertificate: RFC 5280, section 4.1. Version is 2 for
// version 3.
type Certificate struct {
	Version    int `asn1:"explicit,tag:0"`
	Serial     *big.Int
	Algorithm  asn1.RawValue
	Issuer     pkix.RDNSequence
	Validity   Validity
	Subject    pkix.RDNSequence
	PublicKey  asn1.RawValue
	Extensions []pkix.Extension `asn1:"explicit,tag:3"`
}

// Validity is when a certificate is valid; see [NewValidity].
type Validity struct{ NotBefore, NotAfter time.Time }

// NewValidity returns the validity from one time to another, in UTC.
func NewValidity(from, to time.Time) Validity { return Validity{from.UTC(), to.UTC()} }

// List is a TBSCertList: RFC 5280, section 5.1.2. Version is 1 for version 2. A
// zero NextUpdate is left out.
type List struct {
	Version             int
	Signature           pkix.AlgorithmIdentifier
	Issuer              pkix.RDNSequence
	ThisUpdate          time.Time
	NextUpdate          time.Time                 `asn1:"optional"`
	RevokedCertificates []pkix.RevokedCertificate `asn1:"optional"`
	Extensions          []pkix.Extension          `asn1:"tag:0,optional,explicit"`
}

// Object identifiers of extensions: RFC 5280, sections 4.2 and 5.2.
const (
	OIDSubjectKeyID     = "2.5.29.14"
	OIDKeyUsage         = "2.5.29.15"
	OIDBasicConstraints = "2.5.29.19"
	OIDCRLNumber        = "2.5.29.20"
	OIDReason           = "2.5.29.21"
	OIDCRLDistribution  = "2.5.29.31"
	OIDAuthorityKeyID   = "2.5.29.35"
)

// OID returns the object identifier that dotted spells.
func OID(dotted string) asn1.ObjectIdentifier {
	var id asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(dotted, ".") {
		n, err := strconv.Atoi(arc)
		if err != nil {
			panic(fmt.Sprintf("der: no object identifier %q", dotted))
		}
		id = append(id, n)
	}
	return id
}

// Extension returns the extension id, whose value is DER.
func Extension(id string, critical bool, value []byte) pkix.Extension {
	return pkix.Extension{Id: OID(id), Critical: critical, Value: value}
}

// SubjectKeyID returns the extension that names the key of a certificate.
func SubjectKeyID(id []byte) pkix.Extension {
	return Extension(OIDSubjectKeyID, false, Encode(id))
}

// AuthorityKeyID returns the extension that names the key of the issuer.
func AuthorityKeyID(id []byte) pkix.Extension {
	return Extension(OIDAuthorityKeyID, false, Encode(struct {
		ID []byte `asn1:"tag:0"`
	}{id}))
}

type (
	distributionPoint struct {
		Name distributionPointName `asn1:"tag:0"`
	}
	distributionPointName struct {
		Full []asn1.RawValue `asn1:"tag:0"`
	}
)

// CRLDistribution returns the extension that names the URI of a list.
func CRLDistribution(uri string) pkix.Extension {
	name := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri)}
	return Extension(OIDCRLDistribution, false, Encode([]distributionPoint{{distributionPointName{[]asn1.RawValue{name}}}}))
}

// KeyUsage returns the extension with the bits of usage, a first byte, of which
// the last that is set ends the BIT STRING.
func KeyUsage(usage byte) pkix.Extension {
	bits := 8
	for bits > 0 && usage>>(8-bits)&1 == 0 {
		bits--
	}
	return Extension(OIDKeyUsage, true, Encode(asn1.BitString{Bytes: []byte{usage}, BitLength: bits}))
}

// PublicKey returns the SubjectPublicKeyInfo of pub.
func PublicKey(pub any) asn1.RawValue {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic(fmt.Sprintf("der: %v", err))
	}
	return Raw(spki)
}

// Encode returns the encoding of v.
func Encode(v any) []byte {
	b, err := asn1.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("der: %v", err))
	}
	return b
}

// Raw returns der as a part of something greater.
func Raw(der []byte) asn1.RawValue { return asn1.RawValue{FullBytes: der} }
