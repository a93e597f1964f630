package vtpm_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/snp"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// answer is a platform verifier that answers the same whatever it is asked.
type answer struct {
	got *evidence.Verified
	err error
}

func (a answer) Verify(context.Context, evidence.Evidence, evidence.Binding) (*evidence.Verified, error) {
	return a.got, a.err
}

// claimless are claims without any.
type claimless struct{}

func (claimless) All() iter.Seq2[string, evidence.Value] {
	return func(func(string, evidence.Value) bool) {}
}

// What a platform verifier answers is believed only if it is an answer.
func TestPlatformAnswers(t *testing.T) {
	want := sixtyFour(t)
	ev := baseless(eccTPM(), want)
	verified := func(edit func(*evidence.Verified)) answer {
		v := &evidence.Verified{Format: snp.Format, Bound: true, Claims: privileged{}, Root: [32]byte{1}}
		edit(v)
		return answer{got: v}
	}
	for name, tt := range map[string]struct {
		answer
		check  string
		reason evidence.Reason
	}{
		"nothing":          {answer{}, "platform", evidence.Unsupported},
		"another format":   {verified(func(v *evidence.Verified) { v.Format = "tdx-quote" }), "platform", evidence.Unsupported},
		"not bound":        {verified(func(v *evidence.Verified) { v.Bound = false }), "platform", evidence.Unsupported},
		"no claims":        {verified(func(v *evidence.Verified) { v.Claims = nil }), "platform", evidence.Unsupported},
		"no VMPL":          {verified(func(v *evidence.Verified) { v.Claims = claimless{} }), "vmpl", evidence.Untrusted},
		"an error":         {answer{err: errors.New("out of reach")}, "platform", evidence.Unavailable},
		"revoked":          {answer{err: fmt.Errorf("x: %w", &evidence.Error{Format: snp.Format, Reason: evidence.Revoked})}, "platform", evidence.Revoked},
		"an error and not": {answer{got: &evidence.Verified{}, err: evidence.Stale}, "platform", evidence.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := vtpm.NewVerifier(vtpm.Config{Platform: tt.answer, AKs: linked{}})
			if err != nil {
				t.Fatal(err)
			}
			refused(t, v, ev, want, tt.check, tt.reason)
		})
	}
	claimsOf(t, believing(t), ev, want)
	if v, err := vtpm.NewVerifier(vtpm.Config{}); err == nil || v != nil {
		t.Error("a Verifier that asks nobody")
	}
}

// What the report below may be of is given to whoever verifies it: nothing passes
// because nobody was asked for it.
type asked struct{ want *evidence.Binding }

func (a asked) Verify(_ context.Context, _ evidence.Evidence, want evidence.Binding) (*evidence.Verified, error) {
	*a.want = want
	return nil, evidence.NotBound
}

func TestPlatformIsAskedForTheManifest(t *testing.T) {
	var got evidence.Binding
	v, err := vtpm.NewVerifier(vtpm.Config{Platform: asked{&got}, AKs: linked{}})
	if err != nil {
		t.Fatal(err)
	}
	want := vtpm.SVSMReportData([64]byte{}, vtpmtest.VTPM(eccTPM()).Manifest)
	for _, b := range []evidence.Binding{sixtyFour(t), evidence.UncheckedBindingUnsafe()} {
		got = evidence.Binding{}
		if _, err := v.Verify(t.Context(), baseless(eccTPM(), sixtyFour(t)), b); err == nil {
			t.Error("accepted")
		}
		if !got.MatchPadded(&want) || !got.Checked() {
			t.Errorf("asked for %x", got.Bytes())
		}
	}
}

// Only the guest that got a secret can extend this; a receipt names the value that
// the PCR then has, and a quote of another start has another one.
func ExampleClaims_PCR() {
	const reserved = 16
	quoted := func(d [32]byte) *vtpm.Claims {
		tpm := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
		tpm.ExtendDigest(vtpm.SHA256, reserved, d[:])
		v, err := vtpm.NewVerifier(vtpm.Config{Platform: said{}, AKs: linked{}})
		if err != nil {
			panic(err)
		}
		ev := baseless(tpm, evidence.Binding{})
		ev.Raw, ev.Items[0].Data = tpm.Quote(vtpmtest.Quote{Selection: []vtpm.BankSelection{{Bank: vtpm.SHA256, PCRs: []int{reserved}}}}, evidence.Binding{})
		got, err := v.Verify(context.Background(), ev, evidence.UncheckedBindingUnsafe())
		if err != nil {
			panic(err)
		}
		c, _ := vtpm.ClaimsOf(got)
		return c
	}
	first, second := sha256.Sum256([]byte("made with the confirm key")), sha256.Sum256([]byte("of another release"))
	receipt := sha256.Sum256(append(make([]byte, 32), first[:]...))

	for _, d := range [][32]byte{first, second} {
		value, ok := quoted(d).PCR(vtpm.PCR{Bank: vtpm.SHA256, Index: reserved})
		fmt.Println(ok, value == vtpm.Octets(receipt[:]))
	}
	// Output:
	// true true
	// true false
}
