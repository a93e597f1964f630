package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/snp"
)

// release gives a simulated guest its key, and then tries everything else.
func release(ctx context.Context, t *transcript, w *world) error {
	t.title("2. A release: a simulated AMD Turin, its confidential VM, a broker and an owner")
	t.say("  making the simulated vendor's keys, three of RSA-4096, takes some seconds …")
	if err := w.make(); err != nil {
		return err
	}
	if !t.try("the owner registers the VM, its policy and its secret, and authorizes one boot", accepted, func() error {
		return errors.Join(w.register(ctx), w.authorize(ctx))
	}) {
		return errors.New("nothing is registered")
	}
	g, err := w.launch(w.instance, w.instance)
	if err != nil {
		return err
	}
	var req teebroker.Request
	if !t.try("the VM takes a nonce, and its hardware signs nonce, key and what it asks for", accepted, func() error {
		req, err = g.request(ctx)
		return err
	}) {
		return err
	}
	var first teebroker.Response
	if !t.try("the broker verifies, appraises, seals, records, and answers", accepted, func() error {
		first, err = w.broker.Answer(ctx, req)
		return err
	}) {
		return err
	}
	t.try("the VM checks the receipt and opens the owner's secret", accepted, func() error { return opens(ctx, g.Session, first, w.secret) })
	receipt, err := teebroker.VerifyReceipt(first.Receipt, w.broker.ID())
	if err != nil {
		return err
	}
	t.note("release %x, simulated: %v", receipt.Release[:4], receipt.Simulated)

	t.title("3. What has to be refused")
	if err := refused(ctx, t, w, g, req); err != nil {
		return err
	}
	t.title("4. What has to be answered")
	return answered(ctx, t, w, g, req, first)
}

// refused tries what a host can try.
func refused(ctx context.Context, t *transcript, w *world, g *vm, recorded teebroker.Request) error {
	other, err := keywrap.Generate(keywrap.MLKEM768X25519)
	if err != nil {
		return err
	}
	// Each of these changes one thing of a request that would be answered.
	for _, attack := range []struct {
		what, want string
		change     func(*teebroker.Request) error
	}{
		{"recorded evidence under a new nonce", "not-bound", func(r *teebroker.Request) error {
			r.Evidence = recorded.Evidence
			return nil
		}},
		{"fresh evidence for another instance", "not-bound", func(r *teebroker.Request) error {
			r.Instance = w.neighbour
			return nil
		}},
		{"fresh evidence with another recipient key", "not-bound", func(r *teebroker.Request) error {
			r.Recipient = other.Recipient()
			return nil
		}},
		{"the same, with REPORT_DATA changed to fit", "bad-signature", func(r *teebroker.Request) error {
			r.Recipient = other.Recipient()
			return forge(r, other)
		}},
		{"a nonce that was used", "nonce-spent", func(r *teebroker.Request) error {
			r.Nonce = recorded.Nonce
			return nil
		}},
	} {
		req, err := g.request(ctx)
		if err == nil {
			err = attack.change(&req)
		}
		if err != nil {
			return err
		}
		t.try(attack.what, attack.want, func() error {
			_, err := w.broker.Answer(ctx, req)
			return err
		})
	}
	if err := t.tryBoot(ctx, w, "a second VM of this instance, from a copy of its disk, after the use is taken", w.instance); err != nil {
		return err
	}
	if err := t.tryBoot(ctx, w, "a VM of the same image, launched as the neighbour", w.neighbour); err != nil {
		return err
	}
	t.try("the same evidence where nobody named the simulated platform", "untrusted", func() error {
		v, err := snp.NewVerifier(snp.Config{Anchors: snp.AMD(), Source: collateral.Fixed{}})
		if err != nil {
			return err
		}
		_, err = v.Verify(ctx, recorded.Evidence[0], evidence.UncheckedBindingUnsafe())
		return err
	})
	return nil
}

// tryBoot launches a genuine guest that asks for the secret, and must not get it.
func (t *transcript) tryBoot(ctx context.Context, w *world, what string, launchedAs [16]byte) error {
	g, err := w.launch(launchedAs, w.instance)
	if err != nil {
		return err
	}
	req, err := g.request(ctx)
	if err != nil {
		return err
	}
	t.try(what, "denied", func() error {
		_, err := w.broker.Answer(ctx, req)
		return err
	})
	return nil
}

// forge does what a host can do to make evidence fit a key of its own: it writes
// the binding that the broker will want to see.
func forge(r *teebroker.Request, key keywrap.Opener) error {
	b, err := nonce.V1{
		Broker: r.Broker, Tenant: r.Tenant, Instance: r.Instance, Purpose: r.Purpose, Format: snp.Format,
	}.Bind(r.Nonce, key.Recipient())
	if err != nil {
		return err
	}
	const reportData = 0x50
	raw := bytes.Clone(r.Evidence[0].Raw)
	copy(raw[reportData:], b.Bytes())
	r.Evidence = []evidence.Evidence{{Format: snp.Format, Raw: raw, Items: r.Evidence[0].Items}}
	return nil
}

// answered tries what a guest does whose answer was lost.
func answered(ctx context.Context, t *transcript, w *world, g *vm, req teebroker.Request, first teebroker.Response) error {
	t.try("the identical request again: the stored answer, to the byte", accepted, func() error {
		again, err := w.broker.Answer(ctx, req)
		if err == nil && (!bytes.Equal(again.Sealed, first.Sealed) || !bytes.Equal(again.Receipt, first.Receipt)) {
			err = errors.New("another answer")
		}
		return err
	})
	fresh, err := g.request(ctx)
	if err != nil {
		return err
	}
	t.try("the same key with a fresh nonce: the stored secret, with a new receipt", accepted, func() error {
		again, err := w.broker.Answer(ctx, fresh)
		switch {
		case err != nil:
			return err
		case !bytes.Equal(again.Sealed, first.Sealed) || bytes.Equal(again.Receipt, first.Receipt):
			return errors.New("sealed anew, or not receipted anew")
		}
		return opens(ctx, g.Session, again, w.secret)
	})
	return tell(ctx, t, w)
}

// tell shows what the owner's record has of all this.
func tell(ctx context.Context, t *transcript, w *world) error {
	decisions, err1 := w.store.Record(ctx, tenant, teebroker.Decisions)
	refusals, err2 := w.store.Record(ctx, tenant, teebroker.Refusals)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	t.try("the record has one release, one redelivery, and every refusal", accepted, func() error {
		var kinds []teebroker.Kind
		for _, e := range decisions {
			kinds = append(kinds, e.Kind)
		}
		if fmt.Sprint(kinds) != "[release redelivery]" || len(refusals) != 6 {
			return fmt.Errorf("decisions %v and %d refusals", kinds, len(refusals))
		}
		return nil
	})
	return nil
}

// opens returns an error unless g gets secret out of r.
func opens(ctx context.Context, g *guest.Session, r teebroker.Response, secret []byte) error {
	got, err := g.Open(ctx, r)
	if err != nil {
		return err
	}
	defer clear(got)
	if !bytes.Equal(got, secret) {
		return errors.New("another secret")
	}
	return nil
}

// deniedBy returns Denied if there are mismatches.
func deniedBy(ms []evidence.Mismatch) error {
	if len(ms) == 0 {
		return nil
	}
	return teebroker.Denied
}
