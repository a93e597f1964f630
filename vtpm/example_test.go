package vtpm_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

func Example() {
	// A simulated vendor, a chip, and a guest with an SVSM that runs a TPM.
	amd := theWorld().amd // snptest.NewAMD, once
	svsm := vtpmtest.SVSM{Chip: amd.Chip(snp.Milan), TPM: vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)}

	below, err := snp.NewVerifier(snp.Config{Anchors: amd.Anchors(), Source: amd.Source()})
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := vtpm.NewVerifier(vtpm.Config{
		Platform: evidence.Verifiers{snp.Format: below},
		AKs:      vtpmtest.AKs{svsm.TPM}, // what a broker remembers of activations
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	want, err := evidence.NewBinding([]byte("what the challenger wants signed"))
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := verifier.Verify(context.Background(), svsm.Evidence(vtpmtest.Quote{}, want), want)
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, _ := vtpm.ClaimsOf(got)
	fmt.Println("linked by", claims.Link, "of", claims.Manifest(), "on", claims.Platform)
	fmt.Println("PCRs:", len(claims.PCRs), "bound:", got.Bound, "layers:", len(got.Layers))
	// Output:
	// linked by ek of svsm-vtpm-0 on snp-report
	// PCRs: 11 bound: true layers: 1
}

// What a challenger does before it believes an AK: the EK first, and then a secret
// that only the TPM with both can read.
func ExampleMakeCredential() {
	tpm := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	ek, err := vtpm.ParsePublic(tpm.EK()) // from a verified manifest
	if err != nil {
		fmt.Println(err)
		return
	}
	ak, err := vtpm.ParsePublic(tpm.AK()) // from whoever says that it is there
	if err != nil {
		fmt.Println(err)
		return
	}
	blob, err := vtpm.MakeCredential(ek, ak.Name, []byte("known to the challenger only"))
	if err != nil {
		fmt.Println(err)
		return
	}
	secret, err := tpm.Activate(blob)
	fmt.Printf("%s %v\n", secret, err)

	other := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	_, err = other.Activate(blob)
	fmt.Println("another TPM:", err != nil)
	// Output:
	// known to the challenger only <nil>
	// another TPM: true
}

func ExampleVerifier_Verify_refused() {
	amd := theWorld().amd // snptest.NewAMD, once
	svsm := vtpmtest.SVSM{Chip: amd.Chip(snp.Milan), TPM: vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)}
	below, err := snp.NewVerifier(snp.Config{Anchors: amd.Anchors(), Source: amd.Source()})
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := vtpm.NewVerifier(vtpm.Config{Platform: below}) // no AK is linked
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = verifier.Verify(context.Background(), svsm.Evidence(vtpmtest.Quote{}, evidence.Binding{}), evidence.UncheckedBindingUnsafe())
	var e *evidence.Error
	fmt.Println(errors.As(err, &e), e.Check, e.Reason)
	fmt.Println(err)
	// Output:
	// true link untrusted
	// vtpm: vtpm-ak: untrusted: the EK is linked, the AK is not: nothing shows that it is in the same TPM
}

func ExampleVerifier_VerifyEK() {
	amd := theWorld().amd // snptest.NewAMD, once
	nonce := [vtpm.SVSMNonceSize]byte{'f', 'r', 'e', 's', 'h'}
	svsm := vtpmtest.SVSM{Chip: amd.Chip(snp.Milan), TPM: vtpmtest.NewTPM(vtpmtest.ECC, nil, nil), Nonce: nonce}
	below, err := snp.NewVerifier(snp.Config{Anchors: amd.Anchors(), Source: amd.Source()})
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := vtpm.NewVerifier(vtpm.Config{Platform: below})
	if err != nil {
		fmt.Println(err)
		return
	}
	want, err := evidence.NewBinding(nonce[:])
	if err != nil {
		fmt.Println(err)
		return
	}
	report, items := svsm.Attestation()
	ek, got, err := verifier.VerifyEK(context.Background(), report, items, want)
	if err != nil {
		fmt.Println(err)
		return
	}
	id, err := vtpm.AgentID(ek.Key)
	fmt.Println(got.Format, got.Bound, len(id), err)
	// Output: snp-report true 64 <nil>
}

func ExampleBaseline() {
	seven := vtpm.PCR{Bank: vtpm.SHA256, Index: 7}
	rv := vtpm.Baseline(vtpm.PCRRule{PCR: seven, Values: evidence.OneOf(vtpm.Octets("the value that it should have, 32"))})
	fmt.Println(rv.Links.Values(), rv.AllowNoTEE, rv.PCRs[0].PCR)
	// Output: [ak ek] false sha256.7
}

func ExampleDecodeReferenceValues() {
	rv, err := vtpm.DecodeReferenceValues([]byte(`{"links": ["ek"], "allow_other_pcrs": true}`), false)
	fmt.Println(rv.Links.Values(), rv.Manifests.IsAnything(), err)
	_, err = vtpm.DecodeReferenceValues([]byte(`{"links": ["unlinked"]}`), false)
	fmt.Println(err)
	// Output:
	// [ek] false <nil>
	// vtpm: reference values: links: element 1: unknown name "unlinked"
}

func ExampleParseQuote() {
	tpm := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	raw, _ := tpm.Quote(vtpmtest.Quote{Extra: []byte("nonce")}, evidence.Binding{})
	q, err := vtpm.ParseQuote(raw)
	fmt.Printf("says, and nothing vouches for it: %s %v %v\n", q.ExtraData, q.Selection, err)
	// Output: says, and nothing vouches for it: nonce [{sha256 [0 1 2 3 4 5 6 7 8 9 10]}] <nil>
}
