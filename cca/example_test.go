package cca_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
)

func Example() {
	platform := ccatest.NewPlatform() // whose CPAK its vendor published
	verifier, err := cca.NewVerifier(cca.Config{Anchors: []cca.Anchor{platform.Anchor()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	want, err := evidence.NewBinding([]byte("digest of nonce and key"))
	if err != nil {
		fmt.Println(err)
		return
	}
	ev := platform.Token(ccatest.Realm{}, want)

	got, err := verifier.Verify(context.Background(), ev, want)
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, _ := cca.ClaimsOf(got)
	fmt.Println(claims.Lifecycle.State(), len(claims.Components()), "components, bound:", got.Bound)

	rv := cca.Baseline([]cca.Platform{platform.Reference()}, claims.RIM)
	fmt.Println("mismatches:", len(rv.Appraise(got)))
	// Output:
	// secured 2 components, bound: true
	// mismatches: 0
}

func ExampleVerifier_Verify_refused() {
	verifier, err := cca.NewVerifier(cca.Config{Anchors: []cca.Anchor{ccatest.NewPlatform().Anchor()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	stranger := ccatest.NewPlatform()
	_, err = verifier.Verify(context.Background(), stranger.Token(ccatest.Realm{}, evidence.Binding{}), evidence.UncheckedBindingUnsafe())
	var e *evidence.Error
	fmt.Println(errors.Is(err, evidence.Untrusted), errors.As(err, &e))
	fmt.Println(e.Check, e.Field)
	// Output:
	// true true
	// anchor cca-platform-instance-id
}

// A tool that has only a key takes the instance from the token itself.
func ExampleParseToken() {
	platform := ccatest.NewPlatform()
	ev := platform.Token(ccatest.Realm{}, evidence.Binding{})
	token, err := cca.ParseToken(ev.Raw)
	if err != nil {
		fmt.Println(err)
		return
	}
	anchor := cca.Anchor{Instance: token.InstanceID(), Implementation: token.ImplementationID(), Key: &platform.Key.PublicKey}
	verifier, err := cca.NewVerifier(cca.Config{Anchors: []cca.Anchor{anchor}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = verifier.Verify(context.Background(), ev, evidence.UncheckedBindingUnsafe())
	fmt.Println(err)
	// Output: <nil>
}

func ExampleParseAnchors() {
	anchors, err := cca.ParseAnchors([]byte(`[{
		"instance-id": "010202020202020202020202020202020202020202020202020202020202020202",
		"implementation-id": "0000000000000000000000000000000000000000000000000000000000000000",
		"pkey": {
			"kty": "EC", "crv": "P-256",
			"x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
		}
	}]`))
	fmt.Println(len(anchors), err)
	// Output: 1 <nil>
}

// Anchors are replaced by making another Verifier.
func ExampleLive() {
	platform := ccatest.NewPlatform()
	cfg := cca.Config{Anchors: []cca.Anchor{platform.Anchor()}}
	var live cca.Live
	for _, denied := range [][]cca.InstanceID{nil, {platform.Instance}} {
		cfg.DenyInstances = denied
		verifier, err := cca.NewVerifier(cfg)
		if err != nil {
			fmt.Println(err) // and live goes on with the Verifier it has
			return
		}
		live.Store(verifier)
		_, err = live.Verify(context.Background(), platform.Token(ccatest.Realm{}, evidence.Binding{}), evidence.UncheckedBindingUnsafe())
		fmt.Println(errors.Is(err, evidence.Revoked))
	}
	// Output:
	// false
	// true
}

func ExampleChecks() {
	for _, c := range cca.Checks()[:2] {
		fmt.Printf("%s: %s\n", c.Name, c.Doc)
	}
	// Output:
	// format: the evidence is a CCA token, rests on no other evidence, and nothing came along
	// size: the token has at most 65536 bytes
}

func ExampleDecodeReferenceValues() {
	rv, err := cca.DecodeReferenceValues([]byte(`{"rims": "*", "allow_debug": false}`), true)
	fmt.Println(rv.RIMs.IsAnything(), rv.AllowDebug, err)
	// Output: true false <nil>
}
