package tdx

import (
	"bytes"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/refvalues"
	"github.com/teebroker/teebroker/tdx/internal/abi"
)

// Claims are the claims of a verified quote, of the PCK certificate and the
// quoting enclave that stand behind it, and of Intel about all of them. Unlike
// [Quote] it owns its memory. It is read-only.
type Claims struct {
	Quote
	PCK PCK
	QE  QE

	// Events are what the RTMRs were extended with, in the order of the logs that
	// came along. A register without any may have been extended all the same.
	Events []Event

	// TCB has the zero Status if [Config.SkipTCBUnsafe] left it out.
	TCB TCB

	// CollateralAge is how far past its nextUpdate the oldest of the CRLs, TCB Info
	// and QE identity was: zero unless [Config.StaleGrace] let it pass.
	CollateralAge time.Duration
}

// newClaims returns the claims of q, which e stands behind.
func newClaims(q Quote, e *endorsement, events []Event, tcb TCB, r *run) *Claims {
	c := &Claims{Quote: q.clone(), PCK: e.pck, QE: e.qe, Events: events, TCB: tcb, CollateralAge: r.age}
	// What was remembered of platform and collateral is for all to use.
	c.PCK.Serial = bytes.Clone(c.PCK.Serial)
	for _, l := range []*Level{&c.TCB.Platform, &c.TCB.Module, &c.TCB.QE} {
		l.Advisories = slices.Clone(l.Advisories)
	}
	return c
}

// ClaimsOf returns the Claims of v, or false if v is not a verified quote.
func ClaimsOf(v *evidence.Verified) (*Claims, bool) {
	if v == nil {
		return nil, false
	}
	c, ok := v.Claims.(*Claims)
	return c, ok && c != nil
}

// claim is one claim under its stable name.
type claim struct {
	name  string
	value evidence.Value
}

func num[T ~uint8 | ~uint16 | ~uint32 | ~uint64](name string, n T) claim {
	return claim{name, evidence.Uint(uint64(n))}
}
func octets(name string, b []byte) claim { return claim{name, evidence.Bytes(b)} }
func text(name, s string) claim          { return claim{name, evidence.Text(s)} }
func flag(name string, b bool) claim     { return claim{name, evidence.Bool(b)} }

// All implements [evidence.Claims]. It yields the claims of the quote and of
// event logs, and then those of PCK, quoting enclave, TCB and collateral. What was
// left out by the Config, or is not said of a platform, is not yielded.
func (c *Claims) All() iter.Seq2[string, evidence.Value] {
	return yieldAll(c.Quote.tdClaims, c.Quote.moduleClaims, c.eventClaims, c.PCK.claims, c.QE.claims, c.TCB.claims, func() []claim {
		return []claim{num("tdx.collateral.age", uint64(c.CollateralAge/time.Second))}
	})
}

// All yields the claims of the quote under the names that [Claims] uses. Claims
// that a TD report 1.0 does not have are left out.
func (q Quote) All() iter.Seq2[string, evidence.Value] {
	return yieldAll(q.tdClaims, q.moduleClaims)
}

func yieldAll(groups ...func() []claim) iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		for _, group := range groups {
			for _, c := range group() {
				if !yield(c.name, c.value) {
					return
				}
			}
		}
	}
}

func attributeFlags() []refvalues.Flag[Attributes] {
	return []refvalues.Flag[Attributes]{
		{Name: "debug", Bit: Debug},
		{Name: "hgs_plus_prof", Bit: HGSPlusProf},
		{Name: "perf_prof", Bit: PerfProf},
		{Name: "pmt_prof", Bit: PMTProf},
		{Name: "icssd", Bit: ICSSD},
		{Name: "lass", Bit: LASS},
		{Name: "sept_ve_disable", Bit: SEPTVEDisable},
		{Name: "migratable", Bit: Migratable},
		{Name: "pks", Bit: PKS},
		{Name: "kl", Bit: KL},
		{Name: "tpa", Bit: TPA},
		{Name: "perfmon", Bit: Perfmon},
	}
}

// tdClaims are about the TD.
func (q Quote) tdClaims() []claim {
	user := q.UserData()
	cs := []claim{
		num("tdx.version", q.Version()),
		num("tdx.body_type", q.BodyType()),
		octets("tdx.user_data", user[:]),
		num("tdx.td_attributes", q.Attributes()),
	}
	for _, f := range attributeFlags() {
		cs = append(cs, flag("tdx.td_attributes."+f.Name, q.Attributes()&f.Bit != 0))
	}
	cs = append(cs,
		num("tdx.xfam", q.XFAM()),
		octets("tdx.mrtd", q.at(abi.MRTD, abi.MRSize)),
		octets("tdx.mrconfigid", q.at(abi.MRConfigID, abi.MRSize)),
		octets("tdx.mrowner", q.at(abi.MROwner, abi.MRSize)),
		octets("tdx.mrownerconfig", q.at(abi.MROwnerConfig, abi.MRSize)),
	)
	for i, r := range q.RTMRs() {
		cs = append(cs, octets("tdx.rtmr"+strconv.Itoa(i), r[:]))
	}
	cs = append(cs, octets("tdx.report_data", q.at(abi.ReportData, 64)))
	if td, ok := q.MRServiceTD(); ok {
		cs = append(cs, octets("tdx.mrservicetd", td[:]))
	}
	return cs
}

// moduleClaims are about the TDX module and what it runs on.
func (q Quote) moduleClaims() []claim {
	svn := q.TEETCBSVN()
	cs := []claim{
		octets("tdx.mrseam", q.at(abi.MRSEAM, abi.MRSize)),
		octets("tdx.mrsignerseam", q.at(abi.MRSignerSEAM, abi.MRSize)),
		num("tdx.seam_attributes", q.SEAMAttributes()),
		num("tdx.module.version", svn.ModuleVersion()),
		num("tdx.module.svn", svn.Module()),
		octets("tdx.tee_tcb_svn", svn[:]),
	}
	if svn2, ok := q.TEETCBSVN2(); ok {
		cs = append(cs,
			num("tdx.module.current_version", svn2.ModuleVersion()),
			num("tdx.module.current_svn", svn2.Module()),
			octets("tdx.tee_tcb_svn2", svn2[:]),
		)
	}
	return cs
}

func (p PCK) claims() []claim {
	cs := []claim{
		octets("tdx.fmspc", p.FMSPC[:]),
		octets("tdx.ppid", p.PPID[:]),
		octets("tdx.pceid", p.PCEID[:]),
		text("tdx.pck.ca", p.CA.String()),
		octets("tdx.pck.serial", p.Serial),
		octets("tdx.pck.components", p.Components[:]),
		num("tdx.pck.pcesvn", p.PCESVN),
		octets("tdx.pck.cpusvn", p.CPUSVN[:]),
		text("tdx.pck.sgx_type", p.SGXType.String()),
	}
	if p.CA != PlatformCA {
		return cs
	}
	return append(cs,
		octets("tdx.platform_instance", p.PlatformInstance[:]),
		flag("tdx.pck.dynamic_platform", p.Configuration.DynamicPlatform),
		flag("tdx.pck.cached_keys", p.Configuration.CachedKeys),
		flag("tdx.pck.smt_enabled", p.Configuration.SMTEnabled),
	)
}

func (e QE) claims() []claim {
	return []claim{
		octets("tdx.qe.mrenclave", e.MRENCLAVE[:]),
		octets("tdx.qe.mrsigner", e.MRSIGNER[:]),
		num("tdx.qe.isvprodid", e.ISVProdID),
		num("tdx.qe.isvsvn", e.ISVSVN),
		octets("tdx.qe.miscselect", e.MiscSelect[:]),
		octets("tdx.qe.attributes", e.Attributes[:]),
	}
}

func (t TCB) claims() []claim {
	if t.Status == "" {
		return nil
	}
	cs := []claim{
		text("tdx.tcb.status", string(t.Status)),
		text("tdx.tcb.platform", string(t.Platform.Status)),
		text("tdx.tcb.module", string(t.Module.Status)),
		text("tdx.tcb.qe", string(t.QE.Status)),
	}
	for _, d := range []struct {
		name string
		time.Time
	}{
		{"tdx.tcb.date", t.Date},
		{"tdx.tcb.platform.date", t.Platform.Date},
		{"tdx.tcb.module.date", t.Module.Date},
		{"tdx.tcb.qe.date", t.QE.Date},
	} {
		if !d.IsZero() {
			cs = append(cs, claim{d.name, evidence.Time(d.Time)})
		}
	}
	var short []string
	for _, s := range t.Shortfalls {
		short = append(short, s.String())
	}
	return append(cs,
		claim{"tdx.tcb.advisories", texts(t.Advisories())},
		num("tdx.tcb.evaluation_data_number", t.EvaluationDataNumber),
		claim{"tdx.tcb.shortfalls", texts(short)},
		claim{"tdx.tcb.updates", texts(t.Updates())},
	)
}

// texts returns the list of ss.
func texts[T ~string](ss []T) evidence.Value {
	vs := make([]evidence.Value, len(ss))
	for i, s := range ss {
		vs[i] = evidence.Text(string(s))
	}
	return evidence.List(vs...)
}
