package brokerd

import (
	"crypto/sha256"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/keyfile"
	"github.com/teebroker/teebroker/protocol/kbs"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// tokenLife is how long the token of a KBS client says what it says. What it may
// be used for, its session decides.
const tokenLife = 5 * time.Minute

// serveKBS returns everything that is served: b.server, and KBS for guests of the tenant
// "default" under /kbs/v0/, and for those of any under /tenants/NAME/kbs/v0/.
func (b *broker) serveKBS(o Options, keys *keyfile.File) (http.Handler, error) {
	sessions, err := kbs.NewSessions(sessionKey(keys.NonceKey()))
	if err != nil {
		return nil, err
	}
	tokens, err := ear.NewIssuer(ear.IssuerConfig{
		Signer: keys.EARKey(), Profile: ear.KBS, Life: tokenLife,
		Verifier: ear.VerifierID{Developer: "github.com/teebroker/teebroker", Build: "examples/broker"},
	})
	if err != nil {
		return nil, err
	}
	cfg := kbs.Config{
		Broker: b.engine, Kept: b.db, Sessions: sessions, Tenant: v1.DefaultTenant, Tokens: tokens,
		AllowSampleEvidenceUnsafe: o.AllowSample, Refused: b.refused,
	}
	mine, err := kbs.New(cfg)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", b.server)
	route := func(prefix string, h http.Handler) {
		guarded := b.server.Guard(prefix, h, kbs.Refuse)
		mux.Handle(prefix+"/", guarded)
	}
	route(kbs.Prefix, mine)
	route("/tenants/{tenant}"+kbs.Prefix, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		theirs := cfg
		theirs.Tenant = r.PathValue("tenant")
		h, err := kbs.New(theirs)
		if err != nil {
			kbs.Refuse(w, w.Header().Get("Request-Id"), teebroker.MalformedRequest)
			return
		}
		http.StripPrefix("/tenants/"+theirs.Tenant, h).ServeHTTP(w, r)
	}))
	return mux, nil
}

// unclean keeps mux from redirecting a guest whose path has empty segments, which
// deployed clients send and a Handler of KBS passes over.
func unclean(mux http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, kbs.Prefix+"/") {
			for strings.Contains(r.URL.Path, "//") {
				r.URL.Path = strings.ReplaceAll(r.URL.Path, "//", "/")
			}
			r.URL.RawPath = ""
		}
		mux.ServeHTTP(w, r)
	})
}

// sessionKey returns the key of the sessions of KBS clients, which has no other
// use.
func sessionKey(key [32]byte) [32]byte {
	return sha256.Sum256(append([]byte("teebroker/broker/kbs sessions/v1 "), key[:]...))
}

// refused logs why a guest of another protocol got nothing.
func (b *broker) refused(r *http.Request, id string, err error) {
	b.log.LogAttrs(r.Context(), slog.LevelInfo, "refused", slog.String("request", id),
		slog.String("code", teebroker.Code(err)), slog.String("error", err.Error()))
}
