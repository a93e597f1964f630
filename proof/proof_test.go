package proof_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/proof"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// proves fails unless the quote proves that its guest is of the live release.
func (w *world) proves(what string, got *evidence.Verified, receipt []byte, edit func(*proof.Want), want error) {
	w.Helper()
	asked := w.want()
	if edit != nil {
		edit(&asked)
	}
	r, err := proof.Check(w.Context(), got, receipt, asked)
	if !errors.Is(err, want) || (want == nil) != (r.PCR != [32]byte{}) {
		w.Errorf("%s: %v, want %v", what, err, want)
	}
}

// says fails unless what a verifier says that asked by value is want.
func (w *world) says(got *evidence.Verified, want vtpm.Proof) {
	w.Helper()
	c, _ := vtpm.ClaimsOf(got)
	if c.Proof != want {
		w.Errorf("the claim is %s, want %s", c.Proof, want)
	}
}

// Two starts from one state, by TPMs with one state, have different PCRs; a quote
// of one is none of the other, and the first ends with the second.
func TestTwoStarts(t *testing.T) {
	w, selection := newWorld(t), bank(vtpm.SHA256, 7, 13)
	tpm := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	one := w.start(tpm)
	w.check(one.extend())
	first, value := w.quote(tpm, selection), tpm.PCR(vtpm.SHA256, 13)
	w.proves("not confirmed", first, one.receipt, nil, proof.NotLive)
	w.says(first, vtpm.ProofPending)
	confirmed := one.confirm().Receipt
	first = w.quote(tpm, selection)
	w.proves("the receipt of the release", first, one.receipt, nil, nil)
	w.proves("the receipt of the confirm", first, confirmed, nil, nil)
	w.says(first, vtpm.ProofLive)

	// The TPM starts again from the same state: its keys, and PCRs of zeros.
	tpm.SetPCR(vtpm.SHA256, 13, make([]byte, 32))
	two := w.start(tpm)
	w.proves("superseded", first, one.receipt, nil, proof.NotLive)
	w.says(w.quote(tpm, selection), vtpm.ProofNotExtended)
	w.check(two.extend())
	if bytes.Equal(value, tpm.PCR(vtpm.SHA256, 13)) {
		t.Error("two starts extended the same")
	}
	second := w.quote(tpm, selection)
	two.confirm()
	w.proves("the second", second, two.receipt, nil, nil)
	w.proves("the first, with its receipt", first, one.receipt, nil, proof.NotLive)
	w.proves("the first, with the receipt of the second", first, two.receipt, nil, proof.OtherRelease)
	w.proves("the second, with the receipt of the first", second, one.receipt, nil, proof.OtherRelease)
	w.says(w.quote(tpm, selection), vtpm.ProofLive)

	_, err := w.Hold(t.Context(), tenant, instance, purpose)
	w.check(err)
	w.proves("held", second, two.receipt, nil, proof.NotLive)
	w.says(w.quote(tpm, selection), vtpm.ProofHeld)
}

// What is not exactly one extension from zeros of the PCR that was named proves
// nothing, and nor does a quote that does not say so, or for a verifier that was
// not told.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	tpm, fresh := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil), vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	g := w.start(tpm)
	w.check(g.extend())
	g.confirm()
	good := w.quote(tpm, bank(vtpm.SHA256, 13))
	w.proves("good", good, g.receipt, nil, nil)
	d := g.opened.PCR()

	w.proves("never extended", w.quote(fresh, bank(vtpm.SHA256, 13)), g.receipt, nil, proof.NotExtended)
	w.proves("not selected", w.quote(tpm, bank(vtpm.SHA256, 12)), g.receipt, nil, proof.NotQuoted)
	w.proves("in another bank", w.quote(tpm, bank(vtpm.SHA384, 13)), g.receipt, nil, proof.NotQuoted)
	fresh.ExtendDigest(vtpm.SHA256, 14, d[:])
	w.proves("in another PCR", w.quote(fresh, bank(vtpm.SHA256, 13, 14)), g.receipt, nil, proof.NotExtended)
	fresh.ExtendDigest(vtpm.SHA256, 13, []byte("something else, of thirty-two by"))
	w.proves("after something else", w.quote(fresh, bank(vtpm.SHA256, 13)), g.receipt, nil, proof.OtherRelease)
	fresh.ExtendDigest(vtpm.SHA256, 13, d[:])
	w.proves("not from zeros", w.quote(fresh, bank(vtpm.SHA256, 13)), g.receipt, nil, proof.OtherRelease)
	tpm.ExtendDigest(vtpm.SHA256, 13, d[:])
	w.proves("extended twice", w.quote(tpm, bank(vtpm.SHA256, 13)), g.receipt, nil, proof.OtherRelease)
	w.says(w.quote(tpm, bank(vtpm.SHA256, 13)), vtpm.ProofUnknown)

	for name, edit := range map[string]func(*evidence.Verified){
		"not bound":      func(v *evidence.Verified) { v.Bound = false },
		"checks skipped": func(v *evidence.Verified) { v.Skipped = []string{"link"} },
		"another format": func(v *evidence.Verified) { v.Format = "snp-report" },
		"not of a TPM":   func(v *evidence.Verified) { v.Claims = privileged{} },
		"linked to no TEE": func(v *evidence.Verified) {
			c, _ := vtpm.ClaimsOf(v)
			bare := *c
			bare.Link = vtpm.LinkCertificate
			v.Claims = &bare
		},
	} {
		v := *good
		edit(&v)
		w.proves(name, &v, g.receipt, nil, proof.NoQuote)
	}
	w.proves("no quote", nil, g.receipt, nil, proof.NoQuote)

	for name, edit := range map[string]func(*proof.Want){
		"another broker":   func(x *proof.Want) { x.Broker = newWorld(t).broker.ID() },
		"no broker":        func(x *proof.Want) { x.Broker = [32]byte{} },
		"another tenant":   func(x *proof.Want) { x.Tenant = "other" },
		"another instance": func(x *proof.Want) { x.Instance = [16]byte{9} },
		"another purpose":  func(x *proof.Want) { x.Purpose = "data" },
	} {
		w.proves(name, good, g.receipt, edit, proof.NoReceipt)
	}
	w.proves("a receipt that somebody changed", good, append(bytes.Clone(g.receipt), 'A'), nil, proof.NoReceipt)
	w.proves("no receipt", good, nil, nil, proof.NoReceipt)
	w.proves("a receipt without epochs", good, w.plainReceipt(), func(x *proof.Want) { x.Purpose = "data" }, proof.NoReceipt)

	for name, tt := range map[string]struct {
		live proof.Live
		want error
	}{
		"nothing is live": {func(context.Context, string, [16]byte, string) ([16]byte, error) { return [16]byte{}, nil }, proof.NotLive},
		"another is":      {func(context.Context, string, [16]byte, string) ([16]byte, error) { return [16]byte{1}, nil }, proof.NotLive},
		"nobody knows": {func(context.Context, string, [16]byte, string) ([16]byte, error) {
			return g.opened.Release, errors.New("down")
		}, proof.Unavailable},
		"nobody is asked": {nil, proof.BadPCR},
	} {
		w.proves(name, good, g.receipt, func(x *proof.Want) { x.Live = tt.live }, tt.want)
	}
	for _, p := range []vtpm.PCR{{}, {Bank: vtpm.SHA384, Index: 13}, {Bank: vtpm.SHA256, Index: 16}, {Bank: vtpm.SHA256, Index: 23}} {
		w.proves(p.String(), good, g.receipt, func(x *proof.Want) { x.PCR = p }, proof.BadPCR)
	}
}

// plainReceipt is a receipt of a secret without epochs.
func (w *world) plainReceipt() []byte {
	w.Helper()
	w.check(w.PutSecret(w.Context(), tenant, instance, "data", []byte("secret")))
	_, r := w.release("data")
	return r.Receipt
}

// broken is a TPM that fails at its n-th call.
type broken struct {
	*vtpmtest.TPM
	at int
}

var errBroken = errors.New("broken")

func (b *broken) fails() bool { b.at--; return b.at == 0 }

func (b *broken) ReadPCR(p vtpm.PCR) ([]byte, error) {
	if b.fails() {
		return nil, errBroken
	}
	return b.TPM.ReadPCR(p)
}

func (b *broken) ExtendPCR(p vtpm.PCR, d []byte) error {
	if b.fails() {
		return errBroken
	}
	return b.TPM.ExtendPCR(p, d)
}

// deaf is a TPM that does not extend.
type deaf struct{ *vtpmtest.TPM }

func (deaf) ExtendPCR(vtpm.PCR, []byte) error { return nil }

// Extend extends once, says if it could not, and always forgets.
func TestExtend(t *testing.T) {
	tpm := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	try := func(what string, on proof.TPM, p vtpm.PCR, want error) {
		t.Helper()
		d := [32]byte{1, 2, 3}
		if err := proof.Extend(on, p, &d); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if d != [32]byte{} {
			t.Errorf("%s: it remembers", what)
		}
	}
	try("resettable", tpm, vtpm.PCR{Bank: vtpm.SHA256, Index: 23}, proof.BadPCR)
	try("another bank", tpm, vtpm.PCR{Bank: vtpm.SHA384, Index: 13}, proof.BadPCR)
	try("not read", &broken{tpm, 1}, pcr, errBroken)
	try("not extended", &broken{tpm, 2}, pcr, errBroken)
	try("does nothing", deaf{tpm}, pcr, proof.OtherRelease)
	try("good", tpm, pcr, nil)
	if want := teebroker.PCRValue([32]byte{1, 2, 3}); !bytes.Equal(tpm.PCR(vtpm.SHA256, 13), want[:]) || !bytes.Equal(tpm.PCR(vtpm.SHA384, 13), make([]byte, 48)) {
		t.Errorf("the PCR is %x", tpm.PCR(vtpm.SHA256, 13))
	}
	try("a second time", tpm, pcr, proof.Extended)
	try("not read again", &broken{vtpmtest.NewTPM(vtpmtest.ECC, nil, nil), 3}, pcr, errBroken)
}

// A store that can't say is not one that says no.
func TestReleases(t *testing.T) {
	w := newWorld(t)
	if got, err := proof.Releases(w.Store).Shown(t.Context(), [32]byte{1}); err != nil || got != (vtpm.Shown{}) {
		t.Errorf("of nobody: %+v, %v", got, err)
	}
	if got, err := proof.Releases(down{}).Shown(t.Context(), [32]byte{1}); err == nil || got != (vtpm.Shown{}) {
		t.Errorf("down: %+v, %v", got, err)
	}
}

type down struct{}

func (down) Shown(context.Context, [32]byte) (teebroker.Shown, error) {
	return teebroker.Shown{State: teebroker.ShownLive}, errors.New("down")
}

// A verifier with a quote, the receipt of the guest's release, and the broker's
// word on which release is live.
func ExampleCheck() {
	live := func(context.Context, string, [16]byte, string) ([16]byte, error) { return [16]byte{}, nil }
	var quote *evidence.Verified // of vtpm.Verifier
	_, err := proof.Check(context.Background(), quote, nil, proof.Want{
		PCR: vtpm.PCR{Bank: vtpm.SHA256, Index: 13}, Tenant: "acme", Instance: [16]byte{1}, Purpose: "vtpm", Live: live,
	})
	fmt.Println(err, errors.Is(err, proof.NoQuote))
	// Output: proof: no-quote true
}

// The digest is that of guest.Opened.PCR.
func ExampleExtend() {
	tpm, digest := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil), [32]byte{1}
	reserved := vtpm.PCR{Bank: vtpm.SHA256, Index: 13}
	fmt.Println(proof.Extend(tpm, reserved, &digest), digest == [32]byte{})
	fmt.Println(proof.Extend(tpm, reserved, &digest))
	// Output:
	// <nil> true
	// proof: extended
}

// A verifier of quotes that says what the PCR shows.
func ExampleReleases() {
	var state teebroker.Releases = down{} // of a broker, usually store/sqlstore.Store
	_, err := vtpm.NewVerifier(vtpm.Config{
		Platform: evidence.Verifiers{}, Releases: proof.Releases(state), ProofPCR: vtpm.PCR{Bank: vtpm.SHA256, Index: 13},
	})
	fmt.Println(err)
	// Output: <nil>
}

func BenchmarkCheck(b *testing.B) {
	w := newWorld(b)
	tpm := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil)
	g := w.start(tpm)
	w.check(g.extend())
	g.confirm()
	got, want := w.quote(tpm, bank(vtpm.SHA256, 13)), w.want()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := proof.Check(b.Context(), got, g.receipt, want); err != nil {
			b.Fatal(err)
		}
	}
}
