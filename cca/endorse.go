package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/cca/internal/wire"
	"github.com/teebroker/teebroker/evidence"
)

// endorser is a CPAK that somebody trusted vouches for. It is immutable.
type endorser struct {
	key                 *ecdsa.PublicKey
	path                [][32]byte       // SHA-256 of the SubjectPublicKeyInfos from key to root
	root                [32]byte         // see evidence.Verified
	implementation      ImplementationID // of an Anchor
	notBefore, notAfter time.Time        // both included
}

// never is the end of what has none: RFC 5280, section 4.1.2.5.
func never() time.Time { return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }

// newEndorser returns the endorser that a is.
func newEndorser(a Anchor) (*endorser, error) {
	if a.Instance[0] != wire.UEIDTypeRAND {
		return nil, errors.New("the instance is not a UEID of type RAND")
	}
	key, spki, err := publicKey(a.Key)
	if err != nil {
		return nil, err
	}
	if a.NotAfter.IsZero() {
		a.NotAfter = never()
	}
	if a.NotAfter.Before(a.NotBefore) {
		return nil, errors.New("valid at no time")
	}
	return &endorser{key, [][32]byte{spki}, spki, a.Implementation, a.NotBefore, a.NotAfter}, nil
}

// checkValidity reports whether e may be relied on at now.
func (e *endorser) checkValidity(now time.Time) error {
	if now.Before(e.notBefore) || now.After(e.notAfter) {
		return fail(checkValidity, evidence.Stale, "CPAK", nil)
	}
	return nil
}

// authority is a parsed Authority.
type authority struct {
	Authority
	cert *x509.Certificate
	root [32]byte
}

// newAuthority parses a.
func newAuthority(a Authority) (authority, error) {
	c, err := x509.ParseCertificate(bytes.Clone(a.Certificate))
	switch {
	case err != nil:
		return authority{}, err
	case !c.BasicConstraintsValid || !c.IsCA:
		return authority{}, errors.New("not the certificate of a CA")
	}
	return authority{a, c, sha256.Sum256(c.Raw)}, nil
}

// trust is whom a Verifier believes. It is immutable.
type trust struct {
	anchors     map[InstanceID]*endorser
	authorities []authority
	instances   map[InstanceID]bool // denied
	keys        map[[32]byte]bool   // denied
}

// newTrust returns what cfg trusts, or an error that names the field at fault.
func newTrust(cfg Config) (trust, error) {
	if len(cfg.Anchors) == 0 && len(cfg.Authorities) == 0 {
		return trust{}, errors.New("cca: Config.Anchors: none, and no Authorities")
	}
	t := trust{map[InstanceID]*endorser{}, nil, map[InstanceID]bool{}, map[[32]byte]bool{}}
	for i, a := range cfg.Anchors {
		e, err := newEndorser(a)
		if err == nil && t.anchors[a.Instance] != nil {
			err = errors.New("the instance has an anchor already")
		}
		if err != nil {
			return trust{}, fmt.Errorf("cca: Config.Anchors: element %d: %w", i+1, err)
		}
		t.anchors[a.Instance] = e
	}
	for i, a := range cfg.Authorities {
		parsed, err := newAuthority(a)
		if err != nil {
			return trust{}, fmt.Errorf("cca: Config.Authorities: element %d: %w", i+1, err)
		}
		t.authorities = append(t.authorities, parsed)
	}
	for _, id := range cfg.DenyInstances {
		t.instances[id] = true
	}
	for _, spki := range cfg.DenyKeys {
		t.keys[spki] = true
	}
	return t, nil
}

// endorse returns who vouches for the CPAK of token, at now if by certificates.
func (t *trust) endorse(token *Token, now time.Time) (*endorser, error) {
	e, listed := t.anchors[token.claims.InstanceID]
	certified := token.platform.chain != nil
	switch {
	case !listed && certified:
		return t.certified(token, now)
	case !listed:
		return nil, fail(checkAnchor, evidence.Untrusted, "cca-platform-instance-id", errors.New("no anchor"))
	case certified:
		return nil, fail(checkAnchor, evidence.Untrusted, "x5chain", errors.New("certificates of an instance that has an anchor"))
	case e.implementation != token.claims.ImplementationID:
		return nil, fail(checkAnchor, evidence.Untrusted, "cca-platform-implementation-id", errors.New("an anchor of another implementation"))
	}
	return e, nil
}

// checkDenied refuses the instance id, and e, if either is denied.
func (t *trust) checkDenied(id InstanceID, e *endorser) error {
	if t.instances[id] {
		return fail(checkRevocation, evidence.Revoked, "cca-platform-instance-id", nil)
	}
	for _, spki := range e.path {
		if t.keys[spki] {
			return fail(checkRevocation, evidence.Revoked, "CPAK", nil)
		}
	}
	return nil
}

// certified returns the CPAK that token's certificates are for, which lead to an
// Authority for its implementation.
func (t *trust) certified(token *Token, now time.Time) (*endorser, error) {
	leaf, others, err := parseChain(&token.platform)
	if err != nil {
		return nil, fail(checkAnchor, evidence.Malformed, "x5chain", err)
	}
	var refused error = errors.New("no authority for the implementation")
	for _, a := range t.authorities {
		if !a.Implementations.Has(token.claims.ImplementationID) {
			continue
		}
		path, err := a.path(leaf, others, now)
		if err != nil {
			refused = err
			continue
		}
		return endPath(path, a.root)
	}
	var invalid x509.CertificateInvalidError
	if errors.As(refused, &invalid) && invalid.Reason == x509.Expired {
		return nil, fail(checkValidity, evidence.Stale, "x5chain", refused)
	}
	return nil, fail(checkAnchor, evidence.Untrusted, "x5chain", refused)
}

// maxRSABits bounds what a stranger's certificate costs: what a modulus as long as
// a token signed takes a second to see.
const maxRSABits = 4096

// parseChain returns the certificates that came with s.
func parseChain(s *sign1) (leaf *x509.Certificate, others *x509.CertPool, err error) {
	others = x509.NewCertPool()
	for i, der := range s.chain {
		c, err := x509.ParseCertificate([]byte(der))
		if err != nil { // which may quote the certificate, and that came with the Evidence
			return nil, nil, errors.New("not one X.509 certificate")
		}
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSABits {
			return nil, nil, errors.New("an RSA key that is too large")
		}
		if i == 0 {
			leaf = c
		} else {
			others.AddCert(c)
		}
	}
	if !s.x5t.is(s.chain[0]) {
		return nil, nil, errors.New("x5t of another certificate")
	}
	return leaf, others, nil
}

// path returns the certificates from leaf to that of a, all valid at now.
func (a authority) path(leaf *x509.Certificate, others *x509.CertPool, now time.Time) ([]*x509.Certificate, error) {
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, errors.New("not a certificate of a key that signs")
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: others, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		return paths[0], nil
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return nil, err
	}
	return nil, errors.New("no path to the authority") // others may quote the certificates
}

// endPath returns the endorser that a path of certificates ends in.
func endPath(path []*x509.Certificate, root [32]byte) (*endorser, error) {
	key, _, err := publicKey(path[0].PublicKey)
	if err != nil {
		return nil, fail(checkAnchor, evidence.Untrusted, "x5chain", err)
	}
	e := &endorser{key: key, root: root, notBefore: path[0].NotBefore, notAfter: path[0].NotAfter}
	for _, c := range path {
		// As it is written by everybody, not as it is in the certificate: there are
		// more ways to write a key, and it is the key that is denied.
		spki, err := x509.MarshalPKIXPublicKey(c.PublicKey)
		if err != nil {
			return nil, fail(checkAnchor, evidence.Untrusted, "x5chain", err)
		}
		e.path = append(e.path, sha256.Sum256(spki))
		if c.NotBefore.After(e.notBefore) {
			e.notBefore = c.NotBefore
		}
		if c.NotAfter.Before(e.notAfter) {
			e.notAfter = c.NotAfter
		}
	}
	return e, nil
}
