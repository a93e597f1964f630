package spiffe

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// until returns when an identity made at now ends, that lives no longer than life, the
// evidence and the authority.
func (a *Authority) until(now time.Time, life time.Duration, evidence time.Time) (time.Time, error) {
	end := now.Add(life)
	for _, other := range []time.Time{evidence, a.ca.NotAfter} {
		if other.Before(end) {
			end = other
		}
	}
	end = end.Truncate(time.Second)
	if !now.Before(end) || now.Before(a.ca.NotBefore) {
		return end, errors.New("spiffe: the authority or the evidence is not good now")
	}
	return end, nil
}

// certificate returns an X.509-SVID, section 2 to 4 of its specification. There is
// nothing after it: the authority is in the bundle.
func (a *Authority) certificate(id spiffeid.ID, key *ecdsa.PublicKey, evidence time.Time) ([]byte, error) {
	now := a.cfg.Time()
	end, err := a.until(now, a.cfg.X509Life, evidence)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial(), URIs: []*url.URL{id.URL()}, NotBefore: now.Add(-backdated), NotAfter: end,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.ca, key, a.cfg.Keys[0].X509)
	if err != nil {
		return nil, fmt.Errorf("spiffe: %w", err)
	}
	return der, nil
}

// tokenClaims are those of a JWT-SVID, section 3 of its specification. Confirm names the
// guest's key (RFC 7800, section 3.1, with the thumbprint of RFC 9449), for who asks for a proof of it.
type tokenClaims struct {
	Subject  string   `json:"sub"`
	Audience []string `json:"aud"`
	Expiry   int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	Confirm  struct {
		Thumbprint string `json:"jkt"`
	} `json:"cnf"`
}

// tokenType is the "typ" of a JWT-SVID.
const tokenType = "JWT"

func (a *Authority) token(id spiffeid.ID, key *ecdsa.PublicKey, audience []string, evidence time.Time) ([]byte, error) {
	now := a.cfg.Time()
	end, err := a.until(now, a.cfg.JWTLife, evidence)
	if err != nil {
		return nil, err
	}
	thumbprint, err := jws.Thumbprint(key)
	if err != nil {
		return nil, fmt.Errorf("spiffe: %w", err)
	}
	c := tokenClaims{Subject: id.String(), Audience: audience, Expiry: end.Unix(), IssuedAt: now.Unix()}
	c.Confirm.Thumbprint = base64.RawURLEncoding.EncodeToString(thumbprint[:])
	payload, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("spiffe: %w", err)
	}
	token, err := jws.SignKeyed(a.cfg.Keys[0].JWT, tokenType, payload)
	if err != nil {
		return nil, fmt.Errorf("spiffe: %w", err)
	}
	return token, nil
}

// ParseX509 returns the X.509-SVID that was released for r and key: secret is what
// guest.Session.Open returned. If bundle is not nil, it has to vouch for it now. Errors wrap [ErrSVID].
func ParseX509(secret []byte, key crypto.Signer, r Request, bundle *spiffebundle.Bundle) (*x509svid.SVID, error) {
	if err := r.asks(PurposeX509); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSVID, err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSVID, err)
	}
	defer clear(pkcs8)
	svid, err := x509svid.ParseRaw(secret, pkcs8) // compares the key
	if err == nil && bundle != nil {
		_, _, err = x509svid.Verify(svid.Certificates, bundle)
	}
	if err == nil {
		err = r.named(svid.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSVID, err)
	}
	return svid, nil
}

// ParseJWT returns the JWT-SVID that was released for r. If bundle is not nil, it has to vouch for it
// now; otherwise nothing but the name and the audience is compared, for a guest that trusts the broker's receipt. Errors wrap [ErrSVID].
func ParseJWT(secret []byte, r Request, bundle *spiffebundle.Bundle) (*jwtsvid.SVID, error) {
	var svid *jwtsvid.SVID
	err := r.asks(PurposeJWT)
	if err == nil && bundle != nil {
		svid, err = jwtsvid.ParseAndValidate(string(secret), bundle, r.Audience)
	} else if err == nil {
		svid, err = jwtsvid.ParseInsecure(string(secret), r.Audience)
	}
	if err == nil {
		err = r.named(svid.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSVID, err)
	}
	return svid, nil
}

// asks returns an error unless r asks for what is called purpose.
func (r Request) asks(purpose string) error {
	if r.Purpose != purpose {
		return errors.New("it was not asked for")
	}
	return r.check()
}

// named returns an error unless id is that of the guest that asked, in whatever trust domain.
func (r Request) named(id spiffeid.ID) error {
	want, err := spiffeid.FromSegments(id.TrustDomain(), r.Tenant, strictjson.UUID(r.Instance).String())
	if err != nil {
		return err
	}
	if id != want {
		return errors.New("it is of another guest")
	}
	return nil
}
