package vtpm_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/snp/snptest"
	"github.com/teebroker/teebroker/tdx"
	"github.com/teebroker/teebroker/tdx/tdxtest"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// world is everything that takes time to make, once.
type world struct {
	amd      *snptest.AMD
	chip     *snptest.Chip
	intel    *tdxtest.Intel
	platform *tdxtest.Platform
	rsa, ecc *vtpmtest.TPM
	verifier evidence.Verifier // of reports and quotes of TEEs
}

var theWorld = sync.OnceValue(func() *world {
	w := &world{amd: snptest.NewAMD(), intel: tdxtest.NewIntel()}
	w.chip = w.amd.Chip(snp.Milan)
	w.platform = w.intel.Platform(tdx.PlatformCA)
	w.rsa, w.ecc = rsaTPM(), eccTPM()
	sv, err := snp.NewVerifier(snp.Config{Anchors: w.amd.Anchors(), Source: w.amd.Source()})
	if err != nil {
		panic(err)
	}
	tv, err := tdx.NewVerifier(tdx.Config{Anchors: w.intel.Anchors(), Source: w.intel.Source()})
	if err != nil {
		panic(err)
	}
	w.verifier = evidence.Verifiers{snp.Format: sv, tdx.Format: tv}
	return w
})

// TPMs take less time than the keys of vendors, which fuzzing does without.
var (
	rsaTPM = sync.OnceValue(func() *vtpmtest.TPM { return vtpmtest.NewTPM(vtpmtest.RSA, nil, nil) })
	eccTPM = sync.OnceValue(func() *vtpmtest.TPM { return vtpmtest.NewTPM(vtpmtest.ECC, nil, nil) })
)

// said is a platform verifier that has verified everything before, at VMPL 0: what
// is measured, or fuzzed, is what vtpm does.
type said struct{}

func (said) Verify(_ context.Context, ev evidence.Evidence, _ evidence.Binding) (*evidence.Verified, error) {
	return &evidence.Verified{Format: ev.Format, Bound: true, Claims: privileged{}, Root: [32]byte{1}}, nil
}

type privileged struct{}

func (privileged) All() iter.Seq2[string, evidence.Value] {
	return func(yield func(string, evidence.Value) bool) { yield("snp.vmpl", evidence.Uint(0)) }
}

// linked is an AKs that says yes.
type linked struct{}

func (linked) Activated(context.Context, vtpm.Name, vtpm.Name) (bool, error) { return true, nil }

// believing returns a Verifier that believes in whatever is below and linked.
func believing(t testing.TB) *vtpm.Verifier {
	t.Helper()
	v, err := vtpm.NewVerifier(vtpm.Config{Platform: said{}, AKs: linked{}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// baseless is a quote of d with a report that only said takes for one.
func baseless(d vtpmtest.Device, want evidence.Binding, more ...evidence.Item) evidence.Evidence {
	raw, pcrs := d.Quote(vtpmtest.Quote{}, want)
	return evidence.Evidence{
		Format: vtpm.Format, Raw: raw, Layers: []evidence.Evidence{{Format: snp.Format}},
		Items: append([]evidence.Item{
			{Type: vtpm.PCRs, Data: pcrs},
			{Type: vtpm.AK, Data: d.AK()},
			{Type: vtpm.SVSMNonce, Data: make([]byte, vtpm.SVSMNonceSize)},
			{Type: vtpm.SVSMManifest, Data: vtpmtest.VTPM(d).Manifest},
		}, more...),
	}
}

// svsm returns a guest with an SVSM, whose TPM is d.
func (w *world) svsm(d vtpmtest.Device) vtpmtest.SVSM {
	return vtpmtest.SVSM{Chip: w.chip, TPM: d, Nonce: [64]byte{1, 2, 3}}
}

// azure returns a guest of Azure on SEV-SNP.
func (w *world) azure() vtpmtest.Azure {
	return vtpmtest.Azure{TPM: w.rsa, Report: func(data evidence.Binding) evidence.Evidence { return w.chip.Report(snptest.Guest{}, data) }}
}

// azureTDX returns a guest of Azure on TDX.
func (w *world) azureTDX() vtpmtest.Azure {
	return vtpmtest.Azure{TPM: w.rsa, TDX: true, Report: func(data evidence.Binding) evidence.Evidence { return w.platform.Quote(tdxtest.TD{}, data) }}
}

// newVerifier returns a Verifier for which EK and AK of ds are linked.
func (w *world) newVerifier(t testing.TB, ds ...vtpmtest.Device) *vtpm.Verifier {
	t.Helper()
	v, err := vtpm.NewVerifier(vtpm.Config{Platform: w.verifier, AKs: vtpmtest.AKs(ds)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func bindingOf(t testing.TB, b []byte) evidence.Binding {
	t.Helper()
	want, err := evidence.NewBinding(b)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// sixtyFour returns a Binding of 64 bytes.
func sixtyFour(t testing.TB) evidence.Binding {
	b := make([]byte, 64)
	for i := range b {
		b[i] = byte(i + 1)
	}
	return bindingOf(t, b)
}

// claimsOf fails t unless ev verifies.
func claimsOf(t testing.TB, v evidence.Verifier, ev evidence.Evidence, want evidence.Binding) (*vtpm.Claims, *evidence.Verified) {
	t.Helper()
	got, err := v.Verify(t.Context(), ev, want)
	if err != nil {
		t.Fatal(err)
	}
	c, ok := vtpm.ClaimsOf(got)
	if !ok {
		t.Fatal("no claims")
	}
	return c, got
}

// refused fails t unless ev is refused by check for reason, as docs/reasons.md has it.
func refused(t testing.TB, v evidence.Verifier, ev evidence.Evidence, want evidence.Binding, check string, reason evidence.Reason) {
	t.Helper()
	got, err := v.Verify(context.Background(), ev, want)
	refusal(t, got != nil, err, check, reason)
}

func refusal(t testing.TB, got bool, err error, check string, reason evidence.Reason) {
	t.Helper()
	var e *evidence.Error
	switch {
	case got || err == nil:
		t.Errorf("accepted, want %s: %s", check, reason)
	case !errors.As(err, &e) || e.Format != vtpm.Format || e.Check != check || e.Reason != reason:
		t.Errorf("got %v (check %q), want %s: %s", err, e.Check, check, reason)
	}
	if given, _ := reasons(); !strings.Contains(given[check], "`"+string(reason)+"`") {
		t.Errorf("docs/reasons.md has %q for check %q, which gave %q", given[check], check, reason)
	}
}

// item returns what came along as kind.
func item(ev evidence.Evidence, kind string) []byte {
	for _, i := range ev.Items {
		if i.Type == kind {
			return i.Data
		}
	}
	return nil
}

// with returns ev with data as its item kind.
func with(ev evidence.Evidence, kind string, data []byte) evidence.Evidence {
	ev.Items = slices.DeleteFunc(slices.Clone(ev.Items), func(i evidence.Item) bool { return i.Type == kind })
	ev.Items = append(ev.Items, evidence.Item{Type: kind, Data: data})
	return ev
}

// without returns ev without its item kind.
func without(ev evidence.Evidence, kind string) evidence.Evidence {
	ev.Items = slices.DeleteFunc(slices.Clone(ev.Items), func(i evidence.Item) bool { return i.Type == kind })
	return ev
}
