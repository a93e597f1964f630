package kbs

import (
	"context"
	"crypto/sha256"
	"iter"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/policy"
)

// The Formats of what attesters without a TEE send. Anybody can make it.
const (
	SampleFormat       evidence.Format = "sample"
	SampleDeviceFormat evidence.Format = "sampledevice"
)

// SampleRoot is the Root of sample evidence: SHA-256("teebroker/kbs/sample"). A
// Broker must have it among its SimulatedRoots, so that receipts say what they
// rest on and no other state ever releases for it.
func SampleRoot() [32]byte { return sha256.Sum256([]byte("teebroker/kbs/sample")) }

// Sample is the [evidence.Verifier] of sample evidence: it compares the binding,
// and that is all that there is to verify. It has one claim, "sample.svn", the
// bytes of what the evidence calls its version.
type Sample struct {
	Time func() time.Time // if nil, time.Now
}

// sampleLife is how long a result for sample evidence is used.
const sampleLife = time.Hour

// Verify implements [evidence.Verifier].
func (s Sample) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	fail := func(reason evidence.Reason, check string, err error) (*evidence.Verified, error) {
		return nil, &evidence.Error{Format: ev.Format, Reason: reason, Check: check, Err: err}
	}
	if ev.Format != SampleFormat && ev.Format != SampleDeviceFormat {
		return fail(evidence.Unsupported, "format", nil)
	}
	var body struct {
		SVN        string `json:"svn"`
		ReportData string `json:"report_data"`
	}
	if len(ev.Raw) > 4<<10 || len(ev.Items) > 0 || len(ev.Layers) > 0 {
		return fail(evidence.Malformed, "size", nil)
	}
	if err := strictjson.Unmarshal(ev.Raw, &body); err != nil {
		return fail(evidence.Malformed, "shape", err)
	}
	signed, err := standard(body.ReportData)
	if err != nil {
		return fail(evidence.Malformed, "shape", err)
	}
	if !want.MatchExact(signed) {
		return fail(evidence.NotBound, evidence.BindingCheck, nil)
	}
	now := time.Now
	if s.Time != nil {
		now = s.Time
	}
	return &evidence.Verified{
		Format: ev.Format, Claims: sampleClaims(body.SVN), Bound: want.Checked(), Signed: signed,
		Root: SampleRoot(), CheckedAt: now(), NotAfter: now().Add(sampleLife),
	}, nil
}

type sampleClaims string

// All implements [evidence.Claims].
func (c sampleClaims) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		yield("sample.svn", evidence.Bytes([]byte(c)))
	}
}

// DecodeSampleRule decodes {"svns": ["1", …]} of a policy document, which accepts
// evidence of one of these versions and no other.
func DecodeSampleRule(object []byte, partial bool) (policy.Rule, error) {
	var doc struct {
		SVNs []string `json:"svns"`
	}
	if err := strictjson.Unmarshal(object, &doc); err != nil {
		return nil, err
	}
	var values []evidence.Value
	for _, s := range doc.SVNs {
		values = append(values, evidence.Bytes([]byte(s)))
	}
	return policy.Claim{Name: "sample.svn", Op: evidence.In, Want: evidence.List(values...)}, nil
}
