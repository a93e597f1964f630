package cca

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
)

// Platform tokens are remembered once their signature was found good, and by
// their own bytes alone.
func TestKnownPlatformTokens(t *testing.T) {
	raw := vectors.Read(t, "cca/rust-draft-ffm-00.cbor")
	anchors, err := ParseAnchors(vectors.Read(t, "cca/ta-tfa.json"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(Config{Anchors: anchors})
	if err != nil {
		t.Fatal(err)
	}
	token, err := ParseToken(raw)
	if err != nil {
		t.Fatal(err)
	}
	known := func() bool {
		_, ok := v.known.Get(sha256.Sum256([]byte(token.platform.raw)))
		return ok
	}
	verify := func(raw []byte) error {
		_, err := v.Verify(t.Context(), evidence.Evidence{Format: Format, Raw: raw}, evidence.UncheckedBindingUnsafe())
		return err
	}
	forged := bytes.Clone(raw)
	forged[bytes.Index(raw, []byte(token.platform.raw))+len(token.platform.raw)-1] ^= 1
	var e *evidence.Error
	if err := verify(forged); !errors.As(err, &e) || e.Check != checkPlatformSignature || known() {
		t.Errorf("forged: %v, known: %v", err, known())
	}
	if err := verify(raw); err != nil || !known() {
		t.Errorf("%v, known: %v", err, known())
	}
	if err := verify(forged); err == nil {
		t.Error("forged, beside what is known")
	}
}
