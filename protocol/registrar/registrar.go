// Package registrar answers the webhook of Keylime's enhancement 103, by which a
// registrar asks others whether it may trust the EK of an agent: yes for an EK that a
// broker knows from accepted evidence, and for the one agent that it is of.
//
// Keylime does not call it yet (keylime#1718). Where the enhancement leaves something
// open, the members are those of the registrar's own API. docs/keylime.md has the
// bodies.
package registrar

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/store"
	"github.com/teebroker/teebroker/vtpm"
)

// The decisions that a Handler makes in place of a registrar.
const (
	EKCertTrusted = "EK_CERT_TRUSTED" // the EK is that of a guest whose evidence was accepted
	EKBoundToID   = "EK_BOUND_TO_ID"  // and this agent is the one that the EK is of
)

// Limits of a request.
const (
	MaxBody        = 64 << 10
	DefaultTimeout = 10 * time.Second
)

// Config configures a [Handler]. Identities, Tenant and Caller are required.
type Config struct {
	Identities store.Identities
	Tenant     string // whose agents the registrar has

	// Caller returns an error unless a request is from the registrar. Whoever may
	// call says which agent an EK is of, for ever.
	Caller func(*http.Request) error

	// Certificate, if not nil, returns a certificate in DER for the TPMT_PUBLIC of an
	// EK that is accepted, such as ekca.CA.Issue: it is given to the registrar.
	Certificate func(public []byte) ([]byte, error)

	Timeout time.Duration // of one request; if zero, DefaultTimeout

	// Failed, if not nil, is called with why each request is not a yes, for logs.
	Failed func(*http.Request, error)
}

// Handler is the webhook. It is safe for concurrent use. A registrar asks again until
// it has an answer: the same question has the same one, until something happened to the EK.
type Handler struct{ cfg Config }

// New returns a Handler, or an error that names the field of cfg at fault.
func New(cfg Config) (*Handler, error) {
	switch {
	case cfg.Identities == nil:
		return nil, errors.New("registrar: Config.Identities is required")
	case cfg.Tenant == "":
		return nil, errors.New("registrar: Config.Tenant is required")
	case cfg.Caller == nil:
		return nil, errors.New("registrar: Config.Caller is required")
	case cfg.Timeout < 0:
		return nil, errors.New("registrar: Config.Timeout is negative")
	case cfg.Timeout == 0:
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Failed == nil {
		cfg.Failed = func(*http.Request, error) {}
	}
	return &Handler{cfg}, nil
}

// question is what a registrar asks. Members that are not known are passed over.
type question struct {
	Node  *string  `json:"node_id"`
	Roots []string `json:"root_identities"`
	EK    *struct {
		Certificate *string `json:"ekcert"` // DER in base64
		Public      *string `json:"ek_tpm"` // TPM2B_PUBLIC in base64
	} `json:"ek"`
}

// answer is what it is told. Without decisions, it decides for itself.
type answer struct {
	Node      string    `json:"node_id"`
	Decisions []string  `json:"decisions"`
	EK        *ekAnswer `json:"ek,omitempty"`
}

type ekAnswer struct {
	Certificate   string   `json:"ek_cert"` // DER in base64
	Intermediates []string `json:"intermediate_certs"`
}

// ServeHTTP implements [http.Handler]. 200 is an answer, yes or no; any other status is
// none, and 503 is worth asking again.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	refuse := func(status int, err error) {
		h.cfg.Failed(r, err)
		http.Error(w, http.StatusText(status), status)
	}
	if err := h.cfg.Caller(r); err != nil {
		refuse(http.StatusUnauthorized, fmt.Errorf("registrar: caller: %w", err))
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(http.StatusMethodNotAllowed, errors.New("registrar: not a POST"))
		return
	}
	q, err := read(w, r)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		refuse(http.StatusRequestEntityTooLarge, err)
		return
	case err != nil:
		refuse(http.StatusBadRequest, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Timeout)
	defer cancel()
	a := answer{Node: *q.Node, Decisions: []string{}}
	id, err := h.judge(ctx, q)
	switch {
	case err == nil:
		a.Decisions = []string{EKCertTrusted, EKBoundToID}
		a.EK = h.certify(r, id)
	case !denied(err):
		refuse(http.StatusServiceUnavailable, err)
		return
	default:
		h.cfg.Failed(r, err)
	}
	b, err := json.Marshal(a)
	if err != nil {
		refuse(http.StatusServiceUnavailable, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // who hung up asks again
}

func read(w http.ResponseWriter, r *http.Request) (q question, err error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		return q, fmt.Errorf("registrar: body: %w", err)
	}
	if err := strictjson.UnmarshalKnown(b, &q); err != nil {
		return q, fmt.Errorf("registrar: body: %w", err)
	}
	if q.Node == nil || *q.Node == "" {
		return q, errors.New("registrar: no node_id")
	}
	return q, nil
}

// errEK is wrapped by what is wrong with an EK, or what came for it.
var errEK = errors.New("registrar: no EK that can be known")

// denied reports whether err is a no. Others mean that it is not known now.
func denied(err error) bool {
	return slices.ContainsFunc([]error{errEK, store.NotFound, store.Conflict, store.Invalid, teebroker.Held, teebroker.Superseded}, func(no error) bool {
		return errors.Is(err, no)
	})
}

// judge makes the agent that of the EK, if it may be.
func (h *Handler) judge(ctx context.Context, q question) (store.Identity, error) {
	if !slices.Contains(q.Roots, "ek") || q.EK == nil {
		return store.Identity{}, fmt.Errorf("%w: it is not among the root identities", errEK)
	}
	digest, a, err := h.ek(ctx, q)
	if err != nil {
		return store.Identity{}, err
	}
	a.ID = *q.Node
	id, err := store.RegisterAgain(ctx, h.cfg.Identities, h.cfg.Tenant, digest, a)
	switch {
	case err != nil:
		return store.Identity{}, err
	case id.State != store.IdentityLive || id.Agent != a.ID || id.EK != digest:
		return store.Identity{}, fmt.Errorf("%w: %s", errEK, id.State)
	}
	return id, nil
}

// ek returns which EK is meant, by its public area or by its certificate; by both, if
// both came, which then have to be of one key.
func (h *Handler) ek(ctx context.Context, q question) (digest [32]byte, a store.Agent, err error) {
	var cert *x509.Certificate
	if text := q.EK.Certificate; text != nil && *text != "" {
		der, err := base64.StdEncoding.DecodeString(*text)
		if err != nil {
			return digest, a, fmt.Errorf("%w: ekcert: %w", errEK, err)
		}
		if cert, err = x509.ParseCertificate(der); err != nil {
			return digest, a, fmt.Errorf("%w: ekcert: %w", errEK, err)
		}
	}
	if text := q.EK.Public; text != nil && *text != "" {
		b, err := base64.StdEncoding.DecodeString(*text)
		if err != nil {
			return digest, a, fmt.Errorf("%w: ek_tpm: %w", errEK, err)
		}
		ek, err := vtpm.ParsePublic(b)
		if err != nil {
			return digest, a, fmt.Errorf("%w: ek_tpm: %w", errEK, err)
		}
		if cert != nil && vtpm.KeyDigest(cert.PublicKey) != vtpm.KeyDigest(ek.Key) {
			return digest, a, fmt.Errorf("%w: ekcert is of another key than ek_tpm", errEK)
		}
		a.Public = ek.Area()
		if a.AgentID, err = vtpm.HashEK(a.Public); err != nil {
			return digest, a, fmt.Errorf("%w: ek_tpm: %w", errEK, err)
		}
		return sha256.Sum256(a.Public), a, nil
	}
	if cert == nil {
		return digest, a, fmt.Errorf("%w: neither ekcert nor ek_tpm", errEK)
	}
	hashed, err := vtpm.AgentID(cert.PublicKey)
	if err != nil {
		return digest, a, fmt.Errorf("%w: ekcert: %w", errEK, err)
	}
	id, err := h.cfg.Identities.ByAgent(ctx, h.cfg.Tenant, hashed)
	if err != nil {
		return digest, a, err
	}
	return id.EK, a, nil
}

// certify returns the certificate of an EK that was accepted. There is none if it can't
// be issued: the decisions are as good.
func (h *Handler) certify(r *http.Request, id store.Identity) *ekAnswer {
	if h.cfg.Certificate == nil || len(id.Public) == 0 {
		return nil
	}
	der, err := h.cfg.Certificate(id.Public)
	if err != nil {
		h.cfg.Failed(r, fmt.Errorf("registrar: certificate: %w", err))
		return nil
	}
	return &ekAnswer{base64.StdEncoding.EncodeToString(der), []string{}}
}
