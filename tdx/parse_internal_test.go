package tdx

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

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
	if got := hexOf(sha256.Sum256(roots[0])); got != want {
		t.Errorf("root %s, want %s", got, want)
	}
	roots[0][0] = 0
	if Intel()[0][0] != 0x30 {
		t.Error("the caller does not own the root")
	}
}

func hexOf(b [32]byte) string {
	const digits = "0123456789abcdef"
	var s []byte
	for _, c := range b {
		s = append(s, digits[c>>4], digits[c&15])
	}
	return string(s)
}

// pckOf returns the PCK certificate of a genuine quote.
func pckOf(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	q, err := ParseQuote(vectors.Read(t, "tdx/quotes/"+name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	ders, err := openPEM(q.data.chain, 3)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(ders[0])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func extensionOf(t testing.TB, c *x509.Certificate) []byte {
	t.Helper()
	for _, e := range c.Extensions {
		if e.Id.String() == abi.OIDSGX {
			return e.Value
		}
	}
	t.Fatal("no SGX extension")
	return nil
}

func TestParseGenuinePCK(t *testing.T) {
	p, err := parsePCK(pckOf(t, "dstack_quote_report_v4"), PlatformCA)
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
	ext := extensionOf(t, pckOf(t, "dstack_quote_report_v4"))
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

// FuzzParsePCK holds the parser to its input: no panic, and nothing beside an error.
func FuzzParsePCK(f *testing.F) {
	f.Add([]byte{0x30, 0}, true)
	if dir := os.Getenv("TEEBROKER_VECTORS"); dir != "" || exists(filepath.Join("..", "..", "shared", "vectors")) {
		f.Add(extensionOf(f, pckOf(f, "dstack_quote_report_v4")), true)
	}
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

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func FuzzParseTCBInfo(f *testing.F) {
	addBodies(f, "tcb_info.json", "tcbInfo")
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
	addBodies(f, "qe_identity.json", "enclaveIdentity")
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
	for _, der := range genuineFiles(f, "root_ca_crl.der") {
		f.Add(der)
	}
	f.Add([]byte{0x30, 0})
	anchors, err := newAnchors(Intel())
	if err != nil {
		f.Fatal(err)
	}
	a := anchors[string(Intel()[0])]
	known := genuineFiles(f, "root_ca_crl.der")
	f.Fuzz(func(t *testing.T, data []byte) {
		v := newVerifier(Config{CacheSize: 1}, anchors)
		list, err := v.crl(data, a.cert, a.sum)
		if err == nil && list != nil && !slices.ContainsFunc(known, func(k []byte) bool { return string(k) == string(data) }) && data[0] == 0x30 {
			t.Error("took a list that Intel did not sign")
		}
	})
}

// FuzzSplitSigned is about what is cut out of a document before its signature is
// verified.
func FuzzSplitSigned(f *testing.F) {
	for _, doc := range genuineFiles(f, "tcb_info.json") {
		f.Add(doc)
	}
	f.Add([]byte(`{"tcbInfo":{},"signature":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		body, sig, err := splitSigned(data, "tcbInfo")
		if err == nil && (len(sig) != abi.SignatureSize || len(body) >= len(data)) {
			t.Error("split what is no document")
		}
	})
}

// genuineFiles returns the files of a name in all sets of the shared vectors.
func genuineFiles(t testing.TB, name string) [][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(vectors.Path(t, "tdx/collateral"), "*", name))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no %s: %v", name, err)
	}
	var all [][]byte
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// addBodies seeds f with what is signed of genuine documents.
func addBodies(f *testing.F, name, member string) {
	f.Helper()
	for _, doc := range genuineFiles(f, name) {
		body, _, err := splitSigned(doc, member)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(`{}`))
}
