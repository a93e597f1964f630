// Package owner is the owner's side of wrapped blobs: to wrap a secret so that
// one broker opens it, for one instance and purpose, and nobody between does.
//
// A blob may lie anywhere, with the disk image or with the guest. It is opened
// after its digest was registered with the broker, for a guest that the broker
// releases it to. See docs/keys.md for rotation.
package owner

import (
	"errors"
	"fmt"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/keywrap"
)

// MaxSecret is the most bytes that are wrapped, 32 KiB: a guest presents the
// blob in its request, which is bounded.
const MaxSecret = 32 << 10

// Blob says for whom a secret is wrapped. Fields without a stated default are
// required.
type Blob struct {
	// Keys is the keys document of the tenant as the broker serves it, and
	// Broker the broker id that the owner trusts, from a place that who serves
	// the document can't write to. Nothing is wrapped to a key whose document
	// does not verify.
	Keys   []byte
	Broker [32]byte
	Time   time.Time // the present

	// Suite is one of keywrap.OwnerSuites. If empty, the broker chooses with
	// the order of its document.
	Suite keywrap.Suite

	Tenant  string
	Purpose string

	// Exactly one: the instance that the secret is for, or the name of the
	// image whose instances all are to have it. A blob of an image has no
	// protection against rollback, and is no place for the state of a vTPM.
	Instance [16]byte
	Image    string

	// Epoch is the number of the first key of a purpose with epochs, usually 1,
	// or one more than the largest for a recovery. It is 0 for all others.
	Epoch uint64

	// Policy is the [teebroker.PolicyDigest] of the only policies under which
	// the broker may unwrap, or zero for whatever is registered at the time.
	Policy [32]byte

	// Owner is the owner key of the instance, [teebroker.OrderKey], or zero if it
	// has none. The blob then opens for no instance without this key, whatever the
	// database of the broker says.
	Owner [32]byte
}

// ErrBlob is wrapped when a Blob or a secret can't be meant. If there is no key
// to trust, the error wraps [teebroker.ErrKeys].
var ErrBlob = errors.New("owner: not a blob to wrap")

// Wrap wraps secret, 1 byte to MaxSecret, as b says. The result marshals to what
// a guest presents, and its Digest is what the owner registers. Two blobs of one
// secret have nothing in common.
func Wrap(b Blob, secret []byte) (keywrap.Wrapped, error) {
	switch {
	case len(secret) == 0 || len(secret) > MaxSecret:
		return keywrap.Wrapped{}, fmt.Errorf("%w: a secret of %d bytes", ErrBlob, len(secret))
	case !names.Registrable(b.Purpose):
		return keywrap.Wrapped{}, fmt.Errorf("%w: not a purpose", ErrBlob)
	}
	doc, err := teebroker.VerifyKeys(b.Keys, b.Broker, b.Tenant, b.Time)
	if err != nil {
		return keywrap.Wrapped{}, fmt.Errorf("owner: %w", err)
	}
	key, err := doc.Current(b.Suite, b.Time)
	if err != nil {
		return keywrap.Wrapped{}, fmt.Errorf("owner: %w", err)
	}
	w, err := keywrap.Wrap(key.Recipient(), keywrap.Header{
		By: keywrap.ByOwner, KeyID: key.ID, Tenant: b.Tenant, Instance: b.Instance, Image: b.Image,
		Purpose: b.Purpose, Epoch: b.Epoch, Policy: b.Policy, Owner: b.Owner,
	}, secret)
	if err != nil {
		return keywrap.Wrapped{}, fmt.Errorf("%w: %w", ErrBlob, err)
	}
	return w, nil
}
