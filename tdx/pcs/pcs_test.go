package pcs_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/pcs"
	"github.com/teebroker/teebroker/tdx/pcs/pcstest"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// intel is the vendor of all tests.
var intel = tdxtest.NewIntel()

func source(t testing.TB, client *http.Client, edit func(*pcs.Config)) *pcs.Source {
	t.Helper()
	cfg := pcs.Config{BaseURL: "https://pccs.example", Client: client, Every: time.Nanosecond, Burst: 1 << 20, Attempts: 1}
	if edit != nil {
		edit(&cfg)
	}
	src, err := pcs.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func verifier(t testing.TB, src evidence.Source) *tdx.Verifier {
	t.Helper()
	v, err := tdx.NewVerifier(tdx.Config{Anchors: intel.Anchors(), Source: src})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var want = func() evidence.Binding {
	b, err := evidence.NewBinding([]byte("nonce"))
	if err != nil {
		panic(err)
	}
	return b
}()

// Quotes verify with four requests, at Intel and at a PCCS.
func TestVerify(t *testing.T) {
	for _, ca := range []tdx.CA{tdx.PlatformCA, tdx.ProcessorCA} {
		for name, s := range map[string]*pcstest.Server{"PCS": pcstest.New(intel), "PCCS": pcstest.NewPCCS(intel)} {
			p := intel.Platform(ca)
			got, err := verifier(t, source(t, s.Client(), nil)).Verify(t.Context(), p.Quote(tdxtest.TD{}, want), want)
			if err != nil {
				t.Errorf("%s, %v: %v", name, ca, err)
				continue
			}
			if c, ok := tdx.ClaimsOf(got); !ok || c.TCB.Status != tdx.UpToDate {
				t.Errorf("%s, %v: not up to date", name, ca)
			}
			for _, file := range []string{tdx.TCBInfoName(p.PCK.FMSPC), tdx.QEIdentityName(), tdx.PCKCRLName(ca), tdx.RootCRLName()} {
				if n := s.Requests(file); n != 1 {
					t.Errorf("%s, %v: %d requests for %s", name, ca, n, file)
				}
			}
			if s.Requests() != 4 {
				t.Errorf("%s, %v: %d requests", name, ca, s.Requests())
			}
		}
	}
}

// asked notes the URLs of requests.
type asked struct {
	http.RoundTripper
	mu   sync.Mutex
	urls []string
}

func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.urls = append(a.urls, r.URL.String())
	return a.RoundTripper.RoundTrip(r)
}

// What is asked for where, by Config.
func TestURLs(t *testing.T) {
	f := tdxtest.FMSPC(tdx.PlatformCA)
	names := []string{tdx.RootCRLName(), tdx.QEIdentityName(), tdx.TCBInfoName(f), tdx.PCKCRLName(tdx.PlatformCA), pcs.NumbersName()}
	for name, tt := range map[string]struct {
		edit func(*pcs.Config)
		root string
		urls [4]string
	}{
		"Intel": {func(c *pcs.Config) { c.BaseURL = "" }, pcs.IntelRootCRL, [4]string{
			pcs.Intel + tdx.QEIdentityName(), pcs.Intel + tdx.TCBInfoName(f), pcs.Intel + tdx.PCKCRLName(tdx.PlatformCA), pcs.Intel + pcs.NumbersName(),
		}},
		"a PCCS, early": {func(c *pcs.Config) { c.Update = pcs.Early }, "https://pccs.example" + tdx.RootCRLName(), [4]string{
			"https://pccs.example" + tdx.QEIdentityName() + "?update=early", "https://pccs.example" + tdx.TCBInfoName(f) + "&update=early",
			"https://pccs.example" + tdx.PCKCRLName(tdx.PlatformCA), "https://pccs.example" + pcs.NumbersName(),
		}},
		"Intel, standard": {func(c *pcs.Config) { c.BaseURL, c.Update = pcs.Intel+"/", pcs.Standard }, pcs.IntelRootCRL, [4]string{
			pcs.Intel + tdx.QEIdentityName() + "?update=standard", pcs.Intel + tdx.TCBInfoName(f) + "&update=standard",
			pcs.Intel + tdx.PCKCRLName(tdx.PlatformCA), pcs.Intel + pcs.NumbersName(),
		}},
		"a mirror": {func(c *pcs.Config) { c.RootCRL = "https://mirror.example/IntelSGXRootCA.der" }, "https://mirror.example/IntelSGXRootCA.der", [4]string{
			"https://pccs.example" + tdx.QEIdentityName(), "https://pccs.example" + tdx.TCBInfoName(f),
			"https://pccs.example" + tdx.PCKCRLName(tdx.PlatformCA), "https://pccs.example" + pcs.NumbersName(),
		}},
	} {
		a := &asked{RoundTripper: pcstest.New(intel).Client().Transport}
		src := source(t, &http.Client{Transport: a}, tt.edit)
		for _, file := range names {
			c, err := src.Get(t.Context(), file)
			if err != nil && tt.root != "https://mirror.example/IntelSGXRootCA.der" || len(c) > 1 {
				t.Errorf("%s: %s: %v", name, file, err)
			}
		}
		if wanted := append([]string{tt.root}, tt.urls[:]...); !slices.Equal(a.urls, wanted) {
			t.Errorf("%s: asked for\n%s\nwant\n%s", name, strings.Join(a.urls, "\n"), strings.Join(wanted, "\n"))
		}
	}
}

// The early set is another one.
func TestEarly(t *testing.T) {
	s := pcstest.New(intel)
	p := intel.Platform(tdx.PlatformCA)
	info := intel.TCBInfo(p.PCK.FMSPC)
	info.Number++
	s.Publish(tdx.TCBInfoName(p.PCK.FMSPC)+"&update=early", intel.SignTCBInfo(info))
	identity := intel.QEIdentity()
	identity.Number++
	s.Publish(tdx.QEIdentityName()+"?update=early", intel.SignQEIdentity(identity))
	for update, number := range map[pcs.Update]uint32{"": tdxtest.EvaluationDataNumber, pcs.Standard: tdxtest.EvaluationDataNumber, pcs.Early: tdxtest.EvaluationDataNumber + 1} {
		src := source(t, s.Client(), func(c *pcs.Config) { c.Update = update })
		got, err := verifier(t, src).Verify(t.Context(), p.Quote(tdxtest.TD{}, want), want)
		if err != nil {
			t.Errorf("%q: %v", update, err)
			continue
		}
		if c, _ := tdx.ClaimsOf(got); c.TCB.EvaluationDataNumber != number {
			t.Errorf("%q: number %d, want %d", update, c.TCB.EvaluationDataNumber, number)
		}
	}
}

// Whatever the service is made to do, a quote is refused for the right reason, or
// not at all.
func TestFaults(t *testing.T) {
	p := intel.Platform(tdx.PlatformCA)
	info, other := tdx.TCBInfoName(p.PCK.FMSPC), tdxtest.FMSPC(tdx.ProcessorCA)
	day := func(n int) time.Time { return time.Now().AddDate(0, 0, n) }
	for _, tt := range []struct {
		name string
		do   func(*pcstest.Server)
		want error
	}{
		{"nothing", func(*pcstest.Server) {}, nil},
		{"slow", func(s *pcstest.Server) { s.Break(pcstest.Fault{Delay: time.Millisecond}) }, nil},
		{"down", func(s *pcstest.Server) { s.Break(pcstest.Fault{Down: true}) }, evidence.Unavailable},
		{"one down", func(s *pcstest.Server) { s.Break(pcstest.Fault{Down: true}, tdx.QEIdentityName()) }, evidence.Unavailable},
		{"unknown there", func(s *pcstest.Server) { s.Break(pcstest.Fault{Status: 404}, info) }, evidence.Unavailable},
		{"truncated", func(s *pcstest.Server) { s.Break(pcstest.Fault{Truncated: true}, info) }, evidence.Unavailable},
		{"a bomb", func(s *pcstest.Server) { s.Break(pcstest.Fault{Bomb: true}, info) }, evidence.Unavailable},
		{"endless", func(s *pcstest.Server) { s.Break(pcstest.Fault{Endless: true}, info) }, evidence.Unavailable},
		{"of another platform", func(s *pcstest.Server) { s.Publish(info, intel.SignTCBInfo(intel.TCBInfo(other))) }, evidence.Unavailable},
		{"a list of another CA", func(s *pcstest.Server) {
			s.Publish(tdx.PCKCRLName(tdx.PlatformCA), intel.SignCRL(tdxtest.CRL{By: tdxtest.ProcessorCA}))
		}, evidence.Unavailable},
		{"a list of the future", func(s *pcstest.Server) {
			s.Publish(tdx.PCKCRLName(tdx.PlatformCA), intel.SignCRL(tdxtest.CRL{By: tdxtest.PlatformCA, ThisUpdate: day(1)}))
		}, evidence.Stale},
		{"an old set", func(s *pcstest.Server) {
			i := intel.TCBInfo(p.PCK.FMSPC)
			i.Issued, i.NextUpdate = day(-31), day(-1)
			s.Publish(info, intel.SignTCBInfo(i))
		}, evidence.Stale},
		{"half of an old set", func(s *pcstest.Server) {
			i := intel.TCBInfo(p.PCK.FMSPC)
			i.Number--
			s.Publish(info, intel.SignTCBInfo(i))
		}, evidence.Stale},
		{"no issuer chain", func(s *pcstest.Server) {
			c := intel.SignTCBInfo(intel.TCBInfo(p.PCK.FMSPC))
			c.Issuer = nil
			s.Publish(info, c)
		}, evidence.Unavailable},
		{"another's issuer chain", func(s *pcstest.Server) {
			c := intel.SignTCBInfo(intel.TCBInfo(p.PCK.FMSPC))
			c.Issuer = tdxtest.NewIntel().SignTCBInfo(intel.TCBInfo(p.PCK.FMSPC)).Issuer
			s.Publish(info, c)
		}, evidence.Unavailable},
		{"half an issuer chain", func(s *pcstest.Server) {
			c := intel.SignTCBInfo(intel.TCBInfo(p.PCK.FMSPC))
			c.Issuer = c.Issuer[len(c.Issuer)/2:]
			s.Publish(info, c)
		}, evidence.Unavailable},
		{"an issuer chain and a third", func(s *pcstest.Server) {
			c := intel.SignTCBInfo(intel.TCBInfo(p.PCK.FMSPC))
			c.Issuer = append(slices.Clone(c.Issuer), c.Issuer...)
			s.Publish(info, c)
		}, evidence.Unavailable},
		{"changed by one bit", func(s *pcstest.Server) {
			s.Break(pcstest.Fault{Wrong: func(_ string, right []byte) []byte {
				return []byte(strings.Replace(string(right), `"tcbStatus":"OutOfDate"`, `"tcbStatus":"UpToDate"`, 1))
			}}, info)
		}, evidence.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := pcstest.New(intel)
			tt.do(s)
			_, err := verifier(t, source(t, s.Client(), nil)).Verify(t.Context(), p.Quote(tdxtest.TD{}, want), want)
			if (err == nil) != (tt.want == nil) || !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// Genuine answers are taken, header and all, and reach the Verifier as they were.
func TestGenuineAnswers(t *testing.T) {
	read := func(path ...string) []byte {
		b, err := os.ReadFile(filepath.Join(path...))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	dir := vectors.Path(t, "tdx/collateral")
	sets, err := os.ReadDir(dir)
	if err != nil || len(sets) < 5 {
		t.Fatalf("%d sets, %v", len(sets), err)
	}
	for _, set := range sets {
		path := filepath.Join(dir, set.Name())
		s := pcstest.New(intel)
		for file, name := range map[string]string{"tcb_info": "", "qe_identity": tdx.QEIdentityName()} {
			data := read(path, file+".json")
			if name == "" {
				name = tdx.NamesOf(data)[0]
			}
			chain := read(path, file+"_chain.pem")
			s.Publish(name, evidence.Collateral{Data: data, Issuer: chain})
			got, err := source(t, s.Client(), nil).Get(t.Context(), name)
			if err != nil || string(got[0].Data) != string(data) || string(got[0].Issuer) != string(chain) {
				t.Errorf("%s: %s: %v", set.Name(), file, err)
			}
		}
	}
}

// A header may leave the "+" of base64 as it is.
func TestPlusInHeader(t *testing.T) {
	c := intel.SignQEIdentity(intel.QEIdentity())
	for range 100 { // until a chain has one
		if strings.Contains(string(c.Issuer), "+") {
			break
		}
		c = tdxtest.NewIntel().SignQEIdentity(intel.QEIdentity())
	}
	left := url.PathEscape(string(c.Issuer))
	for _, escaped := range []string{left, strings.ReplaceAll(left, "+", "%2B")} {
		h := http.Header{"Sgx-Enclave-Identity-Issuer-Chain": {escaped}}
		src := source(t, answering(c.Data, h), nil)
		got, err := src.Get(t.Context(), tdx.QEIdentityName())
		if err != nil || string(got[0].Issuer) != string(c.Issuer) {
			t.Errorf("%v", err)
		}
	}
}

// answering answers everything with body.
func answering(body []byte, h http.Header) *http.Client {
	return &http.Client{Transport: answers{body, h}}
}

type answers struct {
	body   []byte
	header http.Header
}

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: a.header, Body: readCloser{strings.NewReader(string(a.body))}, ContentLength: -1}, nil
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func TestNames(t *testing.T) {
	s := pcstest.New(intel)
	src := source(t, s.Client(), nil)
	info := tdx.TCBInfoName(tdxtest.FMSPC(tdx.PlatformCA))
	for _, name := range []string{
		"", "/", "https://other.example/", "//other.example" + info, "@other.example" + info, info + "0", info[:len(info)-1], info + "&update=early",
		strings.ToUpper(info), info + "#", tdx.QEIdentityName() + "?", tdx.PCKCRLName(tdx.PlatformCA) + "&", "/vcek/v1/Milan/crl",
		"/sgx/certification/v4/pckcrl?ca=other&encoding=der", "/sgx/certification/v4/tcb?fmspc=00806f050000",
	} {
		if _, err := src.Get(t.Context(), name); !errors.Is(err, evidence.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if n := s.Requests(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestNumbers(t *testing.T) {
	src := source(t, pcstest.New(intel).Client(), nil)
	c, err := src.Get(t.Context(), pcs.NumbersName())
	if err != nil {
		t.Fatal(err)
	}
	numbers, ok := pcs.ParseNumbers(c[0].Data)
	if !ok || len(numbers) != 1 || numbers[0].Number != tdxtest.EvaluationDataNumber || numbers[0].Date.IsZero() || len(c[0].Issuer) == 0 {
		t.Errorf("%v, %v", numbers, ok)
	}
	for name, wrong := range map[string]string{
		"of SGX":       strings.Replace(string(c[0].Data), `"TDX"`, `"SGX"`, 1),
		"none":         `{"tcbEvaluationDataNumbers":{"id":"TDX","tcbEvalNumbers":[]},"signature":"00"}`,
		"not signed":   `{"tcbEvaluationDataNumbers":{"id":"TDX","tcbEvalNumbers":[{"tcbEvaluationDataNumber":18}]}}`,
		"one twice":    strings.Replace(string(c[0].Data), `"id":`, `"id":"TDX","id":`, 1),
		"something":    "{}",
		"and trailing": string(c[0].Data) + "x",
	} {
		if got, ok := pcs.ParseNumbers([]byte(wrong)); ok {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzParseNumbers(f *testing.F) {
	c, err := pcstestNumbers()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c)
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, ok := pcs.ParseNumbers(data); ok && len(got) == 0 {
			t.Error("none, and that is well")
		}
	})
}

func pcstestNumbers() ([]byte, error) {
	src, err := pcs.New(pcs.Config{BaseURL: "https://pcs.example", Client: pcstest.New(intel).Client()})
	if err != nil {
		return nil, err
	}
	c, err := src.Get(context.Background(), pcs.NumbersName())
	if err != nil {
		return nil, err
	}
	return c[0].Data, nil
}

// Whatever name, body and chain: no panic, and nothing but the file of that name.
func FuzzAnswer(f *testing.F) {
	info := intel.TCBInfo(tdxtest.FMSPC(tdx.PlatformCA))
	for name, c := range intel.Set(tdxtest.FMSPC(tdx.PlatformCA)) {
		f.Add(name, c[0].Data, url.PathEscape(string(c[0].Issuer)))
	}
	f.Add(tdx.TCBInfoName(tdxtest.FMSPC(tdx.ProcessorCA)), intel.SignTCBInfo(info).Data, "%zz")
	f.Fuzz(func(t *testing.T, name string, body []byte, chain string) {
		h := http.Header{}
		for _, k := range []string{"Tcb-Info-Issuer-Chain", "Sgx-Enclave-Identity-Issuer-Chain", "Sgx-Pck-Crl-Issuer-Chain", "Tcb-Evaluation-Data-Numbers-Issuer-Chain"} {
			h.Set(k, chain)
		}
		got, err := source(t, answering(body, h), nil).Get(context.Background(), name)
		if err == nil && name != pcs.NumbersName() && !slices.Contains(tdx.NamesOf(got[0].Data), name) {
			t.Errorf("%s: another file", name)
		}
	})
}

func TestConfig(t *testing.T) {
	for field, cfg := range map[string]pcs.Config{
		"BaseURL": {BaseURL: "x"}, "RootCRL": {RootCRL: "x"}, "Update": {Update: "Early"}, "Every": {Every: -1}, "Burst": {Burst: -1},
		"Patience": {Patience: -1}, "Timeout": {Timeout: -1}, "Attempts": {Attempts: -1},
	} {
		if _, err := pcs.New(cfg); err == nil || !strings.HasPrefix(err.Error(), "pcs: Config."+field+":") {
			t.Errorf("%s: %v", field, err)
		}
	}
}
