package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/guest/state"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/owner"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// stateful is the purpose whose host must not put back an earlier state.
const stateful = "vtpm"

// clones shows what a host can do with the disk of an SVSM, which has the state of
// the vTPM: it starts a second one from it, puts an old one back, and loses it.
func clones(ctx context.Context, t *transcript, w *world) error {
	t.title("9. Clones and restored disks: the SVSM of a confidential VM, whose vTPM has epochs")
	s, stop, err := newEpochs(ctx, w)
	if err != nil {
		return err
	}
	defer stop()
	d := &disk{}
	t.try("the SVSM makes a vTPM, writes its state, confirms, and runs it", accepted, func() error { return s.boots(ctx, d, "one ") })
	yesterday := *d
	t.try("it boots again, and finds what it left", accepted, func() error { return s.boots(ctx, d, "two ") })
	t.try("the guest that the SVSM runs at VMPL 2 asks for the vTPM's state itself", "denied", func() error { return s.guestAsks(ctx, w) })
	t.try("yesterday's disk, which attests as ever", noState, func() error {
		old := yesterday
		return s.boots(ctx, &old, "")
	})
	first, second, err := s.both(ctx, t, d)
	if err != nil {
		return err
	}
	t.try("the clone that came first confirms, and gets nothing to run", string(teebroker.Superseded), func() error {
		_, err := first.Confirm(ctx)
		return err
	})
	t.try("the one that came last confirms, and runs", accepted, func() error {
		_, err := second.Confirm(ctx)
		return err
	})
	t.try("its disk is lost: the owner recovers the backup, whose key is wrapped anew", accepted, func() error {
		_, err := s.owner.Act(ctx, instance, "recover", v1.Act{Purpose: stateful, Epoch: 2})
		return err
	})
	t.try("the backup boots, and goes on from there", accepted, func() error { return s.boots(ctx, &yesterday, "three ") })
	t.try("and the lost disk, which was found: given up for good", noState, func() error { return s.boots(ctx, d, "") })
	t.try("of all that the host carried it saw sizes and times: messages of one size, sealed to the broker", accepted, s.host.learned)
	return nil
}

// both starts two SVSMs from one disk.
func (s *service) both(ctx context.Context, t *transcript, d *disk) (first, second *state.Pending, err error) {
	t.try("two SVSMs of one disk are released to, one after the other", accepted, func() error {
		copied := *d
		var err1, err2 error
		first, err1 = s.prepare(ctx, &copied)
		second, err2 = s.prepare(ctx, d)
		return errors.Join(err1, err2)
	})
	if first == nil || second == nil {
		err = errors.New("no SVSM was released to")
	}
	return first, second, err
}

// guestAsks has what runs above the SVSM ask with evidence of its own.
func (s *service) guestAsks(ctx context.Context, w *world) error {
	above, err := w.svsm(2)
	if err != nil {
		return err
	}
	guest := *s
	guest.platform = above
	_, err = guest.prepare(ctx, &disk{})
	return err
}

// noState is what the transcript says of a disk that is not the one that the
// broker names: nobody refuses, and nothing opens.
const noState = string(teebroker.EpochDead)

// newEpochs is a service whose instance has a purpose with epochs.
func newEpochs(ctx context.Context, w *world) (*service, func(), error) {
	p, err := w.svsm(0)
	if err != nil {
		return nil, nil, err
	}
	s, stop, err := newService(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	if err = s.provision(ctx); err == nil {
		err = s.begin(ctx)
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return s, stop, nil
}

// begin is what the owner does: the key of the first epoch, under which nothing
// is stored yet.
func (s *service) begin(ctx context.Context) error {
	doc, err := s.broker.KeysDocument(ctx, tenant)
	if err != nil {
		return err
	}
	w, err := wrapFirst(doc, s.broker.ID())
	if err != nil {
		return err
	}
	_, err = s.owner.Begin(ctx, instance, stateful, v1.Epochs{Mode: "boot", Number: 1, Initial: true}, w)
	return err
}

// prepare authorizes one boot, has an SVSM released to, and has it write its
// next state.
func (s *service) prepare(ctx context.Context, d *disk) (*state.Pending, error) {
	if _, err := s.owner.Authorize(ctx, instance, v1.Authorization{Purposes: []string{stateful}, NotAfter: time.Now().Add(time.Hour)}); err != nil {
		return nil, err
	}
	key, err := keywrap.Generate(keywrap.MLKEM768X25519)
	if err != nil {
		return nil, err
	}
	id := s.broker.ID()
	g, err := guest.New(guest.Config{Tenant: tenant, Instance: instance, Purpose: stateful, Broker: id[:], Key: key})
	if err != nil {
		return nil, err
	}
	body, err := s.request(ctx, g)
	if err != nil {
		return nil, err
	}
	r, err := s.guest.Release(ctx, body)
	if err != nil {
		return nil, err
	}
	o, err := g.OpenEpoch(ctx, r)
	if err != nil {
		return nil, err
	}
	p, err := state.Prepare(state.Config{Slots: d, Confirm: s.guest.Confirm}, o, func() ([]byte, error) { return nil, nil })
	if errors.Is(err, state.NoState) {
		return nil, teebroker.EpochDead
	}
	return p, err
}

// boots is a whole boot, which finds what those before wrote, and writes word.
func (s *service) boots(ctx context.Context, d *disk, word string) error {
	p, err := s.prepare(ctx, d)
	if err != nil {
		return err
	}
	st, err := p.Confirm(ctx)
	if err != nil {
		return err
	}
	defer st.Close()
	if !bytes.Equal(st.Value(), d.expected) {
		return errors.New("it found another state")
	}
	d.expected = append(slices.Clone(d.expected), word...)
	return st.Save(ctx, d.expected)
}

// disk is the two slots of an SVSM, which its host can copy.
type disk struct {
	slots    [2][]byte
	expected []byte // what it should have
}

// Read implements [state.Slots].
func (d *disk) Read(i int) ([]byte, error) { return d.slots[i], nil }

// Write implements [state.Slots].
func (d *disk) Write(i int, b []byte) error { d.slots[i] = bytes.Clone(b); return nil }

// Erase implements [state.Slots].
func (d *disk) Erase(i int) error { d.slots[i] = nil; return nil }

// wrapFirst wraps a fresh key for the first epoch.
func wrapFirst(doc []byte, broker [32]byte) (keywrap.Wrapped, error) {
	key := make([]byte, 32)
	rand.Read(key)
	defer clear(key)
	return owner.Wrap(owner.Blob{
		Keys: doc, Broker: broker, Time: time.Now(), Tenant: tenant, Instance: instance, Purpose: stateful, Epoch: 1,
	}, key)
}
