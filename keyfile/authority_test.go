package keyfile_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/teebroker/teebroker/keyfile"
)

func newAuthority(domain string, notAfter time.Time) keyfile.Authority {
	k := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: notAfter.Add(-time.Hour), NotAfter: notAfter}
	return keyfile.Authority{
		TrustDomain: domain, X509: k, Certificate: must(x509.CreateCertificate(rand.Reader, t, t, k.Public(), k)),
		JWT: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
	}
}

// The last one that was added signs; those that are over are forgotten.
func TestAuthorities(t *testing.T) {
	path, now := filepath.Join(t.TempDir(), "keys"), time.Unix(1_000_000, 0)
	f := newFile(t)
	old, first, second := newAuthority("example.org", now), newAuthority("example.org", now.Add(time.Hour)), newAuthority("example.org", now.Add(2*time.Hour))
	other := newAuthority("example.com", now.Add(time.Hour))
	if err := errors.Join(f.AddAuthority(old, now), f.AddAuthority(first, now), f.AddAuthority(other, now), f.Create(path)); err != nil {
		t.Fatal(err)
	}
	f = must(keyfile.Read(path))
	if as := must(f.Authorities("example.org")); len(as) != 2 || !as[0].X509.Equal(first.X509) || !as[0].JWT.Equal(first.JWT) ||
		!bytes.Equal(as[0].Certificate, first.Certificate) || !as[1].X509.Equal(old.X509) {
		t.Errorf("%d authorities", len(as))
	}
	if err := errors.Join(f.AddAuthority(second, now.Add(time.Minute)), f.Replace(path)); err != nil {
		t.Fatal(err)
	}
	f = must(keyfile.Read(path))
	if as := must(f.Authorities("example.org")); len(as) != 2 || !as[0].X509.Equal(second.X509) || !as[1].X509.Equal(first.X509) {
		t.Errorf("%d authorities", len(as))
	}
	if as := must(f.Authorities("example.com")); len(as) != 1 || !as[0].X509.Equal(other.X509) {
		t.Errorf("%d authorities of another domain", len(as))
	}
	if as := must(f.Authorities("none")); len(as) != 0 {
		t.Errorf("%d authorities of none", len(as))
	}
	for name, edit := range map[string]func(*keyfile.Authority){
		"no domain":              func(a *keyfile.Authority) { a.TrustDomain = "" },
		"no key":                 func(a *keyfile.Authority) { a.X509 = nil },
		"another key":            func(a *keyfile.Authority) { a.X509 = first.X509 },
		"a key on another curve": func(a *keyfile.Authority) { a.JWT = first.X509 },
		"no certificate":         func(a *keyfile.Authority) { a.Certificate = nil },
	} {
		a := newAuthority("example.org", now.Add(time.Hour))
		edit(&a)
		if err := f.AddAuthority(a, now); !errors.Is(err, keyfile.ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := must(os.ReadFile(path))
	for _, member := range []string{"trust_domain", "x509", "certificate", "jwt"} {
		var j map[string]any
		if err := json.Unmarshal(good, &j); err != nil {
			t.Fatal(err)
		}
		delete(j["authorities"].([]any)[1].(map[string]any), member)
		if _, err := keyfile.Parse(must(json.Marshal(j))); !errors.Is(err, keyfile.ErrFile) {
			t.Errorf("without %s: %v", member, err)
		}
	}
}
