package teebroker_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/keywrap"
)

const keysType = "teebroker-keys+jws"

// An owner gets the keys that are not retired, in the order in which to choose,
// for an hour.
func TestKeysDocument(t *testing.T) {
	w := newBlobWorld(t, keywrap.MLKEM1024P384)
	doc, err := w.broker.KeysDocument(t.Context(), tenant)
	w.check(err)
	d, err := teebroker.VerifyKeys(doc, w.broker.ID(), tenant, w.now)
	w.check(err)
	if d.Issuer != w.broker.ID() || d.Tenant != tenant || len(d.Keys) != 2 || d.NextIdentity != [32]byte{} ||
		d.IssuedAt != w.now.Unix() || d.Expires != w.now.Add(time.Hour).Unix() {
		t.Errorf("document %+v", d)
	}
	for i, id := range []string{"one", "two"} {
		k, want := d.Keys[i], w.keys[id].Recipient()
		if k.ID != id || k.Suite != want.Suite() || !bytes.Equal(k.Public, want.Bytes()) || k.Recipient().Thumbprint() != want.Thumbprint() {
			t.Errorf("key %d: %+v", i, k)
		}
	}
	for _, tt := range []struct {
		at   time.Duration
		want error
	}{{-time.Minute, nil}, {-61 * time.Second, teebroker.ErrKeys}, {59*time.Minute + 59*time.Second, nil}, {time.Hour, teebroker.ErrKeys}} {
		if _, err := teebroker.VerifyKeys(doc, w.broker.ID(), tenant, w.now.Add(tt.at)); !errors.Is(err, tt.want) {
			t.Errorf("after %v: %v", tt.at, err)
		}
	}
	for name, tt := range map[string]struct {
		tenant string
		want   error
		peer   string
	}{
		"unknown tenant": {"nobody", teebroker.NoInstance, "denied"},
		"no tenant":      {"", teebroker.MalformedRequest, "malformed-request"},
		"not a tenant":   {"Acme", teebroker.MalformedRequest, "malformed-request"},
	} {
		doc, err := w.broker.KeysDocument(t.Context(), tt.tenant)
		if !errors.Is(err, tt.want) || teebroker.Code(err) != tt.peer || doc != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newWorld(t, nil).broker.KeysDocument(t.Context(), tenant); !errors.Is(err, teebroker.NoInstance) {
		t.Errorf("a broker without keys: %v", err)
	}
	cfg := w.cfg
	cfg.NextIdentity = [32]byte{5}
	doc, err = must(teebroker.New(cfg)).KeysDocument(t.Context(), tenant)
	w.check(err)
	if d, err := teebroker.VerifyKeys(doc, w.broker.ID(), tenant, w.now); err != nil || d.NextIdentity != [32]byte{5} {
		t.Errorf("next identity %x, %v", d.NextIdentity, err)
	}
}

// No key is taken from a document that is not the broker's own for this tenant,
// whole and of this hour.
func TestVerifyKeysRefuses(t *testing.T) {
	w, evil := newBlobWorld(t, keywrap.P384), newBlobWorld(t, keywrap.P384)
	id := w.broker.ID()
	doc, err := w.broker.KeysDocument(t.Context(), tenant)
	w.check(err)
	payload, err := jws.Verify(doc, keysType, id)
	w.check(err)
	sign := func(w *blobWorld, typ, payload string) []byte {
		return must(jws.Sign(w.cfg.Identity, typ, []byte(payload)))
	}
	edit := func(old, new string) []byte {
		if !strings.Contains(string(payload), old) {
			t.Fatalf("no %s in %s", old, payload)
		}
		return sign(w, keysType, strings.Replace(string(payload), old, new, 1))
	}
	b64 := base64.RawURLEncoding.EncodeToString
	public := b64(w.keys["one"].Recipient().Bytes())
	exp := fmt.Sprintf(`"exp":%d`, w.now.Add(time.Hour).Unix())
	for name, bad := range map[string][]byte{
		"nothing":           nil,
		"of another broker": sign(evil, keysType, string(payload)),
		"another broker's":  must(evil.broker.KeysDocument(t.Context(), tenant)),
		"another tenant's":  must(w.broker.KeysDocument(t.Context(), "other")),
		"a receipt":         sign(w, "teebroker-receipt+jws", string(payload)),
		"another issuer":    edit(b64(id[:]), b64(make([]byte, 32))),
		"no keys":           sign(w, keysType, string(payload[:bytes.Index(payload, []byte(`"keys"`))])+`"keys":[],"iat":1,`+exp+`}`),
		"an unknown suite":  edit(`"HPKE-P384"`, `"HPKE-P521"`),
		"a suite of guests": edit(`"HPKE-P384"`, `"HPKE-P256"`),
		"not a point":       edit(public, b64(make([]byte, 97))),
		"not a key id":      edit(`"one"`, `"One"`),
		"one id for two":    edit(`"one"`, `"two"`),
		"ends in no time":   edit(`"not_before":0`, `"not_before":5,"not_after":5`),
		"before 1970":       edit(`"not_before":0`, `"not_before":-1`),
		"no end":            edit(`,`+exp, ``),
		"no beginning":      edit(fmt.Sprintf(`"iat":%d,`, w.now.Unix()), ``),
		"unknown member":    edit(`{"iss"`, `{"x":1,"iss"`),
		"not JSON":          sign(w, keysType, "keys"),
	} {
		if got, err := teebroker.VerifyKeys(bad, id, tenant, w.now); !errors.Is(err, teebroker.ErrKeys) || got.Keys != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := teebroker.VerifyKeys(doc, [32]byte{}, tenant, w.now); !errors.Is(err, teebroker.ErrKeys) {
		t.Error("a zero id is somebody's")
	}
	if _, err := teebroker.VerifyKeys(doc, id, tenant, time.Time{}); !errors.Is(err, teebroker.ErrKeys) {
		t.Error("no time is any time")
	}
}

// Current is the first key of its suite in its time.
func TestCurrent(t *testing.T) {
	d := teebroker.KeysDocument{Keys: []teebroker.PublishedKey{
		{ID: "later", Suite: keywrap.P384, NotBefore: 20},
		{ID: "over", Suite: keywrap.P384, NotAfter: 10},
		{ID: "hybrid", Suite: keywrap.MLKEM1024P384, NotBefore: 5},
		{ID: "plain", Suite: keywrap.P384},
	}}
	for _, tt := range []struct {
		suite keywrap.Suite
		at    int64
		want  string
	}{
		{"", 0, "over"},
		{"", 9, "over"},
		{"", 10, "hybrid"},
		{"", 19, "hybrid"},
		{"", 20, "later"},
		{keywrap.P384, 10, "plain"},
		{keywrap.MLKEM1024P384, 4, ""},
		{keywrap.MLKEM1024P384, 5, "hybrid"},
		{keywrap.P256, 5, ""},
	} {
		k, err := d.Current(tt.suite, time.Unix(tt.at, 0))
		if k.ID != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, teebroker.ErrKeys) {
			t.Errorf("%q at %d: %q, %v", tt.suite, tt.at, k.ID, err)
		}
		if k.Recipient().Suite() != "" {
			t.Error("a key that was not verified can be wrapped to")
		}
	}
}

// inToken is a key that can't be copied.
type inToken struct{ keywrap.Opener }

func (inToken) InToken() bool { return true }

func TestNewKeySet(t *testing.T) {
	gen := func(s keywrap.Suite) keywrap.Opener { return must(keywrap.Generate(s)) }
	a, b, soft := inToken{gen(keywrap.P384)}, inToken{gen(keywrap.MLKEM1024P384)}, gen(keywrap.P384)
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	type keys = []teebroker.AttestationKey
	many := make(keys, 17)
	for i := range many {
		many[i] = teebroker.AttestationKey{ID: fmt.Sprint(i), Retired: true}
	}
	for name, bad := range map[string]map[string]keys{
		"nobody":              {},
		"not a tenant":        {"Acme": {{ID: "a", Opener: a}}},
		"no keys":             {"acme": {}},
		"too many":            {"acme": many},
		"no id":               {"acme": {{Opener: a}}},
		"not an id":           {"acme": {{ID: "a b", Opener: a}}},
		"no opener":           {"acme": {{ID: "a"}}},
		"an id twice":         {"acme": {{ID: "a", Opener: a}, {ID: "a", Opener: b}}},
		"an id again":         {"acme": {{ID: "a", Opener: a}, {ID: "a", Retired: true}}},
		"a key twice":         {"acme": {{ID: "a", Opener: a}, {ID: "b", Opener: a}}},
		"a retired key again": {"acme": {{ID: "a", Opener: a, Retired: true}, {ID: "b", Opener: a}}},
		"a key of two":        {"acme": {{ID: "a", Opener: a}}, "other": {{ID: "a", Opener: a}}},
		"a suite of guests":   {"acme": {{ID: "a", Opener: gen(keywrap.P256)}}},
		"never":               {"acme": {{ID: "a", Opener: a, NotBefore: at(5), NotAfter: at(5)}}},
		"before 1970":         {"acme": {{ID: "a", Opener: a, NotBefore: at(-5)}}},
	} {
		if s, err := teebroker.NewKeySet(bad); err == nil || s != nil {
			t.Errorf("%s: taken", name)
		}
	}
	for name, tt := range map[string]struct {
		m    map[string]keys
		want bool
	}{
		"all in tokens":   {map[string]keys{"acme": {{ID: "a", Opener: a}}, "other": {{ID: "a", Opener: b}}}, true},
		"one in software": {map[string]keys{"acme": {{ID: "a", Opener: a}}, "other": {{ID: "a", Opener: soft}}}, false},
		"that is retired": {map[string]keys{"acme": {{ID: "a", Opener: a}, {ID: "b", Opener: soft, Retired: true}}}, true},
	} {
		s, err := teebroker.NewKeySet(tt.m)
		if err != nil || s.InToken() != tt.want {
			t.Errorf("%s: %v, %v", name, s.InToken(), err)
		}
	}
	s := must(teebroker.NewKeySet(map[string]keys{"acme": {{ID: "a", Opener: a}, {ID: "b", Opener: b, Retired: true}}, "none": {{ID: "a", Retired: true}}}))
	for _, tt := range []struct {
		tenant, kid string
		ok          bool
	}{{"acme", "a", true}, {"acme", "b", false}, {"acme", "", false}, {"other", "a", false}, {"none", "a", false}} {
		k, err := s.Key(t.Context(), tt.tenant, tt.kid)
		if (err == nil) != tt.ok || (k != nil) != tt.ok || err != nil && !errors.Is(err, teebroker.ForeignBlob) {
			t.Errorf("%s of %s: %v, %v", tt.kid, tt.tenant, k, err)
		}
	}
	if ks, err := s.Published(t.Context(), "none"); !errors.Is(err, teebroker.NoInstance) || ks != nil {
		t.Errorf("retired keys are published: %v", err)
	}
}

// A broker whose attestation keys are all in tokens is not marked.
func TestKeysInToken(t *testing.T) {
	w := newBlobWorld(t, keywrap.P384)
	w.authorize(nil)
	cfg := w.cfg
	cfg.Keys = must(teebroker.NewKeySet(map[string][]teebroker.AttestationKey{tenant: {{ID: "one", Opener: inToken{w.keys["one"]}}}}))
	w.broker = must(teebroker.New(cfg))
	b := w.wrapped(nil)
	w.register(b, true)
	s := w.presenting(b)
	r, err := w.answer(w.request(s, honest()))
	w.check(err)
	w.opens(s, r)
	got, err := teebroker.VerifyReceipt(r.Receipt, w.broker.ID())
	w.check(err)
	if len(got.Weakened) != 0 {
		t.Errorf("weakened %v", got.Weakened)
	}
}

// badKeys publishes what no owner would take.
type badKeys struct {
	teebroker.Keys
	keys []teebroker.AttestationKey
	err  error
}

func (k badKeys) Published(context.Context, string) ([]teebroker.AttestationKey, error) {
	return k.keys, k.err
}

// The broker signs nothing that it would not take.
func TestKeysDocumentMisbehaved(t *testing.T) {
	w := newBlobWorld(t, keywrap.P384)
	one := teebroker.AttestationKey{ID: "one", Opener: w.keys["one"]}
	for name, k := range map[string]badKeys{
		"fails":       {w.cfg.Keys, nil, errToken},
		"none":        {w.cfg.Keys, nil, nil},
		"an id twice": {w.cfg.Keys, []teebroker.AttestationKey{one, one}, nil},
		"no id":       {w.cfg.Keys, []teebroker.AttestationKey{{Opener: w.keys["one"]}}, nil},
		"retired":     {w.cfg.Keys, []teebroker.AttestationKey{{ID: "one", Opener: w.keys["one"], Retired: true}}, nil},
		"no key":      {w.cfg.Keys, []teebroker.AttestationKey{{ID: "one"}}, nil},
	} {
		cfg := w.cfg
		cfg.Keys = k
		if doc, err := must(teebroker.New(cfg)).KeysDocument(t.Context(), tenant); !errors.Is(err, teebroker.Unavailable) || doc != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzVerifyKeys(f *testing.F) {
	w := newBlobWorld(f, keywrap.P384)
	doc, err := w.broker.KeysDocument(f.Context(), tenant)
	w.check(err)
	payload, err := jws.Verify(doc, keysType, w.broker.ID())
	w.check(err)
	f.Add(payload)
	f.Add([]byte(`{"keys":[{}]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		token, err := jws.Sign(w.cfg.Identity, keysType, payload)
		if err != nil {
			t.Fatal(err)
		}
		d, err := teebroker.VerifyKeys(token, w.broker.ID(), tenant, w.now)
		if err != nil {
			return
		}
		again, err := json.Marshal(d)
		if err != nil || len(d.Keys) == 0 || d.Keys[0].Recipient().Suite() == "" {
			t.Errorf("%s, %v", again, err)
		}
	})
}
