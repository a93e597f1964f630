package snptest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/teebroker/teebroker/internal/der"
	"github.com/teebroker/teebroker/snp"
)

// CA is a signing key of a Line.
type CA uint8

// The CAs: the root, what signs VCEKs, and what signs VLEKs. The zero CA is none.
const (
	ARK CA = 1 + iota
	ASK
	ASVK
)

// authority is a CA with its key. Its certificate is DER.
type authority struct {
	name pkix.RDNSequence
	key  *rsa.PrivateKey
	cert []byte
}

// hierarchy is the authorities of a Line, by CA.
type hierarchy [ASVK + 1]authority

// keyBits is the size of AMD's RSA keys.
const keyBits = 4096

// newHierarchy makes keys and certificates. Their validity began five years
// ago and lasts 25, as AMD's does.
func newHierarchy(p profile, now time.Time) *hierarchy {
	h := &hierarchy{}
	var wg sync.WaitGroup
	for ca := ARK; ca <= ASVK; ca++ {
		h[ca].name = amdName(caName(ca, p.line))
		wg.Go(func() { h[ca].key = must(rsa.GenerateKey(rand.Reader, keyBits)) })
	}
	wg.Wait()
	from := now.AddDate(-5, 0, 0)
	for ca := ARK; ca <= ASVK; ca++ {
		h[ca].cert = signCertificate(der.Certificate{
			Version:    2,
			Serial:     caSerial(ca, p),
			Algorithm:  caAlgorithm(),
			Issuer:     h[ARK].name,
			Validity:   der.NewValidity(from, from.AddDate(25, 0, 0)),
			Subject:    h[ca].name,
			PublicKey:  der.PublicKey(&h[ca].key.PublicKey),
			Extensions: caExtensions(ca, p.line, h),
		}, h[ARK].key, x509.SHA384WithRSAPSS)
	}
	return h
}

// caName returns the common name of a CA of line.
func caName(ca CA, line snp.Line) string {
	return [...]string{ARK: "ARK-", ASK: "SEV-", ASVK: "SEV-VLEK-"}[ca] + line.String()
}

// caSerial returns the serial number that AMD's certificate of ca has.
func caSerial(ca CA, p profile) *big.Int {
	return big.NewInt(p.serial + [...]int64{ARK: 0, ASK: p.askOffset, ASVK: 0x101}[ca])
}

// caExtensions returns the extensions of ca in AMD's order.
func caExtensions(ca CA, line snp.Line, h *hierarchy) []pkix.Extension {
	kind := snp.VCEK
	if ca == ASVK {
		kind = snp.VLEK
	}
	id := func(ca CA) []byte { return keyID(&h[ca].key.PublicKey) }
	ski := der.SubjectKeyID(id(ca))
	crl := der.CRLDistribution("https://kdsintf.amd.com" + snp.CRLName(line, kind))
	if ca == ARK {
		return []pkix.Extension{
			der.KeyUsage(0x06), // keyCertSign, cRLSign
			ski,
			der.Extension(der.OIDBasicConstraints, true, der.Encode(rootConstraints{true})),
			crl,
		}
	}
	return []pkix.Extension{
		ski,
		der.AuthorityKeyID(id(ARK)),
		der.Extension(der.OIDBasicConstraints, true, der.Encode(issuerConstraints{true, 0})),
		der.Extension(der.OIDKeyUsage, true, der.Encode(asn1.BitString{Bytes: []byte{0x04}, BitLength: 7})), // keyCertSign; a trailing zero bit is AMD's
		crl,
	}
}

// Resign returns d, a certificate or CRL, signed again by the key of by. Before
// that, edit, unless nil, may change the signed part, which is DER of its own,
// and its length. The names of signer and algorithm stay as they are.
func (a *AMD) Resign(line snp.Line, by CA, d []byte, edit func(tbs []byte) []byte) []byte {
	s := der.Open(d)
	tbs := s.TBS.FullBytes
	if edit != nil {
		tbs = edit(tbs)
	}
	return sign(tbs, s.Algorithm, a.hierarchy(line)[by].key, x509.SHA384WithRSAPSS)
}

// keyID is the subject key identifier of pub: RFC 5280, section 4.2.1.2, method 1.
func keyID(pub *rsa.PublicKey) []byte {
	sum := sha1.Sum(x509.MarshalPKCS1PublicKey(pub))
	return sum[:]
}

// must returns v. err is of what can't fail, or is a mistake of the caller.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("snptest: %v", err))
	}
	return v
}
