package ear_test

import (
	"crypto/elliptic"
	"errors"
	"testing"

	"github.com/teebroker/teebroker/ear"
)

// FuzzRead reads tokens that nobody signed.
func FuzzRead(f *testing.F) {
	p := newPair(f, ear.Draft03, elliptic.P256())
	f.Add(p.forge(p.full()))
	f.Add([]byte("e30.e30.e30"))
	f.Fuzz(func(t *testing.T, token []byte) {
		e, err := p.Read(token, want())
		var typed *ear.Error
		if (e == nil) == (err == nil) || err != nil && !errors.As(err, &typed) {
			t.Errorf("%v, %v", e, err)
		}
	})
}

// FuzzClaims reads claims as if a trusted key had signed them. No status is ever better than
// what it rests on.
func FuzzClaims(f *testing.F) {
	p := newPair(f, ear.Draft03, elliptic.P256())
	f.Add(p.full())
	f.Add(newPair(f, ear.KBS, elliptic.P256()).full())
	f.Add(`{}`)
	f.Add(`{"eat_profile":"tag:ietf.org,2026:rats/ear#03","submods":{"":{}}}`)
	f.Fuzz(func(t *testing.T, claims string) {
		e, err := p.Claims([]byte(claims), ear.Want{Audience: audience, AllowAnyNonce: true})
		if (e == nil) == (err == nil) {
			t.Fatalf("%v, %v", e, err)
		}
		if err != nil {
			return
		}
		if len(e.Submodules) == 0 || !e.Issued.Before(e.Expires) || e.Audience != audience {
			t.Errorf("%+v", e)
		}
		for _, s := range e.Submodules {
			if e.Status > s.Status || s.Status > s.Vector.Tier() {
				t.Errorf("%+v", e)
			}
		}
	})
}
