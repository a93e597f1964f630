package provision

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/teebroker/teebroker/vtpm"
)

func TestPCR(t *testing.T) {
	d := deliver(t, Config{Guest: theGuest(), AllowAnyBoot: true, ECC: true})
	tpm := start(t, d.state(t))
	p := vtpm.PCR{Bank: vtpm.SHA256, Index: 15}
	if got, err := tpm.ReadPCR(p); err != nil || !bytes.Equal(got, make([]byte, 32)) {
		t.Fatalf("%x, %v", got, err)
	}
	measured := sha256.Sum256([]byte("x"))
	if err := tpm.ExtendPCR(p, measured[:]); err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(append(make([]byte, 32), measured[:]...))
	if got, err := tpm.ReadPCR(p); err != nil || !bytes.Equal(got, want[:]) {
		t.Errorf("%x, %v", got, err)
	}
	if got, err := tpm.ReadPCR(vtpm.PCR{Bank: vtpm.SHA256, Index: 14}); err != nil || !bytes.Equal(got, make([]byte, 32)) {
		t.Errorf("another one: %x, %v", got, err)
	}
	for _, p := range []vtpm.PCR{{Bank: vtpm.SHA384, Index: 15}, {Bank: vtpm.SHA256, Index: 24}, {Bank: vtpm.SHA256, Index: -1}} {
		if _, err := tpm.ReadPCR(p); !errors.Is(err, ErrConfig) {
			t.Errorf("%v: %v", p, err)
		}
		if err := tpm.ExtendPCR(p, measured[:]); !errors.Is(err, ErrConfig) {
			t.Errorf("%v: %v", p, err)
		}
	}
	if err := tpm.ExtendPCR(p, measured[1:]); !errors.Is(err, ErrConfig) {
		t.Errorf("a short digest: %v", err)
	}
}
