package activation_test

import (
	"crypto/sha256"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/activation"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// A TPM that others wrote has its AK bound over HTTP, as a guest does it.
func TestSwtpm(t *testing.T) {
	if _, err := exec.LookPath("swtpm"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("swtpm is not installed")
	}
	dir, err := os.MkdirTemp("", "swtpm") // the path of t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	tpm, err := vtpmtest.StartSwtpm(dir, vtpmtest.ECC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tpm.Close() })

	w := newWorld(t)
	server, err := v1.New(v1.Config{Broker: w.broker, Allow: v1.Suites(), TPMs: w.service})
	w.check(err)
	h := httptest.NewServer(server)
	t.Cleanup(h.Close)
	client, err := v1.NewClient(v1.ClientConfig{URL: h.URL})
	w.check(err)
	tpms := client.TPMs()

	g := w.guest(tpm)
	bind := func() (teebroker.TPMCredential, error) {
		c, err := tpms.Challenge(t.Context())
		w.check(err)
		return tpms.Bind(t.Context(), w.ask(g, c.Nonce))
	}
	c, err := bind()
	w.check(err)
	p, err := w.prove(g, c)
	w.check(err)
	got, err := tpms.Activate(t.Context(), p)
	if err != nil || got.EK != sha256.Sum256(tpm.EK()[2:]) {
		t.Fatalf("%+v, %v", got, err)
	}
	w.check(w.quoted(g))
	code := func(err error) string {
		var p *v1.Problem
		if errors.As(err, &p) {
			return p.Code
		}
		return ""
	}
	if _, err := tpms.Activate(t.Context(), p); code(err) != "in-progress" && code(err) != "nonce-spent" {
		t.Errorf("again: %v", err)
	}
	if c, err = bind(); err != nil {
		t.Fatal(err)
	}
	another := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	if _, err := another.Activate(c.Blob); err == nil {
		t.Error("another TPM reads the credential")
	}
	p.Session = c.Session
	if _, err := tpms.Activate(t.Context(), p); code(err) != "denied" {
		t.Errorf("the secret of the session before: %v", err)
	}
	g.svsm.Guest.VMPL = 2
	if _, err := bind(); code(err) != "untrusted" {
		t.Errorf("VMPL 2: %v", err)
	}
}

// Guest does what a guest does, with whatever TPM it has.
func TestGuest(t *testing.T) {
	w := newWorld(t)
	tpm := ecc()
	g := w.guest(tpm)
	id := w.broker.ID()
	cfg := activation.Guest{
		TPMs: w.service, Broker: id[:], Tenant: tenant, Instance: instance, AK: tpm.AK(),
		Attest: func(b [64]byte) (teebroker.TPMBinding, error) {
			g.svsm.Nonce = b
			report, items := g.svsm.Attestation()
			return teebroker.TPMBinding{Report: report, Items: items}, nil
		},
		Activate: tpm.Activate,
		Quote: func(b [32]byte) ([]byte, error) {
			raw, _ := tpm.Quote(vtpmtest.Quote{Extra: b[:]}, binding(t))
			return raw, nil
		},
	}
	got, err := cfg.Bind(t.Context())
	if err != nil || got.EK != sha256.Sum256(tpm.EK()[2:]) {
		t.Fatalf("%+v, %v", got, err)
	}
	w.check(w.quoted(g))
	failed := errors.New("no TPM")
	for name, edit := range map[string]func(*activation.Guest){
		"no report": func(g *activation.Guest) {
			g.Attest = func([64]byte) (teebroker.TPMBinding, error) { return teebroker.TPMBinding{}, failed }
		},
		"no activation": func(g *activation.Guest) { g.Activate = func([]byte) ([]byte, error) { return nil, failed } },
		"no quote":      func(g *activation.Guest) { g.Quote = func([32]byte) ([]byte, error) { return nil, failed } },
	} {
		bad := cfg
		edit(&bad)
		if got, err := bad.Bind(t.Context()); !errors.Is(err, failed) || got.AK != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, edit := range map[string]func(*activation.Guest){
		"no broker to ask": func(g *activation.Guest) { g.TPMs = nil },
		"no AK":            func(g *activation.Guest) { g.AK = nil },
		"no Attest":        func(g *activation.Guest) { g.Attest = nil },
		"no Activate":      func(g *activation.Guest) { g.Activate = nil },
		"no Quote":         func(g *activation.Guest) { g.Quote = nil },
	} {
		bad := cfg
		edit(&bad)
		if _, err := bad.Bind(t.Context()); err == nil {
			t.Errorf("%s: bound", name)
		}
	}
}
