// Package sealed has what is inside of "sealed", section 4 of the release
// protocol: one definition for who seals it and for who opens it.
package sealed

import (
	"encoding/json"
	"errors"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
)

// Secret is the plaintext of a v1 release: the key and everything that it was
// released for, so that a guest can tell that it is the one it asked for.
type Secret struct {
	Binding  strictjson.Base64 `json:"binding"` // of the request that was sealed for
	Release  strictjson.UUID   `json:"release"`
	Tenant   string            `json:"tenant"`
	Instance strictjson.UUID   `json:"instance"`
	Purpose  string            `json:"purpose"`
	Key      strictjson.Base64 `json:"key"`

	// ConfirmKey authenticates what this guest says of the release later, and
	// what it is answered: 32 random bytes.
	ConfirmKey strictjson.Base64 `json:"confirm_key"`

	// Of a purpose with epochs, section 7.
	Epoch   uint64              `json:"epoch,omitempty"`   // that Key is of
	Slot    uint64              `json:"slot,omitempty"`    // whose state slot to open, if it is not that of Epoch
	Initial bool                `json:"initial,omitempty"` // the guest makes its first state
	Next    *Next               `json:"next,omitempty"`    // what the guest writes next; there with Epoch
	States  []strictjson.Digest `json:"states,omitempty"`  // if there are any, what is opened has one of them
}

// Next is the epoch that a guest writes the state of before it confirms.
type Next struct {
	Epoch      uint64            `json:"epoch"`
	Key        strictjson.Base64 `json:"key"`         // 32 bytes
	BlobDigest strictjson.Digest `json:"blob_digest"` // of the wrapped Key
}

// ConfirmKeySize is the size of a ConfirmKey in bytes.
const ConfirmKeySize = 32

// Encode returns the JSON object of s, which the caller clears.
func (s Secret) Encode() ([]byte, error) { return json.Marshal(s) }

// Clear clears what is secret in s.
func (s Secret) Clear() {
	clear(s.Key)
	clear(s.ConfirmKey)
	if s.Next != nil {
		clear(s.Next.Key)
	}
}

// epochs reports whether what s says of epochs is whole, or not there at all.
func (s Secret) epochs() bool {
	if s.Epoch == 0 {
		return s.Next == nil && s.Slot == 0 && !s.Initial && len(s.States) == 0
	}
	return s.Next != nil && s.Next.Epoch > s.Epoch && len(s.Next.Key) == ConfirmKeySize &&
		s.Next.BlobDigest != (strictjson.Digest{}) && len(s.States) <= 2 && !(s.Initial && (s.Slot != 0 || len(s.States) > 0))
}

// Parse parses a JSON object, strictly. No member may be missing or empty. The
// Key and the ConfirmKey are the caller's to clear.
func Parse(b []byte) (Secret, error) {
	var s Secret
	if err := strictjson.Unmarshal(b, &s); err != nil {
		// The error may quote what it failed at, and b is a secret.
		return Secret{}, errors.New("sealed: malformed")
	}
	if len(s.Binding) == 0 || s.Release == (strictjson.UUID{}) || s.Tenant == "" ||
		s.Instance == (strictjson.UUID{}) || s.Purpose == "" || len(s.Key) == 0 || len(s.ConfirmKey) != ConfirmKeySize || !s.epochs() {
		s.Clear()
		return Secret{}, errors.New("sealed: incomplete")
	}
	return s, nil
}

// Info returns what a suite authenticates along with the plaintext:
// "teebroker/v1/sealed" ‖ 0x00 ‖ binding for HPKE. JWE has no place for it, and
// its plaintext is all that ties it to the request.
func Info(suite keywrap.Suite, binding evidence.Binding) []byte {
	switch suite {
	case keywrap.JWEP256, keywrap.JWEP384, keywrap.JWEP521, keywrap.JWERSA:
		return nil
	}
	return append([]byte("teebroker/v1/sealed\x00"), binding.Bytes()...)
}
