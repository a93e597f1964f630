package keylime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/teebroker/teebroker/ear"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/policy"
)

// Versions of the API that are served, the current one last.
func Versions() []string { return []string{"2.4", "2.5", "2.6"} }

// Defaults of a [Config].
const (
	DefaultMaxBody    = 1 << 20
	DefaultConcurrent = 16
	DefaultTimeout    = 30 * time.Second
)

// Config configures a [Handler]. Verifier and Policies are required.
type Config struct {
	// Verifier authenticates evidence. What it has no Verifier for is refused.
	Verifier evidence.Verifier

	// Policies judge what is authentic, all of a name together, the widest first.
	// Callers choose by "tee-policy"; those who don't, as all who know only
	// Keylime's API, get the name "". A name that is not here is a refusal.
	Policies map[string][]*policy.Policy

	// TPM says what evidence of type "tpm" is verified with. If nil, it is refused.
	TPM *TPM

	// Tokens, if not nil, signs an EAR of each result, as "ear". Audience is then
	// required: who is told. A token names the caller's nonce and opens nothing.
	Tokens   *ear.Issuer
	Audience string

	MaxBody    int64         // bytes of a body; if zero, DefaultMaxBody; 16 MiB at most
	Concurrent int           // verified at once, more are answered 503; if zero, DefaultConcurrent
	Timeout    time.Duration // of one verification; if zero, DefaultTimeout

	Time func() time.Time // if nil, time.Now

	// Failed, if not nil, is called with why each refused request is, and with why a
	// result has no EAR, for logs. The error may quote claims.
	Failed func(r *http.Request, err error)
}

// Handler is the API. It is safe for concurrent use. It asks callers for no
// credentials: who may call is for what is before it, and rates are too.
type Handler struct {
	cfg       Config
	verifying chan struct{}
	reading   chan struct{}
}

// readers is how many bodies are read for each that is verified: senders may be slow.
const readers = 16

// New returns a Handler, or an error that names the field of cfg at fault.
func New(cfg Config) (*Handler, error) {
	switch {
	case cfg.Verifier == nil:
		return nil, errors.New("keylime: Config.Verifier is required")
	case len(cfg.Policies) == 0:
		return nil, errors.New("keylime: Config.Policies is required")
	case cfg.Tokens != nil && cfg.Audience == "":
		return nil, errors.New("keylime: Config.Audience is required with Tokens")
	case cfg.TPM.check() != nil:
		return nil, cfg.TPM.check()
	case cfg.MaxBody < 0 || cfg.MaxBody > 16<<20:
		return nil, errors.New("keylime: Config.MaxBody is out of range")
	case cfg.Concurrent < 0 || cfg.Timeout < 0:
		return nil, errors.New("keylime: Config.Concurrent or Timeout is negative")
	}
	policies := map[string][]*policy.Policy{}
	for name, scopes := range cfg.Policies {
		if len(scopes) == 0 || slices.Contains(scopes, nil) {
			return nil, fmt.Errorf("keylime: Config.Policies: nothing for %q", name)
		}
		policies[name] = slices.Clone(scopes)
	}
	cfg.Policies = policies
	if cfg.TPM != nil {
		tpm := *cfg.TPM
		cfg.TPM = &tpm
	}
	cfg.MaxBody, cfg.Concurrent, cfg.Timeout = or(cfg.MaxBody, DefaultMaxBody), or(cfg.Concurrent, DefaultConcurrent), or(cfg.Timeout, DefaultTimeout)
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	if cfg.Failed == nil {
		cfg.Failed = func(*http.Request, error) {}
	}
	return &Handler{cfg, make(chan struct{}, cfg.Concurrent), make(chan struct{}, readers*cfg.Concurrent)}, nil
}

// or returns v, or instead if v is zero.
func or[T comparable](v, instead T) T {
	if v == *new(T) {
		return instead
	}
	return v
}

// refusal is an answer without results.
type refusal struct {
	code   int
	status string
	err    error
}

func (r *refusal) Error() string {
	if r.err == nil {
		return "keylime: " + r.status
	}
	return fmt.Sprintf("keylime: %s: %v", r.status, r.err)
}

func (r *refusal) Unwrap() error { return r.err }

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(r.URL.Path, "/")
	version, rest, _ := strings.Cut(path, "/")
	number, versioned := strings.CutPrefix(version, "v")
	switch {
	case path == "version" || path == "versions":
		if r.Method != http.MethodGet {
			h.refuse(w, r, &refusal{code: http.StatusMethodNotAllowed, status: "Not Implemented: Use GET interface instead"})
			return
		}
		write(w, http.StatusOK, "Success", versions{Versions()[len(Versions())-1], Versions()})
	case versioned && rest == "verify/evidence" && slices.Contains(Versions(), number):
		if r.Method != http.MethodPost {
			h.refuse(w, r, &refusal{code: http.StatusMethodNotAllowed, status: "Not Implemented: Use POST interface instead"})
			return
		}
		if err := h.evidence(w, r); err != nil {
			h.refuse(w, r, err)
		}
	default:
		h.refuse(w, r, &refusal{code: http.StatusNotFound, status: "Not Found"})
	}
}

type versions struct {
	Current   string   `json:"current_version"`
	Supported []string `json:"supported_versions"`
}

// refuse answers without results.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, f *refusal) {
	h.cfg.Failed(r, f)
	if f.code == http.StatusServiceUnavailable {
		Refuse(w, f.code, time.Second)
		return
	}
	write(w, f.code, f.status, struct{}{})
}

// Refuse answers with a status of HTTP in Keylime's envelope, for what is before a
// Handler and refuses to ask it. later, if it is not zero, says when to try again; it is
// rounded up to seconds.
func Refuse(w http.ResponseWriter, code int, later time.Duration) {
	if later > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((later+time.Second-1)/time.Second), 10))
	}
	write(w, code, http.StatusText(code), struct{}{})
}

// envelope is the body of every answer.
type envelope struct {
	Code    int    `json:"code"`
	Status  string `json:"status"`
	Results any    `json:"results"`
}

func write(w http.ResponseWriter, code int, status string, results any) {
	b, err := json.Marshal(envelope{code, status, results})
	if err != nil { // there is nothing in results that can't be encoded
		code, b = http.StatusServiceUnavailable, []byte(`{"code":503,"status":"Service Unavailable","results":{}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(b) // the caller has gone, or not
}

// enter takes a place of gate, or says that there is none.
func enter(gate chan struct{}) (leave func(), err *refusal) {
	select {
	case gate <- struct{}{}:
		return func() { <-gate }, nil
	default:
		return nil, &refusal{code: http.StatusServiceUnavailable, status: "Service Unavailable"}
	}
}

// read returns the body of r.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	leave, busy := enter(h.reading)
	if busy != nil {
		return nil, busy
	}
	defer leave()
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.cfg.MaxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &refusal{code: http.StatusRequestEntityTooLarge, status: "Request Entity Too Large"}
	case err != nil:
		return nil, &refusal{code: http.StatusBadRequest, status: "Bad Request", err: err}
	}
	return b, nil
}

// evidence answers a request to verify, or returns why it has not.
func (h *Handler) evidence(w http.ResponseWriter, r *http.Request) *refusal {
	b, refused := h.read(w, r)
	if refused != nil {
		return refused
	}
	requests, list, err := parseBody(b)
	switch {
	case err != nil:
		return &refusal{http.StatusBadRequest, "malformed JSON body", err}
	case len(requests) == 0 || len(requests) > maxList:
		return &refusal{code: http.StatusBadRequest, status: fmt.Sprintf("a list has 1 to %d pieces of evidence", maxList)}
	}
	for _, one := range requests {
		if refused := one.shape(); refused != nil {
			return refused
		}
	}
	leave, busy := enter(h.verifying)
	if busy != nil {
		return busy
	}
	defer leave()
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Timeout)
	defer cancel()
	if one := requests[0]; *one.Type == typeTPM && !list && h.cfg.TPM != nil {
		code, status, result, err := h.verifyTPM(ctx, one.Data)
		if err != nil {
			h.cfg.Failed(r, err)
		}
		write(w, code, status, result)
		return nil
	}
	a := h.judge(ctx, requests)
	for _, err := range []error{a.err(), a.unsigned} {
		if err != nil {
			h.cfg.Failed(r, err)
		}
	}
	code, status := a.status()
	write(w, code, status, a.results(list))
	return nil
}

// shape refuses what Keylime refuses before it looks at evidence.
func (r request) shape() *refusal {
	switch {
	case r.Type == nil || *r.Type == "":
		return &refusal{code: http.StatusBadRequest, status: "missing parameter 'type'"}
	case absent(r.Data):
		return &refusal{code: http.StatusBadRequest, status: "missing parameter 'data'"}
	case *r.Type != typeTEE && *r.Type != typeTPM:
		return &refusal{code: http.StatusBadRequest, status: "invalid evidence type"}
	}
	if err := strictjson.UnmarshalKnown(r.Data, new(data)); *r.Type == typeTEE && err != nil {
		return &refusal{http.StatusBadRequest, "malformed parameter 'data'", err}
	}
	return nil
}
