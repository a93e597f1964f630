package tdx

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/pki"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// maxChain is the longest chain of certificates looked at, in PEM. Genuine ones
// have less than 3700 bytes.
const maxChain = 16 << 10

// endorsement is what stands behind an attestation key: a quoting enclave that
// made it, a PCK that signed for the enclave, and a CA and a pinned root behind
// the PCK. It is made by [Verifier.endorse] only, and immutable.
type endorsement struct {
	key  *ecdsa.PublicKey // attestation key
	qe   QE
	pck  PCK
	leaf *x509.Certificate
	ca   *x509.Certificate
	root *anchor
}

// QE is the quoting enclave that vouches for the key that signed a quote.
type QE struct {
	MRENCLAVE  [32]byte // measurement of the enclave, SHA-256
	MRSIGNER   [32]byte // hash of the key that signed the enclave, SHA-256
	ISVProdID  uint16
	ISVSVN     uint16
	MiscSelect [4]byte  // as in the report
	Attributes [16]byte // as in the report: flags, then XFRM
}

func qeOf(report []byte) QE {
	return QE{
		MRENCLAVE:  [32]byte(report[abi.QEMREnclave:]),
		MRSIGNER:   [32]byte(report[abi.QEMRSigner:]),
		ISVProdID:  binary.LittleEndian.Uint16(report[abi.QEISVProdID:]),
		ISVSVN:     binary.LittleEndian.Uint16(report[abi.QEISVSVN:]),
		MiscSelect: [4]byte(report[abi.QEMiscSelect:]),
		Attributes: [16]byte(report[abi.QEAttributes:]),
	}
}

// endorse returns what stands behind the key that d says it is signed with. Bytes
// once verified are not verified again; time, revocation and TCB are judged at
// each use.
func (v *Verifier) endorse(d signatureData) (*endorsement, error) {
	sum := sha256.Sum256(d.endorsement)
	if e, ok := v.endorsements.Get(sum); ok {
		return e, nil
	}
	e, err := v.verifyChain(d.chain)
	if err != nil {
		return nil, err
	}
	if !verifyRaw(keyOf(e.leaf), d.qeSignature, d.qeReport) {
		return nil, fail(checkQEReport, evidence.BadSignature, "QE Report Signature", nil)
	}
	e.qe = qeOf(d.qeReport)
	if e.key, err = attestationKey(d); err != nil {
		return nil, fail(checkAttestationKey, evidence.Untrusted, "ECDSA Attestation Key", err)
	}
	v.endorsements.Put(sum, e)
	return e, nil
}

// attestationKey returns the key that the quoting enclave says it made: its
// REPORTDATA is SHA-256 of the key and the authentication data, then 32 zeros.
func attestationKey(d signatureData) (*ecdsa.PublicKey, error) {
	h := sha256.New()
	h.Write(d.key)
	h.Write(d.qeAuth)
	var want [64]byte
	h.Sum(want[:0])
	if !bytes.Equal(d.qeReport[abi.QEReportData:], want[:]) {
		return nil, errors.New("not the key that the quoting enclave reported")
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, d.key))
}

// verifyChain verifies the certificates in text, at no particular time.
func (v *Verifier) verifyChain(text []byte) (*endorsement, error) {
	leaf, ca, err := v.openChain(text)
	if errors.As(err, new(malformed)) {
		return nil, fail(checkCertificate, evidence.Malformed, "PCK Cert Chain", err)
	}
	if err != nil {
		return nil, fail(checkChain, evidence.Untrusted, "PCK Cert Chain", err)
	}
	kind, err := kindOf(ca.cert)
	if err != nil {
		return nil, fail(checkProfile, evidence.Untrusted, "PCK CA", err)
	}
	if err := checkSigner(leaf, abi.NamePCK); err != nil {
		return nil, fail(checkProfile, evidence.Untrusted, abi.NamePCK, err)
	}
	p, err := parsePCK(leaf, kind)
	if err != nil {
		return nil, fail(checkProfile, evidence.Untrusted, abi.NamePCK, err)
	}
	return &endorsement{pck: p, leaf: leaf, ca: ca.cert, root: ca.root}, nil
}

// openChain returns the certificate that text begins with, and the CA after it,
// which signed it.
func (v *Verifier) openChain(text []byte) (*x509.Certificate, link, error) {
	if len(text) > maxChain {
		return nil, link{}, malformed{errors.New("too long")}
	}
	der, rest, err := nextPEM(text)
	if err != nil {
		return nil, link{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, link{}, errNoCertificate()
	}
	ca, err := v.linkOf(rest)
	if err != nil {
		return nil, link{}, err
	}
	return leaf, ca, pki.CheckSignature(leaf, ca.cert, algorithm)
}

// kindOf returns which CA for PCK certificates ca is.
func kindOf(ca *x509.Certificate) (CA, error) {
	err := checkCA(ca, abi.NamePlatformCA)
	if err == nil {
		return PlatformCA, nil
	}
	if checkCA(ca, abi.NameProcessorCA) == nil {
		return ProcessorCA, nil
	}
	return 0, err
}

// until returns when the first certificate of the chain expires, or an error
// unless all are valid at now.
func (e *endorsement) until(now time.Time) (time.Time, error) {
	end, err := validUntil(now, e.leaf, e.ca, e.root.cert)
	if err != nil {
		return time.Time{}, fail(checkValidity, evidence.Stale, "PCK Cert Chain", err)
	}
	return end, nil
}
