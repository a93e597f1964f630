package ekca_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/ekca"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

func now() time.Time { return time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC) }

func model() ekca.Model {
	return ekca.Model{Manufacturer: "id:00000000", Name: "vTPM", Version: "id:00010002"}
}

var tpms = sync.OnceValue(func() map[string]*vtpmtest.TPM {
	return map[string]*vtpmtest.TPM{"ECC": vtpmtest.NewTPM(vtpmtest.ECC, nil, nil), "RSA": vtpmtest.NewTPM(vtpmtest.RSA, nil, nil)}
})

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func config(t testing.TB, signer crypto.Signer) ekca.Config {
	t.Helper()
	root, err := ekca.NewRoot(signer, "EKs of acme", now().Add(-time.Hour), now().AddDate(1, 0, 0))
	check(t, err)
	return ekca.Config{Signer: signer, Root: root, Life: 24 * time.Hour, Model: model(), Time: now}
}

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

func area(t testing.TB, d vtpmtest.Device) []byte {
	t.Helper()
	ek, err := vtpm.ParsePublic(d.EK())
	check(t, err)
	return ek.Area()
}

func rootDER(t testing.TB, c *ekca.CA) []byte {
	t.Helper()
	block, rest := pem.Decode(c.Root())
	if block == nil || len(rest) > 0 {
		t.Fatalf("%q", c.Root())
	}
	return block.Bytes
}

// Certificates are as the profile has them, and vtpm takes a TPM for what they say, as
// long as they say it.
func TestIssue(t *testing.T) {
	c, err := ekca.New(config(t, p256(t)))
	check(t, err)
	for name, d := range tpms() {
		der, err := c.Issue(area(t, d))
		check(t, err)
		cert, err := x509.ParseCertificate(der)
		check(t, err)
		usage := map[string]x509.KeyUsage{"RSA": x509.KeyUsageKeyEncipherment, "ECC": x509.KeyUsageKeyAgreement}[name]
		if cert.KeyUsage != usage || cert.IsCA || !cert.BasicConstraintsValid || len(cert.Subject.Names) != 0 || len(cert.ExtKeyUsage) != 0 ||
			len(cert.UnknownExtKeyUsage) != 1 || !cert.UnknownExtKeyUsage[0].Equal(asn1.ObjectIdentifier{2, 23, 133, 8, 1}) || len(cert.AuthorityKeyId) == 0 {
			t.Errorf("%s: %+v", name, cert)
		}
		if !cert.NotBefore.Equal(now().Add(-5*time.Minute)) || !cert.NotAfter.Equal(now().Add(24*time.Hour)) || cert.SerialNumber.BitLen() < 100 || cert.SerialNumber.Sign() <= 0 {
			t.Errorf("%s: %v to %v, serial %v", name, cert.NotBefore, cert.NotAfter, cert.SerialNumber)
		}
		if len(cert.UnhandledCriticalExtensions) != 1 || !cert.UnhandledCriticalExtensions[0].Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			t.Errorf("%s: critical %v", name, cert.UnhandledCriticalExtensions)
		}
		for _, text := range []string{"\x0c\x0bid:00000000", "\x0c\x04vTPM", "\x0c\x0bid:00010002"} { // UTF8Strings
			if !bytes.Contains(der, []byte(text)) {
				t.Errorf("%s: has no %q", name, text)
			}
		}
		again, err := c.Issue(area(t, d))
		check(t, err)
		if other, err := x509.ParseCertificate(again); err != nil || other.SerialNumber.Cmp(cert.SerialNumber) == 0 {
			t.Errorf("%s: one serial number twice, %v", name, err)
		}
		verify(t, rootDER(t, c), d, der)
	}
}

type noPlatform struct{}

func (noPlatform) Verify(context.Context, evidence.Evidence, evidence.Binding) (*evidence.Verified, error) {
	return nil, errors.New("asked")
}

// verify has vtpm verify a quote of d with a certificate, and after its time.
func verify(t *testing.T, root []byte, d *vtpmtest.TPM, der []byte) {
	t.Helper()
	want, err := evidence.NewBinding(bytes.Repeat([]byte{7}, 32))
	check(t, err)
	raw, pcrs := d.Quote(vtpmtest.Quote{}, want)
	ev := evidence.Evidence{Format: vtpm.Format, Raw: raw, Items: []evidence.Item{
		{Type: vtpm.PCRs, Data: pcrs}, {Type: vtpm.AK, Data: d.AK()}, {Type: vtpm.EK, Data: d.EK()}, {Type: vtpm.EKCertificate, Data: der},
	}}
	for at, ok := range map[time.Duration]bool{0: true, -time.Minute: true, 23 * time.Hour: true, 25 * time.Hour: false, -time.Hour: false} {
		v, err := vtpm.NewVerifier(vtpm.Config{
			Platform: noPlatform{}, AKs: vtpmtest.AKs{d}, EKRoots: [][]byte{root}, Time: func() time.Time { return now().Add(at) },
		})
		check(t, err)
		got, err := v.Verify(t.Context(), ev, want)
		if (err == nil) != ok || !ok && !errors.Is(err, evidence.Stale) {
			t.Errorf("after %v: %v", at, err)
		}
		if ok && !got.NotAfter.Equal(now().Add(24*time.Hour)) {
			t.Errorf("not after %v", got.NotAfter)
		}
	}
}

// Other keys sign as well, and a certificate is never valid longer than the root.
func TestKeys(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(t, err)
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	for _, signer := range []crypto.Signer{p384, big} {
		cfg := config(t, signer)
		cfg.Root, err = ekca.NewRoot(signer, "short", now().Add(-time.Minute), now().Add(time.Hour))
		check(t, err)
		c, err := ekca.New(cfg)
		check(t, err)
		der, err := c.Issue(area(t, tpms()["ECC"]))
		check(t, err)
		cert, err := x509.ParseCertificate(der)
		check(t, err)
		if !cert.NotBefore.Equal(now().Add(-time.Minute)) || !cert.NotAfter.Equal(now().Add(time.Hour)) {
			t.Errorf("%v to %v", cert.NotBefore, cert.NotAfter)
		}
		for _, at := range []time.Duration{-2 * time.Minute, time.Hour} {
			cfg.Time = func() time.Time { return now().Add(at) }
			late, err := ekca.New(cfg)
			check(t, err)
			if _, err := late.Issue(area(t, tpms()["ECC"])); err == nil {
				t.Errorf("with a root that is not valid, %v", at)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	good := config(t, p256(t))
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	check(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	leaf := func() []byte {
		c, err := ekca.New(good)
		check(t, err)
		der, err := c.Issue(area(t, tpms()["ECC"]))
		check(t, err)
		return der
	}()
	for name, edit := range map[string]func(*ekca.Config){
		"no signer":             func(c *ekca.Config) { c.Signer = nil },
		"a signer on P-521":     func(c *ekca.Config) { c.Signer = p521 },
		"another signer":        func(c *ekca.Config) { c.Signer = p256(t) },
		"a signer of Ed25519":   func(c *ekca.Config) { c.Signer = edwards },
		"no root":               func(c *ekca.Config) { c.Root = nil },
		"a leaf":                func(c *ekca.Config) { c.Root = leaf },
		"no life":               func(c *ekca.Config) { c.Life = 0 },
		"a long life":           func(c *ekca.Config) { c.Life = 8 * 24 * time.Hour },
		"no model":              func(c *ekca.Config) { c.Model = ekca.Model{} },
		"a maker in lower case": func(c *ekca.Config) { c.Model.Manufacturer = "id:abcdef01" },
		"a name of 65":          func(c *ekca.Config) { c.Model.Name = strings.Repeat("x", 65) },
		"no version":            func(c *ekca.Config) { c.Model.Version = "1.2" },
	} {
		bad := good
		edit(&bad)
		if _, err := ekca.New(bad); !errors.Is(err, ekca.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"no signer":          second(ekca.NewRoot(nil, "x", now(), now().Add(1))),
		"Ed25519":            second(ekca.NewRoot(edwards, "x", now(), now().Add(1))),
		"no name":            second(ekca.NewRoot(good.Signer, "", now(), now().Add(1))),
		"never valid":        second(ekca.NewRoot(good.Signer, "x", now(), now())),
		"a key of no secret": second(ekca.DeriveKey([32]byte{}, "acme")),
		"a key of no tenant": second(ekca.DeriveKey([32]byte{1}, "")),
	} {
		if !errors.Is(err, ekca.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := ekca.New(good)
	check(t, err)
	ek := area(t, tpms()["ECC"])
	for name, bad := range map[string][]byte{
		"nothing": nil, "with its size": tpms()["ECC"].EK(), "cut": ek[:len(ek)-1], "an AK": tpms()["ECC"].AK()[2:], "long": append(slices.Clone(ek), make([]byte, 1<<17)...),
	} {
		if der, err := c.Issue(bad); err == nil {
			t.Errorf("%s: %x", name, der)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A tenant has a key of its own, always the same, and so a root.
func TestDeriveKey(t *testing.T) {
	key := func(secret byte, tenant string) *ecdsa.PrivateKey {
		k, err := ekca.DeriveKey([32]byte{secret}, tenant)
		check(t, err)
		return k
	}
	same := key(1, "acme")
	if !same.Equal(key(1, "acme")) || same.Equal(key(2, "acme")) || same.Equal(key(1, "acme2")) {
		t.Error("keys are not those of secret and tenant")
	}
	if a, b := config(t, same), config(t, same); !bytes.Equal(a.Root, b.Root) {
		t.Error("two roots of one key")
	}
}

func ExampleCA() {
	signer, err := ekca.DeriveKey([32]byte{1}, "acme")
	if err != nil {
		fmt.Println(err)
		return
	}
	root, err := ekca.NewRoot(signer, "EKs of acme", now(), now().AddDate(10, 0, 0))
	if err != nil {
		fmt.Println(err)
		return
	}
	ca, err := ekca.New(ekca.Config{
		Signer: signer, Root: root, Life: 12 * time.Hour, Time: now,
		Model: ekca.Model{Manufacturer: "id:00000000", Name: "vTPM", Version: "id:00000000"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ek, err := vtpm.ParsePublic(vtpmtest.NewTPM(vtpmtest.ECC, nil, nil).EK()) // that was attested
	if err != nil {
		fmt.Println(err)
		return
	}
	der, err := ca.Issue(ek.Area())
	if err != nil {
		fmt.Println(err)
		return
	}
	cert, err := x509.ParseCertificate(der)
	fmt.Println(cert.Issuer, cert.NotAfter, err)
	// Output:
	// CN=EKs of acme 2026-11-02 00:00:00 +0000 UTC <nil>
}

func FuzzIssue(f *testing.F) {
	c, err := ekca.New(config(f, p256(f)))
	check(f, err)
	for _, d := range tpms() {
		f.Add(area(f, d))
	}
	f.Fuzz(func(t *testing.T, public []byte) {
		der, err := c.Issue(public)
		if err != nil {
			return
		}
		if _, err := x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkIssue(b *testing.B) {
	c, err := ekca.New(config(b, p256(b)))
	check(b, err)
	ek := area(b, tpms()["ECC"])
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Issue(ek); err != nil {
			b.Fatal(err)
		}
	}
}
