package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
)

// Links in a folder lead nowhere, as for all endorsements.
func TestLinkedAnchors(t *testing.T) {
	f := simulateRealm(t, ccatest.NewPlatform(), ccatest.Realm{})
	dir := t.TempDir()
	for name, target := range map[string]string{"anchors.json": f.anchors, "nowhere": filepath.Join(dir, "x")} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	got, a := ask(t, "-endorsements", dir, f.token)
	want(t, got, a, "untrusted", "anchor")
}

// The tool admits the profiles that a specification has together and that are not
// second-hand, in both forms of the collection.
func TestProfiles(t *testing.T) {
	p := ccatest.NewPlatform()
	for _, pair := range ccatest.AllProfiles() {
		for _, form := range []ccatest.Form{ccatest.CMW, ccatest.Tag399} {
			f := simulateRealm(t, p, ccatest.Realm{Profiles: pair, Form: form})
			got, a := ask(t, "-endorsements", f.anchors, f.token)
			if pair == ccatest.Mixed || pair >= ccatest.P2026 {
				want(t, got, a, "unsupported", "profile")
			} else if got != 0 || a.Claims["cca.platform_profile"] != pair.Platform() {
				t.Errorf("%v: status %d, %s", pair, got, a.Detail)
			}
		}
	}
}

// folderWith returns a folder with content in a file, among files that mean nothing.
func folderWith(t *testing.T, content []byte) string {
	t.Helper()
	file := write(t, "anchors", content)
	dir := filepath.Dir(file)
	for name, other := range map[string]string{"notes.txt": "nothing", "list.json": `["nothing"]`, "empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(other), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// realm is what a person has of a simulated realm.
type realm struct{ token, key, anchors string }

func simulateRealm(t *testing.T, p *ccatest.Platform, r ccatest.Realm) realm {
	t.Helper()
	data, err := evidence.NewBinding(signedFor)
	if err != nil {
		t.Fatal(err)
	}
	return realm{
		token:   write(t, "token.cbor", p.Token(r, data).Raw),
		key:     write(t, "cpak.pem", publicPEM(t, &p.Key.PublicKey)),
		anchors: write(t, "anchors.json", jwks(t, p, nil)),
	}
}

func publicPEM(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// jwks returns the list of p alone, with members added.
func jwks(t *testing.T, p *ccatest.Platform, more map[string]any) []byte {
	t.Helper()
	point, err := p.Key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	size := (len(point) - 1) / 2
	entry := map[string]any{
		"instance-id": p.Instance.String(), "implementation-id": p.Implementation.String(),
		"pkey": map[string]string{"kty": "EC", "crv": "P-384", "x": base64.RawURLEncoding.EncodeToString(point[1 : 1+size]), "y": base64.RawURLEncoding.EncodeToString(point[1+size:])},
	}
	for name, value := range more {
		entry[name] = value
	}
	b, err := json.Marshal([]any{entry})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whom the tool believes, and until when.
func TestAnchors(t *testing.T) {
	p, other := ccatest.NewPlatform(), ccatest.NewPlatform()
	f, stranger := simulateRealm(t, p, ccatest.Realm{}), simulateRealm(t, other, ccatest.Realm{})
	window := func(from, to string) string {
		return write(t, "window.json", jwks(t, p, map[string]any{"not-before": from, "not-after": to}))
	}
	current := window("2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z")
	at := []string{"-at", "2025-06-01T00:00:00Z"}
	for _, test := range []struct {
		name          string
		args          []string
		reason, check string // "" is a yes
	}{
		{"a list", []string{"-endorsements", f.anchors}, "", ""},
		{"a key", []string{"-endorsements", f.key}, "", ""},
		{"a key among roots", []string{"-roots", f.key}, "", ""},
		{"list and key of the same", []string{"-endorsements", f.anchors + "," + f.key, "-roots", f.key}, "", ""},
		{"lists of two", []string{"-endorsements", stranger.anchors + "," + f.anchors}, "", ""},
		{"nobody", nil, "untrusted", "anchor"},
		{"nobody, and nothing asked that others have", []string{"-allow-no-revocation", "-allow-no-tcb"}, "untrusted", "anchor"},
		{"the list of another", []string{"-endorsements", stranger.anchors}, "untrusted", "anchor"},
		{"the key of another", []string{"-endorsements", stranger.key}, "bad-signature", "platform-signature"},
		{"another implementation", []string{"-endorsements", write(t, "x.json", jwks(t, p, map[string]any{"implementation-id": strings.Repeat("07", 32)}))}, "untrusted", "anchor"},
		{"a window", append(at, "-endorsements", current), "", ""},
		{"a window that is over", []string{"-at", "2026-01-01T00:00:01Z", "-endorsements", current}, "stale", "validity"},
		{"a window to come", []string{"-at", "2024-12-31T23:59:59Z", "-endorsements", current}, "stale", "validity"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, a := ask(t, append(test.args, "-binding", hex.EncodeToString(signedFor), f.token)...)
			if test.reason != "" {
				want(t, got, a, test.reason, test.check)
				return
			}
			if got != 0 || a.Binding != "ok" {
				t.Errorf("status %d, %+v", got, a)
			}
		})
	}
}

// What can't be read, or can't be told apart, is no answer.
func TestUnusableAnchors(t *testing.T) {
	p := ccatest.NewPlatform()
	f := simulateRealm(t, p, ccatest.Realm{})
	stranger := simulateRealm(t, ccatest.NewPlatform(), ccatest.Realm{})
	bounded := write(t, "bounded", jwks(t, p, map[string]any{"not-after": "2099-01-01T00:00:00Z"}))
	weak := publicPEM(t, &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537})
	for _, test := range []struct {
		name string
		args []string
		says string
	}{
		{"a list of something else", []string{"-endorsements", write(t, "list", []byte(`["x"]`))}, "anchors"},
		{"a list with a private key", []string{"-endorsements", write(t, "list", bytes.Replace(readFile(t, f.anchors), []byte(`"kty"`), []byte(`"d":"AA","kty"`), 1))}, "anchors"},
		{"a key of RSA", []string{"-endorsements", write(t, "key", weak)}, "key"},
		{"a key of RSA among roots", []string{"-roots", write(t, "key", weak)}, "key"},
		{"two keys for one instance", []string{"-endorsements", f.key + "," + stranger.key}, "already"},
		{"a key without an end and the same with one", []string{"-endorsements", f.key + "," + bounded}, "already"},
		{"a root that is no CA", []string{"-roots", write(t, "leaf", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certified(t, p, time.Now())[0]}))}, "CA"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			got := run(append(append([]string{"-json"}, test.args...), f.token), &stdout, &stderr)
			if got != 2 || stdout.Len() > 0 || !strings.Contains(stderr.String(), test.says) {
				t.Errorf("status %d, %q, %q; want %q", got, stdout.String(), stderr.String(), test.says)
			}
		})
	}
}

func certified(t *testing.T, p *ccatest.Platform, now time.Time) [][]byte {
	t.Helper()
	return ccatest.NewVendor(now).Certify(&p.Key.PublicKey, now, ccatest.Certificate{})
}

// A vendor's CA in -roots vouches for platforms that bring certificates, among the
// roots of other TEEs, which do not.
func TestVendorOfCCA(t *testing.T) {
	now := time.Now()
	maker := ccatest.NewVendor(now)
	p := ccatest.NewPlatform()
	p.Chain = maker.Certify(&p.Key.PublicKey, now, ccatest.Certificate{})
	f := simulateRealm(t, p, ccatest.Realm{})
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: maker.Authority().Certificate})
	stranger := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ccatest.NewVendor(now).Authority().Certificate})
	others := rootsOf(vendor())
	for _, test := range []struct {
		name          string
		roots         []byte
		at            time.Time
		reason, check string // "" is a yes
	}{
		{"the vendor", ca, now, "", ""},
		{"among others", append(bytes.Clone(others), ca...), now, "", ""},
		{"a stranger", stranger, now, "untrusted", "anchor"},
		{"AMD", others, now, "untrusted", "anchor"},
		{"the vendor later", ca, now.AddDate(2, 0, 0), "stale", "validity"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, a := ask(t, "-roots", write(t, "roots.pem", test.roots), "-at", test.at.UTC().Format(time.RFC3339), f.token)
			if test.reason != "" {
				want(t, got, a, test.reason, test.check)
				return
			}
			if got != 0 || !a.Authentic {
				t.Errorf("status %d, %+v", got, a)
			}
		})
	}
	p.Chain = certifiedBy(t, "ARK-Turin", p)
	got, a := ask(t, "-roots", write(t, "roots.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Chain[1]})), simulateRealm(t, p, ccatest.Realm{}).token)
	want(t, got, a, "untrusted", "anchor") // another TEE's vouches for no platform of CCA
	p.Chain = certifiedBy(t, "Turin", p)
	got, a = ask(t, "-roots", write(t, "roots.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Chain[1]})), simulateRealm(t, p, ccatest.Realm{}).token)
	if got != 0 {
		t.Errorf("a CA of any other name: status %d, %s", got, a.Detail)
	}
	got, a = ask(t, "-roots", write(t, "roots.pem", ca), "-endorsements", f.anchors, f.token)
	want(t, got, a, "untrusted", "anchor") // a listed instance brings no certificates
}

// certifiedBy returns a certificate of p's key, and that of the CA called name that
// issued it.
func certifiedBy(t *testing.T, name string, p *ccatest.Platform) [][]byte {
	t.Helper()
	ca := ccatest.NewPlatform().Key
	year := func(c x509.Certificate) *x509.Certificate {
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().AddDate(0, 0, -1), time.Now().AddDate(1, 0, 0)
		return &c
	}
	issuer := year(x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	leaf := year(x509.Certificate{Subject: pkix.Name{CommonName: "a CPAK"}, KeyUsage: x509.KeyUsageDigitalSignature})
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, issuer, &p.Key.PublicKey, ca)
	if err != nil {
		t.Fatal(err)
	}
	issuerDER, err := x509.CreateCertificate(rand.Reader, issuer, issuer, &ca.PublicKey, ca)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{leafDER, issuerDER}
}

// A policy document judges a realm: the same one, and on a platform under debug.
func TestPolicyOfRealm(t *testing.T) {
	p := ccatest.NewPlatform()
	zero := strings.Repeat("00", 32)
	document := write(t, "policy.json", fmt.Appendf(nil, `{
		"policy": "teebroker/1", "name": "realm", "version": "1", "scope": "global",
		"require": {"cca-token": [{
			"rims": "*", "rem0": [%q], "rem1": "*", "rem2": "*", "rem3": "*", "rpvs": "*", "realm_hashes": ["sha-256"], "mec_policies": "*",
			"allow_any_platform": true, "implementations": "*", "instances": [%q]
		}]}}`, zero, p.Instance))
	for _, test := range []struct {
		name      string
		lifecycle cca.Lifecycle
		miss      string // the claim that is not acceptable, or "" for a yes
	}{
		{"secured", p.Lifecycle, ""},
		{"debug", 0x4000, "cca.lifecycle_state"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.Lifecycle = test.lifecycle
			f := simulateRealm(t, p, ccatest.Realm{})
			got, a := ask(t, "-endorsements", f.key, "-binding", hex.EncodeToString(signedFor), "-policy", document, f.token)
			if test.miss == "" {
				if got != 0 || a.Accepted == nil || !*a.Accepted {
					t.Errorf("status %d, %+v", got, a.Mismatches)
				}
				return
			}
			if got != 1 || a.Accepted == nil || *a.Accepted || !a.Authentic || len(a.Mismatches) != 1 || a.Mismatches[0].Claim != test.miss {
				t.Errorf("status %d, %+v", got, a.Mismatches)
			}
		})
	}
}

// People are told which instance a token names, also if nothing vouches for it.
func TestTokenHearsay(t *testing.T) {
	p := ccatest.NewPlatform()
	f := simulateRealm(t, p, ccatest.Realm{})
	got, text := say(t, f.token)
	for _, part := range []string{"NOT GENUINE Arm CCA token", "nothing vouches for it", "cca.instance_id", p.Instance.String()} {
		if got != 1 || !strings.Contains(text, part) {
			t.Errorf("status %d, no %q in:\n%s", got, part, text)
		}
	}
}

// Tokens that are cut short, extended or changed anywhere are a no, and so is
// something else under the tag of a collection.
func TestNoToken(t *testing.T) {
	p := ccatest.NewPlatform()
	f := simulateRealm(t, p, ccatest.Realm{})
	token := readFile(t, f.token)
	changed := func(at int) []byte {
		b := bytes.Clone(token)
		b[at] ^= 0x10
		return b
	}
	for name, raw := range map[string][]byte{
		"tag alone": token[:3], "cut short": token[:len(token)-1], "trailing byte": append(bytes.Clone(token), 0),
		"noise": append(bytes.Clone(token[:3]), bytes.Repeat([]byte{0xa7}, 300)...), "too large": append(bytes.Clone(token[:3]), make([]byte, 1<<17)...),
		"first": changed(4), "in the middle": changed(len(token) / 2), "last": changed(len(token) - 1),
	} {
		if got, a := ask(t, "-endorsements", f.key, write(t, "token", raw)); got != 1 || a.Authentic || a.Format != "cca" || a.Reason == "" {
			t.Errorf("%s: status %d, %+v", name, got, a)
		}
	}
}
