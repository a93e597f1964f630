package tdxtest

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
)

// Set is a fixed set of collateral by the name that a Verifier asks for. It is an
// [evidence.Source], and safe for concurrent use as long as nobody changes it.
type Set map[string][]evidence.Collateral

// Get implements [evidence.Source].
func (s Set) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c, ok := s[name]; ok {
		return c, nil
	}
	return nil, fmt.Errorf("tdxtest: %w", evidence.ErrNotFound)
}

// Set returns what n publishes now for platforms of the kinds fs, to be changed:
// TCB Info, QE identity, and the three lists, which revoke nothing.
func (n *Intel) Set(fs ...tdx.FMSPC) Set {
	s := Set{tdx.QEIdentityName(): {n.SignQEIdentity(n.QEIdentity())}, tdx.RootCRLName(): {n.SignCRL(CRL{})}}
	for _, ca := range []tdx.CA{tdx.PlatformCA, tdx.ProcessorCA} {
		s[tdx.PCKCRLName(ca)] = []evidence.Collateral{n.SignCRL(CRL{By: authorityOf(ca)})}
	}
	for _, f := range fs {
		s[tdx.TCBInfoName(f)] = []evidence.Collateral{n.SignTCBInfo(n.TCBInfo(f))}
	}
	return s
}

// Source has what a [Set] has, for platforms of every kind, and all of it valid at
// the time it is asked for.
func (n *Intel) Source() evidence.Source { return source{n} }

// source is what an Intel publishes.
type source struct{ n *Intel }

// Get implements [evidence.Source].
func (s source) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	if f, ok := fmspcIn(name); ok {
		return s.n.Set(f).Get(ctx, name)
	}
	return s.n.Set().Get(ctx, name)
}

// fmspcIn returns the FMSPC whose TCB Info name is the name of.
func fmspcIn(name string) (tdx.FMSPC, bool) {
	text, ok := strings.CutPrefix(name, strings.TrimSuffix(tdx.TCBInfoName(tdx.FMSPC{}), tdx.FMSPC{}.String()))
	b, err := hex.DecodeString(text)
	if !ok || err != nil || len(b) != len(tdx.FMSPC{}) {
		return tdx.FMSPC{}, false
	}
	return tdx.FMSPC(b), true
}
