package registrar_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/protocol/registrar"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/store/memory"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

const node = "d432fbb3-d2f1-4a97-9ef7-75bd81c00000"

// world is a broker's state that knows one TPM.
type world struct {
	testing.TB
	state *memory.Store
	tpm   *vtpmtest.TPM
	why   []error
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, state: memory.New(time.Now), tpm: vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)}
	w.check(w.state.Register(t.Context(), teebroker.Instance{Tenant: "acme", ID: [16]byte{1}}))
	return w
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// bind makes the TPM known.
func (w *world) bind(seen store.Sighting) error {
	ek, err := vtpm.ParsePublic(w.tpm.EK())
	w.check(err)
	ak, err := vtpm.ParsePublic(w.tpm.AK())
	w.check(err)
	id, err := vtpm.AgentID(ek.Key)
	w.check(err)
	_, err = w.state.Bind(w.Context(), store.Bound{Tenant: "acme", Instance: [16]byte{1}, Generation: 1, Public: ek.Area(), AgentID: id, AK: []byte(ak.Name), Seen: seen})
	return err
}

func (w *world) handler(edit func(*registrar.Config)) *registrar.Handler {
	w.Helper()
	cfg := registrar.Config{
		Identities: w.state, Tenant: "acme", Failed: func(_ *http.Request, err error) { w.why = append(w.why, err) },
		Caller: func(r *http.Request) error {
			if r.Header.Get("Authorization") != "Bearer registrar" {
				return errors.New("nobody")
			}
			return nil
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	h, err := registrar.New(cfg)
	w.check(err)
	return h
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// certificate is one of the EK of d, by somebody.
func (w *world) certificate(d *vtpmtest.TPM) string {
	w.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, d.EKKey(), key)
	w.check(err)
	return b64(der)
}

// body is what the enhancement shows, about an EK.
func body(node, ek string) string {
	return `{"node_id":"` + node + `","root_identities":["ek"],"subordinate_identities":["ak"],"ek":{"trust_status":"NOT_TRUSTED",` +
		`"trust_details":["EK_CERT_RECEIVED","EK_CERT_NOT_TRUSTED","EK_NOT_BOUND_TO_ID"],` + ek + `},` +
		`"ak":{"trust_status":"BOUND_TO_UNTRUSTED_ROOT","trust_details":["AK_BOUND_TO_EK"],"bound_root_identities":["ek"]}}`
}

type reply struct {
	Node      string   `json:"node_id"`
	Decisions []string `json:"decisions"`
	EK        *struct {
		Certificate   string   `json:"ek_cert"`
		Intermediates []string `json:"intermediate_certs"`
	} `json:"ek"`
}

func (w *world) ask(h http.Handler, text string) (int, reply) {
	w.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(text))
	r.Header.Set("Authorization", "Bearer registrar")
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	var got reply
	if rec.Code == http.StatusOK {
		w.check(json.Unmarshal(rec.Body.Bytes(), &got))
	}
	return rec.Code, got
}

var yes = []string{registrar.EKCertTrusted, registrar.EKBoundToID}

// A registrar is told yes for the EK of a guest and the one agent that it is of, however
// often it asks, and nothing for any other.
func TestWebhook(t *testing.T) {
	w := newWorld(t)
	h := w.handler(nil)
	tpm, cert := `"ek_tpm":"`+b64(w.tpm.EK())+`"`, `"ekcert":"`+w.certificate(w.tpm)+`"`
	no := func(name, text string, want error) {
		t.Helper()
		w.why = nil
		if code, got := w.ask(h, text); code != 200 || got.Node == "" || got.Decisions == nil || len(got.Decisions) != 0 || got.EK != nil {
			t.Errorf("%s: %d %+v", name, code, got)
		}
		if len(w.why) != 1 || want != nil && !errors.Is(w.why[0], want) {
			t.Errorf("%s: %v", name, w.why)
		}
	}
	no("an EK that nobody bound", body(node, tpm), store.NotFound)
	no("by its certificate", body(node, cert), store.NotFound)
	w.check(w.bind(store.Sighting{Chip: []byte{1}, ResetCount: 1}))
	other := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	no("another EK", body(node, `"ek_tpm":"`+b64(other.EK())+`"`), store.NotFound)
	no("two keys", body(node, tpm+`,"ekcert":"`+w.certificate(other)+`"`), nil)
	no("an AK", body(node, `"ek_tpm":"`+b64(w.tpm.AK())+`"`), nil)
	no("no EK", body(node, `"x":1`), nil)
	no("an EK that is no base64", body(node, `"ek_tpm":"%"`), nil)
	no("a certificate that is none", body(node, `"ekcert":"AAAA"`), nil)
	no("the hash of another", body(strings.Repeat("0", 64), tpm), store.Conflict)
	no("an agent that can't be", body("a/b", tpm), store.Invalid)
	no("no root identity", strings.Replace(body(node, tpm), `"root_identities":["ek"]`, `"root_identities":["iak"]`, 1), nil)
	no("nothing about it", `{"node_id":"x","root_identities":["ek"]}`, nil)
	for _, text := range []string{body(node, tpm), body(node, cert), body(node, tpm+","+cert), body(node, tpm)} {
		if code, got := w.ask(h, text); code != 200 || got.Node != node || !slices.Equal(got.Decisions, yes) || got.EK != nil {
			t.Errorf("%d %+v, %v", code, got, w.why)
		}
	}
	no("another agent", body("d432fbb3-d2f1-4a97-9ef7-75bd81c00001", tpm), store.Conflict)
	if id, err := w.state.ByAgent(t.Context(), "acme", node); err != nil || id.EK != sha256.Sum256(w.tpm.EK()[2:]) {
		t.Errorf("%+v, %v", id, err)
	}
	if w.bind(store.Sighting{Chip: []byte{2}, ResetCount: 1}) == nil {
		t.Fatal("one EK on two chips")
	}
	no("a clone", body(node, tpm), teebroker.Held)
	no("a clone, by its certificate", body(node, cert), teebroker.Held)
}

// What is not known is no answer, and neither is what can't be read.
func TestNoAnswer(t *testing.T) {
	w := newWorld(t)
	w.check(w.bind(store.Sighting{}))
	good := body(node, `"ek_tpm":"`+b64(w.tpm.EK())+`"`)
	h := w.handler(nil)
	for name, v := range map[string]struct {
		h    http.Handler
		body string
		code int
	}{
		"nothing":        {h, ``, 400},
		"no node":        {h, `{"root_identities":["ek"]}`, 400},
		"an empty node":  {h, body("", `"x":1`), 400},
		"a node twice":   {h, `{"node_id":"a","node_id":"b"}`, 400},
		"a list":         {h, `[]`, 400},
		"too much":       {h, good + strings.Repeat(" ", registrar.MaxBody), 413},
		"a broken store": {w.handler(func(c *registrar.Config) { c.Identities = broken{c.Identities} }), good, 503},
	} {
		if code, _ := w.ask(v.h, v.body); code != v.code {
			t.Errorf("%s: %d", name, code)
		}
	}
	for name, r := range map[string]*http.Request{
		"nobody":  httptest.NewRequest(http.MethodPost, "/", strings.NewReader(good)),
		"somehow": httptest.NewRequest(http.MethodGet, "/", nil),
	} {
		want := http.StatusUnauthorized
		if name == "somehow" {
			r.Header.Set("Authorization", "Bearer registrar")
			want = http.StatusMethodNotAllowed
		}
		rec := httptest.NewRecorder()
		if h.ServeHTTP(rec, r); rec.Code != want {
			t.Errorf("%s: %d", name, rec.Code)
		}
	}
	if id, err := w.state.ByAgent(t.Context(), "acme", node); err == nil {
		t.Errorf("somebody registered: %+v", id)
	}
	for name, edit := range map[string]func(*registrar.Config){
		"no identities": func(c *registrar.Config) { c.Identities = nil },
		"no tenant":     func(c *registrar.Config) { c.Tenant = "" },
		"no caller":     func(c *registrar.Config) { c.Caller = nil },
		"no time":       func(c *registrar.Config) { c.Timeout = -1 },
	} {
		cfg := registrar.Config{Identities: w.state, Tenant: "acme", Caller: func(*http.Request) error { return nil }}
		edit(&cfg)
		if _, err := registrar.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

type broken struct{ store.Identities }

func (broken) RegisterAgent(context.Context, string, [32]byte, store.Agent) (store.Identity, error) {
	return store.Identity{}, errors.New("database")
}

// Who has a CA gives the registrar a certificate to judge by itself.
func TestCertificate(t *testing.T) {
	w := newWorld(t)
	w.check(w.bind(store.Sighting{}))
	good := body(node, `"ek_tpm":"`+b64(w.tpm.EK())+`"`)
	issue := func(err error) *registrar.Handler {
		return w.handler(func(c *registrar.Config) {
			c.Certificate = func(public []byte) ([]byte, error) { return bytes.Clone(public[:4]), err }
		})
	}
	code, got := w.ask(issue(nil), good)
	if code != 200 || !slices.Equal(got.Decisions, yes) || got.EK == nil || got.EK.Certificate != b64(w.tpm.EK()[2:6]) || got.EK.Intermediates == nil {
		t.Errorf("%d %+v", code, got)
	}
	if code, got = w.ask(issue(errors.New("token")), good); code != 200 || !slices.Equal(got.Decisions, yes) || got.EK != nil {
		t.Errorf("without a certificate: %d %+v", code, got)
	}
}

func ExampleHandler() {
	h, err := registrar.New(registrar.Config{
		Identities: memory.New(time.Now), Tenant: "acme", // usually the broker's own state
		Caller: func(r *http.Request) error { return nil }, // usually by a client certificate
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ek := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil).EK() // of which nobody has evidence
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(
		`{"node_id":"agent-1","root_identities":["ek"],"ek":{"trust_status":"NOT_TRUSTED","ek_tpm":"`+base64.StdEncoding.EncodeToString(ek)+`"}}`)))
	fmt.Println(answer.Code, answer.Body)
	// Output:
	// 200 {"node_id":"agent-1","decisions":[]}
}

func FuzzBody(f *testing.F) {
	w := newWorld(f)
	w.check(w.bind(store.Sighting{}))
	h := w.handler(nil)
	f.Add([]byte(body(node, `"ek_tpm":"`+b64(w.tpm.EK())+`"`)))
	f.Add([]byte(body(node, `"ekcert":"`+w.certificate(w.tpm)+`"`)))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(in))
		r.Header.Set("Authorization", "Bearer registrar")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		var got reply
		if rec.Code >= 500 || rec.Code == 200 && (json.Unmarshal(rec.Body.Bytes(), &got) != nil || got.Node == "") {
			t.Fatalf("%d %q", rec.Code, rec.Body)
		}
	})
}
