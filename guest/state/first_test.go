package state_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/guest/state"
)

func first() state.First {
	return state.First{Tenant: tenant, Instance: instance, Purpose: purpose, Epoch: 1, Key: bytes.Repeat([]byte{3}, 32)}
}

// opened is what the guest of f is released.
func opened(f state.First) *guest.Opened {
	return &guest.Opened{
		Tenant: f.Tenant, Instance: f.Instance, Purpose: f.Purpose, Release: [16]byte{1}, Key: bytes.Clone(f.Key), Epoch: f.Epoch, Slot: f.Epoch,
		Next: f.Epoch + 1, NextKey: bytes.Repeat([]byte{4}, 32), ConfirmKey: bytes.Repeat([]byte{5}, 32), Pinned: true,
	}
}

// acknowledged has what was confirmed, and acknowledges it.
func acknowledged(got *teebroker.Confirm) func(context.Context, teebroker.Confirm, []byte) (teebroker.Acknowledged, error) {
	return func(_ context.Context, c teebroker.Confirm, _ []byte) (teebroker.Acknowledged, error) {
		*got = c
		return teebroker.Acknowledged{Confirm: c, Result: teebroker.ConfirmedResult, MAC: c.Ack(bytes.Repeat([]byte{5}, 32), teebroker.ConfirmedResult)}, nil
	}
}

// The state that an owner made opens for the guest it was made for, and the owner's
// say is not needed again.
func TestFirst(t *testing.T) {
	d := &disk{}
	if err := first().Write(d, []byte("made by its owner")); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(d.slots[0], []byte("owner")) {
		t.Error("in the clear")
	}
	if err := first().Write(d, []byte("again")); err == nil {
		t.Error("a state is written over")
	}
	for name, edit := range map[string]func(*guest.Opened){
		"tenant": func(o *guest.Opened) { o.Tenant = "other" }, "instance": func(o *guest.Opened) { o.Instance[0]++ },
		"purpose": func(o *guest.Opened) { o.Purpose = "disk" }, "epoch": func(o *guest.Opened) { o.Slot++ },
		"key": func(o *guest.Opened) { o.Key[0]++ },
	} {
		o := opened(first())
		edit(o)
		if _, err := state.Prepare(state.Config{Slots: d.copy(), Confirm: acknowledged(new(teebroker.Confirm))}, o, nil); !errors.Is(err, state.NoState) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	p, err := state.Prepare(state.Config{Slots: d, Confirm: acknowledged(new(teebroker.Confirm))}, opened(first()), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Confirm(t.Context())
	if err != nil || string(s.Value()) != "made by its owner" {
		t.Fatalf("%v", err)
	}
	if len(d.slots[0]) != 0 {
		t.Error("the state of the owner's key is still there")
	}
	for name, edit := range map[string]func(*state.First){
		"tenant": func(f *state.First) { f.Tenant = "" }, "instance": func(f *state.First) { f.Instance = [16]byte{} },
		"purpose": func(f *state.First) { f.Purpose = "" }, "epoch": func(f *state.First) { f.Epoch = 0 },
		"key": func(f *state.First) { f.Key = f.Key[1:] },
	} {
		f, d := first(), &disk{}
		if edit(&f); f.Write(d, []byte("x")) == nil || len(d.slots[0]) != 0 {
			t.Errorf("without a %s", name)
		}
	}
}

// What Inspect says of a state is confirmed, and what it refuses is not, and stays.
func TestInspect(t *testing.T) {
	d := &disk{}
	if err := first().Write(d, []byte("value")); err != nil {
		t.Fatal(err)
	}
	before, refusal := d.copy(), errors.New("not this disk")
	var said teebroker.Confirm
	cfg := state.Config{Slots: d, Confirm: acknowledged(&said), EK: [32]byte{1}, Inspect: func([]byte) ([32]byte, error) { return [32]byte{}, refusal }}
	if _, err := state.Prepare(cfg, opened(first()), nil); !errors.Is(err, refusal) || d.String() != before.String() {
		t.Fatalf("%v, %v", err, d)
	}
	cfg.Inspect = func(value []byte) ([32]byte, error) {
		if string(value) != "value" {
			t.Errorf("shown %q", value)
		}
		return [32]byte{2}, nil
	}
	p, err := state.Prepare(cfg, opened(first()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Confirm(t.Context()); err != nil || said.EK != [32]byte{2} {
		t.Errorf("confirmed %x, %v", said.EK, err)
	}
}
