package keywrap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/teebroker/teebroker/keywrap"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func brokerHeader() keywrap.Header {
	return keywrap.Header{Tenant: "acme", Instance: [16]byte{1}, Purpose: "vtpm", Epoch: 7}
}

// What a broker wrapped, its key opens and no other, with the header as it was.
func TestWrapWith(t *testing.T) {
	ctx := t.Context()
	k := must(keywrap.NewWrapKey("wrap-1", [32]byte{1}))
	w := must(keywrap.WrapWith(ctx, k, brokerHeader(), []byte("a secret")))
	h := must(w.Header())
	if h.By != keywrap.ByBroker || h.Suite != keywrap.A256GCM || h.KeyID != "wrap-1" || h.Epoch != 7 || h.Version != 1 {
		t.Errorf("header %+v", h)
	}
	if got, err := w.UnwrapWith(ctx, k); err != nil || string(got) != "a secret" {
		t.Errorf("%q, %v", got, err)
	}
	other := must(keywrap.WrapWith(ctx, k, brokerHeader(), []byte("a secret")))
	if bytes.Equal(other.Enc, w.Enc) || bytes.Equal(other.Ciphertext, w.Ciphertext) {
		t.Error("the same IV twice")
	}
	moved := brokerHeader()
	moved.Epoch++
	for name, tt := range map[string]struct {
		w keywrap.Wrapped
		k keywrap.WrapKey
	}{
		"another key":        {w, must(keywrap.NewWrapKey("wrap-1", [32]byte{2}))},
		"another id":         {w, must(keywrap.NewWrapKey("wrap-2", [32]byte{1}))},
		"another header":     {keywrap.Wrapped{Protected: must(keywrap.WrapWith(ctx, k, moved, []byte("a secret"))).Protected, Enc: w.Enc, Ciphertext: w.Ciphertext}, k},
		"another IV":         {keywrap.Wrapped{Protected: w.Protected, Enc: other.Enc, Ciphertext: w.Ciphertext}, k},
		"another ciphertext": {keywrap.Wrapped{Protected: w.Protected, Enc: w.Enc, Ciphertext: other.Ciphertext}, k},
		"a short IV":         {keywrap.Wrapped{Protected: w.Protected, Enc: []byte("AAAA"), Ciphertext: w.Ciphertext}, k},
		"nothing":            {keywrap.Wrapped{}, k},
	} {
		if got, err := tt.w.UnwrapWith(ctx, tt.k); !errors.Is(err, keywrap.ErrOpen) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// Keys, headers and secrets that can't be meant.
func TestWrapWithRefused(t *testing.T) {
	for id, key := range map[string][32]byte{"": {1}, "UP": {1}, "zero": {}} {
		if _, err := keywrap.NewWrapKey(id, key); !errors.Is(err, keywrap.ErrKey) {
			t.Errorf("key %q: %v", id, err)
		}
	}
	k := must(keywrap.NewWrapKey("wrap-1", [32]byte{1}))
	both := brokerHeader()
	both.Image = "image"
	for name, tt := range map[string]struct {
		h      keywrap.Header
		secret []byte
	}{
		"instance and image": {both, []byte{1}}, "nobody": {keywrap.Header{}, []byte{1}},
		"no secret": {brokerHeader(), nil}, "a large one": {brokerHeader(), make([]byte, keywrap.MaxSecret+1)},
	} {
		if _, err := keywrap.WrapWith(t.Context(), k, tt.h, tt.secret); !errors.Is(err, keywrap.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	owner := must(keywrap.Generate(keywrap.P384))
	h := brokerHeader()
	h.By, h.KeyID = keywrap.ByOwner, "wrap-1"
	if _, err := must(keywrap.Wrap(owner.Recipient(), h, []byte{1})).UnwrapWith(t.Context(), k); !errors.Is(err, keywrap.ErrOpen) {
		t.Errorf("an owner's blob: %v", err)
	}
}

// A broker wraps the key of the next epoch under a key that only it has.
func ExampleWrapWith() {
	ctx := context.Background()
	k, err := keywrap.NewWrapKey("wrap-1", [32]byte{31: 1}) // 32 random bytes
	if err != nil {
		panic(err)
	}
	w, err := keywrap.WrapWith(ctx, k, keywrap.Header{Tenant: "acme", Instance: [16]byte{1}, Purpose: "vtpm", Epoch: 2}, []byte("the next key"))
	if err != nil {
		panic(err)
	}
	key, err := w.UnwrapWith(ctx, k)
	fmt.Printf("%s, %v\n", key, err)
	// Output: the next key, <nil>
}
