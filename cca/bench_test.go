package cca_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"testing"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
)

// The lower bound of any verification: one signature on P-384.
func BenchmarkFloor(b *testing.B) {
	p := ccatest.NewPlatform()
	digest := sha512.Sum384(make([]byte, 1400))
	sig, err := ecdsa.SignASN1(rand.Reader, p.Key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !ecdsa.VerifyASN1(&p.Key.PublicKey, digest[:], sig) {
			b.Fatal("does not verify")
		}
	}
}

// The longest of the good published tokens, read and nothing else.
func BenchmarkDecode(b *testing.B) {
	raw := published(b, "iat-verifier-cca_example_token.cbor").token(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cca.ParseToken(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// A token whose platform token is known: one signature.
func BenchmarkVerifyWarm(b *testing.B) {
	vec := published(b, "iat-verifier-cca_example_token.cbor")
	v, ev, want := trusting(b, vec.anchor(b)), vec.evidence(b), vec.want(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), ev, want); err != nil {
			b.Fatal(err)
		}
	}
}

// Both signatures in each round: the memory holds one platform token, and two are
// used in turn.
func BenchmarkVerifyCold(b *testing.B) {
	var evs []evidence.Evidence
	var wants []evidence.Binding
	for _, name := range []string{"iat-verifier-cca_example_token.cbor", "tf-rmm-legacy-1222.cbor"} {
		vec := published(b, name)
		evs, wants = append(evs, vec.evidence(b)), append(wants, vec.want(b))
	}
	v := newVerifier(b, cca.Config{Anchors: fileAnchors(b, "ta-tfa.json"), CacheSize: 1})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, err := v.Verify(b.Context(), evs[i%2], wants[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}

// A token that is good but for the signature of its realm, on a known platform.
func BenchmarkForged(b *testing.B) {
	vec := published(b, "iat-verifier-cca_example_token.cbor")
	v, ev, want := trusting(b, vec.anchor(b)), vec.evidence(b), vec.want(b)
	ev.Raw[len(ev.Raw)-1] ^= 1
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), ev, want); err == nil {
			b.Fatal("accepted")
		}
	}
}
