package snptest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"

	"github.com/teebroker/teebroker/internal/der"
	"github.com/teebroker/teebroker/snp"
)

// CRL is what a list of revoked certificates says.
type CRL struct {
	Line       snp.Line
	By         CA         // named as issuer and signs; if zero, the ARK
	ThisUpdate time.Time  // if zero, one day ago
	NextUpdate time.Time  // if zero, in 30 days
	Revoked    []*big.Int // serial numbers

	// Edit may change anything that is signed. A zero NextUpdate is left out.
	Edit func(*TBSCertList)
}

// TBSCertList is the part of a list that is signed: RFC 5280, section 5.1.2.
type TBSCertList = der.List

// IssueCRL returns the DER list that c describes.
//
// AMD has one list for its VCEKs and one for its VLEKs, and signs both with the
// ARK. Nothing in a list says which of them it is, only where it is found.
func (a *AMD) IssueCRL(c CRL) []byte {
	now := a.now()
	if c.By == 0 {
		c.By = ARK
	}
	if c.ThisUpdate.IsZero() {
		c.ThisUpdate = now.AddDate(0, 0, -1)
	}
	if c.NextUpdate.IsZero() {
		c.NextUpdate = now.AddDate(0, 0, 30)
	}
	signer := a.hierarchy(c.Line)[c.By]
	tbs := TBSCertList{
		Version:             1,
		Signature:           algorithmIdentifier(caAlgorithm()),
		Issuer:              signer.name,
		ThisUpdate:          c.ThisUpdate.UTC(),
		NextUpdate:          c.NextUpdate.UTC(),
		RevokedCertificates: revoked(c.Revoked, c.ThisUpdate),
		Extensions: []pkix.Extension{
			der.AuthorityKeyID(keyID(&signer.key.PublicKey)),
			der.Extension(der.OIDCRLNumber, false, der.Encode(1)),
		},
	}
	if c.Edit != nil {
		c.Edit(&tbs)
	}
	return sign(der.Encode(tbs), der.Raw(der.Encode(tbs.Signature)), signer.key, x509.SHA384WithRSAPSS)
}

// CRL returns the DER list for keys of kind that revokes serials, valid at now.
// AMD's lists for both kinds look the same; kind is for the reader.
func (a *AMD) CRL(line snp.Line, kind snp.KeyKind, now time.Time, serials ...*big.Int) []byte {
	return a.IssueCRL(CRL{
		Line:       line,
		ThisUpdate: now.AddDate(0, 0, -1),
		NextUpdate: now.AddDate(0, 0, 30),
		Revoked:    serials,
	})
}

func revoked(serials []*big.Int, at time.Time) []pkix.RevokedCertificate {
	var list []pkix.RevokedCertificate
	for _, serial := range serials {
		list = append(list, pkix.RevokedCertificate{SerialNumber: serial, RevocationTime: at.UTC()})
	}
	return list
}

// algorithmIdentifier returns the DER id as a struct.
func algorithmIdentifier(id asn1.RawValue) pkix.AlgorithmIdentifier {
	var a pkix.AlgorithmIdentifier
	_ = must(asn1.Unmarshal(id.FullBytes, &a))
	return a
}
