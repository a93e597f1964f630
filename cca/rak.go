package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/subtle"
	"errors"

	"github.com/teebroker/teebroker/cca/internal/wire"
	"github.com/teebroker/teebroker/evidence"
)

const rakField = "cca-realm-public-key"

// checkBinder compares the digest that the platform token has of the RAK with the
// claim in the realm token, of which it is over the content, as received.
func (t *Token) checkBinder() error {
	if subtle.ConstantTimeCompare(t.claims.RAKHash.sum(t.rak), []byte(t.binder)) != 1 {
		return fail(checkBinder, evidence.Untrusted, rakField, errors.New("not the key that the platform token has the digest of"))
	}
	return nil
}

// parseRAK returns the RAK.
func (t *Token) parseRAK() (*ecdsa.PublicKey, error) {
	point := t.rak
	if t.profile.rak == rakCOSE {
		var err error
		if point, err = coseKeyPoint(t.rak); err != nil {
			return nil, fail(checkRAK, evidence.Malformed, rakField, err)
		}
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), []byte(point))
	if err != nil {
		return nil, fail(checkRAK, evidence.Malformed, rakField, errors.New("not an uncompressed point on P-384"))
	}
	return key, nil
}

// rakCoordinate is the length of a coordinate on P-384 in bytes.
const rakCoordinate = 48

// coseKeyPoint returns the uncompressed point of a COSE_Key, RFC 9052, section 7,
// that is public, on P-384 and for ES384 if for anything. Members that are
// private, or say what the key may do, are refused as all others are.
func coseKeyPoint(s string) (string, error) {
	m, err := decode(s, fewItems)
	switch {
	case err != nil:
		return "", err
	case m.kind != kindMap:
		return "", errors.New("not a map")
	case !m.only(wire.KeyType, wire.KeyAlg, wire.KeyCurve, wire.KeyX, wire.KeyY):
		return "", errors.New("a member that a public key does not have")
	}
	for _, n := range []struct {
		label, want int64
		optional    bool
	}{
		{wire.KeyType, wire.KeyTypeEC2, false},
		{wire.KeyAlg, wire.AlgES384, true},
		{wire.KeyCurve, wire.CurveP384, false},
	} {
		it, ok := m.at(n.label)
		if ok && !it.is(n.want) || !ok && !n.optional {
			return "", errors.New("not an EC2 key on P-384 for ES384")
		}
	}
	point := bytes.NewBufferString("\x04")
	for _, label := range []int64{wire.KeyX, wire.KeyY} {
		it, _ := m.at(label)
		if it.kind != kindBytes || len(it.data) != rakCoordinate {
			return "", errors.New("a coordinate that is not 48 bytes")
		}
		point.WriteString(it.data)
	}
	return point.String(), nil
}
