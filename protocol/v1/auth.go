package v1

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/store"
)

// HeaderTenant is in which an owner may say as whom it means to act. It is
// compared with whose the credentials are, and gives nothing.
const HeaderTenant = "Teebroker-Tenant"

// maxToken bounds a bearer token, in bytes.
const maxToken = 512

// TokenDigest is what a broker stores of a bearer token: SHA-256 of its text.
func TokenDigest(token string) [32]byte { return sha256.Sum256([]byte(token)) }

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
	if len(values) > 1 || !bearer || token == "" || len(token) > maxToken || s.cfg.Tenants == nil {
		return "", fmt.Errorf("v1: no bearer token that is taken here: %w", teebroker.Unauthenticated)
	}
	tenant, err := s.cfg.Tenants.Tenant(c.Context(), TokenDigest(token))
	switch {
	case errors.Is(err, store.NotFound), err == nil && tenant == "":
		return "", fmt.Errorf("v1: unknown token: %w", teebroker.Unauthenticated)
	case err != nil:
		return "", fmt.Errorf("v1: tenants: %w: %w", teebroker.Unavailable, err)
	}
	return tenant, nil
}

func (s *Server) certificateOf(c *call) (string, error) {
	if c.TLS == nil || len(c.TLS.PeerCertificates) == 0 {
		return "", nil
	}
	spki := sha256.Sum256(c.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
	tenant := s.cfg.Certificates[spki]
	if tenant == "" && c.route.kind == owners && c.Header.Get("Authorization") == "" {
		return "", &httpError{http.StatusUnauthorized, teebroker.Unauthenticated, "no tenant has this client certificate", nil}
	}
	return tenant, nil
}
