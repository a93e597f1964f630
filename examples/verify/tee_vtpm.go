package main

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/vtpm"
)

// vtpmTEE knows the blob of Azure's paravisor, which has the report of SEV-SNP that
// vouches for the keys of the TPM. There is no quote in it.
func vtpmTEE() tee {
	return tee{
		name: "vtpm", title: "keys of an Azure vTPM", format: vtpm.Format, checks: hclChecks(),
		looksLike: looksLikeHCL, collect: collectSNP, verifier: hclVerifier, hearsay: hclClaims, also: hclClaims,
	}
}

// hclChecks are those of the checks of a quote that a blob goes through, in order.
func hclChecks() []evidence.Check {
	var checks []evidence.Check
	for _, name := range []string{"manifest", evidence.BindingCheck, "platform", "vmpl"} {
		for _, c := range vtpm.Checks() {
			if c.Name == name {
				checks = append(checks, c)
			}
		}
	}
	checks[1].Doc = "user-data is the binding, and then zeros"
	return checks
}

func looksLikeHCL(raw []byte) bool { return bytes.HasPrefix(raw, []byte("HCLA")) }

// hclVerifier returns a Verifier that trusts AMD, or the roots given, for the report.
func hclVerifier(t trust, raw []byte) (evidence.Verifier, error) {
	below, err := snpVerifier(t, raw)
	if err != nil {
		return nil, err
	}
	v, err := vtpm.NewVerifier(vtpm.Config{Platform: below})
	if err != nil {
		return nil, err
	}
	return blobVerifier{v}, nil
}

// blobVerifier verifies the report in a blob. Its result is that of the report, by
// whose rules a policy judges it, with what the guest had put beside the keys as
// what was signed.
type blobVerifier struct{ v *vtpm.Verifier }

// Verify implements [evidence.Verifier].
func (b blobVerifier) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	a, err := vtpm.ParseHCL(ev.Raw)
	if err != nil {
		return nil, err
	}
	fail := func(check string, reason evidence.Reason, field, what string) error {
		return &evidence.Error{Format: vtpm.Format, Reason: reason, Check: check, Field: field, Err: errors.New(what)}
	}
	switch {
	case !want.MatchPadded(&a.UserData):
		return nil, fail(evidence.BindingCheck, evidence.NotBound, "user-data", "something else")
	case a.Report == nil:
		return nil, fail("platform", evidence.Unsupported, vtpm.HCL, "a blob on TDX, whose quote is not in it")
	}
	_, got, err := b.v.VerifyHCL(ctx, ev.Raw, evidence.Evidence{Format: snp.Format, Raw: a.Report, Items: ev.Items})
	if err != nil {
		return nil, err
	}
	got.Bound, got.Signed = want.Checked(), a.UserData[:]
	return got, nil
}

// hclClaims yields what the runtime data say.
func hclClaims(raw []byte) (iter.Seq2[string, evidence.Value], error) {
	a, err := vtpm.ParseHCL(raw)
	if err != nil {
		return nil, err
	}
	ak := vtpm.KeyDigest(a.AK)
	said := map[string]evidence.Value{
		"vtpm.manifest":        evidence.Text(string(a.Manifest)),
		"vtpm.ak":              evidence.Bytes(ak[:]),
		"vtpm.azure.user_data": evidence.Bytes(a.UserData[:]),
		"vtpm.azure.vm_id":     evidence.Text(a.VMID),
	}
	if a.EK != nil {
		ek := vtpm.KeyDigest(a.EK)
		said["vtpm.ek"] = evidence.Bytes(ek[:])
		if id, err := vtpm.AgentID(a.EK); err == nil {
			said["vtpm.agent_id"] = evidence.Text(id)
		}
	}
	return func(yield func(string, evidence.Value) bool) {
		for _, name := range slices.Sorted(maps.Keys(said)) {
			if !yield(name, said[name]) {
				return
			}
		}
	}, nil
}
