package tdx

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/teebroker/teebroker/internal/pki"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// The root is the one that Intel published, by its hash.
func TestIntelRoot(t *testing.T) {
	roots := Intel()
	if len(roots) != 1 {
		t.Fatalf("%d roots", len(roots))
	}
	const want = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
	if sum := sha256.Sum256(roots[0]); hex.EncodeToString(sum[:]) != want {
		t.Errorf("root %x, want %s", sum, want)
	}
	roots[0][0] = 0
	if Intel()[0][0] != 0x30 {
		t.Error("the caller does not own the root")
	}
}

// pckOf returns the PCK certificate of a genuine quote.
func pckOf(t testing.TB, raw []byte) *x509.Certificate {
	t.Helper()
	q, err := ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	der, _, err := nextPEM(q.data.chain)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func extensionOf(t testing.TB, c *x509.Certificate) []byte {
	t.Helper()
	for _, e := range c.Extensions {
		if e.Id.String() == abi.SGXExtension {
			return e.Value
		}
	}
	t.Fatal("no SGX extension")
	return nil
}

func TestParseGenuinePCK(t *testing.T) {
	p, err := parsePCK(pckOf(t, vectors.Read(t, "tdx/quotes/dstack_quote_report_v4.bin")), PlatformCA)
	if err != nil {
		t.Fatal(err)
	}
	want := Configuration{DynamicPlatform: true, CachedKeys: true, SMTEnabled: true}
	if p.FMSPC.String() != "90c06f000000" || p.PCESVN != 13 || p.Components[7] != 5 || p.CPUSVN[7] != 5 || p.PCEID != [2]byte{} ||
		p.SGXType != SGXScalable || p.Configuration != want || p.PPID[0] != 0x89 || p.PlatformInstance[0] != 0xAF || p.Serial[0] != 0xBA {
		t.Errorf("%+v", p)
	}
}

// Any byte of the extension may be wrong: it parses to another PCK, or not at all.
// A boolean is one value for one encoding, and so is a number.
func TestPCKExtensionHasOneEncoding(t *testing.T) {
	ext := extensionOf(t, pckOf(t, vectors.Read(t, "tdx/quotes/dstack_quote_report_v4.bin")))
	want := PCK{CA: PlatformCA}
	if err := want.parseExtension(ext); err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(ext) {
		bad := slices.Clone(ext)
		bad[bit/8] ^= 1 << (bit % 8)
		got := PCK{CA: PlatformCA}
		if err := got.parseExtension(bad); err == nil && got.PPID == want.PPID && got.Components == want.Components && got.PCESVN == want.PCESVN &&
			got.CPUSVN == want.CPUSVN && got.PCEID == want.PCEID && got.FMSPC == want.FMSPC && got.SGXType == want.SGXType &&
			got.PlatformInstance == want.PlatformInstance && got.Configuration == want.Configuration {
			t.Errorf("bit %d flipped: the same", bit)
		}
	}
}

// Of the ways to write an element only that of DER is taken, and all of it has to
// be there.
func TestNextElement(t *testing.T) {
	long := func(n int, head ...byte) []byte { return append(head, make([]byte, n)...) }
	for _, c := range []struct {
		claim   string
		der     []byte
		content int // -1 if refused
	}{
		{"empty", []byte{4, 0}, 0},
		{"short", long(127, 4, 127), 127},
		{"one byte of length", long(128, 4, 0x81, 128), 128},
		{"two bytes of length", long(256, 4, 0x82, 1, 0), 256},
		{"as long as can be", long(0xFFFF, 4, 0x82, 0xFF, 0xFF), 0xFFFF},
		{"one byte of length too many", long(127, 4, 0x81, 127), -1},
		{"two bytes of length, one too many", long(255, 4, 0x82, 0, 255), -1},
		{"three bytes of length", long(0x10000, 4, 0x83, 1, 0, 0), -1},
		{"no length", long(9, 4, 0x80), -1},
		{"cut before the length", []byte{4}, -1},
		{"cut in the length", []byte{4, 0x82, 1}, -1},
		{"cut before the last byte of one", []byte{4, 0x81}, -1},
		{"cut in the content", long(4, 4, 5), -1},
		{"nothing", nil, -1},
	} {
		e, rest, ok := nextElement(append(slices.Clone(c.der), 1, 2)) // what follows
		if c.content < 0 {
			if _, _, ok := nextElement(c.der); ok {
				t.Errorf("%s: taken", c.claim)
			}
			continue
		}
		if !ok || len(e.content) != c.content || e.tag != 4 || !bytes.Equal(rest, []byte{1, 2}) {
			t.Errorf("%s: %d bytes of tag %d, %d follow, %v", c.claim, len(e.content), e.tag, len(rest), ok)
		}
	}
}

// FuzzParsePCK holds the parser to its input: no panic, and nothing beside an error.
func FuzzParsePCK(f *testing.F) {
	f.Add([]byte{0x30, 0}, false)
	quote, _ := bytes.CutSuffix(testdata.RawQuote, []byte("\nextra bytes(only for testing purpose)\n"))
	f.Add(extensionOf(f, pckOf(f, quote)), true)
	f.Fuzz(func(t *testing.T, ext []byte, platform bool) {
		p := PCK{CA: ProcessorCA}
		if platform {
			p.CA = PlatformCA
		}
		if err := p.parseExtension(ext); err != nil {
			return
		}
		var list []asn1.RawValue
		if rest, err := asn1.Unmarshal(ext, &list); err != nil || len(rest) != 0 || len(list) != map[bool]int{true: 7, false: 5}[platform] {
			t.Errorf("parsed what is no extension: %d members, %v", len(list), err)
		}
	})
}

func FuzzParseTCBInfo(f *testing.F) {
	addBody(f, testdata.TcbInfoBody, "tcbInfo")
	f.Fuzz(func(t *testing.T, body []byte) {
		info, err := parseTCBInfo(body, nil)
		if err != nil {
			return
		}
		if len(info.levels) == 0 || !info.issued.Before(info.next) {
			t.Error("parsed what is no TCB Info")
		}
		id := &qeIdentity{levels: []enclaveLevel{{1, Level{Status: UpToDate, Date: time.Unix(1, 0)}}}}
		for _, have := range []versions{{}, {launch: SVN{1, 1}, now: SVN{9, 3, 9}, hasNow: true, qe: 1}} {
			if tcb := appraise(info, id, have); tcb.Status == "" {
				t.Error("no status")
			}
		}
	})
}

func FuzzParseQEIdentity(f *testing.F) {
	addBody(f, testdata.QeIdentityBody, "enclaveIdentity")
	f.Fuzz(func(t *testing.T, body []byte) {
		id, err := parseQEIdentity(body, nil)
		if err != nil {
			return
		}
		if len(id.levels) == 0 || !id.issued.Before(id.next) {
			t.Error("parsed what is no identity")
		}
		_ = id.check(QE{})
	})
}

// FuzzCRL holds the handling of a list to the one thing it may not do: take one
// that the issuer did not sign.
func FuzzCRL(f *testing.F) {
	f.Add(testdata.RootCrlBody)
	f.Add(testdata.PckCrlBody)
	f.Add([]byte{0x30, 0})
	anchors, err := newAnchors(Intel())
	if err != nil {
		f.Fatal(err)
	}
	a := anchors[string(Intel()[0])]
	f.Fuzz(func(t *testing.T, data []byte) {
		v := newVerifier(Config{CacheSize: 1}, anchors)
		list, err := v.crl(data, a.cert, a.sum)
		if err != nil {
			return
		}
		if der, _ := pki.DER(data, pki.List); list == nil || !bytes.Equal(der, testdata.RootCrlBody) {
			t.Error("took a list that the root did not sign")
		}
	})
}

// FuzzSplitDocument is about what is cut out of a document before its signature is
// verified.
func FuzzSplitDocument(f *testing.F) {
	f.Add(testdata.TcbInfoBody)
	f.Add([]byte(`{"tcbInfo":{},"signature":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		body, sig, err := splitDocument(data, "tcbInfo")
		if err == nil && (len(sig) != abi.SignatureSize || len(body) >= len(data)) {
			t.Error("split what is no document")
		}
	})
}

// addBody seeds f with what is signed of a genuine document.
func addBody(f *testing.F, doc []byte, member string) {
	f.Helper()
	body, _, err := splitDocument(doc, member)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{}`))
}
