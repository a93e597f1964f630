package teebroker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/nonce"
)

// Answer is the whole of a v1 release, in the order of section 4 of the
// protocol. It returns the stored outcome of the same request if there is one.
// Else it redeems the nonce, which is spent whatever follows; compares each
// binding and verifies; refuses skipped checks and simulated roots; loads the
// instance and appraises; obtains the secret; seals it to the attested key;
// signs the receipt; commits to the Ledger; and only then returns what was
// committed.
//
// A crash before the commit costs nothing but the nonce; one after it is
// repaired by the same request, or by a new nonce with the same key. If it is
// not known whether a commit happened, the error is Unavailable. The Response
// is zero if the error is not nil.
//
// Errors wrap a [Refusal], an evidence.Reason or, for policy, a [*DeniedError].
// A Request of another profile is MalformedRequest.
func (b *Broker) Answer(ctx context.Context, req Request) (Response, error) {
	if req.Profile != nonce.ProfileV1 {
		return Response{}, malformed("not a v1 request")
	}
	p, err := b.present(req)
	if err != nil {
		return Response{}, err
	}
	if r, found, err := b.begin(ctx, p); found || err != nil {
		return r, err
	}
	a, err := b.accept(ctx, p)
	if err != nil {
		return Response{}, b.refused(ctx, p, req.Purpose, err)
	}
	r, err := b.release(ctx, a, req.Purpose)
	if err != nil {
		return Response{}, b.refused(ctx, p, req.Purpose, err)
	}
	return r, nil
}

// begin returns what was decided for p before, or redeems its nonce.
func (b *Broker) begin(ctx context.Context, p *presented) (Response, bool, error) {
	if r, found, err := b.outcome(ctx, p.id, p.req.Purpose); found || err != nil {
		return r, found, err
	}
	spent := b.redeem(ctx, p)
	if !errors.Is(spent, NonceSpent) && !errors.Is(spent, InProgress) {
		return Response{}, false, spent
	}
	// The same request may have been decided since we looked.
	if r, found, err := b.outcome(ctx, p.id, p.req.Purpose); found || err != nil {
		return r, found, err
	}
	return Response{}, false, spent
}

// outcome returns the stored outcome of a request, as the Response or the
// refusal that it was, and whether there is one.
func (b *Broker) outcome(ctx context.Context, id [32]byte, purpose string) (Response, bool, error) {
	o, found, err := b.cfg.Ledger.Outcome(ctx, id, purpose)
	switch {
	case err != nil:
		return Response{}, false, fault("ledger", err)
	case !found:
		return Response{}, false, nil
	case o.Refused != "":
		return Response{}, true, fmt.Errorf("teebroker: refused before: %w", Refusal(o.Refused))
	case len(o.Response.Sealed) == 0:
		return Response{}, true, unavailable("ledger", errors.New("an outcome that is none"))
	}
	return o.Response, true, nil
}

// redeem spends the nonce of p for p. It is durable when redeem returns nil,
// and nothing undoes it.
func (b *Broker) redeem(ctx context.Context, p *presented) error {
	return b.spend(ctx, p.req.Profile, p.req.Nonce, p.id)
}

func (b *Broker) spend(ctx context.Context, p nonce.Profile, n nonce.Nonce, request [32]byte) error {
	expiry, err := b.cfg.Issuer.Open(p, n)
	if err == nil {
		err = b.cfg.Nonces.Redeem(ctx, n, request, expiry)
	}
	var spent nonce.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &spent):
		return fmt.Errorf("teebroker: %w", Refusal(spent))
	}
	return unavailable("nonce", err)
}

// refused stores the refusal of a request whose nonce was redeemed and returns
// err. It is best effort: what the peer hears does not depend on it. Unavailable
// is not stored, because it decides nothing: the evidence was not judged, or a
// commit may have happened and be the outcome. Nor is RateLimited, which is over
// soon: who Fetches is to come back.
func (b *Broker) refused(ctx context.Context, p *presented, purpose string, err error) error {
	return b.refuse(ctx, p.req.Tenant, refusalBody{
		Request: p.id, Profile: p.req.Profile, Instance: p.req.Instance, Purpose: purpose, Key: p.req.Recipient.Thumbprint(),
	}, err)
}

func (b *Broker) refuse(ctx context.Context, tenant string, r refusalBody, err error) error {
	code := word(err)
	if code == string(Unavailable) || code == string(RateLimited) {
		return err
	}
	if e, fault := r.entry(tenant, err); fault == nil {
		_ = b.cfg.Ledger.Refuse(ctx, r.Request, r.Purpose, code, e)
	}
	return err
}

// verify authenticates each Evidence of p against its binding.
func (b *Broker) verify(ctx context.Context, p *presented) ([]*evidence.Verified, error) {
	got := make([]*evidence.Verified, len(p.req.Evidence))
	for i, ev := range p.req.Evidence {
		v, err := b.cfg.Verifier.Verify(ctx, ev, p.bindings[i])
		if err == nil {
			err = b.sound(ev, v)
		} else if e := (*evidence.Error)(nil); !errors.As(err, &e) || e.Reason == "" {
			err = unavailable("verifier", err)
		}
		if err == nil && !b.cfg.Time().Before(v.NotAfter) {
			err = &evidence.Error{Format: ev.Format, Reason: evidence.Stale}
		}
		if err != nil {
			return nil, fmt.Errorf("teebroker: evidence %d: %w", i, err)
		}
		got[i] = v
	}
	return got, nil
}

// sound returns an error unless v, with its Layers, is a full result for ev in
// which no check was left out and that rests on no simulated root.
func (b *Broker) sound(ev evidence.Evidence, v *evidence.Verified) error {
	if v == nil || v.Format != ev.Format || len(v.Layers) != len(ev.Layers) {
		return unavailable("verifier", errors.New("an incomplete result"))
	}
	if err := b.full(v); err != nil {
		return err
	}
	for i, l := range v.Layers {
		if err := b.sound(ev.Layers[i], l); err != nil {
			return err
		}
	}
	return nil
}

// full is sound of v itself, whatever it is a result for.
func (b *Broker) full(v *evidence.Verified) error {
	switch {
	case v == nil || v.Claims == nil || v.Root == [32]byte{}:
		return unavailable("verifier", errors.New("an incomplete result"))
	case !v.Bound:
		return &evidence.Error{Format: v.Format, Reason: evidence.NotBound}
	case len(v.Skipped) > 0:
		return fmt.Errorf("%w: checks left out: %v", Denied, v.Skipped)
	case !b.cfg.SimulatedState && slices.Contains(b.cfg.SimulatedRoots, v.Root):
		return fmt.Errorf("%w: simulated root", Denied)
	}
	return nil
}
