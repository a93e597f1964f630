package tdx

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/teebroker/teebroker/internal/pki"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

//go:embed anchors/intel-sgx-root-ca.pem
var intelRoot []byte

// Intel returns the DER of the Intel SGX Root CA, as published by Intel and pinned
// in this package. The caller owns it.
func Intel() [][]byte {
	block, _ := pem.Decode(intelRoot)
	if block == nil { // a mistake of the build: NewVerifier refuses the empty list
		return nil
	}
	return [][]byte{block.Bytes}
}

// algorithm is how all of Intel's CAs sign.
const algorithm = x509.ECDSAWithSHA256

// anchor is a pinned root.
type anchor struct {
	cert *x509.Certificate
	sum  [32]byte // SHA-256 of it
}

// newAnchors parses ders, each of which must be the root of a PKI of Intel's
// shape. The result is by DER.
func newAnchors(ders [][]byte) (map[string]*anchor, error) {
	as := map[string]*anchor{}
	for i, der := range ders {
		c, err := x509.ParseCertificate(slices.Clone(der))
		if err != nil {
			return nil, fmt.Errorf("tdx: Config.Anchors[%d]: %w", i, err)
		}
		if err := checkCA(c, abi.NameRoot); err != nil {
			return nil, fmt.Errorf("tdx: Config.Anchors[%d]: %w", i, err)
		}
		if err := pki.CheckSignature(c, c, algorithm); err != nil {
			return nil, fmt.Errorf("tdx: Config.Anchors[%d]: %w", i, err)
		}
		if as[string(der)] != nil {
			return nil, fmt.Errorf("tdx: Config.Anchors[%d]: again", i)
		}
		as[string(der)] = &anchor{c, sha256.Sum256(der)}
	}
	return as, nil
}

// checkCA reports whether c is a certificate of the CA called name. Validity and
// signature are the caller's.
func checkCA(c *x509.Certificate, name string) error {
	const usage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	if err := checkCertificateOf(c, name); err != nil {
		return err
	}
	if !c.IsCA || c.KeyUsage != usage {
		return errors.New("not a CA certificate")
	}
	return nil
}

// checkSigner reports whether c is a certificate of name, which signs documents
// and quotes but no certificates.
func checkSigner(c *x509.Certificate, name string) error {
	if err := checkCertificateOf(c, name); err != nil {
		return err
	}
	if c.IsCA || c.KeyUsage&x509.KeyUsageDigitalSignature == 0 || c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return errors.New("not a certificate to sign with")
	}
	return nil
}

// checkCertificateOf checks what all certificates of Intel have in common.
func checkCertificateOf(c *x509.Certificate, name string) error {
	switch {
	case !isIntelName(c.Subject, name):
		return fmt.Errorf("not the name of %s", name)
	case c.Version != 3 || !c.BasicConstraintsValid || len(c.UnhandledCriticalExtensions) != 0:
		return errors.New("not a certificate of this profile")
	case keyOf(c) == nil:
		return errors.New("not a key on P-256")
	}
	return nil
}

// isIntelName reports whether n is Intel's name with common name cn, no more and
// no less.
func isIntelName(n pkix.Name, cn string) bool {
	attributes := [...]struct {
		id    int // below 2.5.4
		value string
	}{{6, "US"}, {8, "CA"}, {7, "Santa Clara"}, {10, "Intel Corporation"}, {3, cn}}
	for _, want := range attributes {
		id := asn1.ObjectIdentifier{2, 5, 4, want.id}
		if !slices.ContainsFunc(n.Names, func(a pkix.AttributeTypeAndValue) bool {
			return a.Type.Equal(id) && a.Value == any(want.value)
		}) {
			return false
		}
	}
	return len(n.Names) == len(attributes)
}

// keyOf returns the key on P-256 that c is for, or nil.
func keyOf(c *x509.Certificate) *ecdsa.PublicKey {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil
	}
	return key
}

// nextPEM returns the DER of the certificate that text begins with, and what
// follows it and white space.
func nextPEM(text []byte) (der, rest []byte, err error) {
	begin := []byte("-----BEGIN")
	if !bytes.HasPrefix(text, begin) {
		return nil, nil, malformed{errors.New("not a certificate in PEM")}
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != pki.Certificate || len(block.Headers) != 0 {
		return nil, nil, malformed{errors.New("not a plain certificate in PEM")}
	}
	if bytes.Count(text[:len(text)-len(rest)], begin) != 1 { // Decode passes over what is malformed
		return nil, nil, malformed{errors.New("malformed PEM before a certificate")}
	}
	return block.Bytes, bytes.TrimLeft(rest, " \t\r\n"), nil
}

// malformed is an error of form, whoever signed what has it.
type malformed struct{ error }

func (m malformed) Unwrap() error { return m.error }

// errNoCertificate is the error of what is none. What crypto/x509 has to say may
// quote it, and it came with the Evidence.
func errNoCertificate() error { return malformed{errors.New("not one X.509 certificate")} }

// link is a certificate that a pinned root signed.
type link struct {
	cert *x509.Certificate
	root *anchor
}

// linkOf returns the link that text is, as Intel writes it: certificate and root
// in PEM, and after them nothing but one zero byte. Bytes once verified are not
// verified again; profile, time and revocation are the caller's.
func (v *Verifier) linkOf(text []byte) (link, error) {
	sum := sha256.Sum256(text)
	if l, ok := v.links.Get(sum); ok {
		return l, nil
	}
	der, rest, err := nextPEM(text)
	if err != nil {
		return link{}, err
	}
	rootDER, rest, err := nextPEM(rest)
	if err != nil {
		return link{}, err
	}
	if len(rest) > 1 || !zero(rest) {
		return link{}, malformed{errors.New("data after the certificates")}
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return link{}, errNoCertificate()
	}
	root := v.anchors[string(rootDER)]
	if root == nil {
		return link{}, errors.New("not a pinned root")
	}
	if err := pki.CheckSignature(c, root.cert, algorithm); err != nil {
		return link{}, err
	}
	l := link{c, root}
	v.links.Put(sum, l)
	return l, nil
}

// verifyRaw reports whether sig, r and s of 32 bytes each, is a signature by key
// over the SHA-256 of message.
func verifyRaw(key *ecdsa.PublicKey, sig, message []byte) bool {
	if len(sig) != abi.SignatureSize {
		return false
	}
	digest := sha256.Sum256(message)
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	return ecdsa.Verify(key, digest[:], r, s)
}

// validUntil returns when the first of cs expires, or an error unless all are
// valid at now.
func validUntil(now time.Time, cs ...*x509.Certificate) (time.Time, error) {
	end := cs[0].NotAfter
	for _, c := range cs {
		if !pki.Valid(c, now) {
			return time.Time{}, fmt.Errorf("%s: not valid at this time", c.Subject.CommonName)
		}
		end = earliest(end, c.NotAfter)
	}
	return end, nil
}

func earliest(t, u time.Time) time.Time {
	if u.Before(t) {
		return u
	}
	return t
}
