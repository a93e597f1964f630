package ear_test

import (
	"crypto/elliptic"
	"testing"

	"github.com/teebroker/teebroker/ear"
)

func BenchmarkIssue(b *testing.B) {
	p := newPair(b, ear.Draft03, elliptic.P256())
	r := result(accepted())
	r.Key, _ = jweKey(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Issue(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for name, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384()} {
		b.Run(name, func(b *testing.B) {
			p := newPair(b, ear.Draft03, curve)
			token := p.forge(p.full())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Read(token, want()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
