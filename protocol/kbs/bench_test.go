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
	"testing"

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
			server := httptest.NewServer(w.handler)
			b.Cleanup(server.Close)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				c := newClient(w, tt.svsm)
				w.again(tt.svsm)
				c.auth() // whose challenge counts; it is asked for again over the wire
				b.StartTimer()
				post(b, server, c, "auth", `{"version":"0.4.0","tee":"snp","extra-params":""}`)
				b.StopTimer()
				body, err := json.Marshal(c.body())
				w.check(err)
				b.StartTimer()
				post(b, server, c, "attest", string(body))
				if got := post(b, server, c, "resource/"+kbs.Alias, ""); !strings.Contains(got, "ciphertext") {
					b.Fatal(got)
				}
			}
		})
	}
}

// again lets one more key have the secret.
func (w *world) again(isSVSM bool) {
	if isSVSM {
		w.authorize(svsm, nonce.ProfileSVSM, "vtpm/state")
	} else {
		w.authorize(coco, nonce.ProfileCoCo, "default/key/1")
	}
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
		b.Fatalf("%s: %d %s %v", path, answer.StatusCode, got, c.refused)
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
			for b.Loop() {
				for range 2 {
					if !ecdsa.VerifyASN1(&vek.PublicKey, digest[:], sig) {
						b.Fatal("bad signature")
					}
				}
				for _, k := range []*ecdsa.PrivateKey{vek, token} { // the receipt, the token
					if _, err := ecdsa.SignASN1(rand.Reader, k, digest[:32]); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := guest.Recipient().Seal([]byte(secret), nil); err != nil {
					b.Fatal(err)
				}
			}
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
