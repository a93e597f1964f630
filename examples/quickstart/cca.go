package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
)

// releaseCCA gives a simulated realm its key, and not to one on a platform that
// nobody vouches for or that may be debugged. There is no genuine token to begin
// with: those that are public were made by tools.
func releaseCCA(ctx context.Context, t *transcript) error {
	t.title("7. A release to a simulated realm of Arm CCA")
	platform, stranger := ccatest.NewPlatform(), ccatest.NewPlatform()
	verifier, err := cca.NewVerifier(cca.Config{Anchors: []cca.Anchor{platform.Anchor()}})
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKIXPublicKey(&platform.Key.PublicKey)
	if err != nil {
		return err
	}
	document, err := ccaPolicy(platform.Reference())
	if err != nil {
		return err
	}
	s := simulation{
		guest: "realm", format: cca.Format, verifier: verifier, root: sha256.Sum256(key),
		policy: document, launch: "cca.rpv", launchSize: 64,
	}
	token := func(p *ccatest.Platform, launchedAs [16]byte, fault ccatest.Signing) func(evidence.Binding) evidence.Evidence {
		r := ccatest.Realm{Hash: cca.SHA384, RIM: cca.Octets(image[:]), RealmToken: fault}
		copy(r.RPV[:], s.launchedAs(launchedAs))
		return func(want evidence.Binding) evidence.Evidence { return p.Token(r, want) }
	}
	debugged := *platform
	debugged.Lifecycle = cca.Lifecycle(cca.LifecycleNonRoTDebug) << 8
	good := ccatest.Signing{}
	return s.release(ctx, t, []boot{
		{"a realm of the same image, launched as the neighbour", "denied", token(platform, neighbour, good)},
		{"a realm on a platform that is under debug", "denied", token(&debugged, instance, good)},
		{"a realm on a platform whose key (CPAK) nobody vouches for", string(evidence.Untrusted), token(stranger, instance, good)},
		{"a realm token that the realm's key (RAK) did not sign", string(evidence.BadSignature), token(platform, instance, ccatest.Signing{Key: stranger.Key})},
		{"the owner's realm: it opens the secret", accepted, token(platform, instance, good)},
		{"a second realm of this instance, after the use is taken", "denied", token(platform, instance, good)},
	})
}

// ccaPolicy is a document as an owner writes it: this image, that extends nothing,
// on firmware that its vendor published.
func ccaPolicy(p cca.Platform) (*policy.Policy, error) {
	components := ""
	for i, c := range p.Components {
		if i > 0 {
			components += ", "
		}
		components += fmt.Sprintf(`{"type": %q, "measurement": %q, "signer_id": %q, "version": %q}`, c.Type, c.Measurement, c.SignerID, c.Version)
	}
	none := hex.EncodeToString(make([]byte, len(image)))
	return policy.Parse(fmt.Appendf(nil, `{
		"policy": "teebroker/1", "name": "production-cca", "version": "1", "scope": "global",
		"require": {"cca-token": [{
			"rims": [%q], "rem0": [%[2]q], "rem1": [%[2]q], "rem2": [%[2]q], "rem3": [%[2]q], "rpvs": "*",
			"realm_hashes": ["sha-384"], "mec_policies": "*", "implementations": "*", "instances": "*",
			"platforms": [{"implementation": %[3]q, "config": %[4]q, "config_mask": %[5]q, "components": [%[6]s]}]
		}]}}`, hex.EncodeToString(image[:]), none, p.Implementation, p.Config, p.ConfigMask, components),
		policy.Decoders{cca.Format: policy.Decoder(cca.DecodeReferenceValues)})
}
