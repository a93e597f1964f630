package ownercli

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/store"
)

const uuid = "7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11"

func newRegistration(t *testing.T, edit func(*registration)) registration {
	t.Helper()
	r := registration{tee: "snp", launch: "host-data", policies: []string{"prod"}}
	if err := r.instance.id.UnmarshalJSON([]byte(`"` + uuid + `"`)); err != nil {
		t.Fatal(err)
	}
	edit(&r)
	return r
}

func TestBuild(t *testing.T) {
	m := strings.Repeat("5F", 48)
	reg, doc, err := newRegistration(t, func(r *registration) {}).build()
	if err != nil || doc != nil || !reg.Launch.Own || reg.AllowSharedLaunchIdentity || reg.AllowUnpinnedBroker || reg.Profiles != nil ||
		!slices.Equal(reg.Policies, []string{"prod"}) || !slices.Equal(reg.Suites, []keywrap.Suite{keywrap.MLKEM768X25519}) {
		t.Errorf("%+v, %s, %v", reg, doc, err)
	}
	reg, doc, err = newRegistration(t, func(r *registration) {
		r.measurements, r.launch = []string{m}, "measurement"
		r.profiles, r.purposes = []string{"v1", "kbs-svsm"}, []string{"disk"}
	}).build()
	if err != nil || reg.Launch.Own || len(reg.Launch.Claims) != 1 || reg.Launch.Claims[0].Name != "snp.measurement" || len(reg.Launch.Claims[0].Want) != 48 ||
		!slices.Equal(reg.Profiles["disk"], []nonce.Profile{nonce.ProfileV1, nonce.ProfileSVSM}) {
		t.Errorf("%+v, %v", reg, err)
	}
	p, err := policy.Parse(doc, policy.Decoders{snp.Format: policy.Decoder(snp.DecodeReferenceValues)})
	if err != nil || p.Scope != policy.Instance || !slices.Equal(reg.Policies, []string{"prod", "instance-" + uuid}) || !store.PolicyName("instance-"+uuid) {
		t.Errorf("%v, %v, %v", p, reg.Policies, err)
	}
	for name, edit := range map[string]func(*registration){
		"a launch of no kind":           func(r *registration) { r.launch = "x" },
		"a launch by no measurement":    func(r *registration) { r.launch = "measurement" },
		"a profile of all secrets":      func(r *registration) { r.profiles = []string{"kbs-coco"} },
		"a measurement of no TEE":       func(r *registration) { r.tee = "sgx" },
		"a measurement in no such text": func(r *registration) { r.launch, r.measurements = "measurement", []string{"x"} },
	} {
		if _, _, err := newRegistration(t, edit).build(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A document is taken as it is, byte for byte, or out of what attester show printed.
func TestReadDocument(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for in, want := range map[string]string{
		`{"policy": "teebroker/1"}`:               `{"policy": "teebroker/1"}`,
		`{"tee":"snp","policy": {"policy": "x"}}`: `{"policy": "x"}`,
		`not JSON`: `not JSON`,
	} {
		if err := os.WriteFile(path, []byte(in), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readDocument(path); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
}

// What a broker, or who is in between, changes of the record is noticed.
func TestCheckRecord(t *testing.T) {
	var last store.RecordEntry
	var es []v1.RecordEntry
	for range 4 {
		last = last.Follow(teebroker.Entry{Chain: teebroker.Decisions, Tenant: "acme", Kind: "secret", Body: []byte("{}")}, 1, time.Unix(1000, 0))
		es = append(es, v1.RecordEntry{
			Chain: last.Chain, Generation: last.Generation, Seq: last.Seq, Time: last.Time.UnixMilli(), Kind: last.Kind,
			Body: last.Body, Previous: last.Previous, Hash: last.Hash,
		})
	}
	check := func(after uint64, es []v1.RecordEntry) error {
		return checkRecord("acme", teebroker.Decisions, after, es)
	}
	if err := check(0, es); err != nil {
		t.Error(err)
	}
	if err := check(2, es[2:]); err != nil {
		t.Error(err)
	}
	with := func(edit func(*v1.RecordEntry)) []v1.RecordEntry {
		c := slices.Clone(es)
		edit(&c[1])
		return c
	}
	for name, bad := range map[string][]v1.RecordEntry{
		"one left out":    append(slices.Clone(es[:1]), es[2:]...),
		"the first one":   es[1:],
		"another body":    with(func(e *v1.RecordEntry) { e.Body = []byte("[]") }),
		"another time":    with(func(e *v1.RecordEntry) { e.Time++ }),
		"another kind":    with(func(e *v1.RecordEntry) { e.Kind = "release" }),
		"another hash":    with(func(e *v1.RecordEntry) { e.Hash[0]++ }),
		"another before":  with(func(e *v1.RecordEntry) { e.Previous[0]++ }),
		"another chain":   with(func(e *v1.RecordEntry) { e.Chain = teebroker.Refusals }),
		"another order":   {es[1], es[0]},
		"another history": with(func(e *v1.RecordEntry) { e.Generation++ }),
	} {
		if err := check(0, bad); err == nil {
			t.Errorf("%s: passed over", name)
		}
	}
	if err := checkRecord("other", teebroker.Decisions, 0, es); err == nil {
		t.Error("the record of another tenant: passed over")
	}
}

// Exit statuses: 0 done, 1 refused, 2 nobody knows.
func TestStatuses(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		status int
		body   string
		want   int
		prints string
	}{
		{200, `{"policies":["prod"]}`, 0, "prod"},
		{401, `{"type":"","title":"who are you","status":401,"code":"unauthenticated","request":"r1"}`, 1, "who are you"},
		{501, `{"type":"","title":"not built","status":501,"code":"unsupported","request":"r1"}`, 1, "not built"},
		{503, `{"type":"","title":"later","status":503,"code":"unavailable","request":"r1"}`, 2, "later"},
		{502, `a page of a proxy`, 2, "without a word of the protocol"},
	} {
		ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer secret-token" || r.Header.Get(v1.HeaderTenant) != "default" {
				t.Errorf("%v", r.Header)
			}
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(tt.status)
			_, _ = w.Write([]byte(tt.body))
		}))
		var stdout, stderr bytes.Buffer
		got := Program().Main([]string{"policy", "get", "-broker", ts.URL, "-token-file", token}, &stdout, &stderr)
		ts.Close()
		if out := stdout.String() + stderr.String(); got != tt.want || !strings.Contains(out, tt.prints) || strings.Contains(out, "secret-token") {
			t.Errorf("%d: exit status %d, %s", tt.status, got, out)
		}
	}
	for _, args := range [][]string{
		{"status", "-token-file", token},
		{"status", "-instance", "x"},
		{"policy", "get", "-broker", "http://127.0.0.1:1", "-token-file", token},
		{"policy", "get", "-broker", "http://broker.example", "-token-file", token},
		{"policy", "get"},
		{"policy"},
		{"authorize", "-instance", uuid, "-uses", "0", "-token-file", token},
		{"policy", "get", "-cert", "x", "-token-file", token},
	} {
		t.Setenv("TEEBROKER_OWNER_TOKEN_FILE", "")
		if got := Program().Main(args, &bytes.Buffer{}, &bytes.Buffer{}); got != 2 {
			t.Errorf("%v: exit status %d", args, got)
		}
	}
}
