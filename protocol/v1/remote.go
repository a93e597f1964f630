package v1

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// A ClaimsDecoder returns the claims of ev as its format package would have made
// them, from what a service says of them: one flat JSON object by stable names. What
// it returns has to have those claims and values, in that order.
type ClaimsDecoder func(ev evidence.Evidence, claims []byte) (evidence.Claims, error)

// Remote is an [evidence.Verifier] that asks another service, so that a broker need
// not have vendors' roots, collateral and parsers, nor the service any key.
//
// What is trusted is the peer's TLS identity, and nothing else: a service behind
// the right certificate that says "genuine" is believed. It is asked for the very
// binding that is wanted; its answer is compared with the question only so far as
// that catches mistakes. Plain HTTP is refused, to this host as well, unless
// [RemoteConfig.AllowPlainHTTPUnsafe].
type Remote struct {
	client   *Client
	decoders map[evidence.Format]ClaimsDecoder
	now      func() time.Time
}

// RemoteConfig configures a Remote.
type RemoteConfig struct {
	// Client is the service; its URL begins with https://, and its HTTP client
	// knows the roots, or the certificate, that the service shows. Token is of a
	// tenant there: nobody else is told claims.
	Client ClientConfig

	// Decoders are the formats that are asked about; others are Unsupported.
	Decoders map[evidence.Format]ClaimsDecoder

	Time func() time.Time // if nil, time.Now

	// AllowPlainHTTPUnsafe takes http://. Whoever is between then decides what is
	// genuine.
	AllowPlainHTTPUnsafe bool
}

// NewRemote returns a Remote, or an error that names the field of cfg at fault.
func NewRemote(cfg RemoteConfig) (*Remote, error) {
	if len(cfg.Decoders) == 0 {
		return nil, errors.New("v1: RemoteConfig.Decoders is required")
	}
	cfg.Client.AllowPlainHTTP = cfg.AllowPlainHTTPUnsafe
	c, err := NewClient(cfg.Client)
	if err != nil {
		return nil, err
	}
	if c.base.Scheme != "https" && !cfg.AllowPlainHTTPUnsafe {
		return nil, errors.New("v1: RemoteConfig.Client.URL is not https://: nothing would say who answers")
	}
	r := &Remote{c, map[evidence.Format]ClaimsDecoder{}, cfg.Time}
	for f, d := range cfg.Decoders {
		if d == nil {
			return nil, fmt.Errorf("v1: RemoteConfig.Decoders: nothing for %s", f)
		}
		r.decoders[f] = d
	}
	if r.now == nil {
		r.now = time.Now
	}
	return r, nil
}

// Verify implements [evidence.Verifier]. A service that can't be reached, or
// answers something else than was asked, is Unavailable. An unchecked binding is
// Unsupported: nobody is asked whether evidence is genuine for whatever it was
// signed.
func (r *Remote) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	fail := func(reason evidence.Reason, err error) error {
		return &evidence.Error{Format: ev.Format, Reason: reason, Err: err}
	}
	if r.decoders[ev.Format] == nil {
		return nil, fail(evidence.Unsupported, errors.New("no decoder of its claims"))
	}
	if !want.Checked() {
		return nil, fail(evidence.Unsupported, errors.New("a service is asked for a binding only"))
	}
	var verdict verdictJSON
	err := r.client.call(ctx, http.MethodPost, PathVerify, verifyJSON{
		V: version, Bindings: []strictjson.Base64{want.Bytes()}, Evidence: listOf([]evidence.Evidence{ev}),
	}, &verdict)
	if err != nil {
		return nil, fail(evidence.Unavailable, err)
	}
	if len(verdict.Results) != 1 || verdict.Results[0].Format != ev.Format {
		return nil, fail(evidence.Unavailable, errors.New("an answer to another question"))
	}
	got := verdict.Results[0]
	if !got.Authentic {
		return nil, refusedBy(ev.Format, got)
	}
	if got.Verified == nil {
		return nil, fail(evidence.Unavailable, errors.New("no claims: the service does not know the token"))
	}
	v, err := r.decode(ev, *got.Verified)
	if err == nil && !holds(want, v.Signed) {
		err = errors.New("something else was signed than was asked for")
	}
	if err == nil && !r.now().Before(v.NotAfter) {
		return nil, fail(evidence.Stale, nil)
	}
	if err != nil {
		return nil, fail(evidence.Unavailable, err)
	}
	return v, nil
}

// holds reports whether signed is want, as it is or padded to 64 bytes.
func holds(want evidence.Binding, signed []byte) bool {
	if len(signed) == 64 {
		return want.MatchPadded((*[64]byte)(signed))
	}
	return want.MatchExact(signed)
}

// refusedBy returns the error that a service said. A Reason that does not exist
// decides nothing.
func refusedBy(f evidence.Format, r resultJSON) error {
	reasons := []evidence.Reason{
		evidence.Malformed, evidence.Unsupported, evidence.Untrusted, evidence.Revoked, evidence.Stale,
		evidence.BadSignature, evidence.NotBound, evidence.Unavailable,
	}
	e := &evidence.Error{Format: f, Reason: r.Reason, Check: r.Check, Field: r.Field}
	if r.Detail != "" {
		e.Err = fmt.Errorf("the service says: %.512q", r.Detail)
	}
	if !slices.Contains(reasons, r.Reason) {
		e.Reason, e.Err = evidence.Unavailable, errors.New("not authentic, for no reason that there is")
	}
	return e
}

// decode returns j as the result for ev, whole or not at all.
func (r *Remote) decode(ev evidence.Evidence, j verifiedJSON) (*evidence.Verified, error) {
	d := r.decoders[ev.Format]
	switch {
	case j.Format != ev.Format || d == nil:
		return nil, errors.New("a result of another format")
	case !j.Bound || len(j.Signed) == 0 || j.Root == strictjson.Digest{}:
		return nil, errors.New("an incomplete result")
	case len(j.Layers) != len(ev.Layers):
		return nil, errors.New("results of other layers")
	}
	cs, err := d(ev, j.Claims)
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	if cs == nil || !sameClaims(cs, j.Claims) {
		return nil, errors.New("claims: decoded to others than the service said")
	}
	v := &evidence.Verified{
		Format: j.Format, Claims: cs, Bound: true, Signed: j.Signed, Root: j.Root,
		Skipped: j.Skipped, CheckedAt: j.CheckedAt, NotAfter: j.NotAfter,
	}
	for i, l := range j.Layers {
		below, err := r.decode(ev.Layers[i], l)
		if err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
		v.Layers = append(v.Layers, below)
	}
	return v, nil
}

// sameClaims reports whether cs are those in text, to the byte.
func sameClaims(cs evidence.Claims, text []byte) bool {
	again, err := claimsJSON(cs)
	return err == nil && string(again) == string(text)
}
