package teebroker

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/internal/names"
	"github.com/teebroker/teebroker/internal/strictjson"
)

// checkpointType is the "typ" of a checkpoint, which is checked.
const checkpointType = "teebroker-checkpoint+jws"

// Checkpoint says where a chain of a tenant's record was, section 10 of the
// protocol. The broker signs it with its identity key; who keeps it knows when a
// database is shown that is older, or has another history. Digests are SHA-256.
type Checkpoint struct {
	Issuer     strictjson.Digest `json:"iss"` // broker id
	Tenant     string            `json:"tenant"`
	Chain      Chain             `json:"chain"`
	Generation uint64            `json:"generation"` // of the database then, from 1; never below that of an entry
	Seq        uint64            `json:"seq"`        // of the last entry, from 1
	Head       strictjson.Digest `json:"head"`       // its hash
	Time       int64             `json:"time"`       // milliseconds since 1970, by the broker's clock
	Previous   strictjson.Digest `json:"previous"`   // of the checkpoint of this chain that its maker kept before, as signed; or zeros
}

// ErrCheckpoint is wrapped by every failure of [VerifyCheckpoint] and
// [Checkpoint.Sign].
var ErrCheckpoint = errors.New("teebroker: not a checkpoint of this broker")

// At returns when c was signed, by the broker's clock.
func (c Checkpoint) At() time.Time { return time.UnixMilli(c.Time).UTC() }

// Sign returns c as a compact JWS under the identity key, ECDSA on P-384. The
// Issuer is that key, whatever c says.
func (c Checkpoint) Sign(identity crypto.Signer) ([]byte, error) {
	id, err := brokerID(identity)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	c.Issuer = id
	if !c.complete() {
		return nil, fmt.Errorf("%w: incomplete", ErrCheckpoint)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	token, err := jws.Sign(identity, checkpointType, payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	return token, nil
}

// VerifyCheckpoint returns what the broker with this id signed. Like
// [VerifyReceipt] it takes one encoding only, and a zero id is nobody's. Of which
// tenant and chain it has to be, the caller compares.
func VerifyCheckpoint(token []byte, broker [32]byte) (Checkpoint, error) {
	payload, err := jws.Verify(token, checkpointType, broker)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	var c Checkpoint
	if err := strictjson.Unmarshal(payload, &c); err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if c.Issuer != broker || !c.complete() {
		return Checkpoint{}, fmt.Errorf("%w: incomplete, or of another issuer", ErrCheckpoint)
	}
	return c, nil
}

// complete reports whether c can be meant. Numbers are those of a database, below
// 2^63.
func (c Checkpoint) complete() bool {
	return c.Issuer != [32]byte{} && names.Tenant(c.Tenant) && (c.Chain == Decisions || c.Chain == Refusals) &&
		c.Generation > 0 && c.Generation < 1<<63 && c.Seq > 0 && c.Seq < 1<<63 && c.Head != [32]byte{} && c.Time > 0
}
