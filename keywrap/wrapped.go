package keywrap

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// Wrapped is a secret that an owner, or the broker, wrapped to be unwrapped by
// the broker: {protected, enc, ciphertext}, each the base64url text as it was
// received, of which Digest is made. It is unverified.
type Wrapped struct{ Protected, Enc, Ciphertext []byte }

type wrappedJSON struct {
	Protected  string `json:"protected"`
	Enc        string `json:"enc"`
	Ciphertext string `json:"ciphertext"`
}

// ParseWrapped parses the JSON object b, strictly: three members, none of them
// empty, in canonical base64url, in all no longer than the JSON of a [Sealed]
// may be. Errors wrap ErrOpen.
func ParseWrapped(b []byte) (Wrapped, error) {
	if len(b) > maxSealed {
		return Wrapped{}, fmt.Errorf("%w: too long", ErrOpen)
	}
	var j wrappedJSON
	if err := strictjson.Unmarshal(b, &j); err != nil {
		return Wrapped{}, fmt.Errorf("%w: %w", ErrOpen, err)
	}
	for _, text := range []string{j.Protected, j.Enc, j.Ciphertext} {
		if v, err := strictjson.ParseBase64(text); err != nil || len(v) == 0 {
			return Wrapped{}, fmt.Errorf("%w: member not base64url", ErrOpen)
		}
	}
	return Wrapped{[]byte(j.Protected), []byte(j.Enc), []byte(j.Ciphertext)}, nil
}

// MarshalJSON implements [json.Marshaler] with the texts as they are, where
// package json would encode them once more.
func (w Wrapped) MarshalJSON() ([]byte, error) {
	if len(w.Protected) == 0 || len(w.Enc) == 0 || len(w.Ciphertext) == 0 {
		return nil, errors.New("keywrap: nothing is wrapped")
	}
	return json.Marshal(wrappedJSON{string(w.Protected), string(w.Enc), string(w.Ciphertext)})
}

// UnmarshalJSON implements [json.Unmarshaler] as ParseWrapped. After an error w
// is as it was.
func (w *Wrapped) UnmarshalJSON(b []byte) error {
	parsed, err := ParseWrapped(b)
	if err == nil {
		*w = parsed
	}
	return err
}

// Digest names w: SHA-256(LP(protected) ‖ LP(enc) ‖ LP(ciphertext)) over the
// texts, with 4-byte big-endian lengths.
func (w Wrapped) Digest() [32]byte {
	var b []byte
	for _, text := range [][]byte{w.Protected, w.Enc, w.Ciphertext} {
		b = appendLP(b, text)
	}
	return sha256.Sum256(b)
}
