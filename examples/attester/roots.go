package main

import (
	"encoding/pem"
	"flag"
	"io"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

func rootsCommand() cli.Command {
	return cli.Command{
		Name: "attester roots",
		About: `
Write the trust anchors of a simulated platform to a PEM file, for verify -roots.

They are of every line of SEV-SNP that a quote was made of so far, and of TDX and
CCA if there was a quote of it; the anchor of CCA is the public key of its platform.
If there was none at all they are of Turin, which is then made:

  attester roots -simulate sim -out roots.pem
  verify -roots roots.pem -endorsements report.bin.endorsements report.bin`,
		Setup: setupRoots,
	}
}

func setupRoots(fs *flag.FlagSet) cli.Action {
	dir := fs.String("simulate", "", "the simulated platform in the folder `DIR`")
	out := fs.String("out", "", "write the anchors to this `PEM` file")
	return func(args []string, _ io.Writer) (bool, error) {
		switch {
		case len(args) != 0:
			return false, cli.Usagef("unexpected argument %q", args[0])
		case *dir == "" || *out == "":
			return false, cli.Usagef("-simulate and -out are required")
		}
		roots, err := simulatedRoots(*dir)
		if err != nil {
			return false, err
		}
		return true, cli.WriteFile(*out, roots, 0o644)
	}
}

// simulatedRoots returns the anchors of every platform in dir as PEM.
func simulatedRoots(dir string) ([]byte, error) {
	ps, err := openPlatforms(dir)
	if err == nil && len(ps) == 0 && !hasTDX(dir) && !hasCCA(dir) {
		ps = make([]*platform, 1)
		ps[0], err = openPlatform(dir, snp.Turin)
	}
	if err != nil {
		return nil, err
	}
	var roots []byte
	for _, p := range ps {
		for _, a := range p.amd.Anchors() {
			for _, der := range [][]byte{a.ARK, a.ASK, a.ASVK} {
				roots = append(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
			}
		}
	}
	if hasTDX(dir) {
		p, err := openTDX(dir)
		if err != nil {
			return nil, err
		}
		roots = append(roots, tdxtest.PEM(p.intel.Anchors()...)...)
	}
	if hasCCA(dir) {
		p, err := openCCA(dir)
		if err != nil {
			return nil, err
		}
		roots = append(roots, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki(p)})...)
	}
	return roots, nil
}
