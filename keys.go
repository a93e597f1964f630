package teebroker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/keywrap"
)

// AttestationKey is a key of the broker that unwraps what owners of one tenant
// wrapped. It has no other use.
type AttestationKey struct {
	ID     string         // 1 to 64 of [a-z0-9._-], unique in its tenant for ever
	Opener keywrap.Opener // of a suite of keywrap.OwnerSuites

	// Owners wrap to the key from NotBefore up to and without NotAfter; if
	// NotAfter is zero, without end. What was wrapped opens until the key is
	// retired.
	NotBefore, NotAfter time.Time

	// Retired keys unwrap nothing and are published to nobody. One is named so
	// that its id is not used again, and needs no Opener.
	Retired bool
}

// Keys has the attestation keys of every tenant, in memory or in a token. It is
// safe for concurrent use. [NewKeySet] makes one of keys that are at hand.
type Keys interface {
	// Key returns the key of tenant that is called kid, or an error wrapping
	// ForeignBlob if the tenant has none or it is retired. With any other error
	// the outcome is unknown.
	Key(ctx context.Context, tenant, kid string) (keywrap.Opener, error)

	// Published returns the keys of tenant that are not retired, in the order
	// in which owners shall choose, or an error wrapping NoInstance if it has
	// none.
	Published(ctx context.Context, tenant string) ([]AttestationKey, error)

	// InToken reports whether every key, of every tenant, is where nobody can
	// copy it. If not, every receipt says so.
	InToken() bool
}

// KeySet is [Keys] of a fixed set. Rotation is another KeySet in another Broker.
type KeySet struct {
	tenants map[string]*tenantKeys
	inToken bool
}

type tenantKeys struct {
	ring      *keywrap.Keyring // that open; nil if none does
	published []AttestationKey
}

// maxKeys bounds the keys of a tenant, so that a keys document stays small.
const maxKeys = 16

// NewKeySet returns the Keys of tenants, 1 to 16 each, first the one that owners
// shall choose. A key may be in the set once, also under another tenant: what a
// tenant's key opens is that tenant's.
func NewKeySet(tenants map[string][]AttestationKey) (*KeySet, error) {
	s := &KeySet{tenants: map[string]*tenantKeys{}, inToken: true}
	prints := map[[32]byte]bool{}
	for _, tenant := range slices.Sorted(maps.Keys(tenants)) {
		keys := tenants[tenant]
		t, err := newTenantKeys(keys)
		if err == nil && !names.Tenant(tenant) {
			err = errors.New("not a tenant")
		}
		if err != nil {
			return nil, fmt.Errorf("teebroker: keys of tenant %.64q: %w", tenant, err)
		}
		for _, k := range keys {
			if k.Opener == nil {
				continue // retired
			}
			print := k.Opener.Recipient().Thumbprint()
			if prints[print] {
				return nil, fmt.Errorf("teebroker: keys of tenant %q: %s is there twice", tenant, k.ID)
			}
			prints[print] = true
			s.inToken = s.inToken && (k.Retired || keywrap.InToken(k.Opener))
		}
		s.tenants[tenant] = t
	}
	if len(s.tenants) == 0 {
		return nil, errors.New("teebroker: no tenant has keys")
	}
	return s, nil
}

func newTenantKeys(keys []AttestationKey) (*tenantKeys, error) {
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("%d keys, want 1 to %d", len(keys), maxKeys)
	}
	t, ids := &tenantKeys{}, map[string]bool{}
	var open []keywrap.Key
	for _, k := range keys {
		if err := k.check(); err != nil {
			return nil, fmt.Errorf("key %.64q: %w", k.ID, err)
		}
		if ids[k.ID] {
			return nil, fmt.Errorf("key %q: its id is there twice", k.ID)
		}
		ids[k.ID] = true
		if !k.Retired {
			open = append(open, keywrap.Key{ID: k.ID, Opener: k.Opener})
			t.published = append(t.published, k)
		}
	}
	if len(open) == 0 {
		return t, nil // whose guests are refused, and whose owners wrap to nobody
	}
	var err error
	t.ring, err = keywrap.NewKeyring(open...)
	return t, err
}

func (k AttestationKey) check() error {
	switch {
	case !names.KeyID(k.ID):
		return errors.New("not a key id")
	case k.Opener == nil && k.Retired:
		return nil
	case k.Opener == nil:
		return errors.New("no key")
	case !slices.Contains(keywrap.OwnerSuites(), k.Opener.Recipient().Suite()):
		return errors.New("not of a suite of owners")
	case !k.NotBefore.IsZero() && k.NotBefore.Unix() < 0, !k.NotAfter.IsZero() && k.NotAfter.Unix() <= max(0, k.NotBefore.Unix()):
		return errors.New("not a time to wrap in")
	}
	return nil
}

// Key implements [Keys].
func (s *KeySet) Key(ctx context.Context, tenant, kid string) (keywrap.Opener, error) {
	if t := s.tenants[tenant]; t != nil && t.ring != nil {
		if k, ok := t.ring.Key(kid); ok {
			return k.Opener, nil
		}
	}
	return nil, fmt.Errorf("no such key, or retired: %w", ForeignBlob)
}

// Published implements [Keys].
func (s *KeySet) Published(ctx context.Context, tenant string) ([]AttestationKey, error) {
	t := s.tenants[tenant]
	if t == nil || len(t.published) == 0 {
		return nil, fmt.Errorf("no keys: %w", NoInstance)
	}
	return slices.Clone(t.published), nil
}

// InToken implements [Keys].
func (s *KeySet) InToken() bool { return s.inToken }

// current returns the key that owners of tenant wrap to now.
func (b *Broker) current(ctx context.Context, tenant string) (PublishedKey, error) {
	d, err := b.keysDocument(ctx, tenant)
	if err != nil {
		return PublishedKey{}, err
	}
	k, err := d.Current("", b.cfg.Time())
	if err != nil {
		return PublishedKey{}, unavailable("keys", err)
	}
	return k, nil
}
