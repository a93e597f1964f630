package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/kbs"
	"github.com/teebroker/teebroker/protocol/svsm"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/store/memory"
)

const stateKey = "a vTPM state key, for this guest"

func key(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// kbsBroker returns a broker that releases stateKey twice to the guest of acme that dir
// simulates on a Milan, over the KBS protocol.
func kbsBroker(t *testing.T, dir string) http.Handler {
	t.Helper()
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p, err := openPlatform(dir, snp.Milan)
	fatal(err)
	verifier, err := snp.NewVerifier(snp.Config{Anchors: p.amd.Anchors(), Source: p.amd.Source()})
	fatal(err)
	state := memory.New(nil)
	issuer, err := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}})
	fatal(err)
	broker, err := teebroker.New(teebroker.Config{
		Verifier: verifier, Issuer: kbs.Issuer(issuer), Nonces: state, Directory: state, Secrets: state, Ledger: state, Kept: state,
		Identity: key(t, elliptic.P384()), SimulatedRoots: [][32]byte{sha256.Sum256(p.amd.Anchors()[0].ARK)}, SimulatedState: true,
	})
	fatal(err)
	id, err := strictjson.ParseUUID(instance)
	fatal(err)
	digest, launch := measurement(), teebroker.LaunchID("acme", id)
	fatal(state.Register(t.Context(), teebroker.Instance{
		Tenant: "acme", ID: id, Launch: teebroker.LaunchClaim{Name: "snp.host_data", Want: launch[:]},
		Policies: []*policy.Policy{{
			Name: "test", Document: []byte("test"),
			Require: map[evidence.Format]policy.Rule{snp.Format: snp.Baseline([]snp.Floor{p.chip.Floor()}, digest)},
		}},
		Profiles: map[string][]nonce.Profile{"vtpm/state": {nonce.ProfileSVSM}},
		Suites:   keywrap.Allow{Suites: []keywrap.Suite{keywrap.JWEP521}},
	}))
	fatal(state.PutSecret(t.Context(), "acme", id, "vtpm/state", []byte(stateKey)))
	fatal(state.Authorize(t.Context(), teebroker.Authorization{
		Tenant: "acme", Instance: id, Purposes: []string{"vtpm/state"}, Uses: 2,
		NotAfter: time.Now().Add(time.Hour), Profiles: []nonce.Profile{nonce.ProfileSVSM},
	}))
	sessions, err := kbs.NewSessions([32]byte{2})
	fatal(err)
	tokens, err := ear.NewIssuer(ear.IssuerConfig{
		Signer: key(t, elliptic.P256()), Profile: ear.KBS, Life: 5 * time.Minute,
		Verifier: ear.VerifierID{Developer: "teebroker", Build: "test"},
	})
	fatal(err)
	h, err := kbs.New(kbs.Config{
		Broker: broker, Kept: state, Sessions: sessions, Tenant: "acme", Tokens: tokens,
		Refused: func(_ *http.Request, _ string, err error) { t.Logf("broker: %v", err) },
	})
	fatal(err)
	return h
}

// An emulated guest, a proxy and a broker: the guest that was registered gets its key,
// as often as its owner said, and its neighbour does not.
func TestSVSM(t *testing.T) {
	dir := simulated(t)
	broker := httptest.NewServer(kbsBroker(t, dir))
	defer broker.Close()
	proxy, err := svsm.NewProxy(svsm.ProxyConfig{Broker: broker.URL})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "svsm")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- proxy.Serve(ctx, l) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	guest := []string{"svsm", "-socket", socket, "-simulate", dir, "-product", "Milan", "-tenant", "acme", "-instance"}
	sum := sha256.Sum256([]byte(stateKey))
	if got := must(t, append(guest, instance)...); got != hex.EncodeToString(sum[:])+"\n" {
		t.Errorf("printed %q", got)
	}
	out := filepath.Join(t.TempDir(), "key")
	must(t, append(guest, instance, "-out", out)...)
	if b, err := os.ReadFile(out); err != nil || string(b) != stateKey {
		t.Errorf("wrote %q, %v", b, err)
	}
	for name, id := range map[string]string{"a third time": instance, "a neighbour": strings.Replace(instance, "7", "8", 1)} {
		if status, stdout, _ := try(append(guest, id)...); status != 1 || stdout != "svsm: refused\n" {
			t.Errorf("%s: status %d, %q", name, status, stdout)
		}
	}
}

func TestSVSMUsage(t *testing.T) {
	for _, args := range [][]string{
		{"svsm"},
		{"svsm", "-socket", "s", "more"},
		{"svsm", "-socket", "s", "-tee", "tdx"},
		{"svsm", "-socket", "s", "-timeout", "-1s"},
		{"svsm", "-socket", filepath.Join(t.TempDir(), "none"), "-simulate", t.TempDir()},
	} {
		if status, _, stderr := try(args...); status != 2 || stderr == "" {
			t.Errorf("%v: status %d, %q", args, status, stderr)
		}
	}
}
