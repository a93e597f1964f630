package brokerd_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/brokerd"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/owner"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
)

// buffer is a log that is read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// serve starts a broker and returns its URL, its log, and what stops it.
func serve(t *testing.T, o brokerd.Options) (url string, log *buffer, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	o.Listen = "127.0.0.1:0"
	log = &buffer{}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := brokerd.Serve(ctx, o, w, log)
		w.CloseWithError(errors.Join(io.EOF, err))
		done <- err
	}()
	first := make([]byte, 4096)
	n, err := r.Read(first)
	if err != nil {
		t.Fatalf("it does not serve: %v", err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	url, _, _ = strings.Cut(strings.TrimPrefix(string(first[:n]), "Serving at "), ";")
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return url, log, stop
}

// simulatedDir has a simulated platform of CCA, which is quick to make.
func simulatedDir(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cca.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func state(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", dir)
	return filepath.Join(dir, "teebroker", "simulated")
}

// pair writes a certificate for this host and its key to dir.
func pair(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().AddDate(1, 0, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err1 := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	private, err2 := x509.MarshalPKCS8PrivateKey(k)
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	err3 := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	err4 := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// Over TLS 1.3 an owner shows a token or a certificate that the operator added while
// the broker ran.
func TestServeTLS(t *testing.T) {
	dir := state(t)
	certs := t.TempDir()
	cert, key := pair(t, certs, "server")
	mine, mineKey := pair(t, certs, "owner")
	url, _, _ := serve(t, brokerd.Options{TrustSimulated: simulatedDir(t), TLSCert: cert, TLSKey: key})
	g := cli.Group{Name: "broker", Commands: brokerd.TenantCommands()}
	if status := g.Main([]string{"tenant", "add", "-simulated", "-name", "acme", "-certificate", mine}, io.Discard, t.Output()); status != 0 {
		t.Fatal(status)
	}
	b, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b)
	client := func(edit func(*tls.Config, *v1.ClientConfig)) *v1.Client {
		config := &tls.Config{RootCAs: roots}
		cfg := v1.ClientConfig{URL: url, HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: config}}}
		edit(config, &cfg)
		c, err := v1.NewClient(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	token, err := brokerd.ReadToken(filepath.Join(dir, "owner.token"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := tls.LoadX509KeyPair(mine, mineKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		edit func(*tls.Config, *v1.ClientConfig)
		ok   bool
	}{
		"with the token":       {func(_ *tls.Config, c *v1.ClientConfig) { c.Token = token }, true},
		"with the certificate": {func(c *tls.Config, v *v1.ClientConfig) { c.Certificates, v.Tenant = []tls.Certificate{own}, "acme" }, true},
		"as another tenant":    {func(c *tls.Config, v *v1.ClientConfig) { c.Certificates, v.Tenant = []tls.Certificate{own}, "default" }, false},
		"with nothing":         {func(*tls.Config, *v1.ClientConfig) {}, false},
		"with TLS 1.2":         {func(c *tls.Config, v *v1.ClientConfig) { c.MaxVersion, v.Token = tls.VersionTLS12, token }, false},
		"with plain HTTP": {func(_ *tls.Config, c *v1.ClientConfig) {
			c.URL, c.Token = strings.Replace(url, "https", "http", 1), token
		}, false},
	} {
		if _, err := client(tt.edit).Policies(t.Context()); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const policyDocument = `{"policy":"teebroker/1","name":"house","version":"1","scope":"global","require":{"snp-report":[{
	"measurements":"*","vmpls":[0],"lines":"*","keys":"*","chips":"*","host_data":"*","id_keys":"*","author_keys":"*","family_ids":"*","image_ids":"*","floors":[]}]}}`

func ownerOf(t *testing.T, url, dir string) *v1.Client {
	t.Helper()
	token, err := brokerd.ReadToken(filepath.Join(dir, "owner.token"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := v1.NewClient(v1.ClientConfig{URL: url, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A token that was removed is nobody's after a restart either, though it is in the
// file; with the file gone there is a new one.
func TestServeRemovedToken(t *testing.T) {
	dir, o := state(t), brokerd.Options{TrustSimulated: simulatedDir(t)}
	file := filepath.Join(dir, "owner.token")
	_, _, stop := serve(t, o)
	stop()
	g := cli.Group{Name: "broker", Commands: brokerd.TenantCommands()}
	if status := g.Main([]string{"tenant", "remove", "-simulated", "-token-file", file}, io.Discard, t.Output()); status != 0 {
		t.Fatal(status)
	}
	url, log, stop := serve(t, o)
	if _, err := ownerOf(t, url, dir).Policies(t.Context()); !errors.Is(err, teebroker.Unauthenticated) {
		t.Errorf("the removed token: %v", err)
	}
	if !strings.Contains(log.String(), "was removed") {
		t.Error("nobody is told")
	}
	stop()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	url, _, _ = serve(t, o)
	if _, err := ownerOf(t, url, dir).Policies(t.Context()); err != nil {
		t.Errorf("a new token: %v", err)
	}
}

// A token that is asked for is not passed over for keys in a file that were there
// before.
func TestServeKeysBefore(t *testing.T) {
	state(t)
	o := brokerd.Options{TrustSimulated: simulatedDir(t)}
	_, _, stop := serve(t, o)
	stop()
	o.AttestationKey, o.Listen = "pkcs11:token=tee;object=kek?module-path=/nowhere.so&pin-value=1", "127.0.0.1:0"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // it would serve
	defer cancel()
	if err := brokerd.Serve(ctx, o, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "none in a token") {
		t.Error(err)
	}
}

// The operator's policies are before those of every instance, of those that were
// registered before too.
func TestServePolicies(t *testing.T) {
	dir, sim, policies := state(t), simulatedDir(t), t.TempDir()
	id := [16]byte{1}
	url, _, stop := serve(t, brokerd.Options{TrustSimulated: sim})
	c := ownerOf(t, url, dir)
	if err := c.PutPolicy(t.Context(), "mine", []byte(policyDocument)); err != nil {
		t.Fatal(err)
	}
	reg := store.Registration{Policies: []string{"mine"}, Launch: store.Launch{Own: true}, Suites: []keywrap.Suite{keywrap.MLKEM768X25519}}
	if _, err := c.Register(t.Context(), id, reg); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := os.WriteFile(filepath.Join(policies, "house.json"), []byte(policyDocument), 0o600); err != nil {
		t.Fatal(err)
	}
	var generation uint64
	for range 2 { // the second start changes nothing
		url, _, stop = serve(t, brokerd.Options{TrustSimulated: sim, Policies: policies})
		c = ownerOf(t, url, dir)
		i, err := c.Instance(t.Context(), id)
		if err != nil || !slices.Equal(i.Registration.Policies, []string{"house", "mine"}) {
			t.Fatalf("%v, %v", i.Registration.Policies, err)
		}
		if generation != 0 && i.Generation != generation {
			t.Error("a start without a change is one")
		}
		generation = i.Generation
		if err := c.PutPolicy(t.Context(), "house", []byte(policyDocument)); !errors.Is(err, teebroker.Forbidden) {
			t.Error(err)
		}
		stop()
	}
}

// Empty segments of a path are passed over whatever else is served: nobody is sent
// elsewhere.
func TestServeUncleanPaths(t *testing.T) {
	state(t)
	policies := t.TempDir()
	if err := os.WriteFile(filepath.Join(policies, "default.json"), []byte(policyDocument), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", policies} {
		url, _, stop := serve(t, brokerd.Options{TrustSimulated: simulatedDir(t), VerifyPolicies: dir})
		for _, prefix := range []string{"", "/tenants/acme"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+prefix+"/kbs/v0/resource//default/key/1", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("-verify-policy %q: %s answers %d", dir, prefix, resp.StatusCode)
			}
		}
		stop()
	}
}

// With the attestation key in a token, a broker may be asked to refuse any other,
// and wrapped secrets are for it.
func TestServeHSM(t *testing.T) {
	const module = "/usr/lib/softhsm/libsofthsm2.so"
	if _, err := os.Stat(module); err != nil && os.Getenv("CI") == "" {
		t.Skip("SoftHSM is not installed")
	}
	dir, hsm := state(t), t.TempDir()
	conf, pin := filepath.Join(hsm, "softhsm2.conf"), filepath.Join(hsm, "pin")
	err1 := os.WriteFile(conf, []byte("directories.tokendir = "+hsm+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600)
	err2 := os.WriteFile(pin, []byte("1234"), 0o600)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.CommandContext(t.Context(), "softhsm2-util", "--module", module, "--init-token", "--free", "--label", "tee", "--so-pin", "5678", "--pin", "1234").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	uri := "pkcs11:token=tee;object=kek?module-path=" + module + "&pin-source=file:" + pin
	o := brokerd.Options{TrustSimulated: simulatedDir(t), AttestationKey: uri, RequireHSM: true}
	for range 2 { // made at the first start, and found at the second
		url, log, stop := serve(t, o)
		c := ownerOf(t, url, dir)
		keys, err := c.Keys(t.Context(), v1.DefaultTenant)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "broker.id"))
		if err != nil {
			t.Fatal(err)
		}
		id, err := strictjson.ParseBase64(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		instance := [16]byte{2}
		w, err := owner.Wrap(owner.Blob{
			Keys: keys, Broker: [32]byte(id), Time: time.Now(), Tenant: v1.DefaultTenant, Instance: instance, Purpose: "disk",
		}, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		reg := store.Registration{Policies: []string{"mine"}, Launch: store.Launch{Own: true}, Suites: []keywrap.Suite{keywrap.MLKEM768X25519}}
		err1 := c.PutPolicy(t.Context(), "mine", []byte(policyDocument))
		_, err2 := c.Register(t.Context(), instance, reg)
		err3 := c.PutBlob(t.Context(), instance, "disk", w, true)
		_, err4 := c.Rewrap(t.Context(), instance, "disk", nil) // which has the token open it
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Error(err)
		}
		if strings.Contains(log.String(), "attestation keys are in a file") {
			t.Error("the log says that the keys are in a file")
		}
		stop()
	}
}
