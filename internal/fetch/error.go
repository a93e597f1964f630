package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// Error is why a service gave no answer. It matches [evidence.ErrNotFound] if the
// service says that there is none, else [evidence.Unavailable], and its cause: so
// the end of a context too. Its text has no name of what was asked for, because
// chips are in some.
type Error struct {
	Service    string
	Status     int           // of HTTP, of the last answer if there was one
	RetryAfter time.Duration // that the service or the budget ask for; 0 if unknown
	Err        error

	again bool // another attempt may help
	own   bool // the caller ran out of time or requests: no matter for others
	saved bool // known from elsewhere: not to be remembered for the name
}

// Causes of requests that were not sent, as they would come too fast: for the
// service, or from one peer.
var (
	errBudget = errors.New("too many requests")
	errPeer   = errors.New("too many requests of one peer")
)

// Error implements error.
func (e *Error) Error() string {
	s := e.Service
	if e.Status != 0 {
		s += fmt.Sprintf(": HTTP status %d", e.Status)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.RetryAfter > 0 {
		s += ": again in " + e.RetryAfter.Round(time.Second).String()
	}
	return s
}

// Unwrap lets [errors.Is] match what the error means, and its cause.
func (e *Error) Unwrap() []error {
	var means error = evidence.Unavailable
	if e.missing() {
		means = evidence.ErrNotFound
	}
	if e.Err == nil {
		return []error{means}
	}
	return []error{means, e.Err}
}

// missing reports whether the service says that there is no such file.
func (e *Error) missing() bool {
	return e.Err == nil && (e.Status == http.StatusNotFound || e.Status == http.StatusGone)
}

// fail returns the Error of err.
func (c *Client) fail(status int, err error) *Error {
	return &Error{Service: c.cfg.Service, Status: status, Err: err}
}

// gaveUp returns the Error of a caller that can't wait, or may not ask.
func (c *Client) gaveUp(err error) *Error {
	e := c.fail(0, err)
	e.own = true
	return e
}

func statusOf(e *Error) int {
	if e == nil {
		return 0
	}
	return e.Status
}

// cause returns err, of an attempt under ctx, without what net/http and net say of
// URL and address.
func cause(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSlow) {
		return errSlow // and not the end of the caller's context
	}
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}
