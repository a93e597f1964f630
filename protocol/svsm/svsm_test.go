package svsm_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/protocol/svsm"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// trusting returns the TLS configuration that knows s and nothing else.
func trusting(s *httptest.Server) *tls.Config {
	return s.Client().Transport.(*http.Transport).TLSClientConfig
}

func TestGuestThroughProxyOverTLS(t *testing.T) {
	s := httptest.NewTLSServer(newKBS(secret))
	defer s.Close()
	dial := serve(t, svsm.ProxyConfig{Broker: s.URL, TLS: trusting(s)})
	for range 2 {
		conn := dial()
		got, err := guest(0).Attest(t.Context(), conn)
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("secret %q, %v", got, err)
		}
		conn.Close()
	}
}

func TestGuestIsRefused(t *testing.T) {
	s := httptest.NewServer(newKBS(secret))
	defer s.Close()
	dial := serve(t, svsm.ProxyConfig{Broker: s.URL})
	for name, g := range map[string]svsm.Guest{
		"at VMPL 2": guest(2),
		"with a report over something else": {Report: func(ctx context.Context, data [64]byte) ([]byte, error) {
			data[63] ^= 1
			return guest(0).Report(ctx, data)
		}},
	} {
		conn := dial()
		if got, err := g.Attest(t.Context(), conn); !errors.Is(err, svsm.ErrRefused) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		conn.Close()
	}
	conn := dial()
	defer conn.Close()
	if _, err := guest(0).Attest(t.Context(), conn); err != nil {
		t.Errorf("the next guest: %v", err)
	}
}

// A broker that the host was not told to trust gets no evidence.
func TestUnknownBrokerGetsNothing(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	s.Config.ErrorLog = discard()
	s.StartTLS()
	defer s.Close()
	errs := make(chan error, 1)
	dial := serve(t, svsm.ProxyConfig{Broker: s.URL, Done: func(_ net.Addr, err error) { errs <- err }})
	conn := dial()
	defer conn.Close()
	if _, err := guest(0).Attest(t.Context(), conn); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("guest: %v", err)
	}
	if err := <-errs; err == nil || asked.Load() != 0 {
		t.Errorf("%v, %d requests", err, asked.Load())
	}
}

// Evidence does not follow a broker to another address.
func TestRedirectIsNotFollowed(t *testing.T) {
	other := httptest.NewServer(newKBS(secret))
	defer other.Close()
	s := httptest.NewServer(http.RedirectHandler(other.URL+"/kbs/v0/auth", http.StatusTemporaryRedirect))
	defer s.Close()
	conn := serve(t, svsm.ProxyConfig{Broker: s.URL})()
	defer conn.Close()
	if _, err := guest(0).Attest(t.Context(), conn); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("guest: %v", err)
	}
}

func TestProxyConfig(t *testing.T) {
	for field, cfg := range map[string]svsm.ProxyConfig{
		"Broker":    {},
		"Broker ":   {Broker: "broker.example"},
		"Broker  ":  {Broker: "http://broker.example"},
		"Broker   ": {Broker: "https://user@broker.example"},
		"Broker.":   {Broker: "ftp://broker.example"},
		"Timeout":   {Broker: "https://broker.example", Timeout: -1},
		"MaxGuests": {Broker: "https://broker.example", MaxGuests: -1},
	} {
		if p, err := svsm.NewProxy(cfg); err == nil || p != nil || !strings.Contains(err.Error(), "ProxyConfig."+strings.Trim(field, " .")) {
			t.Errorf("%q: %v, %v", field, p, err)
		}
	}
	for _, u := range []string{"http://localhost:1", "http://[::1]:1/acme", "https://broker.example/acme"} {
		if _, err := svsm.NewProxy(svsm.ProxyConfig{Broker: u}); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	if _, err := svsm.NewProxy(svsm.ProxyConfig{Broker: "http://broker.example", AllowPlainHTTP: true}); err != nil {
		t.Error(err)
	}
}

// pipes is a listener whose connections are made in memory.
type pipes struct {
	conns chan net.Conn
	shut  chan struct{}
	stop  atomic.Bool
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), shut: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		if c == nil {
			return nil, errors.New("too many open files")
		}
		return c, nil
	case <-p.shut:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	if p.stop.CompareAndSwap(false, true) {
		close(p.shut)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// connect returns the end of a guest that the proxy accepted.
func (p *pipes) connect() net.Conn {
	mine, its := net.Pipe()
	p.conns <- its
	return mine
}

// never is a broker that does not answer.
type never struct{}

func (never) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// A guest that stops speaking, and a broker that does, cost the time that is set
// and no more.
func TestSlowSides(t *testing.T) {
	for name, say := range map[string]string{"guest says nothing": "", "guest stops within a frame": "\x05\x00", "broker says nothing": string(framed(hello))} {
		synctest.Test(t, func(t *testing.T) {
			errs := make(chan error, 1)
			p, err := svsm.NewProxy(svsm.ProxyConfig{
				Broker: "https://broker.example", Transport: never{}, Timeout: time.Minute,
				Done: func(_ net.Addr, err error) { errs <- err },
			})
			if err != nil {
				t.Fatal(err)
			}
			l := newPipes()
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- p.Serve(ctx, l) }()
			start, conn := time.Now(), l.connect()
			conn.Write([]byte(say))
			if err := <-errs; err == nil || time.Since(start) != time.Minute {
				t.Errorf("%s: %v after %v", name, err, time.Since(start))
			}
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}

func TestGuestsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := svsm.NewProxy(svsm.ProxyConfig{Broker: "https://broker.example", Transport: never{}, MaxGuests: 2})
		if err != nil {
			t.Fatal(err)
		}
		l := newPipes()
		ended := make(chan error)
		go func() { ended <- p.Serve(t.Context(), l) }()
		first := l.connect()
		l.connect()
		third := make(chan net.Conn)
		go func() { third <- l.connect() }()
		synctest.Wait()
		select {
		case <-third:
			t.Error("a third guest was taken")
		default:
		}
		first.Close()
		<-third
		l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}

// guestAddr is of a guest that can be told from others.
type guestAddr string

func (guestAddr) Network() string    { return "test" }
func (guestAddr) String() string     { return "test" }
func (g guestAddr) Peer() string     { return string(g) }
func (n named) RemoteAddr() net.Addr { return n.addr }

type named struct {
	net.Conn
	addr net.Addr
}

// One guest can't take the places of the others, and has its own again when it leaves.
func TestConnectionsOfOneGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errs := make(chan error, 8)
		p, err := svsm.NewProxy(svsm.ProxyConfig{
			Broker: "https://broker.example", Transport: never{}, Done: func(_ net.Addr, err error) { errs <- err },
		})
		if err != nil {
			t.Fatal(err)
		}
		l := newPipes()
		ended := make(chan error)
		go func() { ended <- p.Serve(t.Context(), l) }()
		connect := func(name string) net.Conn {
			mine, its := net.Pipe()
			l.conns <- named{its, guestAddr(name)}
			synctest.Wait()
			return mine
		}
		first := connect("3")
		connect("3")
		connect("4")
		if len(errs) != 0 {
			t.Error(<-errs)
		}
		if _, err := connect("3").Read(make([]byte, 1)); err != io.EOF || len(errs) != 1 {
			t.Errorf("a third connection: %v, %d", err, len(errs))
		}
		<-errs
		first.Close()
		<-errs
		if _, err := connect("3").Read(make([]byte, 1)); err != io.EOF || len(errs) != 1 {
			t.Errorf("a connection at once after one that ended: %v, %d", err, len(errs))
		}
		<-errs
		time.Sleep(svsm.Pause) // of the bubble
		synctest.Wait()
		connect("3")
		if len(errs) != 0 {
			t.Errorf("a connection after one that ended: %v", <-errs)
		}
		l.Close()
		<-ended
	})
}

// A listener that fails for a time does not end the proxy.
func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failures atomic.Int32
		p, err := svsm.NewProxy(svsm.ProxyConfig{
			Broker: "https://broker.example", Transport: never{},
			Done: func(_ net.Addr, err error) { failures.Add(1) },
		})
		if err != nil {
			t.Fatal(err)
		}
		l := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Serve(ctx, l) }()
		for range 20 {
			l.conns <- nil
		}
		conn := l.connect()
		if failures.Load() != 20 {
			t.Errorf("%d failures", failures.Load())
		}
		conn.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// gate is a KBS that waits at attest until it is opened.
type gate struct {
	http.Handler
	at, open chan struct{}
}

func (g gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/attest") {
		g.at <- struct{}{}
		<-g.open
	}
	g.Handler.ServeHTTP(w, r)
}

// At the end of a proxy a guest whose evidence is with the broker gets its secret,
// and one that says nothing is not waited for.
func TestEndOfProxy(t *testing.T) {
	g := gate{newKBS(secret), make(chan struct{}), make(chan struct{})}
	s := httptest.NewServer(g)
	defer s.Close()
	p, err := svsm.NewProxy(svsm.ProxyConfig{Broker: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	l := newPipes()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Serve(ctx, l) }()
	silent, busy := l.connect(), l.connect()
	got := make(chan []byte)
	go func() {
		b, err := guest(0).Attest(context.Background(), busy)
		if err != nil {
			t.Error(err)
		}
		got <- b
	}()
	<-g.at
	cancel()
	if _, err := silent.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("silent guest: %v", err)
	}
	close(g.open)
	if b := <-got; !bytes.Equal(b, secret) {
		t.Errorf("secret %q", b)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// The emulator says what the recorded guest said, byte for byte.
func TestGuestSaysWhatIsRecorded(t *testing.T) {
	r := recordings(t)["aproxy_success_leading_zeros"]
	key, err := keywrap.FromECDH(keywrap.JWEP521, p521(t, r.Keys[0].PEM))
	if err != nil {
		t.Fatal(err)
	}
	frames := r.guests(t)[0]
	_, text, _ := strings.Cut(string(frames[2].Raw), `"report":"`)
	text, _, _ = strings.Cut(text, `"`)
	recorded, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	g := svsm.Guest{Report: func(_ context.Context, data [64]byte) ([]byte, error) {
		if !bytes.Equal(data[:], recorded[0x50:0x90]) {
			t.Errorf("REPORT_DATA %x, recorded %x", data, recorded[0x50:0x90])
		}
		return recorded, nil
	}}.WithKey(key)
	mine, its := net.Pipe()
	said := make(chan []byte, 1)
	go func() {
		first, _ := svsm.ReadFrame(its, svsm.MaxFrame)
		its.Write(frames[1].Raw)
		second, _ := svsm.ReadFrame(its, svsm.MaxFrame)
		its.Write(frames[3].Raw)
		said <- append(framed(string(first)), framed(string(second))...)
	}()
	got, err := g.Attest(t.Context(), mine)
	if err != nil || string(got) != "vTPM state key 0123456789abcdef!" {
		t.Errorf("secret %q, %v", got, err)
	}
	if want := append(bytes.Clone(frames[0].Raw), frames[2].Raw...); !bytes.Equal(<-said, want) {
		t.Error("the guest says something else than the recorded one")
	}
}
