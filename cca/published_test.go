package cca_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/internal/vectors"
)

// hexadecimal is bytes in hexadecimal of either case.
type hexadecimal string

func (h *hexadecimal) UnmarshalJSON(data []byte) error {
	var b strictjson.Hex
	err := b.UnmarshalJSON([]byte(strings.ToLower(string(data))))
	*h = hexadecimal(b)
	return err
}

// publishedValues returns the reference values that are published beside the tokens.
func publishedValues(t *testing.T) cca.ReferenceValues {
	t.Helper()
	var file struct {
		Platform []struct {
			Implementation hexadecimal `json:"implementation-id"`
			Config         hexadecimal `json:"platform-configuration"`
			Components     []struct {
				Type        string      `json:"component-type"`
				Measurement hexadecimal `json:"measurement-value"`
				Signer      hexadecimal `json:"signer-id"`
				Version     string      `json:"version"`
			} `json:"sw-components"`
		} `json:"platform"`
		Realm []struct {
			RPV     hexadecimal   `json:"personalization-value"`
			RIM     hexadecimal   `json:"initial-measurement"`
			REM     []hexadecimal `json:"extensible-measurements"`
			RAKHash string        `json:"rak-hash-algorithm"`
		} `json:"realm"`
	}
	if err := json.Unmarshal(vectors.Read(t, "cca/rv.json"), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Platform) != 2 || len(file.Realm) != 1 || len(file.Realm[0].REM) != 4 {
		t.Fatalf("%+v", file)
	}
	var platforms []cca.Platform
	for _, p := range file.Platform {
		out := cca.Platform{Implementation: cca.ImplementationID([]byte(p.Implementation)), Config: cca.Octets(p.Config), ConfigMask: cca.Octets(strings.Repeat("\xff", len(p.Config)))}
		for _, c := range p.Components {
			out.Components = append(out.Components, cca.Component{Type: c.Type, Measurement: cca.Octets(c.Measurement), SignerID: cca.Octets(c.Signer), Version: c.Version})
		}
		platforms = append(platforms, out)
	}
	realm := file.Realm[0]
	rv := cca.Baseline(platforms, cca.Octets(realm.RIM))
	rv.RPVs = evidence.OneOf([64]byte([]byte(realm.RPV)))
	for i, set := range []*evidence.Set[cca.Octets]{&rv.REM0, &rv.REM1, &rv.REM2, &rv.REM3} {
		*set = evidence.OneOf(cca.Octets(realm.REM[i]))
	}
	return rv
}

// The published reference values accept the token that they are of, in all that it
// says, and no other.
func TestPublishedReferenceValues(t *testing.T) {
	rv := publishedValues(t)
	for _, vec := range allVectors(t) {
		if !vec.good() {
			continue
		}
		got, err := trusting(t, vec.anchor(t)).Verify(t.Context(), vec.evidence(t), vec.want(t))
		if err != nil {
			t.Fatal(err)
		}
		ms := rv.Appraise(got)
		if accepted := len(ms) == 0; accepted != (vec.Name == "tf-rmm-legacy-1222.cbor") {
			t.Errorf("%s: %v", vec.Name, ms)
		}
	}
	// Of a component that is left out, or of another version, the set is not complete.
	vec := published(t, "tf-rmm-legacy-1222.cbor")
	got, err := trusting(t, vec.anchor(t)).Verify(t.Context(), vec.evidence(t), vec.want(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(p *cca.Platform){
		"one less":       func(p *cca.Platform) { p.Components = p.Components[1:] },
		"one twice":      func(p *cca.Platform) { p.Components = append(p.Components, p.Components[0]) },
		"other version":  func(p *cca.Platform) { p.Components[3].Version = "2" },
		"other signer":   func(p *cca.Platform) { p.Components[3].SignerID = cca.Octets(octets(32)) },
		"other config":   func(p *cca.Platform) { p.Config = "\x02" + p.Config[1:] },
		"shorter config": func(p *cca.Platform) { p.Config, p.ConfigMask = p.Config[1:], p.ConfigMask[1:] },
	} {
		rv := publishedValues(t)
		edit(&rv.Platforms[1])
		if len(rv.Appraise(got)) == 0 {
			t.Errorf("%s: accepted", name)
		}
	}
}

// publishedKey returns one of the private keys that are published for tests.
func publishedKey(t *testing.T, name string) *ecdsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode(vectors.Read(t, "cca/"+name))
	if block == nil {
		t.Fatalf("%s: no PEM", name)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What the published keys sign is believed by the published anchors, in every
// profile, and so every fault that is tested with other keys is one of the token.
func TestPublishedKeys(t *testing.T) {
	p := ccatest.NewPlatform()
	p.Key = publishedKey(t, "test-cpak-private.pem")
	anchors := fileAnchors(t, "ta-tfa.json")
	found := false
	for _, a := range anchors {
		if p.Key.PublicKey.Equal(a.Key) {
			p.Instance, p.Implementation, found = a.Instance, a.Implementation, true
		}
	}
	if !found {
		t.Fatal("no anchor of the published CPAK")
	}
	v := newVerifier(t, cca.Config{Anchors: anchors, AllowMixedProfiles: true, AllowDraft2026: true})
	want := bindingOf(t, []byte("nonce and key"))
	rak := publishedKey(t, "test-rak-private.pem")
	for _, profiles := range ccatest.AllProfiles() {
		if _, err := v.Verify(t.Context(), p.Token(ccatest.Realm{Profiles: profiles, Key: rak}, want), want); err != nil {
			t.Errorf("%v: %v", profiles, err)
		}
	}
	p.Instance[32]++
	got, err := v.Verify(t.Context(), p.Token(ccatest.Realm{Key: rak}, want), want)
	wantRefused(t, got, err, evidence.Untrusted, "anchor")
}
