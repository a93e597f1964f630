package teebroker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// blob is a wrapped blob that is registered and whose header says what is
// registered. Nothing else comes near a key.
type blob struct {
	wrapped keywrap.Wrapped
	header  keywrap.Header
	digest  [32]byte
}

// source returns the blob that has the secret called purpose, or nil if Secrets
// has it.
func (a *Attestation) source(purpose string) (*blob, error) {
	reg, registered := a.inst.Blobs[purpose]
	switch {
	case a.by.makes(purpose):
		return nil, a.checkCredential(purpose)
	case reg.Epoch != 0:
		return nil, nil // which one is current, the Ledger says
	case registered:
		return a.inst.blob(purpose, a.p.req.Wrapped)
	case a.p.blob != [32]byte{}:
		return nil, fmt.Errorf("teebroker: %w: no blob is registered", ForeignBlob)
	}
	return nil, nil
}

// blob returns the blob registered for purpose: presented if that is not nil,
// else the copy that the owner left.
func (i Instance) blob(purpose string, presented []byte) (*blob, error) {
	reg := i.Blobs[purpose]
	switch {
	case reg.Digest == [32]byte{}:
		return nil, fmt.Errorf("teebroker: %w: no blob is registered", ForeignBlob)
	case reg.Epoch != 0:
		return nil, fmt.Errorf("teebroker: %w: of a purpose with epochs, whose current blob the ledger knows", ForeignBlob)
	case presented == nil && reg.Wrapped == nil:
		return nil, fmt.Errorf("teebroker: %w: none is presented, and the owner left none", ForeignBlob)
	case presented == nil:
		return i.parseBlob(purpose, reg.Wrapped, func(err error) error { return unavailable("directory", err) })
	}
	return i.parseBlob(purpose, presented, func(err error) error {
		return fmt.Errorf("teebroker: %w: %w", ForeignBlob, err)
	})
}

// parseBlob returns the blob in b if it is the registered one. If not, wrong says
// whose fault it is; a header that can't be meant is the owner's.
func (i Instance) parseBlob(purpose string, b []byte, wrong func(error) error) (*blob, error) {
	w, err := keywrap.ParseWrapped(b)
	if err != nil {
		return nil, wrong(err)
	}
	return i.registered(purpose, w, i.Blobs[purpose], wrong)
}

// registered returns w as a blob if it is reg.
func (i Instance) registered(purpose string, w keywrap.Wrapped, reg Blob, wrong func(error) error) (*blob, error) {
	if w.Digest() != reg.Digest {
		return nil, wrong(errors.New("not the registered blob"))
	}
	h, err := w.Header()
	if err == nil {
		err = i.means(h, purpose, reg)
	}
	if err != nil {
		return nil, fmt.Errorf("teebroker: %w: header: %w", ForeignBlob, err)
	}
	return &blob{w, h, reg.Digest}, nil
}

// means returns an error unless h says what is registered, in every member. The
// key id is left, which Keys knows.
func (i Instance) means(h keywrap.Header, purpose string, reg Blob) error {
	switch {
	case h.By == keywrap.ByBroker && (reg.Epoch == 0 || h.Suite != keywrap.A256GCM):
		return errors.New("wrapped by a broker, and not for an epoch")
	case h.By == keywrap.ByOwner && !slices.Contains(keywrap.OwnerSuites(), h.Suite):
		return errors.New("not a suite of owners")
	case h.Tenant != i.Tenant || h.Purpose != purpose:
		return errors.New("of another tenant or purpose")
	case h.Image == "" && h.Instance != i.ID, h.Image != "" && h.Image != i.Image:
		return errors.New("of another instance or image")
	case h.Epoch != reg.Epoch:
		return errors.New("of another epoch")
	case h.Policy != [32]byte{} && h.Policy != PolicyDigest(i.policyDigests()...):
		return errors.New("for other policies")
	}
	return i.obeysBlob(h, purpose, reg.Digest)
}

// unwrap returns the secret in from, the caller's to clear.
func (b *Broker) unwrap(ctx context.Context, from *blob) ([]byte, error) {
	if from.header.By == keywrap.ByBroker {
		return b.unwrapOwn(ctx, from)
	}
	if b.cfg.Keys == nil {
		return nil, fmt.Errorf("teebroker: %w: this broker has no attestation keys", ForeignBlob)
	}
	key, err := b.cfg.Keys.Key(ctx, from.header.Tenant, from.header.KeyID)
	switch {
	case err != nil:
		return nil, fault("keys", err)
	case key == nil || key.Recipient().Suite() != from.header.Suite:
		return nil, fmt.Errorf("teebroker: %w: the key is of another suite", ForeignBlob)
	}
	secret, err := from.wrapped.Unwrap(ctx, key)
	switch {
	case err == nil:
		return secret, nil
	case ctx.Err() == nil && errors.Is(err, keywrap.ErrOpen):
		return nil, fmt.Errorf("teebroker: %w: it does not open", ForeignBlob)
	}
	return nil, unavailable("keys", err)
}

// Rewrap returns the blob registered for a purpose of an instance, wrapped to the
// key that the tenant's owners wrap to now, so that the key it was wrapped to can
// be retired. Nothing of its header changes but the key id, the suite and the owner
// key, which is the present one, and nothing is stored: the caller, who has authenticated the owner, registers what
// is returned in place of the old blob. wrapped is the blob as JSON, or nil for
// the copy that the owner left. The secret leaves the broker as the old blob did,
// for a key of this broker.
//
// What can't be unwrapped for a release can't be rewrapped, and fails with the
// same errors. An owner who has the secret does not need a broker to wrap it
// again.
func (b *Broker) Rewrap(ctx context.Context, tenant string, instance [16]byte, purpose string, wrapped []byte) (keywrap.Wrapped, error) {
	if instance == [16]byte{} || len(wrapped) > maxWrapped {
		return keywrap.Wrapped{}, malformed("not a blob of an instance")
	}
	req := Request{Profile: nonce.ProfileV1, Tenant: tenant, Instance: instance}
	inst, err := b.instance(ctx, req, nil)
	if err != nil {
		return keywrap.Wrapped{}, err
	}
	if _, ok := inst.Blobs[purpose]; !ok {
		return keywrap.Wrapped{}, fmt.Errorf("teebroker: %w: no blob is registered", ForeignBlob)
	}
	from, err := inst.blob(purpose, wrapped)
	if err != nil {
		return keywrap.Wrapped{}, err
	}
	to, err := b.current(ctx, tenant)
	if err != nil {
		return keywrap.Wrapped{}, err
	}
	secret, err := b.unwrap(ctx, from)
	if err != nil {
		return keywrap.Wrapped{}, err
	}
	defer clear(secret)
	h := from.header
	h.KeyID, h.Owner = to.ID, inst.Owner
	w, err := keywrap.Wrap(to.Recipient(), h, secret)
	if err != nil {
		return keywrap.Wrapped{}, unavailable("keys", errors.New("not wrapped"))
	}
	return w, nil
}
