package keylime

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/policy"
)

// answer is what became of the requests of one body.
type answer struct {
	each      []outcome
	failures  []*failure // of all together: the policy's
	appraisal policy.Appraisal
	token     string
	unsigned  error // why there is no token
}

// outcome is what became of one request.
type outcome struct {
	question
	verified *evidence.Verified
	failure  *failure
}

// judge verifies and appraises. It stops at the first that is not authentic.
func (h *Handler) judge(ctx context.Context, requests []request) *answer {
	a := &answer{each: make([]outcome, len(requests))}
	for i, r := range requests {
		a.each[i].question, a.each[i].failure = r.question()
	}
	for i := range a.each {
		if a.failed() {
			return a
		}
		a.each[i].failure = a.each[i].differs(a.each[0].question)
	}
	if a.failed() {
		return a
	}
	scopes, f := h.policies(a.each[0].policy)
	if f != nil {
		a.failures = []*failure{f}
		return a
	}
	for i := range a.each {
		o := &a.each[i]
		if o.verified, o.failure = h.verify(ctx, o.question); o.failure != nil {
			h.sign(a, o.failure.cause)
			return a
		}
	}
	a.appraise(scopes)
	h.sign(a, nil)
	return a
}

// question returns what r asks.
func (r request) question() (question, *failure) {
	if *r.Type == typeTPM {
		return question{}, &failure{id: unsupportedType, message: "evidence of type tpm is not verified here, or not in a list"}
	}
	var d data
	if err := strictjson.UnmarshalKnown(r.Data, &d); err != nil {
		return question{}, invalid("data", err)
	}
	return d.parse()
}

// differs returns a failure unless q is about the guest that the first of a list is
// about: evidence over different keys may be of different guests.
func (q question) differs(first question) *failure {
	switch {
	case q.key.Thumbprint() != first.key.Thumbprint() || string(q.nonce) != string(first.nonce):
		return &failure{id: listMismatch, message: "pieces of evidence of a list are over one nonce and key"}
	case q.policy != first.policy:
		return &failure{id: listMismatch, message: "a list is judged by one policy"}
	}
	return nil
}

// policies returns what a name stands for.
func (h *Handler) policies(name string) ([]*policy.Policy, *failure) {
	scopes, ok := h.cfg.Policies[name]
	switch {
	case ok:
		return scopes, nil
	case name == "":
		return nil, &failure{id: noPolicy, message: "no policy is named, and there is none for that"}
	}
	return nil, &failure{id: unknownPolicy, message: "no policy of this name"}
}

func (h *Handler) verify(ctx context.Context, q question) (*evidence.Verified, *failure) {
	v, err := h.cfg.Verifier.Verify(ctx, q.ev, q.want)
	switch {
	case err != nil:
		return nil, unauthentic(q.ev.Format, err)
	case v == nil || v.Format != q.ev.Format || !v.Bound:
		return nil, unauthentic(q.ev.Format, &evidence.Error{Format: q.ev.Format, Reason: evidence.NotBound})
	case v.Claims == nil || v.Root == [32]byte{} || len(v.Layers) != len(q.ev.Layers): // as for a Broker
		return nil, unauthentic(q.ev.Format, errors.New("keylime: an incomplete result"))
	case !h.cfg.Time().Before(v.NotAfter):
		return nil, unauthentic(q.ev.Format, &evidence.Error{Format: q.ev.Format, Reason: evidence.Stale})
	}
	return v, nil
}

// appraise judges all together.
func (a *answer) appraise(scopes []*policy.Policy) {
	var got []*evidence.Verified
	for _, o := range a.each {
		got = append(got, o.verified)
	}
	if a.appraisal = policy.Appraise(got, scopes...); a.appraisal.Accepted() {
		return
	}
	for m := range a.appraisal.Mismatches() {
		a.failures = append(a.failures, &failure{
			id: policyMismatch, claim: m.Claim, policy: m.Rule, message: "the policy does not accept " + m.Claim,
		})
	}
}

// sign adds an EAR. Without one the result is as good: nobody who needs the token
// takes its absence for a yes.
func (h *Handler) sign(a *answer, refused *evidence.Error) {
	if h.cfg.Tokens == nil {
		return
	}
	r := ear.Result{Audience: h.cfg.Audience, Nonce: a.each[0].nonce}
	if refused != nil {
		r.Refused = refused
	} else {
		r.Appraisal = a.appraisal
		if a.appraisal.Accepted() {
			r.Key = a.each[0].key
		}
	}
	token, err := h.cfg.Tokens.Issue(r)
	if err != nil {
		a.unsigned = fmt.Errorf("keylime: no EAR: %w", err)
		return
	}
	a.token = string(token)
}

func (a *answer) failed() bool { return len(a.all()) > 0 }

// all returns every failure.
func (a *answer) all() []*failure {
	var fs []*failure
	for _, o := range a.each {
		if o.failure != nil {
			fs = append(fs, o.failure)
		}
	}
	return append(fs, a.failures...)
}

// valid reports the verdict: nothing failed, and the policy accepted.
func (a *answer) valid() bool { return !a.failed() && a.appraisal.Accepted() }

// err returns why a is not a yes.
func (a *answer) err() error {
	if a.valid() {
		return nil
	}
	if err := a.appraisal.Err(); err != nil && len(a.failures) > 0 {
		return fmt.Errorf("keylime: %w", err)
	}
	return failed(a.all())
}

// status returns 400 for what is missing, as Keylime does, and 200 for any verdict.
func (a *answer) status() (int, string) {
	for _, f := range a.all() {
		if f.id == missingParam {
			return http.StatusBadRequest, "Bad Request"
		}
	}
	return http.StatusOK, "Success"
}

// result is a verdict as Keylime writes it, and what is added to it.
type result struct {
	Valid    bool           `json:"valid"`
	Claims   map[string]any `json:"claims"`
	Failures []failureJSON  `json:"failures"`

	Policies []policyJSON `json:"policies,omitempty"` // that were applied, the widest first
	EAR      string       `json:"ear,omitempty"`
	Evidence []result     `json:"evidence,omitempty"` // of a list, each
}

type failureJSON struct {
	Type    string            `json:"type"`
	Context map[string]string `json:"context"`
}

type policyJSON struct {
	Name    string         `json:"name"`
	Version string         `json:"version"`
	Digest  strictjson.Hex `json:"sha256"`
}

// results returns a as JSON has it. Claims are there only if all is accepted.
func (a *answer) results(list bool) result {
	r := result{Valid: a.valid(), Claims: map[string]any{}, Failures: failuresJSON(a.all()...), EAR: a.token}
	for _, p := range a.appraisal.Policies() {
		r.Policies = append(r.Policies, policyJSON{p.Name, p.Version, p.Digest[:]})
	}
	if !list {
		if r.Valid {
			r.Claims = claims(a.each[0].verified)
		}
		return r
	}
	for _, o := range a.each {
		one := result{Valid: r.Valid, Claims: map[string]any{}, Failures: failuresJSON()}
		if o.failure != nil {
			one.Failures = failuresJSON(o.failure)
		}
		if r.Valid {
			one.Claims = claims(o.verified)
		}
		r.Evidence = append(r.Evidence, one)
	}
	return r
}

func failuresJSON(fs ...*failure) []failureJSON {
	js := []failureJSON{}
	for _, f := range fs {
		js = append(js, failureJSON{f.name(), f.context()})
	}
	return js
}
