package snp_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/vectors"
	"github.com/teebroker/teebroker/snp"
)

// files is a Source of what a test names.
type files map[string][]evidence.Collateral

func (f files) Get(_ context.Context, name string) ([]evidence.Collateral, error) {
	if c := f[name]; c != nil {
		return c, nil
	}
	return nil, evidence.ErrNotFound
}

// inside returns a time at which the certificate of g is valid.
func (g genuine) inside() time.Time { return g.NotBefore.AddDate(0, 6, 0) }

// verifier returns a Verifier with AMD's anchors at the time of g, without
// revocation: no genuine list is at hand.
func (g genuine) verifier(t testing.TB, edit func(*snp.Config)) *snp.Verifier {
	t.Helper()
	cfg := snp.Config{Anchors: snp.AMD(), Source: files{}, Time: g.inside, SkipRevocationUnsafe: true}
	if edit != nil {
		edit(&cfg)
	}
	return newVerifier(t, cfg)
}

func newVerifier(t testing.TB, cfg snp.Config) *snp.Verifier {
	t.Helper()
	v, err := snp.NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// evidence returns the report of g with its VEK.
func (g genuine) evidence(t testing.TB) evidence.Evidence {
	return evidence.Evidence{Format: snp.Format, Raw: g.report(t), Items: []evidence.Item{{Type: snp.VEK, Data: g.vek(t)}}}
}

// bound returns the Binding that REPORT_DATA of raw is.
func bound(t testing.TB, raw []byte) evidence.Binding {
	t.Helper()
	b, err := evidence.NewBinding(raw[0x050:0x090])
	if err != nil {
		return evidence.UncheckedBindingUnsafe() // some guests asked for nothing to be signed
	}
	return b
}

// wantRefused fails t unless err is a refusal for reason by check.
func wantRefused(t testing.TB, got *evidence.Verified, err error, reason evidence.Reason, check string) *evidence.Error {
	t.Helper()
	var e *evidence.Error
	switch {
	case got != nil:
		t.Fatal("accepted")
	case !errors.As(err, &e):
		t.Fatalf("got %v, want %s", err, reason)
	case e.Reason != reason || e.Check != check:
		t.Errorf("got %s of check %s, want %s of %s: %v", e.Reason, e.Check, reason, check, err)
	case e.Format != snp.Format || e.Field == "" || !hasCheck(e.Check):
		t.Errorf("error without format, field or check: %#v", e)
	}
	documented(t, e.Check, e.Reason)
	return e
}

func TestVerifyGenuineReports(t *testing.T) {
	for _, g := range genuineReports(t) {
		t.Run(g.Name, func(t *testing.T) {
			ev := g.evidence(t)
			got, err := g.verifier(t, nil).Verify(t.Context(), ev, bound(t, ev.Raw))
			if err != nil {
				t.Fatal(err)
			}
			c, ok := snp.ClaimsOf(got)
			if !ok {
				t.Fatal("no claims")
			}
			if c.Line.String() != g.Product || c.Key.String() != g.Signer || c.ReportedTCB() != tcbOf(t, g) || c.Version() != g.ReportVersion {
				t.Errorf("%v %v %v version %d", c.Line, c.Key, c.ReportedTCB(), c.Version())
			}
			if c.Key == snp.VCEK && c.Chip != c.ChipID() || c.Key == snp.VLEK && (c.Chip != snp.ChipID{} || c.CSP != "CN=cc-us-east-2.amazonaws.com") {
				t.Errorf("chip %x, CSP %q", c.Chip, c.CSP)
			}
			if got.Format != snp.Format || !bytes.Equal(got.Signed, ev.Raw[0x050:0x090]) || got.Bound != bound(t, ev.Raw).Checked() {
				t.Errorf("format %s, bound %v, signed %x", got.Format, got.Bound, got.Signed)
			}
			if !got.CheckedAt.Equal(g.inside()) || !got.NotAfter.Equal(g.NotAfter) {
				t.Errorf("checked at %v, holds until %v", got.CheckedAt, got.NotAfter)
			}
			if len(got.Skipped) != 1 || got.Skipped[0] != "revocation" || got.Layers != nil {
				t.Errorf("skipped %v, layers %v", got.Skipped, got.Layers)
			}
		})
	}
}

// A VEK is found wherever it is, in whatever form.
func TestVerifyFindsTheVEK(t *testing.T) {
	for _, g := range genuineReports(t) {
		der := g.vek(t)
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		guid := vcekGUID
		if g.Signer == "VLEK" {
			guid = vlekGUID
		}
		r, err := snp.ParseReport(g.report(t))
		if err != nil {
			t.Fatal(err)
		}
		name := snp.VCEKName(r.ChipID(), tcbOf(t, g))
		if g.Signer == "VLEK" {
			name = snp.VLEKName(tcbOf(t, g))
		}
		has := files{name: {{Data: []byte("garbage")}, {Data: der}}}
		for _, c := range []struct {
			from   string
			items  []evidence.Item
			source files
		}{
			{"an Item in PEM", []evidence.Item{{Type: snp.VEK, Data: text}}, nil},
			{"a table in DER", []evidence.Item{{Type: snp.CertTable, Data: certTable(entry{guid, der})}}, nil},
			{"a table in PEM", []evidence.Item{{Type: snp.CertTable, Data: certTable(entry{guid, text})}}, nil},
			{"a table under the other name", []evidence.Item{{Type: snp.CertTable, Data: certTable(entry{vcekGUID, der})}}, nil},
			{"a table beside garbage", []evidence.Item{{Type: snp.VEK, Data: []byte{0x30}}, {Type: snp.CertTable, Data: certTable(entry{guid, der})}}, nil},
			{"the Source", nil, has},
			{"the Source beside an empty table", []evidence.Item{{Type: snp.CertTable}}, has},
			{"the Source beside garbage", []evidence.Item{{Type: snp.VEK, Data: []byte{0x30}}}, has},
		} {
			t.Run(g.Name+" from "+c.from, func(t *testing.T) {
				v := g.verifier(t, func(cfg *snp.Config) { cfg.Source = c.source })
				if _, err := v.Verify(t.Context(), evidence.Evidence{Format: snp.Format, Raw: g.report(t), Items: c.items}, bound(t, g.report(t))); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestVerifyAuxblob(t *testing.T) {
	g := genuineReport(t, "veraison-tsm-vcek")
	ev := evidence.Evidence{Format: snp.Format, Raw: g.report(t), Items: []evidence.Item{{Type: snp.CertTable, Data: vectors.Read(t, "snp/veraison-tsm-vcek.auxblob.bin")}}}
	if _, err := g.verifier(t, nil).Verify(t.Context(), ev, bound(t, ev.Raw)); err != nil {
		t.Error(err)
	}
}

func TestVerifyRefusesGenuineReports(t *testing.T) {
	all := genuineReports(t)
	for i, g := range all {
		other := all[(i+1)%len(all)]
		wrong, err := evidence.NewBinding([]byte("another"))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			claim  string
			cfg    func(*snp.Config)
			edit   func(*evidence.Evidence)
			want   evidence.Binding
			reason evidence.Reason
			check  string
		}{
			{"without a CRL", func(c *snp.Config) { c.SkipRevocationUnsafe = false }, nil, bound(t, g.report(t)), evidence.Unavailable, "revocation"},
			{"after expiry", func(c *snp.Config) { c.Time = func() time.Time { return g.NotAfter.Add(time.Second) } }, nil, bound(t, g.report(t)), evidence.Stale, "validity"},
			{"before validity", func(c *snp.Config) { c.Time = func() time.Time { return g.NotBefore.Add(-time.Second) } }, nil, bound(t, g.report(t)), evidence.Stale, "validity"},
			{"with another Binding", nil, nil, wrong, evidence.NotBound, "binding"},
			{"with no Binding", nil, nil, evidence.Binding{}, evidence.NotBound, "binding"},
			{"without a VEK", nil, func(ev *evidence.Evidence) { ev.Items = nil }, bound(t, g.report(t)), evidence.Unavailable, "endorsement"},
			{"under another format", nil, func(ev *evidence.Evidence) { ev.Format = "tdx-quote" }, bound(t, g.report(t)), evidence.Unsupported, "format"},
			{"with layers", nil, func(ev *evidence.Evidence) { ev.Layers = []evidence.Evidence{{}} }, bound(t, g.report(t)), evidence.Malformed, "format"},
		} {
			t.Run(g.Name+" "+c.claim, func(t *testing.T) {
				ev := g.evidence(t)
				if c.edit != nil {
					c.edit(&ev)
				}
				got, err := g.verifier(t, c.cfg).Verify(t.Context(), ev, c.want)
				wantRefused(t, got, err, c.reason, c.check)
			})
		}
		t.Run(g.Name+" with another certificate", func(t *testing.T) {
			ev := g.evidence(t)
			ev.Items[0].Data = other.vek(t)
			got, err := g.verifier(t, nil).Verify(t.Context(), ev, bound(t, ev.Raw))
			if got != nil || !errors.Is(err, evidence.Untrusted) {
				t.Errorf("got %v, want untrusted", err)
			}
		})
	}
}

func TestVerifyRefusesACertificateThatAMDDidNotSign(t *testing.T) {
	g := genuineReport(t, "trustee-vcek")
	ev := g.evidence(t)
	ev.Items[0].Data = vectors.Read(t, "snp/trustee-vcek-invalid-new.vek.der")
	v := g.verifier(t, func(c *snp.Config) { c.Time = func() time.Time { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) } })
	got, err := v.Verify(t.Context(), ev, bound(t, ev.Raw))
	wantRefused(t, got, err, evidence.Untrusted, "chain")
}

// Every bit of a report counts: none is exempt. One report of each version and
// kind of key is tried bit by bit, of the others a sample.
func TestVerifyRefusesEveryFlippedBit(t *testing.T) {
	whole := map[string]bool{"gosev-milan-v2-vcek": true, "trustee-vlek": true, "oak-turin-oc": true}
	for _, g := range genuineReports(t) {
		t.Run(g.Name, func(t *testing.T) {
			t.Parallel()
			ev := g.evidence(t)
			raw := ev.Raw
			v := g.verifier(t, nil)
			if _, err := v.Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe()); err != nil {
				t.Fatal(err)
			}
			step := 1
			if !whole[g.Name] || testing.Short() {
				step = 61
			}
			for bit := 0; bit < 8*len(raw); bit += step {
				ev.Raw = bytes.Clone(raw)
				ev.Raw[bit/8] ^= 1 << (bit % 8)
				if _, err := v.Verify(t.Context(), ev, evidence.UncheckedBindingUnsafe()); err == nil {
					t.Errorf("bit %d flipped: accepted", bit)
				}
			}
		})
	}
}
