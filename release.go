package teebroker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/internal/sealed"
	"github.com/teebroker/teebroker/nonce"
)

// maxAgain bounds how often a release starts over because another was committed
// in between. One of the same key is found by the second try. Other keys can take
// one authorization after the other, so that a request among many of them may end
// as Unavailable: nothing is released, and its guest asks again.
const maxAgain = 4

// release makes steps 6 to 8 of section 4 for accepted evidence. What it seals
// and signs leaves only after the Ledger committed it.
func (b *Broker) release(ctx context.Context, a *Attestation, purpose string) (Response, error) {
	from, err := a.source(purpose)
	if err != nil {
		return Response{}, err
	}
	g := a.grant
	g.Purpose, g.Presented = purpose, a.p.blob
	if a.inst.epochs(purpose) || b.makes(purpose) {
		g.Blob = a.p.blob
	}
	if from != nil {
		g.Blob = from.digest
	}
	for range maxAgain {
		terms, err := b.cfg.Ledger.Check(ctx, g)
		if err != nil {
			return Response{}, fault("ledger", err)
		}
		if err := b.authorized(a.inst, g, terms); err != nil {
			return Response{}, err
		}
		r, err := b.commit(ctx, a, from, g, terms)
		if !errors.Is(err, ErrAgain) {
			return r, err
		}
	}
	return Response{}, unavailable("ledger", ErrAgain)
}

// commit prepares the whole answer under terms and commits to it.
func (b *Broker) commit(ctx context.Context, a *Attestation, from *blob, g Grant, terms Terms) (Response, error) {
	g.Authorization, g.Epoch = terms.Authorization, terms.Epoch.Clone()
	switch epochs := a.inst.epochs(g.Purpose); {
	case epochs && g.Epoch == nil:
		return Response{}, fmt.Errorf("teebroker: %w: of an epoch, and the ledger has none", ForeignBlob)
	case !epochs && g.Epoch != nil:
		return Response{}, unavailable("ledger", errors.New("has epochs, and the directory has none"))
	}
	kind, r := KindRedelivery, Response{Release: terms.Release, Sealed: terms.Sealed}
	if terms.Release == [16]byte{} {
		var err error
		if g.Profile == nonce.ProfileV1 {
			g.ConfirmKey = make([]byte, sealed.ConfirmKeySize)
			defer clear(g.ConfirmKey)
			rand.Read(g.ConfirmKey)
		}
		if g.Epoch != nil {
			var err error
			if from, err = a.currentBlob(g.Purpose, g.Epoch); err != nil {
				return Response{}, err
			}
		}
		if kind, r, err = b.seal(ctx, a, from, g); err != nil {
			return Response{}, err
		}
	}
	if g.Epoch != nil {
		r.Epoch, r.NextWrapped = g.Epoch.Number, g.Epoch.NextWrapped
	}
	receipt, err := b.sign(a.receipt(b, kind, g, r))
	if err != nil {
		return Response{}, unavailable("receipt", err)
	}
	r.Receipt = receipt
	e, err := releaseEntry(kind, g, r)
	if err != nil {
		return Response{}, unavailable("record", err)
	}
	stored, err := b.cfg.Ledger.Commit(ctx, g, r, e)
	switch {
	case errors.Is(err, ErrAgain):
		return Response{}, ErrAgain
	case err != nil:
		return Response{}, fault("ledger", err)
	case len(stored.Sealed) == 0 || len(stored.Receipt) == 0:
		return Response{}, unavailable("ledger", errors.New("committed to nothing"))
	}
	return stored, nil
}

// seal obtains the secret and seals it to the attested key, under a new release
// id. A v1 guest finds inside what it was released for; clients of the other
// profiles expect the secret and nothing else.
func (b *Broker) seal(ctx context.Context, a *Attestation, from *blob, g Grant) (Kind, Response, error) {
	secret, err := b.secret(ctx, a, from, g.Purpose)
	if err != nil {
		return "", Response{}, err
	}
	defer clear(secret)
	id := newUUID()
	plain := secret
	if a.Profile() == nonce.ProfileV1 {
		s := sealed.Secret{
			Binding: a.p.bindings[0].Bytes(), Release: id, Tenant: a.inst.Tenant,
			Instance: a.inst.ID, Purpose: g.Purpose, Key: secret, ConfirmKey: g.ConfirmKey,
		}
		if e := g.Epoch; e != nil {
			next, err := b.nextEpoch(ctx, a.inst, g, e)
			if err != nil {
				return "", Response{}, err
			}
			defer clear(next)
			e.PCR = PCRValue(PCRDigest(g.ConfirmKey, id))
			s.Epoch, s.Initial, s.States = e.Number, e.Initial, e.States
			if e.Slot != e.Number {
				s.Slot = e.Slot
			}
			s.Next = &sealed.Next{Epoch: e.Next, Key: next, BlobDigest: e.NextBlob}
		}
		plain, err = s.Encode()
		if err != nil {
			return "", Response{}, unavailable("seal", errors.New("not encoded")) // err might quote the secret
		}
		defer clear(plain)
	}
	recipient := a.p.req.Recipient
	var info []byte
	if a.Profile() == nonce.ProfileV1 {
		info = sealed.Info(recipient.Suite(), a.p.bindings[0])
	}
	box, err := recipient.Seal(plain, info)
	if err != nil {
		return "", Response{}, unavailable("seal", err)
	}
	bytes, err := json.Marshal(box)
	if err != nil {
		return "", Response{}, unavailable("seal", err)
	}
	return KindRelease, Response{Release: id, Sealed: bytes}, nil
}

// secret returns what is to be sealed, the caller's to clear: out of the blob
// from, or where there is none from Credentials or out of Secrets. An empty one is none.
func (b *Broker) secret(ctx context.Context, a *Attestation, from *blob, purpose string) ([]byte, error) {
	var secret []byte
	var err error
	if from != nil {
		secret, err = b.unwrap(ctx, from)
	} else if b.makes(purpose) {
		secret, err = b.credential(ctx, a, purpose)
	} else if secret, err = b.cfg.Secrets.Secret(ctx, a.inst.Clone(), purpose); err != nil {
		err = fault("secrets", err)
	}
	if err != nil {
		clear(secret)
		return nil, err
	}
	if len(secret) == 0 {
		return nil, fmt.Errorf("teebroker: %w: the secret is empty", NotAuthorized)
	}
	return secret, nil
}

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() (id [16]byte) {
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// digest is how receipts and records name bytes: SHA-256.
func digest(b []byte) [32]byte { return sha256.Sum256(b) }
