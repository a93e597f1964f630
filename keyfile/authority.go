package keyfile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// Authority is what identities of a SPIFFE trust domain are signed with.
type Authority struct {
	TrustDomain string
	X509        *ecdsa.PrivateKey // on P-384, of Certificate
	Certificate []byte            // DER
	JWT         *ecdsa.PrivateKey // on P-256
}

// authority is an Authority as it is stored.
type authority struct {
	TrustDomain string            `json:"trust_domain"`
	X509        strictjson.Base64 `json:"x509"` // scalar, 48 bytes big-endian
	Certificate strictjson.Base64 `json:"certificate"`
	JWT         strictjson.Base64 `json:"jwt"` // scalar on P-256, 32 bytes big-endian
}

const maxAuthorities = 16

// AddAuthority puts a before all others: it signs from now on. Those whose
// certificates are over at now are forgotten.
func (f *File) AddAuthority(a Authority, now time.Time) error {
	if a.X509 == nil || a.JWT == nil {
		return fmt.Errorf("%w: authority: a key is missing", ErrFile)
	}
	x, err1 := a.X509.Bytes()
	j, err2 := a.JWT.Bytes()
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("keyfile: %w", err)
	}
	added := authority{a.TrustDomain, x, slices.Clone(a.Certificate), j}
	as := slices.DeleteFunc(slices.Clone(f.authorities), func(a authority) bool {
		c, err := x509.ParseCertificate(a.Certificate)
		return err == nil && now.After(c.NotAfter)
	})
	as = slices.Insert(as, 0, added)
	if err := checkAuthorities(as); err != nil {
		return fmt.Errorf("%w: %w", ErrFile, err)
	}
	f.authorities = as
	return nil
}

// Authorities returns the authorities of a trust domain, first the one that signs.
func (f *File) Authorities(trustDomain string) ([]Authority, error) {
	var out []Authority
	for _, a := range f.authorities {
		if a.TrustDomain != trustDomain {
			continue
		}
		opened, err := a.open()
		if err != nil {
			return nil, fmt.Errorf("%w: authority: %w", ErrFile, err)
		}
		out = append(out, opened)
	}
	return out, nil
}

func (a authority) open() (Authority, error) {
	x, err1 := ecdsa.ParseRawPrivateKey(elliptic.P384(), a.X509)
	j, err2 := ecdsa.ParseRawPrivateKey(elliptic.P256(), a.JWT)
	if err1 != nil || err2 != nil || len(a.X509) != scalar || len(a.JWT) != scalar2 {
		return Authority{}, errors.New("not its keys")
	}
	c, err := x509.ParseCertificate(a.Certificate)
	if err != nil || a.TrustDomain == "" || !x.PublicKey.Equal(c.PublicKey) {
		return Authority{}, errors.New("not the certificate of its key")
	}
	return Authority{a.TrustDomain, x, slices.Clone(a.Certificate), j}, nil
}

func checkAuthorities(as []authority) error {
	if len(as) > maxAuthorities {
		return errors.New("too many authorities")
	}
	for i, a := range as {
		if _, err := a.open(); err != nil {
			return fmt.Errorf("authority %d: %w", i, err)
		}
	}
	return nil
}
