package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"

	"github.com/teebroker/teebroker/collateral"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/snp/kds"
	"github.com/teebroker/teebroker/tdx/pcs"
)

// fetching is what the flags say of the vendors' services.
type fetching struct {
	on       bool
	kds, pcs string
	services asked
}

// register adds the flags.
func (f *fetching) register(fs *flag.FlagSet) {
	fs.BoolVar(&f.on, "fetch", false, "ask AMD's and Intel's services for what -endorsements has not")
	fs.StringVar(&f.kds, "kds", "", "with -fetch, ask the key server at `URL` (default "+kds.AMD+")")
	fs.StringVar(&f.pcs, "pcs", "", "with -fetch, ask the PCS or PCCS at `URL` (default "+pcs.Intel+")")
}

// behind returns a Source that asks the services for what files does not have, if
// that is wanted.
func (f *fetching) behind(files evidence.Source) (evidence.Source, error) {
	switch {
	case !f.on && (f.kds != "" || f.pcs != ""):
		return nil, cli.Usagef("-kds and -pcs go with -fetch")
	case !f.on:
		return files, nil
	}
	amd, err := kds.New(kds.Config{BaseURL: f.kds})
	if err != nil {
		return nil, cli.Usagef("-kds: %w", err)
	}
	intel, err := pcs.New(pcs.Config{BaseURL: f.pcs})
	if err != nil {
		return nil, cli.Usagef("-pcs: %w", err)
	}
	f.services.of, f.services.got = collateral.First(amd, intel), map[string][]evidence.Collateral{}
	return collateral.First(files, &f.services), nil
}

// err returns an error if r is no answer, because a service was out of reach.
func (f *fetching) err(r *result) error {
	if r.Reason != evidence.Unavailable || f.services.failed == nil {
		return nil
	}
	return fmt.Errorf("can't tell: %w", f.services.failed)
}

// asked is a Source that remembers what another answered, since evidence is
// verified twice with -binding, and how it failed.
type asked struct {
	of evidence.Source

	mu     sync.Mutex
	got    map[string][]evidence.Collateral
	failed error
}

// Get implements [evidence.Source].
func (a *asked) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.got[name]; ok {
		return c, nil
	}
	c, err := a.of.Get(ctx, name)
	switch {
	case err == nil:
		a.got[name] = c
	case !errors.Is(err, evidence.ErrNotFound):
		a.failed = err
	}
	return c, err
}
