package teebroker

import (
	"context"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/nonce"
)

// TPMs binds the attestation keys of vTPMs to the TEEs that they run in. Package
// activation has one; it is an interface because this package knows nothing of
// TPMs. It is safe for concurrent use.
//
// Errors are those of a Broker: a Refusal, a Reason, or Unavailable.
type TPMs interface {
	// Challenge issues a nonce of nonce.ProfileVTPM.
	Challenge(ctx context.Context) (Challenge, error)

	// Bind judges the report below a TPM and answers with a credential that only
	// this TPM can open, while it has the AK. It redeems the nonce.
	Bind(ctx context.Context, b TPMBinding) (TPMCredential, error)

	// Activate takes what was in the credential, once. The AK and the EK are bound
	// when it returns: durably, for this broker and all that share its state.
	Activate(ctx context.Context, p TPMProof) (TPMActivated, error)
}

// TPMBinding is what a guest shows to have an attestation key of its TPM bound. All
// of it but the endorsements is bound to Nonce, see [nonce.EK].
type TPMBinding struct {
	Nonce    nonce.Nonce
	Broker   []byte // broker id that the guest pins, 32 bytes, or empty
	Tenant   string
	Instance [16]byte
	AK       []byte // TPM2B_PUBLIC of a restricted signing key

	// Report is the report of the TEE, and Items what it is of: vtpm-svsm-nonce,
	// which is the binding, with vtpm-svsm-manifest or vtpm-svsm-services; or
	// vtpm-azure-hcl, whose user data is the binding, with vtpm-ek.
	Report evidence.Evidence
	Items  []evidence.Item
}

// TPMCredential is a challenge to a TPM.
type TPMCredential struct {
	Session string    // names it: 43 characters of base64url
	Blob    []byte    // as Keylime's registrar sends it, before base64: see vtpm.MakeCredential
	Expires time.Time // of the session
}

// TPMProof answers a TPMCredential.
type TPMProof struct {
	Session string
	Secret  []byte // what TPM2_ActivateCredential returned
	Quote   []byte // by the AK, for [nonce.QuoteBinding] of Session and over any PCRs: its counts tell clones apart
}

// TPMActivated is what was bound.
type TPMActivated struct {
	EK      strictjson.Digest // SHA-256 of its TPMT_PUBLIC, which a Confirm has as EK
	AgentID string            // of a Keylime agent with this EK, if its uuid is "hash_ek"
	AK      []byte            // Name
}
