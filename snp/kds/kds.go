// Package kds has an [evidence.Source] that asks AMD's key server, the KDS, for
// VCEKs, revocation lists and certificate chains: AMD 57230, section 4.
//
// Names are read strictly and written anew: nothing of the Evidence but numbers
// gets into a URL. An answer that is not the file asked for, such as the
// certificate of another chip, is refused here. Nothing is verified beyond that:
// it is the [snp.Verifier] that believes a certificate or a list, or does not.
//
// The KDS answers about one request for a VCEK in ten seconds and address, and is
// out of order at times. A Source asks at this pace, asks once for what many want
// at a time, tries again, and remembers for a while what failed. It keeps nothing
// that it got: put it behind a cache.
package kds

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/fetch"
	"github.com/teebroker/teebroker/snp"
)

// AMD is the URL of AMD's key server.
const AMD = "https://kdsintf.amd.com"

// Limits of answers in bytes. Genuine certificates have 1400, chains 5000.
const (
	maxCertificate = 16 << 10
	maxChain       = 64 << 10
	maxList        = 1 << 20
)

// Config says where and how to ask. The zero Config asks AMD, politely.
type Config struct {
	BaseURL string // without "/" at the end; if empty, [AMD]

	// Client sends the requests. It gets no answers from other hosts than asked,
	// whatever its CheckRedirect says. If nil, one that uses no proxy.
	Client *http.Client

	// Every is the time between requests for VCEKs, on average, and Burst how many
	// may be sent at once after a rest. If zero, 10 s and 10. Lists and chains have
	// a budget of their own: names of VCEKs are of reports that anybody can send,
	// and must not use up what everybody needs.
	Every time.Duration
	Burst int

	// PeerEvery and PeerBurst likewise are for VCEKs that one peer makes us ask for,
	// where [evidence.FromPeer] says who that is, so that one who makes up chips
	// leaves something to the others. If zero, 1 min and 3.
	PeerEvery time.Duration
	PeerBurst int

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
	defaultEvery = 10 * time.Second
	defaultBurst = 10
	peerEvery    = time.Minute
	peerBurst    = 3
	listEvery    = 5 * time.Second
	listBurst    = 12 // all lists and chains of all lines
)

// Source asks a key server. It is safe for concurrent use. Make one with [New].
type Source struct {
	base  string
	keys  *fetch.Client
	lists *fetch.Client
}

// New returns a Source, or an error that names the field of cfg at fault. It
// sends nothing.
func New(cfg Config) (*Source, error) {
	if cfg.BaseURL == "" {
		cfg.BaseURL = AMD
	}
	base, err := fetch.Base(cfg.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("kds: Config.BaseURL: %w", err)
	}
	cfg.Every, cfg.Burst = cmp.Or(cfg.Every, defaultEvery), cmp.Or(cfg.Burst, defaultBurst)
	peer := fetch.Rate{Every: cmp.Or(cfg.PeerEvery, peerEvery), Burst: cmp.Or(cfg.PeerBurst, peerBurst)}
	client := func(every time.Duration, burst int, peer fetch.Rate) (*fetch.Client, error) {
		return fetch.New(fetch.Config{
			Service: "AMD KDS", Client: cfg.Client, Every: every, Burst: burst, Peer: peer,
			Patience: cfg.Patience, Timeout: cfg.Timeout, Attempts: cfg.Attempts,
		})
	}
	s := &Source{base: base}
	if s.keys, err = client(cfg.Every, cfg.Burst, peer); err != nil {
		return nil, fmt.Errorf("kds: Config.%w", err)
	}
	if s.lists, err = client(min(listEvery, cfg.Every), listBurst, fetch.Rate{}); err != nil {
		return nil, fmt.Errorf("kds: Config.%w", err)
	}
	return s, nil
}

// Get implements [evidence.Source] for the names of [snp.VCEKName], [snp.CRLName]
// and [ChainName]. Any other name is evidence.ErrNotFound without a request:
// VLEKs too, which AMD gives to cloud providers only.
//
// Errors match evidence.ErrNotFound if the server has no such file, else
// evidence.Unavailable, and ctx.Err if ctx ended. Callers that ask for one name at
// a time may share an answer and must not modify it.
func (s *Source) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	k, ok := parseName(name)
	if !ok {
		return nil, fmt.Errorf("kds: %w", evidence.ErrNotFound)
	}
	client, r := s.lists, fetch.Request{Name: k.name, URL: s.base + k.name, Limit: maxList}
	switch k.kind {
	case ofVCEK:
		client, r.Limit = s.keys, maxCertificate
	case ofChain:
		r.Limit = maxChain
	}
	r.Accept = func(body []byte, _ http.Header) (evidence.Collateral, error) {
		return evidence.Collateral{Data: body}, k.accept(body)
	}
	c, err := client.Get(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("kds: %w", err)
	}
	return []evidence.Collateral{c}, nil
}

// accept reports whether body is what k is the name of.
func (k name) accept(body []byte) error {
	if k.kind == ofChain {
		return k.acceptChain(body)
	}
	for _, is := range snp.NamesOf(body) {
		if is == k.name {
			return nil
		}
	}
	return errors.New("not the file that was asked for")
}

// acceptChain reports whether text is what AMD has under the name: the CA that
// issues keys of k's kind, and the root that signed it.
func (k name) acceptChain(text []byte) error {
	want := []string{"SEV-" + k.line.String(), "ARK-" + k.line.String()}
	if k.key == snp.VLEK {
		want[0] = "SEV-VLEK-" + k.line.String()
	}
	var certs []*x509.Certificate
	for _, cn := range want {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return errors.New("not two certificates in PEM")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil || c.Subject.CommonName != cn {
			return errors.New("not the chain that was asked for")
		}
		certs, text = append(certs, c), rest
	}
	if len(bytes.TrimSpace(text)) != 0 {
		return errors.New("more than two certificates")
	}
	if err := certs[0].CheckSignatureFrom(certs[1]); err != nil {
		return errors.New("not a chain")
	}
	return nil
}
