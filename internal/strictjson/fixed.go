package strictjson

import (
	"encoding/hex"
	"encoding/json"
	"errors"
)

// Digest is 32 bytes written as canonical base64url without padding.
type Digest [32]byte

// MarshalJSON implements [json.Marshaler].
func (d Digest) MarshalJSON() ([]byte, error) { return Base64(d[:]).MarshalJSON() }

// UnmarshalJSON implements [json.Unmarshaler].
func (d *Digest) UnmarshalJSON(data []byte) error {
	var b Base64
	if err := b.UnmarshalJSON(data); err != nil {
		return err
	}
	if len(b) != len(d) {
		return errors.New("json: not 32 bytes")
	}
	*d = Digest(b)
	return nil
}

// UUID is 16 bytes in network order, written as lower-case text of RFC 9562
// section 4. Any version and variant is taken.
type UUID [16]byte

// String returns the text of u.
func (u UUID) String() string {
	b := hex.AppendEncode(make([]byte, 0, 36), u[:4])
	for _, part := range [][]byte{u[4:6], u[6:8], u[8:10], u[10:]} {
		b = hex.AppendEncode(append(b, '-'), part)
	}
	return string(b)
}

// ParseUUID parses the text that String returns.
func ParseUUID(s string) (u UUID, err error) {
	if len(s) != 36 {
		return UUID{}, errors.New("json: not a UUID")
	}
	b, err := ParseHex(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	if err != nil {
		return UUID{}, errors.New("json: not a UUID")
	}
	if u = UUID(b); u.String() != s {
		return UUID{}, errors.New("json: not a UUID")
	}
	return u, nil
}

// MarshalJSON implements [json.Marshaler].
func (u UUID) MarshalJSON() ([]byte, error) { return json.Marshal(u.String()) }

// UnmarshalJSON implements [json.Unmarshaler].
func (u *UUID) UnmarshalJSON(data []byte) error {
	s, err := text(data)
	if err != nil {
		return err
	}
	*u, err = ParseUUID(s)
	return err
}
