package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/teebroker/teebroker/evidence"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/keywrap"
	"github.com/teebroker/teebroker/protocol/svsm"
)

func svsmCommand(m machine) cli.Command {
	return cli.Command{
		Name: "attester svsm",
		About: `
Say to a proxy what the kernel of COCONUT-SVSM says, and open the secret it gets.

The proxy listens on a unix socket, as for the serial port of a guest:

  broker svsm-proxy -broker http://127.0.0.1:8080 -unix /run/svsm.sock
  attester svsm -socket /run/svsm.sock -simulate sim -product Milan \
    -tenant acme -instance 7d1f0b3e-5c1a-4f8e-9b52-0c6a3a6f2d11

Prints the SHA-256 of the secret, or writes the secret with -out. Exit status 1 if
there is none for this guest, or if it can't be opened.`,
		Setup: func(fs *flag.FlagSet) cli.Action { return setupSVSM(fs, m) },
	}
}

func setupSVSM(fs *flag.FlagSet, m machine) cli.Action {
	g := guestFlags(fs)
	socket := fs.String("socket", "", "the unix socket `PATH` of the proxy")
	out := fs.String("out", "", "write the secret to `FILE`, for nobody else to read")
	timeout := fs.Duration("timeout", svsm.DefaultTimeout, "how `LONG` to wait for all of it")
	return func(args []string, stdout io.Writer) (bool, error) {
		switch {
		case len(args) != 0:
			return false, cli.Usagef("unexpected argument %q", args[0])
		case *socket == "":
			return false, cli.Usagef("-socket is required")
		case *timeout <= 0:
			return false, cli.Usagef("-timeout has to be positive")
		case g.tee != "" && g.tee != teeSNP:
			return false, cli.Usagef("an SVSM runs on SEV-SNP")
		}
		g.tee = teeSNP
		secret, err := g.svsm(m, *socket, *timeout)
		defer clear(secret)
		switch {
		case errors.Is(err, svsm.ErrRefused) || errors.Is(err, keywrap.ErrOpen):
			_, werr := fmt.Fprintln(stdout, cli.Printable(err.Error()))
			return false, werr
		case err != nil:
			return false, err
		case *out != "":
			return true, cli.WriteFile(*out, secret, 0o600)
		}
		sum := sha256.Sum256(secret)
		_, err = fmt.Fprintln(stdout, hex.EncodeToString(sum[:]))
		return true, err
	}
}

// svsm returns the secret of g, which the proxy at socket knows how to get.
func (g *guest) svsm(m machine, socket string, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	emulated := svsm.Guest{Report: func(_ context.Context, data [64]byte) ([]byte, error) {
		b, err := evidence.NewBinding(data[:])
		if err != nil {
			return nil, err
		}
		q, err := g.quote(m, b)
		return q.raw, err
	}}
	return emulated.Attest(ctx, conn)
}
