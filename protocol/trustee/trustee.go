// Package trustee asks an attestation service of Confidential Containers, by the HTTP
// interface that Trustee's has, whether evidence is genuine. It is how evidence is
// served that is not verified in this module, such as that of SGX, CSV or SE: all that
// is known of it is the word of that service, and every result says so.
//
//	POST {URL}/attestation   evidence as its attester wrote it, and the binding; the answer is a token
package trustee

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/delegated"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// Formats of evidence that nothing else in this module knows: the JSON that attesters of
// Confidential Containers write for these TEEs.
const (
	SGX evidence.Format = "sgx"
	CSV evidence.Format = "csv"
	SE  evidence.Format = "se"
)

// maxEvidence bounds the evidence that is sent, in bytes.
const maxEvidence = 1 << 20

// Config configures a [Verifier]. URL, HTTP and TEEs are required.
type Config struct {
	URL string // of the service, such as https://as.example:8080

	// HTTP knows the roots of the service, and has a certificate where it wants one.
	HTTP *http.Client

	// Keys, if there are any, are SHA-256 of the SubjectPublicKeyInfos that the
	// service may have.
	Keys [][32]byte

	// TEEs are the formats that are asked about, and how the service calls them, such
	// as {SGX: "sgx"}. The Raw of such evidence is JSON.
	TEEs map[evidence.Format]string

	// PolicyIDs are the policies that the service is to apply. What it makes of them
	// is a claim and does not decide. If there are none, it applies its default.
	PolicyIDs []string

	// Skipped names checks that this service is known not to make. They become those
	// of each result, which a broker then refuses.
	Skipped []string

	// Life is how long an answer counts, less if the token or the certificate of the
	// service ends before. If zero, five minutes.
	Life time.Duration

	Time func() time.Time // if nil, time.Now

	// AllowPlainHTTPUnsafe takes http://. Whoever is between then decides what is
	// genuine.
	AllowPlainHTTPUnsafe bool
}

// Verifier is an [evidence.Verifier] that asks a service.
//
// What is trusted is the service's TLS identity and nothing else; the signature of its
// token is for others to check. A result has that identity as Root, SHA-256 of its
// SubjectPublicKeyInfo. Of its claims, which all begin with the name of the TEE and a
// dot, "sgx.delegated_to" is the URL of the service, "sgx.status" the tier that its
// policies came to, and the others are what it says of the evidence, as docs/delegated.md
// says. No reference values take them: a policy has to say by rules on claims that it takes
// the word of another.
//
// It is safe for concurrent use if its HTTP client and clock are.
type Verifier struct {
	cfg     Config
	service *delegated.Client
}

// New returns a Verifier, or an error that names the field of cfg at fault.
func New(cfg Config) (*Verifier, error) {
	service, err := delegated.New(delegated.Service{URL: cfg.URL, HTTP: cfg.HTTP, Keys: cfg.Keys, AllowPlainHTTPUnsafe: cfg.AllowPlainHTTPUnsafe})
	if err != nil {
		return nil, fmt.Errorf("trustee: Config.%w", err)
	}
	if len(cfg.TEEs) == 0 {
		return nil, errors.New("trustee: Config.TEEs is required")
	}
	tees := map[evidence.Format]string{}
	for f, tee := range cfg.TEEs {
		if f == "" || tee == "" || strings.Trim(tee, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return nil, fmt.Errorf("trustee: Config.TEEs: no name for %q", f)
		}
		tees[f] = tee
	}
	cfg.TEEs = tees
	switch {
	case cfg.Life < 0:
		return nil, errors.New("trustee: Config.Life is negative")
	case cfg.Life == 0:
		cfg.Life = 5 * time.Minute
	}
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	cfg.Skipped, cfg.PolicyIDs = slices.Clone(cfg.Skipped), append([]string{}, cfg.PolicyIDs...)
	return &Verifier{cfg, service}, nil
}

// Verify implements [evidence.Verifier]. The binding is sent to be compared as it is, and
// compared once more with what the service found; one that does not say what that was may
// not have looked. Of a service that does not say yes nobody knows whether the evidence or
// the service is at fault: that is Unavailable.
func (v *Verifier) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	fail := func(reason evidence.Reason, err error) error {
		return &evidence.Error{Format: ev.Format, Reason: reason, Err: err}
	}
	tee, ok := v.cfg.TEEs[ev.Format]
	switch {
	case !ok || len(ev.Items) > 0 || len(ev.Layers) > 0:
		return nil, fail(evidence.Unsupported, errors.New("not asked about"))
	case !want.Checked():
		return nil, fail(evidence.Unsupported, errors.New("a service is asked for a binding only"))
	case len(ev.Raw) > maxEvidence:
		return nil, fail(evidence.Malformed, fmt.Errorf("more than %d bytes", maxEvidence))
	}
	if _, err := strictjson.Members(ev.Raw); err != nil || !json.Valid(ev.Raw) {
		return nil, fail(evidence.Malformed, errors.New("not a JSON object"))
	}
	body, err := v.body(tee, ev.Raw, want)
	if err != nil {
		return nil, fail(evidence.Malformed, err)
	}
	reply, err := v.service.Post(ctx, "attestation", body)
	if err != nil {
		return nil, fail(evidence.Unavailable, err)
	}
	if reply.Status != http.StatusOK {
		return nil, fail(evidence.Unavailable, fmt.Errorf("the service answers %d", reply.Status))
	}
	t, err := parseToken(reply.Body, tee)
	if err != nil {
		return nil, fail(evidence.Unavailable, fmt.Errorf("token: %w", err))
	}
	if !holds(want, t.reportData) {
		return nil, fail(evidence.NotBound, errors.New("the service found another binding than it was asked for"))
	}
	return v.verified(ev, tee, reply, t)
}

// body returns what is posted. Runtime data that is raw is what the evidence has to be
// over, without a digest of it.
func (v *Verifier) body(tee string, raw []byte, want evidence.Binding) ([]byte, error) {
	return json.Marshal(map[string]any{
		"verification_requests": []any{map[string]any{
			"tee": tee, "evidence": strictjson.Base64(raw), "runtime_data": map[string]any{"raw": strictjson.Base64(want.Bytes())},
		}},
		"policy_ids": v.cfg.PolicyIDs,
	})
}

func (v *Verifier) verified(ev evidence.Evidence, tee string, reply *delegated.Reply, t *token) (*evidence.Verified, error) {
	now := v.cfg.Time()
	cs := append(delegated.Claims{{Name: tee + ".delegated_to", Value: evidence.Text(v.service.Name())}}, t.claims...)
	got := &evidence.Verified{
		Format: ev.Format, Claims: cs, Bound: true, Signed: t.reportData, Root: reply.Root, Skipped: slices.Clone(v.cfg.Skipped),
		CheckedAt: now, NotAfter: delegated.Earliest(now.Add(v.cfg.Life), reply.NotAfter, t.expires),
	}
	if !now.Before(got.NotAfter) {
		return nil, &evidence.Error{Format: ev.Format, Reason: evidence.Stale, Field: "token"}
	}
	return got, nil
}

// holds reports whether found is want, perhaps followed by zeros.
func holds(want evidence.Binding, found []byte) bool {
	var field [64]byte
	return len(found) <= len(field) && copy(field[:], found) > 0 && want.MatchPadded(&field)
}

// b64 decodes a part of a token.
func b64(part string) ([]byte, error) { return base64.RawURLEncoding.Strict().DecodeString(part) }
