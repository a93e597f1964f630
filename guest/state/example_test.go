package state_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/guest/state"
)

// A guest makes its first state, confirms, and only then has it.
func Example() {
	dir, err := os.MkdirTemp("", "state-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	// What guest.Session.OpenEpoch returned.
	opened := &guest.Opened{
		Tenant: "acme", Instance: [16]byte{1}, Purpose: "vtpm", Release: [16]byte{2}, Epoch: 1, Slot: 1, Initial: true, Pinned: true,
		Key: make([]byte, 32), Next: 2, NextKey: []byte("32 random bytes, made by a broker"), ConfirmKey: []byte("32 random bytes, made by a broker"),
	}
	confirmKey := []byte("32 random bytes, made by a broker")
	lost := true
	cfg := state.Config{
		Slots: state.Dir(dir),
		// Usually protocol/v1.Client.Confirm, through whatever the host offers.
		Confirm: func(_ context.Context, c teebroker.Confirm, mac []byte) (teebroker.Acknowledged, error) {
			if lost {
				lost = false
				return teebroker.Acknowledged{}, errors.New("no answer")
			}
			return teebroker.Acknowledged{Confirm: c, Result: teebroker.ConfirmedResult, MAC: c.Ack(confirmKey, teebroker.ConfirmedResult)}, nil
		},
	}
	p, err := state.Prepare(cfg, opened, func() ([]byte, error) { return []byte("a new vTPM"), nil })
	if err != nil {
		panic(err)
	}
	_, err = p.Confirm(context.Background())
	fmt.Println(err)
	s, err := p.Confirm(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", s.Value())
	// Output:
	// state: no answer
	// a new vTPM
}
