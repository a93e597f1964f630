package tdxtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/teebroker/teebroker/internal/der"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// Authority is a key of Intel's that vouches for something.
type Authority uint8

// The Authorities: the root, the two that sign PCK certificates, and the one that
// signs TCB Info and QE identity. The zero Authority is none.
const (
	Root Authority = 1 + iota
	PlatformCA
	ProcessorCA
	TCBSigning
)

// commonName returns the name in the certificate of a.
func (a Authority) commonName() string {
	return [...]string{Root: abi.NameRoot, PlatformCA: abi.NamePlatformCA, ProcessorCA: abi.NameProcessorCA, TCBSigning: abi.NameTCBSigning}[a]
}

// authorityOf returns the Authority that ca is.
func authorityOf(ca tdx.CA) Authority {
	switch ca {
	case tdx.PlatformCA:
		return PlatformCA
	case tdx.ProcessorCA:
		return ProcessorCA
	}
	panic(fmt.Sprintf("tdxtest: no CA %d", ca))
}

// hierarchy is the keys and certificates of an Intel, by Authority.
type hierarchy struct {
	from  time.Time // when all certificates become valid
	keys  [TCBSigning + 1]*ecdsa.PrivateKey
	certs [TCBSigning + 1][]byte // DER
}

// newHierarchy makes keys and certificates, which were valid a year ago already.
func newHierarchy(now time.Time) *hierarchy {
	h := &hierarchy{from: now.UTC().Truncate(time.Second).AddDate(-1, 0, 0)}
	for a := Root; a <= TCBSigning; a++ {
		h.keys[a] = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	}
	for a := Root; a <= TCBSigning; a++ {
		h.certs[a] = h.issue(h.certificate(a))
	}
	return h
}

// Certificate is what a certificate says.
type Certificate struct {
	Issuer, Subject pkix.RDNSequence // see [Name]
	Serial          *big.Int
	NotBefore       time.Time
	NotAfter        time.Time
	Key             crypto.PublicKey
	Extensions      []pkix.Extension
	SGX             []Member // of the SGX extension, which is the last one; nil for none

	By Authority // whose key signs
}

// Certificate returns the DER certificate of a. edit, unless nil, may change
// anything that it says.
func (n *Intel) Certificate(a Authority, edit func(*Certificate)) []byte {
	h := n.authorities()
	if edit == nil {
		return bytes.Clone(h.certs[a])
	}
	c := h.certificate(a)
	edit(&c)
	return h.issue(c)
}

// certificate returns what the certificate of a says. Serial numbers are key
// identifiers, as Intel's are.
func (h *hierarchy) certificate(a Authority) Certificate {
	years, usage, basic := 15, byte(usageCA), der.Encode(constraints{true, 0})
	switch a {
	case Root:
		years, basic = 31, der.Encode(constraints{true, 1})
	case TCBSigning:
		years, usage, basic = 7, usageSigner, der.Encode(endConstraints{})
	}
	key := &h.keys[a].PublicKey
	return Certificate{
		Issuer:     Name(abi.NameRoot),
		Subject:    Name(a.commonName()),
		Serial:     new(big.Int).SetBytes(keyID(key)),
		NotBefore:  h.from,
		NotAfter:   h.from.AddDate(years, 0, 0),
		Key:        key,
		Extensions: extensions(&h.keys[Root].PublicKey, key, rootCRL, usage, basic),
		By:         Root,
	}
}

// issue returns the DER certificate that c describes.
func (h *hierarchy) issue(c Certificate) []byte {
	return h.sign(c.By, c.tbs())
}

// tbs returns what is signed of c.
func (c Certificate) tbs() []byte {
	exts := c.Extensions
	if c.SGX != nil {
		exts = append(exts[:len(exts):len(exts)], der.Extension(abi.SGXExtension, false, encodeMembers(c.SGX)))
	}
	return der.Encode(der.Certificate{
		Version:    2,
		Serial:     c.Serial,
		Algorithm:  der.Raw(der.Encode(ecdsaWithSHA256())),
		Issuer:     c.Issuer,
		Validity:   der.NewValidity(c.NotBefore, c.NotAfter),
		Subject:    c.Subject,
		PublicKey:  der.PublicKey(c.Key),
		Extensions: exts,
	})
}

// Resign returns d, the DER of a certificate or CRL, signed again by the key of by.
// Before that, edit, unless nil, may change the signed part, which is DER of its
// own, and its length. The name of the issuer stays as it is.
func (n *Intel) Resign(by Authority, d []byte, edit func(tbs []byte) []byte) []byte {
	tbs := der.Open(d).TBS.FullBytes
	if edit != nil {
		tbs = edit(bytes.Clone(tbs))
	}
	return n.authorities().sign(by, tbs)
}

// sign returns the certificate or CRL of tbs.
func (h *hierarchy) sign(by Authority, tbs []byte) []byte {
	return der.NewSigned(tbs, der.Raw(der.Encode(ecdsaWithSHA256())), sign(h.keys[by], tbs))
}

// sign returns the DER signature of message with ECDSA and SHA-256, always the
// same one.
func sign(key *ecdsa.PrivateKey, message []byte) []byte {
	return must(crypto.SignMessage(key, nil, message, crypto.SHA256))
}

// signRaw returns the same signature as r and s.
func signRaw(key *ecdsa.PrivateKey, message []byte) []byte {
	var sig struct{ R, S *big.Int }
	must(asn1.Unmarshal(sign(key, message), &sig))
	raw := make([]byte, abi.SignatureSize)
	sig.R.FillBytes(raw[:abi.SignatureSize/2])
	sig.S.FillBytes(raw[abi.SignatureSize/2:])
	return raw
}

// PEM returns the DER certificates in PEM, one after the other.
func PEM(ders ...[]byte) []byte {
	var text []byte
	for _, d := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: typeCertificate, Bytes: d})...)
	}
	return text
}

// Name returns the distinguished name of Intel's with common name cn.
func Name(cn string) pkix.RDNSequence {
	var name pkix.RDNSequence
	for _, part := range []struct {
		attribute, tag int
		value          string
	}{
		{3, asn1.TagUTF8String, cn},
		{10, asn1.TagUTF8String, "Intel Corporation"},
		{7, asn1.TagUTF8String, "Santa Clara"},
		{8, asn1.TagUTF8String, "CA"},
		{6, asn1.TagPrintableString, "US"},
	} {
		name = append(name, pkix.RelativeDistinguishedNameSET{{
			Type:  asn1.ObjectIdentifier{2, 5, 4, part.attribute},
			Value: asn1.RawValue{Tag: part.tag, Bytes: []byte(part.value)},
		}})
	}
	return name
}

const (
	usageCA     = 0x06 // keyCertSign, cRLSign
	usageSigner = 0xC0 // digitalSignature, nonRepudiation
)

// rootCRL is where Intel's certificates say that the list of the root is.
const rootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

type (
	constraints struct {
		IsCA bool
		Path int
	}
	endConstraints struct{}
)

// extensions returns the extensions that all certificates have, in Intel's order.
func extensions(issuer, subject *ecdsa.PublicKey, crl string, usage byte, constraints []byte) []pkix.Extension {
	return []pkix.Extension{
		der.AuthorityKeyID(keyID(issuer)),
		der.CRLDistribution(crl),
		der.SubjectKeyID(keyID(subject)),
		der.KeyUsage(usage),
		der.Extension(der.OIDBasicConstraints, true, constraints),
	}
}

// ecdsaWithSHA256 returns the algorithm by which everything is signed.
func ecdsaWithSHA256() pkix.AlgorithmIdentifier {
	return pkix.AlgorithmIdentifier{Algorithm: der.OID("1.2.840.10045.4.3.2")}
}

// keyID is the key identifier that Intel gives pub: SHA-1 of its whole
// SubjectPublicKeyInfo.
func keyID(pub *ecdsa.PublicKey) []byte {
	sum := sha1.Sum(der.PublicKey(pub).FullBytes)
	return sum[:]
}
