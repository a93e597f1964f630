package v1_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/store/memory"
)

// A service that verifies and holds no key, and a broker's verifier that asks it.
// The decoder makes claims of SEV-SNP of the report at hand and of what the service
// says of its chip; what it makes has to be what the service said, to the byte.
func ExampleRemote() {
	amd := snptest.NewAMD()
	amd.Time = start
	chip := amd.Chip(snp.Turin)
	lists := collateral.Fixed{snp.CRLName(snp.Turin, snp.VCEK): {{Data: amd.CRL(snp.Turin, snp.VCEK, start())}}}
	local, err := snp.NewVerifier(snp.Config{Anchors: amd.Anchors(), Source: lists, Time: start})
	if err != nil {
		log.Fatal(err)
	}
	server, err := v1.New(v1.Config{Tenants: tenants{}, Verify: &v1.VerifyConfig{Verifier: local}})
	if err != nil {
		log.Fatal(err)
	}
	service := httptest.NewTLSServer(server)
	defer service.Close()

	remote, err := v1.NewRemote(v1.RemoteConfig{
		Client:   v1.ClientConfig{URL: service.URL, HTTP: service.Client(), Token: token},
		Decoders: map[evidence.Format]v1.ClaimsDecoder{snp.Format: decodeSNP},
		Time:     start,
	})
	if err != nil {
		log.Fatal(err)
	}
	want, err := evidence.NewBinding([]byte("what the broker asked to be signed"))
	if err != nil {
		log.Fatal(err)
	}
	report := chip.Report(snptest.Guest{Measurement: [48]byte{1}}, want)
	got, err := remote.Verify(context.Background(), report, want)
	if err != nil {
		log.Fatal(err)
	}
	claims, _ := snp.ClaimsOf(got)
	fmt.Println(claims.Line, claims.Key, claims.Chip == chip.ID(), claims.Measurement()[0])

	report.Raw[100] ^= 1
	_, err = remote.Verify(context.Background(), report, want)
	fmt.Println(errors.Is(err, evidence.NotBound) || errors.Is(err, evidence.BadSignature))
	// Output:
	// Turin VCEK true 1
	// true
}

// decodeSNP is the decoder of claims of SEV-SNP.
func decodeSNP(ev evidence.Evidence, object []byte) (evidence.Claims, error) {
	report, err := snp.ParseReport(ev.Raw)
	if err != nil {
		return nil, err
	}
	var said struct {
		Line string `json:"snp.line"`
		Key  string `json:"snp.key"`
		Chip string `json:"snp.chip"`
		CSP  string `json:"snp.csp"`
	}
	if err := json.Unmarshal(object, &said); err != nil {
		return nil, err
	}
	claims := &snp.Claims{Report: report, CSP: said.CSP, Key: snp.VCEK}
	if said.Key == snp.VLEK.String() {
		claims.Key = snp.VLEK
	}
	for line := snp.Milan; line <= snp.Turin; line++ {
		if line.String() == said.Line {
			claims.Line = line
		}
	}
	_, err = hex.Decode(claims.Chip[:], []byte(said.Chip))
	return claims, err
}

// A server in front of what is there: here nothing but operations and verification.
func ExampleNew() {
	server, err := v1.New(v1.Config{
		Verify:  &v1.VerifyConfig{Verifier: verifier()},
		Observe: func(e v1.Event) { fmt.Println(e.Method, e.Route, e.Status) },
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, path := range []string{v1.PathHealth, v1.PathVerify, v1.PathRelease} {
		server.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
	}
	// Output:
	// GET /healthz 200
	// GET  405
	// GET  404
}

// A guest whose messages the host carries, sealed so that the host sees sizes and
// times only.
func ExampleSealer() {
	service, id := newRequestService() // with a request key; the guest pins the id
	defer service.Close()
	carry := func(method, path string, body []byte) []byte { // the host
		req, err := http.NewRequestWithContext(context.Background(), method, service.URL+path, bytes.NewReader(body))
		if err != nil {
			log.Fatal(err)
		}
		resp, err := service.Client().Do(req)
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			log.Fatal(err)
		}
		return answer
	}

	sealer, err := v1.NewSealer(carry(http.MethodGet, v1.PathKeys+"?tenant=", nil), id, start)
	if err != nil {
		log.Fatal(err)
	}
	body, answer, err := sealer.Seal(v1.PathRelease, []byte(`{"v":1}`))
	if err != nil {
		log.Fatal(err)
	}
	_, err = answer.Open(carry(http.MethodPost, v1.PathSealed, body))
	fmt.Println(errors.Is(err, teebroker.MalformedRequest), errors.Is(err, v1.ErrNotSealed))
	_, err = answer.Open([]byte(`{"v":1,"salt":"AA","ct":"AA"}`))
	fmt.Println(errors.Is(err, v1.ErrNotSealed))
	// Output:
	// true false
	// true
}

func newRequestService() (*httptest.Server, [32]byte) {
	identity, err1 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	key, err2 := keywrap.Generate(keywrap.MLKEM768X25519)
	issuer, err3 := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}, Time: start})
	state := memory.New(start)
	broker, err4 := teebroker.New(teebroker.Config{
		Verifier: verifier(), Issuer: issuer, Nonces: state, Directory: state, Secrets: state, Ledger: state, Identity: identity, Time: start,
		RequestKeys: []teebroker.RequestKey{{ID: "2026", Opener: key}},
	})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		log.Fatal(err)
	}
	server, err := v1.New(v1.Config{Broker: broker, Allow: v1.Suites(), Keys: broker.KeysDocument})
	if err != nil {
		log.Fatal(err)
	}
	return httptest.NewServer(server), broker.ID()
}
