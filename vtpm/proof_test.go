package vtpm_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// shows is a Releases that knows what values show.
type shows map[[32]byte]vtpm.Shown

func (s shows) Shown(_ context.Context, value [32]byte) (vtpm.Shown, error) {
	shown := s[value]
	if shown.Tenant == "down" {
		return vtpm.Shown{}, errors.New("down")
	}
	return shown, nil
}

var proofPCR = vtpm.PCR{Bank: vtpm.SHA256, Index: 13}

func quoteOf(pcrs ...int) vtpmtest.Quote {
	return vtpmtest.Quote{Selection: []vtpm.BankSelection{{Bank: vtpm.SHA256, PCRs: pcrs}}}
}

// What the PCR shows is a claim, and only that of a live release is a proof.
func TestProof(t *testing.T) {
	w, want, release := theWorld(), sixtyFour(t), [16]byte{1}
	known := shows{}
	v, err := vtpm.NewVerifier(vtpm.Config{Platform: w.verifier, AKs: linked{}, Releases: known, ProofPCR: proofPCR})
	if err != nil {
		t.Fatal(err)
	}
	rule := vtpm.Baseline(vtpm.PCRRule{PCR: vtpm.PCR{Bank: vtpm.SHA256, Index: 7}, Values: evidence.Anything[vtpm.Octets]()})
	rule.RequireProof = true
	judge := func(d vtpmtest.Device, q vtpmtest.Quote, proof vtpm.Proof, release [16]byte) {
		t.Helper()
		c, got := claimsOf(t, v, w.svsm(d).Evidence(q, want), want)
		if c.Proof != proof || c.Shown.Release != release {
			t.Errorf("the PCR shows %s of %x, want %s of %x", c.Proof, c.Shown.Release, proof, release)
		}
		ms := rule.Appraise(got)
		if proof == vtpm.ProofLive && len(ms) != 0 || proof != vtpm.ProofLive && (len(ms) == 0 || !strings.HasPrefix(ms[0].String(), "vtpm.proof: got "+string(proof)+", want equal live")) {
			t.Errorf("%s: %v", proof, ms)
		}
	}
	none := [16]byte{}
	d := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	judge(d, quoteOf(7), vtpm.ProofNotQuoted, none)
	judge(d, quoteOf(7, 13), vtpm.ProofNotExtended, none)
	other := vtpmtest.Quote{Selection: []vtpm.BankSelection{{Bank: vtpm.SHA256, PCRs: []int{7}}, {Bank: vtpm.SHA384, PCRs: []int{13}}}}
	d.ExtendDigest(vtpm.SHA256, 13, bytes.Repeat([]byte{9}, 32))
	judge(d, quoteOf(7, 13), vtpm.ProofUnknown, none)
	value := [32]byte(d.PCR(vtpm.SHA256, 13))
	for _, proof := range []vtpm.Proof{vtpm.ProofPending, vtpm.ProofLive, vtpm.ProofHeld, vtpm.ProofSuperseded} {
		known[value] = vtpm.Shown{Proof: proof, Release: release, Tenant: "acme", Instance: [16]byte{2}, Purpose: "vtpm"}
		judge(d, quoteOf(7, 13), proof, release)
	}
	known[value] = vtpm.Shown{Proof: vtpm.ProofLive, Release: release, Tenant: "acme"}
	d.SetPCR(vtpm.SHA256, 14, value[:])
	d.SetPCR(vtpm.SHA256, 13, make([]byte, 32))
	if c, _ := claimsOf(t, v, w.svsm(d).Evidence(quoteOf(7, 13, 14), want), want); c.Proof != vtpm.ProofNotExtended {
		t.Errorf("in another PCR: %s", c.Proof)
	}
	if c, _ := claimsOf(t, v, w.svsm(d).Evidence(other, want), want); c.Proof != vtpm.ProofNotQuoted {
		t.Errorf("of another bank: %s", c.Proof)
	}
	d.SetPCR(vtpm.SHA256, 13, value[:])
	d.ExtendDigest(vtpm.SHA256, 13, bytes.Repeat([]byte{9}, 32))
	judge(d, quoteOf(7, 13), vtpm.ProofUnknown, none)

	d.SetPCR(vtpm.SHA256, 13, value[:])
	for _, shown := range []vtpm.Shown{{Tenant: "down"}, {Proof: "fine", Tenant: "acme"}, {Proof: vtpm.ProofUnknown, Tenant: "acme"}, {Release: release}} {
		known[value] = shown
		refused(t, v, w.svsm(d).Evidence(quoteOf(7, 13), want), want, "proof", evidence.Unavailable)
	}
	// Who asked nobody has no claim, which is no proof.
	_, got := claimsOf(t, w.newVerifier(t, d), w.svsm(d).Evidence(quoteOf(7), want), want)
	if ms := rule.Appraise(got); len(ms) != 1 || ms[0].String() != "vtpm.proof: got absent, want equal live" {
		t.Errorf("%v", ms)
	}
}

// A PCR that is not zero at first, or can be made so, proves nothing.
func TestProofPCR(t *testing.T) {
	for p, good := range map[vtpm.PCR]bool{
		{Bank: vtpm.SHA256, Index: 0}: true, {Bank: vtpm.SHA256, Index: 15}: true, {Bank: vtpm.SHA256, Index: 16}: false, {Bank: vtpm.SHA256, Index: 23}: false,
		{Bank: vtpm.SHA256, Index: -1}: false, {Bank: vtpm.SHA384, Index: 13}: false, {}: false,
	} {
		_, err := vtpm.NewVerifier(vtpm.Config{Platform: said{}, Releases: shows{}, ProofPCR: p})
		if p.CanProve() != good || (err == nil) != good {
			t.Errorf("%v: %v, %v", p, p.CanProve(), err)
		}
	}
	if _, err := vtpm.NewVerifier(vtpm.Config{Platform: said{}, ProofPCR: proofPCR}); err == nil {
		t.Error("a PCR, and nobody to ask")
	}
}
