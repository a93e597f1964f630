// Package simulated reads the platforms that examples/attester keeps in a folder,
// for a broker that is told to trust them.
package simulated

import (
	"crypto/ecdsa"
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
	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// Trust is the verifiers of the platforms in a folder, and their roots as results
// name them.
type Trust struct {
	Verifiers evidence.Verifiers
	Roots     [][32]byte
}

// maxFile bounds the file of a platform in bytes.
const maxFile = 1 << 20

// Open reads the platforms in dir. If there is none it makes one of SEV-SNP, a
// Turin, as examples/attester would.
func Open(dir string) (*Trust, error) {
	t := &Trust{Verifiers: evidence.Verifiers{}}
	for range 2 {
		for _, open := range []func(string) error{t.openSNP, t.openTDX, t.openCCA} {
			if err := open(dir); err != nil {
				return nil, err
			}
		}
		if len(t.Roots) > 0 {
			return t, nil
		}
		if err := create(dir); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: no simulated platform", dir)
}

// create makes a Turin in dir, unless somebody else was faster.
func create(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	amd := snptest.NewAMD()
	chip := amd.Chip(snp.Turin)
	err := cli.CreateFile(filepath.Join(dir, "snp-Turin.pem"), append(chip.MarshalPEM(), amd.MarshalPEM()...), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// read returns the first block of the file called name and what follows it, or
// nothing if there is no such file.
func read(dir, name string) (first, rest []byte, err error) {
	path := filepath.Join(dir, name)
	b, err := cli.ReadFile(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	block, rest := pem.Decode(b)
	if block == nil {
		return nil, nil, fmt.Errorf("%s: not a simulated platform", path)
	}
	return b[:len(b)-len(rest)], rest, nil
}

func (t *Trust) openSNP(dir string) error {
	var anchors []snp.Anchors
	var sources []evidence.Source
	for line := snp.Milan; line <= snp.Turin; line++ {
		saved, vendor, err := read(dir, "snp-"+line.String()+".pem")
		if err != nil {
			return err
		}
		if vendor == nil {
			continue
		}
		amd, err := snptest.LoadAMD(vendor)
		if err != nil {
			return fmt.Errorf("simulated %s: %w", line, err)
		}
		for _, a := range amd.Anchors() {
			anchors = append(anchors, a)
			t.Roots = append(t.Roots, sha256.Sum256(a.ARK))
		}
		chip, err := amd.LoadChip(saved)
		if err != nil {
			return fmt.Errorf("simulated %s: %w", line, err)
		}
		sources = append(sources, amd.Source(), certificates(chip))
	}
	if len(anchors) == 0 {
		return nil
	}
	v, err := snp.NewVerifier(snp.Config{Anchors: anchors, Source: collateral.First(sources...)})
	if err != nil {
		return fmt.Errorf("simulated SEV-SNP: %w", err)
	}
	t.Verifiers[snp.Format] = v
	return nil
}

// certificates is what the vendor of chip would answer who asks for its VCEK: some
// guests send none.
func certificates(chip *snptest.Chip) evidence.Source {
	known := collateral.Fixed{}
	for _, e := range chip.Entries(snp.VCEK) {
		for _, name := range snp.NamesOf(e.Data) {
			known[name] = []evidence.Collateral{{Data: e.Data}}
		}
	}
	return known
}

func (t *Trust) openTDX(dir string) error {
	platform, vendor, err := read(dir, "tdx.pem")
	if err != nil || vendor == nil {
		return err
	}
	intel, err := tdxtest.LoadIntel(vendor)
	if err == nil {
		_, err = intel.LoadPlatform(platform) // so that its Source knows it
	}
	if err != nil {
		return fmt.Errorf("simulated TDX: %w", err)
	}
	v, err := tdx.NewVerifier(tdx.Config{Anchors: intel.Anchors(), Source: intel.Source()})
	if err != nil {
		return fmt.Errorf("simulated TDX: %w", err)
	}
	t.Verifiers[tdx.Format] = v
	t.Roots = append(t.Roots, sha256.Sum256(intel.Anchors()[0]))
	return nil
}

// openCCA reads the key of a platform, which is its own anchor, and is named as
// examples/attester names it.
func (t *Trust) openCCA(dir string) error {
	b, _, err := read(dir, "cca.pem")
	if err != nil || b == nil {
		return err
	}
	block, _ := pem.Decode(b)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return errors.New("simulated CCA: not a key")
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return fmt.Errorf("simulated CCA: %w", err)
	}
	root := sha256.Sum256(spki)
	p := ccatest.NewPlatform()
	id := cca.InstanceID(append([]byte{p.Instance[0]}, root[:]...))
	v, err := cca.NewVerifier(cca.Config{Anchors: []cca.Anchor{{Instance: id, Implementation: p.Implementation, Key: &key.PublicKey}}})
	if err != nil {
		return fmt.Errorf("simulated CCA: %w", err)
	}
	t.Verifiers[cca.Format] = v
	t.Roots = append(t.Roots, root)
	return nil
}
