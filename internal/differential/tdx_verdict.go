package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/validate"
	"github.com/google/go-tdx-guest/verify"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
)

// tdxWorld is one root, as both verifiers want it, and what there is under it to
// choose from.
type tdxWorld struct {
	name      string
	anchors   [][]byte
	roots     *x509.CertPool
	platforms []*tdxPlatform // of simulated ones; the first two are as they should be
	sets      []*tdxSet      // the first one of simulated ones is as it should be

	newVerifier func(tdx.Config) (evidence.Verifier, error)

	mu        sync.Mutex
	verifiers map[time.Time]evidence.Verifier
}

func newTDXWorld(name string, anchors [][]byte) (*tdxWorld, error) {
	w := &tdxWorld{
		name: name, anchors: anchors, roots: x509.NewCertPool(),
		newVerifier: func(cfg tdx.Config) (evidence.Verifier, error) { return tdx.NewVerifier(cfg) },
		verifiers:   map[time.Time]evidence.Verifier{},
	}
	for _, der := range anchors {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		w.roots.AddCert(root)
	}
	return w, nil
}

// verifier returns our Verifier with its clock at an instant.
func (w *tdxWorld) verifier(at time.Time) (evidence.Verifier, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v := w.verifiers[at]; v != nil {
		return v, nil
	}
	v, err := w.newVerifier(tdx.Config{Anchors: w.anchors, Source: setSource{}, Time: func() time.Time { return at }})
	if err != nil {
		return nil, err
	}
	w.verifiers[at] = v
	return v, nil
}

// checkStatus is the name under which a TCB that is not UpToDate is counted.
const checkStatus = "status"

// oursTDX is our verdict on c. To us the status of a TCB is a claim; go-tdx-guest
// takes UpToDate only, so that is asked of the claim.
func oursTDX(c *tdxCase) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("we panic: %v", p)
		}
	}()
	v, err := c.base.world.verifier(c.at)
	if err != nil {
		return fmt.Errorf("no verifier: %s", err)
	}
	want := evidence.UncheckedBindingUnsafe()
	if c.want != nil {
		if want, err = evidence.NewBinding(c.want); err != nil {
			return err
		}
	}
	ctx := context.WithValue(context.Background(), setKey{}, c.set)
	got, err := v.Verify(ctx, evidence.Evidence{Format: tdx.Format, Raw: c.raw}, want)
	if (got == nil) != (err != nil) {
		return fmt.Errorf("a result: %t, and an error: %s", got != nil, err)
	}
	if err != nil {
		return err
	}
	claims, ok := tdx.ClaimsOf(got)
	if !ok {
		return errors.New("a result without claims")
	}
	if s := claims.TCB.Status; s != tdx.UpToDate {
		return &evidence.Error{Format: tdx.Format, Reason: evidence.Untrusted, Check: checkStatus, Field: "tcbStatus", Err: errors.New(string(s))}
	}
	return nil
}

// theirsTDX is the verdict of go-tdx-guest on c. Policy is not asked for.
func theirsTDX(c *tdxCase) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it panics: %v", p)
		}
	}()
	quote, err := abi.QuoteToProto(c.raw)
	if err != nil {
		return err
	}
	if err := verify.TdxQuote(quote, &verify.Options{
		CheckRevocations: true,
		GetCollateral:    true,
		Getter:           c.set,
		Now:              c.at,
		TrustedRoots:     c.base.world.roots,
	}); err != nil {
		return err
	}
	return validate.TdxQuote(quote, &validate.Options{TdQuoteBodyOptions: validate.TdQuoteBodyOptions{ReportData: c.want}})
}

// tdxSet is what Intel publishes, by the name that our Verifier asks for.
type tdxSet struct {
	name  string
	files map[string]evidence.Collateral
}

// Addresses that go-tdx-guest asks for.
const (
	intelPCS     = "https://api.trustedservices.intel.com"
	intelRootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
)

// Get implements the HTTPSGetter of go-tdx-guest, as Intel answers.
func (s *tdxSet) Get(address string) (map[string][]string, []byte, error) {
	name := strings.TrimPrefix(address, intelPCS)
	if address == intelRootCRL {
		name = tdx.RootCRLName()
	}
	c, ok := s.files[name]
	if !ok {
		return nil, nil, errors.New("nothing there")
	}
	header := map[string][]string{}
	for _, h := range []string{"Tcb-Info-Issuer-Chain", "Sgx-Enclave-Identity-Issuer-Chain", "Sgx-Pck-Crl-Issuer-Chain"} {
		header[h] = []string{url.QueryEscape(string(c.Issuer))}
	}
	return header, c.Data, nil
}

type setKey struct{}

// setSource has the set that ctx has: a Verifier has one Source for all cases.
type setSource struct{}

// Get implements [evidence.Source].
func (setSource) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	if c, ok := ctx.Value(setKey{}).(*tdxSet).files[name]; ok {
		return []evidence.Collateral{c}, nil
	}
	return nil, evidence.ErrNotFound
}
