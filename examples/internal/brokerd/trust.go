package brokerd

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/examples/internal/simulated"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/kbs"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/vtpm"
)

// verifiers returns what decides whether evidence is genuine. With -trust-simulated
// a format is either simulated or genuine, never both.
func (o Options) verifiers(source evidence.Source) (evidence.Verifiers, [][32]byte, error) {
	amd, err := snp.NewVerifier(snp.Config{Anchors: snp.AMD(), Source: source})
	if err != nil {
		return nil, nil, err
	}
	intel, err := tdx.NewVerifier(tdx.Config{Anchors: tdx.Intel(), Source: source})
	if err != nil {
		return nil, nil, err
	}
	all := evidence.Verifiers{snp.Format: amd, tdx.Format: intel}
	if len(o.CCAAnchors) > 0 {
		if all[cca.Format], err = ccaVerifier(o.CCAAnchors); err != nil {
			return nil, nil, fmt.Errorf("-cca-anchors: %w", err)
		}
	}
	if o.TrustSimulated == "" {
		return all, nil, nil
	}
	t, err := simulated.Open(o.TrustSimulated)
	if err != nil {
		return nil, nil, fmt.Errorf("-trust-simulated: %w", err)
	}
	for format, v := range t.Verifiers {
		all[format] = v
	}
	if o.AllowSample {
		all[kbs.SampleFormat], all[kbs.SampleDeviceFormat] = kbs.Sample{}, kbs.Sample{}
		return all, append(t.Roots, kbs.SampleRoot()), nil
	}
	return all, t.Roots, nil
}

// withTPMs adds the verifier of quotes of TPMs that run on what all verifies, samples
// left out, whose AKs were bound.
func withTPMs(all evidence.Verifiers, aks vtpm.AKs) (*vtpm.Verifier, error) {
	below := maps.Clone(all)
	delete(below, kbs.SampleFormat)
	delete(below, kbs.SampleDeviceFormat)
	v, err := vtpm.NewVerifier(vtpm.Config{Platform: below, AKs: aks})
	if err == nil {
		all[vtpm.Format] = v
	}
	return v, err
}

// ccaVerifier trusts the keys in lists of CCA trust anchors.
func ccaVerifier(paths []string) (evidence.Verifier, error) {
	var cfg cca.Config
	for _, path := range paths {
		b, err := cli.ReadFile(path, policy.MaxDocument)
		if err != nil {
			return nil, err
		}
		anchors, err := cca.ParseAnchors(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		cfg.Anchors = append(cfg.Anchors, anchors...)
	}
	return cca.NewVerifier(cfg)
}

// operatorPolicies stores the policies of a folder for every tenant, and has every
// instance that is registered name them.
func (o Options) operatorPolicies(ctx context.Context, d *database) ([]v1.OperatorPolicy, error) {
	if o.Policies == "" {
		return nil, nil
	}
	docs, err := readPolicies(o.Policies)
	if err != nil {
		return nil, fmt.Errorf("-policy: %w", err)
	}
	tenants, err := d.tenants(ctx)
	if err != nil {
		return nil, err
	}
	for _, tenant := range tenants {
		for _, doc := range docs {
			if err := d.PutPolicy(ctx, tenant, doc.Name, doc.Document); err != nil {
				return nil, fmt.Errorf("-policy: %s: %w", doc.Name, err)
			}
		}
		if err := adopt(ctx, d, tenant, docs); err != nil {
			return nil, fmt.Errorf("-policy: tenant %s: %w", tenant, err)
		}
	}
	return docs, nil
}

// adopt has every instance of tenant name policies first. What does already is not
// touched.
func adopt(ctx context.Context, owner store.Owner, tenant string, policies []v1.OperatorPolicy) error {
	ids, err := owner.Instances(ctx, tenant)
	if err != nil {
		return err
	}
	for _, id := range ids {
		st, err := owner.Status(ctx, tenant, id)
		if err != nil {
			return err
		}
		all := v1.WithOperator(policies, st.Registration.Policies)
		if slices.Equal(all, st.Registration.Policies) {
			continue
		}
		st.Registration.Policies = all
		if _, err := owner.Register(ctx, tenant, id, st.Registration); err != nil {
			return err
		}
	}
	return nil
}

// readPolicies returns the documents in a folder by name, all of which are of scope
// global.
func readPolicies(dir string) ([]v1.OperatorPolicy, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var docs []v1.OperatorPolicy
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		b, err := cli.ReadFile(filepath.Join(dir, e.Name()), policy.MaxDocument)
		if err != nil {
			return nil, err
		}
		p, err := policy.Parse(b, Decoders())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		if p.Scope != policy.Global {
			return nil, fmt.Errorf("%s: of scope %s, not global", e.Name(), p.Scope)
		}
		docs = append(docs, v1.OperatorPolicy{Name: name, Document: b})
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("%s: no policies NAME.json", dir)
	}
	return docs, nil
}
