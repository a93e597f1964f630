package cca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"slices"
	"testing"

	"github.com/veraison/go-cose"

	"github.com/teebroker/teebroker/internal/vectors"
)

func everything() admission { return admission{mixed: true, draft: true, certificates: true} }

// publishedTokens returns the published tokens, parsed.
func publishedTokens(f *testing.F) []Token {
	var manifest struct{ Vectors []struct{ File string } }
	vectors.JSON(f, "cca/manifest.json", &manifest)
	var all []Token
	for _, v := range manifest.Vectors {
		t, err := ParseToken(vectors.Read(f, "cca/"+v.File))
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, t)
	}
	return all
}

// fuzzClaims parses payloads beside the other payload of each published token.
func fuzzClaims(f *testing.F, part func(*Token) *string) {
	all := publishedTokens(f)
	for _, t := range all {
		f.Add([]byte(*part(&t)))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, other := range all {
			fuzzed := Token{platform: other.platform, realm: other.realm}
			*part(&fuzzed) = string(payload)
			if fuzzed.parseClaims(everything()) == nil {
				checkParsed(t, &fuzzed)
			}
		}
	})
}

// checkParsed checks what has to hold for every token that is parsed.
func checkParsed(t *testing.T, token *Token) {
	c := &token.claims
	sizes := digestSizes()
	if c.InstanceID[0] != 1 || c.Config == "" || len(c.components) == 0 || !slices.Contains(sizes, len(token.binder)) {
		t.Errorf("platform: %+v", c)
	}
	for _, component := range c.components {
		if !slices.Contains(sizes, len(component.Measurement)) || !slices.Contains(sizes, len(component.SignerID)) {
			t.Errorf("component: %+v", component)
		}
	}
	for _, measurement := range append(c.REM[:], c.RIM) {
		if len(measurement) != c.RealmHash.Size() && (!token.profile.wide || len(measurement) != 64) {
			t.Errorf("%d bytes of %v", len(measurement), c.RealmHash)
		}
	}
	if c.PlatformHash == 0 || c.RealmHash == 0 || c.RAKHash == 0 || token.profile.realmID != (c.RealmInstanceID[0] == 1) {
		t.Errorf("realm: %+v", c)
	}
	for _, value := range c.All() {
		_ = value.String()
	}
}

func FuzzPlatformToken(f *testing.F) {
	fuzzClaims(f, func(t *Token) *string { return &t.platform.payload })
}

func FuzzRealmToken(f *testing.F) {
	fuzzClaims(f, func(t *Token) *string { return &t.realm.payload })
}

// A key that is taken is taken by go-cose too, and is the same to it.
func FuzzCOSEKey(f *testing.F) {
	for _, t := range publishedTokens(f) {
		f.Add([]byte(t.rak))
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		token := Token{rak: string(encoded), profile: profile{rak: rakCOSE}}
		got, err := token.parseRAK()
		if err != nil {
			return
		}
		var key cose.Key
		if err := key.UnmarshalCBOR(encoded); err != nil {
			t.Fatalf("go-cose: %v", err)
		}
		public, err := key.PublicKey()
		if err != nil {
			t.Fatalf("go-cose: %v", err)
		}
		if other, ok := public.(*ecdsa.PublicKey); !ok || !got.Equal(other) || got.Curve != elliptic.P384() {
			t.Error("another key to go-cose")
		}
	})
}
