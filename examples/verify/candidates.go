package main

import (
	"context"
	"errors"
	"slices"

	"github.com/teebroker/teebroker/evidence"
)

// verifyEach verifies with each candidate for what came along, since a folder
// may have the certificates of many chips. One that passes every check is
// enough. Otherwise the error is that of the candidate which came furthest.
func verifyEach(ctx context.Context, v evidence.Verifier, in input, want evidence.Binding) (*evidence.Verified, error) {
	var best error
	for _, items := range in.candidates {
		ev := evidence.Evidence{Format: in.tee.format, Raw: in.raw, Items: items}
		got, err := v.Verify(ctx, ev, want)
		if err == nil {
			return got, nil
		}
		if best == nil || reached(in.tee.checks, err) > reached(in.tee.checks, best) {
			best = err
		}
	}
	return nil, best
}

// reached returns the place among checks of the one that failed, or -1.
func reached(checks []evidence.Check, err error) int {
	var e *evidence.Error
	if !errors.As(err, &e) {
		return -1
	}
	return slices.IndexFunc(checks, func(c evidence.Check) bool { return c.Name == e.Check })
}
