package brokerd

import (
	"fmt"
	"net/http"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/activation"
	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keyfile"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/protocol/keylime"
)

// verifyPolicy is the name of the policy for callers of /verify/evidence who name none.
const verifyPolicy = "default"

// serveKeylime returns next, and before it Keylime's verification API if there are
// policies for it: without one it could accept nothing.
func (b *broker) serveKeylime(o Options, verifiers evidence.Verifiers, keys *keyfile.File, next http.Handler) (http.Handler, error) {
	if o.VerifyPolicies == "" {
		return next, nil
	}
	policies, err := o.verifyPolicies()
	if err != nil {
		return nil, err
	}
	tokens, err := ear.NewIssuer(ear.IssuerConfig{
		Signer: keys.EARKey(), Profile: ear.Draft03, Life: tokenLife,
		Verifier: ear.VerifierID{Developer: "github.com/teebroker/teebroker", Build: "examples/broker"},
	})
	if err != nil {
		return nil, err
	}
	h, err := keylime.New(keylime.Config{
		Verifier: verifiers, Policies: policies, TPM: &keylime.TPM{AKs: activation.AKs(b.db)}, Tokens: tokens, Audience: "teebroker/verify",
		Failed: func(r *http.Request, err error) { b.refused(r, "", err) },
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", next)
	for _, path := range []string{"/version", "/v2.4/verify/evidence", "/v2.5/verify/evidence", "/v2.6/verify/evidence"} {
		mux.Handle(path, b.server.Guard(path, h, func(w http.ResponseWriter, _ string, err error) {
			code := http.StatusServiceUnavailable
			if teebroker.Code(err) == teebroker.Code(teebroker.RateLimited) {
				code = http.StatusTooManyRequests
			}
			keylime.Refuse(w, code, time.Second)
		}))
	}
	return mux, nil
}

// verifyPolicies returns the policies of the folder by the names that callers use.
func (o Options) verifyPolicies() (map[string][]*policy.Policy, error) {
	docs, err := readPolicies(o.VerifyPolicies)
	if err != nil {
		return nil, fmt.Errorf("-verify-policy: %w", err)
	}
	policies := map[string][]*policy.Policy{}
	for _, doc := range docs {
		p, err := policy.Parse(doc.Document, Decoders())
		if err != nil {
			return nil, fmt.Errorf("-verify-policy: %s: %w", doc.Name, err)
		}
		policies[doc.Name] = []*policy.Policy{p}
		if doc.Name == verifyPolicy {
			policies[""] = policies[doc.Name]
		}
	}
	return policies, nil
}
