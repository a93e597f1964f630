package snptest

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

// source is what AMD publishes.
type source struct{ a *AMD }

// Get implements [evidence.Source].
func (s source) Get(ctx context.Context, name string) ([]evidence.Collateral, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if crl := s.a.emptyCRL(name); crl != nil {
		return []evidence.Collateral{{Data: crl}}, nil
	}
	if c, tcb, ok := s.a.findChip(name); ok {
		return []evidence.Collateral{{Data: slices.Clone(c.vek(snp.VCEK, tcb).cert)}}, nil
	}
	return nil, fmt.Errorf("snptest: %w", evidence.ErrNotFound)
}

// emptyCRL returns the list that revokes nothing if name is of one.
func (a *AMD) emptyCRL(name string) []byte {
	for _, line := range a.used() {
		for _, kind := range []snp.KeyKind{snp.VCEK, snp.VLEK} {
			if name == snp.CRLName(line, kind) {
				return a.crlNow(line, kind)
			}
		}
	}
	return nil
}

// crlNow returns the list that revokes nothing, valid now.
func (a *AMD) crlNow(line snp.Line, kind snp.KeyKind) []byte {
	name, now := snp.CRLName(line, kind), a.now()
	a.mu.Lock()
	crl, ok := a.crls[name]
	a.mu.Unlock()
	if !ok || !fresh(crl.made, now) {
		crl = crlAt{a.CRL(line, kind, now), now}
		a.mu.Lock()
		if a.crls == nil {
			a.crls = map[string]crlAt{}
		}
		a.crls[name] = crl
		a.mu.Unlock()
	}
	return slices.Clone(crl.der)
}

// findChip returns the chip and TCB whose VCEK has name.
func (a *AMD) findChip(name string) (*Chip, snp.TCB, bool) {
	u, err := url.Parse(name)
	if err != nil {
		return nil, snp.TCB{}, false
	}
	a.mu.Lock()
	c := a.chips[u.Path]
	a.mu.Unlock()
	if c == nil {
		return nil, snp.TCB{}, false
	}
	query := u.Query()
	level := func(key string) uint8 {
		n, _ := strconv.ParseUint(query.Get(key), 10, 8)
		return uint8(n)
	}
	tcb := snp.TCB{
		Line: c.line, FMC: level("fmcSPL"),
		Bootloader: level("blSPL"), TEE: level("teeSPL"), Firmware: level("snpSPL"), Microcode: level("ucodeSPL"),
	}
	// Whatever else name says, or says otherwise, is not in the name of tcb.
	return c, tcb, name == snp.VCEKName(c.id, tcb)
}
