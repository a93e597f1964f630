package kbs

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/teebroker/teebroker"
)

// The kinds of errors that clients know. They only show them.
const (
	kindAttestation = "AttestationError"
	kindPath        = "InvalidRequestPath"
	kindToken       = "TokenNotFound"
	kindDenied      = "PolicyDeny"
	kindBody        = "SerdeError"
	kindPlugin      = "PluginInternalError"
)

// refusal is what is said in another way than the code of a Broker's error has it.
type refusal struct {
	status int
	kind   string
	code   teebroker.Refusal
	detail string // fit for a peer
	err    error  // cause, for logs; or nil
}

// Error implements error.
func (e *refusal) Error() string {
	if e.err != nil {
		return fmt.Sprintf("kbs: %s: %v", e.detail, e.err)
	}
	return "kbs: " + e.detail
}

// Unwrap lets errors.Is match the code and the cause.
func (e *refusal) Unwrap() []error { return []error{e.code, e.err} }

// malformed returns the refusal of a body that can't be read. The cause is for
// logs; a peer is told what is wrong in our words.
func malformed(detail string, err error) error {
	return &refusal{status: http.StatusBadRequest, kind: kindBody, code: teebroker.MalformedRequest, detail: detail, err: err}
}

// information is the body of every refusal: ErrorInformation of the protocol, of
// which clients need both members, and ours.
type information struct {
	Type    string `json:"type"`
	Detail  string `json:"detail"`
	Code    string `json:"code"`
	Request string `json:"request"`
}

// Refuse answers with what a peer may be told of err, as clients read it. id is
// what the request is called in logs. It is for what stands before a Handler.
func Refuse(w http.ResponseWriter, id string, err error) {
	e := &refusal{}
	if !errors.As(err, &e) {
		e = fromBroker(err)
	}
	if e.status == http.StatusServiceUnavailable || e.status == http.StatusTooManyRequests || e.code == teebroker.InProgress {
		w.Header().Set("Retry-After", "1")
	}
	write(w, e.status, information{
		Type:    "https://github.com/confidential-containers/kbs/errors/" + e.kind,
		Detail:  fmt.Sprintf("%s (%s, request %s)", e.detail, codeOf(e), id),
		Code:    codeOf(e),
		Request: id,
	})
}

func codeOf(e *refusal) string { return teebroker.Code(e.code) }

// fromBroker returns how an error of the Broker is told. Clients that attest
// read a body with 401 only; with any other status they see a failure of the
// service. That is right for what asking again may cure.
func fromBroker(err error) *refusal {
	code := teebroker.Code(err)
	e := &refusal{status: teebroker.Status(err), kind: kindAttestation, code: teebroker.Refusal(code), detail: "refused", err: err}
	switch teebroker.Refusal(code) {
	case teebroker.Denied:
		e.kind, e.detail = kindDenied, "this guest gets nothing: the owner of the instance can see why"
	case teebroker.MalformedRequest:
		e.kind, e.detail = kindBody, "the request is malformed"
	case teebroker.TooLarge:
		e.kind, e.detail = kindBody, "the request is too large"
	case teebroker.NonceSpent:
		e.detail = "the challenge is used up, expired or not ours: ask for a new one and make new evidence"
	case teebroker.InProgress:
		e.detail = "this very request is being answered"
	case teebroker.Unavailable:
		e.kind, e.detail = kindPlugin, "not now: the same request may be sent again"
	default:
		e.detail = "the evidence is not authentic"
	}
	return e
}

// atAttest is err as clients read it at /auth and /attest: what is refused for
// good is 401 there.
func atAttest(err error) error {
	e := &refusal{}
	if !errors.As(err, &e) {
		e = fromBroker(err)
	}
	switch e.status {
	case http.StatusForbidden, http.StatusConflict:
		e.status = http.StatusUnauthorized
	}
	return e
}

// write answers with v as JSON.
func write(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // of strings
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // the client is gone, or it is not
}
