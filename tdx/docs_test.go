package tdx_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// docs/claims-tdx.md names exactly the claims that there are, in their order.
func TestDocsListEveryClaim(t *testing.T) {
	var documented, made []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(tdx\\.[a-z0-9_.]+)` \\|").FindAllStringSubmatch(readDoc(t, "claims-tdx.md"), -1) {
		documented = append(documented, m[1])
	}
	s := simulate(newSimulatedIntel(), tdx.PlatformCA)
	s.td.Version, s.td.Log = 5, measured()
	s.platform.Launched[0] = 4 // which gives shortfalls and updates
	got, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	for name := range got.Claims.All() {
		made = append(made, name)
	}
	if got, want := strings.Join(documented, "\n"), strings.Join(made, "\n"); got != want {
		t.Errorf("documented:\n%s\nmade:\n%s", got, want)
	}
}

// The page lists the checks in the order in which they are made, with Reasons.
func TestDocsListEveryCheck(t *testing.T) {
	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (`[a-z`, -]+`) \\|$").FindAllStringSubmatch(readDoc(t, "claims-tdx.md"), -1)
	checks := tdx.Checks()
	if len(rows) != len(checks) {
		t.Fatalf("%d rows for %d checks", len(rows), len(checks))
	}
	for i, c := range checks {
		if rows[i][1] != c.Name || c.Doc == "" {
			t.Errorf("row %d is %s, want %s", i, rows[i][1], c.Name)
		}
	}
}

// The checks are made in the order in which they are listed: one that fails says
// nothing of those after it.
func TestOutcomes(t *testing.T) {
	f := newFake(t)
	f.revokePCK()
	want := evidence.UncheckedBindingUnsafe()
	cfg := f.config()
	cfg.SkipTCBUnsafe = true
	raw := f.quote()
	got, err := newVerifier(t, cfg).Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw}, want)
	outcomes := map[string]evidence.Outcome{}
	for c, o := range evidence.Outcomes(tdx.Checks(), want, got, err) {
		outcomes[c.Name] = o
	}
	for name, want := range map[string]evidence.Outcome{
		"signature": evidence.Passed, "binding": evidence.Skipped, "revocation": evidence.Failed, "tcb": evidence.NotReached,
	} {
		if outcomes[name] != want {
			t.Errorf("%s %s, want %s", name, outcomes[name], want)
		}
	}
}

func TestClaimValues(t *testing.T) {
	f := newFake(t)
	f.td.Attributes = tdx.Debug | tdx.HGSPlusProf | tdx.SEPTVEDisable | tdx.Migratable
	f.setQE(4)
	got := map[string]evidence.Value{}
	for name, value := range f.claims().All() {
		if _, again := got[name]; again {
			t.Errorf("%s twice", name)
		}
		got[name] = value
	}
	for name, want := range map[string]evidence.Value{
		"tdx.td_attributes":                 evidence.Uint(0x30000011),
		"tdx.td_attributes.debug":           evidence.Bool(true),
		"tdx.td_attributes.hgs_plus_prof":   evidence.Bool(true),
		"tdx.td_attributes.perf_prof":       evidence.Bool(false),
		"tdx.td_attributes.sept_ve_disable": evidence.Bool(true),
		"tdx.td_attributes.migratable":      evidence.Bool(true),
		"tdx.td_attributes.pks":             evidence.Bool(false),
		"tdx.module.svn":                    evidence.Uint(7),
		"tdx.module.version":                evidence.Uint(1),
		"tdx.fmspc":                         evidence.Bytes(fakeFMSPC[:]),
		"tdx.pck.ca":                        evidence.Text("platform"),
		"tdx.pck.pcesvn":                    evidence.Uint(0x1234),
		"tdx.pck.smt_enabled":               evidence.Bool(true),
		"tdx.pck.cached_keys":               evidence.Bool(false),
		"tdx.pck.sgx_type":                  evidence.Text("scalable"),
		"tdx.tcb.status":                    evidence.Text("OutOfDate"),
		"tdx.tcb.platform":                  evidence.Text("UpToDate"),
		"tdx.tcb.qe":                        evidence.Text("OutOfDate"),
		"tdx.tcb.updates":                   evidence.List(evidence.Text("quoting enclave")),
		"tdx.collateral.age":                evidence.Uint(0),
	} {
		if !got[name].Equal(want) {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	for range f.claims().All() {
		break // and nothing panics
	}
}

// What is not said of a TD or a platform is not claimed.
func TestAbsentClaims(t *testing.T) {
	f := newFake(t)
	f.td.Version = 4
	f.setCA(tdx.ProcessorCA)
	cfg := f.config()
	cfg.SkipTCBUnsafe = true
	got, err := f.verifyQuote(cfg, f.quote())
	if err != nil {
		t.Fatal(err)
	}
	for name := range got.Claims.All() {
		switch {
		case name == "tdx.mrservicetd", name == "tdx.tee_tcb_svn2", name == "tdx.platform_instance", name == "tdx.pck.smt_enabled", strings.HasPrefix(name, "tdx.tcb."):
			t.Errorf("%s is claimed", name)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{tdx.TCBInfoName(fakeFMSPC), "/tdx/certification/v4/tcb?fmspc=90c06f010203"},
		{tdx.QEIdentityName(), "/tdx/certification/v4/qe/identity"},
		{tdx.PCKCRLName(tdx.PlatformCA), "/sgx/certification/v4/pckcrl?ca=platform&encoding=der"},
		{tdx.PCKCRLName(tdx.ProcessorCA), "/sgx/certification/v4/pckcrl?ca=processor&encoding=der"},
		{tdx.PCKCRLName(0), ""},
		{tdx.RootCRLName(), "/sgx/certification/v4/rootcacrl"},
		{tdx.SGXStandard.String(), "standard"},
		{tdx.SGXScalable.String(), "scalable"},
		{tdx.SGXScalableWithIntegrity.String(), "scalable with integrity"},
		{(tdx.SGXScalableWithIntegrity + 1).String(), "none"},
		{tdx.ProcessorCA.String(), "processor"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

// Files are known by what they hold, and by nothing else.
func TestNamesOf(t *testing.T) {
	f := newFake(t)
	check := func(claim string, data []byte, want ...string) {
		t.Helper()
		if got := tdx.NamesOf(data); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %q, want %q", claim, got, want)
		}
	}
	for name, cs := range f.source() {
		check(name, cs[0].Data, name)
		check("half of "+name, cs[0].Data[:len(cs[0].Data)/2])
	}
	f.setCA(tdx.ProcessorCA)
	check("list of the Processor CA", f.intel.SignCRL(f.pckCRL).Data, tdx.PCKCRLName(tdx.ProcessorCA))
	another := f.pckCRL
	another.Edit = func(l *tdxtest.TBSCertList) { l.Issuer = tdxtest.Name("Another CA") }
	check("list of another CA", f.intel.SignCRL(another).Data)
	delete(f.info, "tdxModule")
	check("TCB Info of SGX", f.document(tdxtest.MemberTCBInfo, f.info).Data)
	f.identity["id"] = "QE"
	check("identity of another enclave", f.document(tdxtest.MemberQEIdentity, f.identity).Data)
	check("nothing", nil)
	check("a certificate", f.intel.Anchors()[0])
	check("too long", make([]byte, 2<<20))
}
