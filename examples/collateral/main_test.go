package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/kds/kdstest"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/pcs/pcstest"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

var (
	amd   = sync.OnceValue(snptest.NewAMD)
	intel = sync.OnceValue(tdxtest.NewIntel)
)

// site is a place with both vendors' services, evidence and keys.
type site struct {
	dir      string
	kds      *kdstest.Server
	pcs      *pcstest.Server
	kdsURL   string
	pcsURL   string
	platform *tdxtest.Platform
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), kds: kdstest.New(amd()), pcs: pcstest.New(intel())}
	for url, h := range map[*string]*httptest.Server{&s.kdsURL: httptest.NewServer(s.kds), &s.pcsURL: httptest.NewServer(s.pcs)} {
		t.Cleanup(h.Close)
		*url = h.URL
	}
	chip := amd().Chip(snp.Milan)
	s.platform = intel().Platform(tdx.PlatformCA)
	s.write(t, "report.bin", chip.Report(snptest.Guest{}, evidence.Binding{}).Raw)
	s.write(t, "quote.bin", s.platform.Quote(tdxtest.TD{}, evidence.Binding{}).Raw)
	a := amd().Anchors(snp.Milan)[0]
	s.write(t, "roots.pem", tdxtest.PEM(append(intel().Anchors(), a.ARK, a.ASK, a.ASVK)...))
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err1 := x509.MarshalPKCS8PrivateKey(key)
	public, err2 := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	s.write(t, "site.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	s.write(t, "site.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	return s
}

func (s *site) write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs a command line in which @ stands for the folder of s, and wants a status.
func (s *site) run(t *testing.T, want int, line string) string {
	t.Helper()
	args := strings.Fields(strings.NewReplacer("@", s.dir+"/", "KDS", s.kdsURL, "PCS", s.pcsURL).Replace(line))
	var stdout, stderr bytes.Buffer
	if got := run(args, &stdout, &stderr); got != want {
		t.Errorf("%s: status %d, want %d\n%s%s", line, got, want, &stdout, &stderr)
	}
	return stdout.String() + stderr.String()
}

const fetchAll = "fetch -kds KDS -pcs PCS -roots @roots.pem -out @kept "

// What evidence needs is fetched, packed, carried, judged, and is enough.
func TestFromServiceToSite(t *testing.T) {
	s := newSite(t)
	out := s.run(t, 0, fetchAll+"@report.bin @quote.bin")
	for _, want := range []string{"report.bin is genuine", "quote.bin is genuine", "VEK", "TCB Info", "QE identity", "CRL"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	kds, pcs := s.kds.Requests(), s.pcs.Requests()
	if kds != 2 || pcs != 4 {
		t.Errorf("%d and %d requests", kds, pcs)
	}
	s.run(t, 0, "inspect -within 14d @kept")
	s.run(t, 1, "inspect -within 60d @kept")
	s.write(t, "floors", mustRead(t, "../../docs/tcb-floors.json"))
	s.write(t, "anchors", []byte("[]"))
	s.run(t, 0, "bundle -key @site.key -out @site.bundle -sequence 5 -file tcb-floors.json=@floors -file cca-anchors.json=@anchors @kept")
	out = s.run(t, 0, "verify -keys @site.pub -roots @roots.pem -since 5 @site.bundle")
	if !strings.Contains(out, "all of 7 genuine") {
		t.Error(out)
	}
	s.run(t, 0, "verify -keys @site.pub -roots @roots.pem -out @carried @site.bundle")
	for _, name := range []string{"tcb-floors.json", "cca-anchors.json"} {
		if _, err := os.Stat(filepath.Join(s.dir, "carried", "files", name)); err != nil {
			t.Error(err)
		}
	}
	s.kds.Break(kdstest.Fault{Down: true}) // and nobody is asked any more
	s.pcs.Break(pcstest.Fault{Down: true})
	files, err := collateral.Dir(filepath.Join(s.dir, "carried"))
	if err != nil {
		t.Fatal(err)
	}
	sv, err1 := snp.NewVerifier(snp.Config{Anchors: amd().Anchors(snp.Milan), Source: files})
	tv, err2 := tdx.NewVerifier(tdx.Config{Anchors: intel().Anchors(), Source: files})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for name, v := range map[evidence.Format]evidence.Verifier{snp.Format: sv, tdx.Format: tv} {
		file := map[evidence.Format]string{snp.Format: "report.bin", tdx.Format: "quote.bin"}[name]
		ev := evidence.Evidence{Format: name, Raw: mustRead(t, filepath.Join(s.dir, file))}
		if _, err := v.Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is named is fetched without evidence.
func TestFetchByName(t *testing.T) {
	s := newSite(t)
	fmspc := s.platform.PCK.FMSPC.String()
	out := s.run(t, 0, fetchAll+"-lines Milan -fmspc "+fmspc)
	for _, want := range []string{"/vcek/v1/Milan/crl", "/vlek/v1/Milan/crl", "rootcacrl", "ca=platform", "ca=processor", "qe/identity", "fmspc=" + fmspc} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not in\n%s", want, out)
		}
	}
	s.run(t, 0, fetchAll+"-names /vcek/v1/Milan/crl")
	s.run(t, 1, fetchAll+"-names /vcek/v1/Milan/none")
	s.pcs.Break(pcstest.Fault{Status: 404}, "/tdx/certification/v4/tcb?fmspc=000000000000")
	if out := s.run(t, 1, fetchAll+"-fmspc 000000000000"); !strings.Contains(out, "none") {
		t.Error(out)
	}
}

// A service out of reach is neither yes nor no, unless nothing is missing.
func TestFetchOutage(t *testing.T) {
	s := newSite(t)
	s.kds.Break(kdstest.Fault{Status: 500})
	s.run(t, 2, fetchAll+"@report.bin")
	s.kds.Mend()
	s.run(t, 0, fetchAll+"@report.bin")
	other := newSite(t)
	s.write(t, "other.bin", mustRead(t, filepath.Join(other.dir, "roots.pem")))
	s.run(t, 2, fetchAll+"@other.bin")
	raw := mustRead(t, filepath.Join(s.dir, "report.bin"))
	raw[0x90] ^= 1 // MEASUREMENT
	s.write(t, "forged.bin", raw)
	if out := s.run(t, 1, fetchAll+"@forged.bin"); !strings.Contains(out, "bad-signature") {
		t.Error(out)
	}
}

func TestInspect(t *testing.T) {
	s := newSite(t)
	s.run(t, 0, fetchAll+"@report.bin")
	s.run(t, 0, "bundle -key @site.key -out @site.bundle @kept")
	for _, path := range []string{"@kept", "-keys @site.pub @site.bundle"} {
		var got summary
		if err := json.Unmarshal([]byte(s.run(t, 0, "inspect -json "+path)), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Entries) != 3 || got.Ending != 0 || got.Within != "14d" || (got.Sequence == 0) == strings.Contains(path, "bundle") {
			t.Errorf("%+v", got)
		}
		for _, e := range got.Entries {
			if e.Ends == nil || e.Days == nil || *e.Days < 27 || e.Soon || e.Kind == "" {
				t.Errorf("%+v", e)
			}
		}
		got = summary{}
		after := time.Now().AddDate(0, 0, 31).UTC().Format(time.RFC3339)
		if err := json.Unmarshal([]byte(s.run(t, 1, "inspect -json -at "+after+" "+path)), &got); err != nil {
			t.Fatal(err)
		}
		if got.Ending != 2 || *got.Entries[0].Days >= 0 || !got.Entries[0].Soon || got.Entries[2].Soon {
			t.Errorf("%+v", got)
		}
	}
	out := s.run(t, 0, "inspect @kept")
	if !regexp.MustCompile(`(?m)^  /vcek/v1/Milan/crl +CRL +20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ +\d+ days$`).MatchString(out) {
		t.Error(out)
	}
	s.run(t, 0, "inspect -within 36h @kept")
	s.run(t, 2, "inspect @site.bundle") // which nobody vouches for
	s.run(t, 2, "inspect @roots.pem")   // nothing that ends
	s.run(t, 2, "inspect @nothing")
	for _, bad := range []string{"14", "-1d", "d", "14 d", "1d12h", "-36h"} {
		if new(span).Set(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestVerifyBundle(t *testing.T) {
	s, other := newSite(t), newSite(t)
	s.run(t, 0, fetchAll+"@report.bin")
	s.run(t, 0, "bundle -key @site.key -out @site.bundle -sequence 5 @kept")
	const verify = "verify -roots @roots.pem -keys @site.pub "
	s.run(t, 0, verify+"@site.bundle")
	if out := s.run(t, 1, verify+"-since 6 @site.bundle"); !strings.Contains(out, "earlier") {
		t.Error(out)
	}
	if out := s.run(t, 1, "verify -keys @site.pub -out @never @site.bundle"); !strings.Contains(out, "no ") { // by AMD's own roots it is not
		t.Error(out)
	}
	if files, _ := collateral.Dir(filepath.Join(s.dir, "never")); files == nil || len(files.Fixed()) != 0 {
		t.Error("what is not genuine went into the folder")
	}
	s.write(t, "other.pub", mustRead(t, filepath.Join(other.dir, "site.pub")))
	s.run(t, 1, "verify -roots @roots.pem -keys @other.pub @site.bundle")
	s.run(t, 0, "verify -roots @roots.pem -keys @other.pub,@site.pub @site.bundle")
	b := mustRead(t, filepath.Join(s.dir, "site.bundle"))
	b[len(b)/2] ^= 1
	s.write(t, "bad.bundle", b)
	var v verdict
	if err := json.Unmarshal([]byte(s.run(t, 1, verify+"-json @bad.bundle")), &v); err != nil || v.OK || v.Reason == "" || v.Sequence != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	s.run(t, 1, verify+"@roots.pem") // no bundle at all
	s.write(t, "floors", []byte("{}"))
	s.run(t, 2, "bundle -key @site.key -out @x.bundle -file tcb-floors.json=@floors @kept")
	s.write(t, "other", []byte("[]"))
	s.run(t, 0, "bundle -key @site.key -out @x.bundle -file ../../floors=@other @kept")
	s.run(t, 2, verify+"-out @x @x.bundle") // a name that leads elsewhere
	if b := mustRead(t, filepath.Join(s.dir, "floors")); string(b) != "{}" {
		t.Error("written elsewhere")
	}
}

// What is in a folder already does not vouch for what is in a bundle.
func TestVerifyBundleIntoFullFolder(t *testing.T) {
	s := newSite(t)
	s.run(t, 0, fetchAll+"@report.bin")
	files, err := collateral.Dir(filepath.Join(s.dir, "kept"))
	if err != nil {
		t.Fatal(err)
	}
	forged := collateral.Fixed{}
	for name, cs := range files.Fixed() {
		if strings.Contains(name, "blSPL=") {
			b := bytes.Clone(cs[0].Data)
			b[len(b)-1] ^= 1 // of the signature
			forged[name] = []evidence.Collateral{{Data: b}}
		}
	}
	key, err := readSigner(filepath.Join(s.dir, "site.key"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := collateral.MakeBundle(key, collateral.Contents{Sequence: 1, Created: time.Now(), Collateral: forged})
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "forged.bundle", b)
	const verify = "verify -roots @roots.pem -keys @site.pub "
	s.run(t, 1, verify+"@forged.bundle")
	if out := s.run(t, 1, verify+"-out @kept @forged.bundle"); !strings.Contains(out, "1 things in it are not genuine") {
		t.Error(out)
	}
}

// A folder takes no bundle from before the one that filled it: files are not
// monotone as collateral is.
func TestVerifyBundleRollback(t *testing.T) {
	s := newSite(t)
	s.run(t, 0, fetchAll+"@report.bin")
	const verify = "verify -roots @roots.pem -keys @site.pub "
	for n, content := range map[string]string{"6": "older", "7": "newer"} {
		s.write(t, "note", []byte(content))
		s.run(t, 0, "bundle -key @site.key -out @"+n+".bundle -sequence "+n+" -file note=@note @kept")
	}
	s.run(t, 0, verify+"-out @site @6.bundle")
	s.run(t, 0, verify+"-out @site @7.bundle")
	s.run(t, 0, verify+"-out @site @7.bundle")
	if out := s.run(t, 1, verify+"-out @site -since 1 @6.bundle"); !strings.Contains(out, "earlier") {
		t.Error(out)
	}
	if b := mustRead(t, filepath.Join(s.dir, "site", "files", "note")); string(b) != "newer" {
		t.Errorf("the file is %q", b)
	}
	s.run(t, 0, verify+"@6.bundle")
	s.write(t, "site/sequence", []byte("rubbish"))
	s.run(t, 2, verify+"-out @site @7.bundle")
}

func TestUsage(t *testing.T) {
	s := newSite(t)
	for _, line := range []string{
		"", "nothing", "fetch", "fetch -out @x -lines Rome", "fetch -out @x -fmspc 12", "fetch -out @x -update late",
		"fetch -out @x @missing", "fetch -out @roots.pem/x", "fetch -out @x -roots @report.bin", "fetch -out @x -kds nowhere",
		"bundle @report.bin", "bundle -key @site.key -out @x", "bundle -key @site.pub -out @x @roots.pem", "bundle -key @site.key -out @x @missing",
		"bundle -key @site.key -out @x -file a @roots.pem", "bundle -key @site.key -out @x -file a=@missing @roots.pem",
		"inspect", "inspect a b", "inspect -within soon @roots.pem", "verify", "verify @roots.pem", "verify -keys @report.bin @roots.pem", "verify -keys @site.pub @missing",
	} {
		s.run(t, 2, line)
	}
	for _, name := range []string{"fetch", "bundle", "inspect", "verify"} {
		if out := s.run(t, 0, name+" -h"); !strings.Contains(out, "  collateral "+name+" -") {
			t.Errorf("%s -h has no example:\n%s", name, out)
		}
	}
	s.run(t, 0, "-h")
}
