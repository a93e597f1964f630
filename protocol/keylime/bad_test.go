package keylime_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/protocol/keylime"
	"github.com/teebroker/teebroker/snp/snptest"
)

// spoil is one thing done to a member of a body.
type spoil struct {
	name string
	to   func(member, value string) string // what stands in place of "member":value
}

// spoils are done to members that are strings.
func spoils() []spoil {
	set := func(v string) func(string, string) string {
		return func(member, _ string) string { return `"` + member + `":` + v }
	}
	return []spoil{
		{"missing", func(string, string) string { return `"other":1` }},
		{"empty", set(`""`)},
		{"null", set("null")},
		{"a number", set("7")},
		{"a list", set("[]")},
		{"an object", set("{}")},
		{"doubled", func(m, v string) string { return `"` + m + `":` + v + `,"` + m + `":` + v }},
		{"in another case", func(m, v string) string { return `"` + strings.ToUpper(m) + `":` + v }},
		{"too long", func(m, v string) string { return `"` + m + `":"` + strings.Repeat("A", 4096) + v[1:] }},
		{"with white space", func(m, v string) string { return `"` + m + `":"` + v[1:5] + `\n` + v[5:] }},
		{"of the other alphabet", func(m, v string) string {
			if m == "nonce" || m == "snp-report" {
				return `"` + m + `":"__--` + v[5:]
			}
			return `"` + m + `":"//++` + v[5:]
		}},
		{"of other padding", func(m, v string) string {
			if strings.HasSuffix(v, `="`) {
				return `"` + m + `":` + strings.TrimRight(v, `="`) + `"`
			}
			return `"` + m + `":` + v[:len(v)-1] + `=="`
		}},
		{"with a lone surrogate", func(m, v string) string { return `"` + m + `":"\ud800` + v[1:] }},
		{"not UTF-8", func(m, v string) string { return `"` + m + "\":\"\xff" + v[1:] }},
	}
}

// Each member of a body in every way that it can be wrong: nothing is accepted, nothing
// is answered 500, and what is missing is said in Keylime's words.
func TestBadMembers(t *testing.T) {
	w, c := simulated(), newCaller(t)
	h := w.handler(t, nil)
	good := body(c.snp(t, w, snptest.Guest{}))
	if _, _, r := post(t, h, good); !r.Valid {
		t.Fatalf("the body itself: %+v", r)
	}
	count := 0
	for _, member := range []string{"type", "nonce", "tee-pubkey-x-b64", "tee-pubkey-y-b64", "tee", "snp-report"} {
		_, rest, _ := strings.Cut(good, `"`+member+`":`)
		value := rest[:1+strings.Index(rest[1:], `"`)+1]
		for _, s := range spoils() {
			bad := strings.Replace(good, `"`+member+`":`+value, s.to(member, value), 1)
			if bad == good {
				t.Fatalf("%s %s: unchanged", member, s.name)
			}
			code, status, r := post(t, h, bad)
			if code != 200 && code != 400 || r.Valid || len(r.Claims) != 0 || code == 200 && len(r.Failures) == 0 {
				t.Errorf("%s %s: %d %s %+v", member, s.name, code, status, r)
			}
			missing := s.name == "missing" || s.name == "empty" || s.name == "null"
			if missing && member == "type" && status != "missing parameter 'type'" {
				t.Errorf("%s %s: %s", member, s.name, status)
			}
			if missing && member != "type" && (code != 400 || !slices.Equal(r.ids(), []string{"tee_attestation.missing_param"}) ||
				r.Failures[0].Context["message"] != `missing parameter "`+member+`"`) {
				t.Errorf("%s %s: %d %+v", member, s.name, code, r)
			}
			count++
		}
	}
	if count != 6*14 {
		t.Errorf("%d bodies", count)
	}
}

// Members that are objects, and bodies that are none.
func TestBadBodies(t *testing.T) {
	w, c := simulated(), newCaller(t)
	h := w.handler(t, nil)
	data := c.snp(t, w, snptest.Guest{})
	good := body(data)
	ev := data[strings.Index(data, `"tee-evidence":`)+len(`"tee-evidence":`) : len(data)-1]
	inner := ev[strings.Index(ev, `"evidence":`)+len(`"evidence":`) : len(ev)-1]
	for name, v := range map[string]struct {
		body   string
		code   int
		status string
		id     string
	}{
		"nothing":              {"", 400, "malformed JSON body", ""},
		"no JSON":              {"hello", 400, "malformed JSON body", ""},
		"half":                 {good[:len(good)/2], 400, "malformed JSON body", ""},
		"two bodies":           {good + good, 400, "malformed JSON body", ""},
		"a string":             {`"x"`, 400, "malformed JSON body", ""},
		"null":                 {`null`, 400, "malformed JSON body", ""},
		"an empty object":      {`{}`, 400, "missing parameter 'type'", ""},
		"nested deeply":        {strings.Repeat("[", 100), 400, "malformed JSON body", ""},
		"another type":         {`{"type":"sev_snp","data":` + data + `}`, 400, "invalid evidence type", ""},
		"no data":              {`{"type":"tee"}`, 400, "missing parameter 'data'", ""},
		"empty data":           {`{"type":"tee","data":""}`, 400, "missing parameter 'data'", ""},
		"data is a number":     {`{"type":"tee","data":1}`, 400, "malformed parameter 'data'", ""},
		"data is empty":        {`{"type":"tee","data":{}}`, 400, "Bad Request", "missing_param"},
		"no evidence":          {strings.Replace(good, ev, `""`, 1), 400, "Bad Request", "missing_param"},
		"evidence is a list":   {strings.Replace(good, ev, `[]`, 1), 200, "Success", "invalid_input"},
		"evidence is empty":    {strings.Replace(good, ev, `{}`, 1), 400, "Bad Request", "missing_param"},
		"inner evidence empty": {strings.Replace(good, inner, `{}`, 1), 400, "Bad Request", "missing_param"},
		"inner is a string":    {strings.Replace(good, inner, `"x"`, 1), 200, "Success", "invalid_input"},
		"inner is null":        {strings.Replace(good, inner, `null`, 1), 400, "Bad Request", "missing_param"},
		"nonce of 15 bytes":    {strings.Replace(good, b64(c.nonce), b64(c.nonce[:15]), 1), 200, "Success", "invalid_nonce"},
		"nonce of 48 bytes":    {strings.Replace(good, b64(c.nonce), b64(make([]byte, 48)), 1), 200, "Success", "invalid_nonce"},
		"point off the curve":  {offCurve(t, good), 200, "Success", "invalid_tee_pubkey"},
	} {
		code, status, r := post(t, h, v.body)
		if code != v.code || status != v.status || r.Valid || v.id != "" && !slices.Equal(r.ids(), []string{"tee_attestation." + v.id}) {
			t.Errorf("%s: %d %s %+v", name, code, status, r)
		}
	}
	// What Keylime passes over is passed over.
	for name, ok := range map[string]string{
		"unknown members": strings.Replace(strings.Replace(good, `{"type"`, `{"more":[{}],"type"`, 1), `{"nonce"`, `{"more":null,"nonce"`, 1),
		"certs-buf":       strings.Replace(good, `{"snp-report"`, `{"certs-buf":"c3ludGhldGlj","snp-report"`, 1),
		"no certs-buf":    strings.Replace(good, `{"snp-report"`, `{"certs-buf":null,"snp-report"`, 1),
		"white space":     " \n" + good + "\n",
	} {
		if code, _, r := post(t, h, ok); code != 200 || !r.Valid {
			t.Errorf("%s: %d %+v", name, code, r)
		}
	}
}

// offCurve returns a body with a key whose coordinates are zero.
func offCurve(t *testing.T, good string) string {
	t.Helper()
	zero := strings.Repeat("A", 43)
	for _, member := range []string{"tee-pubkey-x-b64", "tee-pubkey-y-b64"} {
		at := strings.Index(good, member+`":"`) + len(member) + 3
		good = good[:at] + zero + good[at+43:]
	}
	return good
}

// A body of the most bytes that are allowed is read, one more is not.
func TestBodySize(t *testing.T) {
	h := simulated().handler(t, func(cfg *keylime.Config) { cfg.MaxBody = 1000 })
	if code, _, _ := post(t, h, strings.Repeat(" ", 1000)); code != http.StatusBadRequest {
		t.Errorf("1000 bytes: %d", code)
	}
	if code, _, _ := post(t, h, strings.Repeat(" ", 1001)); code != http.StatusRequestEntityTooLarge {
		t.Errorf("1001 bytes: %d", code)
	}
}

// Whatever is sent, the answer is an envelope, and yes only to what is over the key and
// nonce in the body.
func FuzzBody(f *testing.F) {
	w, c := simulated(), newCaller(f)
	h := w.handler(f, nil)
	good := body(c.snp(f, w, snptest.Guest{}))
	f.Add([]byte(good))
	f.Add([]byte("[" + good + "," + body(c.tdx(f, w)) + "]"))
	f.Add([]byte(`{"type":"tpm","data":{"quote":"r"}}`))
	for _, v := range readVectors(f).Cases {
		f.Add([]byte(v.Request))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/v2.5/verify/evidence", bytes.NewReader(in)))
		var e struct {
			Code    int     `json:"code"`
			Results results `json:"results"`
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil || e.Code != rec.Code || rec.Code >= 500 {
			t.Fatalf("%d %q: %v", rec.Code, rec.Body, err)
		}
		if e.Results.Valid && !bytes.Contains(in, []byte(b64(c.nonce))) && !bytes.Contains(in, []byte(`\u`)) {
			t.Errorf("accepted %q", in)
		}
	})
}
