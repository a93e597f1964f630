package v1

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
)

// ExplainConfig is what it takes to say which verdicts another policy would
// change: the evidence of the last releases, kept in memory by this process and by
// no other, and gone with it. Evidence is no secret; what is kept has no keys of
// guests but public ones.
type ExplainConfig struct {
	Verifier evidence.Verifier // that of the broker; required
	Decoders policy.Decoders   // those of the owner's store; required

	// PerInstance is how many requests of an instance are kept, and Bytes what
	// all may have together; the oldest go first. If zero: 2 and 64 MiB.
	PerInstance int
	Bytes       int

	Time func() time.Time // if nil, time.Now

	kept *history
}

func (e ExplainConfig) complete() (*ExplainConfig, error) {
	switch {
	case e.Verifier == nil:
		return nil, errors.New("v1: ExplainConfig.Verifier is required")
	case len(e.Decoders) == 0:
		return nil, errors.New("v1: ExplainConfig.Decoders is required")
	case e.PerInstance < 0 || e.Bytes < 0:
		return nil, errors.New("v1: ExplainConfig: a limit is negative")
	}
	if e.PerInstance == 0 {
		e.PerInstance = 2
	}
	if e.Bytes == 0 {
		e.Bytes = 64 << 20
	}
	if e.Time == nil {
		e.Time = time.Now
	}
	e.kept = &history{per: e.PerInstance, most: e.Bytes, now: e.Time}
	return &e, nil
}

// history is the requests that were answered with a release, oldest first.
type history struct {
	per, most int
	now       func() time.Time

	mu    sync.Mutex
	all   []released
	bytes int
}

type released struct {
	at   time.Time
	size int
	req  teebroker.Request // without the blob, of which the digest is enough
	blob []byte
}

// add keeps req, whose memory is not used by anybody else, once.
func (h *history) add(req teebroker.Request) {
	r := released{at: h.now(), req: req, size: sizeOf(req.Evidence) + 4<<10}
	if req.Wrapped != nil {
		if w, err := keywrap.ParseWrapped(req.Wrapped); err == nil {
			d := w.Digest()
			r.blob = d[:]
		}
		r.req.Wrapped = nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	of := 0
	for i := len(h.all) - 1; i >= 0; i-- {
		if h.all[i].req.Tenant != req.Tenant || h.all[i].req.Instance != req.Instance {
			continue
		}
		if h.all[i].req.Nonce == req.Nonce {
			return // the same request again
		}
		if of++; of >= h.per {
			h.drop(i)
		}
	}
	h.all, h.bytes = append(h.all, r), h.bytes+r.size
	for h.bytes > h.most {
		h.drop(0)
	}
}

func (h *history) drop(i int) {
	h.bytes -= h.all[i].size
	h.all = slices.Delete(h.all, i, i+1)
}

func (h *history) of(tenant string, instance [16]byte) (rs []released) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.all {
		if r.req.Tenant == tenant && r.req.Instance == instance {
			rs = append(rs, r)
		}
	}
	return rs
}

func sizeOf(evs []evidence.Evidence) (n int) {
	for _, ev := range evs {
		n += len(ev.Raw) + sizeOf(ev.Layers)
		for _, it := range ev.Items {
			n += len(it.Data)
		}
	}
	return n
}

// Explanation says what became of one release and what would become of it.
type Explanation struct {
	Instance   strictjson.UUID `json:"instance"`
	Purpose    string          `json:"purpose"`
	Released   time.Time       `json:"released"`
	Reason     evidence.Reason `json:"reason,omitempty"` // why the evidence does not verify any more; then nothing was judged
	Before     bool            `json:"before"`           // accepted by the policies that are stored
	After      bool            `json:"after"`            // accepted with the proposed one in place
	Mismatches []Mismatch      `json:"mismatches"`       // with the proposed one
}

// Explanations answers a proposal.
type Explanations struct {
	Changed  int               `json:"changed"` // verdicts
	Results  []Explanation     `json:"results"`
	Unjudged []strictjson.UUID `json:"unjudged"` // instances that name the policy, of which no release is kept
}

// explain answers POST /broker/v1/policies/{name}/explain, whose body is the
// proposed document. Nothing is stored.
func (s *Server) explain(c *call) (answer, error) {
	proposed, err := policy.Parse(c.body, s.cfg.Explain.Decoders)
	if err != nil {
		return answer{}, &httpError{code: teebroker.MalformedRequest, title: err.Error()}
	}
	ids, err := s.cfg.Owner.Instances(c.Context(), c.tenant)
	if err != nil {
		return answer{}, ownerError(err)
	}
	out := Explanations{Results: []Explanation{}, Unjudged: []strictjson.UUID{}}
	for _, id := range ids {
		before, after, err := s.policiesOf(c, id, proposed)
		if err != nil {
			return answer{}, err
		}
		if after == nil {
			continue // it does not name the policy
		}
		kept := s.cfg.Explain.kept.of(c.tenant, id)
		if len(kept) == 0 {
			out.Unjudged = append(out.Unjudged, id)
		}
		for _, r := range kept {
			e, err := s.cfg.Explain.judge(c.Context(), r, before, after)
			if err != nil {
				return answer{}, err
			}
			if out.Results = append(out.Results, e); e.Reason == "" && e.Before != e.After {
				out.Changed++
			}
		}
	}
	return encode(out)
}

// policiesOf returns the stored policies of an instance, and the same with the
// proposed one in place; nil if the instance does not name it.
func (s *Server) policiesOf(c *call, id [16]byte, proposed *policy.Policy) (before, after []*policy.Policy, err error) {
	st, err := s.cfg.Owner.Status(c.Context(), c.tenant, id)
	if err != nil {
		return nil, nil, ownerError(err)
	}
	names := st.Registration.Policies
	if !slices.Contains(names, c.vars["name"]) {
		return nil, nil, nil
	}
	for _, name := range names {
		doc, err := s.cfg.Owner.Policy(c.Context(), c.tenant, name)
		if err != nil {
			return nil, nil, ownerError(err)
		}
		p, err := policy.Parse(doc, s.cfg.Explain.Decoders)
		if err != nil {
			return nil, nil, &httpError{http.StatusInternalServerError, teebroker.Unavailable, "a stored policy can't be read", fmt.Errorf("%s: %w", name, err)}
		}
		before = append(before, p)
		if name == c.vars["name"] {
			p = proposed
		}
		after = append(after, p)
	}
	return before, after, nil
}

// judge verifies what r presented once more, and appraises it twice.
func (e *ExplainConfig) judge(ctx context.Context, r released, before, after []*policy.Policy) (Explanation, error) {
	x := Explanation{Instance: r.req.Instance, Purpose: r.req.Purpose, Released: r.at.UTC(), Mismatches: []Mismatch{}}
	var got []*evidence.Verified
	for _, ev := range r.req.Evidence {
		b, err := nonce.V1{
			Broker: r.req.Broker, Tenant: r.req.Tenant, Instance: r.req.Instance, Purpose: r.req.Purpose,
			Format: ev.Format, Blob: r.blob,
		}.Bind(r.req.Nonce, r.req.Recipient)
		if err != nil {
			x.Reason = evidence.NotBound
			return x, nil
		}
		v, err := e.Verifier.Verify(ctx, ev, b)
		if err != nil {
			x.Reason = reasonOf(err)
			return x, nil
		}
		got = append(got, v)
	}
	x.Before = policy.Appraise(got, before...).Accepted()
	a := policy.Appraise(got, after...)
	x.After = a.Accepted()
	var err error
	x.Mismatches, err = mismatches(a.Mismatches())
	return x, err
}

func reasonOf(err error) evidence.Reason {
	var r evidence.Reason
	if errors.As(err, &r) {
		return r
	}
	return evidence.Unavailable
}
