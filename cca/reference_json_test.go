package cca

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
)

const (
	h32 = "0101010101010101010101010101010101010101010101010101010101010101"
	h33 = "01" + h32

	componentJSON = `{"type":"RMM","measurement":"` + h32 + `","signer_id":"` + h32 + `","version":""}`
	platformJSON  = `{"implementation":"` + h32 + `","config":"cf00","config_mask":"fff0","components":[` + componentJSON + `]}`
)

func ones(n int) Octets { return Octets(strings.Repeat("\x01", n)) }

func TestDecodeReferenceValues(t *testing.T) {
	rv, err := DecodeReferenceValues([]byte(`{
		"rims":["`+h32+`"],"rem0":"*","rem1":[],"rem2":["`+h32+h32+`"],"rem3":["`+h32+h32[:32]+`"],"rpvs":["`+h32+h32+`"],
		"realm_hashes":["sha-256","sha-384","sha-512"],"mec_policies":["none","shared","private"],
		"platforms":[`+platformJSON+`],"allow_any_platform":false,"implementations":["`+h32+`"],"instances":["`+h33+`"],"allow_debug":true}`), false)
	if err != nil {
		t.Fatal(err)
	}
	var rpv [64]byte
	copy(rpv[:], ones(64))
	var id ImplementationID
	copy(id[:], ones(32))
	var instance InstanceID
	copy(instance[:], ones(33))
	want := ReferenceValues{
		RIMs: evidence.OneOf(ones(32)), REM0: evidence.Anything[Octets](), REM1: evidence.OneOf([]Octets{}...), REM2: evidence.OneOf(ones(64)), REM3: evidence.OneOf(ones(48)),
		RPVs: evidence.OneOf(rpv), RealmHashes: evidence.OneOf(SHA256, SHA384, SHA512), MECPolicies: evidence.OneOf(0, MECShared, MECPrivate),
		Platforms:       []Platform{{id, "\xcf\x00", "\xff\xf0", []Component{{"RMM", ones(32), ones(32), ""}}}},
		Implementations: evidence.OneOf(id), Instances: evidence.OneOf(instance), AllowDebug: true,
	}
	if !reflect.DeepEqual(rv, want) {
		t.Errorf("%+v\nwant %+v", rv, want)
	}
}

func TestDecodeReferenceValuesLeftOut(t *testing.T) {
	complete, err := DecodeReferenceValues([]byte(`{}`), false)
	if err != nil || !reflect.DeepEqual(complete, ReferenceValues{}) {
		t.Errorf("complete: %+v, %v", complete, err)
	}
	partial, err := DecodeReferenceValues([]byte(`{}`), true)
	if err != nil || !reflect.DeepEqual(partial, unconstrained()) {
		t.Errorf("partial: %+v, %v", partial, err)
	}
	for _, tt := range []struct {
		json string
		any  bool
	}{
		{`{"platforms":[]}`, false},
		{`{"platforms":[],"allow_any_platform":true}`, true},
		{`{"allow_any_platform":false}`, false},
	} {
		if rv, err := DecodeReferenceValues([]byte(tt.json), true); err != nil || rv.AllowAnyPlatform != tt.any {
			t.Errorf("%s: %v, %v", tt.json, rv.AllowAnyPlatform, err)
		}
	}
}

func TestDecodeReferenceValuesRefuses(t *testing.T) {
	platform := func(old, with string) string {
		if !strings.Contains(platformJSON, old) {
			t.Fatalf("no %s", old)
		}
		return `{"platforms":[` + strings.Replace(platformJSON, old, with, 1) + `]}`
	}
	for _, tt := range []struct{ name, json, err string }{
		{"nothing", ``, "EOF"},
		{"null", `null`, "null"},
		{"list", `[]`, "array"},
		{"trailing", `{}{}`, "trailing"},
		{"unknown member", `{"measurements":"*"}`, "unknown member"},
		{"case variant", `{"RIMs":"*"}`, "unknown member"},
		{"duplicate", `{"rims":"*","rims":"*"}`, "duplicate"},
		{"member null", `{"rims":null}`, "rims"},
		{"text for a set", `{"rims":"` + h32 + `"}`, "rims"},
		{"escaped star", `{"rims":["\u002a"]}`, "rims"},
		{"short digest", `{"rims":["` + h32[2:] + `"]}`, "31 bytes"},
		{"no digest", `{"rem0":[""]}`, "0 bytes"},
		{"capitals", `{"rem1":["` + strings.Repeat("AA", 32) + `"]}`, "hexadecimal"},
		{"short personalization", `{"rpvs":["` + h32 + `"]}`, "32 bytes"},
		{"unknown hash", `{"realm_hashes":["md5"]}`, "unknown name"},
		{"no hash", `{"realm_hashes":["none"]}`, "unknown name"},
		{"unknown MEC policy", `{"mec_policies":[0]}`, "mec_policies"},
		{"short implementation", `{"implementations":["00"]}`, "1 bytes"},
		{"instance of another type", `{"instances":["02` + h32 + `"]}`, "RAND"},
		{"bool as a number", `{"allow_debug":1}`, "allow_debug"},
		{"star for platforms", `{"platforms":"*"}`, "platforms"},
		{"good platform", platform(`"type"`, `"type"`), ""},
		{"zero mask", platform(`"config":"cf00","config_mask":"fff0"`, `"config":"0000","config_mask":"0000"`), ""},
		{"no implementation", platform(`"implementation":"`+h32+`",`, ``), "implementation is missing"},
		{"no config", platform(`"config":"cf00",`, ``), "config is missing"},
		{"no mask", platform(`"config_mask":"fff0",`, ``), "config_mask is missing"},
		{"no components", platform(`,"components":[`+componentJSON+`]`, ``), "components is missing"},
		{"components none", platform(componentJSON, ``), "components: none"},
		{"empty config", platform(`"config":"cf00"`, `"config":""`), "no bytes"},
		{"short mask", platform(`fff0`, `ff`), "differ in length"},
		{"bit outside of the mask", platform(`cf00`, `cf01`), "a bit that config_mask has not"},
		{"unknown member of a platform", platform(`"config"`, `"x":1,"config"`), "unknown member"},
		{"no type", platform(`"type":"RMM",`, ``), "type is missing"},
		{"no measurement", platform(`"measurement":"`+h32+`",`, ``), "measurement is missing"},
		{"no signer", platform(`"signer_id":"`+h32+`",`, ``), "signer_id is missing"},
		{"no version", platform(`,"version":""`, ``), "version is missing"},
		{"version as a number", platform(`"version":""`, `"version":1`), "version"},
		{"measurement of 33 bytes", platform(`"measurement":"`, `"measurement":"00`), "33 bytes"},
	} {
		for _, partial := range []bool{false, true} {
			rv, err := DecodeReferenceValues([]byte(tt.json), partial)
			if tt.err == "" { // the good neighbour of a bad one
				if err != nil {
					t.Errorf("%s: %v", tt.name, err)
				}
				continue
			}
			if err == nil || !strings.HasPrefix(err.Error(), "cca: reference values: ") || !strings.Contains(err.Error(), tt.err) || !reflect.DeepEqual(rv, ReferenceValues{}) {
				t.Errorf("%s, partial %v: %+v, %v, want %q", tt.name, partial, rv, err, tt.err)
			}
		}
	}
}

// Members are the fields in snake_case, in their order.
func TestMembersAreFields(t *testing.T) {
	var members, fields []string
	for _, m := range new(ReferenceValues).members() {
		members = append(members, strings.ReplaceAll(m.Name, "_", ""))
	}
	for f := range reflect.TypeFor[ReferenceValues]().Fields() {
		fields = append(fields, strings.ToLower(f.Name))
	}
	if !slices.Equal(members, fields) {
		t.Errorf("members %v\n fields %v", members, fields)
	}
}

// docs/policy-cca.md has a row for each member, in their order.
func TestMembersAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/policy-cca.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows, members []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\|").FindAllStringSubmatch(string(doc), -1) {
		rows = append(rows, row[1])
	}
	for _, m := range new(ReferenceValues).members() {
		members = append(members, m.Name)
	}
	if !slices.Equal(rows, members) {
		t.Errorf("documented %v\n  members %v", rows, members)
	}
}

func FuzzDecodeReferenceValues(f *testing.F) {
	for _, seed := range []string{
		`{}`,
		`{"platforms":[` + platformJSON + `],"rims":["` + h32 + `"],"instances":["` + h33 + `"],"implementations":"*"}`,
		`{"realm_hashes":["sha-256"],"mec_policies":["none"],"rem0":"*","rpvs":[],"allow_debug":true,"allow_any_platform":true}`,
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	good := verified(someClaims())
	f.Fuzz(func(t *testing.T, object []byte, partial bool) {
		if _, err := DecodeReferenceValues(object, partial); err != nil {
			return
		}
		// What is partial is wider than what is complete, in every claim.
		complete, err := DecodeReferenceValues(object, false)
		if err != nil {
			t.Fatal(err)
		}
		wide, err := DecodeReferenceValues(object, true)
		if err != nil {
			t.Fatal(err)
		}
		if len(wide.Appraise(good)) > len(complete.Appraise(good)) {
			t.Error("partial is narrower than complete")
		}
	})
}
