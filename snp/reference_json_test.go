package snp

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

const (
	minimumJSON = `"reported":{"fmc":2,"bootloader":3,"tee":4,"firmware":5,"microcode":6},"committed":"*","launch":{"fmc":0,"bootloader":0,"tee":0,"firmware":0,"microcode":1}`
	milanJSON   = `"reported":{"bootloader":3,"tee":4,"firmware":5,"microcode":6},"committed":"*","launch":"*"`
	bareFloor   = `"family":26,"min_model":2,"max_model":17,"steppings":[1],` + minimumJSON
	floorJSON   = `{` + bareFloor + `}`
	rowsJSON    = `[{` + bareFloor + `,"bulletin":"AMD-SB-3019","confirmed":"bulletin","note":"read on 2026-05-30"},` +
		`{` + bareFloor + `,"bulletin":"AMD-SB-3020","confirmed":"release-notes","note":"PI 1.0.0.9"},` +
		`{` + bareFloor + `,"bulletin":"AMD-SB-3027","confirmed":"unconfirmed","note":"a blog"}]`
	tcbFloorsJSON = `{"tcb_floors":"teebroker/1","name":"amd","version":"3","date":"2026-06-01","rows":` + rowsJSON + `}`

	v2JSON = `{"line":"Milan",` + milanJSON + `}`
)

// octets returns the hexadecimal of n bytes, the first of which is b.
func octetsJSON(b byte, n int) string { return fmt.Sprintf("%02x", b) + strings.Repeat("00", n-1) }

// TestDecodeMembers decodes one member at a time: into its field, and nothing
// but its field, of complete and of partial ReferenceValues.
func TestDecodeMembers(t *testing.T) {
	type rv = ReferenceValues
	lowest := TCB{Line: Turin}
	floor := Floor{0x1A, 2, 0x11, evidence.OneOf[uint8](1), Minimum{turinTCB, lowest, TCB{Line: Turin, Microcode: 1}}}
	tcbFloors := TCBFloors{
		Name: "amd", Version: "3", Date: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
		Rows: []TCBFloor{
			{floor, "AMD-SB-3019", ByBulletin, "read on 2026-05-30"},
			{floor, "AMD-SB-3020", ByReleaseNotes, "PI 1.0.0.9"},
			{floor, "AMD-SB-3027", Unconfirmed, "a blog"},
		},
	}
	lineFloor := LineFloor{Milan, Minimum{milanTCB, TCB{Line: Milan}, TCB{Line: Milan}}}
	tests := []struct {
		name, json string
		set        func(*rv)
	}{
		{"measurements", `["` + octetsJSON(1, 48) + `","` + octetsJSON(2, 48) + `"]`, func(r *rv) { r.Measurements = evidence.OneOf([48]byte{1}, [48]byte{2}) }},
		{"measurements", `[]`, func(r *rv) { r.Measurements = evidence.OneOf([][48]byte{}...) }},
		{"measurements", `"*"`, func(r *rv) { r.Measurements = evidence.Anything[[48]byte]() }},
		{"vmpls", `[0,3]`, func(r *rv) { r.VMPLs = evidence.OneOf[uint32](0, 3) }},
		{"host_data", `["` + octetsJSON(1, 32) + `"]`, func(r *rv) { r.HostData = evidence.OneOf([32]byte{1}) }},
		{"id_keys", `["` + octetsJSON(1, 48) + `"]`, func(r *rv) { r.IDKeys = evidence.OneOf([48]byte{1}) }},
		{"author_keys", `["` + octetsJSON(0, 48) + `"]`, func(r *rv) { r.AuthorKeys = evidence.OneOf([48]byte{}) }},
		{"family_ids", `["` + octetsJSON(1, 16) + `"]`, func(r *rv) { r.FamilyIDs = evidence.OneOf([16]byte{1}) }},
		{"image_ids", `["` + octetsJSON(1, 16) + `"]`, func(r *rv) { r.ImageIDs = evidence.OneOf([16]byte{1}) }},
		{"min_guest_svn", `4294967295`, func(r *rv) { r.MinGuestSVN = 1<<32 - 1 }},
		{"lines", `["Milan","Genoa","Turin"]`, func(r *rv) { r.Lines = evidence.OneOf(Milan, Genoa, Turin) }},
		{"keys", `["VCEK","VLEK"]`, func(r *rv) { r.Keys = evidence.OneOf(VCEK, VLEK) }},
		{"chips", `["` + octetsJSON(1, 64) + `"]`, func(r *rv) { r.Chips = evidence.OneOf(ChipID{1}) }},
		{"deny_chips", `["` + octetsJSON(1, 64) + `"]`, func(r *rv) { r.DenyChips = []ChipID{{1}} }},
		{"csps", `["CN=csp"]`, func(r *rv) { r.CSPs = evidence.OneOf("CN=csp") }},
		{"floors", `[` + floorJSON + `]`, func(r *rv) { r.Floors, r.AllowAnyTCB = []Floor{floor}, false }},
		{"floors", `[]`, func(r *rv) { r.Floors, r.AllowAnyTCB = []Floor{}, false }},
		{"tcb_floors", tcbFloorsJSON, func(r *rv) { r.TCBFloors, r.AllowAnyTCB = tcbFloors, false }},
		{"allow_unconfirmed_floors", `true`, func(r *rv) { r.AllowUnconfirmedFloors = true }},
		{"v2_floors", `[` + v2JSON + `]`, func(r *rv) { r.V2Floors, r.AllowAnyV2TCB = []LineFloor{lineFloor}, false }},
		{"v2_floors", `[]`, func(r *rv) { r.V2Floors, r.AllowAnyV2TCB = []LineFloor{}, false }},
		{"allow_any_tcb", `true`, func(r *rv) { r.AllowAnyTCB = true }},
		{"allow_any_tcb", `false`, func(r *rv) { r.AllowAnyTCB = false }},
		{"allow_any_v2_tcb", `true`, func(r *rv) { r.AllowAnyV2TCB = true }},
		{"allow_any_v2_tcb", `false`, func(r *rv) { r.AllowAnyV2TCB = false }},
		{"allow_debug", `true`, func(r *rv) { r.AllowDebug = true }},
		{"allow_debug", `false`, func(r *rv) { r.AllowDebug = false }},
		{"allow_migration", `true`, func(r *rv) { r.AllowMigration = true }},
		{"allow_migration", `false`, func(r *rv) { r.AllowMigration = false }},
		{"allow_cxl", `true`, func(r *rv) { r.AllowCXL = true }},
		{"allow_cxl", `false`, func(r *rv) { r.AllowCXL = false }},
		{"allow_smt", `true`, func(r *rv) { r.AllowSMT = true }},
		{"allow_smt", `false`, func(r *rv) { r.AllowSMT = false }},
		{"min_abi", `"1.51"`, func(r *rv) { r.MinABI = ABI{1, 51} }},
		{"min_abi", `"0.255"`, func(r *rv) { r.MinABI = ABI{0, 255} }},
		{"require_policy", `["single_socket","page_swap_disable"]`, func(r *rv) { r.RequirePolicy = SingleSocket | PageSwapDisable }},
		{"require_platform", `["alias_check_complete",8]`, func(r *rv) { r.RequirePlatform = AliasCheckComplete | 1<<8 }},
		{"deny_platform", `["smt_enabled"]`, func(r *rv) { r.DenyPlatform = SMTEnabled }},
		{"allow_platform", `[8,63]`, func(r *rv) { r.AllowPlatform = 1<<8 | 1<<63 }},
		{"allow_platform", `[]`, func(r *rv) { r.AllowPlatform = 0 }},
		{"min_launch_mitigations", `[0,63]`, func(r *rv) { r.MinLaunchMitigations = 1 | 1<<63 }},
		{"min_current_mitigations", `[1]`, func(r *rv) { r.MinCurrentMitigations = 2 }},
		{"require_committed", `true`, func(r *rv) { r.RequireCommitted = true }},
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
	v2 := turin()
	milanV2(v2)
	for name, f := range map[string]*fields{"version 5": turin(), "version 2": v2} {
		if ms := rv.Appraise(f.verified()); len(ms) != 0 {
			t.Errorf("partial, %s: %v", name, ms)
		}
	}
}

// A partial object that says something about TCBs is not waived by what it
// leaves out.
func TestDecodePartialFloors(t *testing.T) {
	for _, tt := range []struct {
		name, json string
		report     func(*fields)
		want       string
	}{
		{"floors, another model", `{"floors":[` + floorJSON + `]}`, func(f *fields) { f.put(0x189, 1) }, "snp.cpu.model"},
		{"floors, version 2", `{"floors":[` + floorJSON + `]}`, milanV2, ""},
		{"no floors at all", `{"floors":[]}`, nil, "snp.cpu.family"},
		{"no version 2", `{"v2_floors":[]}`, milanV2, "snp.version"},
		{"no version 2, version 5", `{"v2_floors":[]}`, nil, ""},
		{"any TCB beside floors", `{"allow_any_tcb":true,"floors":[` + floorJSON + `]}`, func(f *fields) { f.put(0x189, 1) }, ""},
		{"any TCB of version 2 beside floors", `{"allow_any_v2_tcb":true,"v2_floors":[]}`, milanV2, ""},
		{"not any TCB of version 2", `{"allow_any_v2_tcb":false}`, milanV2, "snp.version"},
		{"not any TCB", `{"allow_any_tcb":false}`, nil, "snp.cpu.family"},
	} {
		rv, err := DecodeReferenceValues([]byte(tt.json), true)
		if err != nil {
			t.Fatal(err)
		}
		f := turin()
		if tt.report != nil {
			tt.report(f)
		}
		if ms := rv.Appraise(f.verified()); !sameMismatches(ms, tt.want) {
			t.Errorf("%s: %v, want [%s]", tt.name, ms, tt.want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	h48 := octetsJSON(1, 48)
	edit := func(s, old, new string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("%s is not in %s", old, s)
		}
		return strings.Replace(s, old, new, 1)
	}
	floor := func(old, new string) string { return `{"floors":[` + edit(floorJSON, old, new) + `]}` }
	v2 := func(old, new string) string { return `{"v2_floors":[` + edit(v2JSON, old, new) + `]}` }
	for _, tt := range []struct{ name, json, err string }{
		{"nothing", ``, "EOF"},
		{"null", `null`, "null"},
		{"a list", `[]`, "array"},
		{"a string", `"*"`, "json"},
		{"trailing data", `{}{}`, "trailing"},
		{"unknown", `{"measurement":[]}`, `unknown member "measurement"`},
		{"the field's name", `{"Measurements":[]}`, "unknown member"},
		{"case variant", `{"measurementS":[]}`, "unknown member"},
		{"duplicate", `{"allow_debug":false,"allow_debug":true}`, "duplicate"},
		{"duplicate by escape", `{"allow_debug":false,"allow_d\u0065bug":true}`, "duplicate"},
		{"case-variant duplicate", `{"allow_debug":false,"Allow_debug":true}`, "duplicate"},
		{"null member", `{"measurements":null}`, "null"},
		{"null element", `{"measurements":[null]}`, "measurements: element 1"},
		{"null bool", `{"allow_debug":null}`, "null"},
		{"null number", `{"min_guest_svn":null}`, "null"},
		{"null floors", `{"floors":null}`, "null"},
		{"null floor", `{"floors":[null]}`, "null"},
		{"lone surrogate", `{"csps":["\ud800"]}`, "surrogate"},

		{"one value for a set", `{"measurements":"` + h48 + `"}`, "measurements"},
		{"object for a set", `{"measurements":{}}`, "measurements"},
		{"star in a set", `{"measurements":["*"]}`, "measurements"},
		{"star for a list", `{"deny_chips":"*"}`, "deny_chips"},
		{"star for floors", `{"floors":"*"}`, "floors"},
		{"star for bits", `{"allow_platform":"*"}`, "allow_platform"},
		{"escaped star", `{"vmpls":"\u002a"}`, "vmpls"},
		{"short", `{"measurements":["` + h48[2:] + `"]}`, "47 bytes, not 48"},
		{"long", `{"measurements":["` + h48 + `00"]}`, "49 bytes, not 48"},
		{"empty digest", `{"measurements":[""]}`, "0 bytes, not 48"},
		{"upper case", `{"measurements":["` + strings.Repeat("A", 96) + `"]}`, "hexadecimal"},
		{"number for a digest", `{"measurements":[1]}`, "measurements"},
		{"list for a digest", `{"measurements":[[1]]}`, "measurements"},
		{"host data of 48 bytes", `{"host_data":["` + h48 + `"]}`, "not 32"},
		{"family id of 48 bytes", `{"family_ids":["` + h48 + `"]}`, "not 16"},
		{"chip of 8 bytes", `{"chips":["` + octetsJSON(1, 8) + `"]}`, "not 64"},
		{"chip zero", `{"chips":["` + octetsJSON(0, 64) + `"]}`, "zero"},
		{"denied chip zero", `{"deny_chips":["` + octetsJSON(0, 64) + `"]}`, "zero"},
		{"VMPL 4", `{"vmpls":[4]}`, "VMPL 4"},
		{"VMPL of the host", `{"vmpls":[4294967295]}`, "VMPL"},
		{"VMPL as text", `{"vmpls":["0"]}`, "vmpls"},
		{"negative", `{"min_guest_svn":-1}`, "min_guest_svn"},
		{"too large", `{"min_guest_svn":4294967296}`, "min_guest_svn"},
		{"fraction", `{"min_guest_svn":1.5}`, "min_guest_svn"},
		{"line in lower case", `{"lines":["genoa"]}`, "unknown name"},
		{"line none", `{"lines":["none"]}`, "unknown name"},
		{"code name that is no line", `{"lines":["Bergamo"]}`, "unknown name"},
		{"key none", `{"keys":["none"]}`, "unknown name"},
		{"key as a number", `{"keys":[1]}`, "keys"},
		{"empty CSP", `{"csps":[""]}`, "empty"},
		{"bool as text", `{"allow_debug":"true"}`, "allow_debug"},
		{"bool as a number", `{"require_committed":1}`, "require_committed"},

		{"ABI as a number", `{"min_abi":1.51}`, "min_abi"},
		{"ABI without minor", `{"min_abi":"1"}`, "min_abi"},
		{"ABI of three parts", `{"min_abi":"1.51.1"}`, "min_abi"},
		{"ABI with leading zero", `{"min_abi":"1.051"}`, "min_abi"},
		{"ABI with a space", `{"min_abi":"1. 51"}`, "min_abi"},
		{"ABI too large", `{"min_abi":"1.256"}`, "min_abi"},
		{"ABI empty", `{"min_abi":""}`, "min_abi"},
		{"unknown policy bit", `{"require_policy":["abi_major"]}`, "unknown bit"},
		{"platform bit as a policy bit", `{"require_policy":["smt_enabled"]}`, "unknown bit"},
		{"policy bit by number", `{"require_policy":[20]}`, "require_policy"},
		{"policy bits as a number", `{"require_policy":1048576}`, "require_policy"},
		{"unknown platform bit", `{"deny_platform":["smt"]}`, "unknown bit"},
		{"platform bit by number that has a name", `{"deny_platform":[0]}`, "has a name"},
		{"platform bit 64", `{"require_platform":[64]}`, "bit 64"},
		{"allowed platform bit that has a name", `{"allow_platform":[7]}`, "has a name"},
		{"allowed platform bit by name", `{"allow_platform":["smt_enabled"]}`, "allow_platform"},
		{"mitigation 64", `{"min_launch_mitigations":[64]}`, "bit 64"},
		{"mitigations as a number", `{"min_current_mitigations":3}`, "min_current_mitigations"},

		{"unknown in a floor", floor(`"family"`, `"line":"Turin","family"`), `unknown member "line"`},
		{"duplicate in a floor", floor(`"family"`, `"family":26,"family"`), "duplicate"},
		{"no family", floor(`"family":26,`, ``), "family is missing"},
		{"no least model", floor(`"min_model":2,`, ``), "min_model is missing"},
		{"no greatest model", floor(`"max_model":17,`, ``), "max_model is missing"},
		{"no steppings", floor(`"steppings":[1],`, ``), "steppings is missing"},
		{"no committed", floor(`"committed":"*",`, ``), "committed is missing"},
		{"unknown family", floor(`"family":26`, `"family":24`), "not processors of one line"},
		{"unknown model", floor(`"max_model":17`, `"max_model":18`), "not processors of one line"},
		{"one model", floor(`"min_model":2`, `"min_model":17`), ""},
		{"models the wrong way round", floor(`"max_model":17`, `"max_model":1`), "not processors of one line"},
		{"models of two lines", floor(`"family":26,"min_model":2`, `"family":25,"min_model":15`), "not processors of one line"},
		{"null TCB", floor(`"committed":"*"`, `"committed":null`), "committed: json: null"},
		{"TCB as a list", floor(`"committed":"*"`, `"committed":[]`), "committed"},
		{"TCB as text", floor(`"committed":"*"`, `"committed":""`), "committed"},
		{"no FMC", floor(`"fmc":2,`, ``), "reported: fmc is missing"},
		{"no bootloader", floor(`"bootloader":3,`, ``), "reported: bootloader is missing"},
		{"no TEE", floor(`"tee":4,`, ``), "reported: tee is missing"},
		{"no firmware", floor(`"firmware":5,`, ``), "reported: firmware is missing"},
		{"no microcode", floor(`,"microcode":6`, ``), "reported: microcode is missing"},
		{"component too large", floor(`"tee":4`, `"tee":256`), "tee"},
		{"unknown component", floor(`"tee":4`, `"tee":4,"snp":5`), `unknown member "snp"`},
		{"launch TCB", floor(`"microcode":1`, `"microcode":"1"`), "launch: microcode"},
		{"no line", v2(`"line":"Milan",`, ``), "line is missing"},
		{"line none in a floor", v2(`Milan`, `none`), "unknown name"},
		{"FMC on Milan", v2(`"tee":4`, `"tee":4,"fmc":0`), `unknown member "fmc"`},
		{"no launch", v2(`,"launch":"*"`, ``), "launch is missing"},
	} {
		for _, partial := range []bool{false, true} {
			rv, err := DecodeReferenceValues([]byte(tt.json), partial)
			if tt.err == "" { // the good neighbour of a bad one
				if err != nil {
					t.Errorf("%s: %v", tt.name, err)
				}
				continue
			}
			if err == nil || !strings.HasPrefix(err.Error(), "snp: ") || !strings.Contains(err.Error(), tt.err) || !reflect.DeepEqual(rv, ReferenceValues{}) {
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

// docs/policy.md has a row for each member and each bit, in their order.
func TestMembersAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "## Members for `snp-report`")
	section, _, _ = strings.Cut(section, "\n## ")
	var rows []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\|").FindAllStringSubmatch(section, -1) {
		rows = append(rows, row[1])
	}
	var members []string
	for _, m := range new(ReferenceValues).members() {
		members = append(members, m.Name)
	}
	if !slices.Equal(rows, members) {
		t.Errorf("documented %v\n  members %v", rows, members)
	}
	for _, f := range policyFlags() {
		if !strings.Contains(section, "`"+f.Name+"`") {
			t.Errorf("bit %s of POLICY is not documented", f.Name)
		}
	}
	for _, f := range platformFlags() {
		if !strings.Contains(section, "`"+f.Name+"`") {
			t.Errorf("bit %s of PLATFORM_INFO is not documented", f.Name)
		}
	}
}

func FuzzDecodeReferenceValues(f *testing.F) {
	for _, seed := range []string{
		`{}`,
		`{"floors":[` + floorJSON + `],"v2_floors":[` + v2JSON + `],"min_abi":"1.51"}`,
		`{"measurements":"*","vmpls":[0],"lines":["Genoa"],"keys":["VCEK"],"csps":["x"],"host_data":["` + octetsJSON(1, 32) + `"]}`,
		`{"require_policy":["single_socket"],"require_platform":["alias_check_complete",8],"allow_platform":[8],"min_launch_mitigations":[0]}`,
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	good := turin().verified()
	f.Fuzz(func(t *testing.T, object []byte, partial bool) {
		rv, err := DecodeReferenceValues(object, partial)
		if err != nil {
			return
		}
		rv.Appraise(good)
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
