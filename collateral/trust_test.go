package collateral_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// What comes around genuine collateral can't keep a Verifier from it: it is kept in
// the one form that Verifiers take, whatever else an upstream, or who writes to the
// directory, put there.
func TestCacheForm(t *testing.T) {
	signer, root := intel().Certificate(tdxtest.TCBSigning, nil), intel().Certificate(tdxtest.Root, nil)
	foreign := simulatedIntel().Certificate(tdxtest.TCBSigning, nil)
	shorter := intel().Certificate(tdxtest.TCBSigning, func(c *tdxtest.Certificate) { c.NotAfter = now.Add(36 * time.Hour) })
	for name, chain := range map[string][]byte{
		"root first":               tdxtest.PEM(root, signer),
		"no root":                  tdxtest.PEM(signer),
		"text before":              append([]byte("see below\n"), tdxtest.PEM(signer, root)...),
		"text after":               append(tdxtest.PEM(signer, root), "and above\n"...),
		"another certificate":      tdxtest.PEM(foreign, signer, root),
		"beyond what is looked at": append(tdxtest.PEM(signer, root), bytes.Repeat([]byte(" "), 100<<10)...),
		"an older signer first":    tdxtest.PEM(shorter, signer, root),
	} {
		t.Run(name, func(t *testing.T) {
			v, c, dir := newVendor(), &clock{now}, t.TempDir()
			genuine := info(intel(), 18, now)
			odd := evidence.Collateral{Data: genuine.Data, Issuer: chain}
			cache := cacheOf(t, v, c, dir)
			for _, answer := range []evidence.Collateral{odd, genuine, odd} {
				v.set(infoName, answer)
				got, err := cache.Get(t.Context(), infoName)
				if err != nil || len(got) != 1 || !bytes.Equal(got[0].Issuer, genuine.Issuer) || !bytes.Equal(got[0].Data, genuine.Data) {
					t.Fatalf("%d candidates, %v, or another form", len(got), err)
				}
				c.advance(25 * time.Hour)
			}
		})
	}

	chip := amd().Chip(snp.Milan)
	vcek := snp.VCEKName(chip.ID(), chip.Reported)
	der := amd().IssueVEK(chip.Key(), snptest.VEK{TCB: chip.Reported, Chip: chip.ID()})
	list := amdList(now, 30).Data
	pck := intelList(tdxtest.PlatformCA, now, 30)
	padding := bytes.Repeat([]byte("\n"), 20<<10)
	for name, want := range map[string][]byte{vcek: der, milanCRL: list, pckName: pck.Data} {
		v := newVendor()
		kind := "CERTIFICATE"
		if name != vcek {
			kind = "X509 CRL"
		}
		v.set(name, evidence.Collateral{Data: slices.Concat(inPEM(kind, want), padding), Issuer: slices.Concat(pck.Issuer, padding)})
		cache := cacheOf(t, v, &clock{now}, t.TempDir())
		gets(t, cache, name, want)
		if n := cache.Stats().Bytes; n > 10<<10 {
			t.Errorf("%s: %d bytes are kept", name, n)
		}
	}
}
