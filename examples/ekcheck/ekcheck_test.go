package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/memory"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

const (
	agent = "d432fbb3-d2f1-4a97-9ef7-75bd81c00000"
	token = "token-of-acme"
)

var instance = [16]byte{15: 1}

// world is a broker over TLS that knows the TPM of one guest.
type world struct {
	*testing.T
	state *memory.Owner
	tpm   *vtpmtest.TPM
	env   map[string]string // of ekcheck
	dir   string
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func newWorld(t *testing.T, simulated bool) *world {
	t.Helper()
	w := &world{T: t, state: memory.New(time.Now).Owner(policy.Decoders{}), tpm: vtpmtest.NewTPM(vtpmtest.ECC, nil, nil), dir: t.TempDir()}
	identity, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	w.check(err)
	issuer, err := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}})
	w.check(err)
	broker, err := teebroker.New(teebroker.Config{
		Verifier: faketee.Verifier{}, Issuer: issuer, Nonces: w.state, Directory: w.state, Secrets: w.state, Ledger: w.state,
		Identity: identity, SimulatedState: simulated,
	})
	w.check(err)
	s, err := v1.New(v1.Config{
		Broker: broker, Allow: v1.Suites(), Owner: w.state, Tenants: w.state,
		Identities: &v1.IdentityConfig{Identities: w.state, AgentID: vtpm.HashEK},
	})
	w.check(err)
	w.check(w.state.AddTenant(t.Context(), "acme", v1.TokenDigest(token)))
	w.check(w.state.Store.Register(t.Context(), teebroker.Instance{Tenant: "acme", ID: instance}))
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	w.env = map[string]string{
		"AGENT_UUID": agent, "EK": w.pem(w.tpm), "EK_TPM": base64.StdEncoding.EncodeToString(w.tpm.EK()), "EK_CERT": "", "PROVKEYS": "{}",
		"TPM_CERT_STORE": "/var/lib/keylime/tpm_cert_store", "TEEBROKER_URL": server.URL,
		"TEEBROKER_CA":         w.file("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
		"TEEBROKER_TOKEN_FILE": w.file("token", []byte(token+"\n")),
	}
	return w
}

func (w *world) file(name string, b []byte) string {
	w.Helper()
	path := filepath.Join(w.dir, name)
	w.check(os.WriteFile(path, b, 0o600))
	return path
}

func (w *world) pem(d *vtpmtest.TPM) string {
	w.Helper()
	der, err := x509.MarshalPKIXPublicKey(d.EKKey())
	w.check(err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// bind makes the TPM known, as that of a guest whose evidence was accepted.
func (w *world) bind(seen store.Sighting) error {
	ek, err := vtpm.ParsePublic(w.tpm.EK())
	w.check(err)
	ak, err := vtpm.ParsePublic(w.tpm.AK())
	w.check(err)
	id, err := vtpm.AgentID(ek.Key)
	w.check(err)
	inst, err := w.state.Instance(w.Context(), teebroker.Lookup{Tenant: "acme", Claimed: instance})
	w.check(err)
	_, err = w.state.Bind(w.Context(), store.Bound{Tenant: "acme", Instance: instance, Generation: inst.Generation, Public: ek.Area(), AgentID: id, AK: []byte(ak.Name), Seen: seen})
	return err
}

// ask runs ekcheck as a tenant does, with what edit changes.
func (w *world) ask(edit map[string]string, args ...string) (status int, stdout, stderr string) {
	w.Helper()
	env := maps.Clone(w.env)
	maps.Copy(env, edit)
	var out, errs bytes.Buffer
	status = run(w.Context(), args, func(name string) string { return env[name] }, filepath.Join(w.dir, "ekcheck"), &out, &errs)
	if (status == 0) != (errs.Len() == 0) || status == 0 && len(args) == 0 && !strings.Contains(out.String(), agent) {
		w.Errorf("status %d, %q, %q", status, out.String(), errs.String())
	}
	return status, out.String(), errs.String()
}

func TestCheck(t *testing.T) {
	w := newWorld(t, false)
	if status, _, why := w.ask(nil); status != 1 || !strings.Contains(why, "no-instance") {
		t.Errorf("an EK that nobody bound: %d %s", status, why)
	}
	w.check(w.bind(store.Sighting{Chip: []byte{1}, ResetCount: 1}))
	other := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	cert := func(d *vtpmtest.TPM) string {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		w.check(err)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, d.EKKey(), key)
		w.check(err)
		return base64.StdEncoding.EncodeToString(der)
	}
	b64 := base64.StdEncoding.EncodeToString
	public, err := vtpm.ParsePublic(w.tpm.EK())
	w.check(err)
	for name, v := range map[string]struct {
		env    map[string]string
		status int
		why    string
	}{
		"no agent":            {map[string]string{"AGENT_UUID": ""}, 2, "AGENT_UUID"},
		"no EK_TPM":           {map[string]string{"EK_TPM": ""}, 2, "EK_TPM"},
		"no EK":               {map[string]string{"EK": ""}, 2, "EK is not"},
		"two EKs":             {map[string]string{"EK": w.pem(w.tpm) + w.pem(w.tpm)}, 2, "EK is not"},
		"another EK":          {map[string]string{"EK": w.pem(other)}, 1, "two keys"},
		"another EK_TPM":      {map[string]string{"EK_TPM": b64(other.EK()), "EK": w.pem(other)}, 1, "no-instance"},
		"an AK":               {map[string]string{"EK_TPM": b64(w.tpm.AK())}, 1, "EK_TPM"},
		"without its size":    {map[string]string{"EK_TPM": b64(public.Area())}, 1, "EK_TPM"},
		"the hash of another": {map[string]string{"AGENT_UUID": strings.Repeat("0", 64)}, 1, "hash of another"},
		"a strange agent":     {map[string]string{"AGENT_UUID": "a/b"}, 1, "malformed-request"},
		"another certificate": {map[string]string{"EK_CERT": cert(other)}, 1, "of another key"},
		"no certificate":      {map[string]string{"EK_CERT": "AAAA"}, 1, "not a certificate"},
		"no broker":           {map[string]string{"TEEBROKER_URL": ""}, 2, "TEEBROKER_URL"},
		"plain HTTP":          {map[string]string{"TEEBROKER_URL": "http://broker.example"}, 2, "http://"},
		"another CA":          {map[string]string{"TEEBROKER_CA": w.file("other.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: must(base64.StdEncoding.DecodeString(cert(other)))}))}, 2, "certificate"},
		"no token":            {map[string]string{"TEEBROKER_TOKEN_FILE": ""}, 2, "TEEBROKER_TOKEN_FILE"},
		"an empty token":      {map[string]string{"TEEBROKER_TOKEN_FILE": w.file("empty", nil)}, 2, "token"},
		"a wrong token":       {map[string]string{"TEEBROKER_TOKEN_FILE": w.file("wrong", []byte("nobody"))}, 2, "unauthenticated"},
		"another tenant":      {map[string]string{"TEEBROKER_TENANT": "other"}, 1, "forbidden"},
		"a strange flag":      {map[string]string{"TEEBROKER_ALLOW_SIMULATED": "yes"}, 2, "neither"},
	} {
		if status, _, why := w.ask(v.env); status != v.status || !strings.Contains(why, v.why) {
			t.Errorf("%s: %d %s", name, status, why)
		}
	}
	if status, _, _ := w.ask(nil, "agent"); status != 2 {
		t.Errorf("an argument: %d", status)
	}
	for range 2 {
		if status, said, why := w.ask(map[string]string{"EK_CERT": cert(w.tpm)}); status != 0 || !strings.Contains(said, "instance 00000000-0000-0000-0000-000000000001") {
			t.Errorf("%d %s %s", status, said, why)
		}
	}
	if status, _, why := w.ask(map[string]string{"AGENT_UUID": "d432fbb3-d2f1-4a97-9ef7-75bd81c00001"}); status != 1 || !strings.Contains(why, "409") && !strings.Contains(why, "taken") {
		t.Errorf("another agent with the same EK: %d %s", status, why)
	}
	if w.bind(store.Sighting{Chip: []byte{2}, ResetCount: 1}) == nil {
		t.Fatal("one EK on two chips")
	}
	if status, _, why := w.ask(nil); status != 1 || !strings.Contains(why, "held") {
		t.Errorf("a clone: %d %s", status, why)
	}
}

// A broker of simulated platforms says nothing about hardware.
func TestSimulated(t *testing.T) {
	w := newWorld(t, true)
	w.check(w.bind(store.Sighting{}))
	for allow, want := range map[string]int{"": 1, "false": 1, "true": 0} {
		if status, _, why := w.ask(map[string]string{"TEEBROKER_ALLOW_SIMULATED": allow}); status != want {
			t.Errorf("%q: %d %s", allow, status, why)
		}
	}
}

// What the environment does not say is in the file beside the program.
func TestConfigFile(t *testing.T) {
	w := newWorld(t, false)
	w.check(w.bind(store.Sighting{}))
	file := `{"url":"` + w.env["TEEBROKER_URL"] + `","ca":"` + w.env["TEEBROKER_CA"] + `","token_file":"` + w.env["TEEBROKER_TOKEN_FILE"] + `","tenant":"acme"}`
	w.file("ekcheck.json", []byte(file))
	for _, name := range []string{"TEEBROKER_URL", "TEEBROKER_CA", "TEEBROKER_TOKEN_FILE"} {
		delete(w.env, name)
	}
	if status, _, why := w.ask(nil); status != 0 {
		t.Errorf("%d %s", status, why)
	}
	if status, _, why := w.ask(map[string]string{"TEEBROKER_URL": "https://127.0.0.1:1"}); status != 2 {
		t.Errorf("the environment does not win: %d %s", status, why)
	}
	w.file("ekcheck.json", []byte(file[:len(file)-1]+`,"insecure":true}`))
	if status, _, why := w.ask(nil); status != 2 || !strings.Contains(why, "insecure") {
		t.Errorf("an unknown member: %d %s", status, why)
	}
}

// Answers that are about something else, or none, are no yes.
func TestStrangeBroker(t *testing.T) {
	w := newWorld(t, false)
	ek, err := vtpm.ParsePublic(w.tpm.EK())
	w.check(err)
	digest := sha256.Sum256(ek.Area())
	d := base64.RawURLEncoding.EncodeToString(digest[:])
	const id = `"instance":"00000000-0000-0000-0000-000000000001"`
	other := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	answers := map[string]string{
		"of another EK":    `{"identity":{"tenant":"acme",` + id + `,"ek":"` + other + `","state":"live","made":"2026-11-01T12:00:00Z","agent":"` + agent + `"},"simulated":false}`,
		"of another agent": `{"identity":{"tenant":"acme",` + id + `,"ek":"` + d + `","state":"live","made":"2026-11-01T12:00:00Z","agent":"other"},"simulated":false}`,
		"superseded":       `{"identity":{"tenant":"acme",` + id + `,"ek":"` + d + `","state":"superseded","made":"2026-11-01T12:00:00Z","agent":"` + agent + `"},"simulated":false}`,
		"no identity":      `{"identity":{},"simulated":false}`,
		"nothing":          `{}`,
		"no JSON":          `yes`,
	}
	for name, body := range answers {
		s := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(body)) }))
		ca := w.file("strange.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
		if status, _, _ := w.ask(map[string]string{"TEEBROKER_URL": s.URL, "TEEBROKER_CA": ca}); status == 0 {
			t.Errorf("%s: accepted", name)
		}
		s.Close()
	}
	// Who waits no longer has no yes.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if status := run(ctx, nil, func(name string) string { return w.env[name] }, "", &bytes.Buffer{}, &bytes.Buffer{}); status != 2 {
		t.Errorf("%d", status)
	}
}

func TestHelp(t *testing.T) {
	w := newWorld(t, false)
	if status, said, _ := w.ask(nil, "-h"); status != 0 || !strings.Contains(said, "ek_check_script") {
		t.Errorf("%d %s", status, said)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
