package tdx_test

import (
	"bytes"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// Every bit of a quote counts, but for the dress of the certificates: what their
// PEM decodes to is verified, not how it is written. That makes these bits exempt:
// those of base64 that stand before "=" and mean nothing, and those that make of a
// line end another white space.
func TestVerifyRefusesEveryFlippedBit(t *testing.T) {
	for name, step := range map[string]int{"dstack_quote_report_v4": 1, "gtg_sample_v5": 7} { // in the certificates
		g := genuineQuote(t, name)
		raw := g.raw(t)
		v := newVerifier(t, tdx.Config{Anchors: tdx.Intel(), Source: genuineSet(t, benchSet, fmspcOf(t, g.FMSPC)), Time: at(g.with(t, benchSet).UseTime)})
		want := evidence.UncheckedBindingUnsafe() // else REPORTDATA is refused before its signature is
		if _, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw}, want); err != nil {
			t.Fatal(err)
		}
		chain, free := bytes.Index(raw, []byte("-----BEGIN")), 0
		for bit := range 8 * len(raw) {
			if bit/8 >= chain && bit%step != 0 {
				continue
			}
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
	root, other := f.intel.Anchors()[0], tdxtest.NewIntel()
	renamed := func(c *tdxtest.Certificate) {
		c.Subject, c.Issuer = tdxtest.Name("Another Root CA"), tdxtest.Name("Another Root CA")
	}
	for _, c := range []struct {
		field string
		edit  func(*tdx.Config)
	}{
		{"Anchors", func(c *tdx.Config) { c.Anchors = nil }},
		{"Anchors[0]", func(c *tdx.Config) { c.Anchors = [][]byte{nil} }},
		{"Anchors[0]", func(c *tdx.Config) { c.Anchors = [][]byte{f.intel.Certificate(tdxtest.Root, renamed)} }},
		{"Anchors[0]", func(c *tdx.Config) { c.Anchors = [][]byte{f.intel.Certificate(tdxtest.TCBSigning, nil)} }},
		{"Anchors[0]", func(c *tdx.Config) { c.Anchors = [][]byte{other.Resign(tdxtest.Root, root, nil)} }},
		{"Anchors[1]", func(c *tdx.Config) { c.Anchors = [][]byte{root, root} }},
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
	n := abi.BodyV5 + abi.TD15Size
	cert := n + 4 + 64 + 64 + 2
	auth := cert + 4 + abi.QEReportSize + abi.SignatureSize
	for at, width := range map[int]int{n: 4, cert: 4, auth: 2, auth + 2 + 32 + 2: 4} {
		for _, size := range []uint32{0, 1, 3, 0x7F, 0x80, 0x86, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF} {
			bad := bytes.Clone(raw)
			copy(bad[at:at+width], binary.LittleEndian.AppendUint32(nil, size))
			if _, err := tdx.ParseQuote(bad); !errors.Is(err, evidence.Malformed) && !errors.Is(err, evidence.Unsupported) {
				t.Errorf("size %#x at %d: %v", size, at, err)
			}
		}
	}
}
