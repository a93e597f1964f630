package keylime_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/teebroker/teebroker/cca"
	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/keylime"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
)

// The bodies of the vectors are accepted over HTTP, with Keylime's claims, and the
// digests that they say are wrong are not what is bound.
func TestVectors(t *testing.T) {
	v, w := readVectors(t), simulated()
	h := w.handler(t, func(c *keylime.Config) { c.Verifier = w.vcek(t, v.VCEK.X, v.VCEK.Y) })
	for _, c := range v.Cases {
		x, err := strictjson.ParseBase64(c.X)
		check(t, err)
		y, err := strictjson.ParseBase64(c.Y)
		check(t, err)
		k, err := keylime.ParseKey(x, y)
		check(t, err)
		b, err := keylime.Bind(k, c.Nonce)
		if err != nil || hex.EncodeToString(b.Bytes()) != c.ReportData {
			t.Errorf("%s: %x, %v", c.Name, b.Bytes(), err)
		}
		for name, wrong := range c.Wrong {
			if wrong == hex.EncodeToString(b.Bytes()) {
				t.Errorf("%s: is the wrong digest %s", c.Name, name)
			}
		}
		code, status, r := post(t, h, string(c.Request))
		if code != 200 || status != "Success" || !r.Valid || len(r.Failures) != 0 {
			t.Errorf("%s: %d %s %+v", c.Name, code, status, r)
		}
		if got := string(r.Claims["reported_tcb_snp"]); got != "24" || len(r.Claims) != 15 || string(r.Claims["policy_debug_allowed"]) != "false" {
			t.Errorf("%s: claims %v", c.Name, r.Claims)
		}
		var data []byte
		for _, n := range strings.Split(strings.Trim(string(r.Claims["report_data"]), "[]"), ",") {
			var b byte
			check(t, json.Unmarshal([]byte(n), &b))
			data = append(data, b)
		}
		if hex.EncodeToString(data) != c.ReportData {
			t.Errorf("%s: report_data %x", c.Name, data)
		}
	}
}

// Each length of what is hashed belongs to one curve, and nothing else is bound.
func TestLengths(t *testing.T) {
	most := map[int]int{32: 47, 48: 51, 66: 64}
	owner := map[int]int{}
	for _, v := range readVectors(t).Cases {
		x, err := strictjson.ParseBase64(v.X)
		check(t, err)
		y, err := strictjson.ParseBase64(v.Y)
		check(t, err)
		k, err := keylime.ParseKey(x, y)
		check(t, err)
		for n := range 80 {
			_, err := keylime.Bind(k, make([]byte, n))
			ok := n >= 16 && n <= most[len(x)]
			if ok != (err == nil) || err != nil && !errors.Is(err, keylime.ErrNonce) {
				t.Errorf("%s, nonce of %d bytes: %v", v.Curve, n, err)
			}
			if total := 2*len(x) + n; ok && owner[total] != 0 && owner[total] != len(x) {
				t.Errorf("%d bytes can be split for coordinates of %d and of %d", total, len(x), owner[total])
			} else if ok {
				owner[total] = len(x)
			}
		}
		for _, bad := range [][2][]byte{{x[1:], y}, {x, y[1:]}, {x[1:], y[1:]}, {append([]byte{0}, x...), append([]byte{0}, y...)}, {y, x}, {nil, nil}} {
			if _, err := keylime.ParseKey(bad[0], bad[1]); !errors.Is(err, keylime.ErrKey) {
				t.Errorf("%s: %d and %d bytes: %v", v.Curve, len(bad[0]), len(bad[1]), err)
			}
		}
	}
}

func TestFormats(t *testing.T) {
	w, c := simulated(), newCaller(t)
	h := w.handler(t, nil)
	for tee, data := range map[string]string{"snp": c.snp(t, w, snptest.Guest{}), "tdx": c.tdx(t, w), "cca": c.cca(t, w)} {
		code, _, r := post(t, h, body(data))
		if code != 200 || !r.Valid || len(r.Claims) < 15 {
			t.Errorf("%s: %d, %+v", tee, code, r)
		}
		if len(r.Policies) != 1 || r.Policies[0]["name"] != "test" || len(r.Policies[0]["sha256"]) != 64 {
			t.Errorf("%s: policies %v", tee, r.Policies)
		}
	}
	if got := keylime.FormatNames(); !slices.Equal(got, []evidence.Format{cca.Format, snp.Format, tdx.Format}) {
		t.Errorf("formats %q", got)
	}
	if keylime.EventLogItem() != tdx.CCEL {
		t.Errorf("event logs are %q", keylime.EventLogItem())
	}
}

func TestNotAuthenticOrNotAccepted(t *testing.T) {
	w, c := simulated(), newCaller(t)
	other := newCaller(t)
	flipped := func(report []byte) []byte { report[0x90] ^= 1; return report }
	h := w.handler(t, nil)
	for name, v := range map[string]struct{ data, id, claim string }{
		"not over this key and nonce": {strings.Replace(c.snp(t, w, snptest.Guest{}), b64(c.nonce), b64(other.nonce), 1), "freshness_hash_failed", ""},
		"changed measurement":         {c.snp(t, w, snptest.Guest{Fault: flipped}), "invalid_signature", ""},
		"half a report":               {c.snp(t, w, snptest.Guest{Fault: func(r []byte) []byte { return r[:392] }}), "invalid_input", ""},
		"VMPL 2":                      {c.snp(t, w, snptest.Guest{VMPL: 2}), "policy.mismatch", "snp.vmpl"},
		"debuggee":                    {c.snp(t, w, snptest.Guest{Policy: 0xb0000}), "policy.mismatch", "snp.policy.debug"},
		"unknown policy":              {strings.Replace(c.snp(t, w, snptest.Guest{}), `{"nonce"`, `{"tee-policy":"none","nonce"`, 1), "policy.unknown", ""},
		"unknown TEE":                 {strings.Replace(c.snp(t, w, snptest.Guest{}), `"snp"`, `"sgx"`, 1), "invalid.tee", ""},
		"evidence of another":         {strings.Replace(c.tdx(t, w), `"tdx-quote"`, `"snp-report"`, 1), "missing_param", ""},
	} {
		code, _, r := post(t, h, body(v.data))
		want := 200
		if v.id == "missing_param" {
			want = 400
		}
		if code != want || r.Valid || len(r.Claims) != 0 || !slices.Equal(r.ids(), []string{"tee_attestation." + v.id}) || r.Failures[0].Context["claim"] != v.claim {
			t.Errorf("%s: %d %+v", name, code, r)
		}
	}
}

// The Reasons of package evidence have an id each, and text of a Verifier is not told.
func TestReasons(t *testing.T) {
	w, c := simulated(), newCaller(t)
	for reason, id := range map[evidence.Reason]string{
		evidence.Malformed: "invalid_input", evidence.Unsupported: "unsupported", evidence.Untrusted: "invalid_public_key", evidence.Revoked: "revoked",
		evidence.Stale: "stale", evidence.BadSignature: "invalid_signature", evidence.NotBound: "freshness_hash_failed", evidence.Unavailable: "vcek_fetch",
		"": "vcek_fetch",
	} {
		var logged error
		h := w.handler(t, func(cfg *keylime.Config) {
			cfg.Verifier = refusing{reason}
			cfg.Failed = func(_ *http.Request, err error) { logged = err }
		})
		_, _, r := post(t, h, body(c.snp(t, w, snptest.Guest{})))
		if r.Valid || !slices.Equal(r.ids(), []string{"tee_attestation." + id}) || strings.Contains(r.Failures[0].Context["message"], "chip 0815") {
			t.Errorf("%s: %+v", reason, r)
		}
		if logged == nil || reason != "" && !strings.Contains(logged.Error(), "chip 0815") {
			t.Errorf("%s: logged %v", reason, logged)
		}
	}
}

// refusing is a Verifier that refuses all, or returns what no Verifier may.
type refusing struct{ reason evidence.Reason }

func (r refusing) Verify(_ context.Context, ev evidence.Evidence, _ evidence.Binding) (*evidence.Verified, error) {
	if r.reason == "" {
		return nil, errors.New("no Error of package evidence")
	}
	return nil, &evidence.Error{Format: ev.Format, Reason: r.reason, Err: errors.New("chip 0815")}
}

// unbound answers yes without having compared anything.
type unbound struct{ evidence.Verifier }

func (u unbound) Verify(ctx context.Context, ev evidence.Evidence, _ evidence.Binding) (*evidence.Verified, error) {
	return u.Verifier.Verify(ctx, ev, evidence.UncheckedBindingUnsafe())
}

func TestUnboundIsRefused(t *testing.T) {
	w, c := simulated(), newCaller(t)
	h := w.handler(t, func(cfg *keylime.Config) { cfg.Verifier = unbound{cfg.Verifier} })
	if _, _, r := post(t, h, body(c.snp(t, w, snptest.Guest{}))); r.Valid || r.ids()[0] != "tee_attestation.freshness_hash_failed" {
		t.Errorf("%+v", r)
	}
}

func TestNoPolicyIsRefused(t *testing.T) {
	w, c := simulated(), newCaller(t)
	h := w.handler(t, func(cfg *keylime.Config) { delete(cfg.Policies, "") })
	data := c.snp(t, w, snptest.Guest{})
	if _, _, r := post(t, h, body(data)); r.Valid || !slices.Equal(r.ids(), []string{"tee_attestation.policy.none"}) {
		t.Errorf("%+v", r)
	}
	if _, _, r := post(t, h, body(strings.Replace(data, `{"nonce"`, `{"tee-policy":"strict","nonce"`, 1))); !r.Valid {
		t.Errorf("%+v", r)
	}
}

// Evidence of enhancement 123: a list, judged together.
func TestLists(t *testing.T) {
	w, c := simulated(), newCaller(t)
	h := w.handler(t, nil)
	list := func(bodies ...string) string { return "[" + strings.Join(bodies, ",") + "]" }
	good := c.snp(t, w, snptest.Guest{})
	_, _, r := post(t, h, list(body(good), body(c.tdx(t, w))))
	if !r.Valid || len(r.Claims) != 0 || len(r.Evidence) != 2 || len(r.Evidence[0].Claims) != 15 || r.Evidence[1].Claims["tdx.mrtd"] == nil {
		t.Errorf("%+v", r)
	}
	tpm := `{"type":"tpm","data":{"quote":"r"}}`
	for name, v := range map[string]struct{ body, id string }{
		"two reports":        {list(body(good), body(good)), "policy.mismatch"},
		"another key":        {list(body(good), body(newCaller(t).tdx(t, w))), "list_mismatch"},
		"another policy":     {list(body(good), body(strings.Replace(c.tdx(t, w), `{"nonce"`, `{"tee-policy":"strict","nonce"`, 1))), "list_mismatch"},
		"a TPM":              {list(body(good), tpm), "unsupported_type"},
		"a TPM alone":        {tpm, "unsupported_type"},
		"one of them forged": {list(body(good), body(strings.Replace(c.tdx(t, w), `"tdx-quote":"`, `"tdx-quote":"AAAA`, 1))), "unsupported"},
	} {
		code, _, r := post(t, h, v.body)
		if code != 200 || r.Valid || len(r.Claims) != 0 || len(r.Failures) == 0 || r.ids()[0] != "tee_attestation."+v.id {
			t.Errorf("%s: %d %+v", name, code, r)
		}
		for _, one := range r.Evidence {
			if one.Valid || len(one.Claims) != 0 {
				t.Errorf("%s: %+v", name, one)
			}
		}
	}
	for _, bad := range []string{"[]", list(body(good), body(good), body(good), body(good), body(good)), "[1]", "[" + body(good)} {
		if code, _, r := post(t, h, bad); code != 400 || r.Valid {
			t.Errorf("%.20s: %d %+v", bad, code, r)
		}
	}
}

func TestEAR(t *testing.T) {
	w, c := simulated(), newCaller(t)
	k := key(t, elliptic.P384())
	issuer, err := ear.NewIssuer(ear.IssuerConfig{Signer: k, Profile: ear.Draft03, Verifier: ear.VerifierID{Developer: "us", Build: "1"}, Life: minute})
	check(t, err)
	h := w.handler(t, func(cfg *keylime.Config) { cfg.Tokens, cfg.Audience = issuer, "keylime callers" })
	reader, err := ear.NewReader(ear.ReaderConfig{Keys: []*ecdsa.PublicKey{&k.PublicKey}, Profiles: []ear.Profile{ear.Draft03}})
	check(t, err)
	for name, v := range map[string]struct {
		data  string
		valid bool
	}{
		"accepted":      {c.snp(t, w, snptest.Guest{}), true},
		"not accepted":  {c.snp(t, w, snptest.Guest{VMPL: 1}), false},
		"not authentic": {c.snp(t, w, snptest.Guest{Fault: func(r []byte) []byte { r[0x90] ^= 1; return r }}), false},
	} {
		_, _, r := post(t, h, body(v.data))
		e, err := reader.Read([]byte(r.EAR), ear.Want{Audience: "keylime callers", Nonce: c.nonce})
		if err != nil || r.Valid != v.valid || (e.Submodules[0].Key != nil) != v.valid {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
		if err == nil && !v.valid && e.Status == ear.Affirming {
			t.Errorf("%s: affirming", name)
		}
	}
}

func TestVersionsAndPaths(t *testing.T) {
	w, c := simulated(), newCaller(t)
	h := w.handler(t, nil)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/version", nil))
	if want := `{"code":200,"status":"Success","results":{"current_version":"2.6","supported_versions":["2.4","2.5","2.6"]}}`; rec.Body.String() != want {
		t.Errorf("%s", rec.Body)
	}
	good := body(c.snp(t, w, snptest.Guest{}))
	for _, v := range []struct {
		method, path string
		code         int
	}{
		{"POST", "/v2.4/verify/evidence", 200},
		{"POST", "/v2.5/verify/evidence", 200},
		{"POST", "/v2.6/verify/evidence/", 200},
		{"POST", "/v2.3/verify/evidence", 404},
		{"POST", "/v3.0/verify/evidence", 404},
		{"POST", "/2.6/verify/evidence", 404},
		{"POST", "/v2.6/verify/identity", 404},
		{"POST", "/v2.6/verify", 404},
		{"POST", "/", 404},
		{"GET", "/v2.6/verify/evidence", 405},
		{"HEAD", "/v2.6/verify/evidence", 405},
		{"PUT", "/v2.6/verify/evidence", 405},
		{"POST", "/version", 405},
	} {
		if code, _, r := send(t, h, httptest.NewRequest(v.method, v.path, strings.NewReader(good))); code != v.code || r.Valid != (code == 200) {
			t.Errorf("%s %s: %d %+v", v.method, v.path, code, r)
		}
	}
}

// waiting is a Verifier that waits until the context ends.
type waiting struct{}

func (waiting) Verify(ctx context.Context, ev evidence.Evidence, _ evidence.Binding) (*evidence.Verified, error) {
	<-ctx.Done()
	return nil, &evidence.Error{Format: ev.Format, Reason: evidence.Unavailable, Err: ctx.Err()}
}

// Who comes when all are busy is told so at once, and a verification has an end.
func TestBudget(t *testing.T) {
	w, c := simulated(), newCaller(t)
	data := body(c.snp(t, w, snptest.Guest{}))
	synctest.Test(t, func(t *testing.T) {
		h := w.handler(t, func(cfg *keylime.Config) { cfg.Verifier, cfg.Concurrent = waiting{}, 1 })
		first := make(chan results)
		go func() {
			_, _, r := post(t, h, data)
			first <- r
		}()
		synctest.Wait()
		if code, _, r := post(t, h, data); code != 503 || r.Valid {
			t.Errorf("%d %+v", code, r)
		}
		if code, _, _ := post(t, h, "{"); code != 400 {
			t.Errorf("a malformed body: %d", code)
		}
		if r := <-first; r.Valid || r.ids()[0] != "tee_attestation.vcek_fetch" {
			t.Errorf("%+v", r)
		}
	})
}

// Slow senders keep others from sending only beyond a bound, and nobody from being
// verified.
func TestSlowSenders(t *testing.T) {
	w, c := simulated(), newCaller(t)
	data := body(c.snp(t, w, snptest.Guest{}))
	h := w.handler(t, func(cfg *keylime.Config) { cfg.Concurrent = 1 })
	synctest.Test(t, func(t *testing.T) {
		codes := make(chan int)
		var senders []*io.PipeWriter
		slow := func() {
			body, sender := io.Pipe()
			senders = append(senders, sender)
			go func() {
				code, _, _ := send(t, h, httptest.NewRequest(http.MethodPost, "/v2.6/verify/evidence", body))
				codes <- code
			}()
			synctest.Wait()
		}
		for range 15 {
			slow()
		}
		if code, _, _ := post(t, h, data); code != 200 { // with a verdict; the clock here is not that of the certificates
			t.Errorf("beside 15: %d", code)
		}
		slow()
		if code, _, _ := post(t, h, data); code != 503 {
			t.Errorf("beside 16: %d", code)
		}
		for _, s := range senders {
			s.CloseWithError(io.ErrUnexpectedEOF)
			if code := <-codes; code != 400 {
				t.Errorf("half a body: %d", code)
			}
		}
	})
}

// A result without its EAR is a result, and somebody is told.
func TestNoEAR(t *testing.T) {
	w, c := simulated(), newCaller(t)
	issuer, err := ear.NewIssuer(ear.IssuerConfig{Signer: key(t, elliptic.P256()), Profile: ear.Draft03, Verifier: ear.VerifierID{Developer: "us", Build: "1"}, Life: minute})
	check(t, err)
	var logged error
	h := w.handler(t, func(cfg *keylime.Config) {
		cfg.Tokens, cfg.Audience = issuer, "callers"
		cfg.Policies[""][0].Document = nil // which an EAR has to name
		cfg.Failed = func(_ *http.Request, err error) { logged = err }
	})
	if _, _, r := post(t, h, body(c.snp(t, w, snptest.Guest{}))); !r.Valid || r.EAR != "" || logged == nil {
		t.Errorf("%+v, %v", r, logged)
	}
}

func TestRefuse(t *testing.T) {
	rec := httptest.NewRecorder()
	keylime.Refuse(rec, http.StatusTooManyRequests, 1500*time.Millisecond)
	if rec.Code != 429 || rec.Header().Get("Retry-After") != "2" || rec.Body.String() != `{"code":429,"status":"Too Many Requests","results":{}}` {
		t.Errorf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
}

func TestConfig(t *testing.T) {
	v := simulated().verifier(t)
	some := map[string][]*policy.Policy{"": vmpl0()}
	for field, cfg := range map[string]keylime.Config{
		"Verifier":   {Policies: some},
		"Policies":   {Verifier: v},
		"Policies:":  {Verifier: v, Policies: map[string][]*policy.Policy{"": nil}},
		"Policies: ": {Verifier: v, Policies: map[string][]*policy.Policy{"": {nil}}},
		"Audience":   {Verifier: v, Policies: some, Tokens: new(ear.Issuer)},
		"MaxBody":    {Verifier: v, Policies: some, MaxBody: 17 << 20},
		"Concurrent": {Verifier: v, Policies: some, Concurrent: -1},
	} {
		if h, err := keylime.New(cfg); err == nil || h != nil || !strings.Contains(err.Error(), strings.TrimSpace(field)) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// docs/keylime.md has every id, and no other.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/keylime.md")
	check(t, err)
	_, table, _ := strings.Cut(string(b), "| id, below")
	table, _, _ = strings.Cut(table, "\n\n")
	var documented []string
	for line := range strings.Lines(table) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		for i, part := range strings.Split(cell, "`") {
			if i%2 == 1 && part != "tee_attestation." {
				documented = append(documented, part)
			}
		}
	}
	ids := keylime.IDs()
	slices.Sort(documented)
	slices.Sort(ids)
	if !slices.Equal(documented, ids) {
		t.Errorf("documented %q, in use %q", documented, ids)
	}
}
