package guest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/guest"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/internal/sealed"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/policy"
	"github.com/teebroker/teebroker/store/memory"
)

var instance = [16]byte{1}

// newBroker returns a broker that releases "secret" to guests of two instances
// and for two purposes.
func newBroker(t *testing.T) *teebroker.Broker {
	t.Helper()
	b, _ := newBrokerKey(t)
	return b
}

// newBrokerKey returns its identity key as well.
func newBrokerKey(t *testing.T) (*teebroker.Broker, *ecdsa.PrivateKey) {
	t.Helper()
	now := func() time.Time { return time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC) }
	s := memory.New(now)
	identity, err1 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	issuer, err2 := nonce.NewHMAC(nonce.Config{Key: [32]byte{1}, Time: now})
	b, err3 := teebroker.New(teebroker.Config{
		Verifier: faketee.Verifier{NotAfter: now().AddDate(1, 0, 0)}, Issuer: issuer, Nonces: s,
		Directory: s, Secrets: s, Ledger: s, Identity: identity, Time: now,
	})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, id := range [][16]byte{instance, {2}} {
		inst := teebroker.Instance{
			Tenant: "acme", ID: id, AllowUnpinnedBroker: true, AllowSharedLaunchIdentity: true,
			Suites: keywrap.Allow{Suites: []keywrap.Suite{keywrap.X25519, keywrap.JWEP256}},
			Policies: []*policy.Policy{{Document: []byte("any"), Require: map[evidence.Format]policy.Rule{
				faketee.Format: policy.Claim{Name: "snp.measurement", Op: evidence.Equal, Want: evidence.Text("m")},
			}}},
		}
		err := s.Register(ctx, inst)
		for _, p := range []string{"disk", "data"} {
			err = errors.Join(err, s.PutSecret(ctx, "acme", id, p, []byte("secret")))
		}
		err = errors.Join(err, s.Authorize(ctx, teebroker.Authorization{
			Tenant: "acme", Instance: id, Purposes: []string{"disk", "data"}, Uses: 9, NotAfter: now().Add(time.Hour),
		}))
		if err != nil {
			t.Fatal(err)
		}
	}
	return b, identity
}

func config(t *testing.T, b *teebroker.Broker) guest.Config {
	t.Helper()
	key, err := keywrap.Generate(keywrap.X25519)
	if err != nil {
		t.Fatal(err)
	}
	id := b.ID()
	return guest.Config{Tenant: "acme", Instance: instance, Purpose: "disk", Broker: id[:], Key: key}
}

func newSession(t *testing.T, cfg guest.Config) *guest.Session {
	t.Helper()
	s, err := guest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answer is what b answers to a new request of s.
func answer(t *testing.T, b *teebroker.Broker, s *guest.Session) teebroker.Response {
	t.Helper()
	c, err := b.Challenge(t.Context(), nonce.ProfileV1)
	if err != nil {
		t.Fatal(err)
	}
	binding, err := s.Bind(c.Nonce, faketee.Format)
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Answer(t.Context(), s.Request(c.Nonce, faketee.Guest{Measurement: "m"}.Evidence(binding)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestOpen(t *testing.T) {
	b := newBroker(t)
	for _, suite := range []keywrap.Suite{keywrap.X25519, keywrap.JWEP256} {
		for _, pinned := range []bool{true, false} {
			cfg := config(t, b)
			cfg.Key, _ = keywrap.Generate(suite)
			if !pinned {
				cfg.Broker = nil
			}
			s := newSession(t, cfg)
			first := answer(t, b, s)
			second := answer(t, b, s) // redelivered: sealed for the first request
			for _, r := range []teebroker.Response{first, second, first, {Sealed: first.Sealed, Receipt: first.Receipt}} {
				got, err := s.Open(t.Context(), r)
				if err != nil || string(got) != "secret" {
					t.Errorf("%s, pinned=%v: %q, %v", suite, pinned, got, err)
				}
			}
		}
	}
}

// Whatever the host puts in place of the answer, a pinned broker's guest uses
// nothing of it.
func TestOpenRefuses(t *testing.T) {
	b, evil := newBroker(t), newBroker(t)
	cfg := config(t, b)
	s := newSession(t, cfg)
	good := answer(t, b, s)
	with := func(edit func(*guest.Config)) teebroker.Response {
		c := cfg
		edit(&c)
		return answer(t, b, newSession(t, c)) // another session with the same key
	}
	otherKey := config(t, b)
	otherKey.Instance = [16]byte{2}
	evilID := evil.ID()
	fromEvil := cfg
	fromEvil.Broker = evilID[:]
	for name, tt := range map[string]struct {
		r    teebroker.Response
		want error
	}{
		"nothing":                    {teebroker.Response{}, guest.NoReceipt},
		"no receipt":                 {teebroker.Response{Sealed: good.Sealed}, guest.NoReceipt},
		"receipt of another broker":  {answer(t, evil, newSession(t, fromEvil)), guest.NoReceipt},
		"sealed bytes of another":    {teebroker.Response{Sealed: answer(t, b, newSession(t, otherKey)).Sealed, Receipt: good.Receipt}, guest.NoReceipt},
		"answer to another key":      {answer(t, b, newSession(t, otherKey)), guest.NoReceipt},
		"another purpose, same key":  {with(func(c *guest.Config) { c.Purpose = "data" }), guest.NoReceipt},
		"another instance, same key": {with(func(c *guest.Config) { c.Instance = [16]byte{2} }), guest.NoReceipt},
		"another session, same key":  {with(func(*guest.Config) {}), guest.NoReceipt},
		"sealed with a space added":  {teebroker.Response{Sealed: append(good.Sealed, ' '), Receipt: good.Receipt}, guest.NoReceipt},
	} {
		if got, err := s.Open(t.Context(), tt.r); !errors.Is(err, tt.want) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := s.Open(t.Context(), good); err != nil || string(got) != "secret" {
		t.Errorf("the good one after all: %q, %v", got, err)
	}
}

// Without a pinned broker what is inside still has to be what was asked for.
func TestOpenUnpinned(t *testing.T) {
	b := newBroker(t)
	cfg := config(t, b)
	cfg.Broker = nil
	cfg.Key, _ = keywrap.Generate(keywrap.JWEP256) // which authenticates no context
	s := newSession(t, cfg)
	good := answer(t, b, s)
	binding, err := s.Bind(nonce.Nonce{1}, faketee.Format)
	if err != nil {
		t.Fatal(err)
	}
	right := sealed.Secret{Binding: binding.Bytes(), Release: [16]byte{1}, Tenant: "acme", Instance: instance, Purpose: "disk", Key: []byte("k"), ConfirmKey: make([]byte, 32)}
	seal := func(edit func(*sealed.Secret)) teebroker.Response {
		c := right
		edit(&c)
		plain, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return sealTo(t, cfg.Key, plain)
	}
	if got, err := s.Open(t.Context(), seal(func(*sealed.Secret) {})); err != nil || string(got) != "k" {
		t.Errorf("the forger's own: %q, %v", got, err)
	}
	for name, r := range map[string]teebroker.Response{
		"another tenant":   seal(func(c *sealed.Secret) { c.Tenant = "other" }),
		"another instance": seal(func(c *sealed.Secret) { c.Instance[0]++ }),
		"another purpose":  seal(func(c *sealed.Secret) { c.Purpose = "data" }),
		"another binding":  seal(func(c *sealed.Secret) { c.Binding[0]++ }),
		"short binding":    seal(func(c *sealed.Secret) { c.Binding = c.Binding[:63] }),
		"no binding":       seal(func(c *sealed.Secret) { c.Binding = nil }),
		"no release":       seal(func(c *sealed.Secret) { c.Release = [16]byte{} }),
		"no key":           seal(func(c *sealed.Secret) { c.Key = nil }),
		"no confirm key":   seal(func(c *sealed.Secret) { c.ConfirmKey = nil }),
		"short confirm":    seal(func(c *sealed.Secret) { c.ConfirmKey = c.ConfirmKey[:31] }),
		"a bare secret":    sealTo(t, cfg.Key, []byte("k")),
		"two objects":      sealTo(t, cfg.Key, []byte(`{}{}`)),
	} {
		if got, err := s.Open(t.Context(), r); !errors.Is(err, guest.NotAsked) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	other := config(t, b)
	other.Broker = nil
	for name, r := range map[string]teebroker.Response{
		"not JSON":         {Sealed: []byte("sealed")},
		"truncated":        {Sealed: good.Sealed[:len(good.Sealed)-1]},
		"to another key":   answer(t, b, newSession(t, other)),
		"nothing":          {},
		"of another suite": sealTo(t, other.Key, []byte("k")),
	} {
		if got, err := s.Open(t.Context(), r); !errors.Is(err, guest.NotOpened) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func sealTo(t *testing.T, key keywrap.Opener, plain []byte) teebroker.Response {
	t.Helper()
	box, err := key.Recipient().Seal(plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(box)
	if err != nil {
		t.Fatal(err)
	}
	return teebroker.Response{Sealed: b}
}

// HPKE opens for a binding of the session only.
func TestOpenInfo(t *testing.T) {
	b := newBroker(t)
	cfg := config(t, b)
	cfg.Broker = nil
	made, other := newSession(t, cfg), newSession(t, cfg)
	r := answer(t, b, made)
	if got, err := other.Open(t.Context(), r); !errors.Is(err, guest.NotOpened) || got != nil {
		t.Errorf("a session that made no request: %q, %v", got, err)
	}
	answer(t, b, other)
	if got, err := other.Open(t.Context(), r); !errors.Is(err, guest.NotOpened) || got != nil {
		t.Errorf("a session that made another request: %q, %v", got, err)
	}
}

// Two receipts for one request are an attack: only one can be in the record.
func TestSecondReceipt(t *testing.T) {
	b, identity := newBrokerKey(t)
	s := newSession(t, config(t, b))
	r := answer(t, b, s)
	if _, err := s.Open(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	const typ = "teebroker-receipt+jws"
	payload, err := jws.Verify(r.Receipt, typ, b.ID())
	if err != nil {
		t.Fatal(err)
	}
	sign := func(payload []byte) teebroker.Response {
		token, err := jws.Sign(identity, typ, payload)
		if err != nil {
			t.Fatal(err)
		}
		return teebroker.Response{Sealed: r.Sealed, Receipt: token}
	}
	if _, err := s.Open(t.Context(), sign(payload)); err != nil {
		t.Errorf("the same content under another signature: %v", err)
	}
	other := bytes.Replace(payload, []byte(`"generation":1`), []byte(`"generation":2`), 1)
	if got, err := s.Open(t.Context(), sign(other)); !errors.Is(err, guest.Attack) || got != nil {
		t.Errorf("other content: %q, %v", got, err)
	}
}

func TestNew(t *testing.T) {
	b := newBroker(t)
	for name, edit := range map[string]func(*guest.Config){
		"no key":          func(c *guest.Config) { c.Key = nil },
		"no tenant":       func(c *guest.Config) { c.Tenant = "" },
		"no instance":     func(c *guest.Config) { c.Instance = [16]byte{} },
		"no purpose":      func(c *guest.Config) { c.Purpose = "" },
		"short broker id": func(c *guest.Config) { c.Broker = c.Broker[:31] },
		"wrapped garbage": func(c *guest.Config) { c.Wrapped = []byte("{}") },
	} {
		cfg := config(t, b)
		edit(&cfg)
		if _, err := guest.New(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	cfg := config(t, b)
	s := newSession(t, cfg)
	clear(cfg.Broker)
	if r := answer(t, b, s); r.Sealed == nil {
		t.Error("shares the broker id")
	}
	if _, err := s.Bind(nonce.Nonce{}, "unknown"); err == nil {
		t.Error("binds an unknown format")
	}
	var err error
	for i := range 100 {
		if _, err = s.Bind(nonce.Nonce{byte(i)}, faketee.Format); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("makes requests without end")
	}
}

// A token that fails is not a wrong answer.
func TestTokenFails(t *testing.T) {
	b := newBroker(t)
	cfg := config(t, b)
	cfg.Key = removed{cfg.Key}
	s := newSession(t, cfg)
	_, err := s.Open(t.Context(), answer(t, b, s))
	if !errors.Is(err, errRemoved) || errors.Is(err, guest.NotOpened) {
		t.Error(err)
	}
}

var errRemoved = errors.New("token removed")

type removed struct{ keywrap.Opener }

func (removed) Open(context.Context, keywrap.Sealed, []byte) ([]byte, error) { return nil, errRemoved }

// What is sealed and what the receipt says have to be one release.
func TestReceiptOfAnotherRelease(t *testing.T) {
	b, identity := newBrokerKey(t)
	cfg := config(t, b)
	s := newSession(t, cfg)
	first := answer(t, b, s)
	receipt, err := teebroker.VerifyReceipt(first.Receipt, b.ID())
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.Bind(nonce.Nonce{1}, faketee.Format)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		edit func(*teebroker.Receipt)
		want error
	}{
		{"another profile", func(r *teebroker.Receipt) { r.Profile = nonce.ProfileCoCo }, guest.NoReceipt},
		{"another key", func(r *teebroker.Receipt) { r.Key[0]++ }, guest.NoReceipt},
		{"a release for another request", func(r *teebroker.Receipt) { r.Binding = other.Bytes() }, guest.NotAsked},
		{"another release", func(r *teebroker.Receipt) { r.Release[0]++ }, guest.NotAsked},
	} {
		r := receipt
		tt.edit(&r)
		payload, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		token, err := jws.Sign(identity, "teebroker-receipt+jws", payload)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Open(t.Context(), teebroker.Response{Sealed: first.Sealed, Receipt: token}); !errors.Is(err, tt.want) || got != nil {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}

// A guest that presents a blob takes no secret out of another one.
func TestReceiptOfAnotherBlob(t *testing.T) {
	b, identity := newBrokerKey(t)
	cfg := config(t, b)
	plain := newSession(t, cfg)
	r := answer(t, b, plain)
	receipt, err := teebroker.VerifyReceipt(r.Receipt, b.ID())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Wrapped = []byte(`{"protected":"e30","enc":"AAAA","ciphertext":"AAAA"}`)
	w, err := keywrap.ParseWrapped(cfg.Wrapped)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		blob [32]byte
		want error
	}{"its own": {w.Digest(), guest.NotOpened}, "another": {[32]byte{1}, guest.NoReceipt}, "none": {[32]byte{}, guest.NoReceipt}} {
		s := newSession(t, cfg)
		binding, err := s.Bind(nonce.Nonce{1}, faketee.Format)
		if err != nil {
			t.Fatal(err)
		}
		receipt.Blob, receipt.Binding = tt.blob, binding.Bytes()
		payload, err := json.Marshal(receipt)
		if err != nil {
			t.Fatal(err)
		}
		token, err := jws.Sign(identity, "teebroker-receipt+jws", payload)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Open(t.Context(), teebroker.Response{Sealed: r.Sealed, Receipt: token}); !errors.Is(err, tt.want) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
