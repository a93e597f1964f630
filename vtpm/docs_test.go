package vtpm_test

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// docs/claims-vtpm.md names exactly the claims that there are, in their order.
func TestDocsListEveryClaim(t *testing.T) {
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(vtpm\\.[a-zA-Z0-9_.]+)` \\| (?:text|number|bool|list|bytes|[0-9]+ bytes) \\|").FindAllStringSubmatch(readDoc(t, "claims-vtpm.md"), -1) {
		documented = append(documented, m[1])
	}
	w, want := theWorld(), sixtyFour(t)
	svsm, _, _ := appraised(t)
	_, azure := claimsOf(t, w.newVerifier(t), w.azure().Evidence(vtpmtest.Quote{}, want), want)
	certified, _ := withCertificate(t)
	d := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	d.SetPCR(vtpm.SHA256, 13, bytes.Repeat([]byte{1}, 32))
	proving, err := vtpm.NewVerifier(vtpm.Config{
		Platform: w.verifier, AKs: linked{}, ProofPCR: proofPCR,
		Releases: shows{[32]byte(d.PCR(vtpm.SHA256, 13)): {Proof: vtpm.ProofLive, Tenant: "acme"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, proved := claimsOf(t, proving, w.svsm(d).Evidence(quoteOf(13), want), want)
	numbered := regexp.MustCompile(`\.sha[0-9]+\.[0-9]+$`)
	made := map[string]bool{}
	for _, v := range []*evidence.Verified{svsm, azure, certified, proved} {
		at, seen := 0, map[string]bool{}
		for name := range v.Claims.All() {
			if seen[name] {
				t.Errorf("%s twice", name)
			}
			seen[name] = true
			name = numbered.ReplaceAllString(name, ".BANK.N")
			made[name] = true
			i := slices.Index(documented, name)
			if i < at {
				t.Errorf("%s is documented at %d, after %d", name, i, at)
			}
			at = max(at, i)
		}
	}
	for _, name := range documented {
		if !made[name] {
			t.Errorf("%s is documented, and nobody claims it", name)
		}
	}
}

// What has names in documents has all of them.
func TestDocsListEveryName(t *testing.T) {
	doc, members := readDoc(t, "claims-vtpm.md"), readDoc(t, "policy-vtpm.md")
	for _, l := range vtpm.Links() {
		if !strings.Contains(doc, "| `"+string(l)+"` |") {
			t.Errorf("link %s", l)
		}
	}
	for _, m := range []vtpm.Manifest{vtpm.SVSMSingle, vtpm.SVSMAll, vtpm.AzureHCL1, vtpm.AzureHCL2} {
		if !strings.Contains(doc, "| `"+string(m)+"` |") {
			t.Errorf("manifest %s", m)
		}
	}
	for _, i := range []string{
		vtpm.AK, vtpm.PCRs, vtpm.SVSMNonce, vtpm.SVSMManifest, vtpm.SVSMServices,
		vtpm.HCL, vtpm.EK, vtpm.EKCertificate, vtpm.EventLog, vtpm.IMAList,
	} {
		if !strings.Contains(doc, "| `"+i+"` |") {
			t.Errorf("item %s", i)
		}
	}
	for _, m := range []string{"links", "allow_no_tee", "manifests", "eks", "aks", "user_data", "pcrs", "allow_other_pcrs", "events", "ima", "require_safe_clock"} {
		if !strings.Contains(members, "| `"+m+"` |") {
			t.Errorf("member %s", m)
		}
	}
}

// The example of docs/policy-vtpm.md is a policy document.
func TestDocsExample(t *testing.T) {
	_, example, ok := strings.Cut(readDoc(t, "policy-vtpm.md"), "<!-- example: global -->\n```json\n")
	example, _, end := strings.Cut(example, "```")
	if !ok || !end {
		t.Fatal("no example")
	}
	if _, err := policy.Parse([]byte(example), policy.Decoders{
		vtpm.Format: policy.Decoder(vtpm.DecodeReferenceValues), snp.Format: policy.Decoder(snp.DecodeReferenceValues),
	}); err != nil {
		t.Error(err)
	}
}

// reasons are those that docs/reasons.md has with each check, in the order there.
var reasons = sync.OnceValues(func() (map[string]string, []string) {
	b, _ := os.ReadFile("../docs/reasons.md")
	_, table, _ := strings.Cut(string(b), "\n## The checks of vtpm\n")
	table, _, _ = strings.Cut(table, "\n## ")
	given, order := map[string]string{}, []string(nil)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (.*) \\|$").FindAllStringSubmatch(table, -1) {
		given[m[1]] = m[2]
		order = append(order, m[1])
	}
	return given, order
})

// docs/reasons.md has every check, in order.
func TestDocsListEveryCheck(t *testing.T) {
	var checks []string
	for _, c := range vtpm.Checks() {
		checks = append(checks, c.Name)
		if c.Doc == "" {
			t.Errorf("%s says nothing", c.Name)
		}
	}
	if _, order := reasons(); !slices.Equal(order, checks) {
		t.Errorf("documented %v, made %v", order, checks)
	}
}
