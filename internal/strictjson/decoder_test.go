package strictjson_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// open is a document that is read by hand.
type open struct {
	Name string `json:"name"`
	N    uint16 `json:"n"`
	List []open `json:"list"`
}

func (o *open) read(d *strictjson.Decoder) {
	d.Object(
		strictjson.Required("name", func() { o.Name = string(d.Text()) }),
		strictjson.Optional("n", func() { o.N = uint16(d.Uint(0xFFFF)) }),
		strictjson.Optional("list", func() {
			o.List = []open{}
			d.Array(func() {
				o.List = append(o.List, open{})
				o.List[len(o.List)-1].read(d)
			})
		}),
	)
}

func TestDecode(t *testing.T) {
	nested := func(n int) string { return strings.Repeat(`{"name":"","list":[`, n) + strings.Repeat(`]}`, n) }
	for _, tt := range []struct{ name, in, err string }{
		{"known only", `{"name":"a"}`, ""},
		{"all, with white space", " {\n\"list\" : [ { \"name\" : \"\\u00e9\" } , {\"name\":\"\"} ] ,\t\"n\":65535 ,\"name\":\"\\ud83d\\ude00\"}\r\n", ""},
		{"unknown too", `{"name":"a","later":{"x":[1,null]},"list":[{"name":"","more":"b","and":-1.5e3}]}`, ""},
		{"unknown in another object", `{"name":"a","x":1,"list":[{"name":"","x":1}]}`, ""},
		{"in another case", `{"Name":"a"}`, "unknown member"},
		{"in another case, beside it", `{"name":"a","NAME":"b"}`, "unknown member"},
		{"in another case of Unicode", `{"name":"","li\u017ft":[]}`, "unknown member"},
		{"in another case, deeper", `{"name":"","list":[{"NAME":""}]}`, "unknown member"},
		{"twice", `{"name":"a","name":"a"}`, "duplicate member"},
		{"twice, escaped", `{"name":"a","n\u0061me":"a"}`, "duplicate member"},
		{"unknown twice", `{"name":"","later":1,"later":2}`, "duplicate member"},
		{"unknown twice in another case", `{"name":"","later":1,"Later":2}`, "duplicate member"},
		{"duplicate in an unknown", `{"name":"","later":{"x":1,"x":2}}`, "duplicate member"},
		{"missing", `{"n":1}`, "no name"},
		{"missing, deeper", `{"name":"a","list":[{}]}`, "list: json: no name"},
		{"null for a text", `{"name":null}`, "name: json"},
		{"null for a list", `{"name":"","list":null}`, "not an array"},
		{"number for a text", `{"name":1}`, "not a string"},
		{"text for a number", `{"name":"","n":"1"}`, "not a number"},
		{"negative", `{"name":"","n":-1}`, "not a number"},
		{"a zero before", `{"name":"","n":01}`, "not a number"},
		{"a fraction", `{"name":"","n":1.0}`, "comma missing"},
		{"an exponent", `{"name":"","n":1e2}`, "comma missing"},
		{"too large", `{"name":"","n":65536}`, "not a number"},
		{"much too large", `{"name":"","n":18446744073709551617}`, "not a number"},
		{"a line break in a text", "{\"name\":\"\n\"}", "invalid character"},
		{"an escape that is none", `{"name":"\x"}`, "invalid character"},
		{"a lone surrogate", `{"name":"\ud83d"}`, "surrogate"},
		{"invalid UTF-8", "{\"name\":\"\xff\"}", "UTF-8"},
		{"as deep as can be", nested(8), ""},
		{"too deep", nested(9), "too deeply"},
		{"too deep in an unknown", `{"name":"","x":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`, "too deeply"},
		{"an unknown that is none", `{"name":"","x":nil}`, "not a value"},
		{"an unknown that is missing", `{"name":"","x":}`, "missing"},
		{"array for an object", `[]`, "not an object"},
		{"object for an array", `{"name":"","list":{}}`, "not an array"},
		{"text for an object", `{"name":"","list":["x"]}`, "not an object"},
		{"no colon", `{"name" "a"}`, "colon"},
		{"no comma", `{"name":"a" "n":1}`, "comma"},
		{"a comma at the end", `{"name":"a",}`, "not a string"},
		{"a comma at the end of an array", `{"name":"a","list":[{"name":""},]}`, "not an object"},
		{"a comma at the start", `{,"name":"a"}`, "not a string"},
		{"trailing junk", `{"name":""}x`, "trailing"},
		{"cut in a name", `{"name`, "EOF"},
		{"cut in an object", `{"name":"a"`, "EOF"},
		{"cut before a value", `{"name":`, "EOF"},
		{"nothing", ``, "EOF"},
	} {
		var got, want open
		err := strictjson.Decode([]byte(tt.in), got.read)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
		if err != nil {
			continue
		}
		if err := json.Unmarshal([]byte(tt.in), &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v, %v", tt.name, got, want, err)
		}
	}
}

// A caller's error ends the reading, and the first one is kept.
func TestDecodeFails(t *testing.T) {
	mine, calls := errors.New("mine"), 0
	err := strictjson.Decode([]byte(`{"a":[1,2,3],"b":1}`), func(d *strictjson.Decoder) {
		d.Object(
			strictjson.Required("a", func() {
				d.Array(func() {
					calls++
					if d.Uint(9) == 2 {
						d.Fail(mine)
						d.Fail(errors.New("another"))
					}
				})
			}),
			strictjson.Required("b", func() { calls = 100 }),
		)
		if n, s := d.Uint(9), d.Text(); n != 0 || s != nil {
			t.Errorf("reads %d and %q after an error", n, s)
		}
	})
	if !errors.Is(err, mine) || calls != 2 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

// What is taken, encoding/json takes too, as the same.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"\ud83d\ude00","list":[{"n":2,"name":""}],"more":[{}],"n":7}`))
	f.Add([]byte(`{"name":"a","NAME":1}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var strict, lax open
		if strictjson.Decode(in, strict.read) != nil {
			return
		}
		if err := json.Unmarshal(in, &lax); err != nil || !reflect.DeepEqual(strict, lax) {
			t.Errorf("%+v, encoding/json has %+v, %v", strict, lax, err)
		}
	})
}
