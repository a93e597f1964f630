package cca

import (
	"bytes"
	"errors"

	"github.com/teebroker/teebroker/cca/internal/wire"
)

// maxChain is the most certificates that may come with a token.
const maxChain = 4

// thumbprint is x5t: RFC 9360, section 2. The zero thumbprint is that of a token
// without one.
type thumbprint struct {
	hash   Hash
	digest string
}

// is reports whether p is the thumbprint of cert, or none.
func (p thumbprint) is(cert string) bool {
	return p.hash == 0 || bytes.Equal(p.hash.sum(cert), []byte(p.digest))
}

// readChain reads x5chain and x5t, if they are there.
func (s *sign1) readChain() error {
	chain, hasChain := s.unprotected.at(wire.X5Chain)
	x5t, hasX5T := s.headers.at(wire.X5T)
	if hasX5T && !hasChain {
		return errors.New("x5t without x5chain")
	}
	var err error
	if hasChain {
		if s.chain, err = chainOf(chain); err != nil {
			return err
		}
	}
	if hasX5T {
		s.x5t, err = thumbprintOf(x5t)
	}
	return err
}

// chainOf returns the certificates of x5chain: a byte string if it is one, an
// array if there are more.
func chainOf(it item) ([]string, error) {
	certs := []item{it}
	if it.kind == kindArray {
		if it.len() < 2 || it.len() > maxChain {
			return nil, errors.New("x5chain: not 2 to 4 certificates in an array")
		}
		certs = it.elements()
	}
	var chain []string
	for _, c := range certs {
		if c.kind != kindBytes {
			return nil, errors.New("x5chain: a certificate that is not a byte string")
		}
		chain = append(chain, c.data)
	}
	return chain, nil
}

// thumbprintOf returns what x5t has: an algorithm by its COSE number and a digest.
func thumbprintOf(it item) (thumbprint, error) {
	if it.kind != kindArray || it.len() != 2 || it.element(1).kind != kindBytes {
		return thumbprint{}, errors.New("x5t: not an algorithm and a digest")
	}
	p := thumbprint{digest: it.element(1).data}
	switch alg := it.element(0); {
	case alg.is(wire.HashSHA256):
		p.hash = SHA256
	case alg.is(wire.HashSHA384):
		p.hash = SHA384
	case alg.is(wire.HashSHA512):
		p.hash = SHA512
	default:
		return thumbprint{}, errors.New("x5t: an unknown algorithm")
	}
	return p, nil
}
