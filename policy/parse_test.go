package policy_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/policy"
)

// decodeSVN decodes {"svn": N, "debug": false}. What is left out of a complete
// object is refused.
func decodeSVN(object []byte, partial bool) (policy.Rule, error) {
	var o struct {
		SVN   *uint64 `json:"svn"`
		Debug *bool   `json:"debug"`
	}
	if err := strictjson.Unmarshal(object, &o); err != nil {
		return nil, err
	}
	rule := policy.All{policy.Claim{Name: "svn", Op: evidence.AtLeast, Want: evidence.Uint(0)}}
	if o.SVN != nil {
		rule = append(rule, svn(*o.SVN))
	} else if !partial {
		rule = append(rule, policy.Any{})
	}
	if o.Debug != nil {
		rule = append(rule, policy.Claim{Name: "debug", Op: evidence.Equal, Want: evidence.Bool(*o.Debug)})
	}
	return rule, nil
}

var decoders = policy.Decoders{
	"f":      decodeSVN,
	"g":      policy.Decoder(func(b []byte, partial bool) (policy.All, error) { return nil, errors.New("g is not decoded") }),
	"nil":    nil,
	"norule": func([]byte, bool) (policy.Rule, error) { return nil, nil },
}

const good = `{"policy":"teebroker/1","name":"prod","version":"7","scope":"global","require":{"f":[{"svn":3,"debug":false}]}}`

func TestParse(t *testing.T) {
	doc := []byte(good)
	p, err := policy.Parse(doc, decoders)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "prod" || p.Version != "7" || p.Scope != policy.Global || p.String() != "prod@7" || len(p.AllowSkipped) != 0 {
		t.Errorf("%+v", p)
	}
	clear(doc)
	if string(p.Document) != good {
		t.Error("the document is the caller's slice")
	}
	if a := policy.Appraise(one(verified("f", 3)), p); !a.Accepted() {
		t.Error(a.Err())
	}
	if a := policy.Appraise(one(verified("f", 2)), p); a.Accepted() {
		t.Error("svn 2 accepted")
	}
}

func TestParseOptionalAndAlternatives(t *testing.T) {
	p, err := policy.Parse([]byte(`{"policy":"teebroker/1","name":"a","version":"1","scope":"global","require":{},"optional":{"f":[{"svn":9},{"svn":3,"debug":true}, {"svn":5}]}}`), decoders)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[uint64]bool{4: false, 5: true, 9: true} {
		if a := policy.Appraise(one(verified("f", n)), p); a.Accepted() != want {
			t.Errorf("svn %d: %v", n, a.Err())
		}
	}
	if policy.Appraise(nil, p).Accepted() {
		t.Error("no evidence accepted")
	}
}

// What a complete document leaves out is refused; a partial one does not ask,
// and accepts nothing on its own.
func TestParseScopes(t *testing.T) {
	parse := func(scope, object string) *policy.Policy {
		p, err := policy.Parse(fmt.Appendf(nil, `{"policy":"teebroker/1","name":%q,"version":"1","scope":%q,"require":{"f":[%s]}}`, scope, scope, object), decoders)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	global, image, instance := parse("global", `{"svn":1}`), parse("image", `{"debug":false}`), parse("instance", `{"svn":2}`)
	for _, tt := range []struct {
		name   string
		scopes []*policy.Policy
		want   bool
	}{
		{"global", []*policy.Policy{global}, true},
		{"all", []*policy.Policy{global, image, instance}, true},
		{"global that leaves something out", []*policy.Policy{parse("global", `{}`)}, false},
		{"image alone", []*policy.Policy{image}, false},
		{"image and instance", []*policy.Policy{image, instance}, false},
		{"partial that leaves everything out", []*policy.Policy{global, parse("image", `{}`)}, true},
		{"narrowed", []*policy.Policy{global, parse("instance", `{"svn":3}`)}, false},
	} {
		if a := policy.Appraise(one(verified("f", 2)), tt.scopes...); a.Accepted() != tt.want {
			t.Errorf("%s: %v", tt.name, a.Err())
		}
	}
}

func TestParseRefuses(t *testing.T) {
	many := func(n int, s string) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }
	formats := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"x%d":[{}]`, i)
		}
		return b.String()[1:]
	}
	for _, tt := range []struct{ name, old, new, err string }{
		{"nothing", good, ``, "EOF"},
		{"null", good, `null`, "null"},
		{"a list", good, `[]`, "array"},
		{"trailing data", `}]}}`, `}]}}{}`, "trailing"},
		{"unknown member", `"name"`, `"x":1,"name"`, `unknown member "x"`},
		{"allow_skipped", `"name"`, `"allow_skipped":["revocation"],"name"`, "unknown member"},
		{"duplicate member", `"name"`, `"name":"prod","name"`, "duplicate"},
		{"duplicate by escape", `"name"`, `"n\u0061me":"prod","name"`, "duplicate"},
		{"case variant", `"name"`, `"Name"`, "unknown member"},
		{"case variant beside it", `"name"`, `"NAME":"prod","name"`, "NAME"},
		{"lone surrogate", `"prod"`, `"\ud800"`, "surrogate"},
		{"invalid UTF-8", `"prod"`, "\"\xff\"", "UTF-8"},
		{"duplicate format", `"f":`, `"f":[{}],"f":`, "duplicate"},
		{"case-variant format", `"f":`, `"F":[{}],"f":`, "duplicate"},
		{"duplicate in an alternative", `"svn":3`, `"svn":3,"svn":4`, "duplicate"},
		{"unknown in an alternative", `"svn":3`, `"svm":3`, "alternative 1"},
		{"case variant in an alternative", `"svn":3`, `"Svn":3`, "alternative 1"},
		{"null in an alternative", `"svn":3`, `"svn":"3"`, "alternative 1"},
		{"deep", `"svn":3`, `"svn":` + strings.Repeat(`[`, 20) + strings.Repeat(`]`, 20), "deep"},

		{"no policy", `"policy":"teebroker/1",`, ``, "policy is"},
		{"another kind of document", `teebroker/1`, `teebroker/2`, "policy is"},
		{"no name", `"name":"prod",`, ``, "name is"},
		{"empty name", `"prod"`, `""`, "name is"},
		{"null name", `"prod"`, `null`, "null"},
		{"number as name", `"prod"`, `1`, "number"},
		{"name with a line break", `"prod"`, `"a\nb"`, "name is"},
		{"name that ends in a space", `"prod"`, `"a "`, "name is"},
		{"name with @", `"prod"`, `"a@1"`, "name is"},
		{"long name", `"prod"`, `"` + strings.Repeat("n", policy.MaxName+1) + `"`, "name is"},
		{"no version", `"version":"7",`, ``, "version is"},
		{"empty version", `"7"`, `""`, "version is"},
		{"number as version", `"7"`, `7`, "number"},
		{"no scope", `"scope":"global",`, ``, "scope is"},
		{"empty scope", `"global"`, `""`, "scope is"},
		{"unknown scope", `"global"`, `"Global"`, "scope is"},
		{"no require", `,"require":{"f":[{"svn":3,"debug":false}]}`, ``, "require is"},
		{"optional for require", `"require"`, `"optional"`, "require is"},
		{"null require", `{"f":[{"svn":3,"debug":false}]}`, `null`, "null"},
		{"require list", `{"f":[{"svn":3,"debug":false}]}`, `[]`, "array"},
		{"no format", `{"f":[{"svn":3,"debug":false}]}`, `{}`, "no format"},
		{"no format, spelled out", `{"f":[{"svn":3,"debug":false}]}`, `{},"optional":{}`, "no format"},
		{"both required and optional", `"require"`, `"optional":{"f":[{}]},"require"`, "both"},
		{"null optional", `"require"`, `"optional":null,"require"`, "null"},

		{"unknown format", `"f"`, `"h"`, `unknown format "h"`},
		{"unknown optional format", `"require"`, `"optional":{"h":[{}]},"require"`, `optional: unknown format "h"`},
		{"format without decoder", `"f"`, `"nil"`, "unknown format"},
		{"decoder without rule", `"f"`, `"norule"`, "no rule"},
		{"decoder's error", `"f"`, `"g"`, "g: alternative 1: g is not decoded"},
		{"no alternative", `[{"svn":3,"debug":false}]`, `[]`, "accepts nothing"},
		{"null for alternatives", `[{"svn":3,"debug":false}]`, `null`, "null"},
		{"object for alternatives", `[{"svn":3,"debug":false}]`, `{}`, "object"},
		{"null alternative", `{"svn":3,"debug":false}`, `null`, "not an object"},
		{"list as alternative", `{"svn":3,"debug":false}`, `{"svn":3},[]`, "alternative 2: not an object"},
		{"too many alternatives", `{"svn":3,"debug":false}`, many(policy.MaxAlternatives+1, `{"svn":3}`), "alternatives"},
		{"too many formats", `"f":[{"svn":3,"debug":false}]`, formats(policy.MaxFormats + 1), "formats"},
		{"too long", `{"policy"`, strings.Repeat(" ", policy.MaxDocument+1-len(good)) + `{"policy"`, "bytes"},
	} {
		doc := strings.Replace(good, tt.old, tt.new, 1)
		p, err := policy.Parse([]byte(doc), decoders)
		if p != nil || err == nil || !strings.HasPrefix(err.Error(), "policy: ") || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
		if doc == good {
			t.Errorf("%s: changes nothing", tt.name)
		}
	}
}

// The bounds themselves are inside.
func TestParseBounds(t *testing.T) {
	longName := strings.Replace(good, `"prod"`, `"`+strings.Repeat("n", policy.MaxName)+`"`, 1)
	most := strings.Replace(good, `{"svn":3,"debug":false}`, strings.Repeat(`{"svn":3},`, policy.MaxAlternatives-1)+`{"svn":3}`, 1)
	longest := strings.Repeat(" ", policy.MaxDocument-len(good)) + good
	for name, doc := range map[string]string{"name": longName, "alternatives": most, "bytes": longest} {
		if _, err := policy.Parse([]byte(doc), decoders); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNarrowing: whatever scopes are added to an appraisal, and in whatever
// order, nothing is accepted that was not.
func TestNarrowing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	alternative := func() string {
		return []string{`{}`, `{"debug":false}`, `{"debug":true}`, `{"svn":%d}`, `{"svn":%d,"debug":false}`, `{"svn":%d,"debug":true}`}[r.IntN(6)]
	}
	document := func(scope policy.Scope) *policy.Policy {
		var alts []string
		for range 1 + r.IntN(3) {
			a := alternative()
			if strings.Contains(a, "%d") {
				a = fmt.Sprintf(a, r.IntN(4))
			}
			alts = append(alts, a)
		}
		p, err := policy.Parse(fmt.Appendf(nil, `{"policy":"teebroker/1","name":"n","version":"1","scope":%q,"require":{"f":[%s]}}`, scope, strings.Join(alts, ",")), decoders)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	accepted, narrowed := 0, 0
	for range 5000 {
		v := verified("f", uint64(r.IntN(4)))
		v.Bound = r.IntN(8) > 0
		scopes := []*policy.Policy{document(policy.Global)}
		before := policy.Appraise(one(v), scopes...).Accepted()
		for range 1 + r.IntN(3) {
			scopes = append(scopes, document([]policy.Scope{policy.Global, policy.Image, policy.Instance}[r.IntN(3)]))
			after := policy.Appraise(one(v), scopes...)
			if after.Accepted() && !before {
				t.Fatalf("a narrower scope widens: %v", scopes)
			}
			if before && !after.Accepted() {
				narrowed++
			}
			before = after.Accepted()
		}
		r.Shuffle(len(scopes), func(i, j int) { scopes[i], scopes[j] = scopes[j], scopes[i] })
		if policy.Appraise(one(v), scopes...).Accepted() != before {
			t.Fatal("the order of scopes decides")
		}
		if before {
			accepted++
		}
	}
	if accepted == 0 || narrowed == 0 {
		t.Errorf("%d accepted, %d narrowed: nothing was shown", accepted, narrowed)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"policy":"teebroker/1","name":"a","version":"1","scope":"image","require":{},"optional":{"f":[{},{"svn":1}]}}`))
	f.Add([]byte(strings.Replace(good, `"prod"`, `"\ud83d\ude00"`, 1)))
	f.Fuzz(func(t *testing.T, doc []byte) {
		p, err := policy.Parse(doc, decoders)
		if (p == nil) == (err == nil) {
			t.Fatal("neither a policy nor an error")
		}
		if err != nil {
			return
		}
		if !bytes.Equal(p.Document, doc) || p.Name == "" || p.Version == "" || len(p.Require)+len(p.Optional) == 0 {
			t.Errorf("%+v", p)
		}
		if policy.Appraise(one(verified("h", 9)), p).Accepted() || policy.Appraise(nil, p).Accepted() {
			t.Error("accepts what no document here can")
		}
	})
}
