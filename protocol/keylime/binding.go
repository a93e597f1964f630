package keylime

import (
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
)

// The lengths of a caller's nonce, in bytes. What a curve allows can be less, see
// [Bind].
const (
	MinNonce = 16
	MaxNonce = 64
)

// ErrKey and ErrNonce are wrapped by the errors of [Bind] and [ParseKey].
var (
	ErrKey   = errors.New("keylime: unacceptable key")
	ErrNonce = errors.New("keylime: unacceptable nonce")
)

// curve is one that keys may be on.
type curve struct {
	name  string
	suite keywrap.Suite
	size  int // of a coordinate, in bytes
}

// curves are those with a name in the API, the smallest first.
var curves = [...]curve{{"P-256", keywrap.JWEP256, 32}, {"P-384", keywrap.JWEP384, 48}, {"P-521", keywrap.JWEP521, 66}}

// ParseKey returns the key with coordinates x and y, big-endian and of the full
// length of the field: 32 bytes on P-256, 48 on P-384, 66 on P-521. The API names no
// curve, so the length does.
func ParseKey(x, y []byte) (keywrap.Recipient, error) {
	at := slices.IndexFunc(curves[:], func(c curve) bool { return len(x) == c.size && len(y) == c.size })
	if at < 0 {
		return keywrap.Recipient{}, fmt.Errorf("%w: coordinates of %d and %d bytes are of no curve", ErrKey, len(x), len(y))
	}
	c, b64 := curves[at], base64.RawURLEncoding.EncodeToString
	jwk := fmt.Sprintf(`{"kty":"EC","crv":%q,"x":%q,"y":%q}`, c.name, b64(x), b64(y))
	key, err := keywrap.ParseJWK([]byte(jwk), keywrap.Allow{Suites: []keywrap.Suite{c.suite}})
	if err != nil {
		return keywrap.Recipient{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return key, nil
}

// Bind returns SHA-512(x ‖ y ‖ nonce), which evidence has to be over.
//
// The digest has no lengths in it, so each length of its input belongs to one curve
// only, the largest that it fits: nonces have 16 to 47 bytes with a key on P-256, 16
// to 51 with one on P-384, 16 to 64 with one on P-521. Otherwise the same evidence
// could be shown with a part of the nonce as the end of another key.
func Bind(key keywrap.Recipient, nonce []byte) (evidence.Binding, error) {
	x, y, ok := key.XY()
	at := slices.IndexFunc(curves[:], func(c curve) bool { return c.suite == key.Suite() })
	if !ok || at < 0 {
		return evidence.Binding{}, fmt.Errorf("%w: not of a curve that is accepted", ErrKey)
	}
	if most := longestNonce(at); len(nonce) < MinNonce || len(nonce) > most {
		return evidence.Binding{}, fmt.Errorf("%w: %d bytes, with a key on %s %d to %d", ErrNonce, len(nonce), curves[at].name, MinNonce, most)
	}
	sum := sha512.Sum512(slices.Concat(x, y, nonce))
	return evidence.NewBinding(sum[:])
}

// longestNonce is one byte less than what begins to look like a larger key with the
// shortest nonce.
func longestNonce(at int) int {
	if at == len(curves)-1 {
		return MaxNonce
	}
	return min(MaxNonce, 2*(curves[at+1].size-curves[at].size)+MinNonce-1)
}
