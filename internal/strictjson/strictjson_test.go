package strictjson_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/internal/strictjson"
)

type embedded struct {
	Deep uint64 `json:"deep"`
}

type doc struct {
	Name string                     `json:"name"`
	N    uint64                     `json:"n"`
	Flag bool                       `json:"flag"`
	List []doc                      `json:"list"`
	Map  map[string]uint64          `json:"map"`
	Ptr  *uint64                    `json:"ptr"`
	Raw  json.RawMessage            `json:"raw"`
	B64  strictjson.Base64          `json:"b64"`
	Hex  strictjson.Hex             `json:"hex"`
	Hid  string                     `json:"-"`
	Arr  [2]uint64                  `json:"arr"`
	Hexs []strictjson.Hex           `json:"hexs"`
	Raws map[string]json.RawMessage `json:"raws"`
	embedded
}

func TestUnmarshal(t *testing.T) {
	for _, tt := range []struct{ name, in, err string }{
		{"all", `{"name":"é😀","n":1,"flag":true,"list":[{"n":2}],"map":{"A":1},"ptr":null,"raw":{"x":[1]},"b64":"_w","hex":"ff","hexs":["00"],"raws":{"q":{"a":null}}}`, ""},
		{"empty", `{}`, ""},
		{"embedded", `{"deep":3}`, ""},
		{"name of the embedded struct", `{"embedded":{"deep":3}}`, "unknown member"},
		{"surrogate pair", `{"name":"\ud83d\ude00"}`, ""},
		{"escaped backslash before u", `{"name":"\\ud83d"}`, ""},
		{"unknown", `{"nam":1}`, "unknown member"},
		{"unknown below", `{"list":[{"x":1}]}`, "unknown member"},
		{"case variant", `{"Name":"x"}`, "unknown member"},
		{"hidden", `{"-":"x"}`, "unknown member"},
		{"duplicate", `{"n":1,"n":1}`, "duplicate"},
		{"duplicate by escape", `{"n":1,"\u006e":1}`, "duplicate"},
		{"case-variant duplicate", `{"map":{"a":1,"A":2}}`, "duplicate"},
		{"duplicate in raw", `{"raw":{"x":{"y":1,"y":2}}}`, "duplicate"},
		{"null", `null`, "null"},
		{"null string", `{"name":null}`, "null"},
		{"null list", `{"list":null}`, "null"},
		{"null in list", `{"list":[null]}`, "null"},
		{"null base64", `{"b64":null}`, "not a string"},
		{"high surrogate", `{"name":"\ud800"}`, "surrogate"},
		{"low surrogate", `{"name":"\udc00"}`, "surrogate"},
		{"two high surrogates", `{"name":"\ud800\ud800"}`, "surrogate"},
		{"surrogate then text", `{"name":"\ud800xudc00"}`, "surrogate"},
		{"surrogate in raw", `{"raw":"\ud800"}`, "surrogate"},
		{"invalid UTF-8", "{\"name\":\"\xff\"}", "UTF-8"},
		{"trailing", `{} {}`, "trailing"},
		{"trailing junk", `{}x`, "trailing"},
		{"empty input", ``, "unexpected EOF"},
		{"cut", `{"name":`, "unexpected EOF"},
		{"float", `{"n":1.5}`, "number"},
		{"negative", `{"n":-1}`, "number"},
		{"string for number", `{"n":"1"}`, "string"},
		{"object for string", `{"name":{}}`, "object where"},
		{"array for object", `[]`, "array where"},
		{"fixed array", `{"arr":[1,2]}`, "array where"},
		{"padding", `{"b64":"_w=="}`, "base64url"},
		{"other alphabet", `{"b64":"/w"}`, "base64url"},
		{"stray bits", `{"b64":"_x"}`, "base64url"},
		{"line break", `{"b64":"_w\n"}`, "base64url"},
		{"upper-case hex", `{"hex":"FF"}`, "hexadecimal"},
		{"odd hex", `{"hex":"f"}`, "hexadecimal"},
		{"deep", strings.Repeat(`{"list":[`, 9) + strings.Repeat(`]}`, 9), "deep"},
		{"deep raw", `{"raw":` + strings.Repeat(`[`, 17) + strings.Repeat(`]`, 17) + `}`, "deep"},
	} {
		var d doc
		err := strictjson.Unmarshal([]byte(tt.in), &d)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
	}
}

// Names are the sender's: an error shows little of them, on one line.
func TestErrorsQuoteNames(t *testing.T) {
	name := `\n` + strings.Repeat("x", 1000)
	for claim, in := range map[string]string{
		"unknown":   `{"` + name + `":1}`,
		"duplicate": `{"raws":{"` + name + `":1,"` + name + `":2}}`,
		"above":     `{"raws":{"` + name + `":{"a":1,"a":2}}}`,
	} {
		var d doc
		err := strictjson.Unmarshal([]byte(in), &d)
		if err == nil || len(err.Error()) > 120 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", claim, err)
		}
	}
}

// UnmarshalKnown differs in one thing.
func TestUnmarshalKnown(t *testing.T) {
	for _, tt := range []struct{ name, in, err string }{
		{"known only", `{"name":"a"}`, ""},
		{"unknown too", `{"name":"a","later":{"x":[1,null]},"list":[{"n":2,"more":"b"}]}`, ""},
		{"in another case", `{"Name":"a"}`, "unknown member"},
		{"in another case, beside it", `{"name":"a","NAME":"b"}`, "duplicate member"},
		{"in another case of Unicode", `{"li\u017ft":[]}`, "unknown member"},
		{"in another case, deeper", `{"list":[{"N":2}]}`, "unknown member"},
		{"unknown twice", `{"later":1,"later":2}`, "duplicate member"},
		{"duplicate in an unknown", `{"later":{"x":1,"x":2}}`, "duplicate member"},
		{"null for a value", `{"name":null}`, "null"},
		{"trailing junk", `{}x`, "trailing"},
	} {
		var d doc
		err := strictjson.UnmarshalKnown([]byte(tt.in), &d)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
	}
}

func TestMembers(t *testing.T) {
	got, err := strictjson.Members([]byte("\n{ \"a\" : {\"x\": [1, 2]} , \"b\":\"c\\\"}\" }\n"))
	if err != nil || len(got) != 2 || string(got["a"]) != `{"x": [1, 2]}` || string(got["b"]) != `"c\"}"` {
		t.Errorf("%q, %v", got, err)
	}
	for _, tt := range []struct{ name, in, err string }{
		{"empty object", `{}`, ""},
		{"duplicate member", `{"a":1,"a":2}`, "duplicate member"},
		{"duplicate member in another case", `{"a":1,"A":2}`, "duplicate member"},
		{"array", `[{"a":1}]`, "not an object"},
		{"string", `"{"`, "not an object"},
		{"trailing junk", `{"a":1}x`, "trailing"},
		{"empty input", ``, "unexpected EOF"},
		{"cut", `{"a":{`, "unexpected EOF"},
		{"cut in a string", `{"a":"`, "unexpected EOF"},
		{"no colon", `{"a" 1}`, "colon"},
		{"bracket that closes nothing", `{"a":1]`, "comma"},
		{"no name", `{1:2}`, "name is not a string"},
		{"comma at the end", `{"a":1,}`, "name is not a string"},
	} {
		_, err := strictjson.Members([]byte(tt.in))
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
	}
}

// What is cut out is what encoding/json takes a document to have.
func FuzzMembers(f *testing.F) {
	f.Add([]byte(`{"a":{"b":"}"},"signature": "\\\"" }`))
	f.Add([]byte(`{"a":1,"b":[{}],"\u0063":null}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := strictjson.Members(in)
		var want map[string]json.RawMessage
		if err != nil || json.Unmarshal(in, &want) != nil {
			return
		}
		if len(got) != len(want) {
			t.Errorf("%d members, not %d", len(got), len(want))
		}
		for name, value := range want {
			if !bytes.Equal(got[name], value) {
				t.Errorf("%s is %q, not %q", name, got[name], value)
			}
		}
	})
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"name":"\ud83d\ude00","list":[{"n":2}],"map":{"A":1},"raw":{"x":[1]},"b64":"_w"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var strict, lax doc
		if strictjson.Unmarshal(in, &strict) != nil {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(in))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&lax); err != nil {
			t.Errorf("accepts what encoding/json refuses: %v", err)
		}
	})
}

// selfMade decodes itself, from an object.
type selfMade string

func (s *selfMade) UnmarshalJSON(data []byte) error { *s = selfMade(data); return nil }

// The document itself may be of a type that decodes itself; it is looked through.
func TestDocumentDecodesItself(t *testing.T) {
	var s selfMade
	if err := strictjson.Unmarshal([]byte(` {"a":[1]} `), &s); err != nil || s != `{"a":[1]}` {
		t.Errorf("%q, %v", s, err)
	}
	if err := strictjson.Unmarshal([]byte(`{"a":1,"A":2}`), &s); err == nil {
		t.Error("a duplicate member")
	}
	if err := strictjson.Unmarshal([]byte(`null`), &s); err == nil {
		t.Error("null in place of the document")
	}
	var at time.Time
	if err := strictjson.Unmarshal([]byte(`null`), &at); err == nil {
		t.Error("null in place of a time")
	}
}
