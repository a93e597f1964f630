package teebroker_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/jws"
	"github.com/teebroker/teebroker/internal/strictjson"
)

func newOwnerKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// anOrder is to authorize.
func anOrder() teebroker.Order {
	return teebroker.Order{
		Act: teebroker.OrderAuthorize, Tenant: tenant, Instance: instance, Body: sha256.Sum256([]byte("{}")),
		Generation: 3, State: [32]byte{4}, Expires: start().Add(time.Minute).Unix(),
	}
}

// What is signed is what is verified, of every act; and an order is good for its
// act only.
func TestOrder(t *testing.T) {
	key := newOwnerKey(t)
	id, err := teebroker.OrderKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[strictjson.UUID]bool{}
	for act, edit := range map[teebroker.OrderAct]func(*teebroker.Order){
		teebroker.OrderAuthorize: func(*teebroker.Order) {},
		teebroker.OrderRegister:  func(o *teebroker.Order) { o.State, o.Owner, o.Generation = [32]byte{}, [32]byte{5}, 0 },
		teebroker.OrderDelete:    func(o *teebroker.Order) { o.State = [32]byte{} },
		teebroker.OrderPolicy: func(o *teebroker.Order) {
			o.State, o.Instance, o.Generation, o.Name = [32]byte{}, [16]byte{}, 0, "base"
		},
		teebroker.OrderSecret:   func(o *teebroker.Order) { o.State, o.Name = [32]byte{}, purpose },
		teebroker.OrderBlob:     func(o *teebroker.Order) { o.State, o.Name, o.Blob = [32]byte{}, purpose, [32]byte{6} },
		teebroker.OrderEpoch:    func(o *teebroker.Order) { o.State, o.Name, o.Blob = [32]byte{}, purpose, [32]byte{6} },
		teebroker.OrderResume:   func(o *teebroker.Order) { o.State, o.Name = [32]byte{}, purpose },
		teebroker.OrderRecover:  func(o *teebroker.Order) { o.State, o.Name = [32]byte{}, purpose },
		teebroker.OrderResumeEK: func(o *teebroker.Order) { o.State, o.Name = [32]byte{}, strings.Repeat("0f", 32) },
		teebroker.OrderRetire:   func(o *teebroker.Order) { o.State, o.Name = [32]byte{}, purpose },
	} {
		o := anOrder()
		o.Act = act
		edit(&o)
		token, err := teebroker.SignOrder(key, o)
		if err != nil {
			t.Errorf("%s: %v", act, err)
			continue
		}
		got, err := teebroker.VerifyOrder(token)
		if err != nil || len(token) > teebroker.MaxOrder || got.ID == (strictjson.UUID{}) || ids[got.ID] {
			t.Errorf("%s: %+v, %v", act, got, err)
		}
		ids[got.ID] = true
		o.Version, o.Issuer, o.ID = 1, id, got.ID
		if got != o {
			t.Errorf("%s: got %+v, want %+v", act, got, o)
		}
		for other, spoil := range map[string]func(*teebroker.Order){
			"no tenant": func(o *teebroker.Order) { o.Tenant = "" },
			"no body":   func(o *teebroker.Order) { o.Body = [32]byte{} },
			"no exp":    func(o *teebroker.Order) { o.Expires = 0 },
			"a name":    func(o *teebroker.Order) { o.Name = map[bool]string{true: "", false: "x"}[o.Name != ""] },
			"a bad name": func(o *teebroker.Order) {
				o.Name += " "
			},
			"an instance": func(o *teebroker.Order) {
				o.Instance = map[bool]strictjson.UUID{true: {}, false: {1}}[o.Instance != strictjson.UUID{}]
			},
			"an owner": func(o *teebroker.Order) {
				o.Owner = map[bool]strictjson.Digest{true: {}, false: {1}}[o.Owner != strictjson.Digest{}]
			},
			"a state": func(o *teebroker.Order) {
				o.State = map[bool]strictjson.Digest{true: {}, false: {1}}[o.State != strictjson.Digest{}]
			},
			"no act": func(o *teebroker.Order) { o.Act = "hold" },
		} {
			bad := o
			spoil(&bad)
			if token, err := teebroker.SignOrder(key, bad); !errors.Is(err, teebroker.ErrOrder) || token != nil {
				t.Errorf("%s with %s: %v", act, other, err)
			}
		}
	}
}

// Whatever is not signed by its issuer, as an order, in its one form, is refused.
func TestVerifyOrderRefuses(t *testing.T) {
	key, other := newOwnerKey(t), newOwnerKey(t)
	good, err := teebroker.SignOrder(key, anOrder())
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(good), ".")
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	sign := func(k *ecdsa.PrivateKey, typ, payload string) []byte {
		b, err := jws.Sign(k, typ, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	edited := func(old, new string) string {
		if !strings.Contains(string(payload), old) {
			t.Fatalf("no %s in %s", old, payload)
		}
		return strings.Replace(string(payload), old, new, 1)
	}
	const typ = "teebroker-order+jws"
	if _, err := teebroker.VerifyOrder(sign(key, typ, string(payload))); err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string][]byte{
		"nothing":             nil,
		"another typ":         sign(key, "teebroker-receipt+jws", string(payload)),
		"no typ":              sign(key, "", string(payload)),
		"another key":         sign(other, typ, string(payload)),
		"white space":         sign(key, typ, string(payload)+" "),
		"an unknown member":   sign(key, typ, edited(`{"v":1`, `{"x":1,"v":1`)),
		"a member twice":      sign(key, typ, edited(`"v":1`, `"v":1,"v":1`)),
		"a member left out":   sign(key, typ, edited(`"generation":3,`, ``)),
		"a member in case":    sign(key, typ, edited(`"act"`, `"Act"`)),
		"an empty member":     sign(key, typ, edited(`"generation"`, `"name":"","generation"`)),
		"another order":       sign(key, typ, edited(`"v":1,`, ``)[:len(payload)-7]+`,"v":1}`),
		"another version":     sign(key, typ, edited(`"v":1`, `"v":2`)),
		"a number in a float": sign(key, typ, edited(`"generation":3`, `"generation":3.0`)),
		"null":                sign(key, typ, "null"),
		"no signature":        []byte(parts[0] + "." + parts[1] + "."),
		"two parts":           []byte(parts[0] + "." + parts[1]),
		"four parts":          []byte(string(good) + "."),
		"another payload":     []byte(parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(edited("3", "4"))) + "." + parts[2]),
		"alg none":            []byte(header(t, parts[0], `"ES384"`, `"none"`) + "." + parts[1] + "."),
		"alg of an HMAC":      []byte(header(t, parts[0], `"ES384"`, `"HS384"`) + "." + parts[1] + "." + parts[2]),
		"alg ES256":           []byte(header(t, parts[0], `"ES384"`, `"ES256"`) + "." + parts[1] + "." + parts[2]),
		"too long":            append(bytes.Clone(good), bytes.Repeat([]byte("A"), teebroker.MaxOrder)...),
	} {
		if o, err := teebroker.VerifyOrder(token); !errors.Is(err, teebroker.ErrOrder) || o != (teebroker.Order{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range len(good) {
		if _, err := teebroker.VerifyOrder(good[:n]); err == nil {
			t.Errorf("cut off after %d bytes: taken", n)
		}
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := teebroker.SignOrder(p256, anOrder()); !errors.Is(err, teebroker.ErrOrder) {
		t.Errorf("a key on P-256: %v", err)
	}
}

// header is a protected header in which old is new.
func header(t *testing.T, encoded, old, new string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || !strings.Contains(string(b), old) {
		t.Fatalf("%s, %v", b, err)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(b), old, new, 1)))
}

// An owner signs for one act, on the instance as it is, once.
func ExampleSignOrder() {
	key := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) // which no broker has
	body := []byte(`{"purposes":["disk"],"not_after":"2026-11-01T01:00:00Z"}`)
	token := must(teebroker.SignOrder(key, teebroker.Order{
		Act: teebroker.OrderAuthorize, Tenant: "acme", Instance: [16]byte{15: 1}, Generation: 3,
		Body: sha256.Sum256(body), State: [32]byte{1}, Expires: start().Add(5 * time.Minute).Unix(),
	}))
	o := must(teebroker.VerifyOrder(token))
	fmt.Println(o.Act, o.Tenant, o.Instance, o.Generation, o.Body == sha256.Sum256(body))
	fmt.Println(o.Issuer == must(teebroker.OrderKey(key)))
	// Output:
	// authorize acme 00000000-0000-0000-0000-000000000001 3 true
	// true
}

func FuzzVerifyOrder(f *testing.F) {
	key := newOwnerKey(f)
	good, err := teebroker.SignOrder(key, anOrder())
	if err != nil {
		f.Fatal(err)
	}
	want, err := teebroker.VerifyOrder(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("e30.e30.e30"))
	f.Fuzz(func(t *testing.T, token []byte) {
		o, err := teebroker.VerifyOrder(token)
		switch {
		case err != nil && (!errors.Is(err, teebroker.ErrOrder) || o != (teebroker.Order{})):
			t.Errorf("%+v with %v", o, err)
		case err == nil && o.Issuer == want.Issuer && o != want:
			t.Errorf("%s verifies", token)
		}
	})
}

func BenchmarkVerifyOrder(b *testing.B) {
	good, err := teebroker.SignOrder(newOwnerKey(b), anOrder())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := teebroker.VerifyOrder(good); err != nil {
			b.Fatal(err)
		}
	}
}
