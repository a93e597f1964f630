package cca_test

import (
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/cca/internal/wire"
	"github.com/teebroker/teebroker/evidence"
)

// certified returns a platform with certificates of v.
func certified(v *ccatest.Vendor, c ccatest.Certificate) *ccatest.Platform {
	p := ccatest.NewPlatform()
	p.Chain = v.Certify(&p.Key.PublicKey, simulatedNow(), c)
	p.Thumbprint = true
	return p
}

func TestVerifyCertifiedPlatforms(t *testing.T) {
	vendor, want := ccatest.NewVendor(simulatedNow()), bindingOf(t, []byte("x"))
	p := certified(vendor, ccatest.Certificate{NotAfter: simulatedNow().Add(time.Hour)})
	authority := vendor.Authority(p.Implementation)
	v := newVerifier(t, cca.Config{Authorities: []cca.Authority{authority}})
	for range 2 { // the second time from memory
		got, err := v.Verify(t.Context(), p.Token(ccatest.Realm{}, want), want)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := cca.ClaimsOf(got)
		if got.Root != sha256.Sum256(authority.Certificate) || !got.NotAfter.Equal(simulatedNow().Add(time.Hour)) || c.CPAK != spki(t, &p.Key.PublicKey) {
			t.Errorf("root %x, until %v, CPAK %x", got.Root, got.NotAfter, c.CPAK)
		}
	}
	p.Thumbprint = false
	if _, err := v.Verify(t.Context(), p.Token(ccatest.Realm{}, want), want); err != nil {
		t.Errorf("without x5t: %v", err)
	}
	issuer, err := x509.ParseCertificate(p.Chain[1])
	if err != nil {
		t.Fatal(err)
	}
	p.Chain = p.Chain[:1]
	v = newVerifier(t, cca.Config{Authorities: []cca.Authority{{Certificate: issuer.Raw, Implementations: evidence.Anything[cca.ImplementationID]()}}})
	if _, err := v.Verify(t.Context(), p.Token(ccatest.Realm{}, want), want); err != nil {
		t.Errorf("with one certificate and its issuer pinned: %v", err)
	}
}

func TestVerifyRefusesCertifiedPlatforms(t *testing.T) {
	now := simulatedNow()
	vendor, stranger := ccatest.NewVendor(now), ccatest.NewVendor(now)
	anything := evidence.Anything[cca.ImplementationID]()
	good := ccatest.Certificate{}
	edited := func(e func(*x509.Certificate)) ccatest.Certificate { return ccatest.Certificate{Edit: e} }
	for _, tt := range []struct {
		claim  string
		cert   ccatest.Certificate
		edit   func(*ccatest.Platform, *ccatest.Realm, *cca.Config)
		reason evidence.Reason
		check  string
	}{
		{"another vendor", good, func(_ *ccatest.Platform, _ *ccatest.Realm, c *cca.Config) {
			c.Authorities[0] = stranger.Authority()
			c.Authorities[0].Implementations = anything
		}, evidence.Untrusted, "anchor"},
		{"another implementation", good, func(_ *ccatest.Platform, _ *ccatest.Realm, c *cca.Config) {
			c.Authorities[0].Implementations = evidence.OneOf(cca.ImplementationID{9})
		}, evidence.Untrusted, "anchor"},
		{"no implementation", good, func(_ *ccatest.Platform, _ *ccatest.Realm, c *cca.Config) {
			c.Authorities[0].Implementations = evidence.Set[cca.ImplementationID]{}
		}, evidence.Untrusted, "anchor"},
		{"another CA of the same name", ccatest.Certificate{Signer: stranger}, nil, evidence.Untrusted, "anchor"},
		{"no issuer", good, func(p *ccatest.Platform, _ *ccatest.Realm, _ *cca.Config) { p.Chain = p.Chain[:1] }, evidence.Untrusted, "anchor"},
		{"no certificates", good, func(p *ccatest.Platform, _ *ccatest.Realm, _ *cca.Config) { p.Chain, p.Thumbprint = nil, false }, evidence.Untrusted, "anchor"},
		{"issuer first", good, func(p *ccatest.Platform, _ *ccatest.Realm, _ *cca.Config) {
			p.Chain[0], p.Chain[1] = p.Chain[1], p.Chain[0]
		}, evidence.Untrusted, "anchor"},
		{"a certificate that is none", good, func(p *ccatest.Platform, _ *ccatest.Realm, _ *cca.Config) { p.Chain[1] = []byte{0x30} }, evidence.Malformed, "anchor"},
		{"an x5t of another", good, func(p *ccatest.Platform, r *ccatest.Realm, _ *cca.Config) {
			r.PlatformToken.Protected = with(wire.X5T, []any{int64(wire.HashSHA256), octets(32)})
		}, evidence.Malformed, "anchor"},
		{"five certificates", good, func(p *ccatest.Platform, _ *ccatest.Realm, _ *cca.Config) {
			p.Chain = append(p.Chain, p.Chain[1], p.Chain[1], p.Chain[1])
		}, evidence.Malformed, "headers"},
		{"an array of one", good, func(p *ccatest.Platform, r *ccatest.Realm, _ *cca.Config) {
			r.PlatformToken.Unprotected = with(wire.X5Chain, []any{p.Chain[0]})
		}, evidence.Malformed, "headers"},
		{"a chain of text", good, func(_ *ccatest.Platform, r *ccatest.Realm, _ *cca.Config) {
			r.PlatformToken.Unprotected = with(wire.X5Chain, "x")
		}, evidence.Malformed, "headers"},
		{"an x5t of text", good, func(_ *ccatest.Platform, r *ccatest.Realm, _ *cca.Config) {
			r.PlatformToken.Protected = with(wire.X5T, "x")
		}, evidence.Malformed, "headers"},
		{"an x5t with an unknown hash", good, func(_ *ccatest.Platform, r *ccatest.Realm, _ *cca.Config) {
			r.PlatformToken.Protected = with(wire.X5T, []any{int64(-15), octets(8)})
		}, evidence.Malformed, "headers"},
		{"an x5t without a chain", good, func(_ *ccatest.Platform, r *ccatest.Realm, _ *cca.Config) {
			r.PlatformToken.Unprotected = without(wire.X5Chain)
		}, evidence.Malformed, "headers"},
		{"a protected chain", good, func(p *ccatest.Platform, r *ccatest.Realm, _ *cca.Config) {
			r.PlatformToken.Protected = with(wire.X5Chain, p.Chain[0])
		}, evidence.Unsupported, "headers"},
		{"a chain in the realm token", good, func(p *ccatest.Platform, r *ccatest.Realm, _ *cca.Config) {
			r.RealmToken.Unprotected = with(wire.X5Chain, p.Chain[0])
		}, evidence.Unsupported, "headers"},
		{"an instance with an anchor", good, func(p *ccatest.Platform, _ *ccatest.Realm, c *cca.Config) {
			c.Anchors = []cca.Anchor{p.Anchor()}
		}, evidence.Untrusted, "anchor"},
		{"expired", ccatest.Certificate{NotAfter: now.Add(-time.Second)}, nil, evidence.Stale, "validity"},
		{"not yet valid", ccatest.Certificate{NotBefore: now.Add(time.Second)}, nil, evidence.Stale, "validity"},
		{"a denied instance", good, func(p *ccatest.Platform, _ *ccatest.Realm, c *cca.Config) {
			c.DenyInstances = []cca.InstanceID{p.Instance}
		}, evidence.Revoked, "revocation"},
		{"a denied CPAK", good, func(p *ccatest.Platform, _ *ccatest.Realm, c *cca.Config) {
			c.DenyKeys = [][32]byte{spki(t, &p.Key.PublicKey)}
		}, evidence.Revoked, "revocation"},
		{"a denied issuer", good, func(_ *ccatest.Platform, _ *ccatest.Realm, c *cca.Config) {
			c.DenyKeys = [][32]byte{vendor.CA()}
		}, evidence.Revoked, "revocation"},
		{"a CPAK that is a CA", edited(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), nil, evidence.Untrusted, "anchor"},
		{"a CPAK that may not sign", edited(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), nil, evidence.Untrusted, "anchor"},
		{"a CPAK without key usage", edited(func(c *x509.Certificate) { c.KeyUsage = 0 }), nil, evidence.Untrusted, "anchor"},
		{"a foreign key under the certificate", good, func(_ *ccatest.Platform, r *ccatest.Realm, _ *cca.Config) {
			r.PlatformToken.Key = newKey(t, elliptic.P384())
		}, evidence.BadSignature, "platform-signature"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			p, want := certified(vendor, tt.cert), bindingOf(t, []byte("x"))
			cfg, realm := cca.Config{Authorities: []cca.Authority{vendor.Authority(p.Implementation)}}, ccatest.Realm{}
			if tt.edit != nil {
				tt.edit(p, &realm, &cfg)
			}
			got, err := newVerifier(t, cfg).Verify(t.Context(), p.Token(realm, want), want)
			wantRefused(t, got, err, tt.reason, tt.check)
		})
	}
}

// A chain that was verified is not believed for longer than it is valid.
func TestRememberedChainExpires(t *testing.T) {
	now := simulatedNow()
	vendor, want := ccatest.NewVendor(now), bindingOf(t, []byte("x"))
	p := certified(vendor, ccatest.Certificate{NotBefore: now, NotAfter: now.Add(time.Hour)})
	v := newVerifier(t, cca.Config{Authorities: []cca.Authority{vendor.Authority(p.Implementation)}, Time: func() time.Time { return now }})
	ev := p.Token(ccatest.Realm{}, want)
	if _, err := v.Verify(t.Context(), ev, want); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{now.Add(time.Hour + time.Second), now.Add(-time.Second)} {
		now = at
		got, err := v.Verify(t.Context(), ev, want)
		wantRefused(t, got, err, evidence.Stale, "validity")
	}
}

// The second authority is asked if the first is not it.
func TestSeveralAuthorities(t *testing.T) {
	now := simulatedNow()
	vendor, other, want := ccatest.NewVendor(now), ccatest.NewVendor(now), bindingOf(t, []byte("x"))
	p := certified(vendor, ccatest.Certificate{})
	v := newVerifier(t, cca.Config{Authorities: []cca.Authority{other.Authority(p.Implementation), vendor.Authority(p.Implementation)}})
	if _, err := v.Verify(t.Context(), p.Token(ccatest.Realm{}, want), want); err != nil {
		t.Error(err)
	}
}

// A certificate is not believed outside of the validity of those above it.
func TestChainIsValidWhileAllOfItIs(t *testing.T) {
	now := simulatedNow()
	vendor, want := ccatest.NewVendor(now), bindingOf(t, []byte("x"))
	p := certified(vendor, ccatest.Certificate{NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(20, 0, 0)})
	issuer, err := x509.ParseCertificate(p.Chain[1])
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, cca.Config{Authorities: []cca.Authority{vendor.Authority(p.Implementation)}, Time: func() time.Time { return now }})
	ev := p.Token(ccatest.Realm{}, want)
	got, err := v.Verify(t.Context(), ev, want)
	if err != nil || !got.NotAfter.Equal(issuer.NotAfter) {
		t.Fatalf("%+v, %v, want until %v", got, err, issuer.NotAfter)
	}
	for _, at := range []time.Time{issuer.NotBefore.Add(-time.Second), issuer.NotAfter.Add(time.Second)} {
		now = at
		got, err := v.Verify(t.Context(), ev, want)
		wantRefused(t, got, err, evidence.Stale, "validity")
	}
}
