package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/teebroker/teebroker"
	"github.com/teebroker/teebroker/nonce"
	v1 "github.com/teebroker/teebroker/protocol/v1"
)

// cutting is a Ledger whose guest is gone before a commit, or after it.
type cutting struct {
	teebroker.Ledger
	cut           func()
	before, after bool
}

func (l *cutting) Commit(ctx context.Context, g teebroker.Grant, r teebroker.Response, e teebroker.Entry) (teebroker.Response, error) {
	if l.before {
		l.cut()
		<-ctx.Done()
	}
	stored, err := l.Ledger.Commit(ctx, g, r, e)
	if l.after {
		l.cut()
		<-ctx.Done()
	}
	return stored, err
}

// The connection of a guest breaks while it is answered: before the commit, when
// nothing is released; after it; and when the answer is about to be sent. Asking
// again by the rules gets the secret, of one release.
func TestConnectionCut(t *testing.T) {
	each(t, func(t *testing.T, d *database) {
		for i, where := range []string{"before the commit", "after the commit", "before the answer"} {
			t.Run(where, func(t *testing.T) {
				var conn net.Conn
				var armed bool
				cut := func() {
					_ = conn.(*net.TCPConn).SetLinger(0)
					_ = conn.Close()
				}
				ledger := &cutting{cut: cut, before: i == 0, after: i == 1}
				r, err := d.open(t.Context(), nil, func(c *teebroker.Config) {
					ledger.Ledger = c.Ledger
					c.Ledger = ledger
				})
				check(t, err)
				defer func() { check(t, r.close()) }()
				instance := [16]byte{byte(i + 1)}
				check(t, r.own(t.Context(), instance, 1, time.Now().Add(time.Hour)))
				observed := make(chan int, 8)
				s, err := v1.New(v1.Config{Broker: r.Broker, Allow: v1.Suites(), Observe: func(e v1.Event) {
					if e.Route == v1.PathRelease {
						if armed {
							armed = false
							cut()
						}
						observed <- e.Status
					}
				}})
				check(t, err)
				h := httptest.NewServer(s)
				defer h.Close()
				m := newMachine(t, r, instance)
				req, err := m.request(t.Context(), r)
				check(t, err)
				body, err := v1.MarshalRequest(req)
				check(t, err)
				conn, err = new(net.Dialer).DialContext(t.Context(), "tcp", h.Listener.Addr().String())
				check(t, err)
				armed = i == 2
				_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: broker\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", v1.PathRelease, len(body), body)
				check(t, err)
				<-observed
				if b, err := io.ReadAll(conn); err == nil || len(b) > 0 {
					t.Fatalf("the connection is not cut: %q, %v", b, err)
				}
				*ledger = cutting{Ledger: ledger.Ledger}

				client, err := v1.NewClient(v1.ClientConfig{URL: h.URL})
				check(t, err)
				a, err := client.Release(t.Context(), body)
				if i == 0 {
					if err == nil {
						t.Error("answered, and the nonce was redeemed for a commit that never was")
					}
					c, fault := client.Challenge(t.Context(), nonce.ProfileV1)
					check(t, fault)
					req, fault := m.answer(c.Nonce)
					check(t, fault)
					body, fault := v1.MarshalRequest(req)
					check(t, fault)
					a, err = client.Release(t.Context(), body)
				}
				check(t, err)
				check(t, m.opens(t.Context(), a))
				got, err := r.audit(t.Context())
				if err != nil || got.Releases != i+1 || got.Redeliveries != 0 {
					t.Errorf("%+v, %v", got, err)
				}
			})
		}
	})
}
