package keywrap

import (
	"fmt"
	"slices"
)

// Keyring is the broker's attestation keys by key id. It is immutable. The zero
// Keyring has no key.
type Keyring struct{ keys []Key }

// Key is an Opener and its key id.
type Key struct {
	ID string
	Opener
}

// NewKeyring returns a Keyring of which the first key is published, so that
// owners seal to it; all open. Ids must be distinct and not empty, and so must
// the keys be: there is no key with two names. Errors wrap ErrKey.
func NewKeyring(keys ...Key) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: none", ErrKey)
	}
	ids, prints := map[string]bool{}, map[[32]byte]bool{}
	for _, k := range keys {
		if k.ID == "" || k.Opener == nil {
			return nil, fmt.Errorf("%w: no id or no key", ErrKey)
		}
		print := k.Recipient().Thumbprint()
		if ids[k.ID] || prints[print] || print == [32]byte{} {
			return nil, fmt.Errorf("%w: twice the same key id or key", ErrKey)
		}
		ids[k.ID], prints[print] = true, true
	}
	return &Keyring{slices.Clone(keys)}, nil
}

// Current returns the key that is published. That of the zero Keyring is zero.
func (k *Keyring) Current() Key {
	if len(k.keys) == 0 {
		return Key{}
	}
	return k.keys[0]
}

// Key returns the key of id, or false.
func (k *Keyring) Key(id string) (Key, bool) {
	for _, x := range k.keys {
		if x.ID == id {
			return x, true
		}
	}
	return Key{}, false
}
