package v1

import (
	"context"
	"net/http"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
)

// EKIssuer issues certificates of EKs, usually an ekca.CA.
type EKIssuer interface {
	Issue(public []byte) (der []byte, err error) // of a TPMT_PUBLIC
	Root() []byte                                // in PEM
}

// EKCertificate is the certificate of an EK.
type EKCertificate struct {
	Certificate strictjson.Base64 `json:"certificate"` // DER
}

func (s *Server) certificateTable() []route {
	if s.cfg.Identities == nil || s.cfg.Identities.Certificates == nil {
		return nil
	}
	return []route{
		{http.MethodPost, PathEK + "/{digest}/certificate", owners, 0, s.issueEK},
		{http.MethodGet, PathEKRoot, owners, 0, s.ekRoot},
	}
}

// issueEK answers with a certificate of an EK that is live now. The CA is that of the
// tenant: who trusts its root takes no other tenant's TPMs for its own.
func (s *Server) issueEK(c *call) (answer, error) {
	ek, err := c.digest()
	if err != nil {
		return answer{}, err
	}
	id, err := s.cfg.Identities.Identities.ByEK(c.Context(), c.tenant, ek)
	switch {
	case err != nil:
		return answer{}, ownerError(err)
	case id.State == store.IdentityHeld:
		return answer{}, teebroker.Held
	case id.State != store.IdentityLive:
		return answer{}, teebroker.Superseded
	case len(id.Public) == 0:
		return answer{}, &httpError{http.StatusConflict, teebroker.MalformedRequest, "only the digest of this EK is known: register its agent with public first", nil}
	}
	ca, err := s.cfg.Identities.Certificates(c.Context(), c.tenant)
	if err != nil {
		return answer{}, unavailable("certificates of EKs", err)
	}
	der, err := ca.Issue(id.Public)
	if err != nil {
		return answer{}, unavailable("certificate of an EK", err)
	}
	return encode(EKCertificate{der})
}

func (s *Server) ekRoot(c *call) (answer, error) {
	ca, err := s.cfg.Identities.Certificates(c.Context(), c.tenant)
	if err != nil {
		return answer{}, unavailable("certificates of EKs", err)
	}
	return answer{http.StatusOK, "application/pem-certificate-chain", ca.Root()}, nil
}

// CertifyEK returns a certificate of an EK that is live, in DER. It ends in hours, and
// says nothing about what becomes of the EK meanwhile.
func (c *Client) CertifyEK(ctx context.Context, ek [32]byte) ([]byte, error) {
	var got EKCertificate
	err := c.call(ctx, http.MethodPost, ekPath(ek)+"/certificate", nil, &got)
	return got.Certificate, err
}

// EKRoot returns the root of the certificates of CertifyEK, in PEM.
func (c *Client) EKRoot(ctx context.Context) ([]byte, error) {
	return c.do(ctx, http.MethodGet, PathEKRoot, "", nil)
}
