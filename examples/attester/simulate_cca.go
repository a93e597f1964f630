package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
)

func ccaFile(dir string) string { return filepath.Join(dir, "cca.pem") }

// openCCA returns the platform that dir keeps, and makes it if there is none. It is
// its key (CPAK): there is no vendor.
func openCCA(dir string) (*ccatest.Platform, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := ccaFile(dir)
	b, err := readOrCreate(path, newCCA)
	if err != nil {
		return nil, err
	}
	p, err := loadCCA(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// hasCCA reports whether dir keeps a platform.
func hasCCA(dir string) bool {
	_, err := os.Lstat(ccaFile(dir))
	return !errors.Is(err, fs.ErrNotExist)
}

const privateKey = "PRIVATE KEY"

// newCCA returns a new platform as its file has it.
func newCCA() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(ccatest.NewPlatform().Key)
	if err != nil {
		panic("attester: " + err.Error()) // a key that was just made
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateKey, Bytes: der})
}

// loadCCA reads what newCCA returned. The instance is named after its key.
func loadCCA(b []byte) (*ccatest.Platform, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != privateKey || len(rest) != 0 {
		return nil, errors.New("not a simulated CCA platform")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, errors.New("not a key of a simulated CCA platform")
	}
	p := ccatest.NewPlatform()
	p.Key = key
	name := sha256.Sum256(spki(p))
	p.Instance = cca.InstanceID(append([]byte{p.Instance[0]}, name[:]...))
	return p, nil
}

// spki returns the SubjectPublicKeyInfo of the CPAK, which is the trust anchor.
func spki(p *ccatest.Platform) []byte {
	der, err := x509.MarshalPKIXPublicKey(&p.Key.PublicKey)
	if err != nil {
		panic("attester: " + err.Error()) // a key that was parsed
	}
	return der
}

// simulatedRealm is the realm that the platform runs. Its host chose launch.
func simulatedRealm(launch [32]byte) ccatest.Realm {
	m := measurement()
	r := ccatest.Realm{Profiles: ccatest.P2024, Hash: cca.SHA384, MEC: cca.MECPrivate, RIM: cca.Octets(m[:])}
	copy(r.RPV[:], launch[:]) // and zeros
	return r
}

// simulatedCCAQuote has data signed by the platform in dir, for a realm launched
// with launch. There is nothing beside it but the anchor, which is not the guest's
// to bring.
func simulatedCCAQuote(dir string, launch [32]byte, data evidence.Binding) (quote, error) {
	p, err := openCCA(dir)
	if err != nil {
		return quote{}, err
	}
	return quote{raw: p.Token(simulatedRealm(launch), data).Raw}, nil
}
