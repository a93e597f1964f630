package teebroker_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/owner"
)

// What was wrapped to a retired key opens no more; what was wrapped again before
// does, and is as much for one instance and purpose as it was.
func TestRewrap(t *testing.T) {
	w := newBlobWorld(t, keywrap.P384)
	w.authorize(nil)
	var old keywrap.Wrapped
	w.rotate("one", "two")
	old = w.wrapped(func(b *owner.Blob) { b.Policy = teebroker.PolicyDigest(measured("good").Digest()) })
	w.rotate("two", "one")
	for _, copied := range []bool{true, false} {
		w.register(old, copied)
		var given []byte
		if !copied {
			given = encoded(w, old)
		}
		b, err := w.broker.Rewrap(t.Context(), tenant, instance, purpose, given)
		w.check(err)
		before, err1 := old.Header()
		after, err2 := b.Header()
		w.check(errors.Join(err1, err2))
		before.KeyID = "two"
		if after != before || b.Digest() == old.Digest() {
			t.Errorf("header %+v, want %+v", after, before)
		}
		w.register(b, true)
		w.authorize(nil)
		s := w.presenting(b)
		r, err := w.answer(w.request(s, honest()))
		w.check(err)
		w.opens(s, r)
	}
	used := w.used
	w.rotate("two")
	w.register(old, true)
	_, err := w.broker.Rewrap(t.Context(), tenant, instance, purpose, nil)
	w.refusedWith("retired", teebroker.Response{}, err, teebroker.ForeignBlob)
	for name, tt := range map[string]struct {
		tenant  string
		id      [16]byte
		purpose string
		blob    []byte
		want    error
	}{
		"another blob":     {tenant, instance, purpose, encoded(w, w.wrapped(nil)), teebroker.ForeignBlob},
		"another purpose":  {tenant, instance, "disk/data", nil, teebroker.ForeignBlob},
		"another instance": {tenant, [16]byte{9}, purpose, nil, teebroker.NoInstance},
		"no instance":      {tenant, [16]byte{}, purpose, nil, teebroker.MalformedRequest},
		"another tenant":   {"other", instance, purpose, nil, teebroker.NoInstance},
		"too large":        {tenant, instance, purpose, make([]byte, 65<<10), teebroker.MalformedRequest},
	} {
		got, err := w.broker.Rewrap(t.Context(), tt.tenant, tt.id, tt.purpose, tt.blob)
		if !errors.Is(err, tt.want) || got.Protected != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w.used != used {
		t.Error("a refused one reached a key")
	}
}

// rotate gives the broker these keys, the first of which is published first; the
// others are retired.
func (w *blobWorld) rotate(ids ...string) {
	w.Helper()
	var keys []teebroker.AttestationKey
	for _, id := range ids {
		keys = append(keys, teebroker.AttestationKey{ID: id, Opener: counted{w.keys[id], &w.used, nil}})
	}
	for _, id := range []string{"one", "two", "three"} {
		if !slices.Contains(ids, id) {
			keys = append(keys, teebroker.AttestationKey{ID: id, Retired: true})
		}
	}
	cfg := w.cfg
	cfg.Keys = must(teebroker.NewKeySet(map[string][]teebroker.AttestationKey{tenant: keys}))
	w.broker = must(teebroker.New(cfg))
}
