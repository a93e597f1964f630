package cca

import (
	"errors"

	"github.com/teebroker/teebroker/cca/internal/wire"
	"github.com/teebroker/teebroker/evidence"
)

// maxToken is the longest token looked at, in bytes. Known ones have less than 2600.
const maxToken = 64 << 10

// Names of the two tokens in errors.
const (
	platformToken = "cca-platform-token"
	realmToken    = "cca-realm-delegated-token"
)

// Token is a token that somebody sent and nobody vouches for: it is well formed
// and no more. What it claims is not to be had from it, but for what finds the
// key to verify it with. It is immutable and shares no memory with what was parsed.
type Token struct {
	platform, realm sign1
	profile         profile

	binder string // of the platform token: the digest of the RAK
	rak    string // content of the claim, which the binder is the digest of
	claims Claims
}

// ParseToken parses a token of any profile known, admitted by default or not. It
// returns an [*evidence.Error] for one of [Checks] up to "claims". It neither
// modifies nor keeps raw.
func ParseToken(raw []byte) (Token, error) {
	return parse(raw, admission{mixed: true, draft: true, certificates: true})
}

// InstanceID returns the instance that the token says it is of.
func (t Token) InstanceID() InstanceID { return t.claims.InstanceID }

// ImplementationID returns the implementation that the token says it is of.
func (t Token) ImplementationID() ImplementationID { return t.claims.ImplementationID }

// parse parses a token of what the admission admits.
func parse(raw []byte, admitted admission) (Token, error) {
	if len(raw) > maxToken {
		return Token{}, fail(checkSize, evidence.Malformed, "cca-token", nil)
	}
	// One copy, which can't change any more: everything else is a part of it.
	platform, realm, err := parseCollection(string(raw))
	if err != nil {
		return Token{}, err
	}
	var t Token
	if t.platform, err = parseSign1(platform, platformToken); err != nil {
		return Token{}, err
	}
	if t.realm, err = parseSign1(realm, realmToken); err != nil {
		return Token{}, err
	}
	if err := t.checkHeaders(admitted); err != nil {
		return Token{}, err
	}
	if err := t.parseClaims(admitted); err != nil {
		return Token{}, err
	}
	return t, nil
}

// parseCollection returns the two tokens of a collection.
func parseCollection(raw string) (platform, realm string, err error) {
	const field = "cca-token"
	if len(raw) < len(wire.TagLegacy) {
		return "", "", fail(checkCollection, evidence.Malformed, field, errTruncated)
	}
	value := bareToken
	switch raw[:len(wire.TagLegacy)] {
	case wire.TagLegacy:
	case wire.TagCMW:
		value = recordToken
	default:
		return "", "", fail(checkCollection, evidence.Malformed, field, errors.New("neither tag 399 nor tag 907"))
	}
	m, err := decode(raw[len(wire.TagLegacy):], fewItems)
	switch {
	case err != nil:
		return "", "", fail(checkCollection, evidence.Malformed, field, err)
	case m.kind != kindMap:
		return "", "", fail(checkCollection, evidence.Malformed, field, errors.New("not a map"))
	case !m.only(wire.PlatformToken, wire.RealmToken):
		return "", "", fail(checkCollection, evidence.Unsupported, field, errors.New("more than a platform and a realm token"))
	}
	if platform, err = value(m, wire.PlatformToken, platformToken); err != nil {
		return "", "", err
	}
	realm, err = value(m, wire.RealmToken, realmToken)
	return platform, realm, err
}

// bareToken returns the token that is the value under label.
func bareToken(m item, label int64, field string) (string, error) {
	it, ok := m.at(label)
	if !ok || it.kind != kindBytes {
		return "", fail(checkCollection, evidence.Malformed, field, errors.New("no byte string"))
	}
	return it.data, nil
}

// recordToken returns the token in the CMW record under label: an array of
// content format and token.
func recordToken(m item, label int64, field string) (string, error) {
	it, ok := m.at(label)
	switch {
	case !ok || it.kind != kindArray || it.len() != 2 || it.element(1).kind != kindBytes:
		return "", fail(checkCollection, evidence.Malformed, field, errors.New("no CMW record of two"))
	case !it.element(0).is(wire.ContentEATCWT):
		return "", fail(checkCollection, evidence.Unsupported, field, errors.New("a CMW record of another content format"))
	}
	return it.element(1).data, nil
}
