package vtpm_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// BenchmarkVerifyQuote verifies a quote of an SVSM's TPM with RSA keys, but for the
// report below, which is measured where it is verified. "floor" is the signature
// and what has to be hashed.
func BenchmarkVerifyQuote(b *testing.B) {
	tpm, want := rsaTPM(), sixtyFour(b)
	v, ev := believing(b), baseless(tpm, want)
	b.Run("verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(b.Context(), ev, want); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor", func(b *testing.B) {
		b.ReportAllocs()
		size := int(binary.BigEndian.Uint16(ev.Raw))
		attest, sig := ev.Raw[2:2+size], ev.Raw[2+size+6:]
		key, ak, ek := tpm.AKKey().(*rsa.PublicKey), tpm.AK(), tpm.EK()
		for b.Loop() {
			sha256.Sum256(item(ev, vtpm.PCRs))
			sha256.Sum256(ak[2:])
			sha256.Sum256(ek[2:])
			vtpm.SVSMReportData([64]byte(item(ev, vtpm.SVSMNonce)), item(ev, vtpm.SVSMManifest))
			sum := sha256.Sum256(attest)
			if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// replayed is a list of n files, and a quote after it.
func replayed(b *testing.B, n int) (*vtpm.Verifier, evidence.Evidence, []vtpmtest.IMAEntry, evidence.Binding) {
	b.Helper()
	want := sixtyFour(b)
	l := newLogged(nil)
	files := make([]vtpmtest.IMAEntry, n)
	for i := range files {
		files[i] = vtpmtest.IMAEntry{Path: fmt.Sprintf("/usr/lib/x86_64-linux-gnu/package/file-%d.so", i), Content: []byte{byte(i)}}
	}
	vtpmtest.Measure(l.tpm, files...)
	all := append(l.files, files...)
	return believing(b), baseless(l.tpm, want, imaList(vtpmtest.IMAList(all...))), all, want
}

// BenchmarkReplay verifies a quote with an IMA list of 100,000 lines. "floor" is the
// hashing of what the lines stand for, with nothing to read.
func BenchmarkReplay(b *testing.B) {
	const lines = 100_000
	v, ev, all, want := replayed(b, lines)
	b.Run("verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(b.Context(), ev, want); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor", func(b *testing.B) {
		b.ReportAllocs()
		fields := make([][]byte, len(all))
		for i, e := range all {
			fields[i] = e.Fields()
		}
		for b.Loop() {
			var both [64]byte
			for _, f := range fields {
				d := sha256.Sum256(f)
				copy(both[32:], d[:])
				d = sha256.Sum256(both[:])
				copy(both[:], d[:])
			}
		}
	})
}
