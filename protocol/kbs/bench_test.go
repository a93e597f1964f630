package kbs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/nonce"
	"github.com/teebroker/teebroker/protocol/kbs"
)

// handshakes are what the benchmarks compare: BenchmarkHandshake is a whole
// handshake of a new guest over loopback with the secret at its end;
// BenchmarkHandshakeFloor is the cryptography on the server that it can't do
// without: two verifications of the report (when it comes, and again when the
// secret is asked for), the token, the receipt, and the sealing.
var handshakes = []struct {
	name string
	svsm bool
}{{"svsm", true}, {"coco", false}}

func BenchmarkHandshake(b *testing.B) {
	for _, tt := range handshakes {
		b.Run(tt.name, func(b *testing.B) {
			w := newWorld(b, nil)
			if !tt.svsm {
				w.registerCoCo()
			}
			w.uses(tt.svsm, b.N)
			server := httptest.NewServer(w.handler)
			b.Cleanup(server.Close)
			// What guests do is done before; each asks for one more challenge
			// over the wire, and uses the one that its evidence has.
			guests, bodies := make([]*client, b.N), make([]string, b.N)
			for i := range guests {
				guests[i] = newClient(w, tt.svsm)
				guests[i].auth()
				body, err := json.Marshal(guests[i].body())
				w.check(err)
				bodies[i] = string(body)
			}
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := next.Add(1) - 1
					post(b, server, guests[i], "auth", `{"version":"0.4.0","tee":"snp","extra-params":""}`)
					post(b, server, guests[i], "attest", bodies[i])
					if got := post(b, server, guests[i], "resource/"+kbs.Alias, ""); !strings.Contains(got, "ciphertext") {
						b.Error(got)
						return
					}
				}
			})
		})
	}
}

// uses lets n keys have the secret.
func (w *world) uses(isSVSM bool, n int) {
	a := teebroker.Authorization{Tenant: tenant, Instance: coco, Purposes: []string{"default/key/1"}, Profiles: []nonce.Profile{nonce.ProfileCoCo}}
	if isSVSM {
		a.Instance, a.Purposes, a.Profiles = svsm, []string{"vtpm/state"}, []nonce.Profile{nonce.ProfileSVSM}
	}
	a.Uses, a.NotAfter = n, w.now.Add(time.Hour)
	w.check(w.Authorize(w.Context(), a))
}

func post(b *testing.B, server *httptest.Server, c *client, path, body string) string {
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(context.Background(), method, server.URL+"/kbs/v0/"+path, strings.NewReader(body))
	c.check(err)
	r.Header.Set("Cookie", c.cookie)
	answer, err := server.Client().Do(r)
	c.check(err)
	defer answer.Body.Close() //nolint:errcheck // read whole
	got, err := io.ReadAll(answer.Body)
	c.check(err)
	if answer.StatusCode != http.StatusOK {
		b.Errorf("%s: %d %s", path, answer.StatusCode, got)
	}
	return string(got)
}

func BenchmarkHandshakeFloor(b *testing.B) {
	for _, tt := range handshakes {
		b.Run(tt.name, func(b *testing.B) {
			suite := keywrap.JWEP256
			if tt.svsm {
				suite = keywrap.JWEP521
			}
			guest, err := keywrap.Generate(suite)
			if err != nil {
				b.Fatal(err)
			}
			vek, token := generate(b, elliptic.P384()), generate(b, elliptic.P256())
			digest := sha512.Sum384([]byte("a report"))
			sig, err := ecdsa.SignASN1(rand.Reader, vek, digest[:])
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					for range 2 {
						if !ecdsa.VerifyASN1(&vek.PublicKey, digest[:], sig) {
							b.Error("bad signature")
						}
					}
					for _, k := range []*ecdsa.PrivateKey{vek, token} { // the receipt, the token
						if _, err := ecdsa.SignASN1(rand.Reader, k, digest[:32]); err != nil {
							b.Error(err)
						}
					}
					if _, err := guest.Recipient().Seal([]byte(secret), nil); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func generate(b *testing.B, c elliptic.Curve) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	return k
}
