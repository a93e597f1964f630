package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// What an [Identity] may have at most.
const (
	MaxAKs    = 16      // the latest; earlier ones have to be bound again
	MaxPublic = 2 << 10 // bytes of a TPMT_PUBLIC
	MaxAgent  = 80      // bytes of the id of an agent
	MaxEKs    = 1000    // that EKs returns
)

// The Kinds of what happens to identities. KindResume is of the owner, and is of
// an identity if its Act has an EK.
const (
	KindIdentity     teebroker.Kind = "identity"      // an AK was bound, and with the first one its EK
	KindAgent        teebroker.Kind = "agent"         // an agent registered
	KindCloneSuspect teebroker.Kind = "clone-suspect" // an identity and the epochs of its instance are HELD
)

// IdentityState is where an [Identity] is in its life.
type IdentityState string

// The IdentityStates.
const (
	IdentityLive       IdentityState = "live"
	IdentitySuperseded IdentityState = "superseded" // a later start has another EK, or the owner chose another
	IdentityHeld       IdentityState = "held"       // clone-suspect, until the owner resumes it
)

// Suspicion is why an [Identity] is held. Each rests on what was verified: who can
// only send bytes holds nothing up.
type Suspicion string

// The Suspicions.
const (
	OtherEK       Suspicion = "other-ek"       // the TPM of the instance is to keep its EK, and has another
	OtherInstance Suspicion = "other-instance" // one EK in the TPMs of two instances
	TwoPlaces     Suspicion = "two-places"     // one EK on two platforms, or in two guests, at a time
	Backwards     Suspicion = "backwards"      // reset count, restart count or clock went back
)

// Identity is an endorsement key and what is known of the TPM that has it. The JSON
// is what owners are told.
type Identity struct {
	Tenant   string            `json:"tenant"`
	Instance strictjson.UUID   `json:"instance"`
	EK       strictjson.Digest `json:"ek"` // SHA-256 of the TPMT_PUBLIC
	State    IdentityState     `json:"state"`
	Why      Suspicion         `json:"why,omitempty"` // of a held one
	Made     time.Time         `json:"made"`          // when it was first known

	// Public is the TPMT_PUBLIC, without the size that Keylime's TPM2B_PUBLIC has
	// before it, and AgentID what a Keylime agent with this EK is called if its
	// uuid is "hash_ek". Both are empty of an EK that only a confirm named.
	Public  strictjson.Base64 `json:"public,omitempty"`
	AgentID string            `json:"agent_id,omitempty"`

	// Release is the last one whose guest named EK when it confirmed, and Epoch the
	// one that it confirmed; zero if none did.
	Release strictjson.UUID `json:"release,omitzero"`
	Epoch   uint64          `json:"epoch,omitempty"`

	// What was last seen of the TPM, nil before. Placed says that Chip and Run are
	// of the current start.
	Seen   *Sighting `json:"seen,omitempty"`
	Placed bool      `json:"placed,omitempty"`

	// Agent is the agent that this EK is of, for ever, and Registered when it
	// registered; zero if it did not since the current start.
	Agent      string    `json:"agent,omitempty"`
	Registered time.Time `json:"registered,omitzero"`

	AKs []BoundAK `json:"aks,omitempty"` // oldest first
}

// BoundAK is an attestation key that was shown to be in the TPM of an EK.
type BoundAK struct {
	Name strictjson.Hex `json:"name"` // two bytes of algorithm, and a digest
	Time time.Time      `json:"time"`
}

// Sighting is what verified evidence says of a TPM: the report of the TEE below,
// and a quote that the TPM made after it was asked to.
type Sighting struct {
	Chip strictjson.Hex `json:"chip,omitempty"` // that the report is of; nil if masked
	Run  strictjson.Hex `json:"run,omitempty"`  // what the platform calls this guest, such as REPORT_ID; nil if it has no name for it

	// Of TPMS_CLOCK_INFO in the quote.
	ResetCount   uint32 `json:"reset_count"`
	RestartCount uint32 `json:"restart_count"`
	Clock        uint64 `json:"clock"` // milliseconds
}

// Bound is an EK that a report vouches for, and an AK that was shown to be in its
// TPM.
type Bound struct {
	Tenant     string
	Instance   [16]byte // that the report was accepted as
	Generation uint64   // of the instance, then
	Public     []byte   // TPMT_PUBLIC of the EK
	AgentID    string   // see Identity
	AK         []byte   // Name
	Seen       Sighting
}

// Agent is who registers. Public and AgentID are of the EK, and are kept if they
// were not known; they may be empty if they are.
type Agent struct {
	ID      string // 1 to 80 of [A-Za-z0-9._-]
	Public  []byte
	AgentID string
}

// Identities has the endorsement keys of TPMs, as the EK, the instance, its release
// and its epoch go together. An EK is of one instance of a tenant, for ever.
//
// Each method that writes is one transaction with the entry that records it,
// serializable and durable when it returns, like those of [Owner]. Nothing gets an
// EK into an Identity but Bind and a Confirm of the Ledger that names it, which
// makes or renews the Identity in its own transaction: the confirm and the
// Identity are both durable or neither is, and a first confirm begins a new start.
//
// What is HELD stays so until ResumeEK, and with it every EK of the instance: Bind,
// See, RegisterAgent and a Confirm that names one are then teebroker.Held. What
// holds them also holds all epochs of the instance that are CURRENT or PENDING,
// records that in the decisions as KindCloneSuspect, and returns teebroker.Held;
// what was asked for does not happen. A superseded EK is teebroker.Superseded for
// all of these, and nothing changes.
//
// A start is what a TPM does between two TPM Resets. It begins with a confirm of
// another release, with a higher reset count where no release is known, and with
// ResumeEK. In one start the platform and the guest stay the same, counts do not
// go back, nor does the clock by more than MaxDelay. From one start to the next
// the reset count does not go back.
//
// A tenant does not see another's; the same EK in two tenants is not noticed.
type Identities interface {
	// Bind makes b.AK one of the AKs of the EK that b.Public is, at once a
	// sighting. The EK becomes that of the instance: if the instance has another
	// live one, that is superseded if AllowEphemeralVTPM of the instance is set, and
	// else both are held. An instance that is not there is NotFound, and one that
	// its owner has changed since b.Generation is teebroker.NotAuthorized.
	Bind(ctx context.Context, b Bound) (Identity, error)

	// See is a sighting of an EK by a quote that was verified.
	See(ctx context.Context, tenant string, ek [32]byte, s Sighting) (Identity, error)

	// Activated reports whether the AK called ak is one of an EK that is live, in
	// whatever tenant: see vtpm.AKs.
	Activated(ctx context.Context, ek [32]byte, ak []byte) (bool, error)

	// ByEK and ByAgent return what there is, in whatever State, or NotFound. agent
	// is one that registered, or else an AgentID.
	ByEK(ctx context.Context, tenant string, ek [32]byte) (Identity, error)
	ByAgent(ctx context.Context, tenant, agent string) (Identity, error)

	// Live returns the live Identity of an instance. It is NotFound if there is
	// none, and teebroker.Held if one is held.
	Live(ctx context.Context, tenant string, instance [16]byte) (Identity, error)

	// EKs returns the Identities of an instance, newest first, at most MaxEKs.
	EKs(ctx context.Context, tenant string, instance [16]byte) ([]Identity, error)

	// RegisterAgent makes a that of an EK: once in a start, whoever asks. An agent
	// that is of another EK, an EK that has another agent, and an agent that
	// registered since the start are Conflicts. An ID of 64 hexadecimal digits has
	// to be the AgentID.
	RegisterAgent(ctx context.Context, tenant string, ek [32]byte, a Agent) (Identity, error)

	// ResumeEK is the owner's word that ek is the EK of the instance: it is live,
	// all others are superseded, and a start begins of which nothing was seen. Its
	// AKs have to be bound again, and its agent may register again. One that is
	// live already is a Conflict. Epochs stay as they are: see Epochs.Resume. With an
	// owner key it takes an order, see [WithOrder].
	ResumeEK(ctx context.Context, tenant string, instance [16]byte, ek [32]byte) (Identity, error)
}

// MaxDelay is how much later a quote may be seen than one that was made after it:
// as long as nonces live.
const MaxDelay = 5 * time.Minute

// Clone returns a copy of id that shares no memory with it.
func (id Identity) Clone() Identity {
	id.Public = bytes.Clone(id.Public)
	if id.Seen != nil {
		s := id.Seen.Clone()
		id.Seen = &s
	}
	id.AKs = slices.Clone(id.AKs)
	for i := range id.AKs {
		id.AKs[i].Name = bytes.Clone(id.AKs[i].Name)
	}
	return id
}

// Has reports whether the AK called ak is one of id.
func (id Identity) Has(ak []byte) bool {
	return slices.ContainsFunc(id.AKs, func(b BoundAK) bool { return bytes.Equal(b.Name, ak) })
}

// Clone returns a copy of s that shares no memory with it.
func (s Sighting) Clone() Sighting {
	s.Chip, s.Run = bytes.Clone(s.Chip), bytes.Clone(s.Run)
	return s
}

// EK is SHA-256 of b.Public.
func (b Bound) EK() [32]byte { return sha256.Sum256(b.Public) }

// Check returns an error that wraps [Invalid] if b can't be meant.
func (b Bound) Check() error {
	if err := CheckInstance(b.Tenant, b.Instance); err != nil {
		return err
	}
	if err := checkPublic(b.EK(), b.Public, b.AgentID); err != nil {
		return err
	}
	if len(b.AK) < 2+32 || len(b.AK) > 2+64 {
		return fmt.Errorf("%w: %d bytes are not a Name", Invalid, len(b.AK))
	}
	return b.Seen.Check()
}

// Check returns an error that wraps [Invalid] if s can't be meant.
func (s Sighting) Check() error {
	if len(s.Chip) > 64 || len(s.Run) > 64 || s.Chip != nil && zero(s.Chip) || s.Run != nil && zero(s.Run) {
		return fmt.Errorf("%w: a chip or run that is empty, zero or longer than 64 bytes", Invalid)
	}
	return nil
}

// Check returns an error that wraps [Invalid] unless a can register with ek.
func (a Agent) Check(ek [32]byte) error {
	const some = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	if a.ID == "" || len(a.ID) > MaxAgent || strings.Trim(a.ID, some) != "" {
		return fmt.Errorf("%w: %.80q is not the id of an agent", Invalid, a.ID)
	}
	if len(a.Public) == 0 && a.AgentID == "" {
		return nil
	}
	return checkPublic(ek, a.Public, a.AgentID)
}

func checkPublic(ek [32]byte, public []byte, agentID string) error {
	switch {
	case len(public) == 0 || len(public) > MaxPublic || sha256.Sum256(public) != ek:
		return fmt.Errorf("%w: not the public area of the EK", Invalid)
	case !HashedAgent(agentID):
		return fmt.Errorf("%w: %.80q is not a hash_ek", Invalid, agentID)
	}
	return nil
}

// HashedAgent reports whether id has the shape of an AgentID: 64 lower-case
// hexadecimal digits.
func HashedAgent(id string) bool {
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == ""
}
