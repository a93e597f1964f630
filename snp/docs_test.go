package snp_test

import (
	"encoding/hex"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// docs/claims.md names exactly the claims that there are, in their order.
func TestDocsListEveryClaim(t *testing.T) {
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(snp\\.[a-z0-9_.]+)` \\|").FindAllStringSubmatch(readDoc(t, "claims.md"), -1) {
		documented = append(documented, m[1])
	}
	b := wellFormed(5)
	b[0x188], b[0x189] = 0x1A, 0x02
	turin, err := snp.ParseReport(b)
	if err != nil {
		t.Fatal(err)
	}
	var made []string
	for name := range (&snp.Claims{Report: turin, Line: snp.Turin, Key: snp.VCEK}).All() {
		made = append(made, name)
	}
	for name := range (&snp.Claims{Report: turin, Line: snp.Turin, Key: snp.VLEK}).All() {
		if name == "snp.csp" {
			made = append(made, name)
		}
	}
	if got, want := strings.Join(documented, "\n"), strings.Join(made, "\n"); got != want {
		t.Errorf("documented:\n%s\nmade:\n%s", got, want)
	}
}

// docs/report.md shows what is in the report, every byte of it, and the claims it makes.
func TestDocsAnnotateAGenuineReport(t *testing.T) {
	raw := genuineReport(t, "lunal-genoa-v5").report(t)
	r, err := snp.ParseReport(raw)
	if err != nil {
		t.Fatal(err)
	}
	doc := readDoc(t, "report.md")
	next := 0
	for _, m := range regexp.MustCompile("(?m)^\\| 0x([0-9A-F]{3}) \\| ([0-9]+) \\| [^|]+ \\| `([0-9a-f]+)(…?)` \\|").FindAllStringSubmatch(doc, -1) {
		at, _ := strconv.ParseUint(m[1], 16, 16)
		size, _ := strconv.Atoi(m[2])
		if int(at) != next {
			t.Fatalf("row at %#x, want %#x", at, next)
		}
		next += size
		field := hex.EncodeToString(raw[at:next])
		if m[4] == "" && field != m[3] || !strings.HasPrefix(field, m[3]) {
			t.Errorf("%#x shows %s, has %s", at, m[3], field)
		}
	}
	if next != len(raw) {
		t.Errorf("the rows end at %#x", next)
	}
	claims := map[string]string{}
	for name, value := range r.All() {
		claims[name] = value.String()
	}
	shown := regexp.MustCompile("`(snp\\.[a-z0-9_.]+) = ([^`]*)`").FindAllStringSubmatch(doc, -1)
	for _, m := range shown {
		if claims[m[1]] != m[2] {
			t.Errorf("shows %s = %s, the report says %s", m[1], m[2], claims[m[1]])
		}
	}
	if len(shown) < 20 {
		t.Errorf("only %d claims are shown", len(shown))
	}
}

func TestClaimValues(t *testing.T) {
	b := wellFormed(5)
	b[0x188], b[0x189] = 0x1A, 0x02
	b[0x00A] = 0x03 | 0x08 // SMT and DEBUG
	b[0x040] = 0x65
	copy(b[0x038:], []byte{1, 2, 3, 4, 0, 0, 0, 5})
	r, err := snp.ParseReport(b)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]evidence.Value{}
	c := snp.Claims{Report: r, Line: snp.Turin, Key: snp.VLEK, CSP: "CN=x"}
	for name, value := range c.All() {
		if _, again := got[name]; again {
			t.Errorf("%s twice", name)
		}
		got[name] = value
	}
	for name, want := range map[string]evidence.Value{
		"snp.policy":                        evidence.Uint(0xB0000),
		"snp.policy.smt":                    evidence.Bool(true),
		"snp.policy.debug":                  evidence.Bool(true),
		"snp.policy.migrate_ma":             evidence.Bool(false),
		"snp.platform.alias_check_complete": evidence.Bool(true),
		"snp.platform.iommu_write_safe":     evidence.Bool(true),
		"snp.platform.tsme_enabled":         evidence.Bool(false),
		"snp.tcb.current.fmc":               evidence.Uint(1),
		"snp.tcb.current.bootloader":        evidence.Uint(2),
		"snp.tcb.current.tee":               evidence.Uint(3),
		"snp.tcb.current.firmware":          evidence.Uint(4),
		"snp.tcb.current.microcode":         evidence.Uint(5),
		"snp.tcb.reported.firmware":         evidence.Uint(0),
		"snp.line":                          evidence.Text("Turin"),
		"snp.key":                           evidence.Text("VLEK"),
		"snp.csp":                           evidence.Text("CN=x"),
		"snp.author_key_digest":             evidence.Bytes(make([]byte, 48)),
	} {
		if !got[name].Equal(want) {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if _, ok := got["snp.chip"]; ok {
		t.Error("a VLEK names a chip")
	}
	for range c.All() {
		break // and nothing panics
	}
}

func TestVersion2ClaimsNoProcessor(t *testing.T) {
	r, err := snp.ParseReport(wellFormed(2))
	if err != nil {
		t.Fatal(err)
	}
	for name := range r.All() {
		if strings.HasPrefix(name, "snp.cpu") || strings.HasPrefix(name, "snp.tcb") || strings.HasPrefix(name, "snp.mitigations") {
			t.Errorf("a report of version 2 that is only parsed claims %s", name)
		}
	}
}

// Each bit is one claim, with the name of AMD 56860 and no other.
func TestEveryBitHasItsName(t *testing.T) {
	for bit, want := range map[int]string{
		8*0x008 + 16: "snp.policy.smt",
		8*0x008 + 18: "snp.policy.migrate_ma",
		8*0x008 + 19: "snp.policy.debug",
		8*0x008 + 20: "snp.policy.single_socket",
		8*0x008 + 21: "snp.policy.cxl",
		8*0x008 + 22: "snp.policy.mem_aes_256_xts",
		8*0x008 + 23: "snp.policy.rapl_disable",
		8*0x008 + 24: "snp.policy.ciphertext_hiding_dram",
		8*0x008 + 25: "snp.policy.page_swap_disable",
		8*0x040 + 0:  "snp.platform.smt_enabled",
		8*0x040 + 1:  "snp.platform.tsme_enabled",
		8*0x040 + 2:  "snp.platform.ecc_enabled",
		8*0x040 + 3:  "snp.platform.rapl_disabled",
		8*0x040 + 4:  "snp.platform.ciphertext_hiding_dram_enabled",
		8*0x040 + 5:  "snp.platform.alias_check_complete",
		8*0x040 + 6:  "snp.platform.iommu_write_safe",
		8*0x040 + 7:  "snp.platform.tio_enabled",
	} {
		b := wellFormed(5)
		b[0x00A] = 2 // bit 17 only
		b[bit/8] |= 1 << (bit % 8)
		r, err := snp.ParseReport(b)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range r.All() {
			if on := value.Equal(evidence.Bool(true)); on != (name == want) {
				t.Errorf("%s: %s is %v", want, name, value)
			}
		}
	}
}

// reasons are those that docs/reasons.md has with each check.
var reasons = sync.OnceValues(func() (map[string]string, error) {
	b, err := os.ReadFile("../docs/reasons.md")
	_, table, _ := strings.Cut(string(b), "\n## The checks of snp-report\n")
	table, _, _ = strings.Cut(table, "\n## ")
	given := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (.*) \\|$").FindAllStringSubmatch(table, -1) {
		given[m[1]] = m[2]
	}
	return given, err
})

// documented fails t unless docs/reasons.md says that check gives reason.
func documented(t testing.TB, check string, reason evidence.Reason) {
	t.Helper()
	given, err := reasons()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(given[check], "`"+string(reason)+"`") {
		t.Errorf("docs/reasons.md has %q for check %q, which gave %q", given[check], check, reason)
	}
}
