package v1_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
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
