// Package kbs serves clients of the KBS protocol, version 0.4.0: those of
// Confidential Containers, and of COCONUT-SVSM through its proxy. It translates
// between their messages and a [teebroker.Broker]; nothing is verified or decided
// here that the Broker does not decide.
//
//	POST {prefix}/auth                          a challenge, and a cookie that names it
//	POST {prefix}/attest                        evidence, for a token
//	GET  {prefix}/resource/{repo}/{type}/{tag}  a secret of the attested instance
//	GET  {prefix}/pkcs11/wrap-key               a wrapped blob in the body, for what it wraps
//
// The two kinds of clients send one message and bind different digests with it.
// The profile follows from the shape of the evidence, never from what a client
// says of itself: evidence with "snp-report" is of an SVSM, bound by
// SHA-512(x ‖ y ‖ challenge); any other is of Confidential Containers, bound by a
// digest over JCS. What these profiles can't bind, and a guest therefore can't
// rely on, is in docs/protocols.md.
//
// A resource is a secret of the one instance whose launch identity the evidence
// shows, so that no path reaches another instance's. "default/sample/test", which
// an SVSM always asks for, stands for the only secret that the instance releases
// by its profile.
package kbs

import (
	"crypto"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
)

// Version is the only version of the protocol there is between deployed clients
// and servers: neighbours are not compatible.
const Version = "0.4.0"

// Prefix is where clients look for the protocol below the address they are given.
const Prefix = "/kbs/v0"

// Alias is the resource that stands for the only secret of an instance.
const Alias = "default/sample/test"

// Config configures a Handler. Broker, Kept, Sessions, Tenant and Tokens are
// required.
type Config struct {
	Broker   *teebroker.Broker
	Kept     teebroker.Kept // of session rows; the one of the Broker will do
	Sessions Sessions       // usually NewSessions

	// Tenant is whose guests come here. Evidence never names one.
	Tenant string

	// Tokens signs the result that a client gets for its evidence, in
	// ear.KBS. Its audience is Audience.
	Tokens   *ear.Issuer
	Audience string // of this broker's resources, for the token; if empty, "teebroker/kbs"

	// Hash is what the digests of Confidential Containers clients are to be made
	// with, if they offer it: SHA256, SHA384 or SHA512. If zero, SHA384, which is
	// theirs if they offer nothing.
	Hash crypto.Hash

	// Delegated are TEEs whose evidence another service verifies, "sgx" and "csv",
	// and the formats under which the Broker's verifier has it verified: see
	// protocol/trustee. The evidence is handed on as the client wrote it. What is
	// not here is refused.
	Delegated map[string]evidence.Format

	// AllowSampleEvidenceUnsafe takes "sample" evidence, which anybody can make.
	// The Broker's verifier must know it as well, see [Sample].
	AllowSampleEvidenceUnsafe bool

	// Refused, if not nil, is called with every refusal, for logs. The error
	// may quote claims.
	Refused func(r *http.Request, id string, err error)
}

// clients is what deployed clients send as keys. The suites of an instance are
// compared later.
var clients = keywrap.Allow{
	Suites:     []keywrap.Suite{keywrap.JWEP256, keywrap.JWEP521, keywrap.JWERSA},
	MinRSABits: 2048,
}

// Handler is the KBS protocol for the guests of one tenant. It is safe for
// concurrent use. It does not limit rates: what is before it does.
type Handler struct{ cfg Config }

// New returns a Handler, or an error that names the field of cfg at fault. It
// serves every path that it is given, with Prefix before it or without.
func New(cfg Config) (*Handler, error) {
	for _, f := range []struct {
		name string
		ok   bool
	}{
		{"Broker", cfg.Broker != nil},
		{"Kept", cfg.Kept != nil},
		{"Sessions", cfg.Sessions != nil},
		{"Tenant", cfg.Tenant != ""},
		{"Tokens", cfg.Tokens != nil},
	} {
		if !f.ok {
			return nil, fmt.Errorf("kbs: Config.%s is not set", f.name)
		}
	}
	if cfg.Hash == 0 {
		cfg.Hash = crypto.SHA384
	}
	if hashName(cfg.Hash) == "" {
		return nil, errors.New("kbs: Config.Hash is not one of the protocol")
	}
	for tee, format := range cfg.Delegated {
		if !slices.Contains(delegable(), tee) || format == "" {
			return nil, fmt.Errorf("kbs: Config.Delegated: %q can't be", tee)
		}
	}
	cfg.Delegated = maps.Clone(cfg.Delegated)
	if cfg.Audience == "" {
		cfg.Audience = "teebroker/kbs"
	}
	return &Handler{cfg}, nil
}

// ServeHTTP implements [http.Handler]. Empty segments of a path count for
// nothing: deployed clients ask for "/resource//default/key/1".
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := w.Header().Get("Request-Id") // of what is before this Handler
	if id == "" {
		id = requestID()
		w.Header().Set("Request-Id", id)
	}
	err := h.serve(w, r, strings.FieldsFunc(strings.TrimPrefix(r.URL.Path, Prefix), func(c rune) bool { return c == '/' }))
	if err == nil {
		return
	}
	if h.cfg.Refused != nil {
		h.cfg.Refused(r, id, err)
	}
	Refuse(w, id, err)
}

// serve answers r, or returns why it is refused and has written nothing.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, path []string) error {
	route := func(method string, segments ...string) bool {
		if r.Method != method || len(path) < len(segments) {
			return false
		}
		for i, s := range segments {
			if path[i] != s {
				return false
			}
		}
		return true
	}
	switch {
	case route(http.MethodPost, "auth") && len(path) == 1:
		return h.auth(w, r)
	case route(http.MethodPost, "attest") && len(path) == 1:
		return h.attest(w, r)
	case route(http.MethodGet, "resource") && len(path) == 4:
		return h.resource(w, r, path[1:])
	case route(http.MethodGet, "pkcs11", "wrap-key") && len(path) == 2,
		route(http.MethodPost, "pkcs11", "unwrap-key") && len(path) == 2:
		return h.unwrap(w, r)
	}
	return &refusal{status: http.StatusNotFound, kind: kindPath, code: teebroker.MalformedRequest, detail: "there is no such resource path, or not by this method"}
}
