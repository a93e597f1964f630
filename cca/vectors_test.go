package cca_test

import (
	"crypto/ecdsa"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
)

// vector is one published token, as the manifest describes it.
type vector struct {
	Name, File, Key              string
	PlatformProfile              string
	RealmProfile                 string // "<nil>" if there is none
	PlatAlg                      string
	Binder, Lifecycle, Challenge string
}

func allVectors(t testing.TB) []vector {
	t.Helper()
	var manifest struct{ Vectors []vector }
	vectors.JSON(t, "cca/manifest.json", &manifest)
	if len(manifest.Vectors) < 5 {
		t.Fatalf("only %d vectors", len(manifest.Vectors))
	}
	return manifest.Vectors
}

// published returns the vector called name.
func published(t testing.TB, name string) vector {
	t.Helper()
	for _, v := range allVectors(t) {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no vector %s", name)
	return vector{}
}

func (v vector) token(t testing.TB) []byte { return vectors.Read(t, "cca/"+v.File) }

func (v vector) evidence(t testing.TB) evidence.Evidence {
	return evidence.Evidence{Format: cca.Format, Raw: v.token(t)}
}

// key returns the CPAK.
func (v vector) key(t testing.TB) *ecdsa.PublicKey {
	t.Helper()
	key, err := cca.ParseKey(vectors.Read(t, "cca/"+v.Key))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// anchor returns the CPAK as the anchor of the instance that the token names.
func (v vector) anchor(t testing.TB) cca.Anchor {
	t.Helper()
	token, err := cca.ParseToken(v.token(t))
	if err != nil {
		t.Fatal(err)
	}
	return cca.Anchor{Instance: token.InstanceID(), Implementation: token.ImplementationID(), Key: v.key(t)}
}

// want returns the Binding that the challenge is.
func (v vector) want(t testing.TB) evidence.Binding {
	t.Helper()
	challenge, err := hex.DecodeString(v.Challenge)
	if err != nil {
		t.Fatal(err)
	}
	return bindingOf(t, challenge)
}

// good reports whether the manifest has the token for a good one.
func (v vector) good() bool { return strings.HasPrefix(v.Binder, "true") }

// fileAnchors returns the anchors of a published file.
func fileAnchors(t testing.TB, name string) []cca.Anchor {
	t.Helper()
	anchors, err := cca.ParseAnchors(vectors.Read(t, "cca/"+name))
	if err != nil {
		t.Fatal(err)
	}
	return anchors
}
