package main

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// shownTD is what show prints of a TD. Binary values are lower-case hexadecimal.
type shownTD struct {
	TEE         string   `json:"tee"`
	Format      string   `json:"format"`
	FMSPC       string   `json:"fmspc"`
	Chip        string   `json:"chip"`        // PPID
	Measurement string   `json:"measurement"` // MRTD
	RTMRs       []string `json:"rtmrs"`
	MRConfigID  string   `json:"mrconfigid"`
	Root        string   `json:"root"` // SHA-256 of the root CA, as receipts name it

	// Policy is a document that accepts this TD on this platform, UpToDate and with
	// this module or a later one, and nothing else.
	Policy object `json:"policy"`
}

// showTDX describes the TD that g says.
func (g *guest) showTDX() (shownTD, error) {
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
	s := shownTD{
		TEE: teeTDX, Format: string(tdx.Format), FMSPC: p.platform.PCK.FMSPC.String(),
		Chip:        hex.EncodeToString(p.platform.PCK.PPID[:]),
		Measurement: hex.EncodeToString(td.MRTD[:]),
		MRConfigID:  hex.EncodeToString(td.MRConfigID[:]),
		Root:        hex.EncodeToString(root[:]),
	}
	for _, r := range td.Log.RTMRs() {
		s.RTMRs = append(s.RTMRs, hex.EncodeToString(r[:]))
	}
	s.Policy = document(s.Format, s.referenceValues(p.platform))
	return s, nil
}

// referenceValues accepts the TD on its platform. Owner and configuration of the
// owner are zeros, which is what nobody set; CPU features are not asked.
func (s shownTD) referenceValues(p *tdxtest.Platform) object {
	const anything = "*"
	zero := hex.EncodeToString(make([]byte, 48))
	setup := p.PCK.Configuration
	return object{
		"mrtd":  []string{s.Measurement},
		"rtmr0": s.RTMRs[0:1], "rtmr1": s.RTMRs[1:2], "rtmr2": s.RTMRs[2:3], "rtmr3": s.RTMRs[3:4],
		"mrconfigid": []string{s.MRConfigID}, "mrowner": []string{zero}, "mrownerconfig": []string{zero},
		"body_types": []tdx.BodyType{tdx.TD10}, "require_attributes": []string{"sept_ve_disable"}, "allow_xfam": anything,
		"mrseam":   []string{hex.EncodeToString(p.MRSEAM[:])},
		"modules":  []object{{"version": p.Launched.ModuleVersion(), "min_svn": p.Launched.Module()}},
		"statuses": []tdx.Status{tdx.UpToDate}, "advisories": anything,
		"ppids":                  []string{s.Chip},
		"platform_instances":     []string{hex.EncodeToString(p.PCK.PlatformInstance[:])},
		"allow_dynamic_platform": setup.DynamicPlatform, "allow_cached_keys": setup.CachedKeys, "allow_smt": setup.SMTEnabled,
	}
}
