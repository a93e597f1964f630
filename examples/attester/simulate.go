package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// platform is a simulated machine of one Line with the vendor that made it. A
// Line has roots of its own, and a file of its own in the folder, which is made
// whole or not at all and never changed.
type platform struct {
	amd  *snptest.AMD
	chip *snptest.Chip
}

// maxPlatform bounds the file of a platform in bytes. It has three RSA keys.
const maxPlatform = 1 << 20

func platformFile(dir string, line snp.Line) string {
	return filepath.Join(dir, "snp-"+line.String()+".pem")
}

// openPlatform returns the platform of line that dir keeps, and makes it if
// there is none. Processes that come at once get the same one.
func openPlatform(dir string, line snp.Line) (*platform, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := platformFile(dir, line)
	b, err := readOrCreate(path, func() []byte { return newPlatform(line) })
	if err != nil {
		return nil, err
	}
	p, err := loadPlatform(b, line)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// readOrCreate returns the content of the file at path. If there is none it is
// created with what create returns, unless another process is faster.
func readOrCreate(path string, create func() []byte) ([]byte, error) {
	b, err := cli.ReadFile(path, maxPlatform)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if err := cli.CreateFile(path, create(), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return cli.ReadFile(path, maxPlatform)
}

// newPlatform returns a new platform as its file has it: chip, then vendor.
func newPlatform(line snp.Line) []byte {
	amd := snptest.NewAMD()
	chip := amd.Chip(line)
	return append(chip.MarshalPEM(), amd.MarshalPEM()...)
}

// loadPlatform reads what newPlatform returned. A vendor without the Line would
// quietly make new roots, so that is refused.
func loadPlatform(b []byte, line snp.Line) (*platform, error) {
	_, vendor := pem.Decode(b)
	amd, err := snptest.LoadAMD(vendor)
	if err != nil {
		return nil, err
	}
	if a := amd.Anchors(); len(a) != 1 || a[0].Line != line {
		return nil, fmt.Errorf("no simulated vendor of %s", line)
	}
	chip, err := amd.LoadChip(b[:len(b)-len(vendor)])
	if err != nil {
		return nil, err
	}
	if chip.Reported.Line != line {
		return nil, fmt.Errorf("no simulated chip of %s", line)
	}
	return &platform{amd, chip}, nil
}

// openPlatforms returns every platform that dir keeps, in the order of Lines.
func openPlatforms(dir string) (ps []*platform, err error) {
	for line := snp.Milan; line <= snp.Turin; line++ {
		if _, err := os.Lstat(platformFile(dir, line)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		p, err := openPlatform(dir, line)
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// simulatedQuote has data signed by the platform of g, for a guest launched as
// g says, and adds all that a verifier needs beside the roots.
func (g *guest) simulatedQuote(ctx context.Context, data evidence.Binding) (quote, error) {
	hostData, err := g.launchData()
	if err != nil {
		return quote{}, err
	}
	switch g.tee {
	case teeTDX:
		return simulatedTDXQuote(ctx, g.dir, hostData, data)
	case teeCCA:
		return simulatedCCAQuote(g.dir, hostData, data)
	}
	p, err := openPlatform(g.dir, g.product())
	if err != nil {
		return quote{}, err
	}
	vek, err := p.published(ctx, snp.VCEKName(p.chip.ID(), p.chip.Reported))
	if err != nil {
		return quote{}, err
	}
	crl, err := p.published(ctx, snp.CRLName(g.product(), snp.VCEK))
	if err != nil {
		return quote{}, err
	}
	ev := p.chip.Report(snptest.Guest{Measurement: measurement(), HostData: hostData}, data)
	return quote{raw: ev.Raw, endorsements: map[string][]byte{vekFile: vek, crlFile: crl}}, nil
}

// published returns what the vendor publishes under name.
func (p *platform) published(ctx context.Context, name string) ([]byte, error) {
	found, err := p.amd.Source().Get(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, evidence.ErrNotFound
	}
	return found[0].Data, nil
}
