package proof_test

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/teebroker/teebroker/proof"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// swtpm starts a TPM that others wrote, on a state that is kept. In CI it has to be
// there.
func swtpm(t *testing.T, dir string) *vtpmtest.Swtpm {
	t.Helper()
	s, err := vtpmtest.StartSwtpm(dir, vtpmtest.ECC)
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skipf("SKIPPED, NOT PASSED: no swtpm: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Two starts of a TPM that others wrote, on one state.
func TestSwtpm(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t)
	start := func() (*started, *vtpmtest.Swtpm) {
		tpm := swtpm(t, dir)
		g := w.start(nil)
		d := g.opened.PCR()
		w.check(proof.Extend(tpm, pcr, &d))
		if err := proof.Extend(tpm, pcr, &[32]byte{1}); !errors.Is(err, proof.Extended) {
			t.Errorf("a second time: %v", err)
		}
		g.confirm()
		return g, tpm
	}
	one, tpm := start()
	ek := string(tpm.EK())
	first := w.quote(tpm, bank(vtpm.SHA256, 0, 13))
	w.proves("the first start", first, one.receipt, nil, nil)
	w.says(first, vtpm.ProofLive)
	w.check(tpm.Close())

	two, tpm := start()
	if string(tpm.EK()) != ek {
		t.Error("another EK: not the same state")
	}
	second := w.quote(tpm, bank(vtpm.SHA256, 0, 13))
	w.proves("the second start", second, two.receipt, nil, nil)
	w.proves("the first start now", first, one.receipt, nil, proof.NotLive)
	w.proves("the first for the second", first, two.receipt, nil, proof.OtherRelease)
	w.check(tpm.Close())
}
