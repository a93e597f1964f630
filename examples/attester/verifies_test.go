package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// verifier builds the verify program and returns a function that runs it.
func verifier(t *testing.T) func(args ...string) (int, string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "verify")
	if out, err := exec.Command("go", "build", "-o", program, "../verify").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
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
