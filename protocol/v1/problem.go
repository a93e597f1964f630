package v1

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/store"
)

// Problem is an error as it is on the wire, application/problem+json. A [Client]
// returns it, and it matches the teebroker.Refusal or evidence.Reason that Code
// spells.
type Problem struct {
	Type    string `json:"type"`    // urn:teebroker: and Code
	Title   string `json:"title"`   // for people; an owner is told what was wrong
	Status  int    `json:"status"`  // of HTTP
	Code    string `json:"code"`    // a word of section 12 of the protocol
	Request string `json:"request"` // what the broker's log calls the request

	RetryAfter int `json:"-"` // seconds, of the header; 0 if there was none
}

// Error implements error.
func (p *Problem) Error() string {
	return fmt.Sprintf("v1: %s: %s (status %d, request %s)", p.Code, p.Title, p.Status, p.Request)
}

// Unwrap lets [errors.Is] match a Refusal or a Reason.
func (p *Problem) Unwrap() []error {
	return []error{teebroker.Refusal(p.Code), evidence.Reason(p.Code)}
}

// An httpError is an error with a status that its code does not have, or with a
// text for who asked. It is made where the peer is known to be an owner, or
// where the text says nothing about the broker's state.
type httpError struct {
	status int // 0: that of the code
	code   teebroker.Refusal
	title  string
	cause  error
}

func (e *httpError) Error() string {
	if e.cause != nil {
		return "v1: " + e.title + ": " + e.cause.Error()
	}
	return "v1: " + e.title
}

func (e *httpError) Unwrap() []error {
	if e.cause != nil {
		return []error{e.code, e.cause}
	}
	return []error{e.code}
}

// ownerError translates an error of the owner's store. Its texts are fit for the
// owner, and of what is not an answer only the log hears.
func ownerError(err error) error {
	switch {
	case errors.Is(err, store.NotFound):
		return &httpError{http.StatusNotFound, teebroker.NoInstance, "there is none of this name in your tenant, or it was deleted", err}
	case errors.Is(err, store.Conflict):
		return &httpError{http.StatusConflict, teebroker.MalformedRequest, "taken, maybe by something that was deleted: " + err.Error(), err}
	case errors.Is(err, store.Unordered):
		return &httpError{0, teebroker.Forbidden, "this takes an order that its owner key signed: " + strings.TrimPrefix(err.Error(), string(store.Unordered)+": "), err}
	case errors.Is(err, store.Invalid):
		return &httpError{0, teebroker.MalformedRequest, err.Error(), err}
	}
	return fmt.Errorf("v1: store: %w: %w", teebroker.Unavailable, err)
}

// titles are what is said of a code when nothing better is known.
func title(code string) string {
	switch teebroker.Refusal(code) {
	case teebroker.MalformedRequest:
		return "the request is not of the form that the protocol has"
	case teebroker.TooLarge:
		return "the body is larger than is read here"
	case teebroker.RateLimited:
		return "too many requests from this address, or for this guest"
	case teebroker.NonceSpent:
		return "the nonce is unknown, expired, or was used; take a new one, with new evidence"
	case teebroker.InProgress:
		return "this very request is being answered"
	case teebroker.Denied:
		return "denied; the owner's record says why"
	case teebroker.EpochPending:
		return "the wrapped key is of a boot that was not confirmed; present the one before"
	case teebroker.EpochDead:
		return "the wrapped key is of an epoch that is over; the owner can recover it"
	case teebroker.Superseded:
		return "a later release took its place: stop"
	case teebroker.Held:
		return "the owner holds this purpose"
	case teebroker.Gone:
		return "what was kept was erased"
	case teebroker.Unavailable:
		return "the outcome is not known; the same request may be sent again"
	case teebroker.Unauthenticated:
		return "a bearer token or a client certificate of a tenant is needed"
	case teebroker.Forbidden:
		return "not for this tenant"
	}
	return "the evidence is not authentic: " + code
}

// problemOf returns what a peer is told of err.
func problemOf(err error, request string) *Problem {
	p := &Problem{Code: teebroker.Code(err), Status: teebroker.Status(err), Request: request}
	var h *httpError
	if errors.As(err, &h) {
		p.Title, p.Code = h.title, string(h.code)
		if p.Status = h.status; h.status == 0 {
			p.Status = teebroker.Status(h.code)
		}
	}
	if p.Title == "" {
		p.Title = title(p.Code)
	}
	p.Type = "urn:teebroker:" + p.Code
	switch teebroker.Refusal(p.Code) {
	case teebroker.InProgress, teebroker.Unavailable, teebroker.RateLimited:
		p.RetryAfter = 1
	}
	return p
}

// write answers with p.
func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", problemKind)
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="teebroker"`)
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(p.encode()) // who hung up is told nothing
}

const problemKind = "application/problem+json"

func (p *Problem) encode() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		return []byte("{}") // of strings and a number
	}
	return b
}
