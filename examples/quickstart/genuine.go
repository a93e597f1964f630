package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-sev-guest/verify/testdata"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
)

// genuine verifies a report of a real AMD Milan, which go-sev-guest publishes,
// and judges it.
func genuine(ctx context.Context, t *transcript) error {
	at := time.Date(2023, 6, 1, 0, 0, 0, 0, time.UTC) // when its certificate was valid
	t.title("1. Genuine evidence: a report of an AMD Milan, looked at as on %s", at.Format(time.DateOnly))

	// No revocation list of AMD's is published with any report, so this check is
	// left out. The result says so, and no broker would take it.
	verifier, err := snp.NewVerifier(snp.Config{
		Anchors: snp.AMD(), Source: collateral.Fixed{},
		Time: func() time.Time { return at }, SkipRevocationUnsafe: true,
	})
	if err != nil {
		return err
	}
	ev := evidence.Evidence{
		Format: snp.Format, Raw: testdata.AttestationBytes,
		Items: []evidence.Item{{Type: snp.VEK, Data: testdata.VcekBytes}},
	}
	var got *evidence.Verified
	if !t.try("it is authentic: AMD's root, a VCEK of this chip and firmware, a good signature", accepted, func() error {
		got, err = verifier.Verify(ctx, ev, evidence.UncheckedBindingUnsafe())
		return err
	}) {
		return err
	}
	t.note("not checked: %v; and nobody asked for it, so it is bound to nothing", got.Skipped)
	t.try("the same with one bit of it changed", string(evidence.BadSignature), func() error {
		forged := ev
		forged.Raw = slices.Clone(ev.Raw)
		forged.Raw[0x90] ^= 1 // MEASUREMENT
		_, err := verifier.Verify(ctx, forged, evidence.UncheckedBindingUnsafe())
		return err
	})
	return judgeGenuine(t, got)
}

// judgeGenuine shows that authentic is not acceptable: this guest may be debugged
// by its host.
func judgeGenuine(t *transcript, got *evidence.Verified) error {
	claims, _ := snp.ClaimsOf(got)
	measurement := claims.Measurement()
	p, err := policy.Parse(fmt.Appendf(nil, `{
		"policy": "teebroker/1", "name": "strict", "version": "1", "scope": "global",
		"require": {"snp-report": [{
			"measurements": [%q], "vmpls": [0], "lines": ["Milan"], "keys": ["VCEK"], "chips": "*", "host_data": "*",
			"id_keys": "*", "author_keys": "*", "family_ids": "*", "image_ids": "*", "allow_smt": true,
			"v2_floors": [{"line": "Milan", "reported": "*", "committed": "*", "launch": "*"}]
		}]}}`, hex.EncodeToString(measurement[:])),
		policy.Decoders{snp.Format: policy.Decoder(snp.DecodeReferenceValues)})
	if err != nil {
		return err
	}
	p.AllowSkipped = got.Skipped // as a tool may; a broker refuses them whatever is allowed here

	var why []evidence.Mismatch
	t.try("a strict policy with its measurement", "denied", func() error {
		verdict := policy.Appraise([]*evidence.Verified{got}, p)
		for m := range verdict.Mismatches() {
			if m.Claim != policy.BoundClaim { // nobody asked for this report
				why = append(why, m)
			}
		}
		return deniedBy(why)
	})
	for _, m := range why {
		t.note("%v", m)
	}
	t.try("and that for one reason: it is a DEBUG guest, whose host reads its memory", accepted, func() error {
		if len(why) != 1 || why[0].Claim != "snp.policy.debug" {
			return fmt.Errorf("other mismatches: %v", why)
		}
		return nil
	})
	return nil
}
