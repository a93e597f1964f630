package kbs_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
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
			requests := make([][3][]byte, b.N)
			for i := range requests {
				c := newClient(w, tt.svsm)
				c.auth()
				body, err := json.Marshal(c.body())
				w.check(err)
				requests[i] = [3][]byte{
					c.request("auth", `{"version":"0.4.0","tee":"snp","extra-params":""}`),
					c.request("attest", string(body)), c.request("resource/"+kbs.Alias, ""),
				}
			}
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				conn := dial(b, server)
				defer conn.Close() //nolint:errcheck // nothing is left to be said
				for pb.Next() {
					var got []byte
					for _, request := range requests[next.Add(1)-1] {
						got = conn.ask(b, request)
					}
					if !bytes.Contains(got, []byte("ciphertext")) {
						b.Errorf("%s", got)
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

// A wire is a connection that requests are written to as they were made before, so
// that what guests take is not measured with what the broker takes.
type wire struct {
	net.Conn
	in *bufio.Reader
}

func dial(b *testing.B, server *httptest.Server) wire {
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", server.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	return wire{conn, bufio.NewReader(conn)}
}

// ask writes a request and returns the body of the answer, which has to be 200.
func (w wire) ask(b *testing.B, request []byte) []byte {
	if _, err := w.Write(request); err != nil {
		b.Fatal(err)
	}
	size := -1
	for {
		line, err := w.in.ReadSlice('\n')
		if err != nil {
			b.Fatal(err)
		}
		if len(line) <= len("\r\n") {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if size, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				b.Fatal(err)
			}
		}
		if size < 0 && bytes.HasPrefix(line, []byte("HTTP/1.1 ")) && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			b.Fatalf("%s", line)
		}
	}
	if size < 0 {
		b.Fatal("an answer of no length")
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(w.in, body); err != nil {
		b.Fatal(err)
	}
	return body
}

// request returns the bytes of a request of c.
func (c *client) request(path, body string) []byte {
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	return fmt.Appendf(nil, "%s /kbs/v0/%s HTTP/1.1\r\nHost: broker\r\nCookie: %s\r\nContent-Length: %d\r\n\r\n%s", method, path, c.cookie, len(body), body)
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
