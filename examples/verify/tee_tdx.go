package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
)

func tdxTEE() tee {
	return tee{
		name: "tdx", title: "Intel TDX quote", format: tdx.Format, checks: tdx.Checks(),
		looksLike: looksLikeTDX, collect: collectTDX, verifier: tdxVerifier, hearsay: tdxHearsay,
	}
}

// looksLikeTDX goes by the TEE type of the quote header, whatever its version.
// Whether it is well formed is for the Verifier to say.
func looksLikeTDX(raw []byte) bool {
	const teeType, ofTDX = 4, 0x81
	return len(raw) >= teeType+4 && binary.LittleEndian.Uint32(raw[teeType:]) == ofTDX
}

// collectTDX takes event logs as Items. Collateral is the Source's.
func collectTDX(t *trust, f endorsement) error {
	kind := logKind(f.data)
	if kind == "" {
		return nil
	}
	item := evidence.Item{Type: kind, Data: f.data}
	for _, i := range t.items {
		switch {
		case i.Type != kind:
		case bytes.Equal(i.Data, f.data):
			return nil
		default:
			return fmt.Errorf("%s: a second event log of its kind (%s): name the one that goes with the quote", f.path, kind)
		}
	}
	t.items = append(t.items, item)
	return nil
}

// logKind returns the type of Item that file is meant to be, or "". Whether it is
// well formed is for the Verifier to say.
func logKind(file []byte) string {
	const signatureAt = 32 // in the first event: index, type, digest, size
	if len(file) > signatureAt && bytes.HasPrefix(file[signatureAt:], []byte("Spec ID Event03\x00")) {
		return tdx.CCEL
	}
	var events []struct {
		IMR json.RawMessage `json:"imr"`
	}
	if err := json.Unmarshal(file, &events); err == nil && len(events) > 0 && events[0].IMR != nil {
		return tdx.RuntimeLog
	}
	return ""
}

func tdxVerifier(t trust, _ []byte) (evidence.Verifier, error) {
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

// ofIntel reports whether a certificate is called as those of Intel are.
func ofIntel(name string) bool { return strings.HasPrefix(name, "Intel SGX ") }

func tdxHearsay(raw []byte) (iter.Seq2[string, evidence.Value], error) {
	q, err := tdx.ParseQuote(raw)
	if err != nil {
		return nil, err
	}
	return q.All(), nil
}
