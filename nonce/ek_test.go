package nonce_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/teebroker/teebroker/nonce"
)

func anEK() nonce.EK {
	return nonce.EK{Broker: bytes.Repeat([]byte{9}, 32), Tenant: "acme", Instance: [16]byte{1}, AK: []byte("ak")}
}

// The transcript is these bytes, and every field is in it.
func TestEK(t *testing.T) {
	n := nonce.Nonce{7}
	want := make([]byte, 128)
	copy(want, "teebroker/v1/ek")
	add := func(tag byte, value []byte) {
		want = append(binary.BigEndian.AppendUint32(append(want, tag), uint32(len(value))), value...)
	}
	add(1, n[:])
	add(2, bytes.Repeat([]byte{9}, 32))
	add(3, []byte("acme"))
	add(4, append([]byte{1}, make([]byte, 15)...))
	add(8, []byte("ak"))
	sum := sha512.Sum512(want)
	got, err := anEK().Bind(n)
	if err != nil || !bytes.Equal(got.Bytes(), sum[:]) {
		t.Fatalf("%x, %v", got.Bytes(), err)
	}
	for what, edit := range map[string]func(*nonce.EK){
		"broker":    func(r *nonce.EK) { r.Broker[31]++ },
		"no broker": func(r *nonce.EK) { r.Broker = nil },
		"tenant":    func(r *nonce.EK) { r.Tenant = "acmf" },
		"instance":  func(r *nonce.EK) { r.Instance[15]++ },
		"AK":        func(r *nonce.EK) { r.AK = []byte("al") },
	} {
		r := anEK()
		edit(&r)
		if other, err := r.Bind(n); err != nil || bytes.Equal(other.Bytes(), sum[:]) {
			t.Errorf("%s is not bound: %v", what, err)
		}
	}
	if other, err := anEK().Bind(nonce.Nonce{8}); err != nil || bytes.Equal(other.Bytes(), sum[:]) {
		t.Errorf("the nonce is not bound: %v", err)
	}
	for what, edit := range map[string]func(*nonce.EK){
		"a short broker": func(r *nonce.EK) { r.Broker = r.Broker[1:] },
		"a tenant":       func(r *nonce.EK) { r.Tenant = "Acme" },
		"no instance":    func(r *nonce.EK) { r.Instance = [16]byte{} },
		"no AK":          func(r *nonce.EK) { r.AK = nil },
		"a long AK":      func(r *nonce.EK) { r.AK = make([]byte, 2049) },
	} {
		r := anEK()
		edit(&r)
		if b, err := r.Bind(n); err == nil || b.Checked() {
			t.Errorf("%s: bound", what)
		}
	}
	if b, err := (nonce.EK{}).Bind(n); err == nil || b.Checked() {
		t.Error("the zero EK binds")
	}
}

func TestQuoteBinding(t *testing.T) {
	sum := sha256.Sum256([]byte("teebroker/v1/ek-quote\x00\x00\x00\x01s"))
	if b, err := nonce.QuoteBinding("s"); err != nil || !bytes.Equal(b.Bytes(), sum[:]) {
		t.Errorf("%x, %v", b.Bytes(), err)
	}
}

func ExampleEK() {
	r := nonce.EK{Tenant: "acme", Instance: [16]byte{1}, AK: []byte("TPM2B_PUBLIC")}
	b, err := r.Bind(nonce.Nonce{1})
	fmt.Printf("%d bytes, %v\n", len(b.Bytes()), err)
	// Output: 64 bytes, <nil>
}
