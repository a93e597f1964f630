package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/internal/vectors"
)

// vector is a genuine report in the manifest of vectors/snp.
type vector struct {
	Name      string    `json:"name"`
	NotBefore time.Time `json:"cert_not_before"`
	NotAfter  time.Time `json:"cert_not_after"`
	Report    string    `json:"report_file"`
	VEK       string    `json:"vek_file"`
}

func (v vector) report(t *testing.T) string { return vectors.Path(t, "snp/"+v.Report) }
func (v vector) vek(t *testing.T) string    { return vectors.Path(t, "snp/"+v.VEK) }
func (v vector) within() string             { return v.NotAfter.AddDate(0, -1, 0).Format(time.RFC3339) }

// genuine returns the reports of the manifest by name.
func genuine(t *testing.T) map[string]vector {
	t.Helper()
	var manifest struct {
		Vectors []vector `json:"vectors"`
	}
	vectors.JSON(t, "snp/manifest.json", &manifest)
	found := map[string]vector{}
	for _, v := range manifest.Vectors {
		if v.Report != "" {
			found[v.Name] = v
		}
	}
	if len(found) != 8 {
		t.Fatalf("%d genuine reports in the manifest, want 8", len(found))
	}
	return found
}

// answer is the object that -json prints.
type answer struct {
	Format     string         `json:"format"`
	Authentic  bool           `json:"authentic"`
	Binding    string         `json:"binding"`
	Accepted   *bool          `json:"accepted"`
	Reason     string         `json:"reason"`
	Check      string         `json:"check"`
	Field      string         `json:"field"`
	Detail     string         `json:"detail"`
	Mismatches []gotWant      `json:"mismatches"`
	Checks     []outcome      `json:"checks"`
	Claims     map[string]any `json:"claims"`
	NotAfter   *string        `json:"not_after"`
}

type gotWant struct {
	Claim string `json:"claim"`
	Got   any    `json:"got"`
	Op    string `json:"op"`
	Want  any    `json:"want"`
	Rule  string `json:"rule"`
}

type outcome struct {
	Name    string `json:"name"`
	Outcome string `json:"outcome"`
}

func (a answer) outcome(check string) string {
	for _, c := range a.Checks {
		if c.Name == check {
			return c.Outcome
		}
	}
	return ""
}

// ask runs the tool with -json and returns the status and the object, which
// must be all there is on standard output.
func ask(t *testing.T, args ...string) (int, answer) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := run(append([]string{"-json"}, args...), &stdout, &stderr)
	if status == 2 || stderr.Len() > 0 {
		t.Fatalf("status %d: %s", status, stderr.String())
	}
	var a answer
	d := json.NewDecoder(&stdout)
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		t.Fatal(err)
	}
	if err := d.Decode(&struct{}{}); err != io.EOF {
		t.Fatalf("more than one object: %v", err)
	}
	return status, a
}

// say runs the tool for people and returns the status and what it says.
func say(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := run(args, &stdout, &stderr)
	if status == 2 {
		t.Fatal(stderr.String())
	}
	return status, stdout.String()
}

// want compares status, reason and check of an answer that is a no.
func want(t *testing.T, status int, a answer, reason, check string) {
	t.Helper()
	if status != 1 || a.Authentic || a.Reason != reason || a.Check != check {
		t.Errorf("status %d, authentic %v, %s of %s (%s), want %s of %s", status, a.Authentic, a.Reason, a.Check, a.Detail, reason, check)
	}
	if len(a.Claims) != 0 || a.NotAfter != nil {
		t.Errorf("claims %v until %v of what is not authentic", a.Claims, a.NotAfter)
	}
}

func TestGenuineReports(t *testing.T) {
	all := genuine(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			v := all[name]
			file, within := v.report(t), v.within()

			status, a := ask(t, "-endorsements", v.vek(t), "-allow-no-revocation", "-at", within, file)
			if status != 0 || !a.Authentic || a.Format != "snp" || a.Binding != "unchecked" || a.Accepted != nil || a.Reason != "" {
				t.Fatalf("status %d, %+v", status, a)
			}
			if a.outcome("revocation") != "skipped" || a.outcome("binding") != "skipped" || a.outcome("signature") != "passed" {
				t.Errorf("checks %v", a.Checks)
			}
			if a.Claims["snp.line"] == nil || a.NotAfter == nil || *a.NotAfter != v.NotAfter.Format(time.RFC3339) {
				t.Errorf("claims %v until %v", a.Claims, a.NotAfter)
			}

			status, a = ask(t, "-endorsements", v.vek(t), "-at", within, file)
			want(t, status, a, "unavailable", "revocation")

			expired := v.NotAfter.Add(time.Second).Format(time.RFC3339)
			status, a = ask(t, "-endorsements", v.vek(t), "-allow-no-revocation", "-at", expired, file)
			want(t, status, a, "stale", "validity")

			other := all["trustee-vcek"]
			if name == other.Name {
				other = all["gosev-milan-v2-vcek"]
			}
			status, a = ask(t, "-endorsements", other.vek(t), "-allow-no-revocation", "-at", within, file)
			if want(t, status, a, "untrusted", a.Check); a.Check == "" {
				t.Error("no check named")
			}

			status, a = ask(t, "-allow-no-revocation", "-at", within, file)
			want(t, status, a, "unavailable", "endorsement")
		})
	}
}

func TestBinding(t *testing.T) {
	v := genuine(t)["oak-turin-oc"]
	signed := hex.EncodeToString(vectors.Read(t, "snp/"+v.Report)[0x50:0x90])
	other := "01" + signed[2:]
	for _, test := range []struct {
		name, hex string
		status    int
		binding   string
		reason    string
		check     string
	}{
		{"what was signed", signed, 0, "ok", "", "passed"},
		{"what was signed, in upper case", strings.ToUpper(signed), 0, "ok", "", "passed"},
		{"another value", other, 1, "mismatch", "not-bound", "failed"},
		{"a part of it", signed[:62], 1, "mismatch", "not-bound", "failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, a := ask(t, "-endorsements", v.vek(t), "-allow-no-revocation", "-at", v.within(), "-binding", test.hex, v.report(t))
			if status != test.status || !a.Authentic || a.Binding != test.binding || a.Reason != test.reason || a.outcome("binding") != test.check {
				t.Errorf("status %d, %+v", status, a)
			}
			if a.outcome("signature") != "passed" || len(a.Claims) == 0 {
				t.Errorf("the binding changed the rest: %v", a.Checks)
			}
		})
	}
	t.Run("evidence that is not authentic is not compared", func(t *testing.T) {
		status, a := ask(t, "-endorsements", v.vek(t), "-at", v.within(), "-binding", other, v.report(t))
		want(t, status, a, "unavailable", "revocation")
		if a.Binding != "unchecked" {
			t.Error(a.Binding)
		}
	})
}

func TestCertificateWithoutIssuer(t *testing.T) {
	v := genuine(t)["trustee-vcek"]
	bad := vectors.Path(t, "snp/trustee-vcek-invalid-new.vek.der")
	status, a := ask(t, "-endorsements", bad, "-allow-no-revocation", "-at", v.within(), v.report(t))
	want(t, status, a, "untrusted", "chain")
}

func TestEndorsements(t *testing.T) {
	all := genuine(t)
	tsm := all["veraison-tsm-vcek"]
	folder := filepath.Dir(tsm.report(t))
	for _, test := range []struct{ name, paths string }{
		{"a certificate table with PEM", vectors.Path(t, "snp/veraison-tsm-vcek.auxblob.bin")},
		{"a chain and a certificate", vectors.Path(t, "snp/veraison-tsm-vcek.chain.pem") + "," + tsm.vek(t)},
		{"the certificate of another chip too", all["trustee-vcek"].vek(t) + "," + tsm.vek(t)},
		{"a folder with the certificates of many", folder},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, a := ask(t, "-endorsements", test.paths, "-allow-no-revocation", "-at", tsm.within(), tsm.report(t))
			if status != 0 || !a.Authentic {
				t.Errorf("status %d: %s", status, a.Detail)
			}
		})
	}
	t.Run("a chain alone has no VEK", func(t *testing.T) {
		status, a := ask(t, "-endorsements", vectors.Path(t, "snp/veraison-tsm-vcek.chain.pem"), "-allow-no-revocation", "-at", tsm.within(), tsm.report(t))
		want(t, status, a, "unavailable", "endorsement")
	})
}

func TestNoEvidence(t *testing.T) {
	v := genuine(t)["lunal-genoa-v5"]
	report := vectors.Read(t, "snp/"+v.Report)
	noise := bytes.Repeat([]byte{0xa7, 0x31, 0xfe, 0x08}, 300)
	for _, test := range []struct {
		name string
		raw  []byte
	}{
		{"empty", nil},
		{"one byte", report[:1]},
		{"truncated", report[:len(report)-1]},
		{"trailing byte", append(bytes.Clone(report), 0)},
		{"random", noise},
		{"text", []byte("no evidence")},
		{"beyond every limit", make([]byte, maxFile+1)},
	} {
		for _, format := range []string{"auto", "snp", "cca"} {
			t.Run(test.name+" as "+format, func(t *testing.T) {
				file := write(t, "evidence", test.raw)
				status, a := ask(t, "-format", format, "-endorsements", v.vek(t), "-allow-no-revocation", "-at", v.within(), file)
				want(t, status, a, "malformed", a.Check)
				if len(test.raw) > 0 && strings.Contains(a.Detail, " 0 bytes") {
					t.Errorf("%d bytes: %s", len(test.raw), a.Detail)
				}
				if status, text := say(t, "-format", format, file); status != 1 || !strings.HasPrefix(text, "NOT GENUINE") {
					t.Errorf("status %d: %s", status, text)
				}
			})
		}
	}
}

func TestEveryByteCounts(t *testing.T) {
	v := genuine(t)["lunal-genoa-v5"]
	report := vectors.Read(t, "snp/"+v.Report)
	for _, at := range []int{0, 0x50, 0x90, 0x180, 0x2a0, 0x330, 1183} {
		bad := bytes.Clone(report)
		bad[at] ^= 0x10
		status, a := ask(t, "-endorsements", v.vek(t), "-allow-no-revocation", "-at", v.within(), write(t, "evidence", bad))
		if status != 1 || a.Authentic || a.Reason == "" {
			t.Errorf("byte %#x changed: status %d, %+v", at, status, a)
		}
	}
}

// A file that is no evidence is a no; what keeps the tool from answering is not.
func TestUnusable(t *testing.T) {
	file := write(t, "evidence", []byte("no evidence"))
	for _, test := range []struct {
		name string
		args []string
		says string
	}{
		{"no FILE", nil, "want one FILE"},
		{"two FILEs", []string{file, file}, "want one FILE"},
		{"FILE that is not there", []string{file + "x"}, "no such file"},
		{"FILE that is a folder", []string{filepath.Dir(file)}, "is a directory"},
		{"flag behind FILE", []string{file, "-json"}, "want one FILE"},
		{"unknown flag", []string{"-whatever", file}, "-whatever"},
		{"unknown format", []string{"-format", "sgx", file}, "no such format"},
		{"binding that is no hex", []string{"-binding", "xy", file}, "-binding"},
		{"binding of no bytes", []string{"-binding", "", file}, "no binding of 0 bytes"},
		{"binding of zeros", []string{"-binding", "0000", file}, "no binding of 2 bytes"},
		{"binding of 65 bytes", []string{"-binding", strings.Repeat("01", 65), file}, "no binding of 65 bytes"},
		{"time that is none", []string{"-at", "yesterday", file}, "-at"},
		{"endorsements that are not there", []string{"-endorsements", file + "x", file}, "no such file"},
		{"endorsements of no name", []string{"-endorsements", "a,,b", file}, "empty name"},
		{"roots that are not there", []string{"-roots", file + "x", file}, "no such file"},
		{"roots that are none", []string{"-roots", file, file}, "no certificates"},
		{"policy that is not there", []string{"-policy", file + "x", file}, "no such file"},
		{"policy of no name", []string{"-policy", "", file}, "no name of a file"},
		{"policy that is none", []string{"-policy", file, file}, "policy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := run(append([]string{"-json"}, test.args...), &stdout, &stderr)
			if status != 2 || stdout.Len() > 0 || !strings.Contains(stderr.String(), test.says) {
				t.Errorf("status %d, %q, %q; want %q", status, stdout.String(), stderr.String(), test.says)
			}
		})
	}
}

func TestHelpTeaches(t *testing.T) {
	status, text := say(t, "-h")
	if status != 0 {
		t.Errorf("status %d", status)
	}
	for _, part := range []string{
		"verify -endorsements vcek.der -allow-no-revocation report.bin", "Exit status",
		"-format", "-endorsements", "-roots", "-policy", "-at", "-binding", "-allow-no-revocation", "-allow-no-tcb", "-json",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in the help", part)
		}
	}
}

func TestForPeople(t *testing.T) {
	v := genuine(t)["oak-turin-oc"]
	args := []string{"-endorsements", v.vek(t), "-at", v.within()}
	for _, test := range []struct {
		name   string
		args   []string
		status int
		starts string
		says   []string
	}{
		{"genuine", []string{"-allow-no-revocation"}, 0, "GENUINE AMD SEV-SNP report\n", []string{"left out", "Claims\n", "snp.line"}},
		{"not genuine", nil, 1, "NOT SHOWN TO BE GENUINE AMD SEV-SNP report\n", []string{"unavailable", "It says, and nothing vouches for it\n", "snp.measurement"}},
		{"not bound", []string{"-allow-no-revocation", "-binding", "01"}, 1, "GENUINE, SIGNED FOR SOMETHING ELSE", []string{"not-bound", "REPORT_DATA"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, text := say(t, slices.Concat(args, test.args, []string{v.report(t)})...)
			if status != test.status || !strings.HasPrefix(text, test.starts) || strings.Contains(text, "\x1b") {
				t.Errorf("status %d: %s", status, text)
			}
			for _, part := range test.says {
				if !strings.Contains(text, part) {
					t.Errorf("no %q in:\n%s", part, text)
				}
			}
		})
	}
}

// write writes a file of the test and returns its path.
func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
