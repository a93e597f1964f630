package vtpm_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/vtpm"
	"github.com/teebroker/teebroker/vtpm/vtpmtest"
)

// EK and AK are told apart by what they may do.
func TestParseKeys(t *testing.T) {
	tpm := eccTPM()
	ek, err := vtpm.ParseEK(tpm.EK())
	if err != nil || ek.Name != vtpm.Name("\x00\x0b"+string(sum256(tpm.EK()[2:]))) {
		t.Errorf("%x, %v", ek.Name, err)
	}
	ek.Area()[0]++
	if !bytes.Equal(ek.Area(), tpm.EK()[2:]) {
		t.Error("shares memory")
	}
	if _, err := vtpm.ParseAK(tpm.AK()); err != nil {
		t.Error(err)
	}
	loose := vtpmtest.NewTPM(vtpmtest.ECC, nil, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false })
	for what, f := range map[string]func() (vtpm.Public, error){
		"an AK is no EK":        func() (vtpm.Public, error) { return vtpm.ParseEK(tpm.AK()) },
		"an EK is no AK":        func() (vtpm.Public, error) { return vtpm.ParseAK(tpm.EK()) },
		"unrestricted is no AK": func() (vtpm.Public, error) { return vtpm.ParseAK(loose.AK()) },
	} {
		if p, err := f(); !errors.Is(err, evidence.Untrusted) || p.Name != "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := vtpm.ParseEK(tpm.EK()[:9]); !errors.Is(err, evidence.Malformed) {
		t.Errorf("cut short: %v", err)
	}
	if _, err := vtpm.ParseAK(append(tpm.AK(), 0)); !errors.Is(err, evidence.Malformed) {
		t.Errorf("trailing: %v", err)
	}
}

func sum256(b []byte) []byte { s := sha256.Sum256(b); return s[:] }

func TestVerifyQuote(t *testing.T) {
	want := bindingOf(t, []byte("asked"))
	for _, tpm := range []*vtpmtest.TPM{eccTPM(), rsaTPM()} {
		ak, err := vtpm.ParseAK(tpm.AK())
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := tpm.Quote(vtpmtest.Quote{Clock: vtpm.Clock{ResetCount: 7, Safe: true}}, want)
		q, err := ak.VerifyQuote(raw, want)
		if err != nil || q.Clock.ResetCount != 7 {
			t.Fatalf("%+v, %v", q.Clock, err)
		}
		clear(raw[10:20])
		if !bytes.Equal(q.ExtraData, []byte("asked")) {
			t.Error("shares memory")
		}
	}
	tpm := eccTPM()
	ak, err := vtpm.ParseAK(tpm.AK())
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := tpm.Quote(vtpmtest.Quote{}, want)
	for bit := range 8 * len(raw) {
		bad := bytes.Clone(raw)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := ak.VerifyQuote(bad, want); err == nil {
			t.Fatalf("bit %d flipped: accepted", bit)
		}
	}
	for what, f := range map[string]func() error{
		"another nonce": func() error { _, err := ak.VerifyQuote(raw, bindingOf(t, []byte("other"))); return err },
		"no nonce":      func() error { _, err := ak.VerifyQuote(raw, evidence.Binding{}); return err },
		"another TPM's": func() error {
			foreign, _ := vtpmtest.NewTPM(vtpmtest.ECC, nil, nil).Quote(vtpmtest.Quote{}, want)
			_, err := ak.VerifyQuote(foreign, want)
			return err
		},
		"by an EK": func() error {
			ek, _ := vtpm.ParseEK(tpm.EK())
			_, err := ek.VerifyQuote(raw, want)
			return err
		},
		"trailing": func() error { _, err := ak.VerifyQuote(append(bytes.Clone(raw), 0), want); return err },
		"nothing":  func() error { _, err := ak.VerifyQuote(nil, want); return err },
		"by nobody": func() error {
			_, err := vtpm.Public{}.VerifyQuote(raw, want)
			return err
		},
	} {
		var e *evidence.Error
		if err := f(); !errors.As(err, &e) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func ExamplePublic_VerifyQuote() {
	tpm := eccTPM()
	ak, err := vtpm.ParseAK(tpm.AK())
	if err != nil {
		fmt.Println(err)
		return
	}
	want, err := evidence.NewBinding([]byte("a nonce"))
	if err != nil {
		fmt.Println(err)
		return
	}
	raw, _ := tpm.Quote(vtpmtest.Quote{}, want)
	q, err := ak.VerifyQuote(raw, want)
	fmt.Printf("%s %v\n", q.ExtraData, err)
	// Output: a nonce <nil>
}

func ExampleParseEK() {
	ek, err := vtpm.ParseEK(eccTPM().EK())
	if err != nil {
		fmt.Println(err)
		return
	}
	id, err := vtpm.AgentID(ek.Key)
	fmt.Println(len(id), err)
	// Output: 64 <nil>
}
