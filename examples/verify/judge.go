package main

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/policy"
)

// result is the answer, as -json prints it. Its zero is a no.
type result struct {
	Format     string                    `json:"format"`
	Authentic  bool                      `json:"authentic"`
	Binding    string                    `json:"binding"`
	Accepted   *bool                     `json:"accepted"`
	Reason     evidence.Reason           `json:"reason"`
	Check      string                    `json:"check"`
	Field      string                    `json:"field"`
	Detail     string                    `json:"detail"`
	Mismatches []mismatch                `json:"mismatches"`
	Checks     []check                   `json:"checks"`
	Claims     map[string]evidence.Value `json:"claims"`
	NotAfter   *time.Time                `json:"not_after"`

	verified *evidence.Verified
}

type mismatch struct {
	Claim string         `json:"claim"`
	Got   evidence.Value `json:"got"`
	Op    evidence.Op    `json:"op"`
	Want  evidence.Value `json:"want"`
	Rule  string         `json:"rule"`
}

type check struct {
	Name    string           `json:"name"`
	Outcome evidence.Outcome `json:"outcome"`
	doc     string
}

// The values of result.Binding.
const (
	bindingOK        = "ok"
	bindingMismatch  = "mismatch"
	bindingUnchecked = "unchecked"
)

// yes reports whether the evidence is genuine, bound as asked, and accepted if
// a policy was given.
func (r *result) yes() bool {
	return r.Authentic && r.Binding != bindingMismatch && (r.Accepted == nil || *r.Accepted)
}

// judge returns the answer, or an error if the input allows none.
func judge(ctx context.Context, in input) (*result, error) {
	r := &result{Binding: bindingUnchecked, Mismatches: []mismatch{}, Checks: []check{}, Claims: map[string]evidence.Value{}}
	if in.policy != nil {
		r.Accepted = new(bool) // until somebody says otherwise
	}
	if in.tee == nil {
		r.Format = "unknown"
		r.Reason = evidence.Malformed
		r.Detail = "not evidence of a known format"
		return r, nil
	}
	r.Format = in.tee.name
	if in.tooLarge {
		r.Reason = evidence.Malformed
		r.Detail = "longer than any evidence"
		return r, nil
	}
	v, err := in.tee.verifier(in.trust, in.raw)
	if err != nil {
		return nil, err
	}
	r.authenticate(ctx, v, in)
	if r.Authentic {
		r.describe(in)
		r.appraise(in)
	}
	return r, nil
}

// authenticate verifies without the binding first: evidence that was signed for
// something else is authentic all the same.
func (r *result) authenticate(ctx context.Context, v evidence.Verifier, in input) {
	want := evidence.UncheckedBindingUnsafe()
	got, err := v.Verify(ctx, in.evidence(), want)
	r.outcomes(in.tee.checks, want, got, err)
	if err != nil {
		r.fail(err)
		return
	}
	r.Authentic, r.verified = true, got
	if !in.binding.Checked() {
		return
	}
	bound, err := v.Verify(ctx, in.evidence(), in.binding)
	switch {
	case err == nil:
		r.Binding, r.verified = bindingOK, bound
		r.outcomes(in.tee.checks, in.binding, bound, nil)
	case errors.Is(err, evidence.NotBound):
		r.Binding = bindingMismatch
		r.fail(err)
		r.markBinding(evidence.Failed)
	default:
		r.Authentic, r.verified = false, nil
		r.fail(err)
		r.outcomes(in.tee.checks, in.binding, nil, err)
	}
}

func (r *result) fail(err error) {
	r.Detail = err.Error()
	var e *evidence.Error
	if errors.As(err, &e) {
		r.Reason, r.Check, r.Field = e.Reason, e.Check, e.Field
	}
}

func (r *result) outcomes(checks []evidence.Check, want evidence.Binding, got *evidence.Verified, err error) {
	r.Checks = r.Checks[:0]
	for c, o := range evidence.Outcomes(checks, want, got, err) {
		r.Checks = append(r.Checks, check{c.Name, o, c.Doc})
	}
}

func (r *result) markBinding(o evidence.Outcome) {
	for i := range r.Checks {
		if r.Checks[i].Name == evidence.BindingCheck {
			r.Checks[i].Outcome = o
		}
	}
}

func (r *result) describe(in input) {
	for name, value := range r.claims(in) {
		r.Claims[name] = value
	}
	notAfter := r.verified.NotAfter.UTC()
	r.NotAfter = &notAfter
}

// claims yields everything that genuine evidence says.
func (r *result) claims(in input) iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		seqs := []iter.Seq2[string, evidence.Value]{r.verified.Claims.All()}
		if in.tee.also != nil {
			if more, err := in.tee.also(in.raw); err == nil {
				seqs = append(seqs, more)
			}
		}
		for _, seq := range seqs {
			for name, value := range seq {
				if !yield(name, value) {
					return
				}
			}
		}
	}
}

// appraise judges by the policy, if there is one. Nobody asked for a binding
// that was not given, so that it is passed over; a broker would refuse.
func (r *result) appraise(in input) {
	if in.policy == nil {
		return
	}
	a := policy.Appraise([]*evidence.Verified{r.verified}, in.policy)
	waived := false
	for m := range a.Mismatches() {
		if m.Claim == policy.BoundClaim && !in.binding.Checked() {
			waived = true
			continue
		}
		r.Mismatches = append(r.Mismatches, mismatch(m))
	}
	*r.Accepted = a.Accepted() || waived && len(r.Mismatches) == 0
}
