package main

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"io"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/snp"
)

// shown is what show prints. Binary values are lower-case hexadecimal.
type shown struct {
	TEE         string `json:"tee"`
	Format      string `json:"format"`
	Line        string `json:"line"`
	Family      uint8  `json:"family"`
	Model       uint8  `json:"model"`
	Stepping    uint8  `json:"stepping"`
	Chip        string `json:"chip"`
	Measurement string `json:"measurement"`
	HostData    string `json:"host_data"`
	Root        string `json:"root"` // SHA-256 of the ARK, as receipts name it

	// Reference accepts this guest on this processor and nothing else: one
	// alternative of a policy document.
	Reference snp.ReferenceValues `json:"reference_values"`
}

func showCommand() cli.Command {
	return cli.Command{
		Name: "attester show",
		About: `
Print as JSON what a simulated guest would be measured as, for registering it.

  attester show -simulate sim
  attester show -simulate sim -product Milan -tenant acme -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11

The member reference_values is one alternative of a policy document.`,
		Setup: setupShow,
	}
}

func setupShow(fs *flag.FlagSet) cli.Action {
	g := guestFlags(fs)
	return func(args []string, stdout io.Writer) (bool, error) {
		switch {
		case len(args) != 0:
			return false, cli.Usagef("unexpected argument %q", args[0])
		case g.dir == "":
			return false, cli.Usagef("-simulate is required")
		}
		s, err := g.show()
		if err != nil {
			return false, err
		}
		return true, cli.WriteJSON(stdout, s)
	}
}

// show describes the guest that g says.
func (g *guest) show() (shown, error) {
	hostData, err := g.launchData()
	if err != nil {
		return shown{}, err
	}
	p, err := openPlatform(g.dir, g.product())
	if err != nil {
		return shown{}, err
	}
	chip, digest := p.chip.ID(), measurement()
	root := sha256.Sum256(p.amd.Anchors()[0].ARK)
	return shown{
		TEE: "snp", Format: string(snp.Format), Line: g.product().String(),
		Family: p.chip.Family, Model: p.chip.Model, Stepping: p.chip.Stepping,
		Chip:        hex.EncodeToString(chip[:]),
		Measurement: hex.EncodeToString(digest[:]),
		HostData:    hex.EncodeToString(hostData[:]),
		Root:        hex.EncodeToString(root[:]),
		Reference:   snp.Baseline([]snp.Floor{p.chip.Floor()}, digest),
	}, nil
}
