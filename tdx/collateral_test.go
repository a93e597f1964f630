package tdx_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/internal/abi"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// A Source that fails is not one that has nothing.
func TestVerifySaysWhyTheSourceFailed(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	outage := errors.New("no route to Intel")
	cfg.Source = failing{outage}
	got, err := f.verifyQuote(cfg, f.quote())
	wantRefused(t, got, err, evidence.Unavailable, "revocation")
	if !errors.Is(err, outage) {
		t.Errorf("the cause is lost: %v", err)
	}
}

type failing struct{ err error }

func (s failing) Get(context.Context, string) ([]evidence.Collateral, error) { return nil, s.err }

func TestVerifyRefusesDocuments(t *testing.T) {
	levels := func(o object) []any { return o["tcbLevels"].([]any) }
	first := func(o object) object { return levels(o)[0].(object) }
	platform := func(f *fake) object { return f.info }
	module := func(f *fake) object { return f.info["tdxModuleIdentities"].([]any)[0].(object) }
	identity := func(f *fake) object { return f.identity }
	type edit func(*fake)
	cases := map[string]edit{
		"info: another id":                   func(f *fake) { f.info["id"] = "SGX" },
		"info: version 2":                    func(f *fake) { f.info["version"] = 2 },
		"info: version 4":                    func(f *fake) { f.info["version"] = 4 },
		"info: tcbType 1":                    func(f *fake) { f.info["tcbType"] = 1 },
		"info: no tcbType":                   func(f *fake) { delete(f.info, "tcbType") },
		"info: another FMSPC":                func(f *fake) { f.info["fmspc"] = "90c06f010204" },
		"info: a short FMSPC":                func(f *fake) { f.info["fmspc"] = "90c06f0102" },
		"info: another PCEID":                func(f *fake) { f.info["pceId"] = "0001" },
		"info: no module":                    func(f *fake) { delete(f.info, "tdxModule") },
		"info: no levels":                    func(f *fake) { f.info["tcbLevels"] = []any{} },
		"info: too many levels":              func(f *fake) { f.info["tcbLevels"] = platformLevels(257) },
		"info: two levels of one TCB":        func(f *fake) { f.info["tcbLevels"] = append(levels(f.info), levels(f.info)[0]) },
		"info: 15 components":                func(f *fake) { tcbOf(first(f.info))["sgxtcbcomponents"] = svns()[1:] },
		"info: 17 components":                func(f *fake) { tcbOf(first(f.info))["tdxtcbcomponents"] = append(svns(), object{"svn": 0}) },
		"info: a component without svn":      func(f *fake) { tcbOf(first(f.info))["sgxtcbcomponents"].([]any)[3] = object{} },
		"info: an svn of 256":                func(f *fake) { tcbOf(first(f.info))["sgxtcbcomponents"].([]any)[3] = object{"svn": 256} },
		"info: a negative svn":               func(f *fake) { tcbOf(first(f.info))["sgxtcbcomponents"].([]any)[3] = object{"svn": -1} },
		"info: no pcesvn":                    func(f *fake) { delete(tcbOf(first(f.info)), "pcesvn") },
		"info: null for an object":           func(f *fake) { first(f.info)["tcb"] = nil },
		"info: an advisory that is no name":  func(f *fake) { first(f.info)["advisoryIDs"] = []any{"INTEL\n"} },
		"info: an advisory that is too long": func(f *fake) { first(f.info)["advisoryIDs"] = []any{strings.Repeat("A", 65)} },
		"info: too many advisories":          func(f *fake) { first(f.info)["advisoryIDs"] = slices.Repeat([]any{"INTEL-SA-1"}, 257) },
		"module: another name":               func(f *fake) { module(f)["id"] = "TDX-01" },
		"module: one digit":                  func(f *fake) { module(f)["id"] = "TDX_1" },
		"module: of SGX":                     func(f *fake) { module(f)["id"] = "SGX_01" },
		"module: twice in another case": func(f *fake) {
			again := maps.Clone(module(f))
			again["id"] = "tdx_01"
			f.info["tdxModuleIdentities"] = []any{module(f), again}
		},
		"module: no digits":                  func(f *fake) { module(f)["id"] = "TDX_" },
		"module: twice":                      func(f *fake) { f.info["tdxModuleIdentities"] = []any{module(f), module(f)} },
		"module: too many":                   func(f *fake) { f.info["tdxModuleIdentities"] = modules(f, 65) },
		"module: SWHardeningNeeded":          func(f *fake) { first(module(f))["tcbStatus"] = "SWHardeningNeeded" },
		"module: mrsigner of another size":   func(f *fake) { module(f)["mrsigner"] = "00" },
		"module: attributes not hexadecimal": func(f *fake) { module(f)["attributes"] = "zz00000000000000" },
		"identity: of an SGX enclave":        func(f *fake) { f.identity["id"] = "QE" },
		"identity: version 1":                func(f *fake) { f.identity["version"] = 1 },
		"identity: no isvprodid":             func(f *fake) { delete(f.identity, "isvprodid") },
		"identity: no mask":                  func(f *fake) { delete(f.identity, "attributesMask") },
		"identity: a short mask":             func(f *fake) { f.identity["attributesMask"] = "FB" },
		"identity: an empty MISCSELECT":      func(f *fake) { f.identity["miscselect"] = "" },
		"identity: an empty signer":          func(f *fake) { f.identity["mrsigner"] = "" },
	}
	for part, of := range map[string]func(*fake) object{"info": platform, "identity": identity} {
		for claim, edit := range map[string]func(object){
			"no issueDate":              func(o object) { delete(o, "issueDate") },
			"issueDate of null":         func(o object) { o["issueDate"] = nil },
			"issueDate of another form": func(o object) { o["issueDate"] = "2026-02-20" },
			"no nextUpdate":             func(o object) { delete(o, "nextUpdate") },
			"nextUpdate not after":      func(o object) { o["nextUpdate"] = o["issueDate"] },
			"no evaluation number":      func(o object) { delete(o, "tcbEvaluationDataNumber") },
			"a member in another case":  func(o object) { o["TcbLevels"] = []any{} },
		} {
			cases[part+": "+claim] = func(f *fake) { edit(of(f)) }
		}
	}
	for part, of := range map[string]func(*fake) object{"info": platform, "module": module, "identity": identity} {
		for claim, edit := range map[string]func(object){
			"an unknown status":    func(l object) { l["tcbStatus"] = "Fine" },
			"NotSupported":         func(l object) { l["tcbStatus"] = "NotSupported" },
			"status in lower case": func(l object) { l["tcbStatus"] = "uptodate" },
			"no status":            func(l object) { delete(l, "tcbStatus") },
			"no date":              func(l object) { delete(l, "tcbDate") },
			"no tcb":               func(l object) { delete(l, "tcb") },
		} {
			cases[part+": a level with "+claim] = func(f *fake) { edit(first(of(f))) }
		}
	}
	for part, of := range map[string]func(*fake) object{"module": module, "identity": identity} {
		cases[part+": no levels"] = func(f *fake) { delete(of(f), "tcbLevels") }
		cases[part+": an empty list of levels"] = func(f *fake) { of(f)["tcbLevels"] = []any{} }
		cases[part+": too many levels"] = func(f *fake) { of(f)["tcbLevels"] = enclaveLevels(257) }
		cases[part+": two levels of one svn"] = func(f *fake) { of(f)["tcbLevels"] = append(levels(of(f)), first(of(f))) }
		cases[part+": isvsvn of 65536"] = func(f *fake) { tcbOf(first(of(f)))["isvsvn"] = 65536 }
		cases[part+": a negative isvsvn"] = func(f *fake) { tcbOf(first(of(f)))["isvsvn"] = -1 }
		cases[part+": no isvsvn"] = func(f *fake) { first(of(f))["tcb"] = object{} }
	}
	for claim, edit := range cases {
		t.Run(claim, func(t *testing.T) {
			f := newFake(t)
			edit(f)
			got, err := f.verify()
			wantRefused(t, got, err, evidence.Unavailable, "tcb")
		})
	}
}

func tcbOf(level object) object { return level["tcb"].(object) }

// platformLevels returns n different levels of a platform, as short as can be.
func platformLevels(n int) []any {
	none := slices.Repeat([]any{object{"svn": 0}}, 16)
	return listOf(n, func(i int) any {
		return level("UpToDate", "2025-01-01", object{"sgxtcbcomponents": none, "pcesvn": i, "tdxtcbcomponents": none})
	})
}

// enclaveLevels returns n different levels of an enclave or module.
func enclaveLevels(n int) []any {
	return listOf(n, func(i int) any { return level("UpToDate", "2025-01-01", object{"isvsvn": i}) })
}

// modules returns n identities of different versions, of which one is that of f.
func modules(f *fake, n int) []any {
	one := f.info["tdxModuleIdentities"].([]any)[0].(object)
	return listOf(n, func(i int) any {
		m := maps.Clone(one)
		m["id"] = fmt.Sprintf("TDX_%02X", i)
		return m
	})
}

// As much as there may be is taken.
func TestLimitsOfDocuments(t *testing.T) {
	for claim, edit := range map[string]func(*fake){
		"levels":         func(f *fake) { f.info["tcbLevels"] = platformLevels(256) },
		"modules":        func(f *fake) { f.info["tdxModuleIdentities"] = modules(f, 64) },
		"module levels":  func(f *fake) { f.module()["tcbLevels"] = enclaveLevels(256) },
		"QE levels":      func(f *fake) { f.identity["tcbLevels"] = enclaveLevels(256) },
		"advisories":     func(f *fake) { f.top()["advisoryIDs"] = slices.Repeat([]any{"INTEL-SA-1"}, 256) },
		"advisory names": func(f *fake) { f.top()["advisoryIDs"] = []any{strings.Repeat("A", 64)} },
	} {
		f := newFake(t)
		edit(f)
		if _, err := f.verify(); err != nil {
			t.Errorf("%s: %v", claim, err)
		}
	}
}

func listOf(n int, element func(i int) any) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = element(i)
	}
	return list
}

// What two readers could read differently is refused, whoever signed it.
func TestVerifyRefusesAmbiguousDocuments(t *testing.T) {
	f := newFake(t)
	body, err := json.Marshal(f.info)
	if err != nil {
		t.Fatal(err)
	}
	name := tdx.TCBInfoName(fakeFMSPC)
	for _, c := range []struct {
		claim string
		c     evidence.Collateral
	}{
		{"a duplicate member", f.intel.Sign(tdxtest.MemberTCBInfo, bytes.Replace(body, []byte(`"id":`), []byte(`"id":"TDX","id":`), 1))},
		{"a duplicate member in another case", f.intel.Sign(tdxtest.MemberTCBInfo, bytes.Replace(body, []byte(`"id":`), []byte(`"ID":"TDX","id":`), 1))},
		{"invalid UTF-8", f.intel.Sign(tdxtest.MemberTCBInfo, bytes.Replace(body, []byte(`BIOS`), []byte("BIO\xff"), 1))},
		{"a third member beside", edited(f.intel.Sign(tdxtest.MemberTCBInfo, body), `{"tcbInfo":`, `{"more":1,"tcbInfo":`)},
		{"two documents", edited(f.intel.Sign(tdxtest.MemberTCBInfo, body), `{"tcbInfo":`, `{"tcbInfo":{},"tcbInfo":`)},
		{"two signatures", edited(f.intel.Sign(tdxtest.MemberTCBInfo, body), `,"signature":`, `,"signature":"00","signature":`)},
		{"another name", edited(f.intel.Sign(tdxtest.MemberTCBInfo, body), `{"tcbInfo":`, `{"TcbInfo":`)},
		{"a short signature", edited(f.intel.Sign(tdxtest.MemberTCBInfo, body), `"}`, ``, `00"}`, ``)},
		{"a signature that is no number", notHex(f.intel.Sign(tdxtest.MemberTCBInfo, body))},
		{"a signature that is a number", edited(f.intel.Sign(tdxtest.MemberTCBInfo, body), `,"signature":"`, `,"signature":1,"x":"`)},
	} {
		cfg := f.config()
		cfg.Source.(files)[name] = []evidence.Collateral{c.c}
		got, err := f.verifyQuote(cfg, f.quote())
		t.Run(c.claim, func(t *testing.T) { wantRefused(t, got, err, evidence.Unavailable, "tcb") })
	}
	// The signature is over the bytes as they stand, whatever white space is in them.
	var spaced bytes.Buffer
	if err := json.Indent(&spaced, body, " ", "\t"); err != nil {
		t.Fatal(err)
	}
	cfg := f.config()
	cfg.Source.(files)[name] = []evidence.Collateral{f.intel.Sign(tdxtest.MemberTCBInfo, spaced.Bytes())}
	if _, err := f.verifyQuote(cfg, f.quote()); err != nil {
		t.Errorf("with white space: %v", err)
	}
}

// edited replaces texts in a document after it was signed.
func edited(c evidence.Collateral, texts ...string) evidence.Collateral {
	c.Data = []byte(strings.NewReplacer(texts...).Replace(string(c.Data)))
	return c
}

// notHex makes the last digit of the signature none.
func notHex(c evidence.Collateral) evidence.Collateral {
	c.Data[len(c.Data)-len(`x"}`)] = 'x'
	return c
}

// signs makes a byte of the TD report another one.
func (f *fake) signs(at int, b byte) {
	f.td.Edit = func(signed []byte) { signed[abi.BodyV5+at] = b }
}

func TestVerifyRefusesForeignEnclavesAndModules(t *testing.T) {
	for _, c := range []struct {
		claim, field string
		edit         func(*fake)
	}{
		{"MISCSELECT", "MISCSELECT", func(f *fake) { f.platform.QE.MiscSelect[0] = 1 }},
		{"an enclave under debug", "ATTRIBUTES", func(f *fake) { f.platform.QE.Attributes[0] |= 2 }},
		{"an enclave of another signer", "MRSIGNER", func(f *fake) { f.platform.QE.MRSIGNER[0] ^= 1 }},
		{"another enclave of Intel's", "ISVPRODID", func(f *fake) { f.platform.QE.ISVProdID = 1 }},
		{"a module of another signer", "MRSIGNERSEAM", func(f *fake) { f.signs(abi.MRSignerSEAM, 1) }},
		{"a module with attributes", "SEAMATTRIBUTES", func(f *fake) { f.signs(abi.SEAMAttributes, 1) }},
		{"a module with attributes that the identity passes over", "SEAMATTRIBUTES", func(f *fake) {
			f.signs(abi.SEAMAttributes, 1)
			f.info["tdxModuleIdentities"].([]any)[0].(object)["attributesMask"] = strings.Repeat("00", 8)
		}},
		{"a module without attributes that its identity has", "SEAMATTRIBUTES", func(f *fake) {
			f.info["tdxModuleIdentities"].([]any)[0].(object)["attributes"] = "0100000000000000"
		}},
		{"a module of another signer, of no known version", "MRSIGNERSEAM", func(f *fake) { f.signs(abi.MRSignerSEAM, 1); f.platform.Launched[abi.SVNModuleVersion] = 9 }},
	} {
		t.Run(c.claim, func(t *testing.T) {
			f := newFake(t)
			c.edit(f)
			got, err := f.verify()
			if e := wantRefused(t, got, err, evidence.Untrusted, "tcb"); e.Field != c.field {
				t.Errorf("field %s", e.Field)
			}
			cfg := f.config()
			cfg.SkipTCBUnsafe = true
			got, err = f.verifyQuote(cfg, f.quote())
			if err != nil || len(got.Skipped) != 1 || got.Skipped[0] != "tcb" {
				t.Errorf("without TCB: %v", err)
			}
		})
	}
	// Bits outside of the mask are free.
	f := newFake(t)
	f.platform.QE.Attributes[0], f.platform.QE.Attributes[8] = 0x11, 0xFF
	if _, err := f.verify(); err != nil {
		t.Errorf("attributes outside of the mask: %v", err)
	}
}
