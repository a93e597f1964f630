package vtpm

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/refvalues"
)

// maxReported is how many files, and events of a PCR, are reported: one says that
// the log is not acceptable, a few say why, and a log can have a hundred thousand.
const maxReported = 16

// Appraise implements policy.Rule. Mismatches bear the names of [Claims.All], and
// those of files that were measured the name "vtpm.ima.file". Of files, and of
// the events of a PCR, the first 16 are reported.
func (rv ReferenceValues) Appraise(v *evidence.Verified) []evidence.Mismatch {
	c, ok := ClaimsOf(v)
	if !ok || v.Format != Format {
		return []evidence.Mismatch{{Claim: "format", Got: formatOf(v), Op: evidence.Equal, Want: evidence.Text(string(Format))}}
	}
	var ms refvalues.Mismatches
	rv.appraiseLink(c, &ms)
	rv.appraiseKeys(c, &ms)
	rv.appraisePCRs(c, &ms)
	if rv.RequireProof && c.Proof != ProofLive {
		ms.Add("vtpm.proof", proofValue(c.Proof), evidence.Equal, evidence.Text(string(ProofLive)))
	}
	rv.appraiseEvents(c, &ms)
	rv.IMA.appraise(c.IMA, &ms)
	if rv.RequireSafeClock && !c.Quote.Clock.Safe {
		ms.Add("vtpm.clock_safe", evidence.Bool(false), evidence.Equal, evidence.Bool(true))
	}
	return ms
}

func formatOf(v *evidence.Verified) evidence.Value {
	if v == nil {
		return evidence.Value{}
	}
	return evidence.Text(string(v.Format))
}

// proofValue is absent where nobody asked.
func proofValue(p Proof) evidence.Value {
	if p == "" {
		return evidence.Value{}
	}
	return textValue(p)
}

func textValue[T ~string](s T) evidence.Value   { return evidence.Text(string(s)) }
func octetsValue[T ~string](b T) evidence.Value { return evidence.Bytes([]byte(b)) }

// appraiseLink judges what ties the quote to hardware.
func (rv *ReferenceValues) appraiseLink(c *Claims, ms *refvalues.Mismatches) {
	if !rv.Links.Has(c.Link) || !slices.Contains(Links(), c.Link) || c.Link == LinkCertificate && !rv.AllowNoTEE {
		accepted := rv.Links.Values()
		if !rv.AllowNoTEE {
			accepted = slices.DeleteFunc(accepted, func(l Link) bool { return l == LinkCertificate })
		}
		ms.Add("vtpm.link", textValue(c.Link), evidence.In, refvalues.Values(accepted, textValue))
	}
	if c.Link != LinkCertificate {
		refvalues.Among(ms, "vtpm.manifest", c.Manifest(), rv.Manifests, textValue)
	}
	if a := c.Azure(); a != nil {
		refvalues.Among(ms, "vtpm.azure.user_data", a.UserData, rv.UserData, refvalues.FixedValue)
	}
}

func (rv *ReferenceValues) appraiseKeys(c *Claims, ms *refvalues.Mismatches) {
	refvalues.Among(ms, "vtpm.ak", KeyDigest(c.ground.ak), rv.AKs, refvalues.FixedValue)
	switch key := c.ground.ekKey(); {
	case key != nil:
		refvalues.Among(ms, "vtpm.ek", KeyDigest(key), rv.EKs, refvalues.FixedValue)
	case !rv.EKs.IsAnything():
		ms.Add("vtpm.ek", evidence.Value{}, evidence.In, refvalues.Values(rv.EKs.Values(), refvalues.FixedValue))
	}
}

func (rv *ReferenceValues) appraisePCRs(c *Claims, ms *refvalues.Mismatches) {
	named := map[PCR]bool{}
	if rv.RequireProof {
		named[c.proofPCR] = true
	}
	for _, rule := range rv.PCRs {
		named[rule.PCR] = true
		got, quoted := c.PCR(rule.PCR)
		switch {
		case !quoted:
			ms.Add(pcrClaim(rule.PCR), evidence.Value{}, evidence.In, refvalues.Values(rule.Values.Values(), octetsValue))
		case !rule.Values.Has(got):
			ms.Add(pcrClaim(rule.PCR), octetsValue(got), evidence.In, refvalues.Values(rule.Values.Values(), octetsValue))
		}
	}
	for _, v := range c.PCRs {
		if !rv.AllowOtherPCRs && !named[v.PCR] {
			ms.Add(pcrClaim(v.PCR), octetsValue(v.Value), evidence.In, evidence.List())
		}
	}
}

func (rv *ReferenceValues) appraiseEvents(c *Claims, ms *refvalues.Mismatches) {
	for _, rule := range rv.Events {
		found, bad := false, 0
		for _, e := range c.Events {
			if e.PCR != rule.PCR {
				continue
			}
			found = true
			if !rule.Digests.Has(e.Digest) && bad < maxReported {
				bad++
				ms.Add(eventsClaim(rule.PCR), octetsValue(e.Digest), evidence.In, refvalues.Values(rule.Digests.Values(), octetsValue))
			}
		}
		if !found {
			ms.Add(eventsClaim(rule.PCR), evidence.Value{}, evidence.In, refvalues.Values(rule.Digests.Values(), octetsValue))
		}
	}
}

// appraise judges a list. Nil rules ask for none.
func (r *IMARules) appraise(m *IMA, ms *refvalues.Mismatches) {
	switch {
	case r == nil:
		return
	case m == nil:
		ms.Add("vtpm.ima.entries", evidence.Value{}, evidence.AtLeast, evidence.Uint(1))
		return
	}
	if !m.BootAggregate && !r.AllowUncheckedBootAggregate {
		ms.Add("vtpm.ima.boot_aggregate", evidence.Bool(false), evidence.Equal, evidence.Bool(true))
	}
	if m.Violations > 0 && !r.AllowViolations {
		ms.Add("vtpm.ima.violations", evidence.Uint(uint64(m.Violations)), evidence.AtMost, evidence.Uint(0))
	}
	first, bad := true, 0
	for e := range m.All() {
		if first || e.Violation {
			first = false
			continue
		}
		digest := e.Algorithm + ":" + hex.EncodeToString(e.Digest)
		if set := r.rule(e.Path); !set.Has(digest) {
			ms.Add("vtpm.ima.file", evidence.Text(e.Path+" "+digest), evidence.In, refvalues.Values(set.Values(), evidence.Text))
			if bad++; bad == maxReported {
				return
			}
		}
	}
}

// rule returns the Set for path: its own, or that of the longest folder it is in.
func (r *IMARules) rule(path string) evidence.Set[string] {
	if set, ok := r.Files[path]; ok && !strings.HasSuffix(path, "/") {
		return set
	}
	for i := strings.LastIndexByte(path, '/'); i >= 0; i = strings.LastIndexByte(path[:i], '/') {
		if set, ok := r.Files[path[:i+1]]; ok {
			return set
		}
	}
	return evidence.Set[string]{}
}
