package tdx

import (
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// documented returns the example called name in docs/policy-tdx.md.
func documented(t *testing.T, name string) *policy.Policy {
	t.Helper()
	doc, err := os.ReadFile("../docs/policy-tdx.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)<!-- example: " + name + " -->\n```json\n(.*?)```").FindSubmatch(doc)
	if m == nil {
		t.Fatalf("docs/policy-tdx.md has no example %s", name)
	}
	p, err := policy.Parse(m[1], policy.Decoders{Format: policy.Decoder(DecodeReferenceValues)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The examples of docs/policy-tdx.md do what the text beside them says.
func TestDocumentedExamples(t *testing.T) {
	octets := func(text string) []byte {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := func() *fields {
		f := td()
		f.put(abi.MRTD, octets("5f0c1c7d4a0c4f0b9e1d6a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f")...)
		f.put(abi.RTMR0+1*abi.MRSize, octets("a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90")...)
		f.put(abi.RTMR0+2*abi.MRSize, octets("b1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90")...)
		f.put(abi.RTMR0+3*abi.MRSize, 0)
		f.put(abi.MRConfigID, octets("2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")...)
		f.PCK.PPID = [16]byte(octets("b1946ac92492d2347c6235b4d2611184"))
		f.CollateralAge = 0
		return f
	}
	old := func(days int) func(*fields) {
		return func(f *fields) {
			f.TCB.Status, f.TCB.Platform.Status, f.TCB.Platform.Date = OutOfDate, OutOfDate, daysAgo(days)
		}
	}
	wide, both := []*policy.Policy{documented(t, "global")}, []*policy.Policy{documented(t, "global"), documented(t, "instance")}
	for _, tt := range []struct {
		name   string
		scopes []*policy.Policy
		quote  func(*fields)
		want   string
	}{
		{"the image", wide, nil, ""},
		{"on another machine", wide, func(f *fields) { f.put(abi.RTMR0, 99); f.PCK.PPID[0] = 99; f.put(abi.MRConfigID, 99) }, ""},
		{"another command line", wide, putting(abi.RTMR0+2*abi.MRSize, 99), "prod-tdx@3 tdx.rtmr2"},
		{"extended at run time", wide, putting(abi.RTMR0+3*abi.MRSize, 99), "prod-tdx@3 tdx.rtmr3"},
		{"debug", wide, with(Debug), "prod-tdx@3 tdx.td_attributes.debug"},
		{"30 days out of date", wide, old(30), ""},
		{"31 days out of date", wide, old(31), "prod-tdx@3 tdx.tcb.status; prod-tdx@3 tdx.tcb.platform.date"},
		{"old collateral", wide, func(f *fields) { f.CollateralAge = 1 }, "prod-tdx@3 tdx.collateral.age"},
		{"TDX 1.0", wide, putting(abi.TEETCBSVN, 7, 0), "prod-tdx@3 tdx.module.version"},

		{"the instance", both, nil, ""},
		{"the instance out of date", both, old(1), "instance-0b4a@1 tdx.tcb.status"},
		{"the instance on another platform", both, func(f *fields) { f.PCK.PPID[0] = 99 }, "instance-0b4a@1 tdx.ppid"},
		{"the instance with another launch identity", both, putting(abi.MRConfigID, 99), "instance-0b4a@1 tdx.mrconfigid"},
		{"the instance's document alone", both[1:], nil, "always scope"},
	} {
		f := good()
		if tt.quote != nil {
			tt.quote(f)
		}
		a := policy.Appraise([]*evidence.Verified{f.verified()}, tt.scopes...)
		var got []string
		for m := range a.Mismatches() {
			got = append(got, m.Rule+" "+m.Claim)
		}
		if strings.Join(got, "; ") != tt.want || a.Accepted() != (tt.want == "") {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, strings.Join(got, "; "), tt.want)
		}
	}
}
