package guest

import (
	"bytes"
	"context"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
)

// Opened is what a release of a purpose with epochs has for its guest, section 7
// of the protocol. Package guest/state does with it what a guest has to do. Its
// keys are secrets; Clear ends them.
type Opened struct {
	Tenant   string
	Instance [16]byte
	Purpose  string
	Release  [16]byte

	Key     []byte              // of Epoch: opens the state of Slot, and nothing else is opened with it
	Epoch   uint64              //
	Slot    uint64              // whose state to open: Epoch, or after a recovery another
	Initial bool                // there is no state yet, and the guest makes it
	States  []strictjson.Digest // if there are any, what is opened has one of them, SHA-256 of it as stored

	Next       uint64 // whose state the guest writes before it confirms
	NextKey    []byte // of it, 32 bytes
	ConfirmKey []byte // of this release, see teebroker.Confirm

	// NextWrapped is NextKey as the broker wrapped it, to present at the next
	// boot, or nil if the host left it out: the broker has it too.
	NextWrapped []byte

	// Pinned says that the answer has a receipt of the broker that the guest
	// pins. Without it anybody may have sealed it.
	Pinned bool
}

// Clear clears the keys in o.
func (o *Opened) Clear() {
	clear(o.Key)
	clear(o.NextKey)
	clear(o.ConfirmKey)
}

// PCR is what the guest extends once into a SHA-256 PCR that is zero, to prove to
// others that it is the guest of this release: the value is then that of
// teebroker.Receipt.PCR. It is a secret until it is extended, and goes into no log.
func (o *Opened) PCR() [32]byte { return teebroker.PCRDigest(o.ConfirmKey, o.Release) }

// OpenEpoch is [Session.Open] for a purpose with epochs; another is NoEpochs.
func (s *Session) OpenEpoch(ctx context.Context, r teebroker.Response) (*Opened, error) {
	secret, err := s.open(ctx, r)
	if err != nil {
		return nil, err
	}
	if secret.Epoch == 0 {
		secret.Clear()
		return nil, NoEpochs
	}
	o := &Opened{
		Tenant: secret.Tenant, Instance: secret.Instance, Purpose: secret.Purpose, Release: secret.Release,
		Key: secret.Key, Epoch: secret.Epoch, Slot: secret.Epoch, Initial: secret.Initial, States: secret.States,
		Next: secret.Next.Epoch, NextKey: secret.Next.Key, ConfirmKey: secret.ConfirmKey, Pinned: len(s.cfg.Broker) != 0,
	}
	if secret.Slot != 0 {
		o.Slot = secret.Slot
	}
	if w, err := keywrap.ParseWrapped(r.NextWrapped); err == nil && w.Digest() == secret.Next.BlobDigest {
		o.NextWrapped = bytes.Clone(r.NextWrapped)
	}
	return o, nil
}
