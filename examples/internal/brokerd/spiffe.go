package brokerd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/internal/filelock"
	"github.com/teebroker/teebroker/keyfile"
	"github.com/teebroker/teebroker/protocol/spiffe"
)

// bundlePath is where the trust bundle is.
const bundlePath = "/broker/v1/spiffe/bundle"

// An authority is good for a year, and followed by another at the first start in its last
// third, while it goes on to be in the bundle.
const authorityLife = 365 * 24 * time.Hour

// spiffe returns what signs identities, or nil if there is no trust domain for them.
func (o Options) spiffe(f files, keys *keyfile.File, now time.Time) (*spiffe.Authority, error) {
	if o.TrustDomain == "" {
		return nil, nil
	}
	as, err := keys.Authorities(o.TrustDomain)
	if err == nil && !lasts(as, now) {
		as, err = o.newAuthority(f, now)
	}
	if err != nil {
		return nil, err
	}
	cfg := spiffe.Config{TrustDomain: o.TrustDomain, X509Life: o.SPIFFELife}
	for _, a := range as {
		cfg.Keys = append(cfg.Keys, spiffe.Keys{X509: a.X509, Certificate: a.Certificate, JWT: a.JWT})
	}
	made, err := spiffe.New(cfg)
	if err != nil {
		return nil, cli.Usagef("-spiffe-trust-domain, -spiffe-life: %w", err)
	}
	return made, nil
}

// lasts reports whether the first of as has more than a third of its life left.
func lasts(as []keyfile.Authority, now time.Time) bool {
	if len(as) == 0 {
		return false
	}
	c, err := x509.ParseCertificate(as[0].Certificate)
	return err == nil && c.NotAfter.Sub(now) > authorityLife/3
}

// newAuthority adds an authority to the key file, unless another process did meanwhile.
func (o Options) newAuthority(f files, now time.Time) ([]keyfile.Authority, error) {
	unlock, err := filelock.Lock(f.keys)
	if err != nil {
		return nil, err
	}
	defer unlock()
	keys, err := keyfile.Read(f.keys)
	if err != nil {
		return nil, err
	}
	if as, err := keys.Authorities(o.TrustDomain); err != nil || lasts(as, now) {
		return as, err
	}
	a := keyfile.Authority{TrustDomain: o.TrustDomain}
	if a.X509, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		return nil, err
	}
	if a.JWT, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if a.Certificate, err = spiffe.NewCertificate(o.TrustDomain, a.X509, now.Add(-time.Hour), now.Add(authorityLife)); err != nil {
		return nil, cli.Usagef("-spiffe-trust-domain: %w", err)
	}
	if err := keys.AddAuthority(a, now); err != nil {
		return nil, err
	}
	if err := keys.Replace(f.keys); err != nil {
		return nil, err
	}
	return keys.Authorities(o.TrustDomain)
}

// serveBundle returns next, and before it the trust bundle, if there is one.
func (b *broker) serveBundle(a *spiffe.Authority, next http.Handler) http.Handler {
	if a == nil {
		return next
	}
	mux := http.NewServeMux()
	mux.Handle("/", next)
	mux.Handle(bundlePath, b.server.Guard(bundlePath, a, func(w http.ResponseWriter, _ string, err error) {
		code := http.StatusServiceUnavailable
		if teebroker.Code(err) == teebroker.Code(teebroker.RateLimited) {
			code = http.StatusTooManyRequests
		}
		w.Header().Set("Retry-After", "1")
		http.Error(w, fmt.Sprint(teebroker.Code(err)), code)
	}))
	return mux
}
