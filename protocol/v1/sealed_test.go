package v1_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/guest/state"
	"github.com/teebroker/teebroker/internal/strictjson"
	"github.com/teebroker/teebroker/keywrap"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// requestKeys are one that is sealed to, and the one before, which ends in an hour.
func requestKeys(t testing.TB) []teebroker.RequestKey {
	t.Helper()
	var ks []teebroker.RequestKey
	for _, k := range []teebroker.RequestKey{{ID: "now", NotBefore: start()}, {ID: "before", NotAfter: start().Add(time.Hour)}} {
		var err error
		if k.Opener, err = keywrap.Generate(keywrap.MLKEM768X25519); err != nil {
			t.Fatal(err)
		}
		ks = append(ks, k)
	}
	return ks
}

// between is what forwards, and all that it sees.
type between struct {
	broker http.Handler
	seen   []seen
	change func(path string, body []byte) []byte                      // or nil
	answer func(w http.ResponseWriter, path string, body []byte) bool // or nil
}

type seen struct {
	path          string
	asked, answer []byte
	status        int
}

func (b *between) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if b.answer != nil && b.answer(w, r.URL.Path, body) {
		return
	}
	if b.change != nil {
		body = b.change(r.URL.Path, body)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	rec := httptest.NewRecorder()
	b.broker.ServeHTTP(rec, r)
	b.seen = append(b.seen, seen{r.URL.RequestURI(), body, rec.Body.Bytes(), rec.Code})
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

// newSealed is a world with epochs whose guests ask through b, in sealed requests.
func newSealed(t testing.TB) (o *owned, b *between, c *v1.Client) {
	t.Helper()
	o = newEpochs(t, "boot")
	b = &between{broker: o.server}
	s := httptest.NewServer(b)
	t.Cleanup(s.Close)
	return o, b, o.sealing(s.URL, nil)
}

func (o *owned) sealing(url string, edit func(*v1.ClientConfig)) *v1.Client {
	return o.client(func(c *v1.ClientConfig) {
		c.URL, c.SealTo, c.Time = url, o.broker.ID(), o.time
		if edit != nil {
			edit(c)
		}
	})
}

// Whoever forwards a boot sees that the keys document of nobody is fetched, and
// messages of one size; the broker's log has what was asked.
func TestSealedBoot(t *testing.T) {
	o, b, c := newSealed(t)
	o.authorize()
	st, err := o.bootWith(c, state.Dir(t.TempDir()))
	o.check(err)
	if string(st.Value()) != "fresh" {
		t.Errorf("state %q", st.Value())
	}
	var paths []string
	for _, s := range b.seen {
		paths = append(paths, s.path)
		for _, word := range []string{"acme", strictjson.UUID(instance).String(), "snp-report", "receipt", "nonce"} {
			if bytes.Contains(s.asked, []byte(word)) || bytes.Contains(s.answer, []byte(word)) {
				t.Errorf("%s shows %s", s.path, word)
			}
		}
		if s.path == v1.PathSealed && (len(s.asked) != len(b.seen[1].asked) || len(s.answer) != len(b.seen[1].answer) || s.status != 200) {
			t.Errorf("sizes %d and %d, status %d", len(s.asked), len(s.answer), s.status)
		}
	}
	if want := []string{v1.PathKeys + "?tenant=", v1.PathSealed, v1.PathSealed, v1.PathSealed}; !slices.Equal(paths, want) {
		t.Errorf("paths %q", paths)
	}
	if e := o.last(); !e.Sealed || e.Route != v1.PathConfirm || e.Status != 200 || e.Code != "" {
		t.Errorf("log %+v", e)
	}
	// A refusal is of that size as well.
	s := o.session()
	b.seen = nil
	if _, err := c.Release(t.Context(), o.request(s, c)); code(err) != "denied" {
		t.Errorf("a second boot: %v", err)
	}
	for _, s := range b.seen {
		if s.status != 200 || len(s.answer) != len(b.seen[0].answer) {
			t.Errorf("a refusal shows: %d, %d bytes", s.status, len(s.answer))
		}
	}
	if e := o.last(); !e.Sealed || e.Route != v1.PathRelease || e.Status != 403 || e.Code != "denied" || !errors.Is(e.Err, teebroker.OtherKey) {
		t.Errorf("log %+v", e)
	}
}

// The same sealed bytes, and the same request sealed again, get the stored answer;
// and only who sealed them reads it.
func TestSealedRetries(t *testing.T) {
	o, b, c := newSealed(t)
	o.authorize()
	s := o.session()
	body := o.request(s, c)
	first, err := c.Release(t.Context(), body)
	o.check(err)
	again, err := c.Release(t.Context(), body)
	if err != nil || !bytes.Equal(again.Sealed, first.Sealed) || !bytes.Equal(again.Receipt, first.Receipt) {
		t.Errorf("sealed again: %v", err)
	}
	clear, err := o.client(nil).Release(t.Context(), body)
	if err != nil || !bytes.Equal(clear.Receipt, first.Receipt) {
		t.Errorf("in the clear: %v", err)
	}
	if last := b.seen[len(b.seen)-2:]; bytes.Equal(last[0].asked, last[1].asked) {
		t.Error("sealed twice to the same bytes")
	}
	sealer := o.sealer()
	sealed, answer, err := sealer.Seal(v1.PathRelease, body)
	o.check(err)
	_, other, err := sealer.Seal(v1.PathRelease, body)
	o.check(err)
	var answers [][]byte
	for range 2 {
		status, got := o.postSealed(sealed)
		opened, err := answer.Open(got)
		if err != nil || status != 200 {
			t.Fatalf("%d, %v", status, err)
		}
		if r, err := v1.ParseResponse(opened); err != nil || !bytes.Equal(r.Receipt, first.Receipt) {
			t.Errorf("the same bytes: %v", err)
		}
		if _, err := other.Open(got); !errors.Is(err, v1.ErrNotSealed) {
			t.Errorf("opened by who sealed it another time: %v", err)
		}
		answers = append(answers, got)
	}
	if bytes.Equal(answers[0], answers[1]) {
		t.Error("two answers under one IV")
	}
	if r, err := o.acme.Record(t.Context(), teebroker.Decisions, 0); err != nil || len(r.Entries) == 0 || r.Entries[len(r.Entries)-1].Kind != teebroker.KindRelease {
		t.Errorf("what was asked again is in the record: %v", err)
	}
}

func (o *owned) sealer() *v1.Sealer {
	o.Helper()
	doc, err := o.broker.KeysDocument(o.Context(), "")
	o.check(err)
	s, err := v1.NewSealer(doc, o.broker.ID(), o.time)
	o.check(err)
	return s
}

func (o *owned) postSealed(body []byte) (int, []byte) {
	rec := httptest.NewRecorder()
	o.server.ServeHTTP(rec, httptest.NewRequestWithContext(o.Context(), "POST", v1.PathSealed, bytes.NewReader(body)))
	return rec.Code, rec.Body.Bytes()
}

// sealedParts are what is on the wire.
type sealedParts struct {
	V      int    `json:"v"`
	KeyID  string `json:"kid"`
	Sealed struct {
		Suite string            `json:"suite"`
		Enc   strictjson.Base64 `json:"enc"`
		CT    strictjson.Base64 `json:"ct"`
	} `json:"sealed"`
}

// What can't be opened is one and the same refusal, and a key that is over opens
// nothing.
func TestSealedMalformed(t *testing.T) {
	o := newEpochs(t, "boot")
	evil := newEpochs(t, "boot")
	good, _, err := o.sealer().Seal(v1.PathNonce, nil)
	o.check(err)
	foreign, _, err := evil.sealer().Seal(v1.PathNonce, nil)
	o.check(err)
	if status, _ := o.postSealed(good); status != 200 {
		t.Fatalf("status %d", status)
	}
	edit := func(f func(*sealedParts)) []byte {
		var p sealedParts
		o.check(json.Unmarshal(good, &p))
		f(&p)
		b, err := json.Marshal(p)
		o.check(err)
		return b
	}
	for name, bad := range map[string][]byte{
		"nothing":                nil,
		"garbage":                []byte("sealed"),
		"a request in the clear": []byte(`{"profile":"v1"}`),
		"cut off":                good[:len(good)-9],
		"another version":        edit(func(p *sealedParts) { p.V = 2 }),
		"no such key":            edit(func(p *sealedParts) { p.KeyID = "none" }),
		"no key":                 edit(func(p *sealedParts) { p.KeyID = "" }),
		"another key":            edit(func(p *sealedParts) { p.KeyID = "before" }),
		"another broker's":       foreign,
		"another suite":          edit(func(p *sealedParts) { p.Sealed.Suite = "HPKE-X25519" }),
		"a bit of enc":           edit(func(p *sealedParts) { p.Sealed.Enc[7] ^= 1 }),
		"a bit of ct":            edit(func(p *sealedParts) { p.Sealed.CT[7] ^= 1 }),
		"less ct":                edit(func(p *sealedParts) { p.Sealed.CT = p.Sealed.CT[:99] }),
		"no ct":                  edit(func(p *sealedParts) { p.Sealed.CT = nil }),
		"a low-order point":      edit(func(p *sealedParts) { copy(p.Sealed.Enc[len(p.Sealed.Enc)-32:], make([]byte, 32)) }),
		"something else in it":   bytes.Replace(good, []byte(`{"v"`), []byte(`{"x":1,"v"`), 1),
	} {
		status, got := o.postSealed(bad)
		var p v1.Problem
		if err := json.Unmarshal(got, &p); err != nil || status != 400 || p.Code != "malformed-request" {
			t.Errorf("%s: %d %s", name, status, got)
		}
	}
	if status, _ := o.postSealed(bytes.Repeat([]byte(" "), v1.MaxRelease+1)); status != 413 {
		t.Errorf("too long: %d", status)
	}
}

// A key that was replaced is published until then, and opens for an hour and a
// minute more.
func TestRequestKeyRotation(t *testing.T) {
	w := newWorld(t, func(_ *world, c *teebroker.Config, _ *v1.Config) { c.RequestKeys = requestKeys(t)[1:] })
	o := &owned{world: w}
	before := o.sealer()
	sealed, _, err := before.Seal(v1.PathNonce, nil)
	o.check(err)
	w.pass(time.Hour)
	if _, _, err := before.Seal(v1.PathNonce, nil); !errors.Is(err, teebroker.ErrKeys) {
		t.Errorf("sealed to a key that is over: %v", err)
	}
	w.pass(time.Hour + time.Minute - time.Second)
	if status, b := o.postSealed(sealed); status != 200 {
		t.Errorf("the key before is not taken: %d %s", status, b)
	}
	w.pass(time.Second)
	if status, _ := o.postSealed(sealed); status != 400 {
		t.Errorf("a key that is over is taken: %d", status)
	}
	if _, err := w.broker.KeysDocument(t.Context(), ""); !errors.Is(err, teebroker.Unavailable) {
		t.Errorf("no key is left: %v", err)
	}
}

// A sealed request asks for what guests ask, under nobody's credentials, and for no
// other sealed request.
func TestSealedAsksLittle(t *testing.T) {
	o := newEpochs(t, "boot")
	sealer := o.sealer()
	nested, _, err := sealer.Seal(v1.PathNonce, nil)
	o.check(err)
	for name, tt := range map[string]struct {
		path string
		body []byte
		want int
	}{
		"a nonce":                {v1.PathNonce, nil, 200},
		"nested":                 {v1.PathSealed, nested, 404},
		"the keys":               {v1.PathKeys, nil, 404},
		"to verify":              {v1.PathVerify, []byte("{}"), 404},
		"an owner's":             {v1.PathInstances + "/" + strictjson.UUID(instance).String() + "/retire", []byte(`{"purpose":"disk"}`), 404},
		"operations":             {v1.PathReady, nil, 404},
		"a path that is cleaned": {"/broker/v1/./nonce", nil, 404},
		"nothing":                {"", nil, 404},
		"too long for its route": {v1.PathConfirm, make([]byte, 64<<10+1), 413},
		"malformed":              {v1.PathConfirm, []byte("{}"), 400},
	} {
		sealed, open, err := v1.SealUnsafe(sealer, tt.path, tt.body)
		o.check(err)
		req := httptest.NewRequestWithContext(t.Context(), "POST", v1.PathSealed, bytes.NewReader(sealed))
		req.Header.Set("Authorization", "Bearer "+acmeToken)
		rec := httptest.NewRecorder()
		o.server.ServeHTTP(rec, req)
		status := 200
		var p *v1.Problem
		if _, err := open.Open(rec.Body.Bytes()); errors.As(err, &p) {
			status = p.Status
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if rec.Code != 200 || status != tt.want {
			t.Errorf("%s: %d in %d", name, status, rec.Code)
		}
		if _, _, err := sealer.Seal(tt.path, tt.body); (err == nil) != (tt.path == v1.PathNonce || tt.path == v1.PathConfirm) {
			t.Errorf("%s: a guest seals it: %v", name, err)
		}
	}
	if _, _, err := sealer.Seal(v1.PathRelease, make([]byte, keywrap.MaxSecret-40-len(v1.PathRelease))); !errors.Is(err, teebroker.TooLarge) {
		t.Errorf("more than fits: %v", err)
	}
	if b, _, err := sealer.Seal(v1.PathRelease, make([]byte, keywrap.MaxSecret-41-len(v1.PathRelease))); err != nil || len(b) > v1.MaxRelease {
		t.Errorf("the most that fits: %d bytes, %v", len(b), err)
	}
}

// A guest that seals asks nothing in the clear, whatever it is told, unless it is
// allowed to; and a refusal that only a reader of the request could make is not
// taken for the broker's.
func TestSealedNeverInTheClear(t *testing.T) {
	problem := func(w http.ResponseWriter, status int, code string) bool {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v1.Problem{Type: "urn:teebroker:" + code, Title: "no", Status: status, Code: code, Request: "x"})
		return true
	}
	evil := newEpochs(t, "boot")
	stale, err := evil.broker.KeysDocument(t.Context(), "")
	evil.check(err)
	for name, tt := range map[string]struct {
		answer func(http.ResponseWriter, string, []byte) bool
		want   error
		clear  bool // what AllowUnsealed allows
	}{
		"no keys": {func(w http.ResponseWriter, p string, _ []byte) bool {
			return p == v1.PathKeys && problem(w, 404, "no-instance")
		}, teebroker.NoInstance, true},
		"another broker's keys": {func(w http.ResponseWriter, p string, _ []byte) bool {
			if p == v1.PathKeys {
				_, _ = w.Write(stale)
			}
			return p == v1.PathKeys
		}, teebroker.ErrKeys, true},
		"no such route": {func(w http.ResponseWriter, p string, _ []byte) bool {
			return p == v1.PathSealed && problem(w, 404, "malformed-request")
		}, teebroker.MalformedRequest, false},
		"denied in the clear": {func(w http.ResponseWriter, p string, _ []byte) bool {
			return p == v1.PathSealed && problem(w, 403, "denied")
		}, v1.ErrNotSealed, false},
		"superseded in the clear": {func(w http.ResponseWriter, p string, _ []byte) bool {
			return p == v1.PathSealed && problem(w, 409, "superseded")
		}, v1.ErrNotSealed, false},
		"unavailable": {func(w http.ResponseWriter, p string, _ []byte) bool {
			return p == v1.PathSealed && problem(w, 503, "unavailable")
		}, teebroker.Unavailable, false},
		"a nonce in the clear": {func(w http.ResponseWriter, p string, _ []byte) bool {
			if p == v1.PathSealed {
				_, _ = w.Write([]byte(`{"nonce":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE","expires":"2026-11-01T13:00:00Z"}`))
			}
			return p == v1.PathSealed
		}, v1.ErrNotSealed, false},
	} {
		t.Run(name, func(t *testing.T) {
			o, b, c := newSealed(t)
			b.answer = tt.answer
			if _, err := c.Challenge(t.Context(), "v1"); !errors.Is(err, tt.want) || errors.Is(err, v1.ErrNoRequestKey) != tt.clear {
				t.Errorf("%v", err)
			}
			url := httptest.NewServer(b)
			defer url.Close()
			allowed := o.sealing(url.URL, func(c *v1.ClientConfig) { c.AllowUnsealed = true })
			if _, err := allowed.Challenge(t.Context(), "v1"); (err == nil) != tt.clear {
				t.Errorf("allowed: %v", err)
			}
			asked := 0
			for _, s := range b.seen {
				if s.path != v1.PathSealed && !strings.HasPrefix(s.path, v1.PathKeys) {
					asked++
				}
			}
			if asked > 0 != tt.clear || asked > 1 {
				t.Errorf("asked in the clear %d times", asked)
			}
		})
	}
	o, b, c := newSealed(t)
	if _, err := c.Instance(t.Context(), instance); err == nil || len(b.seen) != 0 {
		t.Errorf("asked for an instance: %v, after %d requests", err, len(b.seen))
	}
	for name, edit := range map[string]func(*v1.ClientConfig){
		"an owner who seals": func(c *v1.ClientConfig) { c.SealTo, c.Token = o.broker.ID(), acmeToken },
		"nothing to allow":   func(c *v1.ClientConfig) { c.AllowUnsealed = true },
	} {
		cfg := v1.ClientConfig{URL: o.http.URL}
		edit(&cfg)
		if _, err := v1.NewClient(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A key that the broker does not have any more is looked up once more.
func TestSealedAfterRotation(t *testing.T) {
	o, b, c := newSealed(t)
	_, err := c.Challenge(t.Context(), "v1")
	o.check(err)
	w := newWorld(t, func(w *world, engine *teebroker.Config, cfg *v1.Config) {
		engine.RequestKeys, engine.Identity = requestKeys(t), o.identity
		cfg.Keys = func(ctx context.Context, tenant string) ([]byte, error) { return w.broker.KeysDocument(ctx, tenant) }
	})
	b.broker, b.seen = w.server, nil
	if _, err := c.Challenge(t.Context(), "v1"); err != nil || len(b.seen) != 3 {
		t.Errorf("%v, after %d requests", err, len(b.seen))
	}
}

// BenchmarkSealed is a request for a nonce without a connection, in the clear and
// sealed.
func BenchmarkSealed(b *testing.B) {
	w := newWorld(b, func(_ *world, c *teebroker.Config, s *v1.Config) {
		c.RequestKeys, s.PerSource, s.Observe = requestKeys(b), v1.Rate{Burst: 1 << 30, Every: time.Nanosecond}, nil
	})
	o := &owned{world: w}
	sealed, _, err := o.sealer().Seal(v1.PathNonce, nil)
	w.check(err)
	for path, body := range map[string][]byte{v1.PathNonce: nil, v1.PathSealed: sealed} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rec := httptest.NewRecorder()
				w.server.ServeHTTP(rec, httptest.NewRequestWithContext(b.Context(), "POST", path, bytes.NewReader(body)))
				if rec.Code != 200 {
					b.Fatal(rec.Code)
				}
			}
		})
	}
}
