package keywrap_test

import (
	"testing"

	"github.com/teebroker/teebroker/keywrap"
)

// A key and what a broker says about it.
const benchSecret = 512

func BenchmarkSeal(b *testing.B) {
	for _, suite := range suites() {
		b.Run(string(suite), func(b *testing.B) {
			r, secret := generate(b, suite).Recipient(), make([]byte, benchSecret)
			b.ReportAllocs()
			for b.Loop() {
				s, err := r.Seal(secret, nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.MarshalJSON(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, suite := range suites() {
		b.Run(string(suite), func(b *testing.B) {
			o := generate(b, suite)
			s, err := o.Recipient().Seal(make([]byte, benchSecret), nil)
			if err != nil {
				b.Fatal(err)
			}
			sealed := marshal(b, s)
			b.ReportAllocs()
			for b.Loop() {
				var s keywrap.Sealed
				if err := s.UnmarshalJSON(sealed); err != nil {
					b.Fatal(err)
				}
				if _, err := o.Open(b.Context(), s, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, suite := range suites() {
		b.Run(string(suite), func(b *testing.B) {
			public, allow := generate(b, suite).Recipient().Bytes(), only(suite)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := keywrap.Parse(suite, public, allow); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGoJoseSeal(b *testing.B) {
	for _, suite := range jweSuites() {
		b.Run(string(suite), func(b *testing.B) {
			_, public := foreignKey(b, suite)
			jwk, secret := parseJWK(b, public), make([]byte, benchSecret)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := goJoseSeal(suite, jwk, secret); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGoJoseOpen(b *testing.B) {
	for _, suite := range jweSuites() {
		b.Run(string(suite), func(b *testing.B) {
			private, public := foreignKey(b, suite)
			sealed, err := goJoseSeal(suite, parseJWK(b, public), make([]byte, benchSecret))
			if err != nil {
				b.Fatal(err)
			}
			jwk := parseJWK(b, private)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := goJoseOpen(suite, jwk, sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
