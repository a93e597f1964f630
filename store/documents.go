package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/teebroker/teebroker/internal/lru"
	"github.com/teebroker/teebroker/policy"
)

// maxParsed is how many documents a Documents remembers. One has up to
// policy.MaxDocument bytes.
const maxParsed = 256

// Documents parses policy documents, each once while it is in use. It is safe
// for concurrent use.
type Documents struct {
	decoders policy.Decoders
	parsed   *lru.Cache[[32]byte, *policy.Policy]
}

// NewDocuments returns a Documents for the formats of d, which is not modified
// afterwards.
func NewDocuments(d policy.Decoders) *Documents {
	return &Documents{d, lru.New[[32]byte, *policy.Policy](maxParsed)}
}

// Parse returns the Policy that document is, which is shared and not modified.
// An error of [policy.Parse] wraps [Invalid].
func (d *Documents) Parse(document []byte) (*policy.Policy, error) {
	digest := sha256.Sum256(document)
	if p, ok := d.parsed.Get(digest); ok {
		return p, nil
	}
	p, err := policy.Parse(document, d.decoders)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", Invalid, err)
	}
	d.parsed.Put(digest, p)
	return p, nil
}

// scopes is the order of what a registration names.
var scopes = [...]policy.Scope{policy.Global, policy.Image, policy.Instance}

// CheckScopes returns an error that wraps [Invalid] unless ps are widest first
// and the first one is complete: otherwise they would accept nothing.
func CheckScopes(ps []*policy.Policy) error {
	last := 0
	for _, p := range ps {
		at := slices.Index(scopes[:], p.Scope)
		if at < last {
			return fmt.Errorf("%w: policies are not widest first: %v is of scope %s", Invalid, p, p.Scope)
		}
		last = at
	}
	if len(ps) == 0 || ps[0].Scope != policy.Global {
		return fmt.Errorf("%w: %w", Invalid, errors.New("no policy of scope global"))
	}
	return nil
}
