package teebroker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/internal/sealed"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
)

// Epoch is what one release of a purpose with epochs is for, section 7 of the
// protocol: the state that the guest opens, and the state that it writes before
// it confirms. A release of such a purpose supersedes the one before.
type Epoch struct {
	Number  uint64              `json:"number"`            // the current one, whose key the guest gets
	Blob    strictjson.Digest   `json:"blob"`              // of its wrapped key
	Wrapped strictjson.Base64   `json:"-"`                 // the key, as JSON, if the Ledger has it: of Terms only
	Slot    uint64              `json:"slot"`              // whose state slot it opens: Number, or after a recovery a dead one
	Initial bool                `json:"initial,omitempty"` // it makes its first state
	States  []strictjson.Digest `json:"states,omitempty"`  // if there are any, what it opens has one of them

	Next        uint64            `json:"next"`         // never given before
	NextBlob    strictjson.Digest `json:"next_blob"`    // of Grants, and of what was released
	NextWrapped strictjson.Base64 `json:"next_wrapped"` // the key of Next wrapped by the Broker, as JSON
	PCR         strictjson.Digest `json:"pcr"`          // what a SHA-256 PCR has into which the guest extended its proof
}

// Clone returns a copy of e that shares no memory with it; of nil, nil.
func (e *Epoch) Clone() *Epoch {
	if e == nil {
		return nil
	}
	c := *e
	c.Wrapped, c.NextWrapped = slices.Clone(e.Wrapped), slices.Clone(e.NextWrapped)
	c.States = slices.Clone(e.States)
	return &c
}

// Same reports whether e and o grant the same.
func (e *Epoch) Same(o *Epoch) bool {
	if e == nil || o == nil {
		return e == o
	}
	return e.Number == o.Number && e.Blob == o.Blob && e.Slot == o.Slot && e.Initial == o.Initial &&
		e.Next == o.Next && slices.Equal(e.States, o.States)
}

// epochs reports whether purpose has epochs.
func (i Instance) epochs(purpose string) bool { return i.Blobs[purpose].Epoch != 0 }

// currentBlob returns the blob of the current epoch: what the guest presented, or
// else the copy that the Ledger keeps.
func (a *Attestation) currentBlob(purpose string, e *Epoch) (*blob, error) {
	b, reg := []byte(e.Wrapped), Blob{Digest: e.Blob, Epoch: e.Number}
	wrong := func(err error) error { return unavailable("ledger", err) }
	if a.p.blob == e.Blob {
		b, wrong = a.p.req.Wrapped, func(err error) error { return fmt.Errorf("teebroker: %w: %w", ForeignBlob, err) }
	}
	if b == nil {
		return nil, fmt.Errorf("teebroker: %w: none is presented, and the owner left none", ForeignBlob)
	}
	w, err := keywrap.ParseWrapped(b)
	if err != nil {
		return nil, wrong(err)
	}
	return a.inst.registered(purpose, w, reg, wrong)
}

// nextEpoch draws the key of the epoch that the guest writes, wraps it, and says
// in e which blob that is. The key is the caller's to clear.
func (b *Broker) nextEpoch(ctx context.Context, inst Instance, g Grant, e *Epoch) ([]byte, error) {
	key := make([]byte, sealed.ConfirmKeySize)
	rand.Read(key)
	w, text, err := b.wrapOwn(ctx, inst, g.Purpose, e.Next, key)
	if err != nil {
		clear(key)
		return nil, err
	}
	e.NextBlob, e.NextWrapped = w.Digest(), text
	return key, nil
}

// wrapOwn wraps the key of an epoch under the wrap key.
func (b *Broker) wrapOwn(ctx context.Context, inst Instance, purpose string, number uint64, key []byte) (keywrap.Wrapped, []byte, error) {
	if b.cfg.Wrap == nil {
		return keywrap.Wrapped{}, nil, unavailable("wrap", errors.New("this broker has no wrap key, and epochs need one"))
	}
	w, err := keywrap.WrapWith(ctx, b.cfg.Wrap, keywrap.Header{
		Tenant: inst.Tenant, Instance: inst.ID, Purpose: purpose, Epoch: number, Owner: inst.Owner,
	}, key)
	if err != nil {
		return keywrap.Wrapped{}, nil, unavailable("wrap", err)
	}
	text, err := w.MarshalJSON()
	if err != nil {
		return keywrap.Wrapped{}, nil, unavailable("wrap", err)
	}
	return w, text, nil
}

// unwrapOwn returns the key in a blob that a broker made.
func (b *Broker) unwrapOwn(ctx context.Context, from *blob) ([]byte, error) {
	if b.cfg.Wrap == nil {
		return nil, unavailable("wrap", errors.New("this broker has no wrap key"))
	}
	key, err := from.wrapped.UnwrapWith(ctx, b.cfg.Wrap)
	switch {
	case err == nil:
		return key, nil
	case ctx.Err() == nil && errors.Is(err, keywrap.ErrOpen):
		return nil, fmt.Errorf("teebroker: %w: it does not open", ForeignBlob)
	}
	return nil, unavailable("wrap", err)
}

// Renew returns the key of an epoch that is over, wrapped under the number that
// comes next, for a recovery: the owner's disk is a backup whose state is of that
// epoch. Nothing is stored: the caller, who has authenticated the owner, gives
// the result to store.Owner.Recover. wrapped is the blob of that epoch as JSON,
// or nil for the copy that the Ledger keeps. A blob that was never registered is
// ForeignBlob.
func (b *Broker) Renew(ctx context.Context, tenant string, instance [16]byte, purpose string, number uint64, wrapped []byte) (Blob, error) {
	if instance == [16]byte{} || number == 0 || len(wrapped) > maxWrapped {
		return Blob{}, malformed("not an epoch of an instance")
	}
	reg, high, err := b.cfg.Ledger.EpochBlob(ctx, tenant, instance, purpose, number)
	if err != nil {
		return Blob{}, fault("ledger", err)
	}
	if wrapped == nil {
		wrapped = reg.Wrapped
	}
	if wrapped == nil {
		return Blob{}, fmt.Errorf("teebroker: %w: the wrapped key of epoch %d is not kept: send it", ForeignBlob, number)
	}
	w, err := keywrap.ParseWrapped(wrapped)
	if err != nil {
		return Blob{}, fmt.Errorf("teebroker: %w: %w", MalformedRequest, err)
	}
	inst, err := b.instance(ctx, Request{Tenant: tenant, Instance: instance}, nil)
	if err != nil {
		return Blob{}, err
	}
	from, err := inst.registered(purpose, w, Blob{Digest: reg.Digest, Epoch: number}, func(err error) error {
		return fmt.Errorf("teebroker: %w: %w", ForeignBlob, err)
	})
	if err != nil {
		return Blob{}, err
	}
	key, err := b.unwrap(ctx, from)
	if err != nil {
		return Blob{}, err
	}
	defer clear(key)
	renewed, text, err := b.wrapOwn(ctx, inst, purpose, high+1, key)
	if err != nil {
		return Blob{}, err
	}
	return Blob{Digest: renewed.Digest(), Epoch: high + 1, Wrapped: text}, nil
}
