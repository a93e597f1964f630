package vtpm_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// startSwtpm returns a TPM that others wrote. In CI it has to be there.
func startSwtpm(t *testing.T, kind vtpmtest.Kind) *vtpmtest.Swtpm {
	t.Helper()
	dir := t.TempDir()
	s, err := vtpmtest.StartSwtpm(dir, kind)
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skipf("SKIPPED, NOT PASSED: no swtpm: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// A TPM that others wrote, from the EK of its manifest to an AK that it activates,
// and a quote of PCRs that it extended.
func TestSwtpm(t *testing.T) {
	for name, kind := range map[string]vtpmtest.Kind{"RSA": vtpmtest.RSA, "ECC": vtpmtest.ECC} {
		t.Run(name, func(t *testing.T) {
			w, want, d := theWorld(), sixtyFour(t), startSwtpm(t, kind)
			ek, err := vtpm.ParsePublic(d.EK())
			if err != nil {
				t.Fatal(err)
			}
			ak, err := vtpm.ParsePublic(d.AK())
			if err != nil {
				t.Fatal(err)
			}
			secret := []byte("0123456789abcdef0123456789abcdef")
			blob, err := vtpm.MakeCredential(ek, ak.Name, secret)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := d.Activate(blob); err != nil || !bytes.Equal(got, secret) {
				t.Fatalf("%x, %v", got, err)
			}
			wrong, err := vtpm.MakeCredential(ek, ek.Name, secret)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := d.Activate(wrong); err == nil {
				t.Errorf("a credential for another object: %x", got)
			}

			events := []vtpmtest.Event{{Index: 7, Data: []byte("one")}, {Index: 7, Data: []byte("two")}}
			for _, e := range events {
				d.Extend(int(e.Index), e.Data)
			}
			log := eventLog(vtpmtest.EventLog(events...))
			both := vtpmtest.Quote{Selection: []vtpm.BankSelection{{Bank: vtpm.SHA256, PCRs: []int{0, 7, 23}}, {Bank: vtpm.SHA384, PCRs: []int{7}}}}
			for _, q := range []vtpmtest.Quote{{}, both} {
				c, _ := claimsOf(t, w.newVerifier(t, d), w.svsm(d).Evidence(q, want, log), want)
				if len(c.Events) != 2 || !c.Quote.Clock.Safe || c.Link != vtpm.LinkEK {
					t.Errorf("%+v", c)
				}
			}
			d.Extend(7, []byte("three"))
			refused(t, w.newVerifier(t, d), w.svsm(d).Evidence(both, want, log), want, "event-log", evidence.BadSignature)
			refused(t, w.newVerifier(t, w.ecc), w.svsm(d).Evidence(both, want), want, "link", evidence.Untrusted)
		})
	}
}

// A TPM of ours answers what a swtpm answers.
func TestActivate(t *testing.T) {
	w := theWorld()
	for _, d := range []*vtpmtest.TPM{w.rsa, w.ecc} {
		ek, err := vtpm.ParsePublic(d.EK())
		if err != nil {
			t.Fatal(err)
		}
		ak, err := vtpm.ParsePublic(d.AK())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 16, 32} {
			secret := bytes.Repeat([]byte{7}, n)
			blob, err := vtpm.MakeCredential(ek, ak.Name, secret)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := d.Activate(blob); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%x, %v", got, err)
			}
			for bit := range 8 * len(blob) {
				if bit%61 != 0 && bit > 128 {
					continue
				}
				if got, err := d.Activate(flipped(blob, bit)); err == nil {
					t.Errorf("bit %d flipped: %x", bit, got)
				}
			}
		}
		for name, err := range map[string]error{
			"no secret":           credential(ek, ak.Name, nil),
			"a secret too long":   credential(ek, ak.Name, make([]byte, 33)),
			"an AK as EK":         credential(ak, ak.Name, []byte("x")),
			"nothing as EK":       credential(vtpm.Public{}, ak.Name, []byte("x")),
			"no Name":             credential(ek, "", []byte("x")),
			"a Name too short":    credential(ek, ak.Name[:33], []byte("x")),
			"a Name of SHA-1":     credential(ek, vtpm.Name(append([]byte{0, 4}, make([]byte, 20)...)), []byte("x")),
			"a Name of no object": credential(ek, "\x40\x00\x00\x0b", []byte("x")),
		} {
			if err == nil {
				t.Errorf("%s: a credential was made", name)
			}
		}
	}
}

func credential(ek vtpm.Public, ak vtpm.Name, secret []byte) error {
	_, err := vtpm.MakeCredential(ek, ak, secret)
	return err
}

func TestVerifyEKRefused(t *testing.T) {
	w := theWorld()
	s := w.svsm(w.ecc)
	v := w.newVerifier(t)
	report, items := s.Attestation()
	nonce := bindingOf(t, s.Nonce[:])
	ek, got, err := v.VerifyEK(t.Context(), report, items, nonce)
	if err != nil || !got.Bound || !bytes.Equal(ek.Marshal(), w.ecc.EK()) {
		t.Fatalf("%v", err)
	}
	_, _, err = v.VerifyEK(t.Context(), report, items, bindingOf(t, append(s.Nonce[:63:63], 1)))
	refusal(t, false, err, "binding", evidence.NotBound)
	_, _, err = v.VerifyEK(t.Context(), report, items, bindingOf(t, s.Nonce[:3]))
	refusal(t, false, err, "binding", evidence.NotBound)
	_, _, err = v.VerifyEK(t.Context(), report, items, evidence.Binding{})
	refusal(t, false, err, "binding", evidence.NotBound)
	_, _, err = v.VerifyEK(t.Context(), report, items[1:], nonce)
	refusal(t, false, err, "items", evidence.Malformed)
	_, _, err = v.VerifyEK(t.Context(), report, append(items[:2:2], evidence.Item{Type: vtpm.EKCertificate}), nonce)
	refusal(t, false, err, "items", evidence.Malformed)
	_, _, err = v.VerifyEK(t.Context(), report, append(items[:2:2], evidence.Item{Type: vtpm.AK}), nonce)
	refusal(t, false, err, "items", evidence.Malformed)
	other, _ := w.svsm(w.rsa).Attestation()
	_, _, err = v.VerifyEK(t.Context(), other, items, nonce)
	refusal(t, false, err, "platform", evidence.NotBound)
	if _, got, err = v.VerifyEK(t.Context(), report, items, evidence.UncheckedBindingUnsafe()); err != nil || got.Bound {
		t.Errorf("bound without being compared: %v", err)
	}
}
