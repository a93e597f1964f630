package v1

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/store"
)

// Config says what a Server is in front of. What is nil is not served: its paths
// are unknown. At least one of Broker, Owner and Verify must be there.
type Config struct {
	Broker *teebroker.Broker

	// Allow is which keys of guests are taken at all; [Suites] are all of them.
	// Empty takes none.
	Allow keywrap.Allow

	// Keys returns the signed keys document of a tenant, a compact JWS: usually
	// teebroker.Broker.KeysDocument.
	Keys func(ctx context.Context, tenant string) ([]byte, error)

	// Owner is what owners write to. Tenants says whose a bearer token is, by
	// [TokenDigest], or a client certificate, by [CertificateDigest]. Without it
	// nobody is an owner. The listener asks for client certificates and need not
	// verify them: the key is what is known.
	Owner   store.Owner
	Tenants store.Tenants

	// Operator are the operator's policies. Owners can't change them, and each
	// registration has them first, whether its owner names them or not; a tenant
	// that has them not, or otherwise, gets them with its next registration.
	Operator []OperatorPolicy

	// Checkpoints signs where the record is, for owners, and knows whether anything
	// may be released: usually a checkpoint.Keeper. If nil, there are none.
	Checkpoints Checkpoints

	Verify  *VerifyConfig  // verification only
	Explain *ExplainConfig // what would change under another policy

	// Identities is what owners are told of the TPMs of their guests. It needs Owner
	// and Broker.
	Identities *IdentityConfig

	// TPMs binds the attestation keys of vTPMs: usually an activation.Service. If
	// nil, none are.
	TPMs teebroker.TPMs

	// PerSource limits requests by source address, before anything is read of
	// them. Buffered is how many bytes of bodies are in memory at a time, beyond the
	// first 32 KiB of each; more are told unavailable. Concurrent is how many requests are worked on at once,
	// whoever asks and not before their bodies came; others wait for Patience and
	// are then told unavailable. If zero: 50 at once and 10 a second, 256 MiB, 64,
	// and 10 seconds.
	PerSource  Rate
	Buffered   int64
	Concurrent int
	Patience   time.Duration

	Ready   func(context.Context) error // whether stores and tokens are there; if nil, they are
	Observe func(Event)                 // is told of every request, before its answer is sent; may be nil
	Time    func() time.Time            // for limits and durations; if nil, time.Now
}

// Checkpoints has the checkpoints of a record. It is safe for concurrent use.
type Checkpoints interface {
	// Newest returns the newest checkpoints of a tenant, one for each chain, as
	// they were signed.
	Newest(ctx context.Context, tenant string) ([][]byte, error)

	// Stopped returns why nothing is released, or nil.
	Stopped() error
}

// OperatorPolicy is a policy document and what it is called in every tenant.
type OperatorPolicy struct {
	Name     string
	Document []byte
}

// Event is one request and what became of it. Err has more than the peer was
// told, quotes claims, and has no secrets.
type Event struct {
	ID       string // of the header Request-Id
	Method   string
	Route    string // the pattern, "" if there is none
	Source   string // address of the peer
	Tenant   string // that an owner was found to be
	Sealed   bool   // it was opened, and Route to Err are of what was in it
	Status   int
	Code     string // "" for success
	Err      error
	Duration time.Duration
}

// Server serves the v1 protocol. It is an [http.Handler], safe for concurrent use.
type Server struct {
	cfg     Config
	routes  []route
	sources *limiter[netip.Addr]
	gate    gate
	buffers *buffers
	metrics *metrics
}

// New returns a Server, or an error that names the field of cfg at fault.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Broker == nil && cfg.Owner == nil && cfg.Verify == nil:
		return nil, errors.New("v1: Config has neither Broker nor Owner nor Verify")
	case cfg.Broker != nil && len(cfg.Allow.Suites) == 0:
		return nil, errors.New("v1: Config.Allow takes no key")
	case cfg.Owner != nil && cfg.Tenants == nil:
		return nil, errors.New("v1: Config.Owner needs Tenants")
	case cfg.Explain != nil && cfg.Owner == nil:
		return nil, errors.New("v1: Config.Explain needs Owner")
	case cfg.Concurrent < 0 || cfg.Buffered < 0 || cfg.Patience < 0 || cfg.PerSource.Burst < 0 || cfg.PerSource.Every < 0:
		return nil, errors.New("v1: Config: a limit is negative")
	}
	if cfg.PerSource == (Rate{}) {
		cfg.PerSource = Rate{50, 100 * time.Millisecond}
	}
	if cfg.Concurrent == 0 {
		cfg.Concurrent = 64
	}
	if cfg.Buffered == 0 {
		cfg.Buffered = 256 << 20
	}
	if cfg.Patience == 0 {
		cfg.Patience = 10 * time.Second
	}
	if cfg.Time == nil {
		cfg.Time = time.Now
	}
	s := &Server{cfg: cfg, gate: make(gate, cfg.Concurrent), buffers: &buffers{most: cfg.Buffered}, metrics: newMetrics()}
	s.sources = newLimiter[netip.Addr](cfg.PerSource, cfg.Time)
	if err := s.prepare(); err != nil {
		return nil, err
	}
	s.routes = s.table()
	return s, nil
}

// prepare completes the parts that have a Config of their own.
func (s *Server) prepare() error {
	if err := s.cfg.Identities.complete(s.cfg); err != nil {
		return err
	}
	if s.cfg.Verify != nil {
		v, err := s.cfg.Verify.complete()
		if err != nil {
			return err
		}
		s.cfg.Verify = v
	}
	if s.cfg.Explain != nil {
		e, err := s.cfg.Explain.complete()
		if err != nil {
			return err
		}
		s.cfg.Explain = e
	}
	return nil
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := s.cfg.Time()
	c := &call{Request: r, id: newID()}
	h := w.Header()
	h.Set("Request-Id", c.id)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	a, err := s.serve(w, c)
	e := Event{
		ID: c.id, Method: r.Method, Route: c.route.Path, Source: r.RemoteAddr, Tenant: c.tenant,
		Status: a.status, Err: err, Duration: s.cfg.Time().Sub(began),
	}
	var p *Problem
	if err != nil {
		p = problemOf(err, c.id)
		e.Status, e.Code = p.Status, p.Code
	}
	if in := c.inner; in != nil && err == nil {
		e.Sealed, e.Route, e.Status, e.Code, e.Err = true, in.route, in.said.status, in.code, in.err
	}
	s.metrics.count(e)
	if s.cfg.Observe != nil {
		s.cfg.Observe(e)
	}
	if p != nil {
		if allow := c.allow; p.Status == http.StatusMethodNotAllowed {
			h.Set("Allow", allow)
		}
		p.write(w)
		return
	}
	if a.kind != "" {
		h.Set("Content-Type", a.kind)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // who hung up asks again
}

// serve finds out who asks for what, and answers.
func (s *Server) serve(w http.ResponseWriter, c *call) (answer, error) {
	if err := s.find(c); err != nil {
		return answer{}, err
	}
	if c.route.kind == operations {
		return c.route.handle(c)
	}
	from := source(c.RemoteAddr)
	if !s.sources.take(from) {
		return answer{}, teebroker.RateLimited
	}
	c.Request = c.WithContext(evidence.FromPeer(c.Context(), from.String()))
	if err := s.authenticate(c); err != nil {
		return answer{}, err
	}
	// The body first: who sends it slowly holds up nobody.
	held := &held{of: s.buffers}
	defer held.release()
	if err := c.read(w, held); err != nil {
		return answer{}, err
	}
	if err := s.orderOf(c); err != nil {
		return answer{}, err
	}
	leave, err := s.gateOf(c).enter(c.Context(), s.cfg.Patience)
	if err != nil {
		return answer{}, err
	}
	defer leave()
	return c.route.handle(c)
}

// gateOf returns what bounds the work on c: verification has a budget of its own.
func (s *Server) gateOf(c *call) gate {
	if c.route.Path == PathVerify {
		return s.cfg.Verify.gate
	}
	return s.gate
}

// call is one request.
type call struct {
	*http.Request
	id     string
	route  route
	vars   map[string]string // of the path
	allow  string            // methods of the path, if not this one
	tenant string            // of the owner, "" if nobody showed to be one
	body   []byte
	inner  *inner // of what was opened, if it was sealed
}

// read reads the body, at most what the route says, and counts what it holds.
func (c *call) read(w http.ResponseWriter, held *held) error {
	if c.ContentLength > c.route.limit {
		return &httpError{code: teebroker.TooLarge, title: fmt.Sprintf("more than %d bytes", c.route.limit)}
	}
	held.body = http.MaxBytesReader(w, c.Body, c.route.limit)
	b, err := io.ReadAll(held)
	var over *http.MaxBytesError
	switch {
	case errors.Is(err, errBuffers):
		return unavailable("bodies", err)
	case errors.As(err, &over):
		return &httpError{code: teebroker.TooLarge, title: fmt.Sprintf("more than %d bytes", c.route.limit)}
	case err != nil:
		return malformed(errors.New("the body ended early"))
	}
	c.body = b
	return nil
}

// answer is what is sent if there is no error.
type answer struct {
	status int
	kind   string // Content-Type
	body   []byte
}

func jsonAnswer(body []byte) answer { return answer{http.StatusOK, "application/json", body} }

// newID returns what a request is called in logs: 16 hexadecimal digits.
func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
