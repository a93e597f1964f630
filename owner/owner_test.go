package owner_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/owner"
	"github.com/teebroker/teebroker/store/memory"
)

func now() time.Time { return time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC) }

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// newBroker returns a broker with keys, and those by id.
func newBroker() (*teebroker.Broker, map[string]keywrap.Opener) {
	keys := map[string]keywrap.Opener{
		"2026-b": must(keywrap.Generate(keywrap.MLKEM1024P384)), "2026-a": must(keywrap.Generate(keywrap.P384)),
	}
	s := memory.New(now)
	return must(teebroker.New(teebroker.Config{
		Verifier: faketee.Verifier{}, Issuer: must(nonce.NewHMAC(nonce.Config{Key: [32]byte{1}})), Nonces: s,
		Directory: s, Secrets: s, Ledger: s, Time: now, Identity: must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		Keys: must(teebroker.NewKeySet(map[string][]teebroker.AttestationKey{"acme": {
			{ID: "2026-b", Opener: keys["2026-b"]},
			{ID: "2026-a", Opener: keys["2026-a"], NotAfter: now().Add(30 * time.Minute)},
		}})),
	})), keys
}

func blob(b *teebroker.Broker) owner.Blob {
	return owner.Blob{
		Keys: must(b.KeysDocument(context.Background(), "acme")), Broker: b.ID(), Time: now(),
		Tenant: "acme", Instance: [16]byte{15: 1}, Purpose: "disk/root",
	}
}

// An owner wraps a key, leaves the blob with the image, and registers its digest.
func Example() {
	broker, _ := newBroker() // whose keys document the owner fetched, and whose id it knows
	w, err := owner.Wrap(owner.Blob{
		Keys: must(broker.KeysDocument(context.Background(), "acme")), Broker: broker.ID(), Time: now(),
		Tenant: "acme", Instance: [16]byte{15: 1}, Purpose: "disk/root",
	}, []byte("a disk key"))
	if err != nil {
		log.Fatal(err)
	}
	h := must(w.Header())
	fmt.Println(h.KeyID, h.Suite, h.Tenant, h.Instance, h.Purpose)
	fmt.Println(len(w.Digest()), "bytes to register")
	// Output:
	// 2026-b HPKE-MLKEM1024-P384 acme 00000000-0000-0000-0000-000000000001 disk/root
	// 32 bytes to register
}

func TestWrap(t *testing.T) {
	b, keys := newBroker()
	for name, tt := range map[string]struct {
		edit func(*owner.Blob)
		want keywrap.Header
	}{
		"instance": {func(*owner.Blob) {}, keywrap.Header{KeyID: "2026-b", Suite: keywrap.MLKEM1024P384, Instance: [16]byte{15: 1}}},
		"suite":    {func(b *owner.Blob) { b.Suite = keywrap.P384 }, keywrap.Header{KeyID: "2026-a", Suite: keywrap.P384, Instance: [16]byte{15: 1}}},
		"image":    {func(b *owner.Blob) { b.Instance, b.Image = [16]byte{}, "i" }, keywrap.Header{KeyID: "2026-b", Suite: keywrap.MLKEM1024P384, Image: "i"}},
		"policy":   {func(b *owner.Blob) { b.Policy[0] = 1 }, keywrap.Header{KeyID: "2026-b", Suite: keywrap.MLKEM1024P384, Instance: [16]byte{15: 1}, Policy: [32]byte{1}}},
	} {
		x := blob(b)
		tt.edit(&x)
		secret := bytes.Repeat([]byte{7}, owner.MaxSecret)
		w, err := owner.Wrap(x, secret)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		tt.want.Version, tt.want.By, tt.want.Tenant, tt.want.Purpose = 1, "owner", "acme", "disk/root"
		if h, err := w.Header(); err != nil || h != tt.want {
			t.Errorf("%s: header %+v, %v", name, h, err)
		}
		if got, err := w.Unwrap(t.Context(), keys[tt.want.KeyID]); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: %v", name, err)
		}
		// The largest secret fits into a request.
		text, err := json.Marshal(w)
		if parsed, err2 := keywrap.ParseWrapped(text); err != nil || err2 != nil || parsed.Digest() != w.Digest() || len(text) > 64<<10 {
			t.Errorf("%s: %d bytes, %v, %v", name, len(text), err, err2)
		}
	}
}

func TestWrapRefuses(t *testing.T) {
	b, _ := newBroker()
	evil, _ := newBroker()
	for name, tt := range map[string]struct {
		edit func(*owner.Blob)
		want error
	}{
		"no document":              {func(b *owner.Blob) { b.Keys = nil }, teebroker.ErrKeys},
		"document of another":      {func(b *owner.Blob) { b.Keys = must(evil.KeysDocument(context.Background(), "acme")) }, teebroker.ErrKeys},
		"no broker":                {func(b *owner.Blob) { b.Broker = [32]byte{} }, teebroker.ErrKeys},
		"another broker":           {func(b *owner.Blob) { b.Broker = evil.ID() }, teebroker.ErrKeys},
		"another tenant":           {func(b *owner.Blob) { b.Tenant = "other" }, teebroker.ErrKeys},
		"no tenant":                {func(b *owner.Blob) { b.Tenant = "" }, teebroker.ErrKeys},
		"no time":                  {func(b *owner.Blob) { b.Time = time.Time{} }, teebroker.ErrKeys},
		"expired":                  {func(b *owner.Blob) { b.Time = now().Add(time.Hour) }, teebroker.ErrKeys},
		"a suite without a key":    {func(b *owner.Blob) { b.Suite = keywrap.P256 }, teebroker.ErrKeys},
		"a key not wrapped to now": {func(b *owner.Blob) { b.Suite, b.Time = keywrap.P384, now().Add(31*time.Minute) }, teebroker.ErrKeys},
		"no purpose":               {func(b *owner.Blob) { b.Purpose = "" }, owner.ErrBlob},
		"not a purpose":            {func(b *owner.Blob) { b.Purpose = "../x" }, owner.ErrBlob},
		"for nobody":               {func(b *owner.Blob) { b.Instance = [16]byte{} }, owner.ErrBlob},
		"for both":                 {func(b *owner.Blob) { b.Image = "i" }, owner.ErrBlob},
		"name of an image":         {func(b *owner.Blob) { b.Instance, b.Image = [16]byte{}, string(make([]byte, 257)) }, owner.ErrBlob},
	} {
		x := blob(b)
		tt.edit(&x)
		if w, err := owner.Wrap(x, []byte("secret")); !errors.Is(err, tt.want) || w.Protected != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, n := range []int{0, owner.MaxSecret + 1} {
		if w, err := owner.Wrap(blob(b), make([]byte, n)); !errors.Is(err, owner.ErrBlob) || w.Protected != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func BenchmarkWrap(b *testing.B) {
	broker, _ := newBroker()
	x := blob(broker)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := owner.Wrap(x, []byte("secret")); err != nil {
			b.Fatal(err)
		}
	}
}
