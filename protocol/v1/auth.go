package v1

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// HeaderTenant is in which an owner may say as whom it means to act. It is
// compared with whose the credentials are, and gives nothing.
const HeaderTenant = "Teebroker-Tenant"

// maxToken bounds a bearer token, in bytes.
const maxToken = 512

// TokenDigest is what a broker stores of a bearer token: SHA-256 of its text, which
// is 1 to 512 of [A-Za-z0-9._~-].
func TokenDigest(token string) [32]byte { return sha256.Sum256([]byte(token)) }

// CertificateDigest is what a broker stores, as a token, of a client certificate:
// SHA-256("teebroker/v1/client-certificate " ‖ SHA-256 of its SubjectPublicKeyInfo).
// No bearer token has such a text.
func CertificateDigest(spki []byte) [32]byte {
	sum := sha256.Sum256(spki)
	return sha256.Sum256(append([]byte("teebroker/v1/client-certificate "), sum[:]...))
}

// isToken reports whether s has the form of a bearer token.
func isToken(s string) bool {
	return s != "" && len(s) <= maxToken && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._~-", r)
	})
}

// authenticate sets the tenant of c. Owners' routes have one, or there is an
// error. Others have one only if the caller showed credentials, which then have
// to be good.
func (s *Server) authenticate(c *call) error {
	tenant, err := s.whose(c)
	switch {
	case err != nil:
		return err
	case tenant == "" && c.route.kind == owners:
		return teebroker.Unauthenticated
	case tenant == "":
		return nil
	}
	if as := c.Header.Values(HeaderTenant); len(as) > 1 || len(as) == 1 && as[0] != tenant {
		return &httpError{code: teebroker.Forbidden, title: "these credentials are of another tenant than the one that was meant"}
	}
	c.tenant = tenant
	return nil
}

// whose returns the tenant of the credentials of c, "" if there are none. Two
// kinds have to agree.
func (s *Server) whose(c *call) (string, error) {
	byToken, err := s.tokenOf(c)
	if err != nil {
		return "", err
	}
	byCertificate, err := s.certificateOf(c)
	switch {
	case err != nil:
		return "", err
	case byToken != "" && byCertificate != "" && byToken != byCertificate:
		return "", fmt.Errorf("v1: token and certificate of two tenants: %w", teebroker.Unauthenticated)
	case byToken != "":
		return byToken, nil
	}
	return byCertificate, nil
}

func (s *Server) tokenOf(c *call) (string, error) {
	values := c.Header.Values("Authorization")
	if len(values) == 0 {
		return "", nil
	}
	token, bearer := strings.CutPrefix(values[0], "Bearer ")
	if len(values) > 1 || !bearer || !isToken(token) || s.cfg.Tenants == nil {
		return "", fmt.Errorf("v1: no bearer token that is taken here: %w", teebroker.Unauthenticated)
	}
	return s.tenant(c, TokenDigest(token))
}

// certificateOf returns the tenant of the client certificate. TLS proves possession
// of its key; nothing else of it is looked at.
func (s *Server) certificateOf(c *call) (string, error) {
	if c.TLS == nil || len(c.TLS.PeerCertificates) == 0 || s.cfg.Tenants == nil {
		return "", nil
	}
	return s.tenant(c, CertificateDigest(c.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo))
}

// tenant returns whose credentials are stored as digest.
func (s *Server) tenant(c *call, digest [32]byte) (string, error) {
	tenant, err := s.cfg.Tenants.Tenant(c.Context(), digest)
	switch {
	case errors.Is(err, store.NotFound), err == nil && tenant == "":
		return "", fmt.Errorf("v1: credentials of nobody: %w", teebroker.Unauthenticated)
	case err != nil:
		return "", fmt.Errorf("v1: tenants: %w: %w", teebroker.Unavailable, err)
	}
	return tenant, nil
}
