package store

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// The Kinds of what owners do.
const (
	KindPolicy    teebroker.Kind = "policy"    // a document was put
	KindRegister  teebroker.Kind = "register"  // an instance was added or changed
	KindDelete    teebroker.Kind = "delete"    // an instance was deleted
	KindSecret    teebroker.Kind = "secret"    // a secret was put
	KindBlob      teebroker.Kind = "blob"      // a wrapped blob was registered
	KindAuthorize teebroker.Kind = "authorize" // an authorization was given
	KindRevoke    teebroker.Kind = "revoke"    // an authorization was revoked
	KindToken     teebroker.Kind = "token"     // a token of the tenant was added
	KindTokenEnd  teebroker.Kind = "token-end" // a token of the tenant was removed
)

// Act is the body of the Entry of what an owner did. What is not of the Kind is
// left out.
type Act struct {
	Instance      strictjson.UUID   `json:"instance,omitzero"`
	Generation    uint64            `json:"generation,omitempty"` // of the instance, after it
	Policy        string            `json:"policy,omitempty"`     // name of the document
	Purpose       string            `json:"purpose,omitempty"`
	Digest        strictjson.Digest `json:"digest,omitzero"` // of the document, registration, blob or token
	Authorization strictjson.UUID   `json:"authorization,omitzero"`
	Purposes      []string          `json:"purposes,omitempty"`
	Uses          int               `json:"uses,omitempty"`
	Epoch         uint64            `json:"epoch,omitempty"`   // that is current after it
	Slot          uint64            `json:"slot,omitempty"`    // whose state a recovery opens
	Initial       bool              `json:"initial,omitempty"` // the guest makes its first state
	EK            strictjson.Digest `json:"ek,omitzero"`
	AK            strictjson.Hex    `json:"ak,omitempty"` // Name
	Agent         string            `json:"agent,omitempty"`
	Why           Suspicion         `json:"why,omitempty"`
	Order         strictjson.Digest `json:"order,omitzero"` // SHA-256 of the order that it was done with
	NotBefore     *time.Time        `json:"not_before,omitempty"`
	NotAfter      *time.Time        `json:"not_after,omitempty"`
}

// Entry returns the entry of a in the decisions of a tenant.
func (a Act) Entry(tenant string, kind teebroker.Kind) (teebroker.Entry, error) {
	body, err := json.Marshal(a)
	return teebroker.Entry{Chain: teebroker.Decisions, Tenant: tenant, Kind: kind, Body: body}, err
}

// Authorized is the [Act] of giving a.
func Authorized(a teebroker.Authorization) Act {
	act := Act{
		Instance: a.Instance, Generation: a.Generation, Authorization: a.ID, Purposes: a.Purposes, Uses: a.Uses,
		Digest: a.Policy, NotAfter: &a.NotAfter,
	}
	if !a.NotBefore.IsZero() {
		act.NotBefore = &a.NotBefore
	}
	return act
}

// EntryHash is the hash of e, section 10 of the protocol, whatever e.Hash is:
// SHA-256(LP("teebroker/record/v1") ‖ LP(tenant) ‖ LP(chain) ‖ u64 generation ‖
// u64 seq ‖ previous ‖ u64 milliseconds since 1970 ‖ LP(kind) ‖ LP(body)). The
// first entry of a chain has Seq 1 and a Previous of zeros.
func EntryHash(e RecordEntry) [32]byte {
	b := make([]byte, 0, 160+len(e.Body))
	b = appendLP(b, "teebroker/record/v1")
	b = appendLP(b, e.Tenant)
	b = appendLP(b, e.Chain)
	b = binary.BigEndian.AppendUint64(b, e.Generation)
	b = binary.BigEndian.AppendUint64(b, e.Seq)
	b = append(b, e.Previous[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time.UnixMilli()))
	b = appendLP(b, e.Kind)
	b = appendLP(b, e.Body)
	return sha256.Sum256(b)
}

// Follow returns e as the entry after last, which is zero for the first one, at a
// time, which is cut to milliseconds and never before that of last.
func (last RecordEntry) Follow(e teebroker.Entry, generation uint64, at time.Time) RecordEntry {
	if at.Before(last.Time) {
		at = last.Time
	}
	next := RecordEntry{
		Entry: e, Generation: generation, Seq: last.Seq + 1, Time: time.UnixMilli(at.UnixMilli()).UTC(), Previous: last.Hash,
	}
	next.Hash = EntryHash(next)
	return next
}

// appendLP appends x after its length, 4 bytes big-endian.
func appendLP[T ~string | ~[]byte](b []byte, x T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(x))), x...)
}
