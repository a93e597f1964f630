package main

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/teebroker/teebroker/cca"
)

// shownRealm is what show prints of a realm. Binary values are lower-case hexadecimal.
type shownRealm struct {
	TEE            string `json:"tee"`
	Format         string `json:"format"`
	Implementation string `json:"implementation"`
	Chip           string `json:"chip"`        // instance-id
	Measurement    string `json:"measurement"` // RIM
	RPV            string `json:"rpv"`
	Root           string `json:"root"` // SHA-256 of the SubjectPublicKeyInfo of the CPAK, as receipts name it

	// Policy is a document that accepts this realm on this platform, with this
	// firmware, and nothing else.
	Policy object `json:"policy"`
}

// showCCA describes the realm that g says.
func (g *guest) showCCA() (shownRealm, error) {
	launch, err := g.launchData()
	if err != nil {
		return shownRealm{}, err
	}
	p, err := openCCA(g.dir)
	if err != nil {
		return shownRealm{}, err
	}
	realm := simulatedRealm(launch)
	root := sha256.Sum256(spki(p))
	s := shownRealm{
		TEE: teeCCA, Format: string(cca.Format),
		Implementation: p.Implementation.String(), Chip: p.Instance.String(),
		Measurement: realm.RIM.String(), RPV: hex.EncodeToString(realm.RPV[:]),
		Root: hex.EncodeToString(root[:]),
	}
	notExtended := strings.Repeat("00", len(realm.RIM))
	s.Policy = document(s.Format, object{
		"rims": []string{s.Measurement}, "rpvs": []string{s.RPV},
		"rem0": []string{notExtended}, "rem1": []string{notExtended}, "rem2": []string{notExtended}, "rem3": []string{notExtended},
		"realm_hashes": []string{realm.Hash.String()}, "mec_policies": []string{realm.MEC.String()},
		"platforms":       []object{platformObject(p.Reference())},
		"implementations": []string{s.Implementation}, "instances": []string{s.Chip},
	})
	return s, nil
}

// platformObject returns p as a policy document has it.
func platformObject(p cca.Platform) object {
	var components []object
	for _, c := range p.Components {
		components = append(components, object{
			"type": c.Type, "measurement": c.Measurement.String(), "signer_id": c.SignerID.String(), "version": c.Version,
		})
	}
	return object{
		"implementation": p.Implementation.String(),
		"config":         p.Config.String(), "config_mask": p.ConfigMask.String(),
		"components": components,
	}
}
