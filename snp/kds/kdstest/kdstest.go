// Package kdstest is a fake of AMD's key server, over a simulated vendor of
// package snptest. It is for tests, simulations and examples.
//
// It serves what the vendor publishes, and is broken on request: slow, wrong,
// throttling, truncated, down, a compressed bomb, or with the certificate of
// another chip, an old list, or a list of the future.
package kdstest

import (
	"context"
	"encoding/pem"
	"slices"
	"sync"
	"time"

	"github.com/teebroker/teebroker/internal/fakevendor"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/kds"
	"github.com/teebroker/teebroker/snp/snptest"
)

// Fault is what is wrong with a [Server].
type Fault = fakevendor.Fault

// Server is a fake key server, a [net/http.Handler]. It is safe for concurrent
// use. Make one with [New].
//
// Break gives it a [Fault], for some names or for all; Mend ends all. Requests
// counts the requests for some names or all, and Most those for the name that was
// asked for most. Client returns a client that needs no network, whatever the host
// of a URL, and so works in a bubble of testing/synctest.
type Server struct {
	*fakevendor.Server
	amd *snptest.AMD

	mu        sync.Mutex
	published map[string][]byte // by name
}

// New returns a Server of what amd publishes.
func New(amd *snptest.AMD) *Server {
	s := &Server{amd: amd, published: map[string][]byte{}}
	s.Server = fakevendor.New(s.answer)
	return s
}

// Publish lets body be the file called name, in place of what the vendor makes.
func (s *Server) Publish(name string, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published[name] = slices.Clone(body)
}

// answer returns the file called name.
func (s *Server) answer(ctx context.Context, name string) (fakevendor.Answer, error) {
	s.mu.Lock()
	body, ok := s.published[name]
	s.mu.Unlock()
	if ok {
		return fakevendor.Answer{Body: body}, nil
	}
	for _, a := range s.amd.Anchors() {
		switch name {
		case kds.ChainName(a.Line, snp.VCEK):
			return fakevendor.Answer{Body: chain(a.ASK, a.ARK)}, nil
		case kds.ChainName(a.Line, snp.VLEK):
			return fakevendor.Answer{Body: chain(a.ASVK, a.ARK)}, nil
		}
	}
	c, err := fakevendor.First(s.amd.Source().Get(ctx, name))
	return fakevendor.Answer{Body: c.Data}, err
}

func chain(certs ...[]byte) (text []byte) {
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	return text
}

// Instead returns a Fault that answers with the VCEK of other, as it reports,
// whatever was asked for.
func (s *Server) Instead(other *snptest.Chip) Fault {
	return Fault{Wrong: func(string, []byte) []byte {
		c, err := fakevendor.First(s.amd.Source().Get(context.Background(), snp.VCEKName(other.ID(), other.Reported)))
		if err != nil {
			panic(err) // a chip of another vendor
		}
		return c.Data
	}}
}

// PublishList publishes the lists of line that were issued at issued and revoke
// nothing, until 30 days later: old ones and ones of the future too.
func (s *Server) PublishList(line snp.Line, issued time.Time) {
	list := s.amd.IssueCRL(snptest.CRL{Line: line, ThisUpdate: issued, NextUpdate: issued.AddDate(0, 0, 30)})
	s.Publish(snp.CRLName(line, snp.VCEK), list)
	s.Publish(snp.CRLName(line, snp.VLEK), list)
}
