package cca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
)

func bindingOf(t testing.TB, b []byte) evidence.Binding {
	t.Helper()
	want, err := evidence.NewBinding(b)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

func newVerifier(t testing.TB, cfg cca.Config) *cca.Verifier {
	t.Helper()
	if cfg.Time == nil {
		cfg.Time = simulatedNow
	}
	v, err := cca.NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func simulatedNow() time.Time { return time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC) }

// trusting returns a Verifier that trusts one platform.
func trusting(t testing.TB, a cca.Anchor) *cca.Verifier {
	return newVerifier(t, cca.Config{Anchors: []cca.Anchor{a}})
}

// wantRefused fails t unless err is a refusal for reason by check.
func wantRefused(t testing.TB, got *evidence.Verified, err error, reason evidence.Reason, check string) {
	t.Helper()
	var e *evidence.Error
	switch {
	case got != nil:
		t.Fatal("accepted")
	case !errors.As(err, &e):
		t.Fatalf("got %v, want %s", err, reason)
	case e.Reason != reason || e.Check != check:
		t.Errorf("got %s of check %s, want %s of %s: %v", e.Reason, e.Check, reason, check, err)
	case e.Format != cca.Format || e.Field == "" || !hasCheck(e.Check):
		t.Errorf("error without format, field or check: %#v", e)
	}
}

func hasCheck(name string) bool {
	for _, c := range cca.Checks() {
		if c.Name == name {
			return true
		}
	}
	return false
}

func TestVerifyPublishedTokens(t *testing.T) {
	for _, vec := range allVectors(t) {
		t.Run(vec.Name, func(t *testing.T) {
			a := vec.anchor(t)
			got, err := trusting(t, a).Verify(t.Context(), vec.evidence(t), vec.want(t))
			if !vec.good() {
				wantRefused(t, got, err, evidence.Untrusted, "binder")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c, ok := cca.ClaimsOf(got)
			if !ok {
				t.Fatal("no claims")
			}
			realm := c.RealmProfile
			if realm == "" {
				realm = "<nil>"
			}
			if c.PlatformProfile != vec.PlatformProfile || realm != vec.RealmProfile || fmt.Sprintf("%#04x", uint16(c.Lifecycle)) != vec.Lifecycle {
				t.Errorf("profiles %q and %q, lifecycle %#04x", c.PlatformProfile, c.RealmProfile, uint16(c.Lifecycle))
			}
			if c.InstanceID != a.Instance || c.ImplementationID != a.Implementation || c.Lifecycle.State() != cca.LifecycleSecured {
				t.Errorf("instance %v, implementation %v, state %v", c.InstanceID, c.ImplementationID, c.Lifecycle.State())
			}
			if want := "true (" + c.RAKHash.String() + ")"; want != vec.Binder {
				t.Errorf("binder %s, want %s", want, vec.Binder)
			}
			if got.Format != cca.Format || !got.Bound || !bytes.Equal(got.Signed, vec.want(t).Bytes()) || got.Skipped != nil || got.Layers != nil {
				t.Errorf("%+v", got)
			}
			spki, err := x509.MarshalPKIXPublicKey(a.Key)
			if err != nil {
				t.Fatal(err)
			}
			if got.Root != sha256.Sum256(spki) || c.CPAK != got.Root {
				t.Error("Root is not the CPAK")
			}
			if !got.CheckedAt.Equal(simulatedNow()) || got.NotAfter.Year() != 9999 {
				t.Errorf("checked at %v, holds until %v", got.CheckedAt, got.NotAfter)
			}
		})
	}
}

// The published files of anchors decide as their names say.
func TestVerifyWithPublishedAnchors(t *testing.T) {
	for _, tt := range []struct {
		token, anchors string
		reason         evidence.Reason
		check          string
	}{
		{"rust-cca-token-02.cbor", "ta-02-ok.json", "", ""},
		{"rust-cca-token-02.cbor", "ta-tfa.json", evidence.Untrusted, "anchor"},
		{"rust-draft-ffm-00.cbor", "ta-tfa.json", "", ""},
		{"tf-rmm-legacy-1222.cbor", "ta-tfa.json", "", ""},
		{"iat-verifier-cca_example_token.cbor", "ta-tfa.json", "", ""},
		{"rust-bug-33-repro.cbor", "ta-tfa.json", evidence.Untrusted, "binder"},
		{"rust-draft-ffm-00.cbor", "ta-02-ok.json", evidence.Untrusted, "anchor"},
	} {
		t.Run(tt.token+" with "+tt.anchors, func(t *testing.T) {
			vec := published(t, tt.token)
			v := newVerifier(t, cca.Config{Anchors: fileAnchors(t, tt.anchors)})
			got, err := v.Verify(t.Context(), vec.evidence(t), vec.want(t))
			if tt.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantRefused(t, got, err, tt.reason, tt.check)
		})
	}
}

// The key of ta-02-bad.json is no point of its curve. Were it one, it would still
// be a stranger's.
func TestBadAnchorOfToken02(t *testing.T) {
	anchors, err := cca.ParseAnchors(vectors.Read(t, "cca/ta-02-bad.json"))
	wantRefused(t, nil, err, evidence.Untrusted, "anchor")
	if anchors != nil {
		t.Error("anchors beside an error")
	}
	vec := published(t, "rust-cca-token-02.cbor")
	a := vec.anchor(t)
	a.Key = &newKey(t, elliptic.P256()).PublicKey
	got, err := trusting(t, a).Verify(t.Context(), vec.evidence(t), vec.want(t))
	wantRefused(t, got, err, evidence.BadSignature, "platform-signature")
}

// Every bit of a token counts, with the challenge compared or not: none is exempt.
func TestVerifyRefusesEveryFlippedBit(t *testing.T) {
	for _, vec := range allVectors(t) {
		if !vec.good() {
			continue
		}
		t.Run(vec.Name, func(t *testing.T) {
			t.Parallel()
			ev := vec.evidence(t)
			v := trusting(t, vec.anchor(t))
			if _, err := v.Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe()); err != nil {
				t.Fatal(err)
			}
			step := 1
			if testing.Short() || vec.Name != "tf-rmm-legacy-1222.cbor" {
				step = 17
			}
			raw := ev.Raw
			for bit := 0; bit < 8*len(raw); bit += step {
				ev.Raw = bytes.Clone(raw)
				ev.Raw[bit/8] ^= 1 << (bit % 8)
				if _, err := v.Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe()); err == nil {
					t.Errorf("bit %d flipped: accepted", bit)
				}
			}
		})
	}
}

// Cut anywhere, or followed by anything, a token is malformed.
func TestVerifyRefusesOtherLengths(t *testing.T) {
	vec := published(t, "iat-verifier-cca_example_token.cbor")
	v, raw := trusting(t, vec.anchor(t)), vec.token(t)
	for n := range raw {
		got, err := v.Verify(t.Context(), evidence.Evidence{Format: cca.Format, Raw: raw[:n]}, evidence.UncheckedBindingUnsafe())
		wantRefused(t, got, err, evidence.Malformed, "collection")
	}
	for _, tail := range []string{"\x00", "\xf6", "\xff", string(raw)} {
		got, err := v.Verify(t.Context(), evidence.Evidence{Format: cca.Format, Raw: append(bytes.Clone(raw), tail...)}, evidence.UncheckedBindingUnsafe())
		wantRefused(t, got, err, evidence.Malformed, "collection")
	}
}

func TestVerifyEveryProfile(t *testing.T) {
	p := ccatest.NewPlatform()
	want := bindingOf(t, []byte("nonce and key"))
	allowing := newVerifier(t, cca.Config{Anchors: []cca.Anchor{p.Anchor()}, AllowMixedProfiles: true, AllowDraft2026: true})
	strict := trusting(t, p.Anchor())
	for _, profiles := range ccatest.AllProfiles() {
		for _, form := range []ccatest.Form{ccatest.CMW, ccatest.Tag399} {
			ev := p.Token(ccatest.Realm{Profiles: profiles, Form: form}, want)
			got, err := allowing.Verify(t.Context(), ev, want)
			if err != nil {
				t.Errorf("%v: %v", profiles, err)
				continue
			}
			c, _ := cca.ClaimsOf(got)
			if c.PlatformProfile != profiles.Platform() || c.RealmProfile != profiles.Realm() {
				t.Errorf("%v: %q and %q", profiles, c.PlatformProfile, c.RealmProfile)
			}
			got, err = strict.Verify(t.Context(), ev, want)
			if profiles < ccatest.Mixed {
				if err != nil {
					t.Errorf("%v: %v", profiles, err)
				}
				continue
			}
			wantRefused(t, got, err, evidence.Unsupported, "profile")
		}
	}
}

// Each option admits what it is for, and nothing else.
func TestOptionsAreIndependent(t *testing.T) {
	p := ccatest.NewPlatform()
	for _, tt := range []struct {
		profiles ccatest.Profiles
		cfg      cca.Config
	}{
		{ccatest.Mixed, cca.Config{AllowDraft2026: true}},
		{ccatest.P2026, cca.Config{AllowMixedProfiles: true}},
	} {
		tt.cfg.Anchors = []cca.Anchor{p.Anchor()}
		got, err := newVerifier(t, tt.cfg).Verify(t.Context(), p.Token(ccatest.Realm{Profiles: tt.profiles}, evidence.Binding{}), evidence.UncheckedBindingUnsafe())
		wantRefused(t, got, err, evidence.Unsupported, "profile")
	}
}

// A profile has its companions only.
func TestVerifyRefusesOtherPairs(t *testing.T) {
	p := ccatest.NewPlatform()
	v := newVerifier(t, cca.Config{Anchors: []cca.Anchor{p.Anchor()}, AllowMixedProfiles: true, AllowDraft2026: true})
	known := map[[2]string]bool{}
	var platforms, realms []string
	for _, profiles := range ccatest.AllProfiles() {
		known[[2]string{profiles.Platform(), profiles.Realm()}] = true
		platforms, realms = append(platforms, profiles.Platform()), append(realms, profiles.Realm())
	}
	platforms = append(platforms, "", "tag:arm.com,2025:cca_platform#1.0.0", "tag:arm.com,2023:cca_platform#1.0.1")
	realms = append(realms, "tag:arm.com,2023:realm#2.0.0", "http://arm.com/CCA-SSD/1.0.0")
	for _, platform := range platforms {
		for _, realm := range realms {
			if known[[2]string{platform, realm}] {
				continue
			}
			var r ccatest.Realm
			r.PlatformToken.Claims = func(m ccatest.Map) ccatest.Map { return m.With(265, platform) }
			r.RealmToken.Claims = func(m ccatest.Map) ccatest.Map {
				if realm == "" {
					return m.Without(265)
				}
				return m.With(265, realm)
			}
			got, err := v.Verify(t.Context(), p.Token(r, evidence.Binding{}), evidence.UncheckedBindingUnsafe())
			wantRefused(t, got, err, evidence.Unsupported, "profile")
		}
	}
}

func TestVerifyEveryCurve(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		p := ccatest.NewPlatform()
		p.Key = newKey(t, curve)
		want := bindingOf(t, []byte("x"))
		if _, err := trusting(t, p.Anchor()).Verify(t.Context(), p.Token(ccatest.Realm{}, want), want); err != nil {
			t.Errorf("%s: %v", curve.Params().Name, err)
		}
	}
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestVerifyRefuses(t *testing.T) {
	p := ccatest.NewPlatform()
	v, want := trusting(t, p.Anchor()), bindingOf(t, []byte("nonce and key"))
	good := p.Token(ccatest.Realm{}, want)
	if _, err := v.Verify(t.Context(), good, want); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		claim  string
		edit   func(*evidence.Evidence)
		want   evidence.Binding
		reason evidence.Reason
		check  string
	}{
		{"another format", func(ev *evidence.Evidence) { ev.Format = "snp-report" }, want, evidence.Unsupported, "format"},
		{"layers", func(ev *evidence.Evidence) { ev.Layers = []evidence.Evidence{{}} }, want, evidence.Malformed, "format"},
		{"items", func(ev *evidence.Evidence) { ev.Items = []evidence.Item{{Type: "x"}} }, want, evidence.Malformed, "format"},
		{"no bytes", func(ev *evidence.Evidence) { ev.Raw = nil }, want, evidence.Malformed, "collection"},
		{"another Binding", nil, bindingOf(t, []byte("another")), evidence.NotBound, "binding"},
		{"the beginning of the Binding", nil, bindingOf(t, []byte("nonce and ke")), evidence.NotBound, "binding"},
		{"no Binding", nil, evidence.Binding{}, evidence.NotBound, "binding"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			ev := good
			if tt.edit != nil {
				tt.edit(&ev)
			}
			got, err := v.Verify(t.Context(), ev, tt.want)
			wantRefused(t, got, err, tt.reason, tt.check)
		})
	}
}

// The Binding is compared before any signature, so that a replay costs nothing.
func TestBindingComesBeforeTrust(t *testing.T) {
	stranger := ccatest.NewPlatform()
	got, err := trusting(t, ccatest.NewPlatform().Anchor()).Verify(t.Context(), stranger.Token(ccatest.Realm{}, bindingOf(t, []byte("x"))), bindingOf(t, []byte("y")))
	wantRefused(t, got, err, evidence.NotBound, "binding")
}

func TestUncheckedBindingIsNotBound(t *testing.T) {
	p := ccatest.NewPlatform()
	got, err := trusting(t, p.Anchor()).Verify(t.Context(), p.Token(ccatest.Realm{}, bindingOf(t, []byte("x"))), evidence.UncheckedBindingUnsafe())
	if err != nil || got.Bound || got.Signed[0] != 'x' || len(got.Signed) != 64 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Neither the input nor the result is shared: whoever changes one does not change
// the other, or what the Verifier remembers.
func TestResultsShareNoMemory(t *testing.T) {
	p := ccatest.NewPlatform()
	v, want := trusting(t, p.Anchor()), bindingOf(t, []byte("nonce and key"))
	ev := p.Token(ccatest.Realm{}, want)
	raw := bytes.Clone(ev.Raw)
	got, err := v.Verify(t.Context(), ev, want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ev.Raw, raw) {
		t.Error("Verify modifies the evidence")
	}
	before := list(got.Claims)
	clear(ev.Raw)
	if list(got.Claims) != before {
		t.Error("the result shares memory with the evidence")
	}
	c, _ := cca.ClaimsOf(got)
	c.Components()[0].Type = "changed"
	clear(got.Signed)
	again, err := v.Verify(t.Context(), evidence.Evidence{Format: cca.Format, Raw: raw}, want)
	if err != nil || list(again.Claims) != before || list(got.Claims) != before {
		t.Errorf("results share memory: %v", err)
	}
}

func list(claims evidence.Claims) (s string) {
	for name, value := range claims.All() {
		s += fmt.Sprintln(name, value)
	}
	return s
}

// What is remembered is that a key signed exactly these bytes.
func TestRememberedPlatformToken(t *testing.T) {
	p, now := ccatest.NewPlatform(), simulatedNow()
	a := p.Anchor()
	a.NotBefore, a.NotAfter = now, now.Add(time.Hour)
	v := newVerifier(t, cca.Config{Anchors: []cca.Anchor{a}, Time: func() time.Time { return now }})
	ev, want := p.Token(ccatest.Realm{}, bindingOf(t, []byte("x"))), bindingOf(t, []byte("x"))
	for range 2 {
		got, err := v.Verify(t.Context(), ev, want)
		if err != nil || !got.NotAfter.Equal(a.NotAfter) {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	ev.Raw[len(ev.Raw)-1] ^= 1 // of the realm's signature
	got, err := v.Verify(t.Context(), ev, want)
	wantRefused(t, got, err, evidence.BadSignature, "realm-signature")
	ev.Raw[len(ev.Raw)-1] ^= 1
	for _, at := range []time.Time{a.NotBefore.Add(-time.Nanosecond), a.NotAfter.Add(time.Nanosecond)} {
		now = at
		got, err = v.Verify(t.Context(), ev, want)
		wantRefused(t, got, err, evidence.Stale, "validity")
	}
	now = a.NotAfter
	if _, err := v.Verify(t.Context(), ev, want); err != nil {
		t.Errorf("at the last instant: %v", err)
	}
}

// A realm token can't be moved under another platform's, whether that is
// remembered or not.
func TestVerifyRefusesMixedTokens(t *testing.T) {
	p, want := ccatest.NewPlatform(), bindingOf(t, []byte("x"))
	v := trusting(t, p.Anchor())
	good := p.Token(ccatest.Realm{}, want)
	if _, err := v.Verify(t.Context(), good, want); err != nil {
		t.Fatal(err)
	}
	var platform any
	p.Token(ccatest.Realm{Collect: func(m ccatest.Map) ccatest.Map { platform = m.Get(44234); return m }}, want)
	mixed := p.Token(ccatest.Realm{Collect: func(m ccatest.Map) ccatest.Map { return m.With(44234, platform) }}, want)
	got, err := v.Verify(t.Context(), mixed, want)
	wantRefused(t, got, err, evidence.Untrusted, "binder")
}

// Nothing is fetched, whatever a token names as its verification service: there is
// nothing to fetch with.
func TestNoNetwork(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			if path := strings.Trim(i.Path.Value, `"`); path == "os" || path == "net" || strings.HasPrefix(path, "net/") {
				t.Errorf("%s imports %s", f, path)
			}
		}
	}
}
