// Command owner is the owner's side: it registers instances, stores or wraps their
// secrets, and says who may have them how often.
//
//	owner register|secret put|wrap|authorize|policy …|status|rewrap|record [flags]
//
// Exit status: 0 done, 1 refused, 2 usage, unreadable input, or a broker that can't
// be reached.
package main

import (
	"os"

	"github.com/teebroker/teebroker/examples/internal/ownercli"
)

func main() { os.Exit(ownercli.Program().Main(os.Args[1:], os.Stdout, os.Stderr)) }
