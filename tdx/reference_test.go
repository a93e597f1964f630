package tdx

import (
	"encoding/binary"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// checkedAt is when the quotes of these tests were verified.
var checkedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func daysAgo(n int) time.Time { return checkedAt.AddDate(0, 0, -n) }

const day = 24 * time.Hour

// fields is a quote that is written field by field, and what is known of the
// platform it is from.
type fields struct {
	raw  [abi.BodyV5 + abi.TD15Size]byte
	kind BodyType
	at   time.Time
	Claims
}

func (f *fields) put(at int, b ...byte) { copy(f.raw[abi.BodyV5+at:], b) }

func (f *fields) flip(at int, bit uint64) {
	b := f.raw[abi.BodyV5+at:]
	binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^bit)
}

func (f *fields) attributes(bit Attributes) { f.flip(abi.TDAttributes, uint64(bit)) }

// verified returns what a Verifier would for f.
func (f *fields) verified() *evidence.Verified {
	c := f.Claims
	signed := slices.Clone(f.raw[:abi.BodyV5+f.kind.size()])
	c.Quote = Quote{signed: signed, body: signed[abi.BodyV5:], kind: f.kind}
	return &evidence.Verified{Format: Format, Bound: true, Claims: &c, CheckedAt: f.at}
}

// td returns a quote in which every claim has a value of its own.
func td() *fields {
	f := &fields{kind: TD15, at: checkedAt}
	f.raw[abi.Version] = abi.V5
	f.put(abi.MRTD, 1)
	for i := range abi.RTMRs {
		f.put(abi.RTMR0+i*abi.MRSize, byte(2+i))
	}
	f.put(abi.MRConfigID, 6)
	f.put(abi.MROwner, 7)
	f.put(abi.MROwnerConfig, 8)
	f.put(abi.MRSEAM, 9)
	f.put(abi.TEETCBSVN, 7, 1)
	f.put(abi.TEETCBSVN2, 8, 1)
	f.attributes(SEPTVEDisable | PKS)
	f.flip(abi.XFAM, 0x602E7)
	f.PCK = PCK{
		CA: PlatformCA, Serial: []byte{0xA0, 1}, PPID: [16]byte{10}, PlatformInstance: [16]byte{11},
		Configuration: Configuration{DynamicPlatform: true, CachedKeys: true, SMTEnabled: true},
	}
	f.TCB = TCB{
		Status:   UpToDate,
		Platform: Level{Status: UpToDate, Date: daysAgo(100), Advisories: []string{"INTEL-SA-00001"}},
		Module:   Level{Status: UpToDate, Date: daysAgo(100)},
		QE:       Level{Status: UpToDate, Date: daysAgo(90), Advisories: []string{"INTEL-SA-00002"}},
		Date:     daysAgo(100), EvaluationDataNumber: 18,
	}
	f.Events = []Event{
		{RTMR: 1, Digest: [48]byte{20}},
		{RTMR: 1, Digest: [48]byte{21}},
		{RTMR: 3, Digest: [48]byte{22}, Name: "app-id", Data: []byte{23}},
		{RTMR: 3, Digest: [48]byte{24}, Name: "ready", Data: []byte{}},
	}
	f.CollateralAge = time.Hour
	return f
}

// exact returns the ReferenceValues that ask of td all that can be asked.
func exact() ReferenceValues {
	return ReferenceValues{
		MRTD:          evidence.OneOf([48]byte{1}),
		RTMR0:         evidence.OneOf([48]byte{2}),
		RTMR1:         evidence.OneOf([48]byte{3}),
		RTMR2:         evidence.OneOf([48]byte{4}),
		RTMR3:         evidence.OneOf([48]byte{5}),
		MRConfigID:    evidence.OneOf([48]byte{6}),
		MROwner:       evidence.OneOf([48]byte{7}),
		MROwnerConfig: evidence.OneOf([48]byte{8}),
		RTMREvents:    []RegisterEvents{{1, evidence.OneOf([48]byte{20}, [48]byte{21})}},
		RuntimeEvents: []RuntimeEvent{{"app-id", evidence.OneOf("\x17")}},
		BodyTypes:     evidence.OneOf(TD15),

		RequireAttributes: SEPTVEDisable,
		DenyAttributes:    Perfmon,
		AllowXFAM:         0x602E7,
		RequireXFAM:       3,

		MRSEAM:  evidence.OneOf([48]byte{9}),
		Modules: []ModuleFloor{{1, 7}},

		Statuses:                evidence.OneOf(UpToDate),
		Advisories:              evidence.OneOf("INTEL-SA-00001", "INTEL-SA-00002"),
		DenyAdvisories:          []string{"INTEL-SA-00003"},
		MinTCBDate:              daysAgo(100),
		MinEvaluationDataNumber: 18,
		MaxCollateralAge:        time.Hour,

		PPIDs:                evidence.OneOf([16]byte{10}),
		PlatformInstances:    evidence.OneOf([16]byte{11}),
		DenyPPIDs:            [][16]byte{{12}},
		DenyPCKSerials:       [][]byte{{0xA0, 2}},
		AllowDynamicPlatform: true,
		AllowCachedKeys:      true,
		AllowSMT:             true,
	}
}

// Every field of ReferenceValues is there with a change that is accepted and with
// one that is not.
func TestReferenceValues(t *testing.T) {
	tests := slices.Concat([]testCase{{"", "as it is", nil, nil, ""}},
		registerCases(), eventCases(), attributeCases(), moduleCases(), tcbCases(), platformCases())
	accepted, refused := map[string]bool{}, map[string]bool{}
	for _, tt := range tests {
		f, r := td(), exact()
		if tt.quote != nil {
			tt.quote(f)
		}
		if tt.rv != nil {
			tt.rv(&r)
		}
		ms := r.Appraise(f.verified())
		if !sameMismatches(ms, tt.want) {
			t.Errorf("%s, %s:\n got %v\nwant [%s]", tt.field, tt.name, ms, tt.want)
		}
		if tt.want == "" {
			accepted[tt.field] = true
		} else {
			refused[tt.field] = true
		}
		if again := r.Appraise(f.verified()); !reflect.DeepEqual(ms, again) {
			t.Errorf("%s, %s: another answer the second time", tt.field, tt.name)
		}
	}
	for f := range reflect.TypeFor[ReferenceValues]().Fields() {
		if !accepted[f.Name] || !refused[f.Name] {
			t.Errorf("%s: accepted %v, refused %v: both are wanted", f.Name, accepted[f.Name], refused[f.Name])
		}
	}
}

// sameMismatches reports whether ms are want: of each its whole text or its claim.
func sameMismatches(ms []evidence.Mismatch, want string) bool {
	var wants []string
	if want != "" {
		wants = strings.Split(want, "; ")
	}
	return slices.EqualFunc(ms, wants, func(m evidence.Mismatch, want string) bool { return m.String() == want || m.Claim == want })
}

// The zero ReferenceValues accepts nothing; those that constrain nothing accept all
// that anything can accept.
func TestReferenceValuesZero(t *testing.T) {
	if ms := (ReferenceValues{}).Appraise(td().verified()); len(ms) == 0 {
		t.Error("the zero ReferenceValues accepts")
	}
	f := td()
	f.attributes(^Attributes(0))
	f.flip(abi.XFAM, ^uint64(0))
	f.put(abi.MRServiceTD, 1)
	f.PCK.CA = ProcessorCA
	f.TCB.Status = NotSupported
	f.CollateralAge = 1<<63 - 1
	if ms := unconstrained().Appraise(f.verified()); len(ms) != 0 {
		t.Errorf("unconstrained: %v", ms)
	}
}

// What is not a verified quote is a mismatch of the format.
func TestReferenceValuesFormat(t *testing.T) {
	for name, v := range map[string]*evidence.Verified{
		"nothing":            nil,
		"no claims":          {Format: Format},
		"nil claims":         {Format: Format, Claims: (*Claims)(nil)},
		"another's claims":   {Format: Format, Claims: otherClaims{}},
		"another format":     {Format: "snp-report", Claims: td().verified().Claims},
		"a format left open": {Claims: td().verified().Claims},
	} {
		if ms := unconstrained().Appraise(v); len(ms) != 1 || ms[0].Claim != "format" {
			t.Errorf("%s: %v", name, ms)
		}
	}
	// Claims of no quote claim zeros, which are not accepted either.
	v := &evidence.Verified{Format: Format, Claims: &Claims{PCK: td().PCK, TCB: td().TCB}}
	if ms := unconstrained().Appraise(v); !sameMismatches(ms, "tdx.body_type") {
		t.Errorf("claims without a quote: %v", ms)
	}
}

type otherClaims struct{ evidence.Claims }

// Every mismatch names a claim that quotes have, and of most claims there is one.
func TestReferenceValuesClaimNames(t *testing.T) {
	known := map[string]bool{}
	all := td()
	for i := range abi.RTMRs {
		all.Events = append(all.Events, Event{RTMR: uint8(i)})
	}
	for name := range all.verified().Claims.(*Claims).All() {
		known[name] = true
	}
	tests := slices.Concat(registerCases(), eventCases(), attributeCases(), moduleCases(), tcbCases(), platformCases())
	denyAll := func(r *ReferenceValues) { r.DenyAttributes = ^Attributes(0) }
	tests = append(tests, testCase{rv: denyAll}, testCase{quote: with(^Attributes(0)), rv: denyAll})
	for i := range abi.RTMRs {
		tests = append(tests, testCase{rv: func(r *ReferenceValues) { r.RTMREvents = []RegisterEvents{{RTMR: uint8(i)}} }})
	}
	appraised := map[string]bool{}
	for _, tt := range tests {
		f, r := td(), exact()
		if tt.quote != nil {
			tt.quote(f)
		}
		if tt.rv != nil {
			tt.rv(&r)
		}
		for _, m := range r.Appraise(f.verified()) {
			appraised[m.Claim] = true
			if !known[m.Claim] {
				t.Errorf("%s is no claim", m.Claim)
			}
		}
	}
	// A check holds some of these to Intel's values, others say the same as one
	// that is appraised, or what is to be done.
	silent := []string{
		"tdx.version", "tdx.user_data", "tdx.report_data", "tdx.mrsignerseam", "tdx.seam_attributes", "tdx.tee_tcb_svn", "tdx.tee_tcb_svn2",
		"tdx.fmspc", "tdx.pceid", "tdx.pck.ca", "tdx.pck.components", "tdx.pck.pcesvn", "tdx.pck.cpusvn", "tdx.pck.sgx_type",
		"tdx.qe.mrenclave", "tdx.qe.mrsigner", "tdx.qe.isvprodid", "tdx.qe.isvsvn", "tdx.qe.miscselect", "tdx.qe.attributes",
		"tdx.tcb.shortfalls", "tdx.tcb.updates",
	}
	for name := range known {
		if appraised[name] == slices.Contains(silent, name) {
			t.Errorf("%s: appraised %v", name, appraised[name])
		}
	}
}

func TestBaseline(t *testing.T) {
	mrtd, rtmrs := [48]byte{1}, [4][48]byte{{2}, {3}, {4}, {5}}
	for _, tt := range []struct {
		name  string
		quote func(*fields)
		want  string
	}{
		{"as it is", func(*fields) {}, ""},
		{"other registers of the host, module and platform", func(f *fields) {
			for _, at := range []int{abi.MRConfigID, abi.MROwner, abi.MROwnerConfig, abi.MRSEAM, abi.TEETCBSVN} {
				f.put(at, 99)
			}
			f.PCK = PCK{CA: ProcessorCA, PPID: [16]byte{99}}
		}, ""},
		{"a report 1.0", func(f *fields) { f.kind = TD10 }, ""},
		{"other features and attributes", func(f *fields) { f.flip(abi.XFAM, 1<<19); f.attributes(SEPTVEDisable | Perfmon | KL) }, ""},
		{"another MRTD", putting(abi.MRTD, 99), "tdx.mrtd"},
		{"other RTMRs", func(f *fields) {
			for i := range abi.RTMRs {
				f.put(abi.RTMR0+i*abi.MRSize, 99)
			}
		}, "tdx.rtmr0; tdx.rtmr1; tdx.rtmr2; tdx.rtmr3"},
		{"debug", with(Debug), "tdx.td_attributes.debug"},
		{"migration", with(Migratable), "tdx.td_attributes.migratable"},
		{"a service TD", putting(abi.MRServiceTD, 1), "tdx.mrservicetd"},
		{"an unknown attribute", with(1 << 40), "tdx.td_attributes"},
		{"out of date", func(f *fields) { f.TCB.Status, f.TCB.QE.Status, f.TCB.QE.Date = OutOfDate, OutOfDate, checkedAt }, "tdx.tcb.status"},
		{"old collateral", func(f *fields) { f.CollateralAge = 1 }, "tdx.collateral.age"},
	} {
		f := td()
		f.CollateralAge = 0
		tt.quote(f)
		if ms := Baseline(mrtd, rtmrs).Appraise(f.verified()); !sameMismatches(ms, tt.want) {
			t.Errorf("%s: %v, want [%s]", tt.name, ms, tt.want)
		}
	}
}

func BenchmarkReferenceValues(b *testing.B) {
	v, rv := td().verified(), exact()
	b.ReportAllocs()
	for b.Loop() {
		if len(rv.Appraise(v)) != 0 {
			b.Fatal("refused")
		}
	}
}
