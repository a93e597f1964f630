package tdx_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509/pkix"
	"maps"
	"math/big"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/der"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// reissue makes a simulation have another certificate of each kind.
var reissue = map[string]func(*simulated, func(*tdxtest.Certificate)){
	"PCK": (*simulated).leaf,
	"CA":  (*simulated).ca,
	"TCB signer": func(s *simulated, edit func(*tdxtest.Certificate)) {
		for _, d := range signedDocuments() {
			d.signer(edit)(s)
		}
	},
}

// root makes the quote and both documents have another certificate of the root,
// which is pinned.
func (s *simulated) root(edit func(*tdxtest.Certificate)) {
	root := s.intel.Certificate(tdxtest.Root, edit)
	s.cfg.Anchors = [][]byte{root}
	s.chain(s.platform.Certificate(nil), s.intel.Certificate(tdxtest.PlatformCA, nil), root)
	for _, d := range signedDocuments() {
		s.set[d.name(s)][0].Issuer = tdxtest.PEM(s.intel.Certificate(tdxtest.TCBSigning, nil), root)
	}
}

// A result holds until the first certificate expires, if that is before collateral
// has to be replaced.
func TestNotAfterIsOfTheFirstToExpire(t *testing.T) {
	n, soon := newSimulatedIntel(), simulatedNow().Add(hours(1))
	all := maps.Clone(reissue)
	all["root"] = (*simulated).root
	for name, again := range all {
		s := simulate(n, tdx.PlatformCA)
		again(s, func(c *tdxtest.Certificate) { c.NotAfter = soon })
		got, err := s.verify(t)
		if err != nil {
			t.Fatal(err)
		}
		if !got.NotAfter.Equal(soon) {
			t.Errorf("%s: holds until %v", name, got.NotAfter)
		}
	}
}

// Certificates that the right issuer signed, for another purpose or of another form.
func TestVerifyRefusesProfiles(t *testing.T) {
	const keyUsage, basicConstraints = 3, 4 // of the extensions
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	usage := func(bits byte) func(*tdxtest.Certificate) {
		return func(c *tdxtest.Certificate) { c.Extensions[keyUsage] = der.KeyUsage(bits) }
	}
	named := func(attribute int, value string) func(*tdxtest.Certificate) {
		return func(c *tdxtest.Certificate) {
			c.Subject[attribute] = pkix.RelativeDistinguishedNameSET{{Type: c.Subject[attribute][0].Type, Value: value}}
		}
	}
	forms := map[string]func(*tdxtest.Certificate){
		"no basic constraints": func(c *tdxtest.Certificate) { c.Extensions = c.Extensions[:basicConstraints] },
		"a critical extension": func(c *tdxtest.Certificate) {
			c.Extensions = append(c.Extensions, der.Extension("1.2.3", true, []byte{5, 0}))
		},
		"no usage of the key": func(c *tdxtest.Certificate) {
			c.Extensions = append(c.Extensions[:keyUsage:keyUsage], c.Extensions[basicConstraints:]...)
		},
		"certificates and data": usage(0x84),
	}
	// Of a CA these would have the PCK name another issuer, or have another key.
	names := map[string]func(*tdxtest.Certificate){
		"another common name":  named(0, "Intel SGX Root  CA"),
		"another organization": named(1, "Another Corporation"),
		"no country":           func(c *tdxtest.Certificate) { c.Subject = c.Subject[:4] },
		"a second common name": func(c *tdxtest.Certificate) { c.Subject = append(c.Subject, c.Subject[0]) },
		"a key on P-384":       func(c *tdxtest.Certificate) { c.Key = &p384.PublicKey },
	}
	signer := maps.Clone(forms)
	maps.Copy(signer, names)
	maps.Copy(signer, map[string]func(*tdxtest.Certificate){
		"a CA by its constraints": func(c *tdxtest.Certificate) {
			c.Extensions[basicConstraints].Value = der.Encode(struct{ IsCA bool }{true})
		},
		"no digital signature": usage(0x40),
		"a CA by its usage":    usage(0xC4),
		"a signer of lists":    usage(0xC2),
	})
	ca := maps.Clone(forms)
	maps.Copy(ca, map[string]func(*tdxtest.Certificate){
		"no CA by its constraints": func(c *tdxtest.Certificate) { c.Extensions[basicConstraints].Value = []byte{0x30, 0} },
		"no list signing":          usage(0x04),
		"digital signature too":    usage(0x86),
	})
	n := newSimulatedIntel()
	for _, c := range []struct {
		of     string
		forms  map[string]func(*tdxtest.Certificate)
		reason evidence.Reason
		check  string
	}{
		{"PCK", signer, evidence.Untrusted, "profile"},
		{"CA", ca, evidence.Untrusted, "profile"},
		{"TCB signer", signer, evidence.Unavailable, "tcb"},
	} {
		for claim, edit := range c.forms {
			t.Run(c.of+": "+claim, func(t *testing.T) {
				s := simulate(n, tdx.PlatformCA)
				reissue[c.of](s, edit)
				got, err := s.verify(t)
				wantRefused(t, got, err, c.reason, c.check)
			})
		}
	}
	maps.Copy(ca, names)
	for claim, edit := range ca {
		if v, err := tdx.NewVerifier(tdx.Config{Anchors: [][]byte{n.Certificate(tdxtest.Root, edit)}, Source: tdxtest.Set{}}); err == nil || v != nil {
			t.Errorf("root: %s: %v", claim, err)
		}
	}
}

// Revocation is looked up by issuer, and where it is skipped the result says so.
func TestRevocationIsOfOneIssuer(t *testing.T) {
	n := newSimulatedIntel()
	lists := func(s *simulated, root, pck *big.Int) {
		s.list(tdx.RootCRLName(), tdxtest.CRL{Revoked: []*big.Int{root}})
		s.list(s.listName(), tdxtest.CRL{By: tdxtest.PlatformCA, Revoked: []*big.Int{pck}})
	}
	pck := func(s *simulated) *big.Int { return new(big.Int).SetBytes(s.platform.PCK.Serial) }
	s := simulate(n, tdx.PlatformCA)
	lists(s, pck(s), serialOf(n, tdxtest.PlatformCA)) // each on the other's list
	if _, err := s.verify(t); err != nil {
		t.Errorf("serial numbers on the other's list: %v", err)
	}
	lists(s, serialOf(n, tdxtest.TCBSigning), big.NewInt(7))
	got, err := s.verify(t)
	wantRefused(t, got, err, evidence.Revoked, "tcb")
	lists(s, serialOf(n, tdxtest.PlatformCA), pck(s))
	s.cfg.SkipRevocationUnsafe = true
	got, err = s.verify(t)
	if err != nil || len(got.Skipped) != 1 || got.Skipped[0] != "revocation" {
		t.Errorf("without revocation: %v", err)
	}
}
