package tdxtest

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/der"
)

// CRL is what a list of revoked certificates says.
type CRL struct {
	By         Authority  // named as issuer and signs; if zero, the root
	ThisUpdate time.Time  // if zero, one day ago
	NextUpdate time.Time  // if zero, 30 days after ThisUpdate
	Revoked    []*big.Int // serial numbers

	// Edit may change anything that is signed. A zero NextUpdate is left out.
	Edit func(*TBSCertList)
}

// TBSCertList is the part of a list that is signed: RFC 5280, section 5.1.2.
type TBSCertList = der.List

// CRL returns the DER list that c describes.
func (n *Intel) CRL(c CRL) []byte {
	if c.By == 0 {
		c.By = Root
	}
	if c.ThisUpdate.IsZero() {
		c.ThisUpdate = n.issued()
	}
	if c.NextUpdate.IsZero() {
		c.NextUpdate = c.ThisUpdate.AddDate(0, 0, days)
	}
	h := n.authorities()
	tbs := c.list(keyID(&h.keys[c.By].PublicKey))
	if c.Edit != nil {
		c.Edit(&tbs)
	}
	return h.sign(c.By, der.Encode(tbs))
}

// SignCRL returns the list that c describes, and the chain of its issuer, which a
// list of the root does not have.
func (n *Intel) SignCRL(c CRL) evidence.Collateral {
	list := evidence.Collateral{Data: n.CRL(c)}
	if c.By != 0 && c.By != Root {
		list.Issuer = PEM(n.Certificate(c.By, nil), n.Certificate(Root, nil))
	}
	return list
}

// list returns what is signed of c, whose issuer has a key with id.
func (c CRL) list(id []byte) TBSCertList {
	list := TBSCertList{
		Version:    1,
		Signature:  ecdsaWithSHA256(),
		Issuer:     Name(c.By.commonName()),
		ThisUpdate: c.ThisUpdate.UTC(),
		NextUpdate: c.NextUpdate.UTC(),
		Extensions: []pkix.Extension{
			der.Extension(der.OIDCRLNumber, false, der.Encode(1)),
			der.AuthorityKeyID(id),
		},
	}
	const keyCompromise asn1.Enumerated = 1
	for _, serial := range c.Revoked {
		list.RevokedCertificates = append(list.RevokedCertificates, pkix.RevokedCertificate{
			SerialNumber:   serial,
			RevocationTime: c.ThisUpdate.UTC(),
			Extensions:     []pkix.Extension{der.Extension(der.OIDReason, false, der.Encode(keyCompromise))},
		})
	}
	return list
}
