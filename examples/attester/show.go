package main

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"io"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/policy"
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

	// Policy is a document that accepts this guest on this chip, at its TCB or
	// above, and nothing else.
	Policy object `json:"policy"`
}

// object is a JSON object of a policy document; docs/policy.md lists its members.
type object map[string]any

func showCommand() cli.Command {
	return cli.Command{
		Name: "attester show",
		About: `
Print as JSON what a simulated guest would be measured as, for registering it.

  attester show -simulate sim
  attester show -simulate sim -product Milan -tenant acme -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11

The member policy is a policy document that accepts this guest on this platform,
at its TCB or above, and nothing else:

  attester show -tee tdx -simulate sim | jq .policy > policy.json
  verify -policy policy.json -roots roots.pem -endorsements quote.bin.endorsements quote.bin`,
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
		s, err := g.shown()
		if err != nil {
			return false, err
		}
		return true, cli.WriteJSON(stdout, s)
	}
}

// shown describes the guest that g says, of whatever TEE it is.
func (g *guest) shown() (any, error) {
	if err := g.checkProduct(); err != nil {
		return nil, err
	}
	switch g.tee {
	case teeTDX:
		return g.showTDX()
	case teeCCA:
		return g.showCCA()
	}
	return g.show()
}

// show describes the guest of SEV-SNP that g says.
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
	out := shown{
		TEE: teeSNP, Format: string(snp.Format), Line: g.product().String(),
		Family: p.chip.Family, Model: p.chip.Model, Stepping: p.chip.Stepping,
		Chip:        hex.EncodeToString(chip[:]),
		Measurement: hex.EncodeToString(digest[:]),
		HostData:    hex.EncodeToString(hostData[:]),
		Root:        hex.EncodeToString(root[:]),
	}
	out.Policy = document(out.Format, out.referenceValues(p.chip.Floor()))
	return out, nil
}

// document returns a policy document that demands one evidence of format, and that
// it is as values say.
func document(format string, values object) object {
	return object{
		"policy": policy.DocumentType, "name": "simulated-guest", "version": "1", "scope": policy.Global,
		"require": object{format: []object{values}},
	}
}

// referenceValues accepts the guest on its chip. There is no ID block, so that
// what it would say is not asked.
func (s shown) referenceValues(floor snp.Floor) object {
	const anything = "*"
	return object{
		"measurements": []string{s.Measurement}, "host_data": []string{s.HostData}, "vmpls": []int{0},
		"id_keys": anything, "author_keys": anything, "family_ids": anything, "image_ids": anything,
		"lines": []string{s.Line}, "keys": []string{snp.VCEK.String()}, "chips": []string{s.Chip},
		"floors": []object{{
			"family": s.Family, "min_model": s.Model, "max_model": s.Model, "steppings": []int{int(s.Stepping)},
			"reported": tcb(floor.Reported), "committed": tcb(floor.Committed), "launch": tcb(floor.Launch),
		}},
		"allow_smt": true, // as Baseline
	}
}

func tcb(t snp.TCB) object {
	o := object{"bootloader": t.Bootloader, "tee": t.TEE, "firmware": t.Firmware, "microcode": t.Microcode}
	if t.Line == snp.Turin {
		o["fmc"] = t.FMC
	}
	return o
}
