// Package pcstest is a fake of Intel's PCS, and of a PCCS, over a simulated vendor
// of package tdxtest. It is for tests, simulations and examples.
//
// It serves what the vendor publishes, and is broken on request: slow, wrong,
// throttling, truncated, down, a compressed bomb, or with the TCB Info of another
// platform, an old set, or a list of the future.
package pcstest

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/fakevendor"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/pcs"
	"github.com/teebroker/teebroker/tdx/tdxtest"
)

// Fault is what is wrong with a [Server].
type Fault = fakevendor.Fault

// Server is a fake service, a [net/http.Handler], with the list of the root where
// a PCCS has it and where Intel has it. It is safe for concurrent use. Make one
// with [New] or [NewPCCS].
//
// Break gives it a [Fault], for some names or for all; Mend ends all. Requests
// counts the requests for some names or all, and Most those for the name that was
// asked for most. Client returns a client that needs no network, whatever the host
// of a URL, and so works in a bubble of testing/synctest.
type Server struct {
	*fakevendor.Server
	intel *tdxtest.Intel
	hex   bool

	mu        sync.Mutex
	published map[string]evidence.Collateral // by name
}

// New returns a Server of what intel publishes.
func New(intel *tdxtest.Intel) *Server {
	s := &Server{intel: intel, published: map[string]evidence.Collateral{}}
	s.Server = fakevendor.New(s.answer)
	return s
}

// NewPCCS returns a Server that writes lists in hexadecimal, as a PCCS does.
func NewPCCS(intel *tdxtest.Intel) *Server {
	s := New(intel)
	s.hex = true
	return s
}

// Publish lets c be the file called name, in place of what the vendor makes: for
// those who ask for update too, unless there is one called name with that.
func (s *Server) Publish(name string, c evidence.Collateral) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published[name] = c
}

// PublishSet publishes all of set.
func (s *Server) PublishSet(set tdxtest.Set) {
	for name, c := range set {
		s.Publish(name, c[0])
	}
}

// answer returns the file called name.
func (s *Server) answer(ctx context.Context, name string) (fakevendor.Answer, error) {
	if name == strings.TrimPrefix(pcs.IntelRootCRL, "https://certificates.trustedservices.intel.com") {
		name = tdx.RootCRLName()
	}
	c, err := s.find(ctx, name)
	if err != nil {
		return fakevendor.Answer{}, err
	}
	a := fakevendor.Answer{Body: c.Data, Header: http.Header{}}
	if s.hex && isList(name) {
		a.Body = []byte(hex.EncodeToString(c.Data))
	}
	if h := chainHeader(name); h != "" && c.Issuer != nil {
		a.Header.Set(h, url.PathEscape(string(c.Issuer)))
	}
	return a, nil
}

// find returns what is published as name, or made for it.
func (s *Server) find(ctx context.Context, name string) (evidence.Collateral, error) {
	plain := name
	for _, u := range []pcs.Update{pcs.Standard, pcs.Early} {
		plain = strings.TrimSuffix(plain, "?update="+string(u))
		plain = strings.TrimSuffix(plain, "&update="+string(u))
	}
	s.mu.Lock()
	for _, n := range []string{name, plain} {
		if c, ok := s.published[n]; ok {
			s.mu.Unlock()
			return c, nil
		}
	}
	s.mu.Unlock()
	if plain == pcs.NumbersName() {
		return s.numbers(), nil
	}
	return fakevendor.First(s.intel.Source().Get(ctx, plain))
}

// numbers returns the list of evaluation data numbers, with the one that the
// vendor publishes.
func (s *Server) numbers() evidence.Collateral {
	now := time.Now()
	if s.intel.Time != nil {
		now = s.intel.Time()
	}
	day := func(n int) string { return now.AddDate(0, 0, n).UTC().Format(time.RFC3339) }
	return s.intel.Sign("tcbEvaluationDataNumbers", fmt.Appendf(nil,
		`{"id":"TDX","version":1,"issueDate":%q,"nextUpdate":%q,"tcbEvalNumbers":[{"tcbEvaluationDataNumber":%d,"tcbRecoveryEventDate":%q,"tcbDate":%q}]}`,
		day(-1), day(29), tdxtest.EvaluationDataNumber, day(-400), day(-400)))
}

func isList(name string) bool {
	return name == tdx.RootCRLName() || name == tdx.PCKCRLName(tdx.PlatformCA) || name == tdx.PCKCRLName(tdx.ProcessorCA)
}

// chainHeader returns the header in which the service sends the issuer chain.
func chainHeader(name string) string {
	switch {
	case name == tdx.RootCRLName():
		return ""
	case isList(name):
		return "SGX-PCK-CRL-Issuer-Chain"
	case name == pcs.NumbersName():
		return "TCB-Evaluation-Data-Numbers-Issuer-Chain"
	case strings.HasPrefix(name, tdx.QEIdentityName()):
		return "SGX-Enclave-Identity-Issuer-Chain"
	}
	return "TCB-Info-Issuer-Chain"
}
