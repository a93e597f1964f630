package svsm_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/protocol/svsm"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

func p521(t *testing.T, text string) *ecdh.PrivateKey {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	e, err := k.(*ecdsa.PrivateKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// serve runs a proxy on a unix socket until the test ends, and returns how to
// reach it.
func serve(t testing.TB, cfg svsm.ProxyConfig) func() net.Conn {
	t.Helper()
	p, err := svsm.NewProxy(cfg)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return func() net.Conn {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
}

// vendor is simulated; it makes keys once.
var vendor = sync.OnceValues(func() (*snptest.AMD, *snptest.Chip) {
	amd := snptest.NewAMD()
	return amd, amd.Chip(snp.Milan)
})

// guest returns the emulator on the simulated platform.
func guest(vmpl uint32) svsm.Guest {
	_, chip := vendor()
	return svsm.Guest{Report: func(_ context.Context, data [64]byte) ([]byte, error) {
		b, err := evidence.NewBinding(data[:])
		return chip.Report(snptest.Guest{VMPL: vmpl}, b).Raw, err
	}}
}

// kbs is the least that verifies an SVSM: challenge, report and key per session.
type kbs struct {
	secret []byte

	mu       sync.Mutex
	sessions map[string]*kbsSession
}

type kbsSession struct {
	nonce nonce.Nonce
	key   keywrap.Recipient // zero before evidence was taken
}

func newKBS(secret []byte) *kbs { return &kbs{secret: secret, sessions: map[string]*kbsSession{}} }

// ServeHTTP implements [http.Handler].
func (k *kbs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var s *kbsSession
	if c, err := r.Cookie("kbs-session-id"); err == nil {
		s = k.sessions[c.Value]
	}
	err := errors.New("no such path")
	switch r.Method + " " + r.URL.Path {
	case "POST /kbs/v0/auth":
		err = k.auth(w)
	case "POST /kbs/v0/attest":
		err = k.attest(w, r, s)
	case "GET /kbs/v0/resource/default/sample/test":
		err = k.resource(w, s)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
	}
}

func (k *kbs) auth(w http.ResponseWriter) error {
	s, id := &kbsSession{}, rand.Text()
	rand.Read(s.nonce[:])
	k.sessions[id] = s
	http.SetCookie(w, &http.Cookie{Name: "kbs-session-id", Value: id})
	return json.NewEncoder(w).Encode(map[string]any{"nonce": s.nonce[:], "extra-params": ""})
}

func (k *kbs) attest(w http.ResponseWriter, r *http.Request, s *kbsSession) error {
	var body struct {
		Runtime struct {
			Nonce []byte          `json:"nonce"`
			Key   json.RawMessage `json:"tee-pubkey"`
		} `json:"runtime-data"`
		Evidence struct {
			Primary struct {
				Report []byte `json:"snp-report"`
			} `json:"primary_evidence"`
		} `json:"tee-evidence"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return err
	}
	if s == nil || !bytes.Equal(body.Runtime.Nonce, s.nonce[:]) {
		return errors.New("foreign challenge")
	}
	key, err := keywrap.ParseJWK(body.Runtime.Key, keywrap.Allow{Suites: []keywrap.Suite{keywrap.JWEP521}})
	if err != nil {
		return err
	}
	bound, err := nonce.SVSM{}.Bind(s.nonce, key)
	if err != nil {
		return err
	}
	amd, _ := vendor()
	v, err := snp.NewVerifier(snp.Config{Anchors: amd.Anchors(), Source: amd.Source()})
	if err != nil {
		return err
	}
	got, err := v.Verify(r.Context(), evidence.Evidence{Format: snp.Format, Raw: body.Evidence.Primary.Report}, bound)
	if err != nil {
		return err
	}
	if c, ok := snp.ClaimsOf(got); !ok || c.VMPL() != 0 {
		return errors.New("not of VMPL 0")
	}
	s.key = key
	return json.NewEncoder(w).Encode(map[string]string{"token": "a.b.c"})
}

func (k *kbs) resource(w http.ResponseWriter, s *kbsSession) error {
	if s == nil || s.key.Suite() == "" {
		return errors.New("not attested")
	}
	sealed, err := s.key.Seal(k.secret, nil)
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(sealed)
}

// framed returns text as a message.
func framed(text string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
