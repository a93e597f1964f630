package teebroker

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
)

// receiptType is the "typ" of a receipt, which is checked.
const receiptType = "teebroker-receipt+jws"

// Receipt says what was released to whom and on what grounds, section 9 of the
// protocol. It is evidence, never a capability: nothing accepts one as
// authority. Digests are SHA-256, 32 bytes; ids are UUIDs, 16 bytes; in JSON
// bytes are base64url and UUIDs their lower-case text.
type Receipt struct {
	Issuer        strictjson.Digest   `json:"iss"` // broker id
	Kind          Kind                `json:"kind"`
	Profile       nonce.Profile       `json:"profile"`
	Release       strictjson.UUID     `json:"release"`
	Request       strictjson.Digest   `json:"request"` // RequestID
	Tenant        string              `json:"tenant"`
	Instance      strictjson.UUID     `json:"instance"`
	Purpose       string              `json:"purpose"`
	Authorization strictjson.UUID     `json:"authorization"`
	Nonce         strictjson.Digest   `json:"nonce"`
	Binding       strictjson.Base64   `json:"binding"`       // of the first Evidence of this request, 1 to 64 bytes
	Format        evidence.Format     `json:"format"`        // of the first Evidence
	Evidence      []strictjson.Digest `json:"evidence"`      // digests of Raw, in order
	Root          strictjson.Digest   `json:"root"`          // evidence.Verified.Root of the first Evidence
	Claims        strictjson.Digest   `json:"claims"`        // over all claims of all Evidence and Layers
	Policy        []strictjson.Digest `json:"policy"`        // digests of the documents, widest first
	Verdict       string              `json:"verdict"`       // "accepted"
	Key           strictjson.Digest   `json:"key"`           // thumbprint of the recipient key
	Suite         keywrap.Suite       `json:"suite"`         // of the recipient key
	Sealed        strictjson.Digest   `json:"sealed"`        // digest of Response.Sealed
	Blob          strictjson.Digest   `json:"blob,omitzero"` // digest of the wrapped blob it was in, or for a credential of what the guest presented, if any
	Generation    uint64              `json:"generation"`    // of the instance
	Simulated     bool                `json:"simulated"`     // the broker's state is of simulated platforms
	Weakened      []string            `json:"weakened"`      // what could be stronger, see below
	IssuedAt      int64               `json:"iat"`           // seconds since 1970, by the broker's clock

	// Of a purpose with epochs, section 7. In a receipt of KindConfirm Epoch is
	// the one confirmed, and nothing is said of evidence: the release did that.
	Epoch     uint64            `json:"epoch,omitempty"`      // whose key was released
	NextEpoch uint64            `json:"next_epoch,omitempty"` // that the guest writes
	NextBlob  strictjson.Digest `json:"next_blob,omitzero"`   // digest of its wrapped key
	PCR       strictjson.Digest `json:"pcr,omitzero"`         // that only this guest can produce, see PCRValue
	Seq       uint64            `json:"seq,omitempty"`        // as in Confirm, and so the following
	Settled   bool              `json:"settled,omitempty"`
	State     strictjson.Digest `json:"state,omitzero"`
	EK        strictjson.Digest `json:"ek,omitzero"`
}

// What Receipt.Weakened has: what the instance allows, and what the broker lacks.
const (
	WeakUnpinnedBroker       = "unpinned-broker"        // the guest could not tell who sent the secret
	WeakSharedLaunchIdentity = "shared-launch-identity" // others of its image could ask in its place

	// The broker has attestation keys outside of a token: what owners wrap,
	// whoever copies them can unwrap.
	WeakSoftwareAttestationKey = "software-attestation-key"
)

const accepted = "accepted"

// Time returns when r was signed, by the broker's clock.
func (r Receipt) Time() time.Time { return time.Unix(r.IssuedAt, 0) }

// ErrReceipt is wrapped by every failure of [VerifyReceipt].
var ErrReceipt = errors.New("teebroker: not a receipt of this broker")

// VerifyReceipt returns what the broker with this id signed. It takes one
// encoding only: ES384, the header that the broker writes, the type of receipts
// and strict JSON. A zero id is nobody's. What the receipt is about, the caller
// compares with what it asked for.
func VerifyReceipt(token []byte, broker [32]byte) (Receipt, error) {
	payload, err := jws.Verify(token, receiptType, broker)
	if err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	var r Receipt
	if err := strictjson.Unmarshal(payload, &r); err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if r.Issuer != broker || !r.complete() && !r.confirms() {
		return Receipt{}, fmt.Errorf("%w: incomplete, or of another issuer", ErrReceipt)
	}
	return r, nil
}

// complete reports whether r has what every release has.
func (r Receipt) complete() bool {
	return (r.Kind == KindRelease || r.Kind == KindRedelivery) && r.Verdict == accepted &&
		r.Profile != "" && r.Release != [16]byte{} && r.Request != [32]byte{} && r.Tenant != "" &&
		r.Instance != [16]byte{} && r.Purpose != "" && r.Authorization != [16]byte{} &&
		len(r.Binding) > 0 && len(r.Binding) <= 64 && r.Format != "" && len(r.Evidence) > 0 &&
		r.Root != [32]byte{} && r.Claims != [32]byte{} && len(r.Policy) > 0 &&
		r.Key != [32]byte{} && r.Suite != "" && r.Sealed != [32]byte{} && r.IssuedAt != 0
}

// receipt returns what b signs about r, which g was given for a.
func (a *Attestation) receipt(b *Broker, kind Kind, g Grant, r Response) Receipt {
	req := a.p.req
	out := Receipt{
		Issuer: b.id, Kind: kind, Profile: g.Profile, Release: r.Release, Request: g.Request,
		Tenant: g.Tenant, Instance: g.Instance, Purpose: g.Purpose, Authorization: g.Authorization,
		Nonce: strictjson.Digest(req.Nonce), Binding: a.p.bindings[0].Bytes(), Format: req.Evidence[0].Format,
		Root: a.root, Claims: a.claims, Verdict: accepted,
		Key: g.Key, Suite: req.Recipient.Suite(), Sealed: digest(r.Sealed), Blob: g.Blob,
		Generation: g.Generation, Simulated: b.cfg.SimulatedState, Weakened: a.weakened(),
		IssuedAt: b.cfg.Time().Unix(),
	}
	if e := g.Epoch; e != nil {
		out.Blob, out.Epoch, out.NextEpoch, out.NextBlob, out.PCR = e.Blob, e.Number, e.Next, e.NextBlob, e.PCR
	}
	for _, ev := range req.Evidence {
		out.Evidence = append(out.Evidence, digest(ev.Raw))
	}
	for _, d := range g.Policies {
		out.Policy = append(out.Policy, d)
	}
	return out
}

// weakened names what a receipt has to say of the instance and the guest.
func (a *Attestation) weakened() []string {
	w := []string{}
	if len(a.p.req.Broker) == 0 {
		w = append(w, WeakUnpinnedBroker)
	}
	if a.inst.AllowSharedLaunchIdentity {
		w = append(w, WeakSharedLaunchIdentity)
	}
	if a.by.cfg.Keys != nil && !a.by.cfg.Keys.InToken() {
		w = append(w, WeakSoftwareAttestationKey)
	}
	return w
}

// sign returns r as a compact JWS under the identity key.
func (b *Broker) sign(r Receipt) ([]byte, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return jws.Sign(b.cfg.Identity, receiptType, payload)
}
