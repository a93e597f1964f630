package kbs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/nonce"
)

// What is read of a body at most. Evidence may carry an event log of 10 MiB in
// base64.
const (
	maxAuth    = 16 << 10
	maxAttest  = 15 << 20
	maxWrapped = 64 << 10
)

// request is the body of /auth.
type request struct {
	Version string          `json:"version"`
	TEE     string          `json:"tee"`
	Extra   json.RawMessage `json:"extra-params"`
}

// extra is the form of extra-params that says something.
type extra struct {
	Hashes []string `json:"supported-hash-algorithms"`
}

// challenge is the answer to it. Clients require both members.
type challenge struct {
	Nonce string `json:"nonce"`
	Extra any    `json:"extra-params"`
}

type selected struct {
	Hash string `json:"selected-hash-algorithm"`
}

// attestation is the body of /attest. Its authors may add members.
type attestation struct {
	InitData *initData   `json:"init-data"`
	Runtime  runtimeData `json:"runtime-data"`
	Evidence composite   `json:"tee-evidence"`
}

type initData struct {
	Format string `json:"format"`
	Body   string `json:"body"`
}

type runtimeData struct {
	Nonce string          `json:"nonce"`
	Key   json.RawMessage `json:"tee-pubkey"`
}

type composite struct {
	Primary    json.RawMessage `json:"primary_evidence"`
	Additional *string         `json:"additional_evidence"`
}

// read returns the whole body of r, or TooLarge.
func read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, &refusal{status: http.StatusRequestEntityTooLarge, kind: kindBody, code: teebroker.TooLarge, detail: fmt.Sprintf("more than %d bytes", limit)}
	case err != nil:
		return nil, malformed("the body ended early", err)
	}
	return b, nil
}

// decode reads the one JSON object b into v. Its author may add members.
func decode(b []byte, what string, v any) error {
	if trimmed := bytes.TrimSpace(b); len(trimmed) == 0 || trimmed[0] != '{' {
		return malformed(what+" is not a JSON object", nil)
	}
	if err := strictjson.UnmarshalKnown(b, v); err != nil {
		return malformed(what+" is not what the protocol says", err)
	}
	return nil
}

// standard decodes the one base64 of its alphabet and padding that b has.
func standard(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err == nil && base64.StdEncoding.EncodeToString(b) != s { // line ends
		err = errors.New("not canonical")
	}
	return b, err
}

// parseNonce returns the challenge that a client sends back.
func parseNonce(s string) (nonce.Nonce, error) {
	b, err := standard(s)
	if err != nil {
		return nonce.Nonce{}, malformed("the nonce is not in standard base64", err)
	}
	n, err := nonce.Parse(b)
	if err != nil {
		return nonce.Nonce{}, malformed("the nonce does not have 32 bytes", err)
	}
	return n, nil
}

// octets is bytes written as a list of numbers, as Rust programs do.
type octets []byte

// UnmarshalJSON implements [json.Unmarshaler].
func (o *octets) UnmarshalJSON(b []byte) error {
	out, err := parseOctets(b)
	if err == nil {
		*o = out
	}
	return err
}

// parseOctets reads by hand what reflection would take longest to read of a body.
func parseOctets(b []byte) ([]byte, error) {
	wrong := errors.New("not a list of bytes")
	b = bytes.TrimSpace(b)
	if len(b) < 2 || b[0] != '[' || b[len(b)-1] != ']' {
		return nil, wrong
	}
	b = bytes.TrimSpace(b[1 : len(b)-1])
	out := make([]byte, 0, len(b)/2+1)
	for len(b) > 0 {
		number, rest, more := bytes.Cut(b, []byte(","))
		number = bytes.TrimSpace(number)
		if len(number) == 0 || len(number) > 3 || number[0] == '0' && len(number) > 1 {
			return nil, wrong
		}
		n := 0
		for _, c := range number {
			if c < '0' || c > '9' {
				return nil, wrong
			}
			n = 10*n + int(c-'0')
		}
		if n > 0xff || more && len(rest) == 0 {
			return nil, wrong
		}
		out, b = append(out, byte(n)), rest
	}
	return out, nil
}
