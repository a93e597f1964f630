// Package svsmproxy is the command that runs package svsm's proxy on a host.
package svsmproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/protocol/svsm"
)

const about = `
Take guests with a COCONUT-SVSM to a broker, in the place of aproxy.

Runs on the host and is trusted with nothing: docs/svsm-proxy.md. Guests come by a
unix socket, behind the serial port that the SVSM speaks on, or by vsock:

  broker svsm-proxy -broker https://broker.example/acme -unix /run/svsm.sock
  broker svsm-proxy -broker https://broker.example/acme -vsock 1995

Ends when it is interrupted, and then brings to an end what guests wait for.`

// maxCA bounds the file of roots, in bytes.
const maxCA = 1 << 20

// config is what the flags say.
type config struct {
	proxy     svsm.ProxyConfig
	unix      string
	vsock     uint
	ca        string
	cert, key string
}

// Command returns the command called name.
func Command(name string) cli.Command {
	return cli.Command{Name: name, About: about, Env: cli.Variable, Setup: func(fs *flag.FlagSet) cli.Action {
		var c config
		c.flags(fs)
		return func(args []string, stdout io.Writer) (bool, error) {
			if len(args) != 0 {
				return false, cli.Usagef("unexpected argument %q", args[0])
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return true, c.run(ctx, stdout)
		}
	}}
}

func (c *config) flags(fs *flag.FlagSet) {
	fs.StringVar(&c.proxy.Broker, "broker", "", "`URL` below which the broker has /kbs/v0")
	fs.StringVar(&c.unix, "unix", "", "listen on the unix socket `PATH`")
	fs.UintVar(&c.vsock, "vsock", 0, fmt.Sprintf("listen on `PORT` of vsock; an SVSM calls %d", svsm.Port))
	fs.StringVar(&c.ca, "ca", "", "PEM `FILE` of the roots to know the broker by, instead of the system's")
	fs.StringVar(&c.cert, "tls-cert", "", "PEM `FILE` of a certificate to show to the broker")
	fs.StringVar(&c.key, "tls-key", "", "PEM `FILE` of its key")
	fs.BoolVar(&c.proxy.AllowPlainHTTP, "allow-plain-http", false, "take a broker by http that is not on this machine; who is between sees evidence")
	fs.DurationVar(&c.proxy.Timeout, "timeout", svsm.DefaultTimeout, "how `LONG` one guest may take")
	fs.IntVar(&c.proxy.MaxGuests, "max-guests", svsm.DefaultMaxGuests, "`N` guests at once")
}

// run serves until ctx is done. It says to w where it listens, and what becomes of
// guests to the log.
func (c *config) run(ctx context.Context, w io.Writer) error {
	if (c.unix == "") == (c.vsock == 0) {
		return cli.Usagef("one of -unix and -vsock is required")
	}
	var err error
	if c.proxy.TLS, err = c.tls(); err != nil {
		return err
	}
	c.proxy.Done = func(peer net.Addr, err error) {
		if err != nil {
			log.Printf("guest %s: %s", name(peer), cli.Printable(err.Error()))
			return
		}
		log.Printf("guest %s: has its secret", name(peer))
	}
	p, err := svsm.NewProxy(c.proxy)
	if err != nil {
		return cli.Usagef("%w", err)
	}
	l, err := c.listen()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "listening on %s\n", name(l.Addr())); err != nil {
		_ = l.Close()
		return err
	}
	return p.Serve(ctx, l)
}

// name returns what a log calls a.
func name(a net.Addr) string {
	if a.String() == "" || a.String() == "@" {
		return "on " + a.Network()
	}
	return a.Network() + " " + a.String()
}

// tls returns how to reach the broker, nil if as the system does.
func (c *config) tls() (*tls.Config, error) {
	if c.ca == "" && c.cert == "" && c.key == "" {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS13}
	if c.ca != "" {
		b, err := cli.ReadFile(c.ca, maxCA)
		if err != nil {
			return nil, err
		}
		if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("-ca: %s: no certificate in PEM", c.ca)
		}
	}
	if c.cert != "" || c.key != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, fmt.Errorf("-tls-cert, -tls-key: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

func (c *config) listen() (net.Listener, error) {
	if c.unix != "" {
		return listenUnix(c.unix)
	}
	if c.vsock > 1<<32-2 {
		return nil, cli.Usagef("-vsock: no such port")
	}
	return listenVsock(uint32(c.vsock))
}

// listenUnix listens at path, for this user only. A socket that nobody listens on any
// more is replaced.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		conn, err := net.Dial("unix", path)
		switch {
		case err == nil:
			_ = conn.Close()
		case errors.Is(err, syscall.ECONNREFUSED):
			if err := os.Remove(path); err != nil {
				return nil, err
			}
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}
