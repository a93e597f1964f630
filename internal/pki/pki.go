// Package pki checks certificates and revocation lists against an issuer that
// the caller has pinned, at an instant that the caller names. It builds no
// chains and trusts nothing by itself.
package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Types of PEM blocks.
const (
	Certificate = "CERTIFICATE"
	List        = "X509 CRL"
)

// DER returns the DER that data is, or that the one PEM block of type kind holds
// which data is. PEM may have white space and zero bytes after it, which firmware
// tables pad with, and nothing before.
func DER(data []byte, kind string) ([]byte, error) {
	begin := []byte("-----BEGIN ")
	if !bytes.HasPrefix(data, begin) {
		return data, nil
	}
	block, rest := pem.Decode(data)
	switch {
	case block == nil || bytes.Count(data, begin) != 1: // Decode passes over what is broken
		return nil, errors.New("pki: not one PEM block")
	case block.Type != kind || len(block.Headers) != 0:
		return nil, fmt.Errorf("pki: PEM is not a plain %s", kind)
	case len(bytes.Trim(rest, "\x00 \t\r\n")) != 0:
		return nil, errors.New("pki: data after PEM")
	}
	return block.Bytes, nil
}

// CheckSignature reports whether issuer is named as the issuer of cert and its
// key signed cert with alg. For RSA-PSS that means MGF1 with the same hash and a
// salt of its length. Validity, key usage and constraints are the caller's.
func CheckSignature(cert, issuer *x509.Certificate, alg x509.SignatureAlgorithm) error {
	switch {
	case !bytes.Equal(cert.RawIssuer, issuer.RawSubject):
		return errors.New("pki: another issuer")
	case cert.SignatureAlgorithm != alg:
		return fmt.Errorf("pki: signed with %v, not %v", cert.SignatureAlgorithm, alg)
	}
	return issuer.CheckSignature(alg, cert.RawTBSCertificate, cert.Signature)
}

// Valid reports whether at is in the validity of cert, both ends included.
func Valid(cert *x509.Certificate, at time.Time) bool {
	return !at.Before(cert.NotBefore) && !at.After(cert.NotAfter)
}

// CRL is a revocation list whose signature was checked. It is immutable.
type CRL struct {
	ThisUpdate, NextUpdate time.Time

	revoked map[string]struct{} // by keyOf the serial number
}

// ParseCRL parses a complete list in DER that issuer signed with alg. A list
// without nextUpdate, and one with a critical extension, which would change what
// it says, are refused. It does not look at the time: use [CRL.Current].
func ParseCRL(der []byte, issuer *x509.Certificate, alg x509.SignatureAlgorithm) (*CRL, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	switch {
	case len(list.Raw) != len(der):
		return nil, errors.New("pki: data after the list")
	case !bytes.Equal(list.RawIssuer, issuer.RawSubject):
		return nil, errors.New("pki: list of another issuer")
	case list.SignatureAlgorithm != alg:
		return nil, fmt.Errorf("pki: list signed with %v, not %v", list.SignatureAlgorithm, alg)
	case list.NextUpdate.IsZero():
		return nil, errors.New("pki: list without nextUpdate")
	}
	if err := issuer.CheckSignature(alg, list.RawTBSRevocationList, list.Signature); err != nil {
		return nil, err
	}
	return newCRL(list)
}

// newCRL keeps what is needed of list.
func newCRL(list *x509.RevocationList) (*CRL, error) {
	c := &CRL{list.ThisUpdate, list.NextUpdate, make(map[string]struct{}, len(list.RevokedCertificateEntries))}
	for _, x := range list.Extensions {
		if x.Critical {
			return nil, errors.New("pki: list with a critical extension")
		}
	}
	for _, e := range list.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical {
				return nil, errors.New("pki: entry with a critical extension")
			}
		}
		c.revoked[keyOf(e.SerialNumber)] = struct{}{}
	}
	return c, nil
}

// Current reports whether ThisUpdate ≤ at < NextUpdate.
func (c *CRL) Current(at time.Time) bool {
	return !at.Before(c.ThisUpdate) && at.Before(c.NextUpdate)
}

// Revokes reports whether serial is on the list.
func (c *CRL) Revokes(serial *big.Int) bool {
	_, ok := c.revoked[keyOf(serial)]
	return ok
}

// keyOf returns a text that is that of no other number.
func keyOf(serial *big.Int) string {
	if serial.Sign() < 0 {
		return "-" + string(serial.Bytes())
	}
	return "+" + string(serial.Bytes())
}
