package main

import (
	"encoding/binary"
	"iter"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
)

// tee is what the tool knows of one format.
type tee struct {
	name   string // as flags and results call it
	title  string
	format evidence.Format
	checks []evidence.Check

	// looksLike reports whether raw may be meant to be of this format.
	looksLike func(raw []byte) bool

	// verifier returns a Verifier at one instant.
	verifier func(trust) (evidence.Verifier, error)

	// hearsay yields what evidence says that nothing vouches for.
	hearsay func(raw []byte) (iter.Seq2[string, evidence.Value], error)
}

// trust is what a verifier relies on, and Items that need not be relied on.
type trust struct {
	anchors        []anchor // nil: the vendor's
	source         evidence.Source
	items          []evidence.Item
	now            time.Time
	skipRevocation bool
}

// tees returns every format there is.
func tees() []tee {
	return []tee{{
		name: "snp", title: "AMD SEV-SNP report", format: snp.Format, checks: snp.Checks(),
		looksLike: looksLikeSNP, verifier: snpVerifier, hearsay: snpHearsay,
	}}
}

// looksLikeSNP goes by the version, a small little-endian number of four bytes
// with which no other format starts. Whether it is well formed is for the
// Verifier to say.
func looksLikeSNP(raw []byte) bool {
	if len(raw) < 4 {
		return false
	}
	version := binary.LittleEndian.Uint32(raw)
	return version > 0 && version < 256
}

func snpVerifier(t trust) (evidence.Verifier, error) {
	anchors := snp.AMD()
	if t.anchors != nil {
		var err error
		if anchors, err = snpAnchors(t.anchors); err != nil {
			return nil, err
		}
	}
	return snp.NewVerifier(snp.Config{
		Anchors:              anchors,
		Source:               t.source,
		Time:                 func() time.Time { return t.now },
		SkipRevocationUnsafe: t.skipRevocation,
	})
}

func snpHearsay(raw []byte) (iter.Seq2[string, evidence.Value], error) {
	r, err := snp.ParseReport(raw)
	if err != nil {
		return nil, err
	}
	return r.All(), nil
}
