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
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// tdxPlatform is a simulated machine with TDX and the vendor that made it, kept as
// a [platform] is.
type tdxPlatform struct {
	intel    *tdxtest.Intel
	platform *tdxtest.Platform
}

func tdxFile(dir string) string { return filepath.Join(dir, "tdx.pem") }

// openTDX returns the platform that dir keeps, and makes it if there is none.
func openTDX(dir string) (*tdxPlatform, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := tdxFile(dir)
	b, err := readOrCreate(path, newTDX)
	if err != nil {
		return nil, err
	}
	p, err := loadTDX(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// hasTDX reports whether dir keeps a platform.
func hasTDX(dir string) bool {
	_, err := os.Lstat(tdxFile(dir))
	return !errors.Is(err, fs.ErrNotExist)
}

// newTDX returns a new platform as its file has it: platform, then vendor.
func newTDX() []byte {
	intel := tdxtest.NewIntel()
	return append(intel.Platform(tdx.PlatformCA).MarshalPEM(), intel.MarshalPEM()...)
}

// loadTDX reads what newTDX returned.
func loadTDX(b []byte) (*tdxPlatform, error) {
	_, vendor := pem.Decode(b)
	intel, err := tdxtest.LoadIntel(vendor)
	if err != nil {
		return nil, err
	}
	p, err := intel.LoadPlatform(b[:len(b)-len(vendor)])
	if err != nil {
		return nil, err
	}
	return &tdxPlatform{intel, p}, nil
}

// simulatedTD is the TD that the platform runs. Its host chose launch.
func simulatedTD(launch [32]byte) tdxtest.TD {
	td := tdxtest.TD{MRTD: measurement(), Log: tdxtest.EventLog{
		{RTMR: 0, Data: []byte("simulated configuration of the firmware")},
		{RTMR: 1, Data: []byte("simulated kernel")},
		{RTMR: 2, Data: []byte("simulated command line")},
	}}
	copy(td.MRConfigID[:], launch[:]) // and zeros
	return td
}

// simulatedTDXQuote has data signed by the platform in dir, for a TD launched with
// launch, and adds all that a verifier needs beside the root.
func simulatedTDXQuote(ctx context.Context, dir string, launch [32]byte, data evidence.Binding) (quote, error) {
	p, err := openTDX(dir)
	if err != nil {
		return quote{}, err
	}
	ev := p.platform.Quote(simulatedTD(launch), data)
	q := quote{raw: ev.Raw, endorsements: map[string][]byte{ccelFile: ev.Items[0].Data}}
	for _, c := range []struct{ name, file, chain string }{
		{tdx.TCBInfoName(p.platform.PCK.FMSPC), tcbInfoFile, tcbChainFile},
		{tdx.QEIdentityName(), qeIdentityFile, qeChainFile},
		{tdx.PCKCRLName(p.platform.PCK.CA), pckCRLFile, ""},
		{tdx.RootCRLName(), rootCRLFile, ""},
	} {
		found, err := p.intel.Source().Get(ctx, c.name)
		if err != nil {
			return quote{}, err
		}
		q.endorsements[c.file] = found[0].Data
		if c.chain != "" {
			q.endorsements[c.chain] = found[0].Issuer
		}
	}
	return q, nil
}
