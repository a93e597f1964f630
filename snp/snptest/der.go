package snptest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Certificates are encoded here and not by crypto/x509, which makes no
// certificate that is wrong, and no serial number, extension or name in AMD's form.

// signed is a certificate or a CRL.
type signed struct {
	TBS       asn1.RawValue
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

// tbsCertificate is a TBSCertificate of version 3.
type tbsCertificate struct {
	Version    int `asn1:"explicit,tag:0"`
	Serial     *big.Int
	Algorithm  asn1.RawValue
	Issuer     pkix.RDNSequence
	Validity   validity
	Subject    pkix.RDNSequence
	PublicKey  asn1.RawValue
	Extensions []pkix.Extension `asn1:"explicit,tag:3"`
}

type validity struct{ NotBefore, NotAfter time.Time }

func newValidity(from, to time.Time) validity { return validity{from.UTC(), to.UTC()} }

type (
	rootConstraints   struct{ IsCA bool }
	issuerConstraints struct {
		IsCA bool
		Path int
	}
	authorityKeyID struct {
		ID []byte `asn1:"tag:0"`
	}
	distributionPoint struct {
		Name distributionPointName `asn1:"tag:0"`
	}
	distributionPointName struct {
		Full []asn1.RawValue `asn1:"tag:0"`
	}
	pssParameters struct {
		Hash    pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		MGF     pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
		Salt    int                      `asn1:"explicit,tag:2"`
		Trailer int                      `asn1:"explicit,optional,tag:3"`
	}
)

// Object identifiers of RFC 5280, RFC 8017 and NIST.
const (
	oidSubjectKeyID     = "2.5.29.14"
	oidKeyUsage         = "2.5.29.15"
	oidBasicConstraints = "2.5.29.19"
	oidCRLNumber        = "2.5.29.20"
	oidCRLDistribution  = "2.5.29.31"
	oidAuthorityKeyID   = "2.5.29.35"

	oidMGF1          = "1.2.840.113549.1.1.8"
	oidPSS           = "1.2.840.113549.1.1.10"
	oidSHA384WithRSA = "1.2.840.113549.1.1.12"
	oidSHA256        = "2.16.840.1.101.3.4.2.1"
	oidSHA384        = "2.16.840.1.101.3.4.2.2"
)

// oid returns the object identifier that dotted spells.
func oid(dotted string) asn1.ObjectIdentifier {
	var id asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(dotted, ".") {
		id = append(id, must(strconv.Atoi(arc)))
	}
	return id
}

// amdName returns the distinguished name with common name cn, in AMD's order
// and string types.
func amdName(cn string) pkix.RDNSequence {
	var name pkix.RDNSequence
	for _, part := range []struct {
		attribute, tag int
		value          string
	}{
		{11, asn1.TagUTF8String, "Engineering"},
		{6, asn1.TagPrintableString, "US"},
		{7, asn1.TagUTF8String, "Santa Clara"},
		{8, asn1.TagUTF8String, "CA"},
		{10, asn1.TagUTF8String, "Advanced Micro Devices"},
		{3, asn1.TagUTF8String, cn},
	} {
		name = append(name, pkix.RelativeDistinguishedNameSET{{
			Type:  asn1.ObjectIdentifier{2, 5, 4, part.attribute},
			Value: asn1.RawValue{Tag: part.tag, Bytes: []byte(part.value)},
		}})
	}
	return name
}

// algorithm returns the AlgorithmIdentifier of alg. Of the two forms of PSS
// parameters, with the default trailer left out or written, AMD's VEKs have the
// first and its CA certificates the second.
func algorithm(alg x509.SignatureAlgorithm) asn1.RawValue {
	switch alg {
	case x509.SHA384WithRSAPSS:
		return pss(oidSHA384, 48, 0)
	case x509.SHA256WithRSAPSS:
		return pss(oidSHA256, 32, 0)
	case x509.SHA384WithRSA:
		return raw(der(pkix.AlgorithmIdentifier{Algorithm: oid(oidSHA384WithRSA), Parameters: asn1.NullRawValue}))
	}
	panic(fmt.Sprintf("snptest: no signature algorithm %v", alg))
}

func caAlgorithm() asn1.RawValue { return pss(oidSHA384, 48, 1) }

func pss(hash string, salt, trailer int) asn1.RawValue {
	h := pkix.AlgorithmIdentifier{Algorithm: oid(hash), Parameters: asn1.NullRawValue}
	return raw(der(pkix.AlgorithmIdentifier{
		Algorithm: oid(oidPSS),
		Parameters: raw(der(pssParameters{
			Hash:    h,
			MGF:     pkix.AlgorithmIdentifier{Algorithm: oid(oidMGF1), Parameters: raw(der(h))},
			Salt:    salt,
			Trailer: trailer,
		})),
	}))
}

// signCertificate returns the certificate of tbs.
func signCertificate(tbs tbsCertificate, key *rsa.PrivateKey, alg x509.SignatureAlgorithm) []byte {
	return sign(der(tbs), tbs.Algorithm, key, alg)
}

// sign returns the certificate or CRL of tbs, signed with alg. What it says of
// the algorithm is id.
func sign(tbs []byte, id asn1.RawValue, key *rsa.PrivateKey, alg x509.SignatureAlgorithm) []byte {
	hash := crypto.SHA384
	if alg == x509.SHA256WithRSAPSS {
		hash = crypto.SHA256
	}
	var opts crypto.SignerOpts = &rsa.PSSOptions{SaltLength: hash.Size(), Hash: hash}
	if alg == x509.SHA384WithRSA {
		opts = hash
	}
	sig := must(crypto.SignMessage(key, rand.Reader, tbs, opts))
	return der(signed{raw(tbs), id, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
}

func extension(id string, critical bool, value []byte) pkix.Extension {
	return pkix.Extension{Id: oid(id), Critical: critical, Value: value}
}

func uri(s string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(s)}
}

func ia5(s string) []byte { return der(asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(s)}) }

func spki(pub any) asn1.RawValue { return raw(must(x509.MarshalPKIXPublicKey(pub))) }

// der returns the encoding of v.
func der(v any) []byte { return must(asn1.Marshal(v)) }

// raw returns der as a part of something greater.
func raw(der []byte) asn1.RawValue { return asn1.RawValue{FullBytes: der} }
