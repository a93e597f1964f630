package tdxtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/tdx"
)

// Types of the PEM blocks of what is saved.
const (
	typeKey         = "PRIVATE KEY" // PKCS#8
	typeCertificate = "CERTIFICATE"
	typePlatform    = "SIMULATED TDX PLATFORM" // the secret, with the CA as header
)

// MarshalPEM returns the keys and certificates of n, for [LoadIntel]: for each
// [Authority], in order, its private key in PKCS#8 and then its certificate.
// Platforms are saved by [Platform.MarshalPEM].
func (n *Intel) MarshalPEM() []byte {
	h := n.authorities()
	var out []byte
	for a := Root; a <= TCBSigning; a++ {
		key := must(x509.MarshalPKCS8PrivateKey(h.keys[a]))
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: typeKey, Bytes: key})...)
		out = append(out, PEM(h.certs[a])...)
	}
	return out
}

// LoadIntel returns the Intel that was saved with [Intel.MarshalPEM]. Its keys and
// certificates, and so its anchor, are the same.
func LoadIntel(saved []byte) (*Intel, error) {
	h := &hierarchy{}
	for a := Root; a <= TCBSigning; a++ {
		var cert *x509.Certificate
		var err error
		if h.keys[a], cert, saved, err = readAuthority(saved); err != nil {
			return nil, fmt.Errorf("tdxtest: saved Intel: %w", err)
		}
		if cert.Subject.CommonName != a.commonName() {
			return nil, fmt.Errorf("tdxtest: saved Intel: no certificate of %s", a.commonName())
		}
		if a == Root {
			h.from = cert.NotBefore
		}
		h.certs[a] = cert.Raw
	}
	if len(bytes.TrimSpace(saved)) > 0 {
		return nil, errors.New("tdxtest: saved Intel: something follows")
	}
	n := NewIntel()
	n.once.Do(func() { n.pki = h })
	return n, nil
}

// readAuthority reads a private key and the certificate of its public key.
func readAuthority(saved []byte) (*ecdsa.PrivateKey, *x509.Certificate, []byte, error) {
	keyDER, saved, err := readBlock(saved, typeKey)
	if err != nil {
		return nil, nil, nil, err
	}
	certDER, saved, err := readBlock(saved, typeCertificate)
	if err != nil {
		return nil, nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, nil, nil, err
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, nil, nil, err
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() || !private.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, nil, errors.New("key and certificate do not belong together")
	}
	return private, cert, saved, nil
}

// readBlock reads a PEM block of type t.
func readBlock(saved []byte, t string) (der, rest []byte, err error) {
	block, rest := pem.Decode(saved)
	if block == nil || block.Type != t {
		return nil, nil, fmt.Errorf("no PEM block %s", t)
	}
	return block.Bytes, rest, nil
}

// MarshalPEM returns the secret of p, for [Intel.LoadPlatform]. It has the names
// and all keys of p, but not what its fields were set to.
func (p *Platform) MarshalPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{
		Type:    typePlatform,
		Headers: map[string]string{"CA": p.ca.String()},
		Bytes:   p.secret,
	})
}

// LoadPlatform returns the platform that was saved with [Platform.MarshalPEM], as
// [Intel.Platform] made it. It is for the Intel that made the platform: any other
// Intel gives the same keys certificates of its own.
func (n *Intel) LoadPlatform(saved []byte) (*Platform, error) {
	block, rest := pem.Decode(saved)
	if block == nil || block.Type != typePlatform || len(block.Bytes) != secretSize || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("tdxtest: no saved platform")
	}
	for _, ca := range []tdx.CA{tdx.PlatformCA, tdx.ProcessorCA} {
		if block.Headers["CA"] == ca.String() {
			return newPlatform(n, ca, block.Bytes), nil
		}
	}
	return nil, errors.New("tdxtest: saved platform of no CA")
}
