package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/snp/kds/kdstest"
	"github.com/teebroker/teebroker/tdx/pcs/pcstest"
)

func vendorsCommand() cli.Command {
	return cli.Command{
		Name: "attester vendors",
		About: `
Serve what the vendors of a simulated platform publish, as AMD's key server and
Intel's PCS do: VCEKs, certificate chains, TCB Info, QE identity, revocation lists.

It prints its URL, which is both services, and runs until it is interrupted:

  attester vendors -simulate sim -listen 127.0.0.1:8090
  verify -fetch -kds http://127.0.0.1:8090 -pcs http://127.0.0.1:8090 -roots roots.pem report.bin

It can be as bad as the real ones at their worst:

  attester vendors -simulate sim -throttle 10s
  attester vendors -simulate sim -delay 30s
  attester vendors -simulate sim -down`,
		Setup: setupVendors,
	}
}

func setupVendors(fs *flag.FlagSet) cli.Action {
	dir := fs.String("simulate", "", "the simulated platform in the folder `DIR`")
	listen := fs.String("listen", "127.0.0.1:0", "serve at this `ADDRESS`; port 0 is any that is free")
	var f kdstest.Fault
	fs.DurationVar(&f.Every, "throttle", 0, "answer one request in this `TIME`, and others with 429")
	fs.DurationVar(&f.Delay, "delay", 0, "let each request wait for this `TIME`")
	fs.BoolVar(&f.Down, "down", false, "end connections without an answer")
	return func(args []string, stdout io.Writer) (bool, error) {
		switch {
		case len(args) != 0:
			return false, cli.Usagef("unexpected argument %q", args[0])
		case *dir == "":
			return false, cli.Usagef("-simulate is required")
		}
		h, err := vendors(*dir, f)
		if err != nil {
			return false, err
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return true, serve(ctx, *listen, h, stdout)
	}
}

// vendors returns the services of the vendors of all platforms in dir.
func vendors(dir string, f kdstest.Fault) (http.Handler, error) {
	mux := http.NewServeMux()
	ps, err := openPlatforms(dir)
	if err != nil {
		return nil, err
	}
	for _, p := range ps {
		s := kdstest.New(p.amd)
		s.Break(f)
		for _, kind := range []string{"vcek", "vlek"} {
			mux.Handle("/"+kind+"/v1/"+p.chip.Reported.Line.String()+"/", s)
		}
	}
	if hasTDX(dir) {
		p, err := openTDX(dir)
		if err != nil {
			return nil, err
		}
		s := pcstest.New(p.intel)
		s.Break(f)
		mux.Handle("/sgx/", s)
		mux.Handle("/tdx/", s)
	} else if len(ps) == 0 {
		return nil, fmt.Errorf("%s: no platform of SEV-SNP or TDX: attester quote makes one", dir)
	}
	return mux, nil
}

// serve serves h at address until ctx ends, and says where.
func serve(ctx context.Context, address string, h http.Handler, stdout io.Writer) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if _, err := fmt.Fprintf(stdout, "http://%s\n", l.Addr()); err != nil {
		return errors.Join(err, l.Close())
	}
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
