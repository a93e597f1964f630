package v1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/nonce"
)

// maxBinding is what is read of a binding, in bytes: a report with a certificate
// table and the manifest or runtime data that it is of, in base64url.
const maxBinding = 512 << 10

// bindingJSON is the body of a binding. Broker may be empty, and has to be there.
type bindingJSON struct {
	V        int                `json:"v"`
	Nonce    strictjson.Digest  `json:"nonce"`
	Broker   *strictjson.Base64 `json:"broker"`
	Tenant   string             `json:"tenant"`
	Instance strictjson.UUID    `json:"instance"`
	AK       strictjson.Base64  `json:"ak"`
	Evidence evidenceJSON       `json:"evidence"`
	Items    []itemJSON         `json:"items"`
}

type credentialJSON struct {
	Session    string            `json:"session"`
	Credential strictjson.Base64 `json:"credential"`
	Expires    string            `json:"expires"` // RFC 3339, UTC
}

type proofJSON struct {
	V       int               `json:"v"`
	Session string            `json:"session"`
	Secret  strictjson.Base64 `json:"secret"`
	Quote   strictjson.Base64 `json:"quote"`
}

type activatedJSON struct {
	EK      strictjson.Digest `json:"ek"`
	AgentID string            `json:"agent_id"`
	AK      strictjson.Base64 `json:"ak"`
}

func (s *Server) tpmTable() []route {
	if s.cfg.TPMs == nil {
		return nil
	}
	return []route{
		{http.MethodPost, PathTPMNonce, everybody, maxSmall, s.tpmNonce},
		{http.MethodPost, PathTPMBind, everybody, maxBinding, s.tpmBind},
		{http.MethodPost, PathTPMActivate, everybody, maxSmall, s.tpmActivate},
	}
}

// tpmNonce answers POST /broker/v1/vtpm/nonce, whose body is empty.
func (s *Server) tpmNonce(c *call) (answer, error) {
	if len(c.body) != 0 {
		return answer{}, malformed(errors.New("the body is not empty"))
	}
	ch, err := s.cfg.TPMs.Challenge(c.Context())
	if err != nil {
		return answer{}, err
	}
	return encode(challengeJSON{strictjson.Digest(ch.Nonce), ch.Expires.UTC().Format(time.RFC3339)})
}

// ParseTPMBinding returns the binding that body is, strictly. Errors wrap
// teebroker.MalformedRequest. The result shares no memory with body.
func ParseTPMBinding(body []byte) (teebroker.TPMBinding, error) {
	var j bindingJSON
	if err := strictjson.Unmarshal(body, &j); err != nil {
		return teebroker.TPMBinding{}, malformed(err)
	}
	if j.V != version || j.Nonce == (strictjson.Digest{}) || j.Broker == nil || j.Tenant == "" || j.Instance == (strictjson.UUID{}) ||
		len(j.AK) == 0 || j.Evidence.Format == "" || len(j.Items) == 0 {
		return teebroker.TPMBinding{}, malformed(errors.New("v, nonce, broker, tenant, instance, ak, evidence or items is missing"))
	}
	report := evidenceList{j.Evidence}.evidence()[0]
	b := teebroker.TPMBinding{
		Nonce: nonce.Nonce(j.Nonce), Broker: *j.Broker, Tenant: j.Tenant, Instance: j.Instance, AK: j.AK, Report: report,
	}
	for _, it := range j.Items {
		b.Items = append(b.Items, evidence.Item{Type: it.Type, Data: it.Data})
	}
	return b, nil
}

// tpmBind answers POST /broker/v1/vtpm/bind.
func (s *Server) tpmBind(c *call) (answer, error) {
	b, err := ParseTPMBinding(c.body)
	if err != nil {
		return answer{}, err
	}
	c.body = nil // b has copies, and the verifier may take its time
	cred, err := s.cfg.TPMs.Bind(c.Context(), b)
	if err != nil {
		return answer{}, err
	}
	return encode(credentialJSON{cred.Session, cred.Blob, cred.Expires.UTC().Format(time.RFC3339)})
}

// tpmActivate answers POST /broker/v1/vtpm/activate.
func (s *Server) tpmActivate(c *call) (answer, error) {
	var j proofJSON
	if err := strictjson.Unmarshal(c.body, &j); err != nil {
		return answer{}, malformed(err)
	}
	defer clear(j.Secret)
	if j.V != version || j.Session == "" || len(j.Secret) == 0 || len(j.Quote) == 0 {
		return answer{}, malformed(errors.New("v, session, secret or quote is missing"))
	}
	a, err := s.cfg.TPMs.Activate(c.Context(), teebroker.TPMProof{Session: j.Session, Secret: j.Secret, Quote: j.Quote})
	if err != nil {
		return answer{}, err
	}
	return encode(activatedJSON{a.EK, a.AgentID, a.AK})
}

// TPMs returns the teebroker.TPMs of the service, for guests. Whoever is between can
// keep a key from being bound, and can't have another one bound.
func (c *Client) TPMs() teebroker.TPMs { return clientTPMs{c} }

type clientTPMs struct{ c *Client }

// Challenge implements [teebroker.TPMs].
func (t clientTPMs) Challenge(ctx context.Context) (teebroker.Challenge, error) {
	var j challengeJSON
	b, err := t.c.do(ctx, http.MethodPost, PathTPMNonce, "", nil)
	if err == nil {
		err = strictjson.Unmarshal(b, &j)
	}
	if err != nil {
		return teebroker.Challenge{}, err
	}
	expires, err := time.Parse(time.RFC3339, j.Expires)
	if err != nil {
		return teebroker.Challenge{}, fmt.Errorf("v1: answer: expires: %w", err)
	}
	return teebroker.Challenge{Nonce: nonce.Nonce(j.Nonce), Expires: expires}, nil
}

// Bind implements [teebroker.TPMs].
func (t clientTPMs) Bind(ctx context.Context, b teebroker.TPMBinding) (teebroker.TPMCredential, error) {
	broker := strictjson.Base64(bytes.Clone(b.Broker))
	j := bindingJSON{
		V: version, Nonce: strictjson.Digest(b.Nonce), Broker: &broker, Tenant: b.Tenant, Instance: b.Instance, AK: b.AK,
		Evidence: listOf([]evidence.Evidence{b.Report})[0],
	}
	for _, it := range b.Items {
		j.Items = append(j.Items, itemJSON{it.Type, it.Data})
	}
	var got credentialJSON
	if err := t.c.call(ctx, http.MethodPost, PathTPMBind, j, &got); err != nil {
		return teebroker.TPMCredential{}, err
	}
	expires, err := time.Parse(time.RFC3339, got.Expires)
	if err != nil {
		return teebroker.TPMCredential{}, fmt.Errorf("v1: answer: expires: %w", err)
	}
	return teebroker.TPMCredential{Session: got.Session, Blob: got.Credential, Expires: expires}, nil
}

// Activate implements [teebroker.TPMs].
func (t clientTPMs) Activate(ctx context.Context, p teebroker.TPMProof) (teebroker.TPMActivated, error) {
	var got activatedJSON
	if err := t.c.call(ctx, http.MethodPost, PathTPMActivate, proofJSON{version, p.Session, p.Secret, p.Quote}, &got); err != nil {
		return teebroker.TPMActivated{}, err
	}
	return teebroker.TPMActivated{EK: got.EK, AgentID: got.AgentID, AK: got.AK}, nil
}
