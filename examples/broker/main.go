// Command broker is the reference broker: it releases secrets to guests that prove
// what they are, to whom their owner authorized it, and records everything.
//
//	broker serve|audit|key|tenant|svsm-proxy|version [flags]
//
// Exit status: 0 done, 1 no, 2 usage, or what was named can't be read or reached.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"

	"github.com/teebroker/teebroker/examples/internal/brokerd"
	"github.com/teebroker/teebroker/examples/internal/cli"
	"github.com/teebroker/teebroker/examples/internal/svsmproxy"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return cli.Group{
		Name: "broker",
		About: `
Releases secrets to confidential guests that prove what they are. To try it:

  broker serve -trust-simulated sim`,
		Commands: slices.Concat(
			[]cli.Command{brokerd.ServeCommand(), brokerd.AuditCommand(), svsmproxy.Command("broker svsm-proxy"), versionCommand()},
			brokerd.TenantCommands(), brokerd.KeyCommands(),
		),
	}.Main(args, stdout, stderr)
}

func versionCommand() cli.Command {
	return cli.Command{
		Name: "broker version", About: "Print which version this is.\n\n  broker version",
		Setup: func(*flag.FlagSet) cli.Action {
			return func(_ []string, stdout io.Writer) (bool, error) {
				version := "unknown"
				if info, ok := debug.ReadBuildInfo(); ok {
					version = info.Main.Version + " " + info.GoVersion
				}
				_, err := fmt.Fprintln(stdout, "teebroker", version)
				return true, err
			}
		},
	}
}
