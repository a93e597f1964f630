package teebroker

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
)

// Attestation says that a guest which holds the private key of Recipient was
// genuine and acceptable as Instance. It is made by Attest and Resume only, is
// of use to the Broker that made it only, and keeps the Request: nothing in it
// can be exchanged for a release. The zero Attestation is refused everywhere.
// It is immutable.
type Attestation struct {
	by       *Broker
	p        presented // a copy
	got      []*evidence.Verified
	verdict  policy.Appraisal
	inst     Instance
	grant    Grant // without Purpose and Authorization
	root     [32]byte
	claims   [32]byte
	good     time.Time // until when all of got is
	notAfter time.Time // until when this can be used: no longer
}

// Profile returns the profile of the Request.
func (a *Attestation) Profile() nonce.Profile { return a.p.req.Profile }

// Nonce returns the nonce of the Request, which is redeemed.
func (a *Attestation) Nonce() nonce.Nonce { return a.p.req.Nonce }

// RequestID returns the id of the Request.
func (a *Attestation) RequestID() [32]byte { return a.p.id }

// Verified returns the results for the Evidence, in order, to look at: changing
// them changes no release.
func (a *Attestation) Verified() []*evidence.Verified { return slices.Clone(a.got) }

// Appraisal returns the verdict, which is accepted.
func (a *Attestation) Appraisal() policy.Appraisal { return a.verdict }

// Instance returns a copy of the instance as it was when its guest was judged.
func (a *Attestation) Instance() Instance { return a.inst.Clone() }

// Recipient returns the key that secrets are sealed to.
func (a *Attestation) Recipient() keywrap.Recipient { return a.p.req.Recipient }

// NotAfter returns until when a can be used, by the Broker's clock.
func (a *Attestation) NotAfter() time.Time { return a.notAfter }

// Attest is the first request of a protocol that has two: Answer up to and with
// the appraisal. It returns a non-nil Attestation if and only if the error is
// nil. A v1 request is MalformedRequest: it is bound to a purpose and has
// Answer. So is a Request of another profile with Purpose, Broker or Wrapped,
// which it could not bind. For ProfileVerify and ProfileVTPM nothing is
// released, and they are ProfileNotAllowed.
//
// Attest redeems the nonce. What it accepts is not stored, see [Broker.Keep];
// what it refuses is.
func (b *Broker) Attest(ctx context.Context, req Request) (*Attestation, error) {
	if req.Profile == nonce.ProfileV1 {
		return nil, malformed("v1 has one request")
	}
	p, err := b.present(req)
	if err != nil {
		return nil, err
	}
	_, found, err := b.begin(ctx, p)
	if found && err == nil {
		err = unavailable("ledger", errors.New("a response to an Attest"))
	}
	if err != nil {
		return nil, err
	}
	a, err := b.accept(ctx, p)
	if err != nil {
		return nil, b.refused(ctx, p, "", err)
	}
	return a, nil
}

// Keep stores a until its NotAfter and returns a random id for a cookie or
// token: 43 characters of base64url. What is stored is the evidence, not the
// verdict. Who has the id can have secrets sealed to the key of a, and to no
// other key.
func (b *Broker) Keep(ctx context.Context, a *Attestation) (id string, err error) {
	if err := b.usable(a); err != nil {
		return "", err
	}
	if b.cfg.Kept == nil {
		return "", unavailable("kept", errors.New("not configured"))
	}
	value, err := a.encode()
	if err != nil {
		return "", unavailable("kept", err)
	}
	var random [32]byte
	rand.Read(random[:])
	id = base64.RawURLEncoding.EncodeToString(random[:])
	if err := b.cfg.Kept.Put(ctx, id, value, a.notAfter); err != nil {
		return "", unavailable("kept", err)
	}
	return id, nil
}

// Resume returns the Attestation kept under id, or Gone. It verifies and
// appraises the evidence again, whoever made it: with a warm Verifier that is
// one signature, and no verdict is ever older than the request it serves. The
// nonce was redeemed by the Attest that made it and is not looked at again.
func (b *Broker) Resume(ctx context.Context, id string) (*Attestation, error) {
	if b.cfg.Kept == nil {
		return nil, unavailable("kept", errors.New("not configured"))
	}
	value, err := b.cfg.Kept.Get(ctx, id)
	if err != nil {
		return nil, fault("kept", err)
	}
	req, notAfter, err := decodeKept(value)
	if err != nil {
		return nil, unavailable("kept", err)
	}
	if !b.cfg.Time().Before(notAfter) {
		return nil, fmt.Errorf("teebroker: kept too long: %w", Gone)
	}
	p, err := b.present(req)
	if err != nil {
		return nil, unavailable("kept", errors.New("not a request"))
	}
	a, err := b.accept(ctx, p)
	if err != nil {
		return nil, b.refused(ctx, p, "", err)
	}
	if notAfter.Before(a.notAfter) {
		a.notAfter = notAfter
	}
	return a, nil
}

// Fetch is the second request: it releases the secret called purpose to the
// attested key, if the instance admits a's profile for it, and commits as
// Answer does. Asking again with the same Attestation, or with another of the
// same key, returns the stored bytes and counts nothing. What was refused stays
// refused for this Attestation.
//
// The purpose was not bound: the host chooses which of the permitted secrets
// arrives, and the sealed bytes are the secret itself, without a word about
// what it is or who sent it.
func (b *Broker) Fetch(ctx context.Context, a *Attestation, purpose string) (Response, error) {
	if err := b.usable(a); err != nil {
		return Response{}, err
	}
	if !names.Purpose(purpose) {
		return Response{}, malformed("not a purpose")
	}
	if r, found, err := b.outcome(ctx, a.p.id, purpose); found || err != nil {
		return r, err
	}
	asked := a.p
	asked.req.Instance = a.inst.ID // the record says whose secret was refused, also if the guest named nobody
	if !a.inst.admits(a.Profile(), purpose) {
		return Response{}, b.refused(ctx, &asked, purpose, fmt.Errorf("teebroker: %w: %s", ProfileNotAllowed, a.Profile()))
	}
	r, err := b.release(ctx, a, purpose)
	if err != nil {
		return Response{}, b.refused(ctx, &asked, purpose, err)
	}
	return r, nil
}

// usable returns an error unless b made a and its time is not over. Another
// Broker may have had another Verifier.
func (b *Broker) usable(a *Attestation) error {
	if a == nil || a.by != b {
		return fmt.Errorf("teebroker: %w: not an attestation of this broker", Denied)
	}
	if !b.cfg.Time().Before(a.notAfter) {
		return fmt.Errorf("teebroker: attested too long ago: %w", Gone)
	}
	return nil
}
