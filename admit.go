package teebroker

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/nonce"
)

// Visit is a guest that shows evidence for something else than a release, such as to
// have a key of its TPM bound.
type Visit struct {
	Profile  nonce.Profile // not one that releases
	Nonce    nonce.Nonce
	Tenant   string
	Instance [16]byte // who the guest says it is; not zero
	Broker   []byte   // as in [Request]

	// Request is made of all that was sent: it is what the nonce is redeemed for,
	// and what a refusal is recorded under.
	Request [32]byte

	// Verify authenticates the evidence, which it compares with the nonce first. It
	// is called once the nonce is redeemed, and never twice. The first result is
	// of the guest itself.
	Verify func(ctx context.Context) ([]*evidence.Verified, error)
}

// Admit is the part of [Broker.Answer] from the redeemed nonce to the accepted
// evidence, for what releases nothing: it returns the instance that v is, if the
// policies of it accept all results and it shows its launch identity. Results with
// checks left out, or on a simulated root, are refused as they are there.
//
// What Verify fails with is told to the peer as a Reason, if it is one. Refusals
// after the nonce are in the record.
func (b *Broker) Admit(ctx context.Context, v Visit) (Instance, error) {
	switch {
	case !names.Tenant(v.Tenant) || v.Instance == [16]byte{} || v.Request == [32]byte{} || v.Verify == nil:
		return Instance{}, malformed("not a visit")
	case v.Profile != nonce.ProfileVTPM:
		return Instance{}, malformed("not a profile of visits")
	case len(v.Broker) != 0 && subtle.ConstantTimeCompare(v.Broker, b.id[:]) != 1:
		return Instance{}, fmt.Errorf("teebroker: %w: the guest pins another broker", Denied)
	}
	if err := b.spend(ctx, v.Profile, v.Nonce, v.Request); err != nil {
		return Instance{}, err
	}
	inst, err := b.judge(ctx, v)
	if err != nil {
		return Instance{}, b.refuse(ctx, v.Tenant, refusalBody{Request: v.Request, Profile: v.Profile, Instance: v.Instance}, err)
	}
	return inst, nil
}

func (b *Broker) judge(ctx context.Context, v Visit) (Instance, error) {
	got, err := v.Verify(ctx)
	if err != nil {
		if e := (*evidence.Error)(nil); !errors.As(err, &e) || e.Reason == "" {
			err = unavailable("verifier", err)
		}
		return Instance{}, err
	}
	if len(got) == 0 {
		return Instance{}, unavailable("verifier", errors.New("no result"))
	}
	for _, r := range got {
		if err := b.fresh(r); err != nil {
			return Instance{}, err
		}
	}
	inst, err := b.instance(ctx, Request{Profile: v.Profile, Tenant: v.Tenant, Instance: v.Instance}, got)
	if err != nil {
		return Instance{}, err
	}
	if len(v.Broker) == 0 && !inst.AllowUnpinnedBroker {
		return Instance{}, fmt.Errorf("teebroker: %w: the guest pins no broker", Denied)
	}
	if _, err := inst.appraise(got); err != nil {
		return Instance{}, err
	}
	return inst, inst.launched(got[0])
}

// fresh returns an error unless r and its Layers are full results, and r has not
// ended.
func (b *Broker) fresh(r *evidence.Verified) error {
	if err := b.deep(r); err != nil {
		return err
	}
	if !b.cfg.Time().Before(r.NotAfter) {
		return &evidence.Error{Format: r.Format, Reason: evidence.Stale}
	}
	return nil
}

// deep is full of r and all below it.
func (b *Broker) deep(r *evidence.Verified) error {
	if err := b.full(r); err != nil {
		return err
	}
	for _, l := range r.Layers {
		if err := b.deep(l); err != nil {
			return err
		}
	}
	return nil
}
