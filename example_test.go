package teebroker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/store/memory"
)

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// A broker in one process, an owner who authorizes one release, and a guest on a
// simulated chip that gets the secret. A real broker has snp.AMD() as anchors.
func Example() {
	ctx, id := context.Background(), [16]byte{15: 1}
	amd := vendor()
	chip := amd.Chip(snp.Turin)
	verifier := must(snp.NewVerifier(snp.Config{Anchors: amd.Anchors(snp.Turin), Source: amd.Source(), Time: start}))

	// The broker.
	var nonceKey [32]byte
	rand.Read(nonceKey[:])
	state := memory.New(start)
	broker := must(teebroker.New(teebroker.Config{
		Verifier:  evidence.Verifiers{snp.Format: verifier},
		Issuer:    must(nonce.NewHMAC(nonce.Config{Key: nonceKey, Time: start})),
		Nonces:    state,
		Directory: state,
		Secrets:   state,
		Ledger:    state,
		Identity:  must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		Time:      start,
	}))

	// The owner.
	launch := teebroker.LaunchID("default", id)
	image := [48]byte{1}
	for _, err := range []error{
		state.Register(ctx, teebroker.Instance{
			Tenant: "default", ID: id,
			Policies: []*policy.Policy{{
				Name: "prod", Version: "1", Document: []byte("image 1 on a current Turin"),
				Require: map[evidence.Format]policy.Rule{snp.Format: snp.Baseline([]snp.Floor{chip.Floor()}, image)},
			}},
			Launch: teebroker.LaunchClaim{Name: "snp.host_data", Want: launch[:]},
			Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.MLKEM768X25519}},
		}),
		state.PutSecret(ctx, "default", id, "disk", []byte("a disk key")),
		state.Authorize(ctx, teebroker.Authorization{
			Tenant: "default", Instance: id, Purposes: []string{"disk"}, NotAfter: start().Add(time.Hour),
		}),
	} {
		if err != nil {
			log.Fatal(err)
		}
	}

	// The guest. Everything between it and the broker goes through its host.
	brokerID := broker.ID()
	session := must(guest.New(guest.Config{
		Tenant: "default", Instance: id, Purpose: "disk",
		Broker: brokerID[:], Key: must(keywrap.Generate(keywrap.MLKEM768X25519)),
	}))
	challenge := must(broker.Challenge(ctx, nonce.ProfileV1))
	binding := must(session.Bind(challenge.Nonce, snp.Format))
	report := chip.Report(snptest.Guest{Measurement: image, HostData: launch}, binding)
	request := session.Request(challenge.Nonce, report)

	response := must(broker.Answer(ctx, request))
	fmt.Printf("%s\n", must(session.Open(ctx, response)))

	// The same evidence for another purpose, as a host might try.
	request.Purpose = "backup"
	request.Nonce = must(broker.Challenge(ctx, nonce.ProfileV1)).Nonce
	_, err := broker.Answer(ctx, request)
	fmt.Println(teebroker.Code(err), teebroker.Status(err))
	// Output:
	// a disk key
	// not-bound 403
}

// The launch identity of an instance is what its owner gives as HOST_DATA.
func ExampleLaunchID() {
	fmt.Printf("%x\n", teebroker.LaunchID("default", [16]byte{15: 1}))
	// Output: 524d34334bfba5c1cd04356b504e578960e704b973380cf9aad1921bbd82172b
}

// A peer is told a code and nothing else.
func ExampleCode() {
	err := fmt.Errorf("instance 7 of tenant acme: %w", teebroker.OtherKey)
	fmt.Println(teebroker.Code(err), teebroker.Status(err))
	// Output: denied 403
}
