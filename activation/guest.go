package activation

import (
	"context"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/nonce"
)

// Guest is the other end: what a guest needs to have an AK of its TPM bound. All
// fields but Broker are required. It is used by one goroutine at a time.
type Guest struct {
	TPMs     teebroker.TPMs // the broker, usually v1.Client.TPMs
	Broker   []byte         // broker id that is pinned, 32 bytes, or empty
	Tenant   string
	Instance [16]byte
	AK       []byte // TPM2B_PUBLIC of a restricted signing key that the TPM has

	// Attest returns Report and Items of a binding: the report of the TEE that is
	// asked for with these bytes. See [teebroker.TPMBinding].
	Attest func(asked [64]byte) (teebroker.TPMBinding, error)

	// Activate does TPM2_ActivateCredential with the AK and the EK, of a blob as
	// vtpm.MakeCredential makes it.
	Activate func(blob []byte) ([]byte, error)

	// Quote returns a quote by the AK for these bytes, as TPM2_Quote returns it.
	Quote func(asked [32]byte) ([]byte, error)
}

// Bind has the AK bound. What the broker refuses is its error; nothing of the answer
// needs to be believed, for it opens nothing.
func (g Guest) Bind(ctx context.Context) (teebroker.TPMActivated, error) {
	var none teebroker.TPMActivated
	if g.TPMs == nil || len(g.AK) == 0 || g.Attest == nil || g.Activate == nil || g.Quote == nil {
		return none, errors.New("activation: Guest is incomplete")
	}
	ch, err := g.TPMs.Challenge(ctx)
	if err != nil {
		return none, err
	}
	want, err := nonce.EK{Broker: g.Broker, Tenant: g.Tenant, Instance: g.Instance, AK: g.AK}.Bind(ch.Nonce)
	if err != nil {
		return none, err
	}
	b, err := g.Attest([64]byte(want.Bytes()))
	if err != nil {
		return none, fmt.Errorf("activation: report: %w", err)
	}
	b.Nonce, b.Broker, b.Tenant, b.Instance, b.AK = ch.Nonce, g.Broker, g.Tenant, g.Instance, g.AK
	cred, err := g.TPMs.Bind(ctx, b)
	if err != nil {
		return none, err
	}
	return g.answer(ctx, cred)
}

// answer shows what is in a credential.
func (g Guest) answer(ctx context.Context, cred teebroker.TPMCredential) (teebroker.TPMActivated, error) {
	var none teebroker.TPMActivated
	secret, err := g.Activate(cred.Blob)
	if err != nil {
		return none, fmt.Errorf("activation: credential: %w", err)
	}
	defer clear(secret)
	want, err := nonce.QuoteBinding(cred.Session)
	if err != nil {
		return none, err
	}
	quote, err := g.Quote([32]byte(want.Bytes()))
	if err != nil {
		return none, fmt.Errorf("activation: quote: %w", err)
	}
	return g.TPMs.Activate(ctx, teebroker.TPMProof{Session: cred.Session, Secret: secret, Quote: quote})
}
