package tdx_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/tdx"
)

func newVerifier(t testing.TB, cfg tdx.Config) *tdx.Verifier {
	t.Helper()
	v, err := tdx.NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func fmspcOf(t testing.TB, text string) tdx.FMSPC {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 6 {
		t.Fatalf("FMSPC %s: %v", text, err)
	}
	return tdx.FMSPC(b)
}

// bound returns the Binding that REPORTDATA of raw is.
func bound(t testing.TB, raw []byte) evidence.Binding {
	t.Helper()
	q, err := tdx.ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	data := q.ReportData()
	b, err := evidence.NewBinding(data[:])
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
		t.Error("a result comes with the error")
	case !errors.As(err, &e):
		t.Fatalf("got %v, want %s", err, reason)
	case e.Reason != reason || e.Check != check:
		t.Errorf("got %s of check %s, want %s of %s: %v", e.Reason, e.Check, reason, check, err)
	case e.Format != tdx.Format || e.Field == "":
		t.Errorf("error without format or field: %#v", e)
	}
	return e
}

func at(now time.Time) func() time.Time { return func() time.Time { return now } }

// spelled returns a status of the manifest as a Status.
func spelled(s string) tdx.Status {
	switch s {
	case "NoMatch", "NoIdentity":
		return tdx.NotSupported
	case "n/a":
		return tdx.UpToDate
	}
	return tdx.Status(s)
}

func TestVerifyGenuineQuotes(t *testing.T) {
	complete, incomplete := 0, 0
	for _, g := range genuineQuotes(t) {
		for _, c := range g.Collateral {
			if !hasSet(t, c.Set) {
				continue
			}
			t.Run(g.Name+" with "+c.Set, func(t *testing.T) {
				raw, now := g.raw(t), c.UseTime
				if now.IsZero() { // there is none at which all of the set is valid
					now = certificatesOf(t, raw[bytes.Index(raw, []byte("-----BEGIN")):])[0].NotBefore
				}
				v := newVerifier(t, tdx.Config{Anchors: tdx.Intel(), Source: genuineSet(t, c.Set, fmspcOf(t, g.FMSPC)), Time: at(now)})
				got, err := v.Verify(t.Context(), evidence.Evidence{Format: tdx.Format, Raw: raw}, bound(t, raw))
				if !c.Complete {
					incomplete++
					wantRefused(t, got, err, evidence.Unavailable, "revocation")
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				complete++
				checkGenuine(t, g, c, got)
			})
		}
	}
	if complete < 8 || incomplete < 2 {
		t.Errorf("only %d quotes with complete sets, %d with incomplete ones", complete, incomplete)
	}
}

func checkGenuine(t *testing.T, g genuine, c expectations, got *evidence.Verified) {
	t.Helper()
	claims, ok := tdx.ClaimsOf(got)
	if !ok {
		t.Fatal("no claims")
	}
	tcb, want := claims.TCB, c.Expected
	for _, s := range []struct {
		part string
		got  tdx.Status
		want string
	}{
		{"platform", tcb.Platform.Status, want.Platform},
		{"module", tcb.Module.Status, want.Module},
		{"QE", tcb.QE.Status, want.QE},
		{"all", tcb.Status, want.Final},
	} {
		if s.got != spelled(s.want) {
			t.Errorf("%s is %s, want %s", s.part, s.got, s.want)
		}
	}
	if want.Date == nil != tcb.Platform.Date.IsZero() || want.Date != nil && !want.Date.Equal(tcb.Platform.Date) {
		t.Errorf("platform of %v, want %v", tcb.Platform.Date, want.Date)
	}
	if len(tcb.Advisories()) != len(want.Advisories) {
		t.Errorf("advisories %v, want %v", tcb.Advisories(), want.Advisories)
	}
	if claims.PCK.FMSPC.String() != g.FMSPC || claims.PCK.Components != g.PCKSVN || claims.PCK.PCESVN != g.PCESVN || claims.QE.ISVSVN != g.QESVN {
		t.Errorf("PCK %+v, QE %+v", claims.PCK, claims.QE)
	}
	data := claims.ReportData()
	if got.Format != tdx.Format || !bytes.Equal(got.Signed, data[:]) || got.Bound != bound(t, g.raw(t)).Checked() {
		t.Errorf("format %s, bound %v, signed %x", got.Format, got.Bound, got.Signed)
	}
	if !got.CheckedAt.Equal(c.UseTime) || !got.NotAfter.Equal(c.Until) {
		t.Errorf("checked at %v, holds until %v, want %v", got.CheckedAt, got.NotAfter, c.Until)
	}
	if got.Skipped != nil || got.Layers != nil || claims.CollateralAge != 0 {
		t.Errorf("skipped %v, layers %v, age %v", got.Skipped, got.Layers, claims.CollateralAge)
	}
}
