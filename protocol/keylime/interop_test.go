package keylime_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

// foreignCase is what .ci/interop/keylime_caller.py reads.
type foreignCase struct {
	Name   string `json:"name"`
	Nonce  []byte `json:"nonce"`
	X      string `json:"x"`
	Y      string `json:"y"`
	Report []byte `json:"report"`
	VCEK   []byte `json:"vcek"`

	want     []string // our failures
	stricter bool     // than Keylime, which has no policy
}

// foreignResult is a verdict as it prints it.
type foreignResult struct {
	Valid    bool           `json:"valid"`
	Claims   map[string]any `json:"claims"`
	Failures []string       `json:"failures"`
}

// keylimePython returns a Python that has the released Keylime.
func keylimePython(t *testing.T) string {
	t.Helper()
	for _, p := range []string{"../../.ci/interop/.venv/bin/python", "python3"} {
		if exec.CommandContext(t.Context(), p, "-c", "import keylime.requests_client, keylime.tee.snp").Run() == nil {
			return p
		}
	}
	const install = "no Keylime; .ci/interop/install installs it"
	if os.Getenv("CI") != "" {
		t.Fatal(install)
	}
	t.Skip("SKIPPED, NOT PASSED: " + install)
	return ""
}

// foreignCases are reports of the simulated chip for keys on all curves, and what is
// wrong with some.
func foreignCases(t *testing.T, w world) []foreignCase {
	t.Helper()
	vcek, err := w.amd.Source().Get(context.Background(), snp.VCEKName(w.chip.ID(), w.chip.Reported))
	check(t, err)
	flipped := func(r []byte) []byte { r[0x90] ^= 1; return r }
	var cases []foreignCase
	add := func(name string, c caller, g snptest.Guest, stricter bool, want ...string) {
		x, y, _ := c.key.XY()
		u := base64.RawURLEncoding.EncodeToString
		cases = append(cases, foreignCase{name, c.nonce, u(x), u(y), w.chip.Report(g, c.binding(t)).Raw, vcek[0].Data, want, stricter})
	}
	for _, suite := range []keywrap.Suite{keywrap.JWEP256, keywrap.JWEP384, keywrap.JWEP521} {
		k, err := keywrap.Generate(suite)
		check(t, err)
		c := newCaller(t)
		c.key = k.Recipient()
		add("good, "+string(suite), c, snptest.Guest{Measurement: [48]byte{1, 2, 3}, HostData: [32]byte{4}, Policy: 0x130000}, false)
	}
	c := newCaller(t)
	add("changed measurement", c, snptest.Guest{Fault: flipped}, false, "tee_attestation.invalid_signature")
	add("half a report", c, snptest.Guest{Fault: func(r []byte) []byte { return r[:0x187] }}, false, "tee_attestation.invalid_input")
	add("VMPL 2", c, snptest.Guest{VMPL: 2}, true, "tee_attestation.policy.mismatch")
	add("debuggee", c, snptest.Guest{Policy: 0xb0000}, true, "tee_attestation.policy.mismatch")
	add("another nonce", c, snptest.Guest{}, false, "tee_attestation.freshness_hash_failed")
	cases[len(cases)-1].Nonce = newCaller(t).nonce
	return cases
}

// The released Keylime asks over TLS with its own client, and finds what its own
// verification finds, with the same claims and ids of failures, or a policy that refuses.
func TestKeylimeAsks(t *testing.T) {
	python, w := keylimePython(t), simulated()
	s := httptest.NewTLSServer(w.handler(t, nil))
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	cases := foreignCases(t, w)
	in, err := json.Marshal(map[string]any{"url": s.URL, "ca": ca, "cases": cases})
	check(t, err)
	cmd := exec.CommandContext(t.Context(), python, "../../.ci/interop/keylime_caller.py")
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	var got struct {
		Version string `json:"version"`
		Cases   []struct {
			Name   string        `json:"name"`
			Ours   foreignResult `json:"ours"`
			Theirs foreignResult `json:"theirs"`
		} `json:"cases"`
	}
	check(t, json.Unmarshal(out, &got))
	if got.Version != "2.6" || len(got.Cases) != len(cases) {
		t.Fatalf("version %s, %d cases", got.Version, len(got.Cases))
	}
	for i, c := range cases {
		ours, theirs := got.Cases[i].Ours, got.Cases[i].Theirs
		if ours.Valid != (len(c.want) == 0) || !slices.Equal(ours.Failures, c.want) && len(c.want) > 0 {
			t.Errorf("%s: %+v", c.Name, ours)
		}
		if theirs.Valid != (ours.Valid || c.stricter) {
			t.Errorf("%s: Keylime finds %+v", c.Name, theirs)
		}
		if !c.stricter && (!slices.Equal(ours.Failures, theirs.Failures) || !equalJSON(t, ours.Claims, theirs.Claims)) {
			t.Errorf("%s: ours %+v, Keylime's %+v", c.Name, ours, theirs)
		}
	}
}

// equalJSON reports whether claims are the same, to the name and value.
func equalJSON(t *testing.T, a, b map[string]any) bool {
	t.Helper()
	return maps.EqualFunc(a, b, func(x, y any) bool {
		one, err := json.Marshal(x)
		check(t, err)
		other, err := json.Marshal(y)
		check(t, err)
		return bytes.Equal(one, other)
	})
}
