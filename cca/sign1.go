package cca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/teebroker/teebroker/cca/internal/wire"
	"github.com/teebroker/teebroker/evidence"
)

// sign1 is a COSE_Sign1: RFC 9052, section 4.2. Its parts are as received.
type sign1 struct {
	raw                  string
	protected            string // content of the byte string
	headers, unprotected item   // both maps
	payload, signature   string

	alg   cose.Algorithm
	chain []string   // x5chain, DER, the signer's first
	x5t   thumbprint // of the first
}

// parseSign1 parses the token called field.
func parseSign1(raw, field string) (sign1, error) {
	malformed := func(err error) error { return fail(checkSign1, evidence.Malformed, field, err) }
	untagged, ok := strings.CutPrefix(raw, wire.TagSign1)
	if !ok {
		return sign1{}, malformed(errors.New("not under tag 18"))
	}
	a, err := decode(untagged, fewItems)
	switch {
	case err != nil:
		return sign1{}, malformed(err)
	case a.kind != kindArray || a.len() != 4:
		return sign1{}, malformed(errors.New("not an array of four"))
	}
	protected, unprotected, payload, signature := a.element(0), a.element(1), a.element(2), a.element(3)
	if protected.kind != kindBytes || unprotected.kind != kindMap || payload.kind != kindBytes || signature.kind != kindBytes {
		return sign1{}, malformed(errors.New("parts of other types"))
	}
	headers, err := decode(protected.data, fewItems)
	switch {
	case err != nil:
		return sign1{}, malformed(err)
	case headers.kind != kindMap:
		return sign1{}, malformed(errors.New("a protected header that is not a map"))
	}
	return sign1{
		raw:         raw,
		protected:   protected.data,
		headers:     headers,
		unprotected: unprotected,
		payload:     payload.data,
		signature:   signature.data,
	}, nil
}

// checkHeaders checks and reads the headers of both tokens.
func (t *Token) checkHeaders(admitted admission) error {
	if err := t.platform.readHeaders(platformToken, admitted.certificates); err != nil {
		return err
	}
	if err := t.realm.readHeaders(realmToken, false); err != nil {
		return err
	}
	// The RAK is on P-384 always.
	if t.realm.alg != cose.AlgorithmES384 {
		return fail(checkHeaders, evidence.Unsupported, realmToken, errors.New("an algorithm other than ES384"))
	}
	return nil
}

// readHeaders reads an algorithm, and certificates if they may come along. Any
// other header, crit among them, might change what the rest means.
func (s *sign1) readHeaders(field string, certificates bool) error {
	protected, unprotected := []int64{wire.Alg}, []int64{}
	if certificates {
		protected = append(protected, wire.X5T)
		unprotected = append(unprotected, wire.X5Chain)
	}
	if !s.headers.only(protected...) || !s.unprotected.only(unprotected...) {
		return fail(checkHeaders, evidence.Unsupported, field, errors.New("a header that is not understood here"))
	}
	alg, ok := s.headers.at(wire.Alg)
	if !ok {
		return fail(checkHeaders, evidence.Malformed, field, errors.New("no algorithm"))
	}
	for _, known := range [...]cose.Algorithm{cose.AlgorithmES256, cose.AlgorithmES384, cose.AlgorithmES512} {
		if alg.is(int64(known)) {
			s.alg = known
		}
	}
	if s.alg == 0 {
		return fail(checkHeaders, evidence.Unsupported, field, errors.New("an algorithm other than ES256, ES384 and ES512"))
	}
	if err := s.readChain(); err != nil {
		return fail(checkHeaders, evidence.Malformed, field, err)
	}
	return nil
}

// signedBy reports whether key signed s. The algorithm is that of key, and has
// been compared with the header.
func (s *sign1) signedBy(key *ecdsa.PublicKey) bool {
	verifier, err := cose.NewVerifier(algorithmOf(key), key)
	if err != nil {
		return false
	}
	protected, err := cbor.Marshal([]byte(s.protected))
	if err != nil {
		return false
	}
	m := cose.Sign1Message{
		Headers:   cose.Headers{RawProtected: protected, Protected: cose.ProtectedHeader{cose.HeaderLabelAlgorithm: s.alg}},
		Payload:   []byte(s.payload),
		Signature: []byte(s.signature),
	}
	return m.Verify(nil, verifier) == nil
}

// algorithmOf returns the one algorithm that key may sign with, or zero.
func algorithmOf(key *ecdsa.PublicKey) cose.Algorithm {
	switch key.Curve {
	case elliptic.P256():
		return cose.AlgorithmES256
	case elliptic.P384():
		return cose.AlgorithmES384
	case elliptic.P521():
		return cose.AlgorithmES512
	}
	return cose.AlgorithmReserved
}
