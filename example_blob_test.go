package teebroker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/owner"
	"github.com/teebroker/teebroker/store/memory"
)

// exampleBroker has these attestation keys for tenant "acme", first the one that
// owners wrap to.
func exampleBroker(state *memory.Store, keys ...teebroker.AttestationKey) *teebroker.Broker {
	return must(teebroker.New(teebroker.Config{
		Verifier: faketee.Verifier{}, Issuer: must(nonce.NewHMAC(nonce.Config{Key: [32]byte{1}})),
		Nonces: state, Directory: state, Secrets: state, Ledger: state, Time: start,
		Identity: must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		Keys:     must(teebroker.NewKeySet(map[string][]teebroker.AttestationKey{"acme": keys})),
	}))
}

// The broker says to which keys owners wrap, and they believe nobody else.
func ExampleVerifyKeys() {
	broker := exampleBroker(memory.New(start),
		teebroker.AttestationKey{ID: "2026", Opener: must(keywrap.Generate(keywrap.MLKEM1024P384))},
		teebroker.AttestationKey{ID: "2025", Opener: must(keywrap.Generate(keywrap.P384)), NotAfter: start()},
	)
	doc := must(broker.KeysDocument(context.Background(), "acme"))

	keys := must(teebroker.VerifyKeys(doc, broker.ID(), "acme", start()))
	for _, k := range keys.Keys {
		fmt.Println(k.ID, k.Suite)
	}
	fmt.Println("now:", must(keys.Current("", start())).ID)

	_, err := teebroker.VerifyKeys(doc, [32]byte{1}, "acme", start())
	fmt.Println(err)
	// Output:
	// 2026 HPKE-MLKEM1024-P384
	// 2025 HPKE-P384
	// now: 2026
	// teebroker: no key of the broker to trust: jws: invalid: another key
}

// A new key comes first, what was wrapped to the old one is wrapped to it, and the
// old one retires.
func ExampleBroker_Rewrap() {
	ctx, id, state := context.Background(), [16]byte{15: 1}, memory.New(start)
	old := teebroker.AttestationKey{ID: "2025", Opener: must(keywrap.Generate(keywrap.P384))}
	broker := exampleBroker(state, old)
	blob := must(owner.Wrap(owner.Blob{
		Keys: must(broker.KeysDocument(ctx, "acme")), Broker: broker.ID(), Time: start(),
		Tenant: "acme", Instance: id, Purpose: "disk",
	}, []byte("a disk key")))
	if err := state.Register(ctx, teebroker.Instance{Tenant: "acme", ID: id, Blobs: map[string]teebroker.Blob{
		"disk": {Digest: blob.Digest(), Wrapped: must(json.Marshal(blob))},
	}}); err != nil {
		fmt.Println(err)
		return
	}

	broker = exampleBroker(state, teebroker.AttestationKey{ID: "2026", Opener: must(keywrap.Generate(keywrap.MLKEM1024P384))}, old)
	again := must(broker.Rewrap(ctx, "acme", id, "disk", nil)) // to be registered in place of blob
	fmt.Println(must(blob.Header()).KeyID, "becomes", must(again.Header()).KeyID)
	// Output: 2025 becomes 2026
}
