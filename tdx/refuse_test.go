package tdx_test

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

func TestFakeIsAccepted(t *testing.T) {
	for _, c := range []struct {
		claim string
		edit  func(*fake)
	}{
		{"version 5, TD report 1.5", func(*fake) {}},
		{"version 5, TD report 1.0", func(f *fake) { f.bodyType = abi.BodyTD10 }},
		{"version 4", func(f *fake) { f.version = abi.V4 }},
		{"Processor CA", func(f *fake) { f.setCA(tdx.ProcessorCA) }},
		{"no authentication data", func(f *fake) { f.auth = nil }},
		{"much authentication data", func(f *fake) { f.auth = make([]byte, 65535) }},
		{"a member that Intel adds", func(f *fake) { f.info["more"] = object{"x": []any{1, nil}} }},
		{"FMSPC in upper case", func(f *fake) { f.info["fmspc"] = strings.ToUpper(f.info["fmspc"].(string)) }},
	} {
		t.Run(c.claim, func(t *testing.T) {
			f := newFake(t)
			c.edit(f)
			got := f.claims()
			if got.TCB.Status != tdx.UpToDate || got.PCK.CA != f.kind || got.Version() != f.version {
				t.Errorf("%s, %v, version %d", got.TCB.Status, got.PCK.CA, got.Version())
			}
		})
	}
}

// What the evidence may be refused for before the Source is asked.
func TestVerifyRefusesQuotes(t *testing.T) {
	for _, c := range []struct {
		claim  string
		quote  func(*fake) []byte
		reason evidence.Reason
		check  string
	}{
		{"another root", func(f *fake) []byte {
			q := newFake(f.t)
			return q.quote()
		}, evidence.Untrusted, "chain"},
		{"a CA that the root did not sign", func(f *fake) []byte {
			forged := newFake(f.t)
			f.ca, f.pck = forged.ca, forged.pck
			return f.quote()
		}, evidence.Untrusted, "chain"},
		{"a PCK that the CA did not sign", func(f *fake) []byte {
			forged := newFake(f.t)
			f.pck = forged.pck
			return f.quote()
		}, evidence.Untrusted, "chain"},
		{"a PCK that the root signed", func(f *fake) []byte {
			tmpl := leafTemplate(abi.NamePCK)
			tmpl.ExtraExtensions = []pkix.Extension{{Id: oid(abi.SGXExtension), Value: pckExtension(f.kind)}}
			f.pck = f.issue(f.root, tmpl)
			return f.quote()
		}, evidence.Untrusted, "chain"},
		{"a PCK that the TCB signer signed", func(f *fake) []byte {
			f.ca = f.signer
			f.setPCK(pckExtension(f.kind))
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a CA of another name", func(f *fake) []byte {
			f.ca = f.issue(f.root, caTemplate("Intel SGX PCK Another CA", 0))
			f.setPCK(pckExtension(f.kind))
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a CA that is none", func(f *fake) []byte {
			f.ca = f.issue(f.root, leafTemplate(abi.NamePlatformCA))
			f.setPCK(pckExtension(f.kind))
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a PCK of another name", func(f *fake) []byte {
			tmpl := leafTemplate(abi.NameTCBSigning)
			tmpl.ExtraExtensions = []pkix.Extension{{Id: oid(abi.SGXExtension), Value: pckExtension(f.kind)}}
			f.pck = f.issue(f.ca, tmpl)
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a PCK that is a CA", func(f *fake) []byte {
			tmpl := caTemplate(abi.NamePCK, 0)
			tmpl.ExtraExtensions = []pkix.Extension{{Id: oid(abi.SGXExtension), Value: pckExtension(f.kind)}}
			f.pck = f.issue(f.ca, tmpl)
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a PCK without the extension", func(f *fake) []byte {
			f.setPCK(nil)
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a PCK of the Processor CA with a platform instance", func(f *fake) []byte {
			f.setCA(tdx.ProcessorCA)
			f.setPCK(pckExtension(tdx.PlatformCA))
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"a PCK of the Platform CA without", func(f *fake) []byte {
			f.setPCK(pckExtension(tdx.ProcessorCA))
			return f.quote()
		}, evidence.Untrusted, "profile"},
		{"an enclave that the PCK did not sign", func(f *fake) []byte {
			f.pck.key = newKey(f.t)
			return f.quote()
		}, evidence.BadSignature, "qe-report"},
		{"an attestation key that the enclave did not report", func(f *fake) []byte {
			qe := make([]byte, abi.QEReportSize)
			return f.quoteWith(qe, f.sign(f.pck.key, qe), pemOf(f.pck, f.ca, f.root))
		}, evidence.Untrusted, "attestation-key"},
		{"an enclave that reported more than the key", func(f *fake) []byte {
			raw := f.quote()
			q := bytes.Index(raw, f.qe[:abi.QEReportData])
			qe := bytes.Clone(raw[q : q+abi.QEReportSize])
			qe[abi.QEReportSize-1] = 1
			return f.quoteWith(qe, f.sign(f.pck.key, qe), pemOf(f.pck, f.ca, f.root))
		}, evidence.Untrusted, "attestation-key"},
		{"a quote that another key signed", func(f *fake) []byte {
			raw := f.quote()
			n := len(f.signed()) + 4
			copy(raw[n:], f.sign(newKey(f.t), raw[:n-4]))
			return raw
		}, evidence.BadSignature, "signature"},
		{"another REPORTDATA", func(f *fake) []byte {
			f.body[abi.ReportData] ^= 1
			return f.quote()
		}, evidence.NotBound, "binding"},
		{"two certificates", func(f *fake) []byte { return f.withChain(pemOf(f.pck, f.ca)) }, evidence.Malformed, "certificate"},
		{"four certificates", func(f *fake) []byte { return f.withChain(pemOf(f.pck, f.ca, f.root, f.root)) }, evidence.Malformed, "certificate"},
		{"text before the certificates", func(f *fake) []byte { return f.withChain(append([]byte("x\n"), pemOf(f.pck, f.ca, f.root)...)) }, evidence.Malformed, "certificate"},
		{"a malformed certificate before the certificates", func(f *fake) []byte {
			return f.withChain(append([]byte("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), pemOf(f.pck, f.ca, f.root)...))
		}, evidence.Malformed, "certificate"},
		{"two zero bytes after them", func(f *fake) []byte { return f.withChain(append(pemOf(f.pck, f.ca, f.root), 0, 0)) }, evidence.Malformed, "certificate"},
		{"certificates out of order", func(f *fake) []byte { return f.withChain(pemOf(f.ca, f.pck, f.root)) }, evidence.Untrusted, "chain"},
		{"no certificates", func(f *fake) []byte { return f.withChain(nil) }, evidence.Malformed, "certificate"},
		{"a chain that is too long", func(f *fake) []byte {
			return f.withChain(append(pemOf(f.pck, f.ca, f.root), bytes.Repeat([]byte("\n"), 16<<10)...))
		}, evidence.Malformed, "certificate"},
		{"PEM of another type", func(f *fake) []byte {
			return f.withChain(bytes.ReplaceAll(pemOf(f.pck, f.ca, f.root), []byte("CERTIFICATE"), []byte("PUBLIC KEY")))
		}, evidence.Malformed, "certificate"},
		{"PEM with a header", func(f *fake) []byte {
			return f.withChain(append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: f.pck.cert.Raw}), pemOf(f.ca, f.root)...))
		}, evidence.Malformed, "certificate"},
		{"a certificate that is none", func(f *fake) []byte {
			return f.withChain(append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}}), pemOf(f.ca, f.root)...))
		}, evidence.Malformed, "certificate"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			f := newFake(t)
			cfg := f.config()
			raw := c.quote(f)
			cfg.Source = panics{}
			got, err := f.verifyQuote(cfg, raw)
			wantRefused(t, got, err, c.reason, c.check)
		})
	}
}

// withChain returns a quote with other certificates.
func (f *fake) withChain(chain []byte) []byte {
	qe := make([]byte, abi.QEReportSize)
	return f.quoteWith(qe, f.sign(f.pck.key, qe), chain)
}

// panics is a Source that must not be asked.
type panics struct{}

func (panics) Get(context.Context, string) ([]evidence.Collateral, error) {
	panic("the Source is asked about evidence that is refused")
}

// Every bit of a quote counts, but for the dress of the certificates: what their
// PEM decodes to is verified, not how it is written.
func TestVerifyRefusesEveryFlippedBit(t *testing.T) {
	for name, step := range map[string]int{"dstack_quote_report_v4": 1, "gtg_sample_v5": 7} {
		g := genuineQuote(t, name)
		raw := g.raw(t)
		v := newVerifier(t, tdx.Config{Anchors: tdx.Intel(), Source: genuineSet(t, benchSet, fmspcOf(t, g.FMSPC)), Time: at(g.with(t, benchSet).UseTime)})
		want := evidence.UncheckedBindingUnsafe() // else REPORTDATA is refused before its signature is
		if _, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw}, want); err != nil {
			t.Fatal(err)
		}
		chain, free := bytes.Index(raw, []byte("-----BEGIN")), 0
		for bit := 0; bit < 8*len(raw); bit += step {
			bad := bytes.Clone(raw)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: bad}, want); err != nil {
				continue
			}
			if bit/8 >= chain && bytes.Equal(certificates(bad[chain:]), certificates(raw[chain:])) {
				free++
				continue
			}
			t.Errorf("%s: bit %d flipped: accepted", name, bit)
		}
		if free > 16 { // the unused bits of base64 before "=", and spaces for line ends
			t.Errorf("%s: %d bits of the PEM are free", name, free)
		}
	}
}

// certificates returns all certificates in text.
func certificates(text []byte) []byte {
	var all []byte
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return all
		}
		all, text = append(all, block.Bytes...), rest
	}
}

func TestVerifyRefusesEvidence(t *testing.T) {
	f := newFake(t)
	raw := f.quote()
	v := newVerifier(t, f.config())
	want := bound(t, raw)
	for _, c := range []struct {
		claim  string
		ev     evidence.Evidence
		want   evidence.Binding
		reason evidence.Reason
		check  string
	}{
		{"under another format", evidence.Evidence{Format: "snp-report", Raw: raw}, want, evidence.Unsupported, "format"},
		{"with layers", evidence.Evidence{Format: tdx.Format, Raw: raw, Layers: []evidence.Evidence{{}}}, want, evidence.Malformed, "format"},
		{"with an item of no known type", evidence.Evidence{Format: tdx.Format, Raw: raw, Items: []evidence.Item{{Type: "x"}}}, want, evidence.Malformed, "items"},
		{"with no Binding", evidence.Evidence{Format: tdx.Format, Raw: raw}, evidence.Binding{}, evidence.NotBound, "binding"},
		{"nothing", evidence.Evidence{Format: tdx.Format}, want, evidence.Malformed, "size"},
		{"too long", evidence.Evidence{Format: tdx.Format, Raw: append(bytes.Clone(raw), make([]byte, tdx.MaxQuoteSize)...)}, want, evidence.Malformed, "size"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			got, err := v.Verify(t.Context(), c.ev, c.want)
			wantRefused(t, got, err, c.reason, c.check)
		})
	}
}

// One Verifier serves many: with platforms it knows, forgets, and refuses.
func TestVerifyConcurrently(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	cfg.CacheSize = 2
	v := newVerifier(t, cfg)
	var good [][]byte
	for range 3 {
		f.attestation = newKey(t)
		good = append(good, f.quote())
	}
	bad := bytes.Clone(good[0])
	flip(bad, 60)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 8 {
				raw, ok := good[(i+j)%len(good)], true
				if (i+j)%5 == 0 {
					raw, ok = bad, false
				}
				got, err := v.Verify(context.Background(), evidence.Evidence{Format: tdx.Format, Raw: raw}, evidence.UncheckedBindingUnsafe())
				if (err == nil) != ok || (got != nil) != ok {
					t.Errorf("accepted: %v", err)
				}
				if ok {
					for range got.Claims.All() {
						continue
					}
				}
			}
		})
	}
	wg.Wait()
}

// What was not compared is not said to be bound.
func TestUncheckedIsNotBound(t *testing.T) {
	f := newFake(t)
	raw := f.quote()
	v := newVerifier(t, f.config())
	for want, checked := range map[evidence.Binding]bool{bound(t, raw): true, evidence.UncheckedBindingUnsafe(): false} {
		got, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw}, want)
		if err != nil || got.Bound != checked {
			t.Errorf("bound %v, want %v: %v", got.Bound, checked, err)
		}
	}
}

// A result shares no memory with the evidence or with other results.
func TestVerifyOwnsItsResult(t *testing.T) {
	f := newFake(t)
	f.top()["advisoryIDs"] = []any{"INTEL-SA-00001"}
	v, raw := newVerifier(t, f.config()), f.quote()
	before := bytes.Clone(raw)
	one, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw}, bound(t, raw))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, before) {
		t.Error("the evidence is modified")
	}
	c, _ := tdx.ClaimsOf(one)
	mrtd := c.MRTD()
	for i := range raw {
		raw[i] = 0xFF
	}
	c.PCK.Serial[0] ^= 0xFF
	c.TCB.Platform.Advisories[0] = "none"
	two, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: before}, bound(t, before))
	if err != nil {
		t.Fatal(err)
	}
	d, _ := tdx.ClaimsOf(two)
	if c.MRTD() != mrtd || d.PCK.Serial[0] == c.PCK.Serial[0] || d.TCB.Platform.Advisories[0] != "INTEL-SA-00001" {
		t.Error("memory is shared")
	}
}

func TestNewVerifierRefuses(t *testing.T) {
	f := newFake(t)
	expired := caTemplate(abi.NameRoot, 1)
	other := f.issue(authority{}, caTemplate("Another Root CA", 1))
	for _, c := range []struct {
		field string
		edit  func(*tdx.Config)
	}{
		{"Anchors", func(c *tdx.Config) { c.Anchors = nil }},
		{"Anchors[0]", func(c *tdx.Config) { c.Anchors = [][]byte{nil} }},
		{"Anchors[0]", func(c *tdx.Config) { c.Anchors = [][]byte{other.cert.Raw} }},
		{"Anchors[0]", func(c *tdx.Config) { c.Anchors = [][]byte{f.signer.cert.Raw} }},
		{"Anchors[0]", func(c *tdx.Config) { c.Anchors = [][]byte{f.issue(f.root, expired).cert.Raw} }},
		{"Anchors[1]", func(c *tdx.Config) { c.Anchors = [][]byte{f.root.cert.Raw, f.root.cert.Raw} }},
		{"Source", func(c *tdx.Config) { c.Source = nil }},
		{"StaleGrace", func(c *tdx.Config) { c.StaleGrace = -1 }},
		{"CacheSize", func(c *tdx.Config) { c.CacheSize = -1 }},
	} {
		cfg := f.config()
		c.edit(&cfg)
		if v, err := tdx.NewVerifier(cfg); err == nil || v != nil || !strings.Contains(err.Error(), "Config."+c.field) {
			t.Errorf("%s: %v", c.field, err)
		}
	}
}

// sizes are read as unsigned, wherever they stand.
func TestHostileSizes(t *testing.T) {
	f := newFake(t)
	raw := f.quote()
	n := len(f.signed())
	cert := n + 4 + 64 + 64 + 2
	auth := cert + 4 + abi.QEReportSize + abi.SignatureSize
	for at, width := range map[int]int{n: 4, cert: 4, auth: 2, auth + 2 + len(f.auth) + 2: 4} {
		for _, size := range []uint32{0, 1, 3, 0x7F, 0x80, 0x86, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF} {
			bad := bytes.Clone(raw)
			copy(bad[at:at+width], binary.LittleEndian.AppendUint32(nil, size))
			if _, err := tdx.ParseQuote(bad); !errors.Is(err, evidence.Malformed) && !errors.Is(err, evidence.Unsupported) {
				t.Errorf("size %#x at %d: %v", size, at, err)
			}
		}
	}
}
