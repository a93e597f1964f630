package strictjson

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
)

// Base64 is bytes written as canonical base64url without padding: of all texts
// that decode to the same bytes only one is taken.
type Base64 []byte

// MarshalJSON implements [json.Marshaler].
func (b Base64) MarshalJSON() ([]byte, error) {
	return json.Marshal(base64.RawURLEncoding.EncodeToString(b))
}

// UnmarshalJSON implements [json.Unmarshaler].
func (b *Base64) UnmarshalJSON(data []byte) error {
	s, err := text(data)
	if err != nil {
		return err
	}
	*b, err = ParseBase64(s)
	return err
}

// ParseBase64 decodes canonical base64url without padding.
func ParseBase64(s string) ([]byte, error) {
	v, err := base64.RawURLEncoding.DecodeString(s)
	// The decoder passes over line breaks and, unless Strict, stray bits.
	if err != nil || base64.RawURLEncoding.EncodeToString(v) != s {
		return nil, errors.New("json: not canonical base64url")
	}
	return v, nil
}

// Hex is bytes written as lower-case hexadecimal.
type Hex []byte

// MarshalJSON implements [json.Marshaler].
func (h Hex) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(h)) }

// UnmarshalJSON implements [json.Unmarshaler].
func (h *Hex) UnmarshalJSON(data []byte) error {
	s, err := text(data)
	if err != nil {
		return err
	}
	*h, err = ParseHex(s)
	return err
}

// ParseHex decodes lower-case hexadecimal.
func ParseHex(s string) ([]byte, error) {
	v, err := hex.DecodeString(s)
	if err != nil || hex.EncodeToString(v) != s {
		return nil, errors.New("json: not lower-case hexadecimal")
	}
	return v, nil
}

// text returns the string that data is. Null is none: encoding/json would leave
// the value as it was.
func text(data []byte) (string, error) {
	var s *string
	if err := json.Unmarshal(data, &s); err != nil || s == nil {
		return "", errors.New("json: not a string")
	}
	return *s, nil
}
