package spiffe

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// Keys are what an Authority signs with: each key has one use. They may be in a token.
type Keys struct {
	X509        crypto.Signer // ECDSA on P-384, of Certificate
	Certificate []byte        // DER, self-signed, as NewCertificate makes it
	JWT         crypto.Signer // ECDSA on P-256
}

// Config configures an [Authority].
type Config struct {
	TrustDomain string // such as example.org; required

	// Keys are at least one, the first of which sign. The others are in the bundle, for what
	// they signed before.
	Keys []Keys

	// How long identities are good, at most: never longer than the evidence and the authority.
	X509Life time.Duration // if zero, 1 hour; at most 24 hours
	JWTLife  time.Duration // if zero, 5 minutes; at most 1 hour

	Refresh time.Duration    // how often who verifies should fetch the bundle; if zero, 10 minutes
	Time    func() time.Time // if nil, time.Now
}

// Authority signs identities. It is immutable and safe for concurrent use.
type Authority struct {
	cfg    Config
	domain spiffeid.TrustDomain
	ca     *x509.Certificate // of the first Keys
	bundle *spiffebundle.Bundle
}

var _ teebroker.Credentials = (*Authority)(nil)

const (
	maxX509Life = 24 * time.Hour
	maxJWTLife  = time.Hour
	backdated   = 30 * time.Second // for clocks that are behind
)

// New returns an Authority. Errors wrap [ErrConfig].
func New(cfg Config) (*Authority, error) {
	cfg.X509Life, cfg.JWTLife, cfg.Refresh = or(cfg.X509Life, time.Hour), or(cfg.JWTLife, 5*time.Minute), or(cfg.Refresh, 10*time.Minute)
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	domain, err := trustDomain(cfg.TrustDomain)
	switch {
	case err != nil:
		return nil, err
	case len(cfg.Keys) == 0:
		return nil, fmt.Errorf("%w: no keys", ErrConfig)
	case cfg.X509Life < 0 || cfg.X509Life > maxX509Life || cfg.JWTLife < 0 || cfg.JWTLife > maxJWTLife || cfg.Refresh < 0:
		return nil, fmt.Errorf("%w: a life that is negative or too long", ErrConfig)
	}
	a := &Authority{cfg: cfg, domain: domain, bundle: spiffebundle.New(domain)}
	a.bundle.SetRefreshHint(cfg.Refresh)
	for i, k := range cfg.Keys {
		ca, err := a.add(k)
		if err != nil {
			return nil, fmt.Errorf("%w: keys %d: %w", ErrConfig, i, err)
		}
		if i == 0 {
			a.ca = ca
		}
	}
	return a, nil
}

func or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// trustDomain parses a trust domain, and nothing that could be one only after it was changed.
func trustDomain(name string) (spiffeid.TrustDomain, error) {
	d, err := spiffeid.TrustDomainFromString(name)
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if d.Name() != name {
		return d, fmt.Errorf("%w: the trust domain is its name, without spiffe:// or a path", ErrConfig)
	}
	return d, nil
}

// add puts k in the bundle.
func (a *Authority) add(k Keys) (*x509.Certificate, error) {
	if k.X509 == nil || k.JWT == nil {
		return nil, errors.New("one is missing")
	}
	ca, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return nil, err
	}
	pub, ok := ca.PublicKey.(*ecdsa.PublicKey)
	token, onP256 := k.JWT.Public().(*ecdsa.PublicKey)
	switch {
	case !ok || pub.Curve != elliptic.P384() || !pub.Equal(k.X509.Public()):
		return nil, errors.New("the certificate is of another key, or not one on P-384")
	case !onP256 || token.Curve != elliptic.P256():
		return nil, errors.New("the key of tokens is not on P-256")
	case !ca.IsCA || len(ca.URIs) != 1 || ca.URIs[0].String() != a.domain.IDString():
		return nil, errors.New("not the certificate of the trust domain")
	}
	if err := ca.CheckSignatureFrom(ca); err != nil {
		return nil, err
	}
	kid, err := jws.KeyID(token)
	if err != nil {
		return nil, err
	}
	a.bundle.AddX509Authority(ca)
	return ca, a.bundle.AddJWTAuthority(kid, token)
}

// NewCertificate returns the self-signed certificate, DER, of an authority of trustDomain
// whose key is on P-384: for Keys. Errors wrap [ErrConfig] if it is not.
func NewCertificate(name string, key crypto.Signer, notBefore, notAfter time.Time) ([]byte, error) {
	domain, err := trustDomain(name)
	if err != nil {
		return nil, err
	}
	if pub, ok := key.Public().(*ecdsa.PublicKey); !ok || pub.Curve != elliptic.P384() {
		return nil, fmt.Errorf("%w: not a key on P-384", ErrConfig)
	}
	t := &x509.Certificate{
		SerialNumber: serial(), URIs: []*url.URL{domain.ID().URL()},
		NotBefore: notBefore, NotAfter: notAfter,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	t.Subject.CommonName = name
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("spiffe: %w", err)
	}
	return der, nil
}

// serial returns a random serial number of 127 bits, which is not zero.
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

// ID returns the name of a guest: spiffe://TRUST-DOMAIN/TENANT/INSTANCE. Errors wrap [ErrConfig].
func (a *Authority) ID(tenant string, instance [16]byte) (spiffeid.ID, error) {
	id, err := spiffeid.FromSegments(a.domain, tenant, strictjson.UUID(instance).String())
	if err != nil {
		return id, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return id, nil
}

// Bundle returns the trust bundle: a JWK set as the SPIFFE Trust Domain and Bundle specification has it, section 4.
func (a *Authority) Bundle() ([]byte, error) {
	b, err := a.bundle.Marshal()
	if err != nil {
		return nil, fmt.Errorf("spiffe: %w", err)
	}
	return b, nil
}

// ServeHTTP serves the bundle to anybody, for GET and HEAD of whatever path it is mounted at.
func (a *Authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	b, err := a.Bundle()
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", int(a.cfg.Refresh.Seconds())))
	_, _ = w.Write(b) // who hung up needs no answer
}

// Makes implements [teebroker.Credentials].
func (a *Authority) Makes(purpose string) bool {
	return purpose == PurposeX509 || purpose == PurposeJWT
}

// Credential implements [teebroker.Credentials].
func (a *Authority) Credential(_ context.Context, r teebroker.CredentialRequest) ([]byte, error) {
	asked, key, err := parseRequest(r.Presented)
	if err == nil && (asked.Tenant != r.Tenant || asked.Instance != r.Instance || asked.Purpose != r.Purpose) {
		err = errors.New("for another guest or purpose")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w: %w", teebroker.MalformedRequest, ErrRequest, err)
	}
	id, err := a.ID(r.Tenant, r.Instance)
	if err != nil {
		return nil, err
	}
	if asked.Purpose == PurposeJWT {
		return a.token(id, key, asked.Audience, r.NotAfter)
	}
	return a.certificate(id, key, r.NotAfter)
}
