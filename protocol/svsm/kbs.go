package svsm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/teebroker/teebroker/internal/strictjson"
)

// maxReply bounds the body of an answer of the broker: a JWE of a secret of
// [keywrap.MaxSecret] fits.
const maxReply = 2 << 20

// cookieName is the cookie by which a KBS knows a session.
const cookieName = "kbs-session-id"

// ErrRefused is wrapped if the broker refuses a guest, and is what a [Guest]
// returns that is told so.
var ErrRefused = errors.New("svsm: refused")

// session is what one guest has with the broker.
type session struct {
	broker *url.URL // ends before /kbs/v0
	client *http.Client
	cookie string
}

// auth asks for a challenge.
func (s *session) auth(ctx context.Context) ([]byte, error) {
	b, err := s.call(ctx, http.MethodPost, "auth", []byte(`{"version":"0.4.0","tee":"snp","extra-params":""}`))
	if err != nil {
		return nil, err
	}
	return parseAuth(b)
}

// parseAuth returns the nonce of a KBS challenge.
func parseAuth(b []byte) ([]byte, error) {
	var reply struct{ nonce std }
	err := strictjson.Decode(b, func(d *strictjson.Decoder) {
		d.Object(
			strictjson.Required("nonce", func() { text(d, &reply.nonce) }),
			strictjson.Required("extra-params", d.Skip),
		)
	})
	if err != nil {
		return nil, malformed("reply to auth: %w", err)
	}
	if len(reply.nonce) == 0 || len(reply.nonce) > 1024 {
		return nil, malformed("reply to auth: nonce of %d bytes", len(reply.nonce))
	}
	return reply.nonce, nil
}

// text reads standard base64.
func text(d *strictjson.Decoder, b *std) {
	v, err := parseStd(string(d.Text()))
	if err != nil {
		d.Fail(err)
	}
	*b = v
}

// kbsAttestation is what clients of a KBS send; names are of the protocol.
type kbsAttestation struct {
	InitData *struct{}   `json:"init-data"` // null
	Runtime  kbsRuntime  `json:"runtime-data"`
	Evidence kbsEvidence `json:"tee-evidence"`
}

type kbsRuntime struct {
	Nonce std    `json:"nonce"`
	Key   kbsKey `json:"tee-pubkey"`
}

type kbsKey struct {
	Kty string            `json:"kty"`
	Crv string            `json:"crv"`
	Alg string            `json:"alg"`
	X   strictjson.Base64 `json:"x"`
	Y   strictjson.Base64 `json:"y"`
}

type kbsEvidence struct {
	Primary    kbsReport `json:"primary_evidence"`
	Additional string    `json:"additional_evidence"` // ""
}

type kbsReport struct {
	Certs  *std `json:"certs-buf"`
	Report std  `json:"snp-report"`
}

// The algorithms that a guest has.
const (
	algorithm  = "ECDH-ES+A256KW"
	encryption = "A256GCM"
)

// kbsBody returns a as a client of a KBS sends it.
func kbsBody(a attestation) ([]byte, error) {
	body := kbsAttestation{
		Runtime: kbsRuntime{
			Nonce: a.Challenge,
			Key: kbsKey{
				Kty: "EC", Crv: "P-521", Alg: algorithm,
				X: strictjson.Base64(a.Key.X), Y: strictjson.Base64(a.Key.Y),
			},
		},
		Evidence: kbsEvidence{Primary: kbsReport{Report: a.Evidence.SNP.Report}},
	}
	if certs := a.Evidence.SNP.Certs; certs != nil {
		body.Evidence.Primary.Certs = &certs
	}
	return json.Marshal(body)
}

// attest shows evidence and returns the token that there is for it.
func (s *session) attest(ctx context.Context, a attestation) (string, error) {
	body, err := kbsBody(a)
	if err != nil {
		return "", err
	}
	b, err := s.call(ctx, http.MethodPost, "attest", body)
	if err != nil {
		return "", err
	}
	return parseToken(b)
}

// parseToken returns the token of a reply. What is in it is for others.
func parseToken(b []byte) (jwt string, err error) {
	err = strictjson.Decode(b, func(d *strictjson.Decoder) {
		d.Object(strictjson.Required("token", func() { jwt = string(d.Text()) }))
	})
	if err != nil {
		return "", malformed("reply to attest: %w", err)
	}
	return jwt, nil
}

// resource gets the one resource that an SVSM asks for.
func (s *session) resource(ctx context.Context) (answer, error) {
	b, err := s.call(ctx, http.MethodGet, "resource/default/sample/test", nil)
	if err != nil {
		return answer{}, err
	}
	return parseResource(b)
}

// parseResource returns a JWE in the form that guests get. The header is taken
// over as it was received, since that is what was authenticated.
func parseResource(b []byte) (answer, error) {
	var protected []byte
	a := answer{Success: true, Decryption: &decryption{}}
	err := strictjson.Decode(b, func(d *strictjson.Decoder) {
		d.Object(
			strictjson.Required("protected", func() { protected = bytes.Clone(d.Text()) }),
			strictjson.Required("encrypted_key", func() { a.Decryption.WrappedCEK = rawURL(d) }),
			strictjson.Required("iv", func() { a.Decryption.IV = rawURL(d) }),
			strictjson.Required("ciphertext", func() { a.Secret = rawURL(d) }),
			strictjson.Required("tag", func() { a.Decryption.Tag = rawURL(d) }),
		)
	})
	if err != nil {
		return answer{}, malformed("resource: %w", err)
	}
	header, err := strictjson.ParseBase64(string(protected))
	if err != nil {
		return answer{}, malformed("resource: protected: %w", err)
	}
	if a.Decryption.EPK, err = parseHeader(header); err != nil {
		return answer{}, err
	}
	a.Decryption.AAD = protected
	return a, nil
}

// parseHeader returns the ephemeral key that a protected header names.
func parseHeader(header []byte) (p point, err error) {
	var alg, enc string
	err = strictjson.Decode(header, func(d *strictjson.Decoder) {
		d.Object(
			strictjson.Required("alg", func() { alg = string(d.Text()) }),
			strictjson.Required("enc", func() { enc = string(d.Text()) }),
			strictjson.Required("epk", func() {
				d.Object(
					strictjson.Required("x", func() { p.X = rawURL(d) }),
					strictjson.Required("y", func() { p.Y = rawURL(d) }),
				)
			}),
		)
	})
	switch {
	case err != nil:
		return point{}, malformed("resource: protected: %w", err)
	case alg != algorithm || enc != encryption:
		return point{}, malformed("resource: protected: not %s with %s", algorithm, encryption)
	case len(p.X) != coordinateSize || len(p.Y) != coordinateSize:
		return point{}, malformed("resource: protected: length of a coordinate")
	}
	return p, nil
}

// rawURL reads canonical base64url without padding.
func rawURL(d *strictjson.Decoder) std {
	b, err := strictjson.ParseBase64(string(d.Text()))
	if err != nil {
		d.Fail(err)
	}
	return b
}

// call sends one request and returns the body of an answer 200.
func (s *session) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.broker.JoinPath("kbs/v0", path).String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.cookie != "" {
		req.AddCookie(&http.Cookie{Name: cookieName, Value: s.cookie})
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("svsm: broker: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("svsm: broker: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: %s answered %d", ErrRefused, path, resp.StatusCode)
	case len(b) > maxReply:
		return nil, malformed("reply to %s: more than %d bytes", path, maxReply)
	}
	s.keep(resp)
	return b, nil
}

// keep remembers the cookie of the session. It goes to this broker only, over the
// connection it came by, which clients of HTTP take for secure on loopback.
func (s *session) keep(resp *http.Response) {
	for _, c := range resp.Cookies() {
		if c.Name != cookieName {
			continue
		}
		s.cookie = ""
		if !c.Secure || s.broker.Scheme == "https" || isLoopback(s.broker.Hostname()) {
			s.cookie = c.Value
		}
	}
}

// isLoopback reports whether host, without a look-up, is this machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
