package tdx

import (
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// octetsJSON returns the hexadecimal of n bytes, the first of which is b.
func octetsJSON(b byte, n int) string { return fmt.Sprintf("%02x", b) + strings.Repeat("00", n-1) }

// TestDecodeMembers decodes one member at a time: into its field, and nothing but
// its field, of complete and of partial ReferenceValues.
func TestDecodeMembers(t *testing.T) {
	type rv = ReferenceValues
	one48, one16 := evidence.OneOf([48]byte{1}), evidence.OneOf([16]byte{1})
	list48, list16 := `["`+octetsJSON(1, 48)+`"]`, `["`+octetsJSON(1, 16)+`"]`
	tests := []struct {
		name, json string
		set        func(*rv)
	}{
		{"mrtd", `["` + octetsJSON(1, 48) + `","` + octetsJSON(2, 48) + `"]`, func(r *rv) { r.MRTD = evidence.OneOf([48]byte{1}, [48]byte{2}) }},
		{"mrtd", `[]`, func(r *rv) { r.MRTD = evidence.OneOf([][48]byte{}...) }},
		{"mrtd", `"*"`, func(r *rv) { r.MRTD = evidence.Anything[[48]byte]() }},
		{"rtmr0", list48, func(r *rv) { r.RTMR0 = one48 }},
		{"rtmr1", list48, func(r *rv) { r.RTMR1 = one48 }},
		{"rtmr2", list48, func(r *rv) { r.RTMR2 = one48 }},
		{"rtmr3", list48, func(r *rv) { r.RTMR3 = one48 }},
		{"mrconfigid", list48, func(r *rv) { r.MRConfigID = one48 }},
		{"mrowner", list48, func(r *rv) { r.MROwner = one48 }},
		{"mrownerconfig", `["` + octetsJSON(0, 48) + `"]`, func(r *rv) { r.MROwnerConfig = evidence.OneOf([48]byte{}) }},
		{"rtmr_events", `[{"rtmr":3,"digests":["` + octetsJSON(1, 48) + `"]}]`, func(r *rv) { r.RTMREvents = []RegisterEvents{{3, one48}} }},
		{"runtime_events", `[{"name":"app-id","payloads":["0102",""]},{"name":"ready","payloads":"*"}]`, func(r *rv) {
			r.RuntimeEvents = []RuntimeEvent{{"app-id", evidence.OneOf("\x01\x02", "")}, {"ready", evidence.Anything[string]()}}
		}},
		{"body_types", `[2,3]`, func(r *rv) { r.BodyTypes = evidence.OneOf(TD10, TD15) }},
		{"allow_debug", `true`, func(r *rv) { r.AllowDebug = true }},
		{"allow_debug", `false`, func(r *rv) { r.AllowDebug = false }},
		{"allow_migration", `true`, func(r *rv) { r.AllowMigration = true }},
		{"allow_migration", `false`, func(r *rv) { r.AllowMigration = false }},
		{"allow_service_tds", list48, func(r *rv) { r.AllowServiceTDs = one48 }},
		{"require_attributes", `["sept_ve_disable",40]`, func(r *rv) { r.RequireAttributes = SEPTVEDisable | 1<<40 }},
		{"deny_attributes", `["perfmon","lass",1]`, func(r *rv) { r.DenyAttributes = Perfmon | LASS | 2 }},
		{"allow_attributes", `[1,40]`, func(r *rv) { r.AllowAttributes = 2 | 1<<40 }},
		{"allow_attributes", `[]`, func(r *rv) { r.AllowAttributes = 0 }},
		{"allow_xfam", `[0,1,63]`, func(r *rv) { r.AllowXFAM = 3 | 1<<63 }},
		{"allow_xfam", `"*"`, func(r *rv) { r.AllowXFAM = math.MaxUint64 }},
		{"require_xfam", `[0,63]`, func(r *rv) { r.RequireXFAM = 1 | 1<<63 }},
		{"mrseam", list48, func(r *rv) { r.MRSEAM = one48 }},
		{"modules", `[{"version":1,"min_svn":7},{"version":3,"min_svn":0}]`, func(r *rv) { r.Modules, r.AllowAnyModule = []ModuleFloor{{1, 7}, {3, 0}}, false }},
		{"modules", `[]`, func(r *rv) { r.Modules, r.AllowAnyModule = []ModuleFloor{}, false }},
		{"allow_any_module", `true`, func(r *rv) { r.AllowAnyModule = true }},
		{"allow_any_module", `false`, func(r *rv) { r.AllowAnyModule = false }},
		{"statuses", `["UpToDate","SWHardeningNeeded","ConfigurationNeeded","ConfigurationAndSWHardeningNeeded","RelaunchAdvised","RelaunchAdvisedConfigurationNeeded","OutOfDate","OutOfDateConfigurationNeeded","NotSupported"]`, func(r *rv) {
			r.Statuses = evidence.OneOf(UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded, RelaunchAdvised, RelaunchAdvisedConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded, NotSupported)
		}},
		{"out_of_date_grace", `4294967295`, func(r *rv) { r.OutOfDateGrace = (1<<32 - 1) * time.Second }},
		{"advisories", `["INTEL-SA-00001"]`, func(r *rv) { r.Advisories = evidence.OneOf("INTEL-SA-00001") }},
		{"deny_advisories", `["INTEL-SA-00001"]`, func(r *rv) { r.DenyAdvisories = []string{"INTEL-SA-00001"} }},
		{"min_tcb_date", `"2026-03-01T12:00:00Z"`, func(r *rv) { r.MinTCBDate = checkedAt }},
		{"min_evaluation_data_number", `18`, func(r *rv) { r.MinEvaluationDataNumber = 18 }},
		{"max_collateral_age", `86400`, func(r *rv) { r.MaxCollateralAge = day }},
		{"max_collateral_age", `0`, func(r *rv) { r.MaxCollateralAge = 0 }},
		{"ppids", list16, func(r *rv) { r.PPIDs = one16 }},
		{"platform_instances", list16, func(r *rv) { r.PlatformInstances = one16 }},
		{"deny_ppids", list16, func(r *rv) { r.DenyPPIDs = [][16]byte{{1}} }},
		{"deny_pck_serials", `["01","00` + strings.Repeat("ff", 20) + `"]`, func(r *rv) {
			r.DenyPCKSerials = [][]byte{{1}, append([]byte{0}, slices.Repeat([]byte{0xFF}, 20)...)}
		}},
		{"allow_dynamic_platform", `true`, func(r *rv) { r.AllowDynamicPlatform = true }},
		{"allow_dynamic_platform", `false`, func(r *rv) { r.AllowDynamicPlatform = false }},
		{"allow_cached_keys", `true`, func(r *rv) { r.AllowCachedKeys = true }},
		{"allow_cached_keys", `false`, func(r *rv) { r.AllowCachedKeys = false }},
		{"allow_smt", `true`, func(r *rv) { r.AllowSMT = true }},
		{"allow_smt", `false`, func(r *rv) { r.AllowSMT = false }},
	}
	tried := map[string]bool{}
	for _, tt := range tests {
		tried[tt.name] = true
		for _, partial := range []bool{false, true} {
			var want ReferenceValues
			if partial {
				want = unconstrained()
			}
			tt.set(&want)
			got, err := DecodeReferenceValues(fmt.Appendf(nil, `{%q:%s}`, tt.name, tt.json), partial)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %s, partial %v:\n got %+v, %v\nwant %+v", tt.name, tt.json, partial, got, err, want)
			}
		}
	}
	for _, m := range new(ReferenceValues).members() {
		if !tried[m.Name] {
			t.Errorf("%s was not tried", m.Name)
		}
	}
}

func TestDecodeNothing(t *testing.T) {
	if rv, err := DecodeReferenceValues([]byte(`{}`), false); err != nil || !reflect.DeepEqual(rv, ReferenceValues{}) {
		t.Errorf("complete: %+v, %v", rv, err)
	}
	rv, err := DecodeReferenceValues([]byte(`{}`), true)
	if err != nil || !reflect.DeepEqual(rv, unconstrained()) {
		t.Errorf("partial: %+v, %v", rv, err)
	}
}

// A partial object that says something about modules is not waived by what it
// leaves out.
func TestDecodePartialModules(t *testing.T) {
	for _, tt := range []struct{ name, json, want string }{
		{"a floor", `{"modules":[{"version":1,"min_svn":7}]}`, ""},
		{"a floor that is not met", `{"modules":[{"version":1,"min_svn":8}]}`, "tdx.module.svn"},
		{"another version", `{"modules":[{"version":3,"min_svn":0}]}`, "tdx.module.version; tdx.module.current_version"},
		{"none", `{"modules":[]}`, "tdx.module.version; tdx.module.current_version"},
		{"any beside a floor", `{"allow_any_module":true,"modules":[{"version":3,"min_svn":0}]}`, ""},
		{"not any", `{"allow_any_module":false}`, "tdx.module.version; tdx.module.current_version"},
	} {
		rv, err := DecodeReferenceValues([]byte(tt.json), true)
		if err != nil {
			t.Fatal(err)
		}
		if ms := rv.Appraise(td().verified()); !sameMismatches(ms, tt.want) {
			t.Errorf("%s: %v, want [%s]", tt.name, ms, tt.want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	h48, h16 := octetsJSON(1, 48), octetsJSON(1, 16)
	for _, tt := range []struct{ name, json, err string }{
		{"nothing", ``, "EOF"},
		{"null", `null`, "null"},
		{"a list", `[]`, "array"},
		{"trailing data", `{}{}`, "trailing"},
		{"unknown", `{"mrtds":[]}`, `unknown member "mrtds"`},
		{"the field's name", `{"MRTD":[]}`, "unknown member"},
		{"duplicate", `{"allow_debug":false,"allow_debug":true}`, "duplicate"},
		{"null member", `{"mrtd":null}`, "null"},
		{"null element", `{"rtmr0":[null]}`, "rtmr0: element 1"},
		{"null bool", `{"allow_smt":null}`, "null"},
		{"null number", `{"min_evaluation_data_number":null}`, "null"},
		{"null seconds", `{"out_of_date_grace":null}`, "null"},
		{"null date", `{"min_tcb_date":null}`, "null"},
		{"null floors", `{"modules":null}`, "null"},

		{"one value for a set", `{"mrtd":"` + h48 + `"}`, "mrtd"},
		{"star in a set", `{"mrtd":["*"]}`, "mrtd"},
		{"star for a list", `{"deny_ppids":"*"}`, "deny_ppids"},
		{"star for modules", `{"modules":"*"}`, "modules"},
		{"star for attributes", `{"allow_attributes":"*"}`, "allow_attributes"},
		{"star for required features", `{"require_xfam":"*"}`, "require_xfam"},
		{"star among features", `{"allow_xfam":["*"]}`, "allow_xfam"},
		{"short", `{"mrtd":["` + h48[2:] + `"]}`, "47 bytes, not 48"},
		{"long", `{"rtmr3":["` + h48 + `00"]}`, "49 bytes, not 48"},
		{"upper case", `{"mrseam":["` + strings.Repeat("A", 96) + `"]}`, "hexadecimal"},
		{"PPID of 48 bytes", `{"ppids":["` + h48 + `"]}`, "not 16"},
		{"denied PPID of 15 bytes", `{"deny_ppids":["` + h16[2:] + `"]}`, "not 16"},
		{"serial number of no bytes", `{"deny_pck_serials":[""]}`, "no bytes"},
		{"serial number of 22 bytes", `{"deny_pck_serials":["` + octetsJSON(0, 22) + `"]}`, "22 bytes"},
		{"serial number in decimal", `{"deny_pck_serials":[17]}`, "deny_pck_serials"},
		{"events of no register", `{"rtmr_events":[{"rtmr":4,"digests":[]}]}`, "RTMR4, not 0 to 3"},
		{"events without digests", `{"rtmr_events":[{"rtmr":1}]}`, "digests is missing"},
		{"events without register", `{"rtmr_events":[{"digests":[]}]}`, "rtmr is missing"},
		{"event without name", `{"runtime_events":[{"payloads":[]}]}`, "name is missing"},
		{"event without payloads", `{"runtime_events":[{"name":"x"}]}`, "payloads is missing"},
		{"event with an empty name", `{"runtime_events":[{"name":"","payloads":[]}]}`, "not the name of an event"},
		{"event with a colon in its name", `{"runtime_events":[{"name":"a:b","payloads":[]}]}`, "not the name of an event"},
		{"payload in upper case", `{"runtime_events":[{"name":"x","payloads":["AA"]}]}`, "hexadecimal"},
		{"body of an enclave", `{"body_types":[1]}`, "body type 1, not 2 or 3"},
		{"body as text", `{"body_types":["3"]}`, "body_types"},
		{"bool as text", `{"allow_debug":"true"}`, "allow_debug"},
		{"unknown attribute", `{"require_attributes":["tud"]}`, "unknown bit"},
		{"attribute by number that has a name", `{"deny_attributes":[0]}`, "has a name"},
		{"attribute 64", `{"deny_attributes":[64]}`, "bit 64"},
		{"allowed attribute by name", `{"allow_attributes":["debug"]}`, "allow_attributes"},
		{"allowed attribute that has a name", `{"allow_attributes":[29]}`, "has a name"},
		{"attributes as a number", `{"allow_attributes":2}`, "allow_attributes"},
		{"feature 64", `{"allow_xfam":[64]}`, "bit 64"},
		{"features as a mask", `{"allow_xfam":393959}`, "allow_xfam"},
		{"a floor without version", `{"modules":[{"min_svn":1}]}`, "version is missing"},
		{"a floor without SVN", `{"modules":[{"version":1}]}`, "min_svn is missing"},
		{"a floor with more", `{"modules":[{"version":1,"min_svn":1,"id":"TDX_01"}]}`, `unknown member "id"`},
		{"a floor out of range", `{"modules":[{"version":1,"min_svn":256}]}`, "min_svn"},
		{"Revoked", `{"statuses":["UpToDate","Revoked"]}`, "Revoked is never accepted"},
		{"status in lower case", `{"statuses":["uptodate"]}`, "unknown name"},
		{"no status", `{"statuses":[""]}`, "unknown name"},
		{"status of an older version", `{"statuses":["TDRelaunchAdvised"]}`, "unknown name"},
		{"negative grace", `{"out_of_date_grace":-1}`, "out_of_date_grace"},
		{"grace too long", `{"out_of_date_grace":4294967296}`, "out_of_date_grace"},
		{"grace in words", `{"out_of_date_grace":"30d"}`, "out_of_date_grace"},
		{"empty advisory", `{"advisories":[""]}`, "not the name"},
		{"advisory with a line break", `{"deny_advisories":["A\n"]}`, "not the name"},
		{"date without time", `{"min_tcb_date":"2026-03-01"}`, "min_tcb_date"},
		{"date as a number", `{"min_tcb_date":1772366400}`, "min_tcb_date"},
		{"negative age", `{"max_collateral_age":-1}`, "max_collateral_age"},
	} {
		for _, partial := range []bool{false, true} {
			rv, err := DecodeReferenceValues([]byte(tt.json), partial)
			if err == nil || !strings.HasPrefix(err.Error(), "tdx: ") || !strings.Contains(err.Error(), tt.err) || !reflect.DeepEqual(rv, ReferenceValues{}) {
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

// docs/policy-tdx.md has a row for each member, in their order, and every status
// and attribute.
func TestMembersAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/policy-tdx.md")
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
	names := []string{string(UpToDate), string(SWHardeningNeeded), string(ConfigurationNeeded), string(ConfigurationAndSWHardeningNeeded), string(RelaunchAdvised), string(RelaunchAdvisedConfigurationNeeded), string(OutOfDate), string(OutOfDateConfigurationNeeded), string(NotSupported), string(Revoked)}
	for _, f := range attributeFlags() {
		names = append(names, f.Name)
	}
	for _, name := range names {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("%s is not documented", name)
		}
	}
}

func FuzzDecodeReferenceValues(f *testing.F) {
	for _, seed := range []string{
		`{}`,
		`{"mrtd":"*","rtmr0":["` + octetsJSON(1, 48) + `"],"body_types":[2,3],"allow_service_tds":[]}`,
		`{"require_attributes":["sept_ve_disable"],"deny_attributes":["perfmon",1],"allow_attributes":[1],"allow_xfam":"*","require_xfam":[0,1]}`,
		`{"rtmr_events":[{"rtmr":1,"digests":"*"}],"runtime_events":[{"name":"x","payloads":["00"]}]}`,
		`{"modules":[{"version":1,"min_svn":7}],"statuses":["UpToDate"],"out_of_date_grace":2592000,"advisories":"*","deny_advisories":["INTEL-SA-00001"]}`,
		`{"min_tcb_date":"2026-03-01T12:00:00Z","min_evaluation_data_number":18,"ppids":["` + octetsJSON(1, 16) + `"],"deny_pck_serials":["01"]}`,
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	good := td().verified()
	revoked := td()
	revoked.TCB.QE.Status = Revoked
	debug := td()
	debug.put(abi.TDAttributes, 1)
	f.Fuzz(func(t *testing.T, object []byte, partial bool) {
		rv, err := DecodeReferenceValues(object, partial)
		if err != nil {
			return
		}
		if len(rv.Appraise(revoked.verified())) == 0 {
			t.Error("Revoked is accepted")
		}
		if !rv.AllowDebug && len(rv.Appraise(debug.verified())) == 0 {
			t.Error("debug is accepted")
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
