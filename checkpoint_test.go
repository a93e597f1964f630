package teebroker_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"strings"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/internal/jws"
)

const checkpointType = "teebroker-checkpoint+jws"

func newIdentity(t testing.TB) (*ecdsa.PrivateKey, [32]byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := jws.Thumbprint(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, id
}

func aCheckpoint() teebroker.Checkpoint {
	return teebroker.Checkpoint{
		Tenant: "acme", Chain: teebroker.Decisions, Generation: 1, Seq: 7, Head: [32]byte{7}, Time: 1_800_000_000_123, Previous: [32]byte{6},
	}
}

// A checkpoint is what was signed, and of its broker only.
func TestCheckpoint(t *testing.T) {
	key, id := newIdentity(t)
	token, err := aCheckpoint().Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := teebroker.VerifyCheckpoint(token, id)
	want := aCheckpoint()
	want.Issuer = id
	if err != nil || got != want || !got.At().Equal(time.UnixMilli(1_800_000_000_123)) {
		t.Errorf("%+v, %v", got, err)
	}
	payload, err := jws.Verify(token, checkpointType, id)
	if members := []string{"iss", "tenant", "chain", "generation", "seq", "head", "time", "previous"}; err != nil || !inOrder(payload, members) {
		t.Errorf("%s, %v", payload, err)
	}
	_, other := newIdentity(t)
	for name, broker := range map[string][32]byte{"another broker": other, "nobody": {}} {
		if _, err := teebroker.VerifyCheckpoint(token, broker); !errors.Is(err, teebroker.ErrCheckpoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range token {
		bad := bytes.Clone(token)
		bad[i] ^= 1
		if _, err := teebroker.VerifyCheckpoint(bad, id); !errors.Is(err, teebroker.ErrCheckpoint) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
}

// inOrder reports whether payload has exactly these members, in this order.
func inOrder(payload []byte, members []string) bool {
	var all map[string]any
	if json.Unmarshal(payload, &all) != nil || len(all) != len(members) {
		return false
	}
	at := 0
	for _, m := range members {
		i := strings.Index(string(payload[at:]), `"`+m+`":`)
		if i < 0 {
			return false
		}
		at += i + 1
	}
	return true
}

// What the broker would not mean is neither signed nor believed, also if its key
// signed it.
func TestCheckpointRefuses(t *testing.T) {
	key, id := newIdentity(t)
	sign := func(typ string, payload []byte) []byte {
		token, err := jws.Sign(key, typ, payload)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	whole := aCheckpoint()
	whole.Issuer = id
	payload := func(c teebroker.Checkpoint) []byte { return must(json.Marshal(c)) }
	if _, err := teebroker.VerifyCheckpoint(sign(checkpointType, payload(whole)), id); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*teebroker.Checkpoint){
		"no tenant":         func(c *teebroker.Checkpoint) { c.Tenant = "" },
		"not a tenant":      func(c *teebroker.Checkpoint) { c.Tenant = "../x" },
		"not a chain":       func(c *teebroker.Checkpoint) { c.Chain = "entries" },
		"no generation":     func(c *teebroker.Checkpoint) { c.Generation = 0 },
		"a huge generation": func(c *teebroker.Checkpoint) { c.Generation = 1 << 63 },
		"no entry":          func(c *teebroker.Checkpoint) { c.Seq = 0 },
		"a huge seq":        func(c *teebroker.Checkpoint) { c.Seq = 1 << 63 },
		"no head":           func(c *teebroker.Checkpoint) { c.Head = [32]byte{} },
		"no time":           func(c *teebroker.Checkpoint) { c.Time = 0 },
		"another issuer":    func(c *teebroker.Checkpoint) { c.Issuer[0]++ },
	} {
		c := whole
		edit(&c)
		if _, err := teebroker.VerifyCheckpoint(sign(checkpointType, payload(c)), id); !errors.Is(err, teebroker.ErrCheckpoint) {
			t.Errorf("%s: believed: %v", name, err)
		}
		if _, err := c.Sign(key); name != "another issuer" && !errors.Is(err, teebroker.ErrCheckpoint) {
			t.Errorf("%s: signed: %v", name, err)
		}
	}
	text := string(payload(whole))
	for name, token := range map[string][]byte{
		"another type":      sign("teebroker-receipt+jws", []byte(text)),
		"an unknown member": sign(checkpointType, []byte(strings.Replace(text, `{`, `{"x":1,`, 1))),
		"a member twice":    sign(checkpointType, []byte(strings.Replace(text, `{`, `{"seq":7,`, 1))),
		"another case":      sign(checkpointType, []byte(strings.Replace(text, `"seq"`, `"Seq"`, 1))),
		"not JSON":          sign(checkpointType, []byte("x")),
		"nothing":           nil,
		"too much":          bytes.Repeat([]byte("a"), 1<<20),
	} {
		if _, err := teebroker.VerifyCheckpoint(token, id); !errors.Is(err, teebroker.ErrCheckpoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p256 := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	if _, err := whole.Sign(p256); !errors.Is(err, teebroker.ErrCheckpoint) {
		t.Errorf("signed by a key on P-256: %v", err)
	}
}

func FuzzVerifyCheckpoint(f *testing.F) {
	key, id := newIdentity(f)
	token, err := aCheckpoint().Sign(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add([]byte("a.b.c"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := teebroker.VerifyCheckpoint(b, id)
		if (err == nil) != bytes.Equal(b, token) {
			t.Errorf("%q: %+v, %v", b, c, err)
		}
	})
}

// A broker signs where a chain is. Who kept that notices another history.
func ExampleVerifyCheckpoint() {
	identity := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	id := must(jws.Thumbprint(&identity.PublicKey))
	token, err := teebroker.Checkpoint{
		Tenant: "acme", Chain: teebroker.Decisions, Generation: 1, Seq: 42, Head: [32]byte{1}, Time: 1_800_000_000_000,
	}.Sign(identity)
	if err != nil {
		log.Fatal(err)
	}
	c, err := teebroker.VerifyCheckpoint(token, id)
	fmt.Println(c.Tenant, c.Chain, c.Seq, c.At().Format(time.RFC3339), err)
	// Output: acme decisions 42 2027-01-15T08:00:00Z <nil>
}

func BenchmarkVerifyCheckpoint(b *testing.B) {
	key, id := newIdentity(b)
	token, err := aCheckpoint().Sign(key)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := teebroker.VerifyCheckpoint(token, id); err != nil {
			b.Fatal(err)
		}
	}
}
