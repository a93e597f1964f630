package teebroker_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/internal/faketee"
	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/nonce"
)

func TestNew(t *testing.T) {
	good := newWorld(t, nil).cfg
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		field string
		spoil func(*teebroker.Config)
	}{
		{"Verifier", func(c *teebroker.Config) { c.Verifier = nil }},
		{"Issuer", func(c *teebroker.Config) { c.Issuer = nil }},
		{"Nonces", func(c *teebroker.Config) { c.Nonces = nil }},
		{"Directory", func(c *teebroker.Config) { c.Directory = nil }},
		{"Secrets", func(c *teebroker.Config) { c.Secrets = nil }},
		{"Ledger", func(c *teebroker.Config) { c.Ledger = nil }},
		{"Identity", func(c *teebroker.Config) { c.Identity = nil }},
		{"Identity", func(c *teebroker.Config) { c.Identity = p256 }},
		{"Identity", func(c *teebroker.Config) { c.Identity = ed }},
		{"KeepLife", func(c *teebroker.Config) { c.KeepLife = -1 }},
	} {
		cfg := good
		tt.spoil(&cfg)
		if b, err := teebroker.New(cfg); b != nil || err == nil || !strings.Contains(err.Error(), "Config."+tt.field) {
			t.Errorf("%s: %v", tt.field, err)
		}
	}
}

// The broker id is the thumbprint of RFC 7638.
func TestID(t *testing.T) {
	w := newWorld(t, nil)
	point, err := w.cfg.Identity.Public().(*ecdsa.PublicKey).Bytes()
	w.check(err)
	b64 := base64.RawURLEncoding.EncodeToString
	jwk := fmt.Sprintf(`{"crv":"P-384","kty":"EC","x":"%s","y":"%s"}`, b64(point[1:49]), b64(point[49:]))
	if w.broker.ID() != sha256.Sum256([]byte(jwk)) {
		t.Error("another id")
	}
}

// A nonce serves the profile it was issued for.
func TestChallenge(t *testing.T) {
	w := newWorld(t, nil)
	for _, p := range []nonce.Profile{nonce.ProfileV1, nonce.ProfileSVSM, nonce.ProfileCoCo, nonce.ProfileVTPM, nonce.ProfileVerify} {
		c, err := w.broker.Challenge(t.Context(), p)
		w.check(err)
		if e, err := w.cfg.Issuer.Open(p, c.Nonce); err != nil || !e.Equal(c.Expires) {
			t.Errorf("%s: %v, %v", p, e, err)
		}
	}
	if _, err := w.broker.Challenge(t.Context(), "v2"); !errors.Is(err, teebroker.MalformedRequest) {
		t.Error(err)
	}
	w.now = time.Unix(-1, 0)
	if _, err := w.broker.Challenge(t.Context(), nonce.ProfileV1); !errors.Is(err, teebroker.Unavailable) {
		t.Error(err)
	}
}

func TestVerifyReceipt(t *testing.T) {
	w := newWorld(t, nil)
	w.authorize(nil)
	r, err := w.answer(w.request(w.session(nil), honest()))
	w.check(err)
	id := w.broker.ID()
	const typ = "teebroker-receipt+jws"
	payload, err := jws.Verify(r.Receipt, typ, id)
	w.check(err)
	sign := func(typ, payload string) []byte {
		token, err := jws.Sign(w.cfg.Identity, typ, []byte(payload))
		w.check(err)
		return token
	}
	_, err = teebroker.VerifyReceipt(sign(typ, string(payload)), id)
	w.check(err)
	edit := func(old, new string) []byte {
		if !strings.Contains(string(payload), old) {
			t.Fatalf("no %s in %s", old, payload)
		}
		return sign(typ, strings.Replace(string(payload), old, new, 1))
	}
	other := newWorld(t, nil)
	for name, bad := range map[string][]byte{
		"nothing":           nil,
		"of another type":   sign("teebroker-keys+jws", string(payload)),
		"unknown member":    edit(`{"iss"`, `{"x":1,"iss"`),
		"duplicate member":  edit(`{"iss"`, `{"kind":"release","iss"`),
		"no kind":           edit(`"kind":"release",`, ``),
		"kind of an entry":  edit(`"kind":"release"`, `"kind":"refusal"`),
		"not accepted":      edit(`"accepted"`, `"refused"`),
		"no policy":         edit(`"policy":["`, `"policy":[],"weakened":["`),
		"another issuer":    edit(base64.RawURLEncoding.EncodeToString(id[:]), base64.RawURLEncoding.EncodeToString(make([]byte, 32))),
		"UUID in capitals":  edit(`"instance":"0`, `"instance":"A`),
		"not JSON":          sign(typ, "payload"),
		"trailing":          sign(typ, string(payload)+"{}"),
		"of another broker": mustSign(t, other, typ, payload),
	} {
		if got, err := teebroker.VerifyReceipt(bad, id); !errors.Is(err, teebroker.ErrReceipt) || got.Kind != "" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := teebroker.VerifyReceipt(r.Receipt, [32]byte{}); !errors.Is(err, teebroker.ErrReceipt) {
		t.Error("a zero id is somebody's")
	}
	for i := 0; i < len(r.Receipt); i += 13 {
		bad := append([]byte{}, r.Receipt...)
		bad[i] ^= 1
		if _, err := teebroker.VerifyReceipt(bad, id); err == nil {
			t.Errorf("byte %d changed: verifies", i)
		}
	}
}

func mustSign(t *testing.T, w *world, typ string, payload []byte) []byte {
	t.Helper()
	token, err := jws.Sign(w.cfg.Identity, typ, payload)
	w.check(err)
	return token
}

// SHA-256("teebroker/v1/launch" ‖ LP("acme") ‖ LP(instance)), computed apart.
func TestLaunchID(t *testing.T) {
	in, err := hex.DecodeString("746565" + "62726f6b65722f76312f6c61756e6368" + "00000004" + "61636d65" + "00000010" + "00000000000000000000000000000001")
	if err != nil {
		t.Fatal(err)
	}
	if teebroker.LaunchID("acme", [16]byte{15: 1}) != sha256.Sum256(in) {
		t.Error("another transcript")
	}
}

func TestLaunchClaim(t *testing.T) {
	b, err := evidence.NewBinding([]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	verified := func(host []byte) *evidence.Verified {
		v, err := faketee.Verifier{}.Verify(t.Context(), faketee.Guest{HostData: host}.Evidence(b), b)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	mine := []byte{1, 2, 3}
	for _, tt := range []struct {
		name  string
		claim teebroker.LaunchClaim
		host  []byte
		ok    bool
	}{
		{"mine", teebroker.LaunchClaim{Name: "snp.host_data", Want: mine}, mine, true},
		{"another's", teebroker.LaunchClaim{Name: "snp.host_data", Want: mine}, []byte{1, 2, 4}, false},
		{"longer", teebroker.LaunchClaim{Name: "snp.host_data", Want: mine}, []byte{1, 2, 3, 0}, false},
		{"none wanted", teebroker.LaunchClaim{Name: "snp.host_data"}, nil, false},
		{"zero wanted", teebroker.LaunchClaim{Name: "snp.host_data", Want: make([]byte, 3)}, make([]byte, 3), false},
		{"absent", teebroker.LaunchClaim{Name: "snp.none", Want: mine}, mine, false},
		{"zero rule", teebroker.LaunchClaim{}, mine, false},
	} {
		if ms := tt.claim.Appraise(verified(tt.host)); (len(ms) == 0) != tt.ok {
			t.Errorf("%s: %v", tt.name, ms)
		}
	}
	if ms := (teebroker.LaunchClaim{Name: "snp.host_data", Want: mine}).Appraise(nil); len(ms) == 0 {
		t.Error("accepts nothing at all")
	}
}

func TestPolicyDigest(t *testing.T) {
	a, b := [32]byte{1}, [32]byte{2}
	want := sha256.Sum256(append(append([]byte{0, 0, 0, 32}, a[:]...), append([]byte{0, 0, 0, 32}, b[:]...)...))
	if teebroker.PolicyDigest(a, b) != want || teebroker.PolicyDigest(b, a) == want || teebroker.PolicyDigest(a) == want {
		t.Error("another digest")
	}
}

// Signed by the broker or not, what is no receipt is none, and one that is has
// one meaning.
func FuzzVerifyReceipt(f *testing.F) {
	w := newWorld(f, nil)
	w.authorize(nil)
	r, err := w.answer(w.request(w.session(nil), honest()))
	w.check(err)
	payload, err := jws.Verify(r.Receipt, "teebroker-receipt+jws", w.broker.ID())
	w.check(err)
	f.Add(payload)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		token, err := jws.Sign(w.cfg.Identity, "teebroker-receipt+jws", payload)
		if err != nil {
			t.Fatal(err)
		}
		got, err := teebroker.VerifyReceipt(token, w.broker.ID())
		if err == nil && (got.Issuer != w.broker.ID() || got.Release == [16]byte{} || got.Sealed == [32]byte{}) {
			t.Errorf("%s", payload)
		}
	})
}

// What a broker costs beside the hardware's signature: nonce, stores, sealing
// and the receipt's signature.
func BenchmarkAnswer(b *testing.B) {
	w := newWorld(b, nil)
	w.authorize(func(a *teebroker.Authorization) { a.Uses = 1 << 20 })
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		req := w.request(w.session(nil), honest())
		b.StartTimer()
		if _, err := w.answer(req); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAnswerAgain is a retry: one look at what is stored.
func BenchmarkAnswerAgain(b *testing.B) {
	w := newWorld(b, nil)
	w.authorize(nil)
	req := w.request(w.session(nil), honest())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.answer(req); err != nil {
			b.Fatal(err)
		}
	}
}
