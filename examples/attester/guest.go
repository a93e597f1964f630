package main

import (
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"flag"
	"strings"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/snp"
)

// The TEEs, as flags and results call them.
const (
	teeSNP = "snp"
	teeTDX = "tdx"
	teeCCA = "cca"
)

// guest is which guest is meant, as the flags say.
type guest struct {
	tee      string
	dir      string // of the simulated platform, or ""
	line     snp.Line
	tenant   string
	instance *[16]byte
	hostData *[32]byte
}

// guestFlags registers the flags that several commands share.
func guestFlags(fs *flag.FlagSet) *guest {
	g := &guest{}
	fs.Func("tee", "`TEE` of the guest: snp, tdx or cca", g.setTEE)
	fs.StringVar(&g.dir, "simulate", "", "use the simulated platform in the folder `DIR`, made at first use")
	fs.Func("product", "`LINE` of the simulated chip of SEV-SNP: Milan, Genoa or Turin (default Turin)", g.setLine)
	fs.Func("tenant", "`TENANT` the simulated guest was launched for (default \"default\")", g.setTenant)
	fs.Func("instance", "`UUID` of the instance the simulated guest was launched for", g.setInstance)
	fs.Func("host-data", "HOST_DATA, MRCONFIGID or RPV of the simulated guest: `HEX` of up to 32 bytes, instead of the one for -tenant and -instance", g.setHostData)
	return g
}

func (g *guest) setTEE(s string) error {
	switch s {
	case teeSNP, teeTDX, teeCCA:
		g.tee = s
		return nil
	}
	return errors.New("no such TEE")
}

// title returns what people call the TEE.
func (g *guest) title() string {
	switch g.tee {
	case teeTDX:
		return "TDX"
	case teeCCA:
		return "CCA"
	}
	return "SEV-SNP"
}

// checkProduct refuses a product of AMD for another TEE.
func (g *guest) checkProduct() error {
	if g.line != 0 && (g.tee == teeTDX || g.tee == teeCCA) {
		return cli.Usagef("-product is of SEV-SNP")
	}
	return nil
}

func (g *guest) setLine(s string) error {
	for line := snp.Milan; line <= snp.Turin; line++ {
		if line.String() == s {
			g.line = line
			return nil
		}
	}
	return errors.New("want Milan, Genoa or Turin")
}

func (g *guest) setTenant(s string) error {
	if s == "" || len(s) > 64 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return errors.New("want 1 to 64 of a-z, 0-9 and -")
	}
	g.tenant = s
	return nil
}

func (g *guest) setInstance(s string) error {
	id, err := strictjson.ParseUUID(s)
	if err != nil {
		return errors.New("want a UUID in lower case, such as 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11")
	}
	g.instance = (*[16]byte)(&id)
	return nil
}

func (g *guest) setHostData(s string) error {
	b, err := hex.DecodeString(strings.ToLower(s))
	if err != nil {
		return err
	}
	g.hostData = new([32]byte)
	if len(b) == 0 || len(b) > len(g.hostData) {
		return errors.New("want 1 to 32 bytes")
	}
	copy(g.hostData[:], b)
	return nil
}

// simulatedOnly reports whether a flag was given that only a simulated guest
// can follow.
func (g *guest) simulatedOnly() bool {
	return g.line != 0 || g.tenant != "" || g.instance != nil || g.hostData != nil
}

// product returns the Line, Turin unless another was asked for.
func (g *guest) product() snp.Line {
	if g.line == 0 {
		return snp.Turin
	}
	return g.line
}

// launchData returns the HOST_DATA of the guest, or how its MRCONFIGID or RPV
// starts: as given, or its launch identity, or zero for a guest that was launched
// for nobody in particular.
func (g *guest) launchData() ([32]byte, error) {
	switch {
	case g.hostData != nil:
		return *g.hostData, nil
	case g.instance != nil && g.tenant != "":
		return teebroker.LaunchID(g.tenant, *g.instance), nil
	case g.instance != nil:
		return teebroker.LaunchID("default", *g.instance), nil
	case g.tenant != "":
		return [32]byte{}, cli.Usagef("-tenant needs -instance")
	}
	return [32]byte{}, nil
}

// measurement is the launch digest of the simulated guest, whose image is no
// more than its name.
func measurement() [48]byte { return sha512.Sum384([]byte("teebroker simulated guest")) }
