package svsm

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Port is where guests look for the proxy on vsock.
const Port = 1995

// Defaults of a [ProxyConfig].
const (
	DefaultTimeout   = 2 * time.Minute
	DefaultMaxGuests = 64
)

// ProxyConfig configures a [Proxy].
type ProxyConfig struct {
	// Broker is the URL below which the broker has /kbs/v0, such as
	// "https://broker.example/acme". It is required.
	Broker string

	// TLS is how to reach a broker by https. If nil, the roots of the system, and
	// TLS 1.3.
	TLS *tls.Config

	// Transport, if not nil, is used in place of one made of TLS. It has to be
	// safe for concurrent use.
	Transport http.RoundTripper

	// AllowPlainHTTP takes a broker by http that is not on this machine. Whoever
	// is between then sees evidence, tokens and what is sealed to guests, and can
	// keep guests from booting.
	AllowPlainHTTP bool

	// Timeout is how long a guest may take for everything, its broker included. If
	// zero, DefaultTimeout.
	Timeout time.Duration

	// MaxGuests is how many guests are served at once, more wait to be accepted. If
	// zero, DefaultMaxGuests.
	MaxGuests int

	// Done, if not nil, is called after each guest, with nil or with why it got no
	// secret, and with an error if there is none to be accepted. It is called
	// concurrently. Errors quote neither evidence nor secrets nor tokens.
	Done func(peer net.Addr, err error)
}

// MaxPerPeer is how many connections a guest has at once that can be told from others:
// one that it left and one that it uses.
const MaxPerPeer = 2

// Pause is how long a connection of such a guest counts after its end: a broker limits
// what it is asked by a host, and one guest is not to use up what is for all.
const Pause = 2 * time.Second

// A Peer is a [net.Addr] of a connection that says which guest it is of. Without it, as
// on a unix socket, where peers are programs of the host, MaxGuests is the only bound.
type Peer interface{ Peer() string }

// Proxy takes guests to a broker. It keeps nothing from one guest to the next, and
// neither a guest nor a broker makes it stop. It is safe for concurrent use.
type Proxy struct {
	cfg    ProxyConfig
	broker *url.URL
	client *http.Client
}

// NewProxy returns a Proxy, or an error that names the field of cfg at fault.
func NewProxy(cfg ProxyConfig) (*Proxy, error) {
	u, err := url.Parse(cfg.Broker)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("svsm: ProxyConfig.Broker is not the URL of a broker")
	case u.Scheme == "http" && !cfg.AllowPlainHTTP && !isLoopback(u.Hostname()):
		return nil, errors.New("svsm: ProxyConfig.Broker is neither https nor on this machine")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("svsm: ProxyConfig.Broker is neither http nor https")
	case cfg.Timeout < 0:
		return nil, errors.New("svsm: ProxyConfig.Timeout is negative")
	case cfg.MaxGuests < 0:
		return nil, errors.New("svsm: ProxyConfig.MaxGuests is negative")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.MaxGuests == 0 {
		cfg.MaxGuests = DefaultMaxGuests
	}
	if cfg.Transport == nil {
		cfg.Transport = transport(cfg.TLS, cfg.MaxGuests)
	}
	if cfg.Done == nil {
		cfg.Done = func(net.Addr, error) {}
	}
	return &Proxy{cfg, u, &http.Client{
		Transport: cfg.Transport,
		// Evidence goes where the host was told, and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// transport reaches a broker, and no proxy that an environment names.
func transport(cfg *tls.Config, guests int) http.RoundTripper {
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS13}
	}
	return &http.Transport{
		TLSClientConfig: cfg.Clone(), ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost: guests, IdleConnTimeout: time.Minute,
	}
}

// Serve takes guests from l until ctx is done, and then returns nil; or until l is
// closed, and then returns an error wrapping [net.ErrClosed]. It closes l. Guests
// that wait for their answer when ctx ends still get it; Serve returns when none
// is left, after Timeout at most.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer func() {
		stop()
		_ = l.Close()
	}()
	var guests sync.WaitGroup
	defer guests.Wait()
	places, present := make(chan struct{}, p.cfg.MaxGuests), peers{count: map[string]int{}}
	for failures := 0; ; {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		switch {
		case err == nil:
			failures = 0
			guests.Go(func() {
				defer func() { <-places }()
				leave, err := present.enter(conn.RemoteAddr())
				if err == nil {
					err = p.guest(ctx, conn)
				}
				leave()
				_ = conn.Close()
				p.cfg.Done(conn.RemoteAddr(), err)
			})
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("svsm: %w", err)
		}
		<-places
		failures++
		p.cfg.Done(l.Addr(), fmt.Errorf("svsm: accept: %w", err))
		wait(ctx, failures)
	}
}

// peers counts the connections of each [Peer].
type peers struct {
	mu    sync.Mutex
	count map[string]int
}

// enter counts a connection of addr, or refuses it. leave is to be called afterwards, in
// either case.
func (ps *peers) enter(addr net.Addr) (leave func(), err error) {
	p, ok := addr.(Peer)
	if !ok {
		return func() {}, nil
	}
	name := p.Peer()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.count[name] >= MaxPerPeer {
		return func() {}, fmt.Errorf("svsm: more than %d connections of one guest", MaxPerPeer)
	}
	ps.count[name]++
	return func() {
		time.AfterFunc(Pause, func() {
			ps.mu.Lock()
			defer ps.mu.Unlock()
			if ps.count[name]--; ps.count[name] == 0 {
				delete(ps.count, name)
			}
		})
	}, nil
}

// wait passes the time after so many failures in a row, a second at most.
func wait(ctx context.Context, failures int) {
	t := time.NewTimer(min(time.Second, time.Millisecond<<min(failures, 10)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// guest serves the one guest of conn.
func (p *Proxy) guest(ctx context.Context, conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(p.cfg.Timeout)); err != nil {
		return fmt.Errorf("svsm: %w", err)
	}
	// Once ctx is done nobody waits for a guest to speak, but what it asked for
	// may have been counted: that is brought to the end.
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.Timeout)
	defer cancel()
	s := &session{broker: p.broker, client: p.client}
	if err := s.negotiate(ctx, conn); err != nil {
		return err // and the guest sees its stream end: the protocol has no refusal here
	}
	a, err := s.exchange(ctx, conn)
	if werr := writeJSON(conn, a); err == nil && werr != nil {
		err = fmt.Errorf("svsm: answer: %w", werr)
	}
	if err != nil {
		return err
	}
	return drain(conn)
}

// drain waits until the guest has read all and ends the stream: one that is
// closed before loses what is on the way in the emulation of a serial port.
func drain(conn net.Conn) error {
	n, err := conn.Read(make([]byte, 1))
	if n > 0 {
		return malformed("more than two messages")
	}
	_ = err // the guest has its answer, however the stream ended
	return nil
}

// negotiate passes a challenge to the guest.
func (s *session) negotiate(ctx context.Context, conn net.Conn) error {
	b, err := readFrame(conn, MaxFrame)
	if err != nil {
		return fmt.Errorf("svsm: negotiation: %w", err)
	}
	if err := parseNegotiation(b); err != nil {
		return err
	}
	nonce, err := s.auth(ctx)
	if err != nil {
		return err
	}
	return writeJSON(conn, challenge{Challenge: nonce, Params: params()})
}

// exchange passes evidence to the broker and returns the answer for the guest,
// also together with an error.
func (s *session) exchange(ctx context.Context, conn net.Conn) (answer, error) {
	b, err := readFrame(conn, MaxFrame)
	if err != nil {
		return answer{}, fmt.Errorf("svsm: attestation: %w", unexpected(err))
	}
	a, err := parseAttestation(b)
	if err != nil {
		return answer{}, err
	}
	jwt, err := s.attest(ctx, a)
	if err != nil {
		return answer{}, err
	}
	got, err := s.resource(ctx)
	if err != nil {
		return answer{}, err
	}
	got.Token = &token{jwt}
	return got, nil
}

// writeJSON writes v as one message.
func writeJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("svsm: %w", err)
	}
	return writeFrame(w, b)
}
