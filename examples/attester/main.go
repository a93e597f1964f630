// Command attester is the guest's side: it asks the hardware for evidence, or
// a simulated platform that it keeps in a folder.
//
//	attester quote|roots|show|vendors|release|unlock|agent|svid|svsm [flags]
//
// Exit status: 0 done, 1 refused by a broker, 2 usage, or no device, platform or
// broker to ask.
package main

import (
	"io"
	"os"

	"github.com/teebroker/teebroker/examples/internal/cli"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	return attester(thisMachine()).Main(args, stdout, stderr)
}

// attester returns the program, for a real guest on m.
func attester(m machine) cli.Group {
	return cli.Group{
		Name: "attester",
		About: `
The guest's side: asks the hardware for evidence. With -simulate DIR it asks a
simulated platform instead, whose root, chip and keys are made in DIR at first
use. Nobody trusts a simulated platform who was not told to:

  attester quote -tee snp -simulate sim -report-data 5f0c… -out report.bin
  attester roots -simulate sim -out roots.pem
  verify -roots roots.pem -endorsements report.bin.endorsements -binding 5f0c… report.bin`,
		Commands: []cli.Command{quoteCommand(m), rootsCommand(), showCommand(), vendorsCommand(), releaseCommand(m), unlockCommand(m), agentCommand(m), svidCommand(m), svsmCommand(m)},
	}
}
