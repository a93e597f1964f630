package vtpm

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
)

func TestDecodeMembers(t *testing.T) {
	type rv = ReferenceValues
	hex32 := strings.Repeat("01", 32)
	b32, b64 := [32]byte([]byte(strings.Repeat("\x01", 32))), [64]byte([]byte(strings.Repeat("\x01", 64)))
	seven := PCR{SHA256, 7}
	tests := []struct {
		name, json string
		set        func(*rv)
	}{
		{"links", `["ak","ek","ek-certificate"]`, func(r *rv) { r.Links = evidence.OneOf(LinkAK, LinkEK, LinkCertificate) }},
		{"links", `"*"`, func(r *rv) { r.Links = evidence.Anything[Link]() }},
		{"allow_no_tee", `true`, func(r *rv) { r.AllowNoTEE = true }},
		{"allow_no_tee", `false`, func(r *rv) { r.AllowNoTEE = false }},
		{"manifests", `["svsm-vtpm-0","svsm-services-0","azure-hcl-1","azure-hcl-2"]`, func(r *rv) { r.Manifests = evidence.OneOf(SVSMSingle, SVSMAll, AzureHCL1, AzureHCL2) }},
		{"eks", `["` + hex32 + `"]`, func(r *rv) { r.EKs = evidence.OneOf(b32) }},
		{"aks", `["` + hex32 + `"]`, func(r *rv) { r.AKs = evidence.OneOf(b32) }},
		{"user_data", `["` + hex32 + hex32 + `"]`, func(r *rv) { r.UserData = evidence.OneOf(b64) }},
		{"pcrs", `[{"bank":"sha256","index":7,"values":["` + hex32 + `"]}]`, func(r *rv) { r.PCRs = []PCRRule{{seven, evidence.OneOf(Octets(b32[:]))}} }},
		{"pcrs", `[{"values":"*","index":23,"bank":"sha512"}]`, func(r *rv) { r.PCRs = []PCRRule{{PCR{SHA512, 23}, evidence.Anything[Octets]()}} }},
		{"allow_other_pcrs", `true`, func(r *rv) { r.AllowOtherPCRs = true }},
		{"allow_other_pcrs", `false`, func(r *rv) { r.AllowOtherPCRs = false }},
		{"events", `[{"bank":"sha256","index":7,"digests":["` + hex32 + `"]}]`, func(r *rv) { r.Events = []EventRule{{seven, evidence.OneOf(Octets(b32[:]))}} }},
		{
			"ima", `{"files":{"/bin/":"*","/bin/x":["sha256:` + hex32 + `"]},"allow_violations":true,"allow_unchecked_boot_aggregate":true}`,
			func(r *rv) {
				r.IMA = &IMARules{map[string]evidence.Set[string]{"/bin/": evidence.Anything[string](), "/bin/x": evidence.OneOf("sha256:" + hex32)}, true, true}
			},
		},
		{"ima", `{"files":{}}`, func(r *rv) { r.IMA = &IMARules{Files: map[string]evidence.Set[string]{}} }},
		{"require_proof", `true`, func(r *rv) { r.RequireProof = true }},
		{"require_safe_clock", `true`, func(r *rv) { r.RequireSafeClock = true }},
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
	members := new(ReferenceValues).members()
	for _, m := range members {
		if !tried[m.Name] {
			t.Errorf("%s was not tried", m.Name)
		}
	}
	if fields := reflect.TypeFor[ReferenceValues]().NumField(); fields != len(members) {
		t.Errorf("%d members for %d fields", len(members), fields)
	}
}

func TestDecodeRefused(t *testing.T) {
	hex32 := strings.Repeat("01", 32)
	for _, object := range []string{
		``, `[]`, `{"x":1}`, `{"links":["unlinked"]}`, `{"links":["AK"]}`, `{"links":null}`, `{"manifests":["svsm-vtpm-1"]}`,
		`{"eks":["01"]}`, `{"user_data":["` + hex32 + `"]}`,
		`{"pcrs":[{"bank":"sha1","index":7,"values":"*"}]}`, `{"pcrs":[{"bank":"sha256","index":24,"values":"*"}]}`,
		`{"pcrs":[{"bank":"sha256","index":-1,"values":"*"}]}`, `{"pcrs":[{"bank":"sha256","index":7}]}`,
		`{"pcrs":[{"index":7,"values":["` + hex32 + `"]}]}`, `{"pcrs":[{"bank":"sha384","index":7,"values":["` + hex32 + `"]}]}`,
		`{"events":[{"bank":"sha256","index":7,"values":"*"}]}`,
		`{"ima":null}`, `{"ima":{}}`, `{"ima":{"files":{"":"*"}}}`, `{"ima":{"files":{"/x":["` + hex32 + `"]}}}`, `{"ima":{"files":{"/x":["sha256:01"]}}}`,
		`{"ima":{"files":{"/x":["md5:` + hex32 + `"]}}}`, `{"ima":{"files":{"/x":"*","/x":"*"}}}`, `{"ima":{"files":[]}}`,
	} {
		if rv, err := DecodeReferenceValues([]byte(object), false); err == nil {
			t.Errorf("%s: %+v", object, rv)
		}
	}
}
