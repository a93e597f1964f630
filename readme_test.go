package teebroker_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
)

// judge reports whether report is genuine, current, bound to n and key, and of
// a guest that document accepts.
func judge(ctx context.Context, report, certs []byte, n nonce.Nonce, key keywrap.Recipient, document []byte) error {
	crls, err := collateral.Dir("/var/lib/broker/collateral") // CRLs of AMD; VCEKs may come with the evidence
	if err != nil {
		return err
	}
	verifier, err := snp.NewVerifier(snp.Config{Anchors: snp.AMD(), Source: crls})
	if err != nil {
		return err
	}
	want, err := nonce.V1{
		Tenant: "default", Instance: [16]byte{15: 1}, Purpose: "disk", Format: snp.Format,
	}.Bind(n, key) // what the hardware must have signed
	if err != nil {
		return err
	}
	got, err := verifier.Verify(ctx, evidence.Evidence{
		Format: snp.Format, Raw: report,
		Items: []evidence.Item{{Type: snp.CertTable, Data: certs}},
	}, want)
	if err != nil {
		return err // errors.Is(err, evidence.NotBound), evidence.Revoked, …
	}
	p, err := policy.Parse(document, policy.Decoders{snp.Format: policy.Decoder(snp.DecodeReferenceValues)})
	if err != nil {
		return err
	}
	return policy.Appraise([]*evidence.Verified{got}, p).Err() // nil, or every claim that is not acceptable
}

// What README.md shows is what is compiled here.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "```go\n")
	code, _, closed := strings.Cut(rest, "```")
	if !ok || !closed || !strings.Contains(string(source), code) {
		t.Error("the code in README.md is not the code in readme_test.go")
	}
	if err := judge(t.Context(), nil, nil, nonce.Nonce{}, keywrap.Recipient{}, nil); err == nil {
		t.Error("judge accepts nothing at all")
	}
}
