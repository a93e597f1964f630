// Package faketee is a TEE made of nothing, for tests of what uses evidence and
// not of evidence itself. Its "signature" is a digest that anybody can make.
package faketee

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/teebroker/teebroker/evidence"
)

// Format is that of SNP reports, since v1 binds none that does not exist.
const Format evidence.Format = "snp-report"

// Root returns the [evidence.Verified.Root] of what a [Verifier] verifies.
func Root() [32]byte { return [32]byte{'r', 'o', 'o', 't'} }

// Guest is what a fake platform says of a guest. The zero Guest has claims of
// its own for launch and chip.
type Guest struct {
	Format      evidence.Format // if empty, Format
	Measurement string
	HostData    []byte
	Chip        []byte              // if nil, Chip()
	Layers      []evidence.Evidence // that the evidence rests on
}

// Chip returns the id of the platform of a Guest that names none.
func Chip() []byte { return []byte("chip one") }

// report is the wire form of fake evidence.
type report struct {
	Measurement    string
	HostData, Chip []byte
	Data           []byte
	MAC            []byte
}

func (r report) mac() []byte {
	r.MAC = nil
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // of strings and bytes
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

// Evidence returns "signed" evidence of g for data.
func (g Guest) Evidence(data evidence.Binding) evidence.Evidence {
	if g.Chip == nil {
		g.Chip = Chip()
	}
	if g.Format == "" {
		g.Format = Format
	}
	r := report{Measurement: g.Measurement, HostData: g.HostData, Chip: g.Chip, Data: data.Bytes()}
	r.MAC = r.mac()
	raw, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return evidence.Evidence{Format: g.Format, Raw: raw, Layers: g.Layers}
}

// Tamper returns ev with other report data and the old signature.
func Tamper(ev evidence.Evidence, data evidence.Binding) evidence.Evidence {
	var r report
	if err := json.Unmarshal(ev.Raw, &r); err != nil {
		panic(err)
	}
	r.Data = data.Bytes()
	raw, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	ev.Raw = raw
	return ev
}

// Verifier verifies the evidence of every Guest. It takes the Binding of a layer
// from the layer itself.
type Verifier struct {
	NotAfter time.Time                  // of every result
	Edit     func(v *evidence.Verified) // if not nil, changes results, to be wrong
}

// Verify implements [evidence.Verifier].
func (f Verifier) Verify(ctx context.Context, ev evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	var r report
	if err := json.Unmarshal(ev.Raw, &r); err != nil {
		return nil, &evidence.Error{Format: ev.Format, Reason: evidence.Malformed, Err: err}
	}
	if !want.MatchExact(r.Data) {
		return nil, &evidence.Error{Format: ev.Format, Reason: evidence.NotBound, Check: evidence.BindingCheck}
	}
	if !bytes.Equal(r.MAC, r.mac()) {
		return nil, &evidence.Error{Format: ev.Format, Reason: evidence.BadSignature}
	}
	v := &evidence.Verified{
		Format: ev.Format, Bound: true, Signed: r.Data, Root: Root(), NotAfter: f.NotAfter,
		Claims: claims{
			"snp.measurement": evidence.Text(r.Measurement),
			"snp.host_data":   evidence.Bytes(r.HostData),
			"snp.chip":        evidence.Bytes(r.Chip),
		},
	}
	for i, l := range ev.Layers {
		binding, err := evidence.NewBinding([]byte{byte(i + 1)})
		if err != nil {
			return nil, err
		}
		below, err := f.Verify(ctx, l, binding)
		if err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
		v.Layers = append(v.Layers, below)
	}
	if f.Edit != nil {
		f.Edit(v)
	}
	return v, nil
}

type claims map[string]evidence.Value

// All implements [evidence.Claims].
func (c claims) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) {
		for _, name := range slices.Sorted(maps.Keys(c)) {
			if !yield(name, c[name]) {
				return
			}
		}
	}
}
