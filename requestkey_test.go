package teebroker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/keywrap"
)

func requestKey(t testing.TB, id string, suite keywrap.Suite) teebroker.RequestKey {
	t.Helper()
	k, err := keywrap.Generate(suite)
	if err != nil {
		t.Fatal(err)
	}
	return teebroker.RequestKey{ID: id, Opener: k}
}

// The document of no tenant has the request keys, in order, and no other document
// has them.
func TestRequestKeys(t *testing.T) {
	keys := []teebroker.RequestKey{requestKey(t, "b", keywrap.MLKEM1024P384), requestKey(t, "a", keywrap.MLKEM768X25519)}
	w := newBlobWorld(t, keywrap.P384)
	cfg := w.cfg
	cfg.RequestKeys = keys
	keys[0].NotBefore = w.now.Add(time.Hour)
	keys[1].NotAfter = w.now.Add(2 * time.Hour)
	b := must(teebroker.New(cfg))
	doc := must(b.KeysDocument(t.Context(), ""))
	d, err := teebroker.VerifyKeys(doc, b.ID(), "", w.now)
	if err != nil || len(d.Keys) != 0 || len(d.RequestKeys) != 2 || d.RequestKeys[0].ID != "b" {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, err := d.Current("", w.now); !errors.Is(err, teebroker.ErrKeys) {
		t.Errorf("something to wrap to: %v", err)
	}
	for after, want := range map[time.Duration]string{0: "a", time.Hour - time.Minute - time.Second: "a", time.Hour - time.Minute: "b", 3 * time.Hour: "b"} {
		if k, err := d.RequestKey(w.now.Add(after)); err != nil || k.ID != want {
			t.Errorf("after %v: %q, %v", after, k.ID, err)
		}
	}
	sealed, err := d.SealRequest([]byte("plain"), w.now)
	w.check(err)
	if got, err := b.OpenRequest(t.Context(), sealed); err != nil || string(got) != "plain" {
		t.Errorf("%q, %v", got, err)
	}
	if got := must(teebroker.VerifyKeys(must(b.KeysDocument(t.Context(), tenant)), b.ID(), tenant, w.now)); got.RequestKeys != nil {
		t.Error("a tenant's document has request keys")
	}
	for name, tt := range map[string]struct{ doc, tenant string }{
		"of no tenant, for one": {string(doc), tenant},
		"of one, for none":      {string(must(b.KeysDocument(t.Context(), tenant))), ""},
	} {
		if _, err := teebroker.VerifyKeys([]byte(tt.doc), b.ID(), tt.tenant, w.now); !errors.Is(err, teebroker.ErrKeys) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.pass(2 * time.Hour)
	d = must(teebroker.VerifyKeys(must(b.KeysDocument(t.Context(), "")), b.ID(), "", w.now))
	if len(d.RequestKeys) != 1 || d.RequestKeys[0].ID != "b" {
		t.Errorf("a key that is over is published: %+v", d.RequestKeys)
	}
}

// A document with keys of both kinds, or of another suite, is none, whoever signed it.
func TestVerifyRequestKeysRefuses(t *testing.T) {
	w := newBlobWorld(t, keywrap.P384)
	cfg := w.cfg
	cfg.RequestKeys = []teebroker.RequestKey{requestKey(t, "one", keywrap.MLKEM768X25519)}
	b := must(teebroker.New(cfg))
	var request, owner map[string]json.RawMessage
	for tenant, into := range map[string]*map[string]json.RawMessage{"": &request, tenant: &owner} {
		payload := must(jws.Verify(must(b.KeysDocument(t.Context(), tenant)), keysType, b.ID()))
		w.check(json.Unmarshal(payload, into))
	}
	for name, tt := range map[string]struct {
		tenant string
		edit   func(map[string]json.RawMessage)
	}{
		"none":               {"", func(m map[string]json.RawMessage) { delete(m, "request_keys") }},
		"keys of both kinds": {"", func(m map[string]json.RawMessage) { m["keys"] = owner["keys"] }},
		"owners' keys":       {"", func(m map[string]json.RawMessage) { m["request_keys"] = owner["keys"] }},
		"a tenant's":         {tenant, func(m map[string]json.RawMessage) { m["tenant"] = owner["tenant"] }},
		"a tenant's keys":    {tenant, func(m map[string]json.RawMessage) { m["tenant"], m["keys"] = owner["tenant"], request["request_keys"] }},
		"not a key": {"", func(m map[string]json.RawMessage) {
			m["request_keys"] = bytes.Replace(m["request_keys"], []byte("X25519"), []byte("P256"), 1)
		}},
	} {
		m := map[string]json.RawMessage{}
		for k, v := range request {
			m[k] = v
		}
		tt.edit(m)
		doc := must(jws.Sign(cfg.Identity, keysType, must(json.Marshal(m))))
		if _, err := teebroker.VerifyKeys(doc, b.ID(), tt.tenant, w.now); !errors.Is(err, teebroker.ErrKeys) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A key has one id and one use.
func TestRequestKeysRefused(t *testing.T) {
	w := newBlobWorld(t, keywrap.P384)
	one := requestKey(t, "one", keywrap.MLKEM768X25519)
	wraps := requestKey(t, "wraps", keywrap.MLKEM1024P384)
	both := w.cfg
	both.Keys = must(teebroker.NewKeySet(map[string][]teebroker.AttestationKey{tenant: {{ID: "a", Opener: wraps.Opener}}}))
	many := make([]teebroker.RequestKey, 17)
	for name, tt := range map[string]struct {
		cfg  teebroker.Config
		keys []teebroker.RequestKey
	}{
		"no key":             {w.cfg, []teebroker.RequestKey{{ID: "one"}}},
		"not an id":          {w.cfg, []teebroker.RequestKey{{ID: "One", Opener: one.Opener}}},
		"not hybrid":         {w.cfg, []teebroker.RequestKey{requestKey(t, "one", keywrap.P384)}},
		"two of one id":      {w.cfg, []teebroker.RequestKey{one, requestKey(t, "one", keywrap.MLKEM768X25519)}},
		"one of two ids":     {w.cfg, []teebroker.RequestKey{one, {ID: "two", Opener: one.Opener}}},
		"an attestation key": {both, []teebroker.RequestKey{wraps}},
		"before 1970":        {w.cfg, []teebroker.RequestKey{{ID: "one", Opener: one.Opener, NotBefore: time.Unix(-1, 0)}}},
		"over before it is":  {w.cfg, []teebroker.RequestKey{{ID: "one", Opener: one.Opener, NotBefore: w.now, NotAfter: w.now}}},
		"too many":           {w.cfg, many},
	} {
		tt.cfg.RequestKeys = tt.keys
		if _, err := teebroker.New(tt.cfg); err == nil || !strings.Contains(err.Error(), "RequestKeys") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// brokenOpener is a token that is out of reach.
type brokenOpener struct{ keywrap.Opener }

func (brokenOpener) Open(context.Context, keywrap.Sealed, []byte) ([]byte, error) {
	return nil, errors.New("no token")
}

// What does not open is the sender's fault, and what can't be tried is not.
func TestOpenRequest(t *testing.T) {
	w := newBlobWorld(t, keywrap.P384)
	cfg := w.cfg
	cfg.RequestKeys = []teebroker.RequestKey{requestKey(t, "one", keywrap.MLKEM768X25519)}
	b := must(teebroker.New(cfg))
	d := must(teebroker.VerifyKeys(must(b.KeysDocument(t.Context(), "")), b.ID(), "", w.now))
	sealed := must(d.SealRequest([]byte("plain"), w.now))

	other := w.cfg // the same key, held by another broker
	other.RequestKeys, other.Identity = cfg.RequestKeys, newBlobWorld(t, keywrap.P384).cfg.Identity
	if _, err := must(teebroker.New(other)).OpenRequest(t.Context(), sealed); !errors.Is(err, teebroker.MalformedRequest) {
		t.Errorf("by another broker: %v", err)
	}
	renamed := cfg // the same key under another id
	renamed.RequestKeys = []teebroker.RequestKey{{ID: "two", Opener: cfg.RequestKeys[0].Opener}}
	if _, err := must(teebroker.New(renamed)).OpenRequest(t.Context(), teebroker.SealedRequest{KeyID: "two", Sealed: sealed.Sealed}); !errors.Is(err, teebroker.MalformedRequest) {
		t.Errorf("under another id: %v", err)
	}
	if _, err := w.broker.OpenRequest(t.Context(), sealed); !errors.Is(err, teebroker.MalformedRequest) {
		t.Errorf("by a broker without request keys: %v", err)
	}
	broken := cfg
	broken.RequestKeys = []teebroker.RequestKey{{ID: "one", Opener: brokenOpener{cfg.RequestKeys[0].Opener}}}
	if _, err := must(teebroker.New(broken)).OpenRequest(t.Context(), sealed); !errors.Is(err, teebroker.Unavailable) {
		t.Errorf("without the token: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.OpenRequest(ctx, sealed); !errors.Is(err, teebroker.Unavailable) {
		t.Errorf("by a guest that left: %v", err)
	}
}
