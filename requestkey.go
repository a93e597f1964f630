package teebroker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/keywrap"
)

// RequestKey is a key of the broker that guests seal what they ask to, so that who
// forwards it sees sizes and times only. It is of no tenant, since the tenant is in
// what is asked, and has no other use.
type RequestKey struct {
	ID     string         // 1 to 64 of [a-z0-9._-], unique among request keys for ever
	Opener keywrap.Opener // of a suite of keywrap.RequestSuites

	// Guests seal to the key from NotBefore up to and without NotAfter; if
	// NotAfter is zero, without end. It opens for 61 minutes longer, since a keys
	// document that was served before is good for an hour.
	NotBefore, NotAfter time.Time
}

// opensUntil returns when k opens nothing any more, or false if there is no end.
func (k RequestKey) opensUntil() (time.Time, bool) {
	return k.NotAfter.Add(keysLife + keysSkew), !k.NotAfter.IsZero()
}

func (k RequestKey) check() error {
	switch {
	case !names.KeyID(k.ID):
		return errors.New("not a key id")
	case k.Opener == nil:
		return errors.New("no key")
	case !slices.Contains(keywrap.RequestSuites(), k.Opener.Recipient().Suite()):
		return errors.New("not of a suite of request keys")
	case !k.NotBefore.IsZero() && k.NotBefore.Unix() < 0, !k.NotAfter.IsZero() && k.NotAfter.Unix() <= max(0, k.NotBefore.Unix()):
		return errors.New("not a time to seal in")
	}
	return nil
}

// checkRequestKeys returns an error unless every key has one id and one use.
func checkRequestKeys(keys []RequestKey, others Keys) error {
	if len(keys) > maxKeys {
		return fmt.Errorf("%d keys, want at most %d", len(keys), maxKeys)
	}
	ids, prints := map[string]bool{}, map[[32]byte]bool{}
	if s, ok := others.(*KeySet); ok && s != nil {
		for _, t := range s.tenants {
			for _, k := range t.published {
				prints[k.Opener.Recipient().Thumbprint()] = true
			}
		}
	}
	for _, k := range keys {
		if err := k.check(); err != nil {
			return fmt.Errorf("key %.64q: %w", k.ID, err)
		}
		print := k.Opener.Recipient().Thumbprint()
		if ids[k.ID] || prints[print] {
			return fmt.Errorf("key %q: its id or it is there twice, or it unwraps what owners wrapped", k.ID)
		}
		ids[k.ID], prints[print] = true, true
	}
	return nil
}

// requestKeys are the keys to publish at now, as guests see them.
func (b *Broker) requestKeys(now time.Time) []PublishedKey {
	var ks []PublishedKey
	for _, k := range b.cfg.RequestKeys {
		if k.NotAfter.IsZero() || now.Before(k.NotAfter) {
			ks = append(ks, AttestationKey{ID: k.ID, Opener: k.Opener, NotBefore: k.NotBefore, NotAfter: k.NotAfter}.published())
		}
	}
	return ks
}

// SealedRequest is something sealed to a [RequestKey]. What it is, protocol/v1
// says.
type SealedRequest struct {
	KeyID  string         `json:"kid"`
	Sealed keywrap.Sealed `json:"sealed"`
}

// RequestKey returns the first key that guests seal to at now, or a minute later: the
// guest's clock may be behind, and a broker opens with a key from the first. Errors
// wrap ErrKeys.
func (d KeysDocument) RequestKey(now time.Time) (PublishedKey, error) {
	return current(d.RequestKeys, "", now.Add(keysSkew))
}

// SealRequest seals plain, at most keywrap.MaxSecret bytes, to the request key of
// now. d comes from [VerifyKeys]. Errors for want of a key wrap ErrKeys.
func (d KeysDocument) SealRequest(plain []byte, now time.Time) (SealedRequest, error) {
	k, err := d.RequestKey(now)
	if err != nil {
		return SealedRequest{}, err
	}
	box, err := k.recipient.Seal(plain, requestInfo(d.Issuer, k.ID))
	if err != nil {
		return SealedRequest{}, fmt.Errorf("teebroker: %w", err)
	}
	return SealedRequest{k.ID, box}, nil
}

// OpenRequest returns what a guest sealed to one of Config.RequestKeys, the
// caller's to clear. Whoever has the public key can have sealed it: nothing in it
// is known to be from a guest. A key that there is not, or no more, and what does
// not open, are MalformedRequest.
func (b *Broker) OpenRequest(ctx context.Context, r SealedRequest) ([]byte, error) {
	i := slices.IndexFunc(b.cfg.RequestKeys, func(k RequestKey) bool { return k.ID == r.KeyID })
	if i < 0 {
		return nil, malformed("sealed to no request key of this broker")
	}
	k := b.cfg.RequestKeys[i]
	if end, ok := k.opensUntil(); ok && !b.cfg.Time().Before(end) {
		return nil, malformed("sealed to a request key that is over")
	}
	plain, err := k.Opener.Open(ctx, r.Sealed, requestInfo(b.id, k.ID))
	switch {
	case err == nil:
		return plain, nil
	case ctx.Err() == nil && errors.Is(err, keywrap.ErrOpen):
		return nil, malformed("a sealed request that does not open")
	}
	return nil, unavailable("request key", err)
}

// requestInfo is what is authenticated with a sealed request:
// "teebroker/v1/sealed-request" ‖ 0x00 ‖ LP(broker id) ‖ LP(kid).
func requestInfo(broker [32]byte, kid string) []byte {
	return appendLP(appendLP([]byte("teebroker/v1/sealed-request\x00"), broker[:]), []byte(kid))
}

// requestDocument is the keys document of no tenant, which has request keys only.
func (b *Broker) requestDocument() (KeysDocument, error) {
	if len(b.cfg.RequestKeys) == 0 {
		return KeysDocument{}, malformed("no tenant, and this broker has no request keys")
	}
	now := b.cfg.Time()
	d := KeysDocument{
		Issuer: b.id, Keys: []PublishedKey{}, RequestKeys: b.requestKeys(now), NextIdentity: b.cfg.NextIdentity,
		IssuedAt: now.Unix(), Expires: now.Add(keysLife).Unix(),
	}
	if err := d.check(); err != nil {
		return KeysDocument{}, unavailable("keys", err)
	}
	return d, nil
}
