package v1

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
)

// VerifyConfig is a service that verifies and releases nothing. It holds no
// secret but the key of its nonces, which is no other Issuer's, and can run alone.
type VerifyConfig struct {
	Verifier evidence.Verifier // required

	// Issuer and Nonces are for callers that ask whether evidence is fresh:
	// both or none. They share nothing with those of a broker.
	Issuer nonce.Issuer
	Nonces nonce.Store

	// Policies, if there are any, all have to accept for a verdict of accepted.
	Policies []*policy.Policy

	Concurrent int // verified at once; if zero, 16

	gate gate
}

func (v VerifyConfig) complete() (*VerifyConfig, error) {
	switch {
	case v.Verifier == nil:
		return nil, errors.New("v1: VerifyConfig.Verifier is required")
	case (v.Issuer == nil) != (v.Nonces == nil):
		return nil, errors.New("v1: VerifyConfig needs both Issuer and Nonces, or none")
	case v.Concurrent < 0:
		return nil, errors.New("v1: VerifyConfig.Concurrent is negative")
	case v.Concurrent == 0:
		v.Concurrent = 16
	}
	v.gate = make(gate, v.Concurrent)
	return &v, nil
}

// VerifyBinding returns what evidence of format f has to have signed for a nonce
// of the profile "verify": SHA-512 over the label "teebroker/v1/verify" padded with
// zeros to 128 bytes, then nonce (tag 1) and format (tag 6), each as tag ‖ LP(value).
// No transcript of a release begins like that.
func VerifyBinding(n nonce.Nonce, f evidence.Format) (evidence.Binding, error) {
	t := make([]byte, 128, 256)
	copy(t, "teebroker/v1/verify")
	for _, field := range []struct {
		tag   byte
		value []byte
	}{{1, n[:]}, {6, []byte(f)}} {
		t = binary.BigEndian.AppendUint32(append(t, field.tag), uint32(len(field.value)))
		t = append(t, field.value...)
	}
	sum := sha512.Sum512(t)
	return evidence.NewBinding(sum[:])
}

// verifyJSON is the body of a request to verify: with a nonce of this service, or
// with what each evidence has to have signed, by the caller's word.
type verifyJSON struct {
	V        int                 `json:"v"`
	Nonce    *strictjson.Digest  `json:"nonce,omitempty"`
	Bindings []strictjson.Base64 `json:"bindings,omitempty"`
	Evidence evidenceList        `json:"evidence"`
}

// What is looked at in one request to verify.
const (
	maxVerify      = 16 // evidence, without layers
	maxVerifyDepth = 4  // of layers
	maxVerifyAll   = 64 // evidence with layers
)

// verdictJSON answers it. Everybody learns whether evidence is authentic, fresh
// and accepted, and the Reason if not. What was found and what was wanted is for
// tenants.
type verdictJSON struct {
	Fresh      bool         `json:"fresh"` // the nonce was of this service, and of this request only
	Accepted   *bool        `json:"accepted,omitempty"`
	Results    []resultJSON `json:"results"`
	Mismatches []Mismatch   `json:"mismatches,omitempty"`
}

type resultJSON struct {
	Format    evidence.Format `json:"format"`
	Authentic bool            `json:"authentic"`
	Reason    evidence.Reason `json:"reason,omitempty"`

	Check    string        `json:"check,omitempty"`
	Field    string        `json:"field,omitempty"`
	Detail   string        `json:"detail,omitempty"`
	Verified *verifiedJSON `json:"verified,omitempty"`
}

// verifiedJSON is an evidence.Verified. Claims stand in their order.
type verifiedJSON struct {
	Format    evidence.Format   `json:"format"`
	Claims    json.RawMessage   `json:"claims"`
	Bound     bool              `json:"bound"`
	Signed    strictjson.Base64 `json:"signed"`
	Root      strictjson.Digest `json:"root"`
	Layers    []verifiedJSON    `json:"layers,omitempty"`
	Skipped   []string          `json:"skipped,omitempty"`
	CheckedAt time.Time         `json:"checked_at"`
	NotAfter  time.Time         `json:"not_after"`
}

// Mismatch is an evidence.Mismatch as owners see it. Got is null if the claim was
// not made.
type Mismatch struct {
	Claim string          `json:"claim"`
	Got   json.RawMessage `json:"got"`
	Op    evidence.Op     `json:"op"`
	Want  json.RawMessage `json:"want"`
	Rule  string          `json:"rule"`
}

func mismatches(ms iter.Seq[evidence.Mismatch]) ([]Mismatch, error) {
	list := []Mismatch{}
	for m := range ms {
		got, err1 := json.Marshal(m.Got)
		want, err2 := json.Marshal(m.Want)
		if err := errors.Join(err1, err2); err != nil {
			return nil, unavailable("mismatches", err)
		}
		list = append(list, Mismatch{m.Claim, got, m.Op, want, m.Rule})
	}
	return list, nil
}

// parseVerify returns what body asks to verify, and for what.
func parseVerify(body []byte) (verifyJSON, error) {
	var j verifyJSON
	if err := strictjson.Unmarshal(body, &j); err != nil {
		return verifyJSON{}, malformed(err)
	}
	var wrong string
	switch {
	case j.V != version:
		wrong = fmt.Sprintf("v is %d, not %d", j.V, version)
	case len(j.Evidence) == 0 || len(j.Evidence) > maxVerify:
		wrong = fmt.Sprintf("%d evidence, not 1 to %d", len(j.Evidence), maxVerify)
	case (j.Nonce == nil) == (j.Bindings == nil):
		wrong = "want either nonce or bindings"
	case j.Bindings != nil && len(j.Bindings) != len(j.Evidence):
		wrong = "not one binding for each evidence"
	case tooMany(j.Evidence):
		wrong = "too many layers of evidence"
	}
	if wrong != "" {
		return verifyJSON{}, malformed(errors.New(wrong))
	}
	return j, nil
}

func tooMany(l evidenceList) bool {
	n := 0
	var over func(l evidenceList, depth int) bool
	over = func(l evidenceList, depth int) bool {
		n += len(l)
		if n > maxVerifyAll || depth > maxVerifyDepth && len(l) > 0 {
			return true
		}
		for _, e := range l {
			if over(e.Layers, depth+1) {
				return true
			}
		}
		return false
	}
	return over(l, 0)
}

// bindings returns what each evidence has to have signed.
func (j verifyJSON) bindings() ([]evidence.Binding, error) {
	bs := make([]evidence.Binding, len(j.Evidence))
	for i, e := range j.Evidence {
		var err error
		if j.Nonce != nil {
			bs[i], err = VerifyBinding(nonce.Nonce(*j.Nonce), e.Format)
		} else {
			bs[i], err = evidence.NewBinding(j.Bindings[i])
		}
		if err != nil {
			return nil, malformed(err)
		}
	}
	return bs, nil
}

// verify answers POST /broker/v1/verify. That evidence is not authentic is an
// answer, with status 200; only what can't be answered is a problem.
func (s *Server) verify(c *call) (answer, error) {
	j, err := parseVerify(c.body)
	if err != nil {
		return answer{}, err
	}
	c.body = nil
	bindings, err := j.bindings()
	if err != nil {
		return answer{}, err
	}
	evs := j.Evidence.evidence()
	verdict := verdictJSON{}
	if j.Nonce != nil {
		if err := s.cfg.Verify.redeem(c.Context(), nonce.Nonce(*j.Nonce), teebroker.RequestID(evs, bindings)); err != nil {
			return answer{}, err
		}
		verdict.Fresh = true
	}
	var got []*evidence.Verified
	for i, ev := range evs {
		v, err := s.cfg.Verify.Verifier.Verify(c.Context(), ev, bindings[i])
		r, err := result(ev, v, err, c.tenant != "")
		if err != nil {
			return answer{}, err
		}
		if verdict.Results = append(verdict.Results, r); r.Authentic {
			got = append(got, v)
		}
	}
	if err := s.cfg.Verify.appraise(&verdict, got, c.tenant != ""); err != nil {
		return answer{}, err
	}
	return encode(verdict)
}

// redeem spends n for this request.
func (v *VerifyConfig) redeem(ctx context.Context, n nonce.Nonce, request [32]byte) error {
	if v.Issuer == nil {
		return &httpError{code: teebroker.MalformedRequest, title: "this service has no nonces: send bindings"}
	}
	expiry, err := v.Issuer.Open(nonce.ProfileVerify, n)
	if err == nil {
		err = v.Nonces.Redeem(ctx, n, request, expiry)
	}
	if e := nonce.Error(""); err != nil && !errors.As(err, &e) {
		return unavailable("nonce", err)
	}
	if err != nil {
		return fmt.Errorf("v1: %w", err)
	}
	return nil
}

// result is what is said of ev. A verifier that fails without a Reason has no
// answer.
func result(ev evidence.Evidence, v *evidence.Verified, err error, tenant bool) (resultJSON, error) {
	r := resultJSON{Format: ev.Format}
	var e *evidence.Error
	switch {
	case err != nil && (!errors.As(err, &e) || e.Reason == ""):
		return r, unavailable("verifier", err)
	case err != nil:
		r.Reason = e.Reason
		if tenant {
			r.Check, r.Field, r.Detail = e.Check, e.Field, err.Error()
		}
		return r, nil
	case v == nil || v.Claims == nil || !v.Bound:
		return r, unavailable("verifier", errors.New("an incomplete result"))
	}
	r.Authentic = true
	if tenant {
		j, err := verifiedOf(v)
		if err != nil {
			return r, unavailable("claims", err)
		}
		r.Verified = &j
	}
	return r, nil
}

// appraise adds the verdict of the policies, if there are any.
func (v *VerifyConfig) appraise(to *verdictJSON, got []*evidence.Verified, tenant bool) (err error) {
	if len(v.Policies) == 0 {
		return nil
	}
	a := policy.Appraise(got, v.Policies...)
	accepted := a.Accepted() && len(got) == len(to.Results)
	to.Accepted = &accepted
	if tenant {
		to.Mismatches, err = mismatches(a.Mismatches())
	}
	return err
}

func verifiedOf(v *evidence.Verified) (verifiedJSON, error) {
	claims, err := claimsJSON(v.Claims)
	j := verifiedJSON{
		v.Format, claims, v.Bound, v.Signed, v.Root, nil, v.Skipped, v.CheckedAt.UTC(), v.NotAfter.UTC(),
	}
	for _, l := range v.Layers {
		if l == nil || l.Claims == nil {
			return verifiedJSON{}, errors.New("a layer without a result")
		}
		below, err := verifiedOf(l)
		if err != nil {
			return verifiedJSON{}, err
		}
		j.Layers = append(j.Layers, below)
	}
	return j, err
}

// claimsJSON returns one flat object of claims, in their order.
func claimsJSON(cs evidence.Claims) ([]byte, error) {
	b := []byte{'{'}
	for name, value := range cs.All() {
		if len(b) > 1 {
			b = append(b, ',')
		}
		quoted, err1 := json.Marshal(name)
		text, err2 := json.Marshal(value)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		b = append(append(append(b, quoted...), ':'), text...)
	}
	return append(b, '}'), nil
}
