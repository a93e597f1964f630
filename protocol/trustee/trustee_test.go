package trustee_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/trustee"
)

// service answers as an attestation service that has one opinion.
type service struct {
	status  int    // if zero, 200
	claims  string // of the TEE, JSON
	data    string // report_data, JSON; if empty, what it was asked for
	answer  string // in place of a token
	expires time.Time
	asked   []string // bodies
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	s.asked = append(s.asked, r.Method+" "+r.URL.Path+" "+string(b))
	if s.status != 0 {
		w.WriteHeader(s.status)
		return
	}
	if s.answer != "" {
		_, _ = io.WriteString(w, s.answer)
		return
	}
	var raw struct {
		Requests []struct {
			TEE     string            `json:"tee"`
			Runtime map[string]string `json:"runtime_data"`
		} `json:"verification_requests"`
	}
	if err := json.Unmarshal(b, &raw); err != nil || len(raw.Requests) != 1 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	data := s.data
	if data == "" {
		want, _ := base64.RawURLEncoding.DecodeString(raw.Requests[0].Runtime["raw"])
		data = fmt.Sprintf("%q", hex.EncodeToString(append(want, make([]byte, 64-len(want))...)))
	}
	payload := fmt.Sprintf(`{"exp":%d,"iss":"x","submods":{"cpu0":{"ear.status":"affirming","ear.veraison.annotated-evidence":{"%s":%s,"init_data":"","report_data":%s}}}}`,
		s.expires.Unix(), raw.Requests[0].TEE, s.claims, data)
	_, _ = io.WriteString(w, token(payload))
}

func token(payload string) string {
	return "eyJhbGciOiJFUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

const enclave = `{"body":{"mr_enclave":"8f17","isv_svn":7,"debug":false,"list":["a","b"],"mixed":[1,{}],"fraction":1.5,"negative":-1,"nothing":null},
	"delegated_to":"somebody","status":"fine","a.b":"dotted","tcb":"UpToDate"}`

var quote = evidence.Evidence{Format: trustee.SGX, Raw: []byte(`{"quote":"AAAA"}`)}

func binding(t testing.TB) evidence.Binding {
	t.Helper()
	b, err := evidence.NewBinding([]byte("a binding of forty-eight bytes, as of SHA-384..."))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func start(t testing.TB, s *service) *httptest.Server {
	t.Helper()
	if s.expires.IsZero() {
		s.expires = time.Now().Add(time.Hour)
	}
	if s.claims == "" {
		s.claims = enclave
	}
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func config(server *httptest.Server) trustee.Config {
	return trustee.Config{URL: server.URL, HTTP: server.Client(), TEEs: map[evidence.Format]string{trustee.SGX: "sgx"}}
}

func newVerifier(t testing.TB, cfg trustee.Config) *trustee.Verifier {
	t.Helper()
	v, err := trustee.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerify(t *testing.T) {
	s := &service{}
	server := start(t, s)
	cfg := config(server)
	cfg.PolicyIDs = []string{"ours"}
	got, err := newVerifier(t, cfg).Verify(t.Context(), quote, binding(t))
	if err != nil {
		t.Fatal(err)
	}
	if want := `POST /attestation {"policy_ids":["ours"],"verification_requests":[{"evidence":"eyJxdW90ZSI6IkFBQUEifQ","runtime_data":{"raw":"` +
		base64.RawURLEncoding.EncodeToString(binding(t).Bytes()) + `"},"tee":"sgx"}]}`; len(s.asked) != 1 || s.asked[0] != want {
		t.Errorf("asked %q", s.asked)
	}
	var claims []string
	for name, value := range got.Claims.All() {
		claims = append(claims, name+"="+value.String())
	}
	want := "sgx.delegated_to=" + server.URL + " sgx.status=affirming sgx.body.debug=false sgx.body.isv_svn=7 sgx.body.list=[a b] sgx.body.mr_enclave=8f17 sgx.tcb=UpToDate"
	if strings.Join(claims, " ") != want {
		t.Errorf("claims %q", claims)
	}
	if root := sha256.Sum256(server.Certificate().RawSubjectPublicKeyInfo); got.Root != root || !got.Bound || len(got.Signed) != 64 || got.Format != trustee.SGX {
		t.Errorf("%+v", got)
	}
	if life := got.NotAfter.Sub(got.CheckedAt); life != 5*time.Minute {
		t.Errorf("counts for %v", life)
	}
	rule := func(name, value string) policy.Rule {
		return policy.Claim{Name: name, Op: evidence.Equal, Want: evidence.Text(value)}
	}
	for name, c := range map[string]struct {
		rule policy.Rule
		want bool
	}{
		"a policy that names the delegate":  {policy.All{rule("sgx.delegated_to", server.URL), rule("sgx.body.mr_enclave", "8f17")}, true},
		"a policy that names another":       {rule("sgx.delegated_to", "somebody"), false},
		"a policy that names another image": {rule("sgx.body.mr_enclave", "0000"), false},
	} {
		p := &policy.Policy{Name: "p", Document: []byte("p"), Require: map[evidence.Format]policy.Rule{trustee.SGX: c.rule}}
		if a := policy.Appraise([]*evidence.Verified{got}, p); a.Accepted() != c.want {
			t.Errorf("%s: %v", name, a.Err())
		}
	}
}

func TestNotVerified(t *testing.T) {
	good := `{"exp":9999999999,"submods":{"cpu0":{"ear.veraison.annotated-evidence":{"report_data":"` + hex.EncodeToString(binding(t).Bytes()) + `","sgx":{"a":1}}}}}`
	// judged returns a token with a trustworthiness vector.
	judged := func(vector string) string {
		return strings.Replace(good, `"cpu0":{`, `"cpu0":{"ear.status":"contraindicated","ear.trustworthiness-vector":`+vector+`,`, 1)
	}
	for name, c := range map[string]struct {
		service service
		want    evidence.Reason
	}{
		"refused":              {service{status: 500}, evidence.Unavailable},
		"a redirect":           {service{status: 307}, evidence.Unavailable},
		"another binding":      {service{data: `"` + strings.Repeat("ab", 64) + `"`}, evidence.NotBound},
		"binding and more":     {service{data: `"` + strings.Repeat("ab", 65) + `"`}, evidence.NotBound},
		"binding not hex":      {service{data: `"q"`}, evidence.Unavailable},
		"an expired token":     {service{expires: time.Unix(1, 0)}, evidence.Stale},
		"no token":             {service{answer: "yes"}, evidence.Unavailable},
		"not base64":           {service{answer: "a.!.c"}, evidence.Unavailable},
		"not JSON":             {service{answer: token("{")}, evidence.Unavailable},
		"no exp":               {service{answer: token(strings.Replace(good, "exp", "iat", 1))}, evidence.Unavailable},
		"exp is a string":      {service{answer: token(strings.Replace(good, "9999999999", `"9"`, 1))}, evidence.Unavailable},
		"exp is negative":      {service{answer: token(strings.Replace(good, "9999999999", `-9`, 1))}, evidence.Unavailable},
		"two submodules":       {service{answer: token(strings.Replace(good, `{"cpu0"`, `{"gpu0":{},"cpu0"`, 1))}, evidence.Unavailable},
		"another submodule":    {service{answer: token(strings.Replace(good, `cpu0`, `cpu1`, 1))}, evidence.Unavailable},
		"another TEE":          {service{answer: token(strings.Replace(good, `"sgx"`, `"sample"`, 1))}, evidence.Unavailable},
		"doubled member":       {service{answer: token(strings.Replace(good, `"a":1`, `"a":1,"a":2`, 1))}, evidence.Unavailable},
		"nothing annotated":    {service{answer: token(strings.Replace(good, `annotated`, `other`, 1))}, evidence.Unavailable},
		"null about it":        {service{claims: "null"}, evidence.Unavailable},
		"binding of a type":    {service{data: "[1,2]"}, evidence.Unavailable},
		"binding not said":     {service{answer: token(strings.Replace(good, `report_data`, `init_data`, 1))}, evidence.Unavailable},
		"as it should be":      {service{answer: token(good)}, ""},
		"binding is null":      {service{data: "null"}, evidence.Unavailable},
		"not genuine":          {service{answer: token(judged(`{"hardware":99}`))}, evidence.Unavailable},
		"it failed":            {service{answer: token(judged(`{"hardware":2,"executables":-1}`))}, evidence.Unavailable},
		"a vector of a type":   {service{answer: token(judged(`[99]`))}, evidence.Unavailable},
		"a vector of text":     {service{answer: token(judged(`{"hardware":"99"}`))}, evidence.Unavailable},
		"genuine, not trusted": {service{answer: token(judged(`{"hardware":97,"executables":33}`))}, ""},
		"too many claims":      {service{claims: "{" + many(600) + "}"}, evidence.Unavailable},
		"nested too deeply":    {service{claims: strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)}, evidence.Unavailable},
		"more than is read":    {service{answer: strings.Repeat("a", 1<<20+1)}, evidence.Unavailable},
		"claims are no object": {service{claims: "7"}, ""},
	} {
		server := start(t, &c.service)
		got, err := newVerifier(t, config(server)).Verify(t.Context(), quote, binding(t))
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// many returns n members.
func many(n int) string {
	var ms []string
	for i := range n {
		ms = append(ms, fmt.Sprintf(`"m%d":1`, i))
	}
	return strings.Join(ms, ",")
}

// Nobody is asked about what can't be answered.
func TestNotAsked(t *testing.T) {
	s := &service{}
	v := newVerifier(t, config(start(t, s)))
	for name, c := range map[string]struct {
		ev   evidence.Evidence
		b    evidence.Binding
		want evidence.Reason
	}{
		"another format":       {evidence.Evidence{Format: trustee.CSV, Raw: quote.Raw}, binding(t), evidence.Unsupported},
		"no binding":           {quote, evidence.Binding{}, evidence.Unsupported},
		"an unchecked binding": {quote, evidence.UncheckedBindingUnsafe(), evidence.Unsupported},
		"items":                {evidence.Evidence{Format: trustee.SGX, Raw: quote.Raw, Items: []evidence.Item{{}}}, binding(t), evidence.Unsupported},
		"layers":               {evidence.Evidence{Format: trustee.SGX, Raw: quote.Raw, Layers: []evidence.Evidence{{}}}, binding(t), evidence.Unsupported},
		"no JSON":              {evidence.Evidence{Format: trustee.SGX, Raw: []byte{1}}, binding(t), evidence.Malformed},
		"half JSON":            {evidence.Evidence{Format: trustee.SGX, Raw: []byte(`{"a":tru}`)}, binding(t), evidence.Malformed},
		"too long":             {evidence.Evidence{Format: trustee.SGX, Raw: make([]byte, 1<<20+1)}, binding(t), evidence.Malformed},
	} {
		if got, err := v.Verify(t.Context(), c.ev, c.b); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if len(s.asked) != 0 {
		t.Errorf("asked %q", s.asked)
	}
}

// Who answers is known by root or by key, or is not believed.
func TestIdentity(t *testing.T) {
	server, other := start(t, &service{}), start(t, &service{})
	blind := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	mine := sha256.Sum256(server.Certificate().RawSubjectPublicKeyInfo)
	for name, c := range map[string]struct {
		client *http.Client
		keys   [][32]byte
		ok     bool
	}{
		"a known root":                       {server.Client(), nil, true},
		"an unknown root":                    {&http.Client{}, nil, false},
		"a client that does not look":        {blind, nil, false},
		"such a client, and the key":         {blind, [][32]byte{{}, mine}, true},
		"such a client, and another key":     {blind, [][32]byte{{1}}, false},
		"a known root, and not its key":      {server.Client(), [][32]byte{{1}}, false},
		"a known root, and no key that fits": {other.Client(), [][32]byte{{}}, false},
	} {
		cfg := config(server)
		cfg.HTTP, cfg.Keys = c.client, c.keys
		got, err := newVerifier(t, cfg).Verify(t.Context(), quote, binding(t))
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, evidence.Unavailable) || c.ok && got.Root != mine {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPlainHTTP(t *testing.T) {
	s := &service{claims: enclave, expires: time.Now().Add(time.Hour)}
	server := httptest.NewServer(s)
	defer server.Close()
	cfg := config(server)
	if _, err := trustee.New(cfg); err == nil {
		t.Error("plain HTTP is taken")
	}
	cfg.AllowPlainHTTPUnsafe = true
	got, err := newVerifier(t, cfg).Verify(t.Context(), quote, binding(t))
	if err != nil || got.Root != sha256.Sum256([]byte(server.URL)) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestConfig(t *testing.T) {
	some := map[evidence.Format]string{trustee.SE: "se"}
	for name, cfg := range map[string]trustee.Config{
		"URL":    {HTTP: http.DefaultClient, TEEs: some},
		"URL ":   {URL: "https://a?b", HTTP: http.DefaultClient, TEEs: some},
		"HTTP":   {URL: "https://a", TEEs: some},
		"TEEs":   {URL: "https://a", HTTP: http.DefaultClient},
		"TEEs: ": {URL: "https://a", HTTP: http.DefaultClient, TEEs: map[evidence.Format]string{trustee.SE: "a.b"}},
		"Life":   {URL: "https://a", HTTP: http.DefaultClient, TEEs: some, Life: -1},
	} {
		if v, err := trustee.New(cfg); err == nil || v != nil || !strings.Contains(err.Error(), "Config."+strings.TrimSpace(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func ExampleVerifier() {
	service := httptest.NewTLSServer(&service{claims: `{"mr_enclave":"8f17"}`, expires: time.Now().Add(time.Hour)})
	defer service.Close()
	verifier, err := trustee.New(trustee.Config{
		URL: service.URL, HTTP: service.Client(), TEEs: map[evidence.Format]string{trustee.SGX: "sgx"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	want, err := evidence.NewBinding([]byte("digest of nonce and key"))
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := verifier.Verify(context.Background(), evidence.Evidence{Format: trustee.SGX, Raw: []byte(`{"quote":"…"}`)}, want)
	if err != nil {
		fmt.Println(err)
		return
	}
	for name, value := range got.Claims.All() {
		if name != "sgx.delegated_to" { // which has a port that differs
			fmt.Println(name, value)
		}
	}
	// Output:
	// sgx.status affirming
	// sgx.mr_enclave 8f17
}

// Whatever a service answers, it is taken whole or not at all.
func FuzzToken(f *testing.F) {
	f.Add([]byte(`{"exp":9999999999,"submods":{"cpu0":{"ear.status":"none","ear.veraison.annotated-evidence":{"sgx":{"a":1},"report_data":"00"}}}}`))
	f.Add([]byte(`{"exp":9999999999,"submods":{"cpu0":{"ear.veraison.annotated-evidence":{"sgx":` + enclave + `}}}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		claims, err := trustee.ParseToken([]byte(token(string(payload))))
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for name, value := range claims.All() {
			if seen[name] || value.IsZero() || !strings.HasPrefix(name, "sgx") {
				t.Errorf("%q = %v in %s", name, value, payload)
			}
			seen[name] = true
		}
		if !json.Valid(payload) {
			t.Errorf("not JSON: %q", payload)
		}
	})
}
