package main

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-configfs-tsm/configfs/configfsi"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/activation"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/memory"
	"github.com/teebroker/teebroker/vtpm"
)

// tpmBroker is a broker that knows the guest of acme that dir simulates on a Milan.
func tpmBroker(t *testing.T, dir string) (url, identity string, state *memory.Store) {
	t.Helper()
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p, err := openPlatform(dir, snp.Milan)
	fatal(err)
	reports, err := snp.NewVerifier(snp.Config{Anchors: p.amd.Anchors(), Source: p.amd.Source()})
	fatal(err)
	state = memory.New(nil)
	quotes, err := vtpm.NewVerifier(vtpm.Config{Platform: evidence.Verifiers{snp.Format: reports}, AKs: activation.AKs(state)})
	fatal(err)
	issuer, err := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}})
	fatal(err)
	broker, err := teebroker.New(teebroker.Config{
		Verifier: reports, Issuer: issuer, Nonces: state, Directory: state, Secrets: state, Ledger: state, Kept: state,
		Identity: key(t, elliptic.P384()), SimulatedRoots: [][32]byte{sha256.Sum256(p.amd.Anchors()[0].ARK)}, SimulatedState: true,
	})
	fatal(err)
	tpms, err := activation.New(activation.Config{Broker: broker, Verifier: quotes, Nonces: state, Kept: state, Identities: state})
	fatal(err)
	id, err := strictjson.ParseUUID(instance)
	fatal(err)
	launch := teebroker.LaunchID("acme", id)
	fatal(state.Register(t.Context(), teebroker.Instance{
		Tenant: "acme", ID: id, Launch: teebroker.LaunchClaim{Name: "snp.host_data", Want: launch[:]},
		Policies: []*policy.Policy{{
			Name: "test", Document: []byte("test"),
			Require: map[evidence.Format]policy.Rule{snp.Format: snp.Baseline([]snp.Floor{p.chip.Floor()}, measurement())},
		}},
		Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.X25519}},
	}))
	server, err := v1.New(v1.Config{Broker: broker, Allow: v1.Suites(), TPMs: tpms})
	fatal(err)
	ts := httptest.NewServer(server)
	t.Cleanup(ts.Close)
	pinned := broker.ID()
	identity = filepath.Join(t.TempDir(), "broker.id")
	fatal(os.WriteFile(identity, []byte(base64.RawURLEncoding.EncodeToString(pinned[:])+"\n"), 0o600))
	return ts.URL, identity, state
}

// A guest with a swtpm and a simulated SVSM has its AK bound; after a restart it is the
// same TPM, and with another it is held.
func TestAgent(t *testing.T) {
	if _, err := exec.LookPath("swtpm"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("swtpm is not installed")
	}
	dir, tpm := simulated(t), t.TempDir()
	url, identity, state := tpmBroker(t, dir)
	id, err := strictjson.ParseUUID(instance)
	if err != nil {
		t.Fatal(err)
	}
	agent := func(tpm string, more ...string) (int, string, string) {
		return try(append([]string{
			"agent", "-tee", "snp", "-product", "Milan", "-simulate", dir, "-tenant", "acme", "-instance", instance, "-broker", url,
			"-identity", identity, "-allow-unsealed", "-ecc", "-json", "-tpm-state", tpm,
		}, more...)...)
	}
	var first bound
	var resets uint32
	for i := range 2 {
		status, stdout, stderr := agent(tpm)
		var got bound
		if err := json.Unmarshal([]byte(stdout), &got); status != 0 || err != nil {
			t.Fatalf("status %d: %s %s %v", status, stdout, stderr, err)
		}
		x, err := state.Live(t.Context(), "acme", id)
		if err != nil || hex.EncodeToString(x.EK[:]) != got.EK || x.AgentID != got.AgentID || hex.EncodeToString(x.AKs[0].Name) != got.AK || len(x.AKs) != 1 {
			t.Fatalf("%+v, %v: %+v", got, err, x)
		}
		if i > 0 && (got != first || x.Seen.ResetCount <= resets) {
			t.Errorf("after a restart: %+v, %d resets", got, x.Seen.ResetCount)
		}
		first, resets = got, x.Seen.ResetCount
	}
	if status, stdout, _ := agent(tpm, "-host-data", strings.Repeat("07", 32)); status != 1 || !strings.Contains(stdout, `"denied"`) {
		t.Errorf("launched for somebody else: %d %s", status, stdout)
	}
	if status, stdout, _ := agent(t.TempDir()); status != 1 || !strings.Contains(stdout, `"held"`) {
		t.Errorf("another TPM: %d %s", status, stdout)
	}
	if x, err := state.EKs(t.Context(), "acme", id); err != nil || len(x) != 2 || x[0].Why != store.OtherEK {
		t.Errorf("%+v, %v", x, err)
	}
}

func TestAgentUsage(t *testing.T) {
	some := []string{"agent", "-tee", "snp", "-broker", "http://127.0.0.1:1", "-instance", instance}
	for name, args := range map[string][]string{
		"nothing":      {"agent"},
		"an argument":  append(some[:len(some):len(some)], "x"),
		"another TEE":  append(some[:len(some):len(some)], "-tee", "tdx"),
		"two TPMs":     append(some[:len(some):len(some)], "-tpm", "a", "-tpm-state", "b"),
		"no such TPM":  append(some[:len(some):len(some)], "-tpm", filepath.Join(t.TempDir(), "none")),
		"no broker id": append(some[:len(some):len(some)], "-identity", filepath.Join(t.TempDir(), "none")),
	} {
		if status, _, stderr := try(args...); status != 2 || stderr == "" {
			t.Errorf("%s: %d %q", name, status, stderr)
		}
	}
}

// tsm is configfs with an SVSM behind it.
type tsm struct {
	configfsi.Client
	files   map[string][]byte
	answers map[string][]byte
	removed bool
}

func (c *tsm) MkdirTemp(dir, pattern string) (string, error) { return dir + "/" + pattern + "1", nil }

func (c *tsm) WriteFile(name string, b []byte) error {
	c.files[name] = bytes.Clone(b)
	return nil
}

func (c *tsm) ReadFile(name string) ([]byte, error) {
	b, ok := c.answers[filepath.Base(name)]
	if !ok {
		return nil, errors.New("no such service")
	}
	return b, nil
}

func (c *tsm) RemoveAll(string) error { c.removed = true; return nil }

// The SVSM is asked for its vTPM with the nonce, and nothing is left behind.
func TestAskSVSM(t *testing.T) {
	const entry = "/sys/kernel/config/tsm/report/teebroker1/"
	asked := [64]byte{1, 2, 3}
	c := &tsm{files: map[string][]byte{}, answers: map[string][]byte{"outblob": make([]byte, reportSize), "manifestblob": []byte("manifest")}}
	ev, manifest, err := askSVSM(c, asked)
	if err != nil || ev.Format != snp.Format || len(ev.Raw) != reportSize || len(ev.Items) != 0 || string(manifest) != "manifest" || !c.removed {
		t.Errorf("%s, %q, %v", ev.Format, manifest, err)
	}
	for name, want := range map[string]string{
		"service_provider": "svsm", "service_guid": "c476f1eb-0123-45a5-9641-b4e7dde5bfe3", "service_manifest_version": "0", "inblob": string(asked[:]),
	} {
		if got := c.files[entry+name]; string(got) != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, missing := range []string{"outblob", "manifestblob"} {
		c := &tsm{files: map[string][]byte{}, answers: map[string][]byte{"outblob": make([]byte, reportSize), "manifestblob": []byte("manifest")}}
		delete(c.answers, missing)
		if _, _, err := askSVSM(c, asked); err == nil || !c.removed {
			t.Errorf("without %s: %v", missing, err)
		}
	}
	short := &tsm{files: map[string][]byte{}, answers: map[string][]byte{"outblob": make([]byte, reportSize-1), "manifestblob": []byte("manifest")}}
	if _, _, err := askSVSM(short, asked); err == nil {
		t.Error("a short report")
	}
}
