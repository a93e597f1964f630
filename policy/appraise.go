package policy

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/teebroker/teebroker/evidence"
)

// Appraisal is a verdict and why. The zero Appraisal is a refusal; only
// [Appraise] makes another.
type Appraisal struct {
	accepted bool
	ms       []evidence.Mismatch
	policies []*Policy
	got      []*evidence.Verified
}

// Accepted reports the verdict.
func (a Appraisal) Accepted() bool { return a.accepted }

// Verified returns what was judged, in order, nil where there was nothing. So what
// speaks of a verdict can't speak of another guest.
func (a Appraisal) Verified() []*evidence.Verified { return slices.Clone(a.got) }

// Mismatches yields every claim not accepted, with the document that asked, in
// an order that depends on the input only.
func (a Appraisal) Mismatches() iter.Seq[evidence.Mismatch] { return slices.Values(a.ms) }

// Policies returns each Policy applied in the order given, which is widest
// first. It hashes their documents.
func (a Appraisal) Policies() []Ref {
	refs := make([]Ref, len(a.policies))
	for i, p := range a.policies {
		refs[i] = Ref{p.Name, p.Version, p.Digest()}
	}
	return refs
}

// Err returns nil if a is accepted, else an error that lists the mismatches.
// They quote claims, as a log may and an answer to a peer must not.
func (a Appraisal) Err() error {
	if a.accepted {
		return nil
	}
	if len(a.ms) == 0 {
		return errors.New("policy: refused: nothing was appraised")
	}
	lines := make([]string, len(a.ms))
	for i, m := range a.ms {
		lines[i] = fmt.Sprintf("%s: %v", m.Rule, m)
	}
	return fmt.Errorf("policy: refused: %s", strings.Join(lines, "; "))
}

// BoundClaim is the claim of the Mismatch that refuses unbound evidence. A tool
// that was given no binding passes over it and says so; such a result is still
// not Accepted.
const BoundClaim = "bound"

// Always is the Rule of a Mismatch with what Appraise asks whatever the
// policies are.
const Always = "always"

// Appraise judges got by every scope: global, then image, then instance. All
// must accept, so a narrower scope can only narrow. No evidence, no complete
// scope, unbound evidence, and evidence with skipped checks that are not
// allowed are refused. So is a nil among got or scopes.
//
// There is no report-only switch: a caller that only reports looks at
// Mismatches and does not ask Accepted.
func Appraise(got []*evidence.Verified, scopes ...*Policy) Appraisal {
	a := Appraisal{got: slices.Clone(got)}
	for _, p := range scopes {
		if p == nil {
			a.ms = append(a.ms, always("policy", evidence.Value{}, evidence.Text(string(Global))))
			continue
		}
		a.policies = append(a.policies, p)
		if ms := p.appraise(got); len(ms) > 0 {
			a.ms = append(a.ms, asked(ms, p.String())...)
		}
	}
	if !slices.ContainsFunc(a.policies, func(p *Policy) bool { return p.Scope.complete() }) {
		a.ms = append(a.ms, always("scope", evidence.Value{}, evidence.Text(string(Global))))
	}
	if len(got) == 0 {
		a.ms = append(a.ms, always("evidence", evidence.Uint(0), evidence.Uint(1)))
	}
	for _, v := range got {
		a.ms = append(a.ms, unbound(v, BoundClaim)...)
	}
	a.accepted = len(a.ms) == 0
	return a
}

func always(claim string, got, want evidence.Value) evidence.Mismatch {
	return evidence.Mismatch{Claim: claim, Got: got, Op: evidence.Equal, Want: want, Rule: Always}
}

// unbound returns what of v and the layers below it was not compared with a
// Binding. Only that of the Attester itself is called claim: a layer's Binding
// comes from the layer above, and no tool has a reason to go without.
func unbound(v *evidence.Verified, claim string) (ms []evidence.Mismatch) {
	if v == nil {
		return []evidence.Mismatch{always("evidence", evidence.Value{}, evidence.Bool(true))}
	}
	if !v.Bound {
		ms = append(ms, always(claim, evidence.Bool(false), evidence.Bool(true)))
	}
	for _, l := range v.Layers {
		ms = append(ms, unbound(l, "layer."+BoundClaim)...)
	}
	return ms
}

// appraise returns what of got p does not accept.
func (p *Policy) appraise(got []*evidence.Verified) (ms []evidence.Mismatch) {
	for i, v := range got {
		if v == nil {
			continue // refused whatever p says
		}
		if slices.ContainsFunc(got[:i], func(w *evidence.Verified) bool { return w != nil && w.Format == v.Format }) {
			ms = append(ms, formatMismatch(v.Format, evidence.NotIn, v.Format))
			continue
		}
		ms = append(ms, p.appraiseOne(v)...)
	}
	for _, f := range p.missing(got) {
		ms = append(ms, evidence.Mismatch{Claim: "format", Op: evidence.Equal, Want: evidence.Text(string(f))})
	}
	return ms
}

// missing returns the required formats that are not among got, sorted.
func (p *Policy) missing(got []*evidence.Verified) (fs []evidence.Format) {
	for f := range p.Require {
		if !slices.ContainsFunc(got, func(v *evidence.Verified) bool { return v != nil && v.Format == f }) {
			fs = append(fs, f)
		}
	}
	slices.Sort(fs)
	return fs
}

// appraiseOne returns what of v p does not accept.
func (p *Policy) appraiseOne(v *evidence.Verified) (ms []evidence.Mismatch) {
	required, inRequire := p.Require[v.Format]
	optional, inOptional := p.Optional[v.Format]
	if inRequire {
		ms = append(ms, judge(required, v)...)
	}
	if inOptional {
		ms = append(ms, judge(optional, v)...)
	}
	if !inRequire && !inOptional {
		ms = append(ms, formatMismatch(v.Format, evidence.In, p.formats()...))
	}
	ms = append(ms, p.skipped(v)...)
	for _, l := range v.Layers {
		if l != nil { // refused whatever p says
			ms = append(ms, p.appraiseOne(l)...)
		}
	}
	return ms
}

// skipped returns the checks left out for v that p does not allow to be.
func (p *Policy) skipped(v *evidence.Verified) (ms []evidence.Mismatch) {
	for _, check := range v.Skipped {
		if !slices.Contains(p.AllowSkipped, check) {
			ms = append(ms, evidence.Mismatch{Claim: "skipped", Got: evidence.Text(check), Op: evidence.In, Want: texts(p.AllowSkipped)})
		}
	}
	return ms
}

// formats returns what p admits, sorted.
func (p *Policy) formats() []evidence.Format {
	fs := slices.AppendSeq(slices.Collect(maps.Keys(p.Require)), maps.Keys(p.Optional))
	slices.Sort(fs)
	return slices.Compact(fs)
}

func formatMismatch(got evidence.Format, op evidence.Op, want ...evidence.Format) evidence.Mismatch {
	return evidence.Mismatch{Claim: "format", Got: evidence.Text(string(got)), Op: op, Want: texts(want)}
}

// texts returns the list of ss.
func texts[S ~string](ss []S) evidence.Value {
	vs := make([]evidence.Value, len(ss))
	for i, s := range ss {
		vs[i] = evidence.Text(string(s))
	}
	return evidence.List(vs...)
}
