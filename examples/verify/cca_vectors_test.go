package main

import (
	"crypto/ecdsa"
	"fmt"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/internal/vectors"
)

// ccaVector is a published token in the manifest of vectors/cca.
type ccaVector struct {
	Name, File, Key  string
	PlatformProfile  string
	RealmProfile     string // "<nil>" if there is none
	PlatSig          string
	RealmSig, Binder string
	Lifecycle        string
	Challenge        string
}

func ccaVectors(t testing.TB) []ccaVector {
	t.Helper()
	var manifest struct{ Vectors []ccaVector }
	vectors.JSON(t, "cca/manifest.json", &manifest)
	if len(manifest.Vectors) < 5 {
		t.Fatalf("%d tokens in the manifest, want 5", len(manifest.Vectors))
	}
	return manifest.Vectors
}

// Every published token gives the result of the manifest, with its key alone.
func TestPublishedTokens(t *testing.T) {
	bad := 0
	for _, v := range ccaVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			file, key := vectors.Path(t, "cca/"+v.File), vectors.Path(t, "cca/"+v.Key)
			if v.PlatSig != "yes" || v.RealmSig != "yes" {
				t.Fatal("the manifest has a token of another kind")
			}
			got, a := ask(t, "-endorsements", key, "-binding", v.Challenge, file)
			if strings.HasPrefix(v.Binder, "false") {
				bad++
				want(t, got, a, "untrusted", "binder")
				if a.Format != "cca" || a.outcome("platform-signature") != "passed" || a.outcome("realm-signature") != "not reached" {
					t.Errorf("%s: %v", a.Format, a.Checks)
				}
				return
			}
			if got != 0 || !a.Authentic || a.Format != "cca" || a.Binding != "ok" || a.Reason != "" || a.Accepted != nil || a.NotAfter == nil {
				t.Fatalf("status %d, %+v", got, a)
			}
			for _, c := range a.Checks {
				if c.Outcome != "passed" {
					t.Errorf("check %s: %s", c.Name, c.Outcome)
				}
			}
			if lifecycle := fmt.Sprintf("%#04x", int(a.Claims["cca.lifecycle"].(float64))); lifecycle != v.Lifecycle {
				t.Errorf("lifecycle %s, want %s", lifecycle, v.Lifecycle)
			}
			realm, ok := a.Claims["cca.realm_profile"]
			if a.Claims["cca.platform_profile"] != v.PlatformProfile || ok != (v.RealmProfile != "<nil>") || ok && realm != v.RealmProfile {
				t.Errorf("profiles %v and %v", a.Claims["cca.platform_profile"], realm)
			}
			if binder := fmt.Sprintf("true (%s)", a.Claims["cca.rak_hash"]); binder != v.Binder || a.Claims["cca.challenge"] != v.Challenge {
				t.Errorf("binder %s, challenge %v", binder, a.Claims["cca.challenge"])
			}
			flip := "00" + v.Challenge[2:]
			if got, a := ask(t, "-endorsements", key, "-binding", flip, file); got != 1 || !a.Authentic || a.Binding != "mismatch" || a.Reason != "not-bound" {
				t.Errorf("another binding: status %d, %+v", got, a)
			}
			if got, a := ask(t, file); got != 1 || a.Reason != "untrusted" || a.Check != "anchor" {
				t.Errorf("without an anchor: status %d, %+v", got, a)
			}
		})
	}
	if bad != 1 {
		t.Errorf("%d tokens of the manifest are bad, want 1", bad)
	}
}

// The published lists of anchors decide as their names say.
func TestPublishedAnchors(t *testing.T) {
	for _, test := range []struct {
		token, anchors string
		reason, check  string // "" is a yes
	}{
		{"rust-cca-token-02", "ta-02-ok", "", ""},
		{"rust-cca-token-02", "ta-02-bad", "untrusted", "anchor"},
		{"rust-cca-token-02", "ta-tfa", "untrusted", "anchor"},
		{"rust-draft-ffm-00", "ta-tfa", "", ""},
		{"tf-rmm-legacy-1222", "ta-tfa", "", ""},
		{"iat-verifier-cca_example_token", "ta-tfa", "", ""},
		{"rust-bug-33-repro", "ta-tfa", "untrusted", "binder"},
	} {
		t.Run(test.token+" with "+test.anchors, func(t *testing.T) {
			file, anchors := vectors.Path(t, "cca/"+test.token+".cbor"), vectors.Path(t, "cca/"+test.anchors+".json")
			for _, endorsements := range []string{anchors, folderWith(t, readFile(t, anchors))} {
				got, a := ask(t, "-format", "cca", "-endorsements", endorsements, file)
				if test.reason != "" {
					want(t, got, a, test.reason, test.check)
					continue
				}
				if got != 0 || !a.Authentic || a.Binding != "unchecked" {
					t.Errorf("status %d, %+v", got, a)
				}
			}
		})
	}
}

// A list with a key that is none refuses the token, also if another endorsement
// would do.
func TestBadAnchorBesideGoodKey(t *testing.T) {
	bad, key := vectors.Path(t, "cca/ta-02-bad.json"), vectors.Path(t, "cca/key-rust-cca-token-02.pub.pem")
	got, a := ask(t, "-endorsements", key+","+bad, vectors.Path(t, "cca/rust-cca-token-02.cbor"))
	want(t, got, a, "untrusted", "anchor")
	if a.Field != "pkey" || !strings.Contains(a.Detail, "ta-02-bad.json") {
		t.Errorf("field %s: %s", a.Field, a.Detail)
	}
	// What is wrong with the token itself comes first.
	cut := write(t, "cut", vectors.Read(t, "cca/rust-cca-token-02.cbor")[:1000])
	got, a = ask(t, "-endorsements", bad, cut)
	want(t, got, a, "malformed", a.Check)
}

// The key is the CPAK, not just any key that signed: another key of the platform's
// curve makes every published token a no.
func TestForeignKey(t *testing.T) {
	foreign := write(t, "foreign.pem", publicPEM(t, ccatest.NewPlatform().Key.Public().(*ecdsa.PublicKey)))
	for _, v := range ccaVectors(t) {
		if got, a := ask(t, "-endorsements", foreign, vectors.Path(t, "cca/"+v.File)); got != 1 || a.Authentic || a.Reason != "bad-signature" {
			t.Errorf("%s: status %d, %+v", v.Name, got, a)
		}
	}
}
