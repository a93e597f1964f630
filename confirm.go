package teebroker

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/nonce"
)

// Confirm is what the guest of a release says of its state, section 7 of the
// protocol: with Seq 0 that the next epoch is written, and with the Seq after the
// last one that its state is about to change or, if Settled, has changed.
type Confirm struct {
	Release strictjson.UUID   `json:"release"`
	Epoch   uint64            `json:"epoch"` // the one that the guest wrote
	Seq     uint64            `json:"seq"`
	Settled bool              `json:"settled"`
	State   strictjson.Digest `json:"state"`       // SHA-256 of the state slot as stored
	EK      strictjson.Digest `json:"ek,omitzero"` // SHA-256 of the endorsement key of its TPM, or zero
}

// ConfirmedResult is the Result of an acknowledgement: the broker has it, durably.
const ConfirmedResult = "confirmed"

// Labels of what is made with a confirm key.
const (
	labelConfirm   = "teebroker/v1/confirm"
	labelConfirmed = "teebroker/v1/confirmed"
	labelPCR       = "teebroker/v1/pcr"
)

// MAC is what a guest proves c with: HMAC-SHA-256 under the confirm key of its
// release over LP(label) ‖ LP(release) ‖ u64 epoch ‖ u64 seq ‖ settled(1) ‖
// LP(state) ‖ LP(ek), big-endian, where a zero EK is empty.
func (c Confirm) MAC(confirmKey []byte) []byte {
	return mac(confirmKey, c.message(labelConfirm))
}

// Ack is what the broker proves with that c is durable: the same under another
// label, and LP(result).
func (c Confirm) Ack(confirmKey []byte, result string) []byte {
	return mac(confirmKey, appendLP(c.message(labelConfirmed), []byte(result)))
}

func (c Confirm) message(label string) []byte {
	b := appendLP(nil, []byte(label))
	b = appendLP(b, c.Release[:])
	b = binary.BigEndian.AppendUint64(b, c.Epoch)
	b = binary.BigEndian.AppendUint64(b, c.Seq)
	settled := byte(0)
	if c.Settled {
		settled = 1
	}
	b = appendLP(append(b, settled), c.State[:])
	if c.EK == (strictjson.Digest{}) {
		return appendLP(b, nil)
	}
	return appendLP(b, c.EK[:])
}

// PCRDigest is d, which the guest of release extends once into a PCR and erases.
// Nobody else can make it.
func PCRDigest(confirmKey []byte, release [16]byte) [32]byte {
	return [32]byte(mac(confirmKey, appendLP(appendLP(nil, []byte(labelPCR)), release[:])))
}

// PCRValue is what a SHA-256 PCR that was zero has after d was extended into it.
// [Receipt.PCR] is that value.
func PCRValue(d [32]byte) [32]byte {
	return sha256.Sum256(append(make([]byte, sha256.Size), d[:]...))
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message) //nolint:errcheck // a hash never fails
	return h.Sum(nil)
}

// Released is a release of a purpose with epochs, for who confirms it. ConfirmKey
// is a secret, which the caller clears.
type Released struct {
	ID            [16]byte
	Tenant        string
	Instance      [16]byte
	Purpose       string
	Generation    uint64 // of the instance, then
	Authorization [16]byte
	Key           [32]byte // thumbprint of the recipient key
	ConfirmKey    []byte
}

// Acknowledged is the answer to a Confirm. Who does not compare MAC believes the
// host. The Receipt is of KindConfirm.
type Acknowledged struct {
	Confirm
	Result  string // ConfirmedResult
	MAC     []byte // Confirm.Ack
	Receipt []byte // compact JWS, see VerifyReceipt
}

// Confirm takes what a guest says of its state and returns the acknowledgement,
// after it is durable. The same again gets the same. Whose mac is not that of the
// release is Denied, as is a release that there never was. A release that is
// neither pending nor live is Superseded: its guest stops.
func (b *Broker) Confirm(ctx context.Context, c Confirm, mac []byte) (Acknowledged, error) {
	if c.Release == [16]byte{} || c.Epoch == 0 || c.State == [32]byte{} || len(mac) != sha256.Size {
		return Acknowledged{}, malformed("not a confirm")
	}
	r, err := b.cfg.Ledger.Released(ctx, c.Release)
	if err != nil {
		return Acknowledged{}, fault("ledger", err)
	}
	defer clear(r.ConfirmKey)
	if r.ID != c.Release || len(r.ConfirmKey) == 0 || !hmac.Equal(c.MAC(r.ConfirmKey), mac) {
		return Acknowledged{}, fmt.Errorf("teebroker: %w: not confirmed by the guest of the release", Denied)
	}
	receipt, err := b.sign(b.confirmReceipt(r, c))
	if err != nil {
		return Acknowledged{}, unavailable("receipt", err)
	}
	e, err := confirmEntry(r, c, receipt)
	if err != nil {
		return Acknowledged{}, unavailable("record", err)
	}
	stored, err := b.cfg.Ledger.Confirm(ctx, r, c, receipt, e)
	switch {
	case err != nil:
		return Acknowledged{}, fault("ledger", err)
	case len(stored) == 0:
		return Acknowledged{}, unavailable("ledger", errors.New("confirmed to nothing"))
	}
	return Acknowledged{c, ConfirmedResult, c.Ack(r.ConfirmKey, ConfirmedResult), stored}, nil
}

func (b *Broker) confirmReceipt(r Released, c Confirm) Receipt {
	return Receipt{
		Issuer: b.id, Kind: KindConfirm, Profile: nonce.ProfileV1, Release: r.ID, Tenant: r.Tenant, Instance: r.Instance,
		Purpose: r.Purpose, Authorization: r.Authorization, Key: r.Key, Generation: r.Generation,
		Binding: []byte{}, Evidence: []strictjson.Digest{}, Policy: []strictjson.Digest{}, Weakened: []string{},
		Simulated: b.cfg.SimulatedState, IssuedAt: b.cfg.Time().Unix(),
		Epoch: c.Epoch, Seq: c.Seq, Settled: c.Settled, State: c.State, EK: c.EK, PCR: PCRValue(PCRDigest(r.ConfirmKey, r.ID)),
	}
}

// confirms reports whether r is the receipt of a Confirm, which says nothing of
// evidence: its release did.
func (r Receipt) confirms() bool {
	return r.Kind == KindConfirm && r.Profile == nonce.ProfileV1 && r.Release != [16]byte{} && r.Tenant != "" &&
		r.Instance != [16]byte{} && r.Purpose != "" && r.Authorization != [16]byte{} && r.Key != [32]byte{} &&
		r.Epoch != 0 && r.State != [32]byte{} && r.IssuedAt != 0 && r.Format == evidence.Format("") && len(r.Evidence) == 0
}

// confirmBody is the body of an Entry of a Confirm.
type confirmBody struct {
	Receipt  strictjson.Digest `json:"receipt"`
	Instance strictjson.UUID   `json:"instance"`
	Purpose  string            `json:"purpose"`
	Confirm  Confirm           `json:"confirm"`
}

func confirmEntry(r Released, c Confirm, receipt []byte) (Entry, error) {
	body, err := json.Marshal(confirmBody{digest(receipt), r.Instance, r.Purpose, c})
	return Entry{Decisions, r.Tenant, KindConfirm, body}, err
}
