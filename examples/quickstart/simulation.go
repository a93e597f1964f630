package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store/memory"
)

// The owner's guest, and another one of his that the host may launch instead.
var instance, neighbour = [16]byte{1}, [16]byte{2}

// simulation is a simulated platform that releases are tried with, in short.
type simulation struct {
	guest      string // what its guests are called
	format     evidence.Format
	verifier   evidence.Verifier
	root       [32]byte
	policy     *policy.Policy
	launch     string // the claim with the launch identity, then zeros
	launchSize int    // of that claim, in bytes
}

// boot is a guest that asks for the secret of the owner's instance.
type boot struct {
	what, want string
	quote      func(evidence.Binding) evidence.Evidence
}

// launchedAs returns what the host sets of a guest that it launches as id.
func (s simulation) launchedAs(id [16]byte) []byte {
	launch, field := teebroker.LaunchID(tenant, id), make([]byte, s.launchSize)
	copy(field, launch[:])
	return field
}

// release registers an instance with a secret, and tries boots.
func (s simulation) release(ctx context.Context, t *transcript, boots []boot) error {
	store, secret := memory.New(nil), make([]byte, 32)
	rand.Read(secret)
	broker, err := newBroker(store, evidence.Verifiers{s.format: s.verifier}, [][32]byte{s.root})
	if err != nil {
		return err
	}
	if !t.try(fmt.Sprintf("the owner registers the %s, its policy and its secret, and authorizes one boot", s.guest), accepted, func() error {
		return errors.Join(
			store.Register(ctx, teebroker.Instance{
				Tenant: tenant, ID: instance, Image: "quickstart", Policies: []*policy.Policy{s.policy},
				Launch: teebroker.LaunchClaim{Name: s.launch, Want: s.launchedAs(instance)},
				Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.MLKEM768X25519}},
			}),
			store.PutSecret(ctx, tenant, instance, purpose, secret),
			store.Authorize(ctx, teebroker.Authorization{
				Tenant: tenant, Instance: instance, Purposes: []string{purpose},
				NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
			}),
		)
	}) {
		return errors.New("nothing is registered")
	}
	for _, b := range boots {
		t.try(b.what, b.want, func() error { return s.boot(ctx, broker, b, secret) })
	}
	return nil
}

// boot is a whole boot: nonce, quote, answer, and the secret opened.
func (s simulation) boot(ctx context.Context, broker *teebroker.Broker, b boot, secret []byte) error {
	key, err := keywrap.Generate(keywrap.MLKEM768X25519)
	if err != nil {
		return err
	}
	id := broker.ID()
	session, err := guest.New(guest.Config{Tenant: tenant, Instance: instance, Purpose: purpose, Broker: id[:], Key: key})
	if err != nil {
		return err
	}
	c, err := broker.Challenge(ctx, nonce.ProfileV1)
	if err != nil {
		return err
	}
	want, err := session.Bind(c.Nonce, s.format)
	if err != nil {
		return err
	}
	answer, err := broker.Answer(ctx, session.Request(c.Nonce, b.quote(want)))
	if err != nil {
		return err
	}
	got, err := session.Open(ctx, answer)
	if err != nil {
		return err
	}
	defer clear(got)
	if !bytes.Equal(got, secret) {
		return fmt.Errorf("another secret of %d bytes", len(got))
	}
	return nil
}
