// Package pcs has an [evidence.Source] that asks Intel's Provisioning
// Certification Service, the PCS, or a caching service, a PCCS, for TCB Info, the
// identity of the quoting enclave, and revocation lists: Intel PCS API, version 4.
//
// Names are read strictly and written anew. An answer that is not the file asked
// for, or a document whose issuer chain does not fit it, is refused here. Nothing
// is verified beyond that: it is the [tdx.Verifier] that believes a document or a
// list, or does not.
//
// A Source asks once for what many want at a time, tries again, and remembers for
// a while what failed. It keeps nothing that it got: put it behind a cache.
package pcs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/fetch"
	"github.com/teebroker/teebroker/tdx"
)

// Intel is the URL of Intel's PCS. The list of its root is on another host of
// Intel's, at IntelRootCRL.
const (
	Intel        = "https://api.trustedservices.intel.com"
	IntelRootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
)

// Update says which of two sets of TCB Info and QE identity is asked for.
type Update string

// The Updates. After a TCB recovery Early has its demands from the day of
// disclosure, Standard when platforms had time to be updated: with Early more
// platforms are out of date, and sooner. The evaluation data number, a claim,
// tells which a result is of.
const (
	Standard Update = "standard"
	Early    Update = "early"
)

// Limits of answers in bytes.
const (
	maxDocument = 256 << 10
	maxList     = 1 << 20
)

// Config says where and how to ask. The zero Config asks Intel.
type Config struct {
	BaseURL string // of the PCS or a PCCS, without "/" at the end; if empty, [Intel]

	// RootCRL is the URL of the list of Intel's root. If empty, [IntelRootCRL] if
	// BaseURL is [Intel], else where a PCCS has it: [tdx.RootCRLName] at BaseURL.
	RootCRL string

	// Update is the set to ask for. If empty, the one the service gives to those
	// who don't say, which is Standard at Intel.
	Update Update

	// Client sends the requests. It gets no answers from other hosts than asked,
	// whatever its CheckRedirect says. If nil, one that uses no proxy.
	Client *http.Client

	// Every is the time between requests, on average, and Burst how many may be sent
	// at once after a rest. If zero, 1 s and 100. Names are of platforms that Intel
	// certified, so strangers don't use it up.
	Every time.Duration
	Burst int

	// Patience is the longest wait for the budget, or for what the service asks to
	// wait. What would take longer fails at once. If zero, 30 s.
	Patience time.Duration

	// Timeout is the time of one attempt, and Attempts how many are made while the
	// caller's context lasts. If zero, 15 s and 3.
	Timeout  time.Duration
	Attempts int
}

// Pace of requests.
const (
	defaultEvery = time.Second
	defaultBurst = 100
)

// Source asks a service. It is safe for concurrent use. Make one with [New].
type Source struct {
	base, rootCRL string
	update        Update
	client        *fetch.Client
}

// New returns a Source, or an error that names the field of cfg at fault. It
// sends nothing.
func New(cfg Config) (*Source, error) {
	s := &Source{update: cfg.Update, rootCRL: cfg.RootCRL}
	var err error
	if s.base, err = fetch.Base(cmp.Or(cfg.BaseURL, Intel)); err != nil {
		return nil, fmt.Errorf("pcs: Config.BaseURL: %w", err)
	}
	switch {
	case s.rootCRL != "":
		if s.rootCRL, err = fetch.Base(s.rootCRL); err != nil {
			return nil, fmt.Errorf("pcs: Config.RootCRL: %w", err)
		}
	case s.base == Intel:
		s.rootCRL = IntelRootCRL
	default:
		s.rootCRL = s.base + tdx.RootCRLName()
	}
	switch s.update {
	case "", Standard, Early:
	default:
		return nil, errors.New("pcs: Config.Update: unknown")
	}
	s.client, err = fetch.New(fetch.Config{
		Service: "Intel PCS", Client: cfg.Client,
		Every: cmp.Or(cfg.Every, defaultEvery), Burst: cmp.Or(cfg.Burst, defaultBurst),
		Patience: cfg.Patience, Timeout: cfg.Timeout, Attempts: cfg.Attempts,
	})
	if err != nil {
		return nil, fmt.Errorf("pcs: Config.%w", err)
	}
	return s, nil
}

// Get implements [evidence.Source] for the names of package tdx and
// [NumbersName]. Any other name is evidence.ErrNotFound without a request.
//
// TCB Info and QE identity come with the issuer chain of the answer's header, as
// the Verifier wants it. Lists are in DER, also where a PCCS has hexadecimal.
//
// Errors match evidence.ErrNotFound if the service has no such file, else
// evidence.Unavailable, and ctx.Err if ctx ended. Callers that ask for one name at
// a time may share an answer and must not modify it.
func (s *Source) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	f, ok := parseName(name)
	if !ok {
		return nil, fmt.Errorf("pcs: %w", evidence.ErrNotFound)
	}
	c, err := s.client.Get(ctx, fetch.Request{Name: f.name, URL: s.url(f), Limit: f.limit(), Accept: f.accept})
	if err != nil {
		return nil, fmt.Errorf("pcs: %w", err)
	}
	return []evidence.Collateral{c}, nil
}

// url returns where f is.
func (s *Source) url(f file) string {
	switch {
	case f.name == tdx.RootCRLName():
		return s.rootCRL
	case !f.updated || s.update == "":
		return s.base + f.name
	case f.name == tdx.QEIdentityName():
		return s.base + f.name + "?update=" + string(s.update)
	}
	return s.base + f.name + "&update=" + string(s.update)
}
