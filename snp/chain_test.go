package snp_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

func TestAMDAnchors(t *testing.T) {
	as := snp.AMD()
	if len(as) != 3 {
		t.Fatalf("%d anchors", len(as))
	}
	for i, want := range []struct {
		line       snp.Line
		ark        string // SHA-256
		ask, asvk  []byte // PEM of go-sev-guest: issuer, then ARK
		askSerial  string
		asvkSerial string
	}{
		{snp.Milan, "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd", trust.AskArkMilanVcekBytes, trust.AskArkMilanVlekBytes, "10001", "10101"},
		{snp.Genoa, "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1", trust.AskArkGenoaVcekBytes, trust.AskArkGenoaVlekBytes, "20002", "20101"},
		{snp.Turin, "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a", trust.AskArkTurinVcekBytes, trust.AskArkTurinVlekBytes, "30001", "30101"},
	} {
		got := as[i]
		if sum := sha256.Sum256(got.ARK); got.Line != want.line || hex.EncodeToString(sum[:]) != want.ark {
			t.Errorf("ARK of %v is %x", got.Line, sum)
		}
		for _, c := range []struct {
			name   string
			got    []byte
			chain  []byte
			serial string
		}{{"ASK", got.ASK, want.ask, want.askSerial}, {"ASVK", got.ASVK, want.asvk, want.asvkSerial}} {
			issuer, ark := blocks(t, c.chain)
			if !bytes.Equal(c.got, issuer) || !bytes.Equal(got.ARK, ark) {
				t.Errorf("%v: %s or ARK differ from those of go-sev-guest", got.Line, c.name)
			}
			if s := serialOf(t, c.got); s != c.serial {
				t.Errorf("%v: %s has serial number %s", got.Line, c.name, s)
			}
		}
	}
}

// serialOf returns the serial number of the certificate der in hexadecimal.
func serialOf(t *testing.T, der []byte) string {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c.SerialNumber.Text(16)
}

// blocks returns the DER of the two certificates in text.
func blocks(t *testing.T, text []byte) (issuer, ark []byte) {
	t.Helper()
	first, rest := pem.Decode(text)
	second, _ := pem.Decode(rest)
	if first == nil || second == nil {
		t.Fatal("no two PEM blocks")
	}
	return first.Bytes, second.Bytes
}

func TestAMDAnchorsAreFresh(t *testing.T) {
	clear(snp.AMD()[0].ARK)
	if bytes.Equal(snp.AMD()[0].ARK, make([]byte, len(snp.AMD()[0].ARK))) {
		t.Error("a caller can change the anchors")
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	a := simulatedAMD()
	genoa, milan := a.Anchors(snp.Genoa)[0], a.Anchors(snp.Milan)[0]
	with := func(edit func(*snp.Anchors)) func(*snp.Config) {
		return func(c *snp.Config) {
			x := genoa
			edit(&x)
			c.Anchors = []snp.Anchors{x}
		}
	}
	usage := func(bits byte) func(*snp.Config) { // of the ASK
		return with(func(x *snp.Anchors) {
			x.ASK = a.Resign(snp.Genoa, snptest.ARK, bytes.Clone(x.ASK), func(tbs []byte) []byte {
				usage := []byte{0x55, 0x1D, 0x0F, 0x01, 0x01, 0xFF, 0x04, 0x04, 0x03, 0x02}
				tbs[bytes.Index(tbs, usage)+len(usage)+1] = bits
				return tbs
			})
		})
	}
	for _, c := range []struct {
		field string
		edit  func(*snp.Config)
	}{
		{"Config.Anchors: ", func(c *snp.Config) { c.Anchors = nil }},
		{"Config.Source: ", func(c *snp.Config) { c.Source = nil }},
		{"Config.CacheSize: ", func(c *snp.Config) { c.CacheSize = -1 }},
		{"Config.Anchors[1].Line: ", func(c *snp.Config) { c.Anchors = []snp.Anchors{genoa, genoa} }},
		{"Config.Anchors[0].Line: ", with(func(x *snp.Anchors) { x.Line = 0 })},
		{"Config.Anchors[0].Line: ", with(func(x *snp.Anchors) { x.Line = 9 })},
		{"Config.Anchors[0].ARK: ", with(func(x *snp.Anchors) { x.Line = snp.Milan })},
		{"Config.Anchors[0].ARK: ", with(func(x *snp.Anchors) { x.ARK = nil })},
		{"Config.Anchors[0].ARK: ", with(func(x *snp.Anchors) { x.ARK = x.ASK })},
		{"Config.Anchors[0].ARK: ", with(func(x *snp.Anchors) { x.ARK = a.Resign(snp.Genoa, snptest.ASK, x.ARK, nil) })},
		{"Config.Anchors[0].ASK: ", with(func(x *snp.Anchors) { x.ASK = nil })},
		{"Config.Anchors[0].ASK: ", with(func(x *snp.Anchors) { x.ASK = x.ASVK })},
		{"Config.Anchors[0].ASK: ", with(func(x *snp.Anchors) { x.ASK = milan.ASK })},
		{"Config.Anchors[0].ASK: ", with(func(x *snp.Anchors) { x.ASK = a.Resign(snp.Genoa, snptest.ASK, x.ASK, nil) })},
		{"Config.Anchors[0].ASK: ", with(func(x *snp.Anchors) { x.ASK = append(bytes.Clone(x.ASK), 0) })},
		{"Config.Anchors[0].ASK: ", usage(0x80)}, // digitalSignature
		{"Config.Anchors[0].ASK: ", usage(0x06)}, // keyCertSign, and cRLSign too
		{"Config.Anchors[0].ASVK: ", with(func(x *snp.Anchors) { x.ASVK = nil })},
		{"Config.Anchors[0].ASVK: ", with(func(x *snp.Anchors) { x.ASVK = x.ASK })},
	} {
		cfg := snp.Config{Anchors: []snp.Anchors{genoa}, Source: files{}}
		c.edit(&cfg)
		v, err := snp.NewVerifier(cfg)
		if v != nil || err == nil || !strings.HasPrefix(err.Error(), "snp: "+c.field) {
			t.Errorf("got %v, want an error of %s", err, c.field)
		}
	}
}

func TestNewVerifierKeepsNoAnchors(t *testing.T) {
	s := simulate(snp.Genoa)
	v := newVerifier(t, s.cfg)
	clear(s.cfg.Anchors[0].ARK)
	clear(s.cfg.Anchors[0].ASK)
	clear(s.cfg.Anchors[0].ASVK)
	if _, err := v.Verify(t.Context(), s.evidence(t), bindingOf(t, "nonce and key")); err != nil {
		t.Error(err)
	}
}

// The clock of a Verifier without one is that of the machine: a certificate that
// is valid around now passes.
func TestTimeIsNowByDefault(t *testing.T) {
	s := simulate(snp.Genoa)
	s.cfg.Time, s.cfg.SkipRevocationUnsafe = nil, true
	issue(func(v *snptest.VEK) {
		v.Before, v.After = simulatedNow().AddDate(-4, 0, 0), simulatedNow().AddDate(13, 0, 0)
	})(s)
	got, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	if time.Since(got.CheckedAt).Abs() > time.Hour {
		t.Errorf("checked at %v", got.CheckedAt)
	}
}

func TestDifferentAnchorsAreDifferentRoots(t *testing.T) {
	s := simulate(snp.Milan)
	s.cfg.Anchors = simulatedAMD().Anchors(snp.Genoa)
	got, err := s.verify(t)
	wantRefused(t, got, err, evidence.Untrusted, "chain")
}
