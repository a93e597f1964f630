package teebroker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
)

// keysType is the "typ" of a keys document, which is checked.
const keysType = "teebroker-keys+jws"

const (
	keysLife = time.Hour   // of a keys document
	keysSkew = time.Minute // how much earlier an owner's clock may be than the broker's
)

// KeysDocument says to which keys the owners of one tenant wrap, section 1 of the
// protocol. The broker signs it with its identity key, so that nobody between can
// put a key of his own in it. Times are seconds since 1970 by the broker's clock.
// That of tenant "" has the keys that guests of any tenant seal requests to, and no
// other: who sees it being fetched learns of no tenant.
type KeysDocument struct {
	Issuer       strictjson.Digest `json:"iss"` // broker id
	Tenant       string            `json:"tenant"`
	Keys         []PublishedKey    `json:"keys"`                   // 1 to 16, first the one to choose; none if Tenant is ""
	RequestKeys  []PublishedKey    `json:"request_keys,omitempty"` // 1 to 16 if Tenant is "", else none
	NextIdentity strictjson.Digest `json:"next_identity,omitzero"` // broker id that is to follow
	IssuedAt     int64             `json:"iat"`
	Expires      int64             `json:"exp"`
}

// PublishedKey is an [AttestationKey] as owners see it.
type PublishedKey struct {
	ID        string            `json:"kid"`
	Suite     keywrap.Suite     `json:"suite"`
	Public    strictjson.Base64 `json:"public"` // as keywrap.Recipient.Bytes
	NotBefore int64             `json:"not_before"`
	NotAfter  int64             `json:"not_after,omitzero"`

	recipient keywrap.Recipient
}

// Recipient returns the public key of a PublishedKey that [VerifyKeys] returned.
// That of any other is zero, to which nothing can be wrapped.
func (k PublishedKey) Recipient() keywrap.Recipient { return k.recipient }

// KeysDocument returns the keys document of tenant as a compact JWS, good for an
// hour. A tenant without keys is refused as NoInstance. Tenant "" is for the request
// keys, and MalformedRequest if there are none.
func (b *Broker) KeysDocument(ctx context.Context, tenant string) ([]byte, error) {
	d, err := b.keysDocument(ctx, tenant)
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(d)
	if err != nil {
		return nil, unavailable("keys", err)
	}
	token, err := jws.Sign(b.cfg.Identity, keysType, payload)
	if err != nil {
		return nil, unavailable("keys", err)
	}
	return token, nil
}

func (b *Broker) keysDocument(ctx context.Context, tenant string) (KeysDocument, error) {
	if tenant == "" {
		return b.requestDocument()
	}
	if !names.Tenant(tenant) {
		return KeysDocument{}, malformed("not a tenant")
	}
	if b.cfg.Keys == nil {
		return KeysDocument{}, fmt.Errorf("teebroker: %w: this broker has no attestation keys", NoInstance)
	}
	keys, err := b.cfg.Keys.Published(ctx, tenant)
	if err != nil {
		return KeysDocument{}, fault("keys", err)
	}
	now := b.cfg.Time()
	d := KeysDocument{
		Issuer: b.id, Tenant: tenant, NextIdentity: b.cfg.NextIdentity,
		IssuedAt: now.Unix(), Expires: now.Add(keysLife).Unix(),
	}
	for _, k := range keys {
		if err := k.check(); err != nil || k.Retired {
			return KeysDocument{}, unavailable("keys", errors.New("not a key to publish"))
		}
		d.Keys = append(d.Keys, k.published())
	}
	if err := d.check(); err != nil {
		return KeysDocument{}, unavailable("keys", err)
	}
	return d, nil
}

func (k AttestationKey) published() PublishedKey {
	r := k.Opener.Recipient()
	p := PublishedKey{ID: k.ID, Suite: r.Suite(), Public: r.Bytes(), recipient: r}
	if !k.NotBefore.IsZero() {
		p.NotBefore = k.NotBefore.Unix()
	}
	if !k.NotAfter.IsZero() {
		p.NotAfter = k.NotAfter.Unix()
	}
	return p
}

// ErrKeys is wrapped by every failure of [VerifyKeys], and where a document has no
// key for the present.
var ErrKeys = errors.New("teebroker: no key of the broker to trust")

// VerifyKeys returns the keys document that the broker with this id signed for
// tenant, if it has not expired at now. Like [VerifyReceipt] it takes one
// encoding only, and a zero id is nobody's. Every key in it is parsed.
func VerifyKeys(token []byte, broker [32]byte, tenant string, now time.Time) (KeysDocument, error) {
	payload, err := jws.Verify(token, keysType, broker)
	if err != nil {
		return KeysDocument{}, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	var d KeysDocument
	if err := strictjson.Unmarshal(payload, &d); err != nil {
		return KeysDocument{}, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	switch {
	case d.Issuer != broker:
		return KeysDocument{}, fmt.Errorf("%w: of another issuer", ErrKeys)
	case d.Tenant != tenant:
		return KeysDocument{}, fmt.Errorf("%w: of another tenant", ErrKeys)
	case now.Add(keysSkew).Unix() < d.IssuedAt:
		return KeysDocument{}, fmt.Errorf("%w: issued in the future", ErrKeys)
	case now.Unix() >= d.Expires:
		return KeysDocument{}, fmt.Errorf("%w: expired", ErrKeys)
	}
	err = errors.Join(parseKeys(d.Keys, keywrap.OwnerSuites()), parseKeys(d.RequestKeys, keywrap.RequestSuites()))
	if err == nil {
		err = d.check()
	}
	if err != nil {
		return KeysDocument{}, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	return d, nil
}

// parseKeys sets the recipient of each of keys.
func parseKeys(keys []PublishedKey, suites []keywrap.Suite) (err error) {
	for i := range keys {
		k := &keys[i]
		if k.recipient, err = keywrap.Parse(k.Suite, k.Public, keywrap.Allow{Suites: suites}); err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
	}
	return nil
}

// check returns an error unless d is whole.
func (d KeysDocument) check() error {
	keys, none := d.Keys, d.RequestKeys
	if d.Tenant == "" {
		keys, none = none, keys
	}
	if len(keys) == 0 || len(keys) > maxKeys || len(none) != 0 {
		return fmt.Errorf("%d keys, and %d that are not this document's", len(keys), len(none))
	}
	if d.IssuedAt <= 0 || d.Expires <= d.IssuedAt {
		return errors.New("without a time")
	}
	ids := map[string]bool{}
	for _, k := range keys {
		if !names.KeyID(k.ID) || ids[k.ID] || k.recipient.Suite() != k.Suite ||
			k.NotBefore < 0 || k.NotAfter != 0 && k.NotAfter <= k.NotBefore {
			return errors.New("a key that can't be meant")
		}
		ids[k.ID] = true
	}
	return nil
}

// Current returns the first key of suite that is wrapped to at now, or of any
// suite if it is "". Errors wrap ErrKeys.
func (d KeysDocument) Current(suite keywrap.Suite, now time.Time) (PublishedKey, error) {
	return current(d.Keys, suite, now)
}

func current(keys []PublishedKey, suite keywrap.Suite, now time.Time) (PublishedKey, error) {
	t := now.Unix()
	i := slices.IndexFunc(keys, func(k PublishedKey) bool {
		return (suite == "" || k.Suite == suite) && k.NotBefore <= t && (k.NotAfter == 0 || t < k.NotAfter)
	})
	if i < 0 {
		return PublishedKey{}, fmt.Errorf("%w: none to use now", ErrKeys)
	}
	return keys[i], nil
}
