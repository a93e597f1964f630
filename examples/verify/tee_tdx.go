package main

import (
	"encoding/binary"
	"errors"
	"iter"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
)

func tdxTEE() tee {
	return tee{
		name: "tdx", title: "Intel TDX quote", format: tdx.Format, checks: tdx.Checks(),
		looksLike: looksLikeTDX, verifier: tdxVerifier, hearsay: tdxHearsay,
	}
}

// looksLikeTDX goes by the TEE type of the quote header, whatever its version.
// Whether it is well formed is for the Verifier to say.
func looksLikeTDX(raw []byte) bool {
	const teeType, ofTDX = 4, 0x81
	return len(raw) >= teeType+4 && binary.LittleEndian.Uint32(raw[teeType:]) == ofTDX
}

func tdxVerifier(t trust) (evidence.Verifier, error) {
	anchors := tdx.Intel()
	if t.anchors != nil {
		var err error
		if anchors, err = tdxAnchors(t.anchors); err != nil {
			return nil, err
		}
	}
	return tdx.NewVerifier(tdx.Config{
		Anchors:              anchors,
		Source:               t.source,
		Time:                 func() time.Time { return t.now },
		SkipRevocationUnsafe: t.skipRevocation,
		SkipTCBUnsafe:        t.skipTCB,
	})
}

// tdxAnchors returns the one of anchors that is Intel's by name.
func tdxAnchors(anchors []anchor) ([][]byte, error) {
	root, err := only(anchors, "Intel SGX Root CA")
	if err == nil && root == nil {
		err = errors.New("-roots: no root CA of Intel")
	}
	return [][]byte{root}, err
}

func tdxHearsay(raw []byte) (iter.Seq2[string, evidence.Value], error) {
	q, err := tdx.ParseQuote(raw)
	if err != nil {
		return nil, err
	}
	return q.All(), nil
}
