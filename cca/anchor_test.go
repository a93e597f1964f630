package cca_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
)

// jwk returns a JWK of key with more members.
func jwk(t testing.TB, key *ecdsa.PublicKey, more string) string {
	t.Helper()
	point, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	half := len(point) / 2
	b64 := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"kty":"EC","crv":"%s","x":"%s","y":"%s"%s}`, key.Params().Name, b64(point[1:1+half]), b64(point[1+half:]), more)
}

// anchorFile returns a list of one anchor for p with more members.
func anchorFile(t testing.TB, p *ccatest.Platform, more string) string {
	return fmt.Sprintf(`[{"instance-id":"%v","implementation-id":"%v","pkey":%s%s}]`, p.Instance, p.Implementation, jwk(t, &p.Key.PublicKey, ""), more)
}

func TestParseAnchors(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		p := ccatest.NewPlatform()
		p.Key = newKey(t, curve)
		file := anchorFile(t, p, `,"not-before":"2026-01-01T00:00:00Z","not-after":"2027-01-01T01:00:00+01:00"`)
		anchors, err := cca.ParseAnchors([]byte(file))
		if err != nil || len(anchors) != 1 {
			t.Fatalf("%v, %v", anchors, err)
		}
		a := anchors[0]
		if a.Instance != p.Instance || a.Implementation != p.Implementation || !p.Key.PublicKey.Equal(a.Key) ||
			!a.NotBefore.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) || !a.NotAfter.Equal(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("%+v", a)
		}
	}
	for _, name := range []string{"ta-tfa.json", "ta-02-ok.json"} {
		if a := fileAnchors(t, name); len(a) != 1 || !a[0].NotBefore.IsZero() || !a[0].NotAfter.IsZero() {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a, err := cca.ParseAnchors([]byte(`[]`)); err != nil || len(a) != 0 {
		t.Errorf("no anchors: %v, %v", a, err)
	}
}

func TestParseAnchorsRefuses(t *testing.T) {
	p := ccatest.NewPlatform()
	good := anchorFile(t, p, "")
	key := jwk(t, &p.Key.PublicKey, "")
	p256 := jwk(t, &newKey(t, elliptic.P256()).PublicKey, "")
	replace := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s in %s", old, good)
		}
		return strings.Replace(good, old, with, 1)
	}
	withKey := func(k string) string { return replace(key, k) }
	for _, tt := range []struct{ name, file, err string }{
		{"good", good, ""},
		{"kid, use and alg", withKey(jwk(t, &p.Key.PublicKey, `,"kid":"x","use":"sig","alg":"ES384"`)), ""},
		{"nothing", "", "EOF"},
		{"null", "null", "null"},
		{"an object", "{}", "object where"},
		{"an element null", "[null]", "null"},
		{"trailing", good + "[]", "trailing"},
		{"unknown member", replace(`"pkey"`, `"x":1,"pkey"`), "unknown member"},
		{"duplicate member", replace(`"pkey"`, `"instance-id":"","pkey"`), "duplicate"},
		{"no instance-id", replace(fmt.Sprintf(`"instance-id":"%v",`, p.Instance), ""), "instance-id"},
		{"no implementation-id", replace(fmt.Sprintf(`"implementation-id":"%v",`, p.Implementation), ""), "implementation-id"},
		{"no key", replace(`,"pkey":`+key, ""), "pkey"},
		{"short instance-id", replace(p.Instance.String(), p.Instance.String()[2:]), "not 33 bytes"},
		{"long implementation-id", replace(p.Implementation.String(), p.Implementation.String()+"00"), "not 32 bytes"},
		{"capitals", replace(p.Implementation.String()[:2], "7F"), "hexadecimal"},
		{"time that is none", anchorFile(t, p, `,"not-after":"tomorrow"`), "tomorrow"},
		{"time as a number", anchorFile(t, p, `,"not-after":1`), "not a time"},
		{"time null", anchorFile(t, p, `,"not-before":null`), "not a time"},
		{"private key", withKey(jwk(t, &p.Key.PublicKey, `,"d":"AAAA"`)), "unknown member"},
		{"key_ops", withKey(jwk(t, &p.Key.PublicKey, `,"key_ops":["verify"]`)), "unknown member"},
		{"x5c", withKey(jwk(t, &p.Key.PublicKey, `,"x5c":[]`)), "unknown member"},
		{"other use", withKey(jwk(t, &p.Key.PublicKey, `,"use":"enc"`)), "use"},
		{"other alg", withKey(jwk(t, &p.Key.PublicKey, `,"alg":"ES256"`)), "alg"},
		{"kid null", withKey(jwk(t, &p.Key.PublicKey, `,"kid":1`)), "kid"},
		{"RSA", withKey(`{"kty":"RSA","crv":"P-384","x":"AA","y":"AA"}`), "not an EC key"},
		{"no kty", withKey(strings.Replace(key, `"kty":"EC",`, "", 1)), "not an EC key"},
		{"other curve", withKey(strings.Replace(key, "P-384", "secp256k1", 1)), "not an EC key"},
		{"coordinates of another curve", withKey(strings.Replace(p256, "P-256", "P-384", 1)), "length"},
		{"no y", withKey(key[:strings.Index(key, `,"y"`)] + "}"), "length"},
		{"short x", withKey(strings.Replace(key, `"x":"`+key[strings.Index(key, `"x":"`)+5:][:4], `"x":"`, 1)), "length"},
		{"padded base64", withKey(strings.Replace(key, `","y"`, `=","y"`, 1)), "base64url"},
		{"no point", string(vectors.Read(t, "cca/ta-02-bad.json")), "not a point"},
	} {
		a, err := cca.ParseAnchors([]byte(tt.file))
		if tt.err == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if err == nil || a != nil || !strings.HasPrefix(err.Error(), "cca: anchors: ") || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, %v, want %q", tt.name, a, err, tt.err)
		}
	}
}

func TestParseKey(t *testing.T) {
	key := newKey(t, elliptic.P384())
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaDER, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := x509.MarshalPKIXPublicKey(&newKey(t, elliptic.P224()).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	for _, tt := range []struct {
		name string
		data []byte
		ok   bool
	}{
		{"DER", der, true},
		{"PEM", block("PUBLIC KEY", der), true},
		{"nothing", nil, false},
		{"garbage", []byte("garbage"), false},
		{"trailing bytes", append(append([]byte{}, der...), 0), false},
		{"two blocks", append(block("PUBLIC KEY", der), block("PUBLIC KEY", der)...), false},
		{"another block", block("CERTIFICATE", der), false},
		{"a private key", block("PRIVATE KEY", private), false},
		{"a private key as a public one", block("PUBLIC KEY", private), false},
		{"RSA", block("PUBLIC KEY", rsaDER), false},
		{"P-224", block("PUBLIC KEY", p224), false},
	} {
		got, err := cca.ParseKey(tt.data)
		if (err == nil) != tt.ok || tt.ok && !key.PublicKey.Equal(got) || !tt.ok && (got != nil || !strings.HasPrefix(err.Error(), "cca: key: ")) {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	p := ccatest.NewPlatform()
	good := p.Anchor()
	with := func(edit func(*cca.Anchor)) cca.Config {
		a := good
		edit(&a)
		return cca.Config{Anchors: []cca.Anchor{a}}
	}
	//lint:ignore SA1019 such keys can be made
	half, off := &ecdsa.PublicKey{Curve: elliptic.P384(), X: big.NewInt(1)}, &ecdsa.PublicKey{Curve: elliptic.P384(), X: big.NewInt(1), Y: big.NewInt(1)}
	leaf := ccatest.NewVendor(simulatedNow()).Certify(&p.Key.PublicKey, simulatedNow(), ccatest.Certificate{})[0]
	for _, tt := range []struct {
		name  string
		cfg   cca.Config
		field string
	}{
		{"nothing", cca.Config{}, "Config.Anchors"},
		{"negative cache", cca.Config{Anchors: []cca.Anchor{good}, CacheSize: -1}, "Config.CacheSize"},
		{"no key", with(func(a *cca.Anchor) { a.Key = nil }), "Config.Anchors: element 1"},
		{"a nil key", with(func(a *cca.Anchor) { a.Key = (*ecdsa.PublicKey)(nil) }), "Config.Anchors: element 1"},
		{"a private key", with(func(a *cca.Anchor) { a.Key = p.Key }), "Config.Anchors: element 1"},
		{"a zero key", with(func(a *cca.Anchor) { a.Key = &ecdsa.PublicKey{} }), "Config.Anchors: element 1"},
		{"a key with half a point", with(func(a *cca.Anchor) { a.Key = half }), "Config.Anchors: element 1"},
		{"a key off its curve", with(func(a *cca.Anchor) {
			a.Key = off
		}), "Config.Anchors: element 1"},
		{"a key without a point", with(func(a *cca.Anchor) { a.Key = &ecdsa.PublicKey{Curve: elliptic.P384()} }), "Config.Anchors: element 1"},
		{"a key on P-224", with(func(a *cca.Anchor) { a.Key = &newKey(t, elliptic.P224()).PublicKey }), "Config.Anchors: element 1"},
		{"no instance", with(func(a *cca.Anchor) { a.Instance = cca.InstanceID{} }), "Config.Anchors: element 1"},
		{"valid at no time", with(func(a *cca.Anchor) { a.NotBefore, a.NotAfter = simulatedNow(), simulatedNow().Add(-1) }), "Config.Anchors: element 1"},
		{"an instance twice", cca.Config{Anchors: []cca.Anchor{good, good}}, "Config.Anchors: element 2"},
		{"an authority without certificate", cca.Config{Authorities: []cca.Authority{{}}}, "Config.Authorities: element 1"},
		{"an authority that is no CA", cca.Config{Authorities: []cca.Authority{{Certificate: leaf}}}, "Config.Authorities: element 1"},
	} {
		v, err := cca.NewVerifier(tt.cfg)
		if v != nil || err == nil || !strings.Contains(err.Error(), tt.field) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.field)
		}
	}
}

// What a caller does to the Config afterwards changes nothing.
func TestConfigIsCopied(t *testing.T) {
	p := ccatest.NewPlatform()
	key := p.Key.PublicKey
	a := p.Anchor()
	a.Key = &key
	cfg := cca.Config{Anchors: []cca.Anchor{a}, DenyInstances: []cca.InstanceID{{1, 1}}}
	v := newVerifier(t, cfg)
	key = newKey(t, elliptic.P384()).PublicKey
	cfg.Anchors[0].Implementation[0]++
	cfg.DenyInstances[0] = p.Instance
	if _, err := v.Verify(t.Context(), p.Token(ccatest.Realm{}, evidence.Binding{}), evidence.UncheckedBindingUnsafe()); err != nil {
		t.Error(err)
	}
}

func TestVerifyRefusesByAnchor(t *testing.T) {
	p, want := ccatest.NewPlatform(), bindingOf(t, []byte("x"))
	stranger := ccatest.NewPlatform()
	for _, tt := range []struct {
		claim  string
		cfg    func(*cca.Config)
		reason evidence.Reason
		check  string
	}{
		{"an anchor of another instance", func(c *cca.Config) { c.Anchors[0] = stranger.Anchor() }, evidence.Untrusted, "anchor"},
		{"an anchor of another implementation", func(c *cca.Config) { c.Anchors[0].Implementation[31]++ }, evidence.Untrusted, "anchor"},
		{"zero is no wildcard", func(c *cca.Config) { c.Anchors[0].Implementation = cca.ImplementationID{} }, evidence.Untrusted, "anchor"},
		{"another key", func(c *cca.Config) { c.Anchors[0].Key = &stranger.Key.PublicKey }, evidence.BadSignature, "platform-signature"},
		{"a denied instance", func(c *cca.Config) { c.DenyInstances = []cca.InstanceID{p.Instance} }, evidence.Revoked, "revocation"},
		{"a denied key", func(c *cca.Config) { c.DenyKeys = [][32]byte{spki(t, &p.Key.PublicKey)} }, evidence.Revoked, "revocation"},
		{"a key not yet valid", func(c *cca.Config) { c.Anchors[0].NotBefore = simulatedNow().Add(1) }, evidence.Stale, "validity"},
		{"a key valid no more", func(c *cca.Config) { c.Anchors[0].NotAfter = simulatedNow().Add(-1) }, evidence.Stale, "validity"},
		{"others are denied", func(c *cca.Config) {
			c.DenyInstances, c.DenyKeys = []cca.InstanceID{stranger.Instance}, [][32]byte{spki(t, &stranger.Key.PublicKey)}
		}, "", ""},
	} {
		cfg := cca.Config{Anchors: []cca.Anchor{p.Anchor()}}
		tt.cfg(&cfg)
		got, err := newVerifier(t, cfg).Verify(t.Context(), p.Token(ccatest.Realm{}, want), want)
		if tt.reason == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.claim, err)
			}
			continue
		}
		wantRefused(t, got, err, tt.reason, tt.check)
	}
}

func spki(t testing.TB, key *ecdsa.PublicKey) [32]byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return [32]byte(sum256(der))
}

func FuzzParseAnchors(f *testing.F) {
	p := ccatest.NewPlatform()
	f.Add([]byte(anchorFile(f, p, "")))
	f.Add([]byte(anchorFile(f, p, `,"not-after":"2026-01-01T00:00:00Z"`)))
	f.Fuzz(func(t *testing.T, file []byte) {
		anchors, err := cca.ParseAnchors(file)
		if err != nil || len(anchors) == 0 {
			return
		}
		for _, a := range anchors {
			if _, err := cca.NewVerifier(cca.Config{Anchors: []cca.Anchor{a}}); err != nil && a.Instance[0] == 1 && a.NotAfter.IsZero() {
				t.Errorf("parsed, and then refused: %v", err)
			}
		}
	})
}

func FuzzParseKey(f *testing.F) {
	key := newKey(f, elliptic.P384())
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if key, err := cca.ParseKey(data); (key == nil) != (err != nil) {
			t.Errorf("%v beside %v", key, err)
		}
	})
}
