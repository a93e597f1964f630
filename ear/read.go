package ear

import (
	"crypto/ecdsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker/internal/jws"
)

// ReaderConfig configures a [Reader]. Keys and Profiles are required: an empty list
// takes nothing.
type ReaderConfig struct {
	// Keys are the keys of Verifiers whose word is taken, on P-256 or P-384. Their
	// names are their thumbprints; see [KeyID].
	Keys []*ecdsa.PublicKey

	Profiles []Profile

	// AllowSkew is how far the clock of a Verifier may be ahead, and how long a token
	// is taken after it expired, at most MaxSkew.
	AllowSkew time.Duration

	Time func() time.Time // if nil, time.Now
}

// MaxSkew is the most that ReaderConfig.AllowSkew may be.
const MaxSkew = 5 * time.Minute

// Reader verifies EARs for a Relying Party. It is immutable and safe for concurrent
// use if its clock is.
type Reader struct {
	keys     map[string]*ecdsa.PublicKey
	profiles []Profile
	skew     time.Duration
	now      func() time.Time
}

// KeyID returns the name of pub in the header of what it signs: its RFC 7638
// thumbprint with SHA-256, in base64url.
func KeyID(pub *ecdsa.PublicKey) (string, error) { return jws.KeyID(pub) }

// NewReader returns a Reader, or an error that names the field of cfg at fault. It
// keeps nothing that cfg refers to.
func NewReader(cfg ReaderConfig) (*Reader, error) {
	r := &Reader{map[string]*ecdsa.PublicKey{}, slices.Clone(cfg.Profiles), cfg.AllowSkew, cfg.Time}
	for _, pub := range cfg.Keys {
		kid, err := KeyID(pub)
		if err != nil {
			return nil, fmt.Errorf("ear: ReaderConfig.Keys: %w", err)
		}
		point, err := pub.Bytes()
		if err != nil {
			return nil, fmt.Errorf("ear: ReaderConfig.Keys: %w", err)
		}
		if r.keys[kid], err = ecdsa.ParseUncompressedPublicKey(pub.Curve, point); err != nil {
			return nil, fmt.Errorf("ear: ReaderConfig.Keys: %w", err)
		}
	}
	for _, p := range cfg.Profiles {
		if _, ok := p.spelling(); !ok {
			return nil, errors.New("ear: ReaderConfig.Profiles: unknown")
		}
	}
	switch {
	case len(r.keys) == 0:
		return nil, errors.New("ear: ReaderConfig.Keys: none")
	case len(r.profiles) == 0:
		return nil, errors.New("ear: ReaderConfig.Profiles: none")
	case r.skew < 0 || r.skew > MaxSkew:
		return nil, errors.New("ear: ReaderConfig.AllowSkew: not from 0 to 5 minutes")
	}
	if r.now == nil {
		r.now = time.Now
	}
	return r, nil
}

// Want is what a Relying Party asked for. The zero Want matches nothing.
type Want struct {
	Audience string // who the Relying Party is, as Verifiers call it

	// Nonce is what it gave to the Verifier, 8 to 64 bytes.
	Nonce []byte

	// AllowAnyNonce takes tokens with any nonce and with none. They may have been
	// shown before, by somebody else.
	AllowAnyNonce bool
}

// Read returns what token says, if it is an EAR that a known key signed, for this
// audience and nonce, and valid now. It is not nil if and only if the error is;
// errors wrap an [*Error]. The status is for the caller to judge: that there is an
// EAR says nothing good of an Attester.
//
// Members of the claims that no Profile has are passed over (section 4 of the
// draft), names that belong to the other Profile are not.
func (r *Reader) Read(token []byte, want Want) (*EAR, error) {
	payload, kid, err := jws.VerifyKeyed(token, Type, r.keys)
	switch {
	case errors.Is(err, jws.ErrUnknownKey):
		return nil, &Error{Reason: UnknownKey, Err: err}
	case errors.Is(err, jws.ErrSignature):
		return nil, &Error{Reason: BadSignature, Err: err}
	case err != nil:
		return nil, &Error{Reason: Malformed, Err: err}
	}
	e, err := r.decode(payload)
	if err != nil {
		return nil, err
	}
	e.KeyID = kid
	if err := r.check(e, want); err != nil {
		return nil, err
	}
	return e, nil
}

// check compares e with what is wanted, and with itself.
func (r *Reader) check(e *EAR, want Want) error {
	now := r.now()
	switch {
	case want.Audience == "" || e.Audience != want.Audience:
		return &Error{Reason: OtherAud, Member: "aud"}
	case e.Issued.After(now.Add(r.skew)):
		return &Error{Reason: NotYetValid, Member: "iat"}
	case !now.Add(-r.skew).Before(e.Expires):
		return &Error{Reason: Expired, Member: "exp"}
	case want.AllowAnyNonce:
	case len(want.Nonce) < minNonce || subtle.ConstantTimeCompare(e.Nonce, want.Nonce) != 1:
		return &Error{Reason: OtherNonce, Member: "eat_nonce"}
	}
	return e.consistent()
}

// consistent returns an error if a status is better than what it rests on.
func (e *EAR) consistent() error {
	names, _ := e.Profile.spelling()
	for _, s := range e.Submodules {
		if s.Status > s.Vector.Tier() || e.Status > s.Status {
			return &Error{Reason: Inconsistent, Member: names.status}
		}
	}
	return nil
}
