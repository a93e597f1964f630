package svsm

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// version is of the protocol on the stream; there is one.
var version = [...]uint32{0, 1, 0}

// teeSNP is the only TEE that it has.
const teeSNP = "snp"

// params are what REPORT_DATA is a digest of, in this order.
func params() []string { return []string{"EcPublicKeyBytes", "Challenge"} }

// coordinateSize is the length of a coordinate on P-521, leading zeros included.
const coordinateSize = 66

// std is bytes in standard base64 with padding, of which one spelling is taken.
type std []byte

func (b std) MarshalJSON() ([]byte, error) {
	return json.Marshal(base64.StdEncoding.EncodeToString(b))
}

func (b *std) UnmarshalJSON(data []byte) error {
	var s *string
	if err := json.Unmarshal(data, &s); err != nil || s == nil {
		return errors.New("json: not a string")
	}
	v, err := parseStd(*s)
	if err != nil {
		return err
	}
	*b = v
	return nil
}

func parseStd(s string) (std, error) {
	v, err := base64.StdEncoding.DecodeString(s)
	// The decoder passes over line breaks and stray bits.
	if err != nil || base64.StdEncoding.EncodeToString(v) != s {
		return nil, errors.New("json: not canonical base64")
	}
	return v, nil
}

// negotiation is how a guest starts.
type negotiation struct {
	Version []uint32 `json:"version"`
	TEE     string   `json:"tee"`
}

// challenge is the answer to a negotiation.
type challenge struct {
	Challenge std      `json:"challenge"`
	Params    []string `json:"params"`
}

// point is a public key on P-521.
type point struct {
	X std `json:"x"`
	Y std `json:"y"`
}

// attestation is what a guest shows.
type attestation struct {
	TEE       string   `json:"tee"`
	Evidence  evidence `json:"evidence"`
	Challenge std      `json:"challenge"`
	Key       point    `json:"key"`
}

type evidence struct {
	SNP snpEvidence `json:"Snp"`
}

type snpEvidence struct {
	Report std `json:"report"`
	Certs  std `json:"certs_buf,omitempty"` // as the host gave them to the guest, if it did
}

// answer ends the exchange.
type answer struct {
	Success    bool        `json:"success"`
	Secret     std         `json:"secret,omitempty"` // encrypted
	Decryption *decryption `json:"decryption"`
	Token      *token      `json:"token"`
}

// decryption is what a guest opens a secret with, beside its key.
type decryption struct {
	EPK        point `json:"epk"`
	WrappedCEK std   `json:"wrapped_cek"`
	AAD        std   `json:"aad"` // the protected header of the JWE as it was received, in base64url
	IV         std   `json:"iv"`
	Tag        std   `json:"tag"`
}

type token struct {
	JWT string `json:"Jwt"`
}

// parseNegotiation parses the first message of a guest.
func parseNegotiation(b []byte) error {
	var n negotiation
	if err := strictjson.Unmarshal(b, &n); err != nil {
		return malformed("negotiation: %w", err)
	}
	switch {
	case !slices.Equal(n.Version, version[:]):
		return malformed("negotiation: version is not 0.1.0")
	case n.TEE != teeSNP:
		return malformed("negotiation: tee is not %s", teeSNP)
	}
	return nil
}

// parseChallenge parses the answer to a negotiation.
func parseChallenge(b []byte) ([]byte, error) {
	var c challenge
	if err := strictjson.Unmarshal(b, &c); err != nil {
		return nil, malformed("challenge: %w", err)
	}
	if !slices.Equal(c.Params, params()) {
		return nil, malformed("challenge: params are not those of version 0.1.0")
	}
	return c.Challenge, nil
}

// parseAttestation parses the second message of a guest. That its challenge is
// the one that was issued is for the broker to see, which knows; nobody believes
// a proxy that says so.
func parseAttestation(b []byte) (attestation, error) {
	var a attestation
	if err := strictjson.Unmarshal(b, &a); err != nil {
		return attestation{}, malformed("attestation: %w", err)
	}
	switch {
	case a.TEE != teeSNP:
		return attestation{}, malformed("attestation: tee is not %s", teeSNP)
	case len(a.Evidence.SNP.Report) == 0:
		return attestation{}, malformed("attestation: no report")
	case len(a.Challenge) == 0:
		return attestation{}, malformed("attestation: no challenge")
	case len(a.Key.X) != coordinateSize || len(a.Key.Y) != coordinateSize:
		return attestation{}, malformed("attestation: coordinates of %d and %d bytes, want %d", len(a.Key.X), len(a.Key.Y), coordinateSize)
	}
	return a, nil
}

// parseAnswer parses what ends the exchange.
func parseAnswer(b []byte) (answer, error) {
	var a answer
	if err := strictjson.Unmarshal(b, &a); err != nil {
		return answer{}, malformed("answer: %w", err)
	}
	if a.Success && (a.Decryption == nil || a.Token == nil) {
		return answer{}, malformed("answer: success without a secret")
	}
	return a, nil
}
