package kbs_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/protocol/kbs"
	"github.com/teebroker/teebroker/tdx"
)

// paths yields the path of every member of a tree, outermost first.
func paths(tree map[string]any, above []string, yield func(path []string)) {
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		path := append(slices.Clone(above), name)
		yield(path)
		if sub, ok := tree[name].(map[string]any); ok {
			paths(sub, path, yield)
		}
	}
}

// with returns a copy of tree in which edit changed the object that has the last
// name of path.
func with(t testing.TB, tree map[string]any, path []string, edit func(parent map[string]any, name string)) []byte {
	t.Helper()
	copied := map[string]any{}
	b, err := json.Marshal(tree)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		err = d.Decode(&copied)
	}
	at := copied
	for _, name := range path[:len(path)-1] {
		at = at[name].(map[string]any)
	}
	edit(at, path[len(path)-1])
	if err == nil {
		b, err = json.Marshal(copied)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// optional are the members that may be left out or null.
var optional = map[string]bool{
	"init-data": true, "certs-buf": true, "cert_chain": true, "launch_mit_vector": true, "current_mit_vector": true,
	"fmc": true, "cpuid_fam_id": true, "cpuid_mod_id": true, "cpuid_step": true, "alg": true,
	"kid": true, // which tee-pubkey may have
}

// Each member of what real clients send to /attest, spoiled: nothing is released,
// nothing is a fault of ours, and every answer can be read.
func TestSpoiledAttestations(t *testing.T) {
	w := newWorld(t, nil)
	w.registerCoCo()
	for _, isSVSM := range []bool{true, false} {
		c := newClient(w, isSVSM)
		c.auth()
		whole := c.body()
		var tree map[string]any
		b, err := json.Marshal(whole)
		w.check(err)
		w.check(json.Unmarshal(b, &tree))
		n := 0
		paths(tree, nil, func(path []string) {
			last := path[len(path)-1]
			spoil := map[string]func(map[string]any, string){
				"missing": func(m map[string]any, name string) { delete(m, name) },
				"null":    func(m map[string]any, name string) { m[name] = nil },
				"number":  func(m map[string]any, name string) { m[name] = -1.5 },
				"bool":    func(m map[string]any, name string) { m[name] = true },
				"list":    func(m map[string]any, name string) { m[name] = []any{map[string]any{}} },
				"text":    func(m map[string]any, name string) { m[name] = "\u0000?" },
				"object":  func(m map[string]any, name string) { m[name] = map[string]any{"x": 1} },
				"case":    func(m map[string]any, name string) { m[strings.ToUpper(name)] = m[name] },
			}
			for how, edit := range spoil {
				if optional[last] && (how == "missing" || how == "null") {
					continue
				}
				body := with(t, whole, path, edit)
				answer := c.attestWith(body)
				if answer.Code == http.StatusOK {
					t.Errorf("svsm=%v %v %s: accepted", isSVSM, path, how)
					c.handshakeAgain(&whole)
					continue
				}
				if got := code(t, answer); got == "" || got == "unavailable" {
					t.Errorf("svsm=%v %v %s: %q", isSVSM, path, how, got)
				}
				n++
			}
			// A member twice: JSON libraries differ about which one counts.
			doubled := doubleMember(t, b, last)
			if got := code(t, c.attestWith(doubled)); got != "malformed-request" {
				t.Errorf("svsm=%v %v twice: %q", isSVSM, path, got)
			}
		})
		if n < 60 {
			t.Errorf("svsm=%v: only %d spoiled bodies", isSVSM, n)
		}
	}
}

// handshakeAgain gets another challenge, after one was used up.
func (c *client) handshakeAgain(whole *map[string]any) {
	c.auth()
	*whole = c.body()
}

// doubleMember returns b in which the first member called name is there twice.
func doubleMember(t testing.TB, b []byte, name string) []byte {
	t.Helper()
	key := fmt.Appendf(nil, "%q:", name)
	at := bytes.Index(b, key)
	if at < 0 {
		t.Fatalf("no member %s in %s", name, b)
	}
	return slices.Concat(b[:at], key, []byte("0,"), b[at:])
}

// What is not the protocol at all.
func TestBodies(t *testing.T) {
	w := newWorld(t, nil)
	c := newClient(w, true)
	c.auth()
	good, err := json.Marshal(c.body())
	w.check(err)
	b64 := base64.StdEncoding.EncodeToString(c.nonce[:])
	long := strings.Repeat("A", 16<<20)
	replace := func(old, new string) string { return strings.Replace(string(good), old, new, 1) }
	for _, tt := range []struct {
		name, path, body string
		status           int
	}{
		{"empty", "auth", "", 400},
		{"no object", "auth", "[]", 400},
		{"two objects", "auth", `{"version":"0.4.0","tee":"snp","extra-params":""}{}`, 400},
		{"lone surrogate", "auth", `{"version":"0.4.0","tee":"\ud800","extra-params":""}`, 400},
		{"another version", "auth", `{"version":"0.3.0","tee":"snp","extra-params":""}`, 401},
		{"no version", "auth", `{"tee":"snp","extra-params":""}`, 401},
		{"no extra-params", "auth", `{"version":"0.4.0","tee":"snp"}`, 400},
		{"unknown TEE", "auth", `{"version":"0.4.0","tee":"SNP","extra-params":""}`, 401},
		{"TEE of others", "auth", `{"version":"0.4.0","tee":"tpm","extra-params":""}`, 401},
		{"too long", "auth", `{"version":"` + long + `"}`, 413},
		{"empty", "attest", "", 400},
		{"no object", "attest", "null", 400},
		{"cut", "attest", string(good[:len(good)-1]), 400},
		{"junk behind", "attest", string(good) + "x", 400},
		{"too long", "attest", `{"x":"` + long + `"}`, 413},
		{"nonce without padding", "attest", replace(b64, strings.TrimRight(b64, "=")), 400},
		{"nonce in another alphabet", "attest", replace(b64, "-"+b64[1:]), 400},
		{"nonce with loose bits", "attest", replace(b64, b64[:42]+string(b64[42]+1)+"="), 400},
		{"nonce with a line end", "attest", replace(b64, `\n`+b64), 400},
		{"nonce of 33 bytes", "attest", replace(b64, base64.StdEncoding.EncodeToString(make([]byte, 33))), 400},
		{"private key", "attest", replace(`"kty":"EC"`, `"d":"AA","kty":"EC"`), 400},
		{"another curve", "attest", replace(`"crv":"P-521"`, `"crv":"P-384"`), 400},
		{"point off its curve", "attest", replace(`"x":"A`, `"x":"B`), 400},
		{"additional evidence of an SVSM", "attest", replace(`"additional_evidence":""`, `"additional_evidence":"{}"`), 400},
	} {
		answer := w.send("POST", "/kbs/v0/"+tt.path, tt.body, "Cookie", c.cookie)
		if answer.Code != tt.status {
			t.Errorf("%s: %s: %d %s, want %d", tt.path, tt.name, answer.Code, answer.Body, tt.status)
		}
		code(t, answer)
	}
	for _, r := range [][2]string{{"GET", "/kbs/v0/auth"}, {"DELETE", "/kbs/v0/resource/a/b/c"}, {"POST", "/kbs/v0/resource/a/b/c"}, {"GET", "/"}, {"GET", "/kbs/v0/nebula-ca/x"}} {
		if answer := w.send(r[0], r[1], ""); answer.Code != http.StatusNotFound || code(t, answer) == "" {
			t.Errorf("%v: %d %s", r, answer.Code, answer.Body)
		}
	}
	if answer := c.attestWith(good); answer.Code != http.StatusOK {
		t.Errorf("nothing of this used up the challenge, and yet: %d %s", answer.Code, answer.Body)
	}
}

// Evidence that nobody verifies, and sample evidence where it is not allowed.
func TestUnverified(t *testing.T) {
	w := newWorld(t, nil)
	cfg := w.cfg
	cfg.AllowSampleEvidenceUnsafe = false
	w.handler = must(w, cfg)
	if answer := w.send("POST", "/kbs/v0/auth", `{"version":"0.4.0","tee":"sample","extra-params":""}`); answer.Code != http.StatusUnauthorized {
		t.Errorf("sample: %d", answer.Code)
	}
	c := newClient(w, false)
	c.auth()
	for _, primary := range []string{
		`{"svn":"1","report_data":"AAAA"}`, `{}`, `{"tpm_quote":{}}`, `{"quote2":""}`,
	} {
		body := c.body()
		body["tee-evidence"].(map[string]any)["primary_evidence"] = json.RawMessage(primary)
		b, err := json.Marshal(body)
		w.check(err)
		if got := code(t, c.attestWith(b)); got != "unsupported" {
			t.Errorf("%s: %q", primary, got)
		}
	}
	body := c.body()
	body["tee-evidence"].(map[string]any)["additional_evidence"] = `{"nvidia":{}}`
	b, err := json.Marshal(body)
	w.check(err)
	if got := code(t, c.attestWith(b)); got != "unsupported" {
		t.Errorf("nvidia: %q", got)
	}
}

func FuzzAttest(f *testing.F) {
	w := newWorld(f, nil)
	w.registerCoCo()
	for _, isSVSM := range []bool{true, false} {
		c := newClient(w, isSVSM)
		c.auth()
		b, err := json.Marshal(c.body())
		w.check(err)
		f.Add(b)
	}
	f.Add([]byte(`{"runtime-data":{"nonce":""},"tee-evidence":{"primary_evidence":{"quote":"","cc_eventlog":null}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		answer := w.send("POST", "/kbs/v0/attest", string(body))
		if answer.Code == http.StatusOK {
			t.Errorf("accepted without a cookie: %s", body)
		}
		code(t, answer)
	})
}

func FuzzAuth(f *testing.F) {
	w := newWorld(f, nil)
	f.Add([]byte(`{"version":"0.4.0","tee":"snp","extra-params":{"supported-hash-algorithms":["sha256"]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if answer := w.send("POST", "/kbs/v0/auth", string(body)); answer.Code != http.StatusOK {
			code(t, answer)
		}
	})
}

// keys of every suite but the clients' are no keys here.
func TestKeys(t *testing.T) {
	w := newWorld(t, nil)
	c := newClient(w, false)
	c.auth()
	for _, suite := range []keywrap.Suite{keywrap.JWEP384} {
		k, err := keywrap.Generate(suite)
		w.check(err)
		body := c.body()
		body["runtime-data"].(map[string]any)["tee-pubkey"] = json.RawMessage(k.Recipient().JWK())
		b, err := json.Marshal(body)
		w.check(err)
		if got := code(t, c.attestWith(b)); got != "malformed-request" {
			t.Errorf("%s: %q", suite, got)
		}
	}
}

// Bytes written as numbers have one reading, or none.
func TestOctets(t *testing.T) {
	for text, want := range map[string][]byte{
		`[]`: {}, ` [ 0 , 255,7 ] `: {0, 255, 7}, `[256]`: nil, `[-1]`: nil, `[1,]`: nil, `[,1]`: nil, `[01]`: nil, `[00]`: nil,
		`[1.0]`: nil, `[1e1]`: nil, `"AAA="`: nil, `[[1]]`: nil, `[1 2]`: nil, `[`: nil, ``: nil, `[1000]`: nil, `[ ]`: {}, `[+1]`: nil, `{}`: nil,
	} {
		got, err := kbs.ParseOctets([]byte(text))
		if (err == nil) != (want != nil) || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// An event log of 10 MiB is looked at, and one byte more is not.
func TestEventLogs(t *testing.T) {
	w := newWorld(t, nil)
	c := newClient(w, false)
	c.auth()
	for size, want := range map[int]int{tdx.MaxEventLogSize: http.StatusUnauthorized, tdx.MaxEventLogSize + 1: http.StatusRequestEntityTooLarge} {
		body := c.body()
		body["tee-evidence"].(map[string]any)["primary_evidence"] = map[string]any{"quote": "AAAA", "cc_eventlog": make([]byte, size)}
		b, err := json.Marshal(body)
		w.check(err)
		if answer := c.attestWith(b); answer.Code != want {
			t.Errorf("%d bytes: %d %s, want %d", size, answer.Code, answer.Body, want)
		}
		c.auth()
	}
}
