package store

import (
	"context"
	"fmt"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/epoch"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
)

// KeptBlobs is how many epochs back a store has the wrapped keys of, counted from
// the largest number given: what an owner can recover without a copy. Of others it
// has the digest, so that an owner who has a copy can recover them too.
const KeptBlobs = 16

// The Kinds of what owners do to epochs.
const (
	KindEpoch   teebroker.Kind = "epoch"   // a purpose got epochs
	KindHold    teebroker.Kind = "hold"    //
	KindResume  teebroker.Kind = "resume"  //
	KindRecover teebroker.Kind = "recover" // another key became current
	KindRetire  teebroker.Kind = "retire"  //
)

// EpochStart is the first wrapped key of a purpose with epochs.
type EpochStart struct {
	Mode    string         // "boot" or "write", see docs/rollback.md
	Blob    teebroker.Blob // its Epoch is that of its header, and not 0
	Initial bool           // the guest makes its own first state
}

// EpochStatus is where the epochs of a purpose are. Numbers are never given twice.
type EpochStatus struct {
	Mode    string              `json:"mode"`
	State   string              `json:"state"` // CURRENT, PENDING, HELD or RETIRED
	Epoch   uint64              `json:"epoch"` // the current one
	Blob    strictjson.Digest   `json:"blob"`  // of its wrapped key
	High    uint64              `json:"high"`  // the largest number ever given
	Pending uint64              `json:"pending,omitempty"`
	Release strictjson.UUID     `json:"release,omitzero"` // that is pending
	Live    strictjson.UUID     `json:"live,omitzero"`    // the last one confirmed, unless one came after
	Seq     uint64              `json:"seq,omitempty"`    // of its last checkpoint
	States  []strictjson.Digest `json:"states,omitempty"` // that the next boot may open, if there are any
}

// StatusOf returns what an owner is told of r.
func StatusOf(r epoch.Row) EpochStatus {
	return EpochStatus{
		Mode: string(r.Mode), State: string(r.Status), Epoch: r.Epoch, Blob: r.Blob, High: r.High, Pending: r.Next,
		Release: r.Release, Live: r.Live, Seq: r.Seq, States: append([]strictjson.Digest(nil), r.States...),
	}
}

// Epochs is what owners do to the epochs of one purpose, section 7 of the
// protocol. A purpose that has none, also one that does not exist, is NotFound;
// an event that its state has no row for is a Conflict.
type Epochs interface {
	// Begin gives a purpose epochs, in place of a secret or blob that it had,
	// and voids the open authorizations of its instance. It has them for ever:
	// a purpose that had epochs is a Conflict.
	Begin(ctx context.Context, tenant string, id [16]byte, purpose string, start EpochStart) (EpochStatus, error)

	Epoch(ctx context.Context, tenant string, id [16]byte, purpose string) (EpochStatus, error)

	// Hold stops releases and confirms until Resume.
	Hold(ctx context.Context, tenant string, id [16]byte, purpose string) (EpochStatus, error)
	Resume(ctx context.Context, tenant string, id [16]byte, purpose string) (EpochStatus, error)

	// Recover makes b the current key, under the number after the largest one;
	// another number is a Conflict. Every release is superseded, and the open
	// authorizations of the instance are void. slot is the epoch whose key b is
	// anew, see teebroker.Broker.Renew, and whose state the next guest opens, or
	// 0 if the state was sealed for b.
	Recover(ctx context.Context, tenant string, id [16]byte, purpose string, b teebroker.Blob, slot uint64) (EpochStatus, error)

	// Retire ends the purpose for ever.
	Retire(ctx context.Context, tenant string, id [16]byte, purpose string) (EpochStatus, error)
}

// CheckEpochBlob returns an error that wraps [Invalid] unless b can be the wrapped
// key of an epoch of a purpose.
func CheckEpochBlob(tenant string, id [16]byte, purpose string, b teebroker.Blob) error {
	if err := CheckInstance(tenant, id); err != nil {
		return err
	}
	if err := CheckPurpose(purpose); err != nil {
		return err
	}
	if err := CheckBlob(b.Digest, b.Wrapped); err != nil {
		return err
	}
	if b.Epoch == 0 || b.Epoch >= 1<<62 {
		return fmt.Errorf("%w: not the number of an epoch", Invalid)
	}
	if b.Wrapped == nil {
		return nil
	}
	w, err := keywrap.ParseWrapped(b.Wrapped)
	if err == nil {
		var h keywrap.Header
		if h, err = w.Header(); err == nil && h.Epoch != b.Epoch {
			err = fmt.Errorf("its header is of epoch %d", h.Epoch)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: wrapped blob: %w", Invalid, err)
	}
	return nil
}
