package teebroker

import (
	"context"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// Credentials makes what is released under purposes of its own, where [Secrets]
// would have it: certificates and tokens for the guest. Everything else about such a release is
// as of any other: evidence, policies, launch identity, an authorization that names
// the purpose, one release for each slot, the sealed answer, the receipt and the record.
type Credentials interface {
	// Makes reports whether what is called purpose is made, and made only here: a
	// secret that an owner stored under that name is never released. The answer for a purpose is
	// always the same.
	Makes(purpose string) bool

	// Credential returns what an accepted guest gets, which the Broker seals to it and
	// clears. It is asked before the Ledger commits, and perhaps again, so asking must have
	// no effect. An error wraps a [Refusal] if it is a decision, such as MalformedRequest.
	Credential(ctx context.Context, r CredentialRequest) ([]byte, error)
}

// CredentialRequest is what a credential is made of. It is of an accepted guest.
type CredentialRequest struct {
	Tenant   string
	Instance [16]byte
	Purpose  string

	// Presented is what the guest showed in place of a wrapped blob, or zero: its digest is in the
	// binding, so that hardware signed for it. What is in it is for Credentials to read.
	Presented keywrap.Wrapped

	NotAfter time.Time // until when the evidence is good
}

// makes reports whether the secret called purpose is made by Credentials.
func (b *Broker) makes(purpose string) bool {
	return b.cfg.Credentials != nil && b.cfg.Credentials.Makes(purpose)
}

// checkCredential returns an error unless a can be given a credential. Only v1 binds
// what the guest shows, and a purpose that an owner registered a blob for is that blob's.
func (a *Attestation) checkCredential(purpose string) error {
	_, registered := a.inst.Blobs[purpose]
	switch {
	case a.Profile() != nonce.ProfileV1:
		return fmt.Errorf("teebroker: %w: credentials are of v1", ProfileNotAllowed)
	case registered || a.inst.epochs(purpose):
		return fmt.Errorf("teebroker: %w: a blob is registered for a credential", ForeignBlob)
	}
	return nil
}

// credential returns the credential called purpose, the caller's to clear.
func (b *Broker) credential(ctx context.Context, a *Attestation, purpose string) ([]byte, error) {
	r := CredentialRequest{Tenant: a.inst.Tenant, Instance: a.inst.ID, Purpose: purpose, NotAfter: a.good}
	if a.p.req.Wrapped != nil {
		w, err := keywrap.ParseWrapped(a.p.req.Wrapped)
		if err != nil {
			return nil, fmt.Errorf("teebroker: %w: wrapped key: %w", MalformedRequest, err)
		}
		r.Presented = w
	}
	made, err := b.cfg.Credentials.Credential(ctx, r)
	if err != nil {
		return made, fault("credentials", err)
	}
	return made, nil
}
