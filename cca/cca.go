// Package cca verifies attestation tokens of Arm's Confidential Compute
// Architecture: the platform token and the realm token in one collection, as RMM
// 1.0 and drafts of RMM 2.0 make them.
//
// A [Token] is what somebody sent. A [Verifier] turns Evidence into [Claims],
// which then hold: the key that somebody vouches for as this platform's (CPAK)
// signed what runs below the realms, and the digest of another key (RAK); that
// key signed what the realm is; and the realm asked for the Binding to be signed.
//
// It does not follow that realm or firmware are good ones, or that nobody may
// debug them: that is for [ReferenceValues] to judge. Nor does it follow that the
// platform stands where it should. A CPAK that was extracted signs anything, and a
// genuine token can be relayed from another machine: what is released has to be
// encrypted to a key in the Binding, and platforms that count should be listed.
//
// Arm has no root key. Whom to believe is in the Config: the CPAK of each
// platform, or a vendor's authority. Nothing is ever fetched, and the
// verification service that a token names is a claim like others.
//
// Documents: draft-ffm-rats-cca-token, the RMM specification (DEN0137), section
// A7.2, RFC 9052 (COSE), RFC 9711 (EAT). All live forms of the token are
// accepted, and no others: docs/claims-cca.md has the list of profiles. CBOR is read
// by this package itself, in one strict pass; go-cose makes and checks what is signed.
package cca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/lru"
)

// Format is the Evidence format of a token: the collection, with its tag.
const Format evidence.Format = "cca-token"

// Config says what makes a token genuine. What makes it acceptable is in
// [ReferenceValues]. There is no Source: a token has no collateral beside the
// keys it is verified with, and those are trusted.
type Config struct {
	// Anchors are the CPAKs of platforms, one for each instance; see
	// [ParseAnchors]. Required, unless there are Authorities.
	Anchors []Anchor

	// Authorities may vouch for the CPAKs of other instances with certificates
	// that come along. If there are none, a token with certificates is refused.
	Authorities []Authority

	// DenyInstances and DenyKeys are not trusted any more, whoever vouches for
	// them. A key is denied by SHA-256 of its SubjectPublicKeyInfo, and with it
	// all that it certifies. A certified CPAK that leaked can call itself any
	// instance: deny its key.
	DenyInstances []InstanceID
	DenyKeys      [][32]byte

	// Time returns the time at which validity is judged. If nil, time.Now.
	Time func() time.Time

	// CacheSize is how many verified platform tokens are remembered. A platform
	// makes a new one for each realm, or more seldom. If zero, 4096.
	CacheSize int

	// AllowMixedProfiles accepts a platform token of the legacy profile beside a
	// realm token of 2023, which no specification has together but test tools make.
	AllowMixedProfiles bool

	// AllowDraft2026 accepts the profiles of 2026. What is known of them here is
	// second-hand, and may be wrong.
	AllowDraft2026 bool
}

// defaultCacheSize is less than a megabyte.
const defaultCacheSize = 4096

// Verifier authenticates tokens; see [evidence.Verifier] and [Checks]. It is
// immutable: to change whom it believes, make another and let [Live] hold it.
//
// Platform tokens that were verified are remembered by the hash of their exact
// bytes, with the key. Validity is judged anew at each use.
type Verifier struct {
	now      func() time.Time
	admitted admission
	trust    trust
	known    *lru.Cache[[32]byte, *endorser]
}

// NewVerifier returns a Verifier, or an error that names the field of cfg at
// fault. It checks that keys and certificates are well formed, but not that they
// are valid now. It keeps nothing that cfg refers to.
func NewVerifier(cfg Config) (*Verifier, error) {
	switch {
	case cfg.CacheSize < 0:
		return nil, errors.New("cca: Config.CacheSize: negative")
	case cfg.CacheSize == 0:
		cfg.CacheSize = defaultCacheSize
	}
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	trust, err := newTrust(cfg)
	if err != nil {
		return nil, err
	}
	return &Verifier{
		now:      cfg.Time,
		admitted: admission{cfg.AllowMixedProfiles, cfg.AllowDraft2026, len(cfg.Authorities) > 0},
		trust:    trust,
		known:    lru.New[[32]byte, *endorser](cfg.CacheSize),
	}, nil
}

// Verify implements [evidence.Verifier]. On success the result has [*Claims]. It
// does no I/O, and does not look at ctx.
func (v *Verifier) Verify(_ context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	now := v.now()
	if err := checkEvidence(ev); err != nil {
		return nil, err
	}
	// One byte too many is enough to see that there are too many.
	t, err := parse(ev.Raw[:min(len(ev.Raw), maxToken+1)], v.admitted)
	if err != nil {
		return nil, err
	}
	if !want.MatchPadded(&t.claims.Challenge) {
		return nil, fail(checkBinding, evidence.NotBound, "cca-realm-challenge", nil)
	}
	cpak, err := v.platform(&t, now)
	if err != nil {
		return nil, err
	}
	if err := t.checkRealm(); err != nil {
		return nil, err
	}
	return &evidence.Verified{
		Format:    Format,
		Claims:    t.claims.signedBy(cpak),
		Bound:     want.Checked(),
		Signed:    bytes.Clone(t.claims.Challenge[:]),
		Root:      cpak.root,
		CheckedAt: now,
		NotAfter:  cpak.notAfter,
	}, nil
}

// checkEvidence checks that there is a token and nothing else.
func checkEvidence(ev evidence.Evidence) error {
	switch {
	case ev.Format != Format:
		return fail(checkFormat, evidence.Unsupported, "format", nil)
	case len(ev.Layers) != 0:
		return fail(checkFormat, evidence.Malformed, "layers", errors.New("a token rests on no other evidence"))
	case len(ev.Items) != 0:
		return fail(checkFormat, evidence.Malformed, "items", errors.New("nothing comes along with a token"))
	}
	return nil
}

// platform returns the CPAK that signed the platform token, which somebody
// trusted vouches for.
func (v *Verifier) platform(t *Token, now time.Time) (*endorser, error) {
	sum := sha256.Sum256([]byte(t.platform.raw))
	e, known := v.known.Get(sum)
	if !known {
		var err error
		if e, err = v.trust.endorse(t, now); err != nil {
			return nil, err
		}
	}
	if err := e.checkValidity(now); err != nil || known {
		return e, err
	}
	if err := v.trust.checkDenied(t.claims.InstanceID, e); err != nil {
		return nil, err
	}
	switch {
	case t.platform.alg != algorithmOf(e.key):
		return nil, fail(checkAlgorithm, evidence.BadSignature, platformToken, errors.New("not the algorithm of the CPAK"))
	case !t.platform.signedBy(e.key):
		return nil, fail(checkPlatformSignature, evidence.BadSignature, platformToken, nil)
	}
	v.known.Put(sum, e)
	return e, nil
}

// checkRealm follows the platform token, which is genuine, to the realm token.
func (t *Token) checkRealm() error {
	if err := t.checkBinder(); err != nil {
		return err
	}
	rak, err := t.parseRAK()
	if err != nil {
		return err
	}
	if !t.realm.signedBy(rak) {
		return fail(checkRealmSignature, evidence.BadSignature, realmToken, nil)
	}
	return nil
}
