package snptest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"github.com/teebroker/teebroker/internal/der"
)

type (
	rootConstraints   struct{ IsCA bool }
	issuerConstraints struct {
		IsCA bool
		Path int
	}
	pssParameters struct {
		Hash    pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		MGF     pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
		Salt    int                      `asn1:"explicit,tag:2"`
		Trailer int                      `asn1:"explicit,optional,tag:3"`
	}
)

// Object identifiers of RFC 8017 and NIST.
const (
	oidMGF1          = "1.2.840.113549.1.1.8"
	oidPSS           = "1.2.840.113549.1.1.10"
	oidSHA384WithRSA = "1.2.840.113549.1.1.12"
	oidSHA256        = "2.16.840.1.101.3.4.2.1"
	oidSHA384        = "2.16.840.1.101.3.4.2.2"
)

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
		return der.Raw(der.Encode(pkix.AlgorithmIdentifier{Algorithm: der.OID(oidSHA384WithRSA), Parameters: asn1.NullRawValue}))
	}
	panic(fmt.Sprintf("snptest: no signature algorithm %v", alg))
}

func caAlgorithm() asn1.RawValue { return pss(oidSHA384, 48, 1) }

func pss(hash string, salt, trailer int) asn1.RawValue {
	h := pkix.AlgorithmIdentifier{Algorithm: der.OID(hash), Parameters: asn1.NullRawValue}
	return der.Raw(der.Encode(pkix.AlgorithmIdentifier{
		Algorithm: der.OID(oidPSS),
		Parameters: der.Raw(der.Encode(pssParameters{
			Hash:    h,
			MGF:     pkix.AlgorithmIdentifier{Algorithm: der.OID(oidMGF1), Parameters: der.Raw(der.Encode(h))},
			Salt:    salt,
			Trailer: trailer,
		})),
	}))
}

// signCertificate returns the certificate of tbs.
func signCertificate(tbs der.Certificate, key *rsa.PrivateKey, alg x509.SignatureAlgorithm) []byte {
	return sign(der.Encode(tbs), tbs.Algorithm, key, alg)
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
	return der.NewSigned(tbs, id, sig)
}

func ia5(s string) []byte { return der.Encode(asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(s)}) }
