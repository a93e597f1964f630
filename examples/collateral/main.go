// Command collateral fetches, packs and judges what verifiers need beside evidence:
// certificates of chips, revocation lists, TCB Info, QE identity.
//
//	collateral fetch|bundle|inspect|verify [flags] …
//
// Exit status: 0 yes or done, 1 no, 2 usage, unreadable input, or a service out of
// reach.
package main

import (
	"io"
	"os"

	"github.com/teebroker/teebroker/examples/internal/cli"
)

// maxFile bounds each file that is read but bundles, in bytes.
const maxFile = 4 << 20

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return cli.Group{
		Name: "collateral",
		About: `
What verifiers need beside evidence: certificates of chips, revocation lists, TCB
Info and QE identity. Where there is a network, keep a folder up to date:

  collateral fetch -out /var/lib/collateral -lines Milan,Genoa -fmspc 90c06f000000
  collateral inspect -within 14d /var/lib/collateral

Where there is none, carry it there as one signed file:

  collateral bundle -key site.key -out site.bundle /var/lib/collateral
  collateral verify -keys site.pub site.bundle`,
		Commands: []cli.Command{fetchCommand(), bundleCommand(), inspectCommand(), verifyCommand()},
	}.Main(args, stdout, stderr)
}
