package snptest

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/teebroker/teebroker/snp"
)

// Types of the PEM blocks of what is saved.
const (
	typeKey         = "PRIVATE KEY" // PKCS#8
	typeCertificate = "CERTIFICATE"
	typeChip        = "SIMULATED SNP CHIP" // the secret, with the Line as header
)

// MarshalPEM returns the keys and certificates of the Lines used so far, for
// [LoadAMD]: for each CA, its private key in PKCS#8 and then its certificate.
// Chips are saved by [Chip.MarshalPEM].
func (a *AMD) MarshalPEM() []byte {
	var out bytes.Buffer
	for _, line := range a.used() {
		for _, ca := range a.hierarchy(line)[ARK:] {
			key := must(x509.MarshalPKCS8PrivateKey(ca.key))
			_ = pem.Encode(&out, &pem.Block{Type: typeKey, Bytes: key}) // a Buffer takes everything
			_ = pem.Encode(&out, &pem.Block{Type: typeCertificate, Bytes: ca.cert})
		}
	}
	return out.Bytes()
}

// LoadAMD returns the AMD that was saved with [AMD.MarshalPEM]. Its keys and
// certificates, and so its anchors, are the same. Lines that were not used
// before are made when they are first used.
func LoadAMD(saved []byte) (*AMD, error) {
	a := NewAMD()
	for len(bytes.TrimSpace(saved)) > 0 {
		var h hierarchy
		var line snp.Line
		var err error
		if line, saved, err = readHierarchy(&h, saved); err != nil {
			return nil, fmt.Errorf("snptest: saved AMD: %w", err)
		}
		a.setLine(line, func() *hierarchy { return &h })
	}
	return a, nil
}

// readHierarchy reads the next Line into h. It returns what follows.
func readHierarchy(h *hierarchy, saved []byte) (snp.Line, []byte, error) {
	key, cert, rest, err := readAuthority(saved)
	if err != nil {
		return 0, nil, err
	}
	line, ok := lineOf(strings.TrimPrefix(cert.Subject.CommonName, "ARK-"))
	if !ok {
		return 0, nil, errors.New("no ARK")
	}
	for ca := ARK; ca <= ASVK; ca++ {
		if ca != ARK {
			if key, cert, rest, err = readAuthority(rest); err != nil {
				return 0, nil, err
			}
		}
		if cert.Subject.CommonName != caName(ca, line) {
			return 0, nil, fmt.Errorf("no certificate of %s", caName(ca, line))
		}
		h[ca] = authority{amdName(cert.Subject.CommonName), key, cert.Raw}
	}
	return line, rest, nil
}

// readAuthority reads a private key and the certificate of its public key.
func readAuthority(saved []byte) (*rsa.PrivateKey, *x509.Certificate, []byte, error) {
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
	private, ok := key.(*rsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(cert.PublicKey) {
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

// lineOf returns the Line called name.
func lineOf(name string) (snp.Line, bool) {
	for line := snp.Milan; line <= snp.Turin; line++ {
		if name == line.String() {
			return line, true
		}
	}
	return 0, false
}

// MarshalPEM returns the secret of c, for [AMD.LoadChip]. It has the id and all
// keys of c, but not what its fields say.
func (c *Chip) MarshalPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{
		Type:    typeChip,
		Headers: map[string]string{"Line": c.line.String()},
		Bytes:   c.secret,
	})
}

// LoadChip returns the chip that was saved with [Chip.MarshalPEM], as
// [AMD.Chip] made it. It is for the AMD that made the chip: any other AMD gives
// the same keys certificates of its own.
func (a *AMD) LoadChip(saved []byte) (*Chip, error) {
	block, rest := pem.Decode(saved)
	if block == nil || block.Type != typeChip || len(block.Bytes) != secretSize || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("snptest: no saved chip")
	}
	line, ok := lineOf(block.Headers["Line"])
	if !ok {
		return nil, errors.New("snptest: saved chip of no line")
	}
	return a.addChip(line, block.Bytes), nil
}
