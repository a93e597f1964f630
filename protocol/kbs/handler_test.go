package kbs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/protocol/kbs"
	"github.com/teebroker/teebroker/snp/snptest"
)

// client is a guest that speaks the protocol: one key, one session.
type client struct {
	*world
	svsm   bool
	key    keywrap.Opener
	chip   *snptest.Chip
	guest  snptest.Guest
	init   string // body of init-data, or ""
	cookie string
	nonce  nonce.Nonce
	token  string
}

// newClient returns a guest that the instance it plays was registered for.
func newClient(w *world, isSVSM bool) *client {
	w.Helper()
	suite := keywrap.JWEP256
	if isSVSM {
		suite = keywrap.JWEP521
	}
	key, err := keywrap.Generate(suite)
	w.check(err)
	g := snptest.Guest{Measurement: measurement}
	if !isSVSM {
		g = snptest.Guest{Measurement: [48]byte{1}, HostData: sha256.Sum256([]byte(initBody))}
	}
	return &client{world: w, svsm: isSVSM, key: key, chip: chip(), guest: g}
}

// auth gets a challenge.
func (c *client) auth() {
	c.Helper()
	extra := `{"supported-hash-algorithms":["sha256","sha384","sha512","sm3"]}`
	if c.svsm {
		extra = `""`
	}
	answer := c.send("POST", "/kbs/v0/auth", `{"version":"0.4.0","tee":"snp","extra-params":`+extra+`}`)
	if answer.Code != http.StatusOK {
		c.Fatalf("auth: %d %s", answer.Code, answer.Body)
	}
	var body struct {
		Nonce string           `json:"nonce"`
		Extra *json.RawMessage `json:"extra-params"`
	}
	c.check(json.Unmarshal(answer.Body.Bytes(), &body))
	b, err := base64.StdEncoding.DecodeString(body.Nonce)
	c.check(err)
	if body.Extra == nil {
		c.Error("no extra-params, which clients require")
	}
	c.nonce, err = nonce.Parse(b)
	c.check(err)
	c.cookie = cookieOf(answer)
}

func cookieOf(answer *httptest.ResponseRecorder) string {
	for _, k := range answer.Result().Cookies() {
		if k.Name == "kbs-session-id" && !k.Secure {
			return k.Name + "=" + k.Value
		}
	}
	return ""
}

// report returns a report that binds c's key to its nonce.
func (c *client) report() []byte {
	c.Helper()
	var recipe nonce.Recipe = nonce.SVSM{}
	if !c.svsm {
		recipe = nonce.CoCo{Hash: 6} // SHA-384
	}
	binding, err := recipe.Bind(c.nonce, c.key.Recipient())
	c.check(err)
	return c.chip.Report(c.guest, binding).Raw
}

// body returns what c sends to /attest, as a tree that a test may spoil.
func (c *client) body() map[string]any {
	c.Helper()
	var evidence map[string]any
	if c.svsm {
		evidence = map[string]any{"certs-buf": nil, "snp-report": base64.StdEncoding.EncodeToString(c.report())}
	} else {
		evidence = map[string]any{"attestation_report": reportTree(c.TB, c.report()), "cert_chain": nil}
	}
	var init any
	if c.init != "" {
		init = map[string]any{"format": "toml", "body": c.init}
	}
	return map[string]any{
		"init-data": init,
		"runtime-data": map[string]any{
			"nonce": base64.StdEncoding.EncodeToString(c.nonce[:]), "tee-pubkey": json.RawMessage(c.key.Recipient().JWK()),
		},
		"tee-evidence": map[string]any{"primary_evidence": evidence, "additional_evidence": ""},
	}
}

func (c *client) attestWith(body []byte) *httptest.ResponseRecorder {
	answer := c.send("POST", "/kbs/v0/attest", string(body), "Cookie", c.cookie)
	var token struct{ Token string }
	if answer.Code == http.StatusOK {
		c.check(json.Unmarshal(answer.Body.Bytes(), &token))
		if strings.Count(token.Token, ".") != 2 {
			c.Errorf("not a token: %s", answer.Body)
		}
		c.token = token.Token
	}
	return answer
}

func (c *client) attest() *httptest.ResponseRecorder {
	c.Helper()
	body, err := json.Marshal(c.body())
	c.check(err)
	return c.attestWith(body)
}

// handshake is auth and attest.
func (c *client) handshake() {
	c.Helper()
	c.auth()
	if answer := c.attest(); answer.Code != http.StatusOK {
		c.Fatalf("attest: %d %s %v", answer.Code, answer.Body, c.refused)
	}
}

func (c *client) get(resource string) *httptest.ResponseRecorder {
	return c.send("GET", "/kbs/v0/resource/"+resource, "", "Cookie", c.cookie)
}

// opens reports whether c's key opens the secret in answer.
func (c *client) opens(answer *httptest.ResponseRecorder) bool {
	c.Helper()
	if answer.Code != http.StatusOK {
		return false
	}
	var s keywrap.Sealed
	c.check(s.UnmarshalJSON(answer.Body.Bytes()))
	b, err := c.key.Open(c.Context(), s, nil)
	return err == nil && string(b) == secret
}

func code(t testing.TB, answer *httptest.ResponseRecorder) string {
	t.Helper()
	if answer.Code == http.StatusOK || answer.Code >= 500 && answer.Code != http.StatusServiceUnavailable {
		t.Errorf("answered %d: %s", answer.Code, answer.Body)
	}
	var e struct{ Type, Detail, Code string }
	if err := json.Unmarshal(answer.Body.Bytes(), &e); err != nil || e.Type == "" || e.Detail == "" {
		t.Errorf("not ErrorInformation: %s", answer.Body)
	}
	return e.Code
}

// reportTree takes a report apart as clients of Confidential Containers do.
func reportTree(t testing.TB, r []byte) map[string]any {
	t.Helper()
	le := binary.LittleEndian
	ints := func(at, n int) []int {
		out := make([]int, n)
		for i := range out {
			out[i] = int(r[at+i])
		}
		return out
	}
	version := le.Uint32(r)
	turin := version > 2 && r[0x188] >= 0x1a
	tcb := func(at int) map[string]any {
		b := r[at : at+8]
		if turin {
			return map[string]any{"fmc": b[0], "bootloader": b[1], "tee": b[2], "snp": b[3], "microcode": b[7]}
		}
		return map[string]any{"fmc": nil, "bootloader": b[0], "tee": b[1], "snp": b[6], "microcode": b[7]}
	}
	firmware := func(at int) map[string]any {
		return map[string]any{"build": r[at], "minor": r[at+1], "major": r[at+2]}
	}
	tree := map[string]any{
		"version": version, "guest_svn": le.Uint32(r[4:]), "policy": le.Uint64(r[8:]),
		"family_id": ints(0x10, 16), "image_id": ints(0x20, 16), "vmpl": le.Uint32(r[0x30:]), "sig_algo": le.Uint32(r[0x34:]),
		"current_tcb": tcb(0x38), "plat_info": le.Uint64(r[0x40:]), "key_info": le.Uint32(r[0x48:]),
		"report_data": ints(0x50, 64), "measurement": ints(0x90, 48), "host_data": ints(0xc0, 32),
		"id_key_digest": ints(0xe0, 48), "author_key_digest": ints(0x110, 48),
		"report_id": ints(0x140, 32), "report_id_ma": ints(0x160, 32), "reported_tcb": tcb(0x180),
		"cpuid_fam_id": nil, "cpuid_mod_id": nil, "cpuid_step": nil,
		"chip_id": ints(0x1a0, 64), "committed_tcb": tcb(0x1e0), "current": firmware(0x1e8), "committed": firmware(0x1ec),
		"launch_tcb": tcb(0x1f0), "launch_mit_vector": nil, "current_mit_vector": nil,
		"signature": map[string]any{"r": ints(0x2a0, 72), "s": ints(0x2e8, 72)},
	}
	if version > 2 {
		tree["cpuid_fam_id"], tree["cpuid_mod_id"], tree["cpuid_step"] = r[0x188], r[0x189], r[0x18a]
	}
	if version > 4 {
		tree["launch_mit_vector"], tree["current_mit_vector"] = le.Uint64(r[0x1f8:]), le.Uint64(r[0x200:])
	}
	return tree
}

// Genuine reports taken apart are put together again to what was signed.
func TestGenuineReports(t *testing.T) {
	n := 0
	files, err := filepath.Glob(filepath.Join(vectors.Path(t, "snp"), "*.report.bin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		r := vectors.Read(t, "snp/"+name)
		body, err := json.Marshal(map[string]any{"attestation_report": reportTree(t, r), "cert_chain": nil})
		if err != nil {
			t.Fatal(err)
		}
		got, err := kbs.FromSNP(body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(got.Raw, r) {
			for i := range r {
				if got.Raw[i] != r[i] {
					t.Errorf("%s: differs at %#x: %#x, want %#x", name, i, got.Raw[i], r[i])
					break
				}
			}
		}
		n++
	}
	if n < 5 {
		t.Errorf("only %d reports", n)
	}
}

// Both kinds of clients get their secret, again as often as they ask, by cookie
// and by token, and it is counted once.
func TestHandshakes(t *testing.T) {
	for _, isSVSM := range []bool{true, false} {
		t.Run(fmt.Sprintf("svsm=%v", isSVSM), func(t *testing.T) {
			w := newWorld(t, nil)
			c := newClient(w, isSVSM)
			if !isSVSM {
				w.registerCoCo()
			}
			resource := map[bool]string{true: kbs.Alias, false: "/default/key/1"}[isSVSM]
			c.handshake()
			first := c.get(resource)
			if !c.opens(first) {
				t.Fatalf("no secret: %d %s %v", first.Code, first.Body, w.refused)
			}
			if got := c.get(kbs.Alias); !bytes.Equal(got.Body.Bytes(), first.Body.Bytes()) {
				t.Errorf("the alias has other bytes: %s", got.Body)
			}
			bearer := w.send("GET", "/kbs/v0/resource/"+resource, "", "Authorization", "Bearer "+c.token)
			if !bytes.Equal(bearer.Body.Bytes(), first.Body.Bytes()) {
				t.Errorf("the token has other bytes: %s", bearer.Body)
			}
			c.handshake() // the same key, fresh evidence
			if again := c.get(resource); !bytes.Equal(again.Body.Bytes(), first.Body.Bytes()) {
				t.Errorf("other bytes after another handshake: %s", again.Body)
			}
			other := newClient(w, isSVSM)
			other.handshake()
			if got := code(t, other.get(resource)); got != "denied" {
				t.Errorf("another key: %q", got)
			}
			if errs := w.refused; len(errs) != 1 {
				t.Errorf("refusals were hooked: %v", errs)
			}
		})
	}
}

// registerCoCo makes the instance of Confidential Containers one of SNP guests
// with a HOST_DATA of their own.
func (w *world) registerCoCo() {
	w.Helper()
	host := sha256.Sum256([]byte(initBody))
	w.register(coco, teebroker.LaunchClaim{Name: "snp.host_data", Want: host[:]}, nonce.ProfileCoCo, "default/key/1")
}

const initBody = "version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n"

func TestInitData(t *testing.T) {
	w := newWorld(t, nil)
	w.registerCoCo()
	host := sha256.Sum256([]byte(initBody))
	for _, tt := range []struct {
		name, init string
		hostData   [32]byte
		code       string
	}{
		{"none sent", "", host, ""},
		{"what the launch was given", initBody, host, ""},
		{"another", initBody + " ", host, "denied"},
		{"of a launch that was given nothing", initBody, [32]byte{}, "denied"},
	} {
		c := newClient(w, false)
		c.init = tt.init
		c.guest.HostData = tt.hostData
		c.auth()
		answer := c.attest()
		switch {
		case tt.code == "" && answer.Code != http.StatusOK:
			t.Errorf("%s: %d %s %v", tt.name, answer.Code, answer.Body, w.refused)
		case tt.code != "" && code(t, answer) != tt.code:
			t.Errorf("%s: %s", tt.name, answer.Body)
		}
	}
}

// What a session can't do.
func TestSessions(t *testing.T) {
	w := newWorld(t, nil)
	c := newClient(w, true)
	c.handshake()
	if !c.opens(c.get(kbs.Alias)) {
		t.Fatal("no secret")
	}
	t.Run("the evidence again", func(t *testing.T) {
		again := *c
		body, err := json.Marshal(again.body())
		w.check(err)
		if got := code(t, again.attestWith(body)); got != "nonce-spent" && got != "in-progress" {
			t.Errorf("%q", got)
		}
	})
	t.Run("cookie of another session", func(t *testing.T) {
		one, two := newClient(w, true), newClient(w, true)
		one.auth()
		two.auth()
		one.cookie = two.cookie
		if got := code(t, one.attest()); got != "nonce-spent" {
			t.Errorf("%q", got)
		}
	})
	t.Run("a cookie that was not attested", func(t *testing.T) {
		one := newClient(w, true)
		one.auth()
		if answer := one.get(kbs.Alias); answer.Code != http.StatusUnauthorized || code(t, answer) != "gone" {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
	})
	t.Run("neither cookie nor token", func(t *testing.T) {
		for _, h := range [][]string{nil, {"Authorization", "Bearer"}, {"Authorization", "Bearer " + c.token + "x"}, {"Authorization", "Basic " + c.token}} {
			if answer := w.send("GET", "/kbs/v0/resource/default/sample/test", "", h...); answer.Code != http.StatusUnauthorized {
				t.Errorf("%v: %d %s", h, answer.Code, answer.Body)
			}
		}
	})
	t.Run("another tenant", func(t *testing.T) {
		other, err := kbs.New(func() kbs.Config { cfg := w.cfg; cfg.Tenant = "globex"; return cfg }())
		w.check(err)
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/kbs/v0/resource/default/sample/test", nil)
		r.Header.Set("Cookie", c.cookie)
		answer := httptest.NewRecorder()
		other.ServeHTTP(answer, r)
		if answer.Code != http.StatusUnauthorized {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
	})
	t.Run("other resources", func(t *testing.T) {
		for _, path := range []string{"vtpm/state/x", "default/key/1", "a/b/c", "A/B/C"} {
			if got := code(t, c.get(path)); got != "denied" {
				t.Errorf("%s: %q", path, got)
			}
		}
	})
	t.Run("no resources", func(t *testing.T) {
		for _, path := range []string{"a/b", "a/b/c/d", ".a/b/c", "a/b%2fc/d", "a/b/c%20", "", "../../auth"} {
			if answer := c.get(path); answer.Code != http.StatusNotFound {
				t.Errorf("%s: %d %s", path, answer.Code, answer.Body)
			}
		}
	})
	t.Run("expired", func(t *testing.T) {
		w.now = w.now.Add(10 * time.Minute)
		if answer := c.get(kbs.Alias); answer.Code != http.StatusUnauthorized || code(t, answer) != "gone" {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
	})
}

// A guest above VMPL 0 gets nothing, whatever the policy of its instance says.
func TestVMPL(t *testing.T) {
	w := newWorld(t, nil)
	for vmpl := range uint32(4) {
		c := newClient(w, true)
		c.guest.VMPL = vmpl
		c.auth()
		if answer := c.attest(); vmpl == 0 && answer.Code != http.StatusOK || vmpl != 0 && code(t, answer) != "denied" {
			t.Errorf("VMPL %d: %d %s", vmpl, answer.Code, answer.Body)
		}
	}
}

// Evidence of one profile with what the other one signs, or its key.
func TestProfilesDoNotMix(t *testing.T) {
	w := newWorld(t, nil)
	w.registerCoCo()
	coco := newClient(w, false)
	coco.auth()
	body := coco.body()
	body["tee-evidence"].(map[string]any)["primary_evidence"] = map[string]any{
		"certs-buf": nil, "snp-report": base64.StdEncoding.EncodeToString(coco.report()),
	}
	b, err := json.Marshal(body)
	w.check(err)
	if got := code(t, coco.attestWith(b)); got != "malformed-request" { // its key is of no SVSM
		t.Errorf("%q", got)
	}
	svsm := newClient(w, true)
	svsm.auth()
	body = svsm.body()
	body["tee-evidence"].(map[string]any)["primary_evidence"] = map[string]any{"attestation_report": reportTree(t, svsm.report()), "cert_chain": nil}
	b, err = json.Marshal(body)
	w.check(err)
	if got := code(t, svsm.attestWith(b)); got != string(evidence.NotBound) {
		t.Errorf("%q", got)
	}
}
