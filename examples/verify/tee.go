package main

import (
	"iter"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// tee is what the tool knows of one format.
type tee struct {
	name   string // as flags and results call it
	title  string
	format evidence.Format
	checks []evidence.Check

	// looksLike reports whether raw may be meant to be of this format.
	looksLike func(raw []byte) bool

	// collect adds to what is trusted, or comes along, what f is good for. A file
	// of a folder that is good for nothing is passed over.
	collect func(t *trust, f endorsement) error

	// verifier returns a Verifier at one instant, for raw.
	verifier func(t trust, raw []byte) (evidence.Verifier, error)

	// hearsay yields what evidence says that nothing vouches for.
	hearsay func(raw []byte) (iter.Seq2[string, evidence.Value], error)

	// also, unless nil, yields what genuine evidence says beside the claims of its
	// result.
	also func(raw []byte) (iter.Seq2[string, evidence.Value], error)
}

// trust is what a verifier relies on, and Items that need not be relied on.
type trust struct {
	anchors        []anchor // nil: the vendor's
	source         evidence.Source
	items          []evidence.Item
	now            time.Time
	skipRevocation bool
	skipTCB        bool // of TDX
	cca            ccaTrust
}

// tees returns every format there is. A file is of the first that it looks like:
// a report of SEV-SNP may have any number where a quote has its TEE type, but no
// quote starts as a report does, and neither of them as a token of CCA or a blob of
// Azure.
func tees() []tee { return []tee{vtpmTEE(), snpTEE(), ccaTEE(), tdxTEE()} }
