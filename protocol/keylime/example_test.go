package keylime_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/keylime"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
)

func ExampleHandler() {
	amd := snptest.NewAMD()
	amd.Chip(snp.Milan)
	verifier, err := snp.NewVerifier(snp.Config{Anchors: amd.Anchors(), Source: amd.Source()})
	if err != nil {
		fmt.Println(err)
		return
	}
	document := &policy.Policy{
		Name: "prod", Version: "7", Document: []byte("…"),
		Require: map[evidence.Format]policy.Rule{snp.Format: policy.Claim{Name: "snp.vmpl", Op: evidence.Equal, Want: evidence.Uint(0)}},
	}
	handler, err := keylime.New(keylime.Config{Verifier: verifier, Policies: map[string][]*policy.Policy{"": {document}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	service := httptest.NewTLSServer(handler)
	defer service.Close()

	answer, err := service.Client().Post(service.URL+"/v2.6/verify/evidence", "application/json", strings.NewReader(`{"type":"tee","data":{"tee-evidence":{}}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	fmt.Println(answer.StatusCode, string(b), err)
	// Output:
	// 400 {"code":400,"status":"Bad Request","results":{"valid":false,"claims":{},"failures":[{"type":"tee_attestation.missing_param","context":{"message":"missing parameter \"nonce\""}}]}} <nil>
}

// The length of a nonce has to leave no doubt where the key before it ends.
func ExampleBind() {
	for _, suite := range []keywrap.Suite{keywrap.JWEP256, keywrap.JWEP384, keywrap.JWEP521} {
		guest, err := keywrap.Generate(suite)
		if err != nil {
			fmt.Println(err)
			return
		}
		binding, err := keylime.Bind(guest.Recipient(), make([]byte, 64))
		fmt.Println(len(binding.Bytes()), err)
	}
	// Output:
	// 0 keylime: unacceptable nonce: 64 bytes, with a key on P-256 16 to 47
	// 0 keylime: unacceptable nonce: 64 bytes, with a key on P-384 16 to 51
	// 64 <nil>
}

// BenchmarkHandler is one report of a chip whose certificates are at hand.
func BenchmarkHandler(b *testing.B) {
	w, c := simulated(), newCaller(b)
	h := w.handler(b, nil)
	good := body(c.snp(b, w, snptest.Guest{}))
	b.ReportAllocs()
	for b.Loop() {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/v2.6/verify/evidence", strings.NewReader(good)))
		if rec.Code != http.StatusOK {
			b.Fatal(rec.Body)
		}
	}
}
