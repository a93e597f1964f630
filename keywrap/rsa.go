package keywrap

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
)

// rsaExponent is the only public exponent.
const rsaExponent = 65537

// parseRSA parses a DER RSAPublicKey (RFC 8017 appendix A.1.1) that may be used.
func parseRSA(der []byte) (*rsa.PublicKey, error) {
	pub, err := x509.ParsePKCS1PublicKey(der)
	if err != nil {
		return nil, err
	}
	bits := pub.N.BitLen()
	switch {
	case bits < leastRSABits || bits > mostRSABits:
		return nil, errors.New("size of modulus")
	case pub.N.Bit(0) == 0:
		return nil, errors.New("even modulus")
	case pub.E != rsaExponent:
		return nil, errors.New("exponent")
	}
	return pub, nil
}

// wrapRSA wraps cek as RSA-OAEP-256 (RFC 7518 section 4.3).
func wrapRSA(pub *rsa.PublicKey, cek []byte) ([]byte, error) {
	return rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, cek, nil)
}

// unwrapRSA undoes wrapRSA.
func unwrapRSA(pub *rsa.PublicKey, k crypto.Decrypter, wrapped []byte) ([]byte, error) {
	if len(wrapped) != pub.Size() {
		return nil, errors.New("length of wrapped key")
	}
	cek, err := k.Decrypt(rand.Reader, wrapped, &rsa.OAEPOptions{Hash: crypto.SHA256})
	if err != nil {
		return nil, err
	}
	if len(cek) != cekSize {
		clear(cek)
		return nil, errors.New("length of content key")
	}
	return cek, nil
}
