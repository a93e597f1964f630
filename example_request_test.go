package teebroker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/store/memory"
)

// A guest seals to the request key of the broker that it pins; the one before opens
// for an hour and a minute more. What is sealed, and what answers it, is
// protocol/v1's.
func ExampleBroker_OpenRequest() {
	ctx, state, now := context.Background(), memory.New(start), start()
	broker := must(teebroker.New(teebroker.Config{
		Verifier: faketee.Verifier{}, Issuer: must(nonce.NewHMAC(nonce.Config{Key: [32]byte{1}})),
		Nonces: state, Directory: state, Secrets: state, Ledger: state, Time: func() time.Time { return now },
		Identity: must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		RequestKeys: []teebroker.RequestKey{
			{ID: "2026-11", Opener: must(keywrap.Generate(keywrap.MLKEM768X25519)), NotBefore: now.Add(time.Hour)},
			{ID: "2026-10", Opener: must(keywrap.Generate(keywrap.MLKEM768X25519)), NotAfter: now.Add(time.Hour)},
		},
	}))

	keys := must(teebroker.VerifyKeys(must(broker.KeysDocument(ctx, "")), broker.ID(), "", now))
	sealed := must(keys.SealRequest([]byte("what a guest asks"), now))
	fmt.Println(sealed.KeyID)

	now = now.Add(2 * time.Hour)
	fmt.Printf("%s\n", must(broker.OpenRequest(ctx, sealed)))
	now = now.Add(time.Minute)
	_, err := broker.OpenRequest(ctx, sealed)
	fmt.Println(errors.Is(err, teebroker.MalformedRequest))
	// Output:
	// 2026-10
	// what a guest asks
	// true
}
