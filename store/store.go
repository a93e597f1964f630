// Package store has what owners write into the state of a broker: registrations,
// policies, secrets, blobs and authorizations. A broker only reads it, through
// the contracts of package teebroker; an owner's adapter writes it through
// [Owner].
//
// Every method of an Owner is one transaction with the entry that records it,
// durable when it returns. Tenants share nothing: what is another tenant's is
// NotFound, always, and told apart from nothing.
package store

import (
	"context"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// An Error is a constant error that every store wraps. Anything else a store
// fails with means that the outcome is unknown.
type Error string

// The Errors.
const (
	// NotFound: there is none in this tenant, or there was one and it was deleted.
	NotFound Error = "store: not found"

	// Conflict: an instance id, launch claim or authorization id that is taken,
	// also by something that was deleted.
	Conflict Error = "store: taken"

	// Invalid: what was to be stored can't be meant. The text says why, and is
	// fit for the owner.
	Invalid Error = "store: invalid"

	// Unordered: the instance has an owner key, and what was asked for did not come
	// with an order of that key for it. The text says why, and is fit for the owner.
	Unordered Error = "store: needs an order of the owner key"
)

// Error implements error.
func (e Error) Error() string { return string(e) }

// Registration is what an owner says of an instance, and its JSON what the owner
// sends. Its zero admits nobody.
type Registration struct {
	// Image names the image that instances share, for people.
	Image string `json:"image,omitempty"`

	// Policies are names of documents of the tenant, widest first: global,
	// image, instance.
	Policies []string `json:"policies"`

	// Launch is how a guest shows that it is this instance and no other.
	Launch Launch `json:"launch"`

	// Suites are what its guests may ask to be sealed to, and MinRSABits what
	// an RSA key must have at least; see [keywrap.Allow].
	Suites     []keywrap.Suite `json:"suites"`
	MinRSABits int             `json:"min_rsa_bits,omitempty"`

	// Profiles are what may be released by which protocol, by purpose; a
	// purpose that is not here is of v1 only.
	Profiles map[string][]nonce.Profile `json:"profiles,omitempty"`

	// What [teebroker.Instance] says of them.
	AllowUnpinnedBroker       bool `json:"allow_unpinned_broker,omitempty"`
	AllowSharedLaunchIdentity bool `json:"allow_shared_launch_identity,omitempty"`
	AllowEphemeralVTPM        bool `json:"allow_ephemeral_vtpm,omitempty"`

	// OwnerKey is [teebroker.OrderKey] of a key that the owner holds. With it every
	// act on the instance that could release something is an order of that key, see
	// [WithOrder]. It is there for ever once it is there, and only an order of the
	// present key puts another in its place.
	OwnerKey strictjson.Digest `json:"owner_key,omitzero"`
}

// Launch is the launch identity, section 8 of the protocol. A guest shows it by
// any of what is here. The zero Launch is nobody's.
type Launch struct {
	// Own is [teebroker.LaunchID] of the instance in HOST_DATA, MRCONFIGID or
	// RPV.
	Own bool `json:"own,omitempty"`

	// Claims are launch claims of which no other instance of the broker has the
	// same value, whatever its tenant; a value that is taken is a Conflict.
	Claims []Claim `json:"claims,omitempty"`
}

// Claim is one claim of bytes by its stable name.
type Claim struct {
	Name string         `json:"claim"`
	Want strictjson.Hex `json:"want"`
}

// Status is what there is of an instance.
type Status struct {
	ID           [16]byte
	Generation   uint64
	Registration Registration
	Secrets      []string          // purposes that have a stored secret
	Blobs        map[string][]byte // digest of the current blob, 32 bytes, by purpose

	// State is what an order of an authorization names, [teebroker.Orders.State];
	// zero without an owner key.
	State [32]byte
}

// AuthorizationStatus is an authorization and what became of it.
type AuthorizationStatus struct {
	teebroker.Authorization
	Used  int
	State string // OPEN, DONE, EXPIRED or REVOKED
}

// RecordEntry is an Entry where it stands in its chain, section 10 of the
// protocol.
type RecordEntry struct {
	teebroker.Entry
	Generation, Seq uint64
	Time            time.Time // to the millisecond
	Previous, Hash  [32]byte
}

// Owner is what owners do. Names of policies are 1 to 64 bytes of
// [a-z0-9._-]. Slices are not shared with the caller.
//
// What changes an instance with an owner key, or gives something of it, is done
// with the order of [WithOrder], which [Deed.Take] judges, and is Unordered
// without. Only Hold and Revoke are not: who has no more than a token can stop
// things and nothing else. The order is stored with what it is for, and its id for
// ever, in the same transaction.
type Owner interface {
	Epochs

	// PutPolicy stores a document that policy.Parse accepts. A change of a
	// document raises the Generation of every instance that names it and voids
	// their open authorizations; the same bytes again change nothing. A document
	// that an instance with an owner key asks for by an order of that key is
	// changed by an order of it only.
	PutPolicy(ctx context.Context, tenant, name string, document []byte) error
	Policy(ctx context.Context, tenant, name string) ([]byte, error)
	Policies(ctx context.Context, tenant string) ([]string, error) // names, sorted

	// Register adds an instance or changes it, which raises its Generation and
	// voids its open authorizations; what is the same changes nothing. An id
	// that was deleted is a Conflict for ever.
	Register(ctx context.Context, tenant string, id [16]byte, r Registration) (Status, error)
	Status(ctx context.Context, tenant string, id [16]byte) (Status, error)
	Instances(ctx context.Context, tenant string) ([][16]byte, error)
	Delete(ctx context.Context, tenant string, id [16]byte) error

	// PutSecret stores 1 byte to [MaxSecret] as the secret of an instance, in
	// place of an earlier one or of a blob; PutBlob registers a wrapped blob in
	// place of the same. A purpose with epochs is a Conflict. Both void the open
	// authorizations of the instance.
	// wrapped is the blob as JSON, or nil if only its digest is registered.
	PutSecret(ctx context.Context, tenant string, id [16]byte, purpose string, value []byte) error
	PutBlob(ctx context.Context, tenant string, id [16]byte, purpose string, digest [32]byte, wrapped []byte) error

	// ReplaceBlob is PutBlob if the current blob is the one called old, and a
	// Conflict otherwise: for who made the new one of it, while an owner may have
	// registered another.
	ReplaceBlob(ctx context.Context, tenant string, id [16]byte, purpose string, old, digest [32]byte, wrapped []byte) error

	// Authorize adds an open authorization and returns it with what the store
	// set: Policy, Generation and, if it was zero, ID. NotAfter is required.
	Authorize(ctx context.Context, a teebroker.Authorization) (teebroker.Authorization, error)
	Authorizations(ctx context.Context, tenant string, id [16]byte) ([]AuthorizationStatus, error) // newest first
	Revoke(ctx context.Context, tenant string, id, authorization [16]byte) error

	// Record returns entries of a chain with Seq above after, oldest first, at
	// most limit of them, which is 1 to 1000.
	Record(ctx context.Context, tenant string, c teebroker.Chain, after uint64, limit int) ([]RecordEntry, error)
}

// MaxSecret is the most bytes of a stored secret: well below keywrap.MaxSecret,
// since v1 seals a secret in base64 and with what it is for.
const MaxSecret = 512 << 10

// Tenants says whose a bearer token is. Tokens are stored as SHA-256 only.
type Tenants interface {
	// AddTenant adds a tenant, or another token of one. A token that is known
	// already is a Conflict.
	AddTenant(ctx context.Context, tenant string, token [32]byte) error

	// Tenant returns the tenant of a token, or NotFound.
	Tenant(ctx context.Context, token [32]byte) (string, error)

	// RemoveToken ends a token at once. Removing what is not there is NotFound.
	RemoveToken(ctx context.Context, token [32]byte) error
}

// Cipher encrypts what a store keeps. A value opens only with the aad that it
// was sealed with, which names where it belongs. The key may be in a token.
type Cipher interface {
	Seal(ctx context.Context, plain, aad []byte) ([]byte, error)
	Open(ctx context.Context, sealed, aad []byte) ([]byte, error)
}
