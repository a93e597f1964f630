package ccatest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
)

func verifier(t testing.TB, cfg cca.Config) *cca.Verifier {
	t.Helper()
	cfg.AllowMixedProfiles, cfg.AllowDraft2026 = true, true
	v, err := cca.NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func binding(t testing.TB, s string) evidence.Binding {
	t.Helper()
	b, err := evidence.NewBinding([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is made without a fault is accepted, by the reference values too.
func TestEveryProfileIsAccepted(t *testing.T) {
	p, want := ccatest.NewPlatform(), binding(t, "nonce and key")
	v := verifier(t, cca.Config{Anchors: []cca.Anchor{p.Anchor()}})
	for _, profiles := range ccatest.AllProfiles() {
		for _, form := range []ccatest.Form{ccatest.CMW, ccatest.Tag399} {
			for _, hash := range []cca.Hash{0, cca.SHA384, cca.SHA512} {
				got, err := v.Verify(t.Context(), p.Token(ccatest.Realm{Profiles: profiles, Form: form, Hash: hash, RAKHash: hash, MEC: cca.MECPrivate}, want), want)
				if err != nil {
					t.Errorf("%v: %v", profiles, err)
					continue
				}
				c, _ := cca.ClaimsOf(got)
				if ms := cca.Baseline([]cca.Platform{p.Reference()}, c.RIM).Appraise(got); ms != nil {
					t.Errorf("%v: %v", profiles, ms)
				}
			}
		}
	}
}

// go-cose, which made none of it, finds both tokens good.
func TestGoCOSEVerifies(t *testing.T) {
	p := ccatest.NewPlatform()
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		p.Key = newKey(t, curve)
		ev := p.Token(ccatest.Realm{Form: ccatest.Tag399}, evidence.Binding{})
		var tokens map[int64][]byte
		if err := cbor.Unmarshal(ev.Raw[3:], &tokens); err != nil {
			t.Fatal(err)
		}
		var m cose.Sign1Message
		if err := m.UnmarshalCBOR(tokens[44234]); err != nil {
			t.Fatal(err)
		}
		alg, err := m.Headers.Protected.Algorithm()
		if err != nil {
			t.Fatal(err)
		}
		v, err := cose.NewVerifier(alg, &p.Key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Verify(nil, v); err != nil {
			t.Errorf("%v: %v", alg, err)
		}
	}
}

// Each way of making a fault changes what it is for.
func TestFaults(t *testing.T) {
	p, want := ccatest.NewPlatform(), binding(t, "x")
	v := verifier(t, cca.Config{Anchors: []cca.Anchor{p.Anchor()}})
	claims := func(m ccatest.Map) ccatest.Map { return m.Without(10) }
	key := newKey(t, elliptic.P384())
	for _, tt := range []struct {
		name  string
		realm ccatest.Realm
		check string
	}{
		{"form", ccatest.Realm{Form: ccatest.Hybrid}, "collection"},
		{"collect", ccatest.Realm{Collect: func(ccatest.Map) ccatest.Map { return nil }}, "collection"},
		{"raw", ccatest.Realm{Raw: func(b []byte) []byte { return b[1:] }}, "collection"},
		{"platform claims", ccatest.Realm{PlatformToken: ccatest.Signing{Claims: claims}}, "claims"},
		{"realm claims", ccatest.Realm{RealmToken: ccatest.Signing{Claims: claims}}, "claims"},
		{"payload", ccatest.Realm{RealmToken: ccatest.Signing{Payload: func([]byte) []byte { return []byte{0} }}}, "claims"},
		{"protected", ccatest.Realm{RealmToken: ccatest.Signing{Protected: func(ccatest.Map) ccatest.Map { return nil }}}, "headers"},
		{"unprotected", ccatest.Realm{RealmToken: ccatest.Signing{Unprotected: func(m ccatest.Map) ccatest.Map { return m.With(4, []byte{1}) }}}, "headers"},
		{"token", ccatest.Realm{RealmToken: ccatest.Signing{Token: func(b []byte) []byte { return b[1:] }}}, "sign1"},
		{"key of the platform token", ccatest.Realm{PlatformToken: ccatest.Signing{Key: key}}, "platform-signature"},
		{"key of the realm token", ccatest.Realm{RealmToken: ccatest.Signing{Key: key}}, "realm-signature"},
		{"RAK", ccatest.Realm{Key: newKey(t, elliptic.P256())}, "headers"},
		{"RAK off its curve", ccatest.Realm{Key: newKey(t, elliptic.P256()), RealmToken: ccatest.Signing{Key: key}}, "rak"},
	} {
		_, err := v.Verify(t.Context(), p.Token(tt.realm, want), want)
		var e *evidence.Error
		if !errors.As(err, &e) || e.Check != tt.check {
			t.Errorf("%s: %v, want check %s", tt.name, err, tt.check)
		}
	}
}

func TestMap(t *testing.T) {
	m := ccatest.Map{}.With(1, "a").With(2, []any{int64(-1), ccatest.Map{}.Add("k", true)}).With(1, []byte{9})
	twice := m.Add(int64(1), cbor.RawMessage("\xff"))
	for _, tt := range []struct {
		m    ccatest.Map
		want string
	}{
		{nil, "a0"},
		{m, "a201410902" + "8220a1616bf5"},
		{twice, "a301410902" + "8220a1616bf501ff"},
		{twice.Without(1), "a102" + "8220a1616bf5"},
	} {
		b, err := tt.m.MarshalCBOR()
		if err != nil || hex.EncodeToString(b) != tt.want {
			t.Errorf("%x, %v, want %s", b, err, tt.want)
		}
	}
	if m.Get(3) != nil || !bytes.Equal(m.Get(1).([]byte), []byte{9}) || len(m) != 2 {
		t.Errorf("%v", m)
	}
	var long ccatest.Map
	for i := range 300 {
		long = long.Add(int64(i), int64(i))
	}
	b, err := long.MarshalCBOR()
	var back map[int64]int64
	if err != nil || cbor.Unmarshal(b, &back) != nil || len(back) != 300 {
		t.Errorf("%d pairs, %v", len(back), err)
	}
	if _, err := (ccatest.Map{}).With(1, make(chan int)).MarshalCBOR(); err == nil {
		t.Error("a channel was encoded")
	}
}

func TestVendor(t *testing.T) {
	now := time.Now()
	vendor, p, want := ccatest.NewVendor(now), ccatest.NewPlatform(), binding(t, "x")
	p.Chain, p.Thumbprint = vendor.Certify(&p.Key.PublicKey, now, ccatest.Certificate{}), true
	v := verifier(t, cca.Config{Authorities: []cca.Authority{vendor.Authority(p.Implementation)}})
	if _, err := v.Verify(t.Context(), p.Token(ccatest.Realm{}, want), want); err != nil {
		t.Error(err)
	}
	p.Chain = vendor.Certify(&p.Key.PublicKey, now, ccatest.Certificate{Signer: ccatest.NewVendor(now)})
	if _, err := v.Verify(t.Context(), p.Token(ccatest.Realm{}, want), want); !errors.Is(err, evidence.Untrusted) {
		t.Error(err)
	}
}

func TestConcurrentTokens(t *testing.T) {
	p, want := ccatest.NewPlatform(), binding(t, "x")
	v := verifier(t, cca.Config{Anchors: []cca.Anchor{p.Anchor()}})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := v.Verify(t.Context(), p.Token(ccatest.Realm{}, want), want); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestPanicsForWhatThereIsNot(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("profiles of no number")
		}
	}()
	_ = ccatest.Profiles(99).Platform()
}

// A program that simulates does not get the flags of package testing.
func TestNoTesting(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			if strings.HasPrefix(i.Path.Value, `"testing`) {
				t.Errorf("%s imports %s", f, i.Path.Value)
			}
		}
	}
}

func ExamplePlatform_Token() {
	platform := ccatest.NewPlatform()
	verifier, err := cca.NewVerifier(cca.Config{Anchors: []cca.Anchor{platform.Anchor()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	// A realm token that says its challenge twice, and is otherwise good.
	ev := platform.Token(ccatest.Realm{RealmToken: ccatest.Signing{
		Claims: func(m ccatest.Map) ccatest.Map { return m.Add(int64(10), make([]byte, 64)) },
	}}, evidence.Binding{})
	_, err = verifier.Verify(context.Background(), ev, evidence.UncheckedBindingUnsafe())
	fmt.Println(err)
	// Output: cca-token: cca-realm-delegated-token: malformed: duplicate key
}
