package keywrap

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// maxJWK is the most bytes of a JWK, certificates that nobody reads included.
const maxJWK = 16 << 10

// ParseJWK parses a public JWK (RFC 7517): an EC key is of the JWE suite of its
// curve, an RSA key of JWERSA. An "alg" that is there must agree; it may be
// left out. Other members are ignored, private ones refused. Coordinates have
// the full length of the field, n and e no leading zeros, and their base64url is
// canonical: a key has one spelling. Errors wrap ErrKey.
func ParseJWK(jwk []byte, allow Allow) (Recipient, error) {
	suite, public, err := decodeJWK(jwk)
	if err != nil {
		return Recipient{}, fmt.Errorf("%w: JWK: %w", ErrKey, err)
	}
	return Parse(suite, public, allow)
}

// decodeJWK returns the suite and the public key bytes of a JWK, neither
// allowed nor validated.
func decodeJWK(jwk []byte) (Suite, []byte, error) {
	if len(jwk) > maxJWK {
		return "", nil, errors.New("too long")
	}
	var m members
	if err := strictjson.Unmarshal(jwk, &m); err != nil {
		return "", nil, err
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} { // RFC 7518 section 6
		if _, ok := m[name]; ok {
			return "", nil, errors.New("private key")
		}
	}
	kty, err := m.text("kty")
	if err != nil {
		return "", nil, err
	}
	switch kty {
	case "EC":
		return m.ec()
	case "RSA":
		return m.rsa()
	}
	return "", nil, errors.New("unknown kty")
}

// members are the members of a JWK.
type members map[string]json.RawMessage

func (m members) ec() (Suite, []byte, error) {
	if err := m.alg(algECDH); err != nil {
		return "", nil, err
	}
	crv, err := m.text("crv")
	if err != nil {
		return "", nil, err
	}
	x, err := m.bytes("x")
	if err != nil {
		return "", nil, err
	}
	y, err := m.bytes("y")
	if err != nil {
		return "", nil, err
	}
	suite := suiteOfCurve(crv)
	point, err := epk{Crv: crv, Kty: "EC", X: x, Y: y}.point(suite)
	return suite, point, err
}

func (m members) rsa() (Suite, []byte, error) {
	if err := m.alg(algRSA); err != nil {
		return "", nil, err
	}
	n, err := m.bytes("n")
	if err != nil {
		return "", nil, err
	}
	e, err := m.bytes("e")
	if err != nil {
		return "", nil, err
	}
	if !bytes.Equal(e, big.NewInt(rsaExponent).Bytes()) {
		return "", nil, errors.New("exponent")
	}
	if bytes.HasPrefix(n, []byte{0}) {
		return "", nil, errors.New("modulus")
	}
	pub := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: rsaExponent}
	return JWERSA, x509.MarshalPKCS1PublicKey(pub), nil
}

// alg returns an error if the key says that it is for another algorithm.
func (m members) alg(want string) error {
	if _, ok := m["alg"]; !ok {
		return nil
	}
	if alg, err := m.text("alg"); err != nil || alg != want {
		return errors.New("alg does not agree")
	}
	return nil
}

func (m members) text(name string) (string, error) {
	var s string
	if err := strictjson.Unmarshal(m[name], &s); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

func (m members) bytes(name string) ([]byte, error) {
	s, err := m.text(name)
	if err != nil {
		return nil, err
	}
	b, err := strictjson.ParseBase64(s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// JWK returns the key as the JWK that clients of a JWE suite send, with "alg",
// in RFC 8785 order, or nil for other suites.
func (r Recipient) JWK() []byte {
	if c, ok := r.suite.jweCurve(); ok {
		x, y := coordinates(r.public)
		return fmt.Appendf(nil, `{"alg":%q,"crv":%q,"kty":"EC","x":%q,"y":%q}`, algECDH, c.crv, b64(x), b64(y))
	}
	if r.rsa != nil {
		e := big.NewInt(int64(r.rsa.E)).Bytes()
		return fmt.Appendf(nil, `{"alg":%q,"e":%q,"kty":"RSA","n":%q}`, algRSA, b64(e), b64(r.rsa.N.Bytes()))
	}
	return nil
}
