package keylime_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/cca/ccatest"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/keylime"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// world is a simulated vendor of each kind. Keys take seconds, so there is one.
type world struct {
	amd   *snptest.AMD
	chip  *snptest.Chip
	intel *tdxtest.Intel
	host  *tdxtest.Platform
	realm *ccatest.Platform
}

var simulated = sync.OnceValue(func() world {
	w := world{amd: snptest.NewAMD(), intel: tdxtest.NewIntel(), realm: ccatest.NewPlatform()}
	w.chip, w.host = w.amd.Chip(snp.Milan), w.intel.Platform(tdx.ProcessorCA)
	return w
})

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// verifier verifies what is simulated, and reports that the key of the vectors signed
// if der is its VCEK.
func (w world) verifier(t testing.TB) evidence.Verifiers {
	t.Helper()
	s, err := snp.NewVerifier(snp.Config{Anchors: w.amd.Anchors(snp.Milan), Source: w.amd.Source()})
	check(t, err)
	x, err := tdx.NewVerifier(tdx.Config{Anchors: w.intel.Anchors(), Source: w.intel.Set(w.host.PCK.FMSPC)})
	check(t, err)
	c, err := cca.NewVerifier(cca.Config{Anchors: []cca.Anchor{w.realm.Anchor()}})
	check(t, err)
	return evidence.Verifiers{snp.Format: s, tdx.Format: x, cca.Format: c}
}

// vmpl0 accepts what was asked for by VMPL 0 and is no debuggee, and every TD and realm.
func vmpl0() []*policy.Policy {
	return []*policy.Policy{{
		Name: "test", Version: "1", Document: []byte("vmpl0"),
		Optional: map[evidence.Format]policy.Rule{
			snp.Format: policy.All{
				policy.Claim{Name: "snp.vmpl", Op: evidence.Equal, Want: evidence.Uint(0)},
				policy.Claim{Name: "snp.policy.debug", Op: evidence.Equal, Want: evidence.Bool(false)},
			},
			tdx.Format: policy.Claim{Name: "tdx.td_attributes.debug", Op: evidence.Equal, Want: evidence.Bool(false)},
			cca.Format: policy.Claim{Name: "cca.lifecycle_state", Op: evidence.Equal, Want: evidence.Text("secured")},
		},
	}}
}

func (w world) handler(t testing.TB, edit func(*keylime.Config)) *keylime.Handler {
	t.Helper()
	cfg := keylime.Config{Verifier: w.verifier(t), Policies: map[string][]*policy.Policy{"": vmpl0(), "strict": vmpl0()}}
	if edit != nil {
		edit(&cfg)
	}
	h, err := keylime.New(cfg)
	check(t, err)
	return h
}

// vcek returns a verifier for reports of the vectors' chip, whose key the simulated AMD
// certifies.
func (w world) vcek(t testing.TB, x, y string) evidence.Verifier {
	t.Helper()
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), slices.Concat([]byte{4}, coordinate(t, x), coordinate(t, y)))
	check(t, err)
	chip := snp.ChipID(sha512.Sum512([]byte("synthetic chip id")))
	tcb := snp.TCB{Line: snp.Milan, Bootloader: 4, Firmware: 24, Microcode: 220}
	s, err := snp.NewVerifier(snp.Config{
		Anchors: w.amd.Anchors(snp.Milan),
		Source:  withVCEK{w.amd.Source(), snp.VCEKName(chip, tcb), w.amd.IssueVEK(pub, snptest.VEK{TCB: tcb, Chip: chip})},
	})
	check(t, err)
	return s
}

func coordinate(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	check(t, err)
	return b
}

// withVCEK is a Source with one certificate more.
type withVCEK struct {
	evidence.Source
	name string
	der  []byte
}

func (s withVCEK) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	if name == s.name {
		return []evidence.Collateral{{Data: s.der}}, nil
	}
	return s.Source.Get(ctx, name)
}

// bindingVectors is keylime_binding.json.
type bindingVectors struct {
	VCEK  struct{ X, Y string } `json:"synthetic_vcek_jwk"`
	Cases []struct {
		Name       string            `json:"name"`
		Curve      string            `json:"crv"`
		X          string            `json:"x_b64url"`
		Y          string            `json:"y_b64url"`
		Nonce      []byte            `json:"nonce_b64"`
		ReportData string            `json:"report_data_hex"`
		Wrong      map[string]string `json:"wrong_digests_must_not_match"`
		Request    json.RawMessage   `json:"keylime_request"`
	} `json:"cases"`
}

func readVectors(t testing.TB) (v bindingVectors) {
	t.Helper()
	b := vectors.Read(t, "wire/vectors/keylime_binding.json")
	check(t, json.Unmarshal(b, &v))
	if len(v.Cases) != 5 {
		t.Fatalf("%d cases", len(v.Cases))
	}
	return v
}

// results are those of an answer.
type results struct {
	Valid    bool                       `json:"valid"`
	Claims   map[string]json.RawMessage `json:"claims"`
	Failures []struct {
		Type    string            `json:"type"`
		Context map[string]string `json:"context"`
	} `json:"failures"`
	Policies []map[string]string `json:"policies"`
	EAR      string              `json:"ear"`
	Evidence []results           `json:"evidence"`
}

// ids returns the ids of the failures of r.
func (r results) ids() (ids []string) {
	for _, f := range r.Failures {
		ids = append(ids, f.Type)
	}
	return ids
}

// post posts a body and returns the status of HTTP, that of the envelope, and the results.
func post(t testing.TB, h http.Handler, body string) (int, string, results) {
	t.Helper()
	return send(t, h, httptest.NewRequest(http.MethodPost, "/v2.6/verify/evidence", bytes.NewReader([]byte(body))))
}

func send(t testing.TB, h http.Handler, r *http.Request) (int, string, results) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var e struct {
		Code    int     `json:"code"`
		Status  string  `json:"status"`
		Results results `json:"results"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code != w.Code || e.Status == "" || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("status %d, not an envelope of Keylime: %q, %v", w.Code, w.Body, err)
	}
	return w.Code, e.Status, e.Results
}

// caller asks about evidence for a key and nonce of its own.
type caller struct {
	key   keywrap.Recipient
	nonce []byte
}

func newCaller(t testing.TB) caller {
	t.Helper()
	k, err := keywrap.Generate(keywrap.JWEP256)
	check(t, err)
	c := caller{k.Recipient(), make([]byte, 32)}
	rand.Read(c.nonce)
	return c
}

func (c caller) binding(t testing.TB) evidence.Binding {
	t.Helper()
	b, err := keylime.Bind(c.key, c.nonce)
	check(t, err)
	return b
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// data is the member of a body for evidence that is JSON already.
func (c caller) data(tee, ev string) string {
	x, y, _ := c.key.XY()
	u := base64.RawURLEncoding.EncodeToString
	return `{"nonce":"` + b64(c.nonce) + `","tee-pubkey-x-b64":"` + u(x) + `","tee-pubkey-y-b64":"` + u(y) +
		`","tee-evidence":{"tee":"` + tee + `","evidence":` + ev + `}}`
}

func body(data string) string { return `{"type":"tee","data":` + data + `}` }

func (c caller) snp(t testing.TB, w world, g snptest.Guest) string {
	t.Helper()
	return c.data("snp", `{"snp-report":"`+b64(w.chip.Report(g, c.binding(t)).Raw)+`"}`)
}

func (c caller) tdx(t testing.TB, w world) string {
	t.Helper()
	return c.data("tdx", `{"tdx-quote":"`+b64(w.host.Quote(tdxtest.TD{}, c.binding(t)).Raw)+`"}`)
}

func (c caller) cca(t testing.TB, w world) string {
	t.Helper()
	return c.data("cca", `{"cca-token":"`+b64(w.realm.Token(ccatest.Realm{}, c.binding(t)).Raw)+`"}`)
}

func key(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	check(t, err)
	return k
}

const minute = time.Minute

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func unb64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	check(t, err)
	return b
}

// vtpmtestUnrestricted makes an AK that signs what it is given.
func vtpmtestUnrestricted(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false }
