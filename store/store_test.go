package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store"
)

func ExampleNewAES() {
	c, err := store.NewAES([32]byte{1}) // 32 random bytes
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	sealed, err := c.Seal(ctx, []byte("secret"), []byte("acme's disk"))
	if err != nil {
		fmt.Println(err)
		return
	}
	plain, err := c.Open(ctx, sealed, []byte("acme's disk"))
	fmt.Printf("%s %v\n", plain, err)
	_, err = c.Open(ctx, sealed, []byte("another's disk"))
	fmt.Println(err)
	// Output:
	// secret <nil>
	// store: not sealed with this key for this place
}

// A value opens only unchanged, with its key and in its place.
func TestAES(t *testing.T) {
	ctx := t.Context()
	c, err := store.NewAES([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	another, err := store.NewAES([32]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.NewAES([32]byte{}); err == nil {
		t.Error("a key of zeros")
	}
	aad := []byte("place")
	sealed, err := c.Seal(ctx, []byte("value"), aad)
	if err != nil || bytes.Contains(sealed, []byte("value")) {
		t.Fatalf("%x, %v", sealed, err)
	}
	if twice, _ := c.Seal(ctx, []byte("value"), aad); bytes.Equal(twice, sealed) {
		t.Error("sealed to the same bytes twice")
	}
	if got, err := c.Open(ctx, sealed, aad); err != nil || string(got) != "value" {
		t.Errorf("%q, %v", got, err)
	}
	for bit := range 8 * len(sealed) {
		bad := bytes.Clone(sealed)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := c.Open(ctx, bad, aad); !errors.Is(err, store.ErrCipher) {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
	for n := range sealed {
		if _, err := c.Open(ctx, sealed[:n], aad); !errors.Is(err, store.ErrCipher) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := another.Open(ctx, sealed, aad); !errors.Is(err, store.ErrCipher) {
		t.Errorf("another key: %v", err)
	}
	if _, err := c.Open(ctx, sealed, []byte("placf")); !errors.Is(err, store.ErrCipher) {
		t.Errorf("another place: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	c, err := store.NewAES([32]byte{1})
	if err != nil {
		f.Fatal(err)
	}
	// Made once: a worker that sealed it anew would look for another one.
	sealed, err := hex.DecodeString("011e8d2472ee022ad52859a3cde093501c67ee1be0a695ed7021dd868fd2d25ef1dee7a7a5916b3b4cebccef2e850d0cbab642456f2f")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := c.Open(t.Context(), b, nil); (err == nil) != bytes.Equal(b, sealed) {
			t.Errorf("%x: %v", b, err)
		}
	})
}

func recordEntry() store.RecordEntry {
	return store.RecordEntry{
		Entry:      teebroker.Entry{Chain: teebroker.Decisions, Tenant: "acme", Kind: store.KindPolicy, Body: []byte("{}")},
		Generation: 2, Seq: 3, Time: time.UnixMilli(1_700_000_000_123), Previous: [32]byte{4},
	}
}

// The hash is made of every field, and of these bytes.
func TestEntryHash(t *testing.T) {
	var b []byte
	lp := func(s string) { b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) }
	lp("teebroker/record/v1")
	lp("acme")
	lp("decisions")
	b = binary.BigEndian.AppendUint64(b, 2)
	b = binary.BigEndian.AppendUint64(b, 3)
	b = append(append(b, 4), make([]byte, 31)...)
	b = binary.BigEndian.AppendUint64(b, 1_700_000_000_123)
	lp("policy")
	lp("{}")
	want := store.EntryHash(recordEntry())
	if want != sha256.Sum256(b) {
		t.Errorf("%x", want)
	}
	for name, edit := range map[string]func(*store.RecordEntry){
		"tenant":     func(e *store.RecordEntry) { e.Tenant = "acmf" },
		"chain":      func(e *store.RecordEntry) { e.Chain = teebroker.Refusals },
		"generation": func(e *store.RecordEntry) { e.Generation++ },
		"seq":        func(e *store.RecordEntry) { e.Seq++ },
		"previous":   func(e *store.RecordEntry) { e.Previous[31]++ },
		"time":       func(e *store.RecordEntry) { e.Time = e.Time.Add(time.Millisecond) },
		"kind":       func(e *store.RecordEntry) { e.Kind = store.KindBlob },
		"body":       func(e *store.RecordEntry) { e.Body = []byte("{ }") },
		"borders":    func(e *store.RecordEntry) { e.Kind, e.Body = "policy{", []byte("}") },
	} {
		e := recordEntry()
		edit(&e)
		if store.EntryHash(e) == want {
			t.Errorf("%s is not in the hash", name)
		}
	}
}

// Entries follow each other, and time never runs backwards in a chain.
func TestFollow(t *testing.T) {
	at := time.Unix(100, 999_999)
	first := store.RecordEntry{}.Follow(recordEntry().Entry, 1, at)
	if first.Seq != 1 || first.Previous != [32]byte{} || first.Hash != store.EntryHash(first) || !first.Time.Equal(time.Unix(100, 0)) {
		t.Errorf("%+v", first)
	}
	next := first.Follow(recordEntry().Entry, 1, at.Add(-time.Hour))
	if next.Seq != 2 || next.Previous != first.Hash || !next.Time.Equal(first.Time) {
		t.Errorf("%+v", next)
	}
}

// The launch identity of an instance is found in the claims that stand for it, and
// in nothing else.
func TestOwnClaims(t *testing.T) {
	id := teebroker.LaunchID("acme", [16]byte{1})
	for _, c := range store.OwnClaims("acme", [16]byte{1}) {
		if got, ok := c.OwnValue(); !ok || got != id {
			t.Errorf("%s: %x, %v", c.Name, got, ok)
		}
		if len(c.Want) > 32 {
			c.Want[len(c.Want)-1] = 1
			if _, ok := c.OwnValue(); ok {
				t.Errorf("%s: not padded with zeros", c.Name)
			}
		}
		c.Name = "x"
		if _, ok := c.OwnValue(); ok {
			t.Error("any claim")
		}
	}
}

// Documents are parsed once, and what they can't be is the owner's fault.
func TestDocuments(t *testing.T) {
	parsed := 0
	d := store.NewDocuments(policy.Decoders{"f": func([]byte, bool) (policy.Rule, error) {
		parsed++
		return policy.All{}, nil
	}})
	doc := []byte(`{"policy":"teebroker/1","name":"n","version":"1","scope":"global","require":{"f":[{}]}}`)
	for range 3 {
		if p, err := d.Parse(doc); err != nil || !bytes.Equal(p.Document, doc) {
			t.Fatal(p, err)
		}
	}
	if parsed != 1 {
		t.Errorf("parsed %d times", parsed)
	}
	if _, err := d.Parse([]byte("{}")); !errors.Is(err, store.Invalid) {
		t.Errorf("%v", err)
	}
}
