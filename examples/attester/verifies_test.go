package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// built is the verify program, for all tests.
var built = sync.OnceValues(func() (string, error) {
	dir, err := shared()
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "verify")
	if out, err := exec.Command("go", "build", "-o", program, "../verify").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return program, nil
})

// verifier returns a function that runs the verify program.
func verifier(t *testing.T) func(args ...string) (int, string) {
	t.Helper()
	program, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return func(args ...string) (int, string) {
		out, err := exec.Command(program, args...).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if exit != nil {
			return exit.ExitCode(), string(out)
		}
		return 0, string(out)
	}
}

// What quote writes is all that verify needs, revocation included.
func TestQuoteVerifies(t *testing.T) {
	verify := verifier(t)
	dir, out := simulated(t), t.TempDir()
	for _, product := range []string{"Milan", "Genoa", "Turin"} {
		t.Run(product, func(t *testing.T) {
			report, roots := filepath.Join(out, product), filepath.Join(out, product+".pem")
			must(t, "quote", "-tee", "snp", "-simulate", dir, "-product", product, "-report-data", "5f0c", "-out", report,
				"-tenant", "acme", "-instance", instance)
			must(t, "roots", "-simulate", dir, "-out", roots)
			args := []string{"-roots", roots, "-endorsements", report + ".endorsements", "-json"}

			status, text := verify(append(args, "-binding", "5f0c", report)...)
			var a struct {
				Authentic bool
				Binding   string
				Claims    map[string]any
			}
			if err := json.Unmarshal([]byte(text), &a); err != nil || status != 0 || !a.Authentic || a.Binding != "ok" {
				t.Fatalf("status %d: %s", status, text)
			}
			digest := measurement()
			for claim, want := range map[string]string{
				"snp.line":        product,
				"snp.measurement": hex.EncodeToString(digest[:]),
				"snp.host_data":   identityOfAcme,
			} {
				if a.Claims[claim] != want {
					t.Errorf("%s is %v, want %s", claim, a.Claims[claim], want)
				}
			}

			var guest struct{ Policy json.RawMessage }
			text = must(t, "show", "-simulate", dir, "-product", product, "-tenant", "acme", "-instance", instance)
			if err := json.Unmarshal([]byte(text), &guest); err != nil {
				t.Fatal(err)
			}
			document := filepath.Join(out, product+".json")
			if err := os.WriteFile(document, guest.Policy, 0o600); err != nil {
				t.Fatal(err)
			}
			if status, text := verify(append(args, "-binding", "5f0c", "-policy", document, report)...); status != 0 || !strings.Contains(text, `"accepted": true`) {
				t.Errorf("by the policy of show: status %d: %s", status, text)
			}
			neighbour := filepath.Join(out, product+"-neighbour")
			must(t, "quote", "-tee", "snp", "-simulate", dir, "-product", product, "-report-data", "5f0c", "-out", neighbour)
			if status, text := verify(append(args, "-binding", "5f0c", "-policy", document, neighbour)...); status != 1 || !strings.Contains(text, "snp.host_data") {
				t.Errorf("a guest launched for nobody: status %d: %s", status, text)
			}
			if status, text := verify(append(args, "-binding", "5f0d", report)...); status != 1 || !strings.Contains(text, "not-bound") {
				t.Errorf("another binding: status %d: %s", status, text)
			}
			if status, text := verify("-endorsements", report+".endorsements", report); status != 1 || !strings.Contains(text, "untrusted") {
				t.Errorf("without -roots: status %d: %s", status, text)
			}
		})
	}
}

// The same of a TD and of a realm: quote, roots and the policy of show are all that
// verify needs, and each of them counts.
func TestOtherQuotesVerify(t *testing.T) {
	verify := verifier(t)
	for _, test := range []struct {
		tee    string
		launch string            // the claim of who it was launched for
		zeros  int               // behind the launch identity, in bytes
		shown  map[string]string // claims by the member of show that says them
		claims map[string]any
	}{
		{
			teeTDX, "tdx.mrconfigid", 16,
			map[string]string{"measurement": "tdx.mrtd", "mrconfigid": "tdx.mrconfigid", "chip": "tdx.ppid", "fmspc": "tdx.fmspc"},
			map[string]any{"tdx.tcb.status": "UpToDate"},
		},
		{
			teeCCA, "cca.rpv", 32,
			map[string]string{"measurement": "cca.rim", "rpv": "cca.rpv", "chip": "cca.instance_id", "implementation": "cca.implementation_id", "root": "cca.cpak"},
			map[string]any{"cca.lifecycle_state": "secured", "cca.debug": false},
		},
	} {
		t.Run(test.tee, func(t *testing.T) {
			dir, out := t.TempDir(), t.TempDir()
			file, neighbour := filepath.Join(out, "quote"), filepath.Join(out, "neighbour")
			roots, document := filepath.Join(out, "roots.pem"), filepath.Join(out, "policy.json")
			of := []string{"-tee", test.tee, "-simulate", dir}
			forAcme := append(of, "-tenant", "acme", "-instance", instance)
			must(t, append(append([]string{"quote", "-report-data", "5f0c", "-out", file}, of...), "-tenant", "acme", "-instance", instance)...)
			must(t, append([]string{"quote", "-report-data", "5f0c", "-out", neighbour}, of...)...)
			must(t, "roots", "-simulate", dir, "-out", roots)

			var guest map[string]any
			if err := json.Unmarshal([]byte(must(t, append([]string{"show"}, forAcme...)...)), &guest); err != nil {
				t.Fatal(err)
			}
			policy, err := json.Marshal(guest["policy"])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(document, policy, 0o600); err != nil {
				t.Fatal(err)
			}

			args := []string{"-json", "-roots", roots, "-policy", document, "-endorsements", file + ".endorsements"}
			status, text := verify(append(args, "-binding", "5f0c", file)...)
			var a struct {
				Format, Binding     string
				Authentic, Accepted bool
				Claims              map[string]any
			}
			if err := json.Unmarshal([]byte(text), &a); err != nil || status != 0 || a.Format != test.tee || !a.Authentic || !a.Accepted || a.Binding != "ok" {
				t.Fatalf("status %d: %s", status, text)
			}
			if a.Claims[test.launch] != identityOfAcme+strings.Repeat("00", test.zeros) {
				t.Errorf("%s is %v", test.launch, a.Claims[test.launch])
			}
			for member, claim := range test.shown {
				if guest[member] == nil || a.Claims[claim] != guest[member] {
					t.Errorf("%s is %v, shown as %v", claim, a.Claims[claim], guest[member])
				}
			}
			for claim, want := range test.claims {
				if a.Claims[claim] != want {
					t.Errorf("%s is %v, want %v", claim, a.Claims[claim], want)
				}
			}
			if events, _ := a.Claims["tdx.rtmr0.events"].([]any); test.tee == teeTDX && len(events) != 1 {
				t.Errorf("events of RTMR0: %v", events)
			}

			elsewhere, stranger, others := t.TempDir(), filepath.Join(out, "stranger"), filepath.Join(out, "others.pem")
			must(t, "quote", "-report-data", "5f0c", "-out", stranger, "-tee", test.tee, "-simulate", elsewhere, "-tenant", "acme", "-instance", instance)
			must(t, "roots", "-simulate", elsewhere, "-out", others)
			for _, no := range []struct {
				name, says string
				args       []string
			}{
				{"another platform, also trusted", test.shown["chip"], []string{"-roots", others, "-policy", document, "-endorsements", stranger + ".endorsements", "-binding", "5f0c", stranger}},
				{"another binding", "not-bound", append(args, "-binding", "5f0d", file)},
				{"a guest launched for nobody", test.launch, append(args, "-binding", "5f0c", neighbour)},
				{"without -roots", "untrusted", []string{"-endorsements", file + ".endorsements", file}},
			} {
				if status, text := verify(no.args...); status != 1 || !strings.Contains(text, no.says) {
					t.Errorf("%s: status %d: %s", no.name, status, text)
				}
			}
		})
	}
}
