package brokerd

import (
	"context"

	v1 "github.com/teebroker/teebroker/protocol/v1"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/vtpm"
)

// identities is what owners are told of the TPMs of their guests.
func (b *broker) identities() *v1.IdentityConfig {
	return &v1.IdentityConfig{Identities: b.db, AgentID: vtpm.HashEK}
}

// activated is vtpm.AKs by what is known of TPMs.
type activated struct{ ids store.Identities }

// Activated implements vtpm.AKs. The Name of an EK is two bytes of algorithm, which is
// SHA-256, and the digest that it is known by.
func (a activated) Activated(ctx context.Context, ek, ak vtpm.Name) (bool, error) {
	if len(ek) != 2+32 || ek[:2] != "\x00\x0b" {
		return false, nil
	}
	return a.ids.Activated(ctx, [32]byte([]byte(ek[2:])), []byte(ak))
}
