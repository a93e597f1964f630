package main

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/teebroker/teebroker/tdx"
)

// shownTD is what show prints of a TD. Binary values are lower-case hexadecimal.
type shownTD struct {
	TEE         string `json:"tee"`
	Format      string `json:"format"`
	FMSPC       string `json:"fmspc"`
	Chip        string `json:"chip"`        // PPID
	Measurement string `json:"measurement"` // MRTD
	MRConfigID  string `json:"mrconfigid"`
	Root        string `json:"root"` // SHA-256 of the root CA, as receipts name it
}

// showTDX describes the TD that g says.
func (g *guest) showTDX() (shownTD, error) {
	if g.line != 0 {
		return shownTD{}, errProduct
	}
	launch, err := g.launchData()
	if err != nil {
		return shownTD{}, err
	}
	p, err := openTDX(g.dir)
	if err != nil {
		return shownTD{}, err
	}
	td := simulatedTD(launch)
	root := sha256.Sum256(p.intel.Anchors()[0])
	return shownTD{
		TEE: teeTDX, Format: string(tdx.Format), FMSPC: p.platform.PCK.FMSPC.String(),
		Chip:        hex.EncodeToString(p.platform.PCK.PPID[:]),
		Measurement: hex.EncodeToString(td.MRTD[:]),
		MRConfigID:  hex.EncodeToString(td.MRConfigID[:]),
		Root:        hex.EncodeToString(root[:]),
	}, nil
}
